//! The help and the manual pages of every command.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use rememberizer_cli::command::Cli;

use crate::support::{Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("manual::help", help),
        test("manual::pages", pages).needs(&[Part::Command("man")]),
        test("manual::pages_are_fresh", pages_are_fresh),
        test("manual::pages_go_nowhere", pages_go_nowhere),
    ]
}

/// Every command that is not hidden, by the words that call it.
pub fn commands() -> Vec<Vec<String>> {
    fn collect_subcommands(
        command: &clap::Command,
        words: &[String],
        found: &mut Vec<Vec<String>>,
    ) {
        found.push(words.to_vec());
        for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            let words = [words, &[inner.get_name().to_owned()]].concat();
            collect_subcommands(inner, &words, found);
        }
    }
    let mut found = Vec::new();
    collect_subcommands(&Cli::command(), &[], &mut found);
    assert!(found.len() > 15, "{found:?}");
    found
}

/// Each help text has a sentence, groups of flags, two or three examples that work, and the
/// exit codes, all within 80 columns.
fn help() {
    let world = World::new(Store::File);
    for words in commands() {
        for flag in ["--help", "-h"] {
            let output = world
                .run(&[&words[..], &[flag.to_owned()]].concat())
                .expect(0);
            assert_eq!(output.stderr, "");
            let text = output.stdout;
            let what = format!("{words:?} {flag}:\n{text}");
            assert!(text.starts_with(char::is_uppercase), "{what}");
            assert!(
                text.lines().all(|line| line.chars().count() <= 80),
                "{what}"
            );
            assert!(text.contains("\nGlobal options:\n"), "{what}");
            let fails = !matches!(
                words.last().map(String::as_str),
                Some("list" | "completions")
            );
            assert_eq!(text.contains("\nExit codes:"), fails, "{what}");
            let (_, examples) = text.split_once("\nExamples:\n").expect(&what);
            let examples: Vec<_> = examples.lines().take_while(|l| !l.is_empty()).collect();
            assert!((2..=3).contains(&examples.len()), "{what}");
            for example in examples {
                assert_parses(example);
            }
        }
    }
    assert!(world.api.requests().is_empty());
}

/// Whether the program accepts the arguments of an example. Ignores the syntax of the shell.
fn assert_parses(example: &str) {
    let (_, call) = example.split_once("rememberizer ").expect(example);
    let call = call.split([')', '>', '<', '|']).next().unwrap();
    let words = call.split_whitespace().map(|word| word.trim_matches('\''));
    let parsed = Cli::command().try_get_matches_from(std::iter::once("rememberizer").chain(words));
    assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
}

fn pages() {
    let world = World::new(Store::File);
    let dir = world.home().join("man");
    std::fs::create_dir(&dir).unwrap();
    let output = world.run_env(&[("SOURCE_DATE_EPOCH", "86400")], &["man", "man"]);
    assert_eq!(output.expect(0).stdout, "");
    let mut expected: Vec<_> = commands()
        .iter()
        .map(|words| {
            format!(
                "rememberizer{}.1",
                words.iter().map(|w| format!("-{w}")).collect::<String>()
            )
        })
        .collect();
    expected.sort();
    let mut written: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert_eq!(written, expected);
    for page in written {
        let mut man = Command::new("man");
        world.set_environment(&mut man);
        let output = man
            .args(["--warnings", "-E", "UTF-8", "-P", "cat", "-l"])
            .arg(dir.join(&page))
            .env("MANWIDTH", "80")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && warnings.is_empty(),
            "{page}: {warnings}"
        );
        let text = String::from_utf8_lossy(&output.stdout);
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "GLOBAL OPTIONS",
            "EXAMPLES",
        ] {
            assert!(
                text.lines().any(|line| line == section),
                "{section} in\n{text}"
            );
        }
        assert!(text.contains("1970-01-02"), "{text}");
    }
}

/// `man/` holds the pages that the program writes, since packagers cannot run the program.
fn pages_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().unwrap();
    let output = Command::new(root.join("packaging/regenerate"))
        .arg(World::program())
        .arg(made.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let files = |root: &Path| -> BTreeMap<_, _> {
        std::fs::read_dir(root.join("man"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                (entry.file_name(), text)
            })
            .collect()
    };
    assert!(
        files(root) == files(made.path()),
        "man/ is out of date: run packaging/regenerate"
    );
}

fn pages_go_nowhere() {
    let world = World::new(Store::File);
    let output = world.run(&["man", "nowhere"]).expect(1);
    assert!(
        output
            .stderr
            .starts_with("error: cannot write the manual pages into nowhere: ")
    );
    let output = world.run_env(&[("SOURCE_DATE_EPOCH", "today")], &["man", "."]);
    assert_eq!(
        output.expect(2).stderr,
        "error: SOURCE_DATE_EPOCH must be a number of seconds since 1970\nhint: rememberizer man --help\n"
    );
}
