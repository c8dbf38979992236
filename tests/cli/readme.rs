//! Checks the README: a test runs each block of code, and no text that users copy puts a secret
//! on a command line or loses a secret.

use std::process::Command;

use crate::support::{Store, Test, World, test};
use crate::{manual, recipes};

pub fn tests() -> Vec<Test> {
    vec![
        test("readme::every_block_is_a_recipe", every_block_is_a_recipe),
        test("readme::mistakes_are_found", mistakes_are_found),
        test("readme::documents_are_safe", documents_are_safe),
        test("readme::help_and_manual_are_safe", help_and_manual_are_safe),
    ]
}

const README: &str = include_str!("../../README.md");

/// Blocks that are run in another way (the tour, the tests, a build) or not at all.
const NOT_RECIPES: [&str; 3] = [
    "cargo run --release --example tour ",
    "cargo install --path .\n",
    "$ rememberizer login\n",
];

/// Returns the block of code that follows `<!-- recipe: NAME -->`.
pub fn recipe(name: &str) -> String {
    let marker = format!("<!-- recipe: {name} -->\n```");
    let (_, rest) = README.split_once(&marker).expect(name);
    let (_, code) = rest.split_once('\n').unwrap();
    code.split_once("\n```").unwrap().0.to_owned() + "\n"
}

fn every_block_is_a_recipe() {
    let marked: Vec<_> = README
        .split("<!-- recipe: ")
        .skip(1)
        .map(|rest| rest.split_once(" -->").unwrap().0)
        .collect();
    let mut known = recipes::NAMES.to_vec();
    let mut found = marked.clone();
    known.sort_unstable();
    found.sort_unstable();
    assert_eq!(
        found, known,
        "the recipes in the README, and those that are run"
    );
    let blocks = README.split("```").skip(1).step_by(2);
    let mut count = 0;
    for block in blocks {
        let (_, code) = block.split_once('\n').unwrap();
        let is_recipe = marked.iter().any(|name| recipe(name) == code);
        assert!(
            is_recipe || NOT_RECIPES.iter().any(|known| code.starts_with(known)),
            "nothing runs this block:\n{code}"
        );
        count += 1;
    }
    assert_eq!(count, marked.len() + NOT_RECIPES.len());
}

/// Returns the lines that put a secret on a command line, or that may replace a stored
/// secret with nothing.
fn find_mistakes(text: &str) -> Vec<String> {
    // A command continues on the next line after a backslash, a pipe or `&&`.
    let joined = text
        .replace("\\\n", " ")
        .replace("|\n", "| ")
        .replace("&&\n", "&& ");
    let is_faulty = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let header = words.windows(2).any(|pair| {
            let value = pair[1].trim_start_matches(['"', '\'', '\\']);
            matches!(
                pair[0],
                "-H" | "--header" | "-b" | "--cookie" | "-u" | "-d" | "--data" | "--body"
            ) && ["$", "Authorization", "PRIVATE-TOKEN", "JOB-TOKEN"]
                .iter()
                .any(|start| value.starts_with(start))
        });
        // Only curl may read the output of `token` from a pipe. If `token` fails, other
        // programs read an empty text, and most of them would store it.
        let pipe = line
            .split_once("rememberizer token")
            .is_some_and(|(_, rest)| {
                let end = rest.find([')', ';', '&', '`']).unwrap_or(rest.len());
                rest[..end].split_once("| ").is_some_and(|(_, reader)| {
                    !(reader.contains("curl") && reader.contains("-H @-"))
                })
            });
        let value = [
            "--password ",
            "--password=",
            "--token ",
            "--refresh-token=",
            "--access-token",
        ]
        .iter()
        .any(|flag| line.contains(flag));
        let is_client = ["curl", "gh ", "wget"]
            .iter()
            .any(|name| line.contains(name));
        (is_client && header) || pipe || value
    };
    joined
        .lines()
        .filter(|line| is_faulty(line))
        .map(str::to_owned)
        .collect()
}

/// The search finds the mistakes of earlier versions of these documents.
fn mistakes_are_found() {
    for line in [
        r#"remember() { curl -sS -H "$(rememberizer token --header)" "https://x/$1"; }"#,
        r#"curl -H "$(rememberizer token --header)" "$URL/account/""#,
        r#"curl \-H "$(rememberizer token \-\-header)""#.replace("\\-", "-").as_str(),
        r#"sh -c 'curl -sS -H "Authorization: Bearer $REMEMBERIZER_ACCESS_TOKEN" https://x/'"#,
        "rememberizer token --refresh-token | gh secret set REMEMBERIZER_TOKEN",
        "rememberizer token --refresh-token |\n  curl -sS -X PUT -H @writer --form 'value=<-' x",
        r#"curl -sS -X PUT -H "PRIVATE-TOKEN: $VARIABLES_WRITER" x"#,
        r#"gh secret set NAME --body "$token""#,
        "rememberizer login ann --password hunter2",
    ] {
        assert_eq!(find_mistakes(line).len(), 1, "{line}");
    }
    for line in [
        r#"rememberizer token --header | curl -H @- "$URL/account/""#,
        r#"token=$(rememberizer token --refresh-token) && printf %s "$token" | gh secret set NAME"#,
        "rememberizer login --password-stdin --refresh-token-stdin --password-file pw.txt",
    ] {
        assert_eq!(find_mistakes(line), [""; 0], "{line}");
    }
}

/// Every document and script of the repository that users read, copy or install.
fn documents_are_safe() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = [
        "README.md",
        "OUTPUT.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ]
    .map(|name| root.join(name))
    .to_vec();
    let mut dirs: Vec<_> = ["helpers", "packaging", "man", "completions", ".github"]
        .map(|name| root.join(name))
        .to_vec();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let list = if path.is_dir() { &mut dirs } else { &mut files };
            list.push(path);
        }
    }
    assert!(files.len() > 8, "{files:?}");
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        let text = from_roff(&text);
        assert_eq!(find_mistakes(&text), [""; 0], "{}", file.display());
    }
}

/// Replaces the escapes of a manual page.
fn from_roff(text: &str) -> String {
    text.replace("\\-", "-")
        .replace("\\(aq", "'")
        .replace("\\(dq", "\"")
}

fn help_and_manual_are_safe() {
    let world = World::new(Store::File);
    for words in manual::commands() {
        let help = world
            .run(&[&words[..], &["--help".to_owned()]].concat())
            .expect(0);
        assert_eq!(find_mistakes(&help.stdout), [""; 0], "{words:?}");
    }
    let dir = world.home().join("man");
    std::fs::create_dir(&dir).unwrap();
    world.run(&["man", "man"]).expect(0);
    let mut count = 0;
    for page in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(page.unwrap().path()).unwrap();
        assert_eq!(find_mistakes(&from_roff(&text)), [""; 0]);
        count += 1;
    }
    assert!(count > 15, "{count} pages");
}
