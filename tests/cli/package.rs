//! What a release is made of: the files of the package, and the crates that
//! it depends on, each with its reason.

use std::path::Path;
use std::process::Command;

use crate::support::{Test, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("package::holds_what_it_should", contents),
        test("package::every_dependency_has_a_reason", reasons),
    ]
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn contents() {
    let listed = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut loose: Vec<_> = listed
        .lines()
        .filter(|file| !file.starts_with("src/") && !file.starts_with("completions/"))
        // Where the sources came from; only there in a clone.
        .filter(|file| *file != ".cargo_vcs_info.json")
        .collect();
    loose.sort_unstable();
    assert_eq!(
        loose,
        [
            "CHANGELOG.md",
            "Cargo.lock",
            "Cargo.toml",
            "Cargo.toml.orig",
            "LICENSE",
            "README.md",
            "build.rs"
        ]
    );
    for file in [
        "src/main.rs",
        "src/api/cookie.rs",
        "completions/_rememberizer",
    ] {
        assert!(listed.lines().any(|line| line == file), "{file}");
    }
}

fn reasons() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let reasons = read("CONTRIBUTING.md");
    let reasons = reasons.split("## Dependencies").nth(1).unwrap();
    let named: Vec<_> = reasons
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .collect();
    let manifest = read("Cargo.toml");
    let mut in_dependencies = false;
    let mut count = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies && let Some((name, _)) = line.split_once(" = ") {
            count += 1;
            assert!(
                named.contains(&name),
                "{name} has no reason in CONTRIBUTING.md"
            );
        }
    }
    assert!(count > 40, "only {count}");
}
