//! The import rules of `src/`: which modules and crates a file may name. The tests search the
//! text of the files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Test, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("layers::imports_of_layers", imports_of_layers),
        test("layers::imports_of_assembly", imports_of_assembly),
        test("layers::imports_of_commands", imports_of_commands),
        test("layers::callers_of_expose", callers_of_expose),
        test("layers::owners_of_crates", owners_of_crates),
        test("layers::main_is_short", main_is_short),
    ]
}

/// The modules that each layer may name.
const MAY_IMPORT: [(&str, &[&str]); 6] = [
    ("model", &[]),
    ("api", &["model"]),
    ("takeover", &["model"]),
    ("store", &["model"]),
    ("terminal", &["model"]),
    ("session", &["api", "store", "terminal", "model"]),
];

/// The modules of `command/` that commands share. All others are commands.
const SHARED: [&str; 5] = ["captcha", "input", "report", "sign_in", "takeover"];

/// The files that may read the text of a secret.
const MAY_EXPOSE: [&str; 5] = [
    "api/",
    "store/",
    "terminal/",
    "command/exec",
    // Writes a new refresh token to the stdin of the user's command.
    "session/on_rotate.rs",
];

/// Crates, and paths of the standard library, that only one layer may name.
const OWNERS: [(&str, &str); 10] = [
    ("reqwest", "api"),
    ("hyper_util", "api"),
    ("bytes", "api"),
    ("dialoguer", "terminal"),
    ("indicatif", "terminal"),
    ("console", "terminal"),
    ("io::stdout", "terminal"),
    ("io::stderr", "terminal"),
    ("keyring", "store"),
    ("zbus", "store"),
];

struct Source {
    /// The path below `src/`, with `/` between its parts.
    path: String,
    /// The text without its comments and without unit tests.
    code: String,
}

fn src_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn source_files() -> Vec<Source> {
    let mut found = Vec::new();
    let mut dirs = vec![src_dir()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let relative = path.strip_prefix(src_dir()).unwrap();
                found.push(Source {
                    path: relative.to_str().unwrap().replace('\\', "/"),
                    code: without_comments(&text),
                });
            }
        }
    }
    let tests: Vec<String> = found.iter().flat_map(test_modules).collect();
    found.retain(|file| !tests.iter().any(|module| file.path.starts_with(module)));
    assert!(found.len() > 80, "only {} files were read", found.len());
    found
}

/// The files of the modules that a file declares for tests only: `a/b.` and `a/b/`.
fn test_modules(file: &Source) -> Vec<String> {
    let dir = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
    let declared = file.code.split("#[cfg(test)]\nmod ").skip(1);
    let names = declared.filter_map(|rest| rest.lines().next()?.strip_suffix(';'));
    names
        .flat_map(|name| [format!("{dir}/{name}."), format!("{dir}/{name}/")])
        .collect()
}

/// Removes comment lines, and the unit tests at the end of a file.
fn without_comments(text: &str) -> String {
    let tests = "#[cfg(test)]\nmod tests {";
    let code = text.split(tests).next().unwrap();
    let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that follow `prefix`: `prefix::x`, and `prefix::{x, y::z}`.
fn names_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(is_part).collect()
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let Some(rest) = code[at + prefix.len()..].strip_prefix("::") else {
            continue;
        };
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '}' if depth == 0 => break,
                ',' if depth == 0 => names.insert(word(&std::mem::take(&mut item))),
                '{' => {
                    depth += 1;
                    continue;
                }
                '}' => {
                    depth -= 1;
                    continue;
                }
                _ if depth == 0 => {
                    item.push(c);
                    continue;
                }
                _ => continue,
            };
        }
        names.insert(word(&item));
    }
    names
}

fn imports_of_layers() {
    for Source { path, code } in source_files() {
        for (layer, allowed) in MAY_IMPORT {
            if !path.starts_with(&format!("{layer}/")) {
                continue;
            }
            for name in names_after(&code, "crate") {
                let is_allowed = name == layer || allowed.contains(&&*name);
                assert!(is_allowed, "{path} names crate::{name}");
            }
        }
    }
}

/// The files beside `lib.rs` and `main.rs` are below `command/`.
fn imports_of_assembly() {
    for Source { path, code } in source_files() {
        if !path.contains('/') && path != "lib.rs" && path != "main.rs" {
            let names = names_after(&code, "crate");
            assert!(!names.contains("command"), "{path} names crate::command");
        }
    }
}

/// A command uses its own submodules and the shared modules, never another command.
fn imports_of_commands() {
    let sources = source_files();
    let root = sources.iter().find(|s| s.path == "command/mod.rs").unwrap();
    let modules: BTreeSet<&str> = root
        .code
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .filter_map(|line| line.strip_suffix(';'))
        .collect();
    for shared in SHARED {
        assert!(modules.contains(shared), "command/{shared} does not exist");
    }
    let is_command = |name: &str| modules.contains(name) && !SHARED.contains(&name);
    for Source { path, code } in &sources {
        let Some(file) = path.strip_prefix("command/").filter(|f| *f != "mod.rs") else {
            continue;
        };
        let own = file.split(['/', '.']).next().unwrap();
        let parent = if file.contains('/') {
            "super::super"
        } else {
            "super"
        };
        let mut names = names_after(code, parent);
        names.extend(names_after(code, "crate::command"));
        for name in names {
            let is_allowed = name == own || !is_command(&name);
            assert!(is_allowed, "{path} names the command {name}");
        }
    }
}

fn callers_of_expose() {
    for Source { path, code } in source_files() {
        let may_expose = MAY_EXPOSE.iter().any(|allowed| path.starts_with(allowed));
        assert!(
            may_expose || !code.contains(".expose()") && !code.contains("::expose"),
            "{path} calls expose()"
        );
    }
}

fn owners_of_crates() {
    for Source { path, code } in source_files() {
        for (name, owner) in OWNERS {
            let is_named = match name.contains("::") {
                true => code.contains(name),
                false => {
                    !names_after(&code, name).is_empty() || code.contains(&format!("use {name};"))
                }
            };
            assert!(
                path.starts_with(&format!("{owner}/")) || !is_named,
                "{path} names {name}, which belongs to {owner}/"
            );
        }
    }
}

fn main_is_short() {
    let main = fs::read_to_string(src_dir().join("main.rs")).unwrap();
    let lines = main.lines().count();
    assert!(lines < 35, "main.rs has {lines} lines");
}
