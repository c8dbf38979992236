//! Tests each row of the table of outcomes, as text and as JSON, and compares the table with
//! `OUTPUT.md`.

use std::time::Duration;

use rememberizer_cli::exit::Outcome;

use crate::sandbox::{BodyKind, Delay, Fault, RetryAfter};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("outcomes::every_row", every_row).needs(&[Part::Keyring]),
        test("outcomes::document_agrees", document_agrees),
    ]
}

fn document_agrees() {
    let document = include_str!("../../OUTPUT.md");
    let rows: Vec<_> = document
        .lines()
        .skip_while(|line| !line.starts_with("| exit |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let table: Vec<_> = Outcome::ALL
        .iter()
        .map(|outcome| {
            let (exit, code) = outcome.codes();
            let code = match code {
                "" => "–".to_owned(),
                code => format!("`{code}`"),
            };
            format!("| {exit} | {code} | ")
        })
        .collect();
    assert_eq!(rows.len(), table.len());
    for (row, start) in rows.iter().zip(table) {
        assert!(row.starts_with(&start), "{row} {start}");
    }
}

fn signalled(world: &World, signal: &str, json: bool) -> Output {
    world.api.set(|s| {
        s.delays
            .push(Delay::before(Duration::from_secs(20)).at("/account/"))
    });
    let args = ["whoami", "--json"];
    let run = world.spawn_until_request(&args[..1 + usize::from(json)], "/account/");
    let pid = run.id().to_string();
    std::process::Command::new("kill")
        .args([&format!("-{signal}"), &pid])
        .status()
        .unwrap();
    let output = Output::from_process(run.wait_with_output().unwrap());
    world.api.set(|s| s.delays.clear());
    output
}

/// Runs a command that has this outcome.
fn provoke(outcome: Outcome, json: bool) -> Output {
    let store = match outcome {
        Outcome::StoreUnavailable | Outcome::StoreLocked => Store::Keyring,
        _ => Store::File,
    };
    let mut world = World::new(store);
    if outcome != Outcome::NotSignedIn {
        world.login();
    }
    let more: &[&str] = if json { &["--json"] } else { &[] };
    let run = |args: &[&str]| world.run(&[args, more].concat());
    let account = |fault: Fault| world.api.fault(fault.at("/account/").times(9));
    match outcome {
        Outcome::Done => run(&["whoami"]),
        Outcome::Failed => {
            account(Fault::status(404, BodyKind::Json));
            run(&["whoami"])
        }
        Outcome::Usage => run(&["whoami", "--nonsense"]),
        Outcome::InputRequired => run(&["verify"]),
        Outcome::NotSignedIn => run(&["whoami", "--store=file"]),
        Outcome::SessionEnded => {
            world.api.revoke_all();
            run(&["refresh"])
        }
        Outcome::SessionEnding => run(&["whoami", "--expires-within", "99days"]),
        Outcome::Rejected => run(&["verify", "000000"]),
        Outcome::Unavailable => {
            account(Fault::status(502, BodyKind::Html));
            run(&["whoami"])
        }
        Outcome::StoreUnavailable => {
            world.bus.as_mut().unwrap().kill_keyring();
            world.run(&[&["whoami"], more].concat())
        }
        Outcome::StoreLocked => {
            world.bus.as_ref().unwrap().lock();
            run(&["whoami"])
        }
        Outcome::StoreFailed => {
            crate::support::world::set_mode(&world.session_file("default"), 0o644);
            run(&["whoami"])
        }
        Outcome::CaptchaRequired => {
            world.api.set(|s| s.captcha = vec!["solved".into()]);
            world.run_env(
                &[("REMEMBERIZER_PASSWORD", PASSWORD)],
                &[&["login", EMAIL], more].concat(),
            )
        }
        Outcome::RateLimited => {
            account(Fault::throttle(RetryAfter::Seconds(7), BodyKind::Json));
            run(&["whoami"])
        }
        Outcome::Busy => {
            world
                .api
                .set(|s| s.delays.push(Delay::before(Duration::from_secs(3))));
            let mut holder = world.spawn_until_request(&["refresh"], "/auth/custom-refresh/");
            let output = run(&["refresh", "--lock-timeout", "0.2"]);
            holder.wait().unwrap();
            output
        }
        Outcome::HungUp => signalled(&world, "HUP", json),
        Outcome::Interrupted => signalled(&world, "INT", json),
        Outcome::Terminated => signalled(&world, "TERM", json),
    }
}

fn every_row() {
    for outcome in Outcome::ALL {
        let (exit, code) = outcome.codes();
        let text = provoke(outcome, false);
        assert_eq!(text.code, i32::from(exit), "{:?}: {text:?}", outcome);
        let json = provoke(outcome, true);
        assert_eq!(json.code, i32::from(exit), "{:?}: {json:?}", outcome);
        if outcome == Outcome::Done {
            continue;
        }
        // If the session expires soon, its state is printed too.
        let has_answer = outcome == Outcome::SessionEnding;
        assert_eq!(!text.stdout.is_empty(), has_answer, "{:?}", outcome);
        let lines: Vec<_> = text.stderr.lines().collect();
        assert!(
            lines[0].starts_with("error: ") && lines.len() <= 2,
            "{text:?}"
        );
        assert!(
            lines.get(1).is_none_or(|line| line.starts_with("hint: ")),
            "{text:?}"
        );
        assert_eq!(json.error_code(), code, "{:?}", outcome);
        assert_eq!(json.stderr, "", "{:?}", outcome);
        // The two runs differ in home directory and time, which a message may contain.
        let words = |text: &str| -> Vec<String> {
            let is_own = |word: &&str| word.starts_with("/tmp/") || word.ends_with('Z');
            let words = text.split(' ').filter(|word| !is_own(word));
            words.map(str::to_owned).collect()
        };
        let message = format!(
            "error: {}",
            json.json()["error"]["message"].as_str().unwrap()
        );
        assert_eq!(words(lines[0]), words(&message), "{:?}", outcome);
    }
}
