//! The import rule of `src/`: a layer imports only what stands below it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::{Test, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("layers::imports", imports),
        test("layers::owners_of_crates", owners_of_crates),
        test("layers::main_is_short", main_is_short),
    ]
}

/// What each layer may name of the crate.
const MAY_IMPORT: [(&str, &[&str]); 6] = [
    ("model", &[]),
    ("api", &["model"]),
    ("takeover", &["model"]),
    ("store", &["model"]),
    ("terminal", &["model"]),
    ("session", &["api", "store", "terminal", "model"]),
];

/// Crates and words that one layer alone may name.
const OWNERS: [(&str, &str); 6] = [
    ("reqwest", "api"),
    ("dialoguer", "terminal"),
    ("indicatif", "terminal"),
    ("io::stdout", "terminal"),
    ("io::stderr", "terminal"),
    ("zbus", "store"),
];

fn files(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push((
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            ));
        }
    }
    found
}

fn src() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The parts of the crate that a text names: `crate::x`, and `crate::{x, y}`.
fn named(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => {
                names.insert(word(rest));
            }
            Some(group) => {
                let group = group.split('}').next().unwrap();
                names.extend(group.split(',').map(|name| word(name.trim())));
            }
        }
    }
    names
}

fn imports() {
    let mut read = 0;
    for (layer, allowed) in MAY_IMPORT {
        for (path, text) in files(&src().join(layer)) {
            read += 1;
            for name in named(&text) {
                let fine = name == layer || allowed.contains(&&*name);
                assert!(
                    fine,
                    "{path} names crate::{name}, which {layer}/ may not import"
                );
            }
        }
    }
    assert!(read > 20, "only {read} files were read");
}

fn owners_of_crates() {
    for (path, text) in files(&src()) {
        let relative = Path::new(&path).strip_prefix(src()).unwrap().to_owned();
        for (word, owner) in OWNERS {
            assert!(
                relative.starts_with(owner) || !text.contains(word),
                "{path} names {word}, which belongs to {owner}/"
            );
        }
    }
}

fn main_is_short() {
    let lines = fs::read_to_string(src().join("main.rs"))
        .unwrap()
        .lines()
        .count();
    assert!(lines < 35, "main.rs has {lines} lines");
}
