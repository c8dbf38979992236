//! Hostile responses: whatever the server responds, no command panics, hangs or prints a
//! secret. Its exit code is in the table of outcomes, and the session stays unless the response
//! was definitive.
//!
//! The responses are generated. A response that fails is shrunk and printed with its seed; add
//! it to `REGRESSIONS`.

mod generate;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rememberizer_cli::exit::Outcome;

use crate::sandbox::{Fault, Settings};
use crate::support::world::{EMAIL, PASSWORD, set_mode};
use crate::support::{Store, Test, World, test};
use generate::{answer, json};

pub fn tests() -> Vec<Test> {
    vec![
        test("hostile::responses", || answers(400)),
        test("hostile::responses_10000", || answers(10_000)).long(),
        test("hostile::slow_responses_time_out", slow_responses_time_out),
        test("hostile::texts_of_the_server", texts_of_the_server),
        test("hostile::entries", || entries(2_000)),
        test("hostile::profile_files", || profile_files(2_000)),
        test("hostile::durations_and_names", durations_and_names),
    ]
}

/// Creates a test runner that prints its seed. Set `PROPTEST_SEED` to repeat a run.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let seed = std::env::var("PROPTEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().subsec_nanos().into()
    });
    println!("seed {seed}");
    TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    })
}

const COMMANDS: [&[&str]; 12] = [
    &["refresh"],
    &["whoami"],
    &["whoami", "--full"],
    &["verify", "123456"],
    &["token", "--min-ttl", "10days"],
    &["api", "me/"],
    &["api", "list/", "--paginate"],
    &["login", EMAIL, "--password-stdin"],
    &[
        "signup",
        "--email",
        EMAIL,
        "--name",
        "Ann",
        "--password-stdin",
    ],
    &["logout"],
    &["doctor"],
    &["exec", "--min-ttl", "10days", "--", "true"],
];

/// The profile is signed in, with an access token that does not expire during the test.
/// Otherwise every command would only try a renewal.
fn signed_in() -> World {
    let settings = Settings {
        access_lifetime: 7 * 24 * 3600,
        ..Settings::default()
    };
    let world = World::with_settings(Store::File, settings);
    world.login();
    world
}

/// Replaces the stored entry.
fn store(world: &World, entry: &[u8]) {
    let file = world.session_file("default");
    std::fs::write(&file, entry).unwrap();
    set_mode(&file, 0o600);
}

fn is_definitive(answer: &[u8]) -> bool {
    [&b"HTTP/1.1 400"[..], b"HTTP/1.1 401", b"HTTP/1.1 403"]
        .iter()
        .any(|start| answer.starts_with(start))
}

/// Runs one command with one response, and checks all properties.
fn one(
    world: &World,
    entry: &[u8],
    command: &[&str],
    answer: &[u8],
    json: bool,
) -> Result<(), TestCaseError> {
    store(world, entry);
    world.api.set(|s| s.faults.clear());
    world.api.fault(Fault::raw(answer.to_vec()).times(20));
    let mode = if json { "--json" } else { "-v" };
    let args = [&["--timeout", "4", mode], command].concat();
    let started = Instant::now();
    let output = world.run_stdin(PASSWORD.as_bytes(), &args);
    let took = started.elapsed();
    prop_assert!(took < Duration::from_secs(60), "{command:?} took {took:?}");
    let known = Outcome::ALL
        .iter()
        .any(|outcome| i32::from(outcome.codes().0) == output.code);
    prop_assert!(known, "an outcome of the table: {output:?}");
    if json {
        prop_assert!(
            output.stdout.lines().count() == 1
                || (["token", "exec"].contains(&command[0]) && output.code == 0),
            "{output:?}"
        );
    }
    let printed = format!("{}{}", output.stdout, output.stderr);
    let stored: serde_json::Value = serde_json::from_slice(entry).unwrap();
    for key in ["refresh_token", "access_token"] {
        // `token` prints the previous access token if the server issued no new one.
        let is_asked_for = command[0] == "token" && key == "access_token";
        let secret = stored[key].as_str().unwrap();
        prop_assert!(
            is_asked_for || !printed.contains(secret),
            "the {key} was printed by {command:?}"
        );
    }
    prop_assert!(!printed.contains(PASSWORD));
    if command[0] != "api" {
        prop_assert!(
            !printed.chars().any(|c| c.is_control() && c != '\n'),
            "{printed:?}"
        );
    }
    let ends = ["logout", "login", "signup"].contains(&command[0]);
    if world.entry().is_none() {
        prop_assert!(
            ends || is_definitive(answer),
            "{command:?} lost the session: {output:?}"
        );
    }
    Ok(())
}

/// Responses that once failed, with the reason.
const REGRESSIONS: [&[u8]; 3] = [
    // A response that clears both cookies starts no session.
    b"HTTP/1.1 200 X\r\nSet-Cookie: access_token=\"\"; Max-Age=0\r\nSet-Cookie: refresh_token=\"\"; Max-Age=0\r\n\r\n",
    // The body is not a page. With --paginate and --json, it was once printed beside the error.
    b"HTTP/1.1 301 X\r\n\r\n",
    // The body consists only of opening brackets.
    b"HTTP/1.1 400 X\r\nContent-Type: application/json\r\n\r\n[[[[[[[[[[[[[[[[[[[[",
];

fn answers(cases: u32) {
    // Use more threads than cores, because retried requests mostly wait.
    let threads = (cases / 50).clamp(1, 10);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| some_answers(cases / threads));
        }
    });
    println!("{cases} hostile responses in {:.0?}", started.elapsed());
}

fn some_answers(cases: u32) {
    let world = signed_in();
    let entry = world.entry().unwrap().into_bytes();
    for answer in REGRESSIONS {
        for command in COMMANDS {
            for json in [false, true] {
                one(&world, &entry, command, answer, json).unwrap();
            }
        }
    }
    let strategy = (0..COMMANDS.len(), answer(), any::<bool>());
    let result = runner(cases).run(&strategy, |(command, answer, json)| {
        one(&world, &entry, COMMANDS[command], &answer, json)
    });
    if let Err(found) = result {
        panic!("{found}");
    }
}

fn slow_responses_time_out() {
    let world = signed_in();
    let tokens = world.tokens();
    let slow = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"detail\":\"never ends never ends\"}";
    for command in [
        &["whoami", "--timeout", "1"][..],
        &["refresh", "--timeout", "1"],
        &["api", "me/", "--timeout", "1"],
    ] {
        world
            .api
            .fault(Fault::drip(slow.to_vec(), 1, Duration::from_millis(200)).times(9));
        let started = Instant::now();
        let output = world.run(command);
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{command:?} took {:?}",
            started.elapsed()
        );
        assert_eq!(output.code, 5, "{command:?}: {output:?}");
        assert_eq!(world.tokens(), tokens);
        world.api.set(|s| s.faults.clear());
    }
}

/// Every string of the server contains escape sequences, bidi marks and 80 kB of text.
fn texts_of_the_server() {
    let suffix = format!(
        "\u{1b}[31m\u{1b}]8;;https://evil.test\u{7}x\u{1b}]52;c;ZXZpbA==\u{7}\u{202e}\u{9b}1m\n{}",
        "é".repeat(40_000)
    );
    let world = signed_in();
    world.api.set(|s| s.text_suffix = suffix);
    for command in [
        &["whoami"][..],
        &["whoami", "--full"],
        &["verify", "000000"],
        &["login", EMAIL, "--password-stdin"],
    ] {
        for mode in ["-v", "--json"] {
            let output = world.run_stdin(b"wrong", &[command, &[mode]].concat());
            let printed = format!("{}{}", output.stdout, output.stderr);
            assert!(
                !printed.chars().any(|c| c.is_control() && c != '\n'),
                "{command:?}"
            );
            assert!(!printed.contains('\u{202e}'), "{command:?} {mode}");
            // With --json, the account is data: it is complete, and escaped as JSON.
            if mode == "--json" && command[0] == "whoami" {
                assert!(output.stdout.contains("\\u001b"), "{command:?}");
                continue;
            }
            for word in ["52;c;", "8;;https", "[31m"] {
                assert!(!printed.contains(word), "{command:?} {mode}: {word:?}");
            }
            assert!(
                printed.len() < 200_000,
                "{command:?} {mode}: {} bytes",
                printed.len()
            );
            assert!(
                printed.contains('é') || command[0] == "login",
                "honest text stays"
            );
        }
    }
}

/// An entry that another program wrote is parsed or rejected, without a panic, and never
/// printed.
fn entries(cases: u32) {
    let world = signed_in();
    let good = world.entry().unwrap();
    let length = good.len();
    let cut = (0..length, 0..length, "\\PC{0,8}").prop_map(move |(from, to, insert)| {
        let (from, to) = (from.min(to), from.max(to));
        format!("{}{insert}{}", &good[..from], &good[to..]).into_bytes()
    });
    let entry = prop_oneof![
        4 => cut,
        1 => prop::collection::vec(any::<u8>(), 0..100),
        2 => json().prop_map(String::into_bytes),
    ];
    let result = runner(cases).run(&entry, |entry| {
        store(&world, &entry);
        let output = world.run(&["whoami", "--offline"]);
        prop_assert!([0, 3, 6].contains(&output.code), "{output:?}");
        prop_assert!(!output.stderr.contains("eyJ"), "{output:?}");
        let now = std::fs::read(world.session_file("default")).unwrap();
        prop_assert_eq!(now, entry, "never changed");
        Ok(())
    });
    if let Err(found) = result {
        panic!("{found}");
    }
}

/// A profiles file that another program wrote is parsed, or rejected with a position, and never
/// changed.
fn profile_files(cases: u32) {
    let world = signed_in();
    let file = world.config_dir().join("profiles.json");
    let good = std::fs::read_to_string(&file).unwrap();
    let length = good.len();
    let cut = (0..length, 0..length, "\\PC{0,8}").prop_map(move |(from, to, insert)| {
        let (from, to) = (from.min(to), from.max(to));
        format!("{}{insert}{}", &good[..from], &good[to..]).into_bytes()
    });
    let content = prop_oneof![4 => cut, 1 => prop::collection::vec(any::<u8>(), 0..100), 2 => json().prop_map(String::into_bytes)];
    let result = runner(cases).run(&content, |content| {
        std::fs::write(&file, &content).unwrap();
        for args in [
            &["profile", "list"][..],
            &["token"],
            &["doctor", "--timeout", "1"],
        ] {
            if args[0] == "doctor" && content.len() % 40 != 0 {
                continue;
            }
            let output = world.run(args);
            let known = Outcome::ALL
                .iter()
                .any(|outcome| i32::from(outcome.codes().0) == output.code);
            prop_assert!(known, "{output:?}");
        }
        prop_assert_eq!(std::fs::read(&file).unwrap(), content, "never changed");
        Ok(())
    });
    if let Err(found) = result {
        panic!("{found}");
    }
}

fn durations_and_names() {
    use rememberizer_cli::globals::parse_duration;
    use rememberizer_cli::model::{ApiUrl, ProfileName};
    let text = prop_oneof![
        "\\PC{0,30}",
        "[0-9.eE+-]{0,12}",
        "[0-9]{1,25}[a-z]{0,6}",
        "https?://[ -~]{0,30}"
    ];
    let result = runner(5_000).run(&text, |text| {
        if let Ok(duration) = parse_duration(&text) {
            prop_assert!(duration.as_secs() <= 10 * 366 * 24 * 3600);
        }
        if let Ok(name) = text.parse::<ProfileName>() {
            prop_assert!(
                name.as_str()
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            );
        }
        if let Ok(api_url) = text.parse::<ApiUrl>() {
            // Parsing a normal form returns the same normal form.
            prop_assert_eq!(api_url.as_str().parse::<ApiUrl>(), Ok(api_url.clone()));
            prop_assert!(
                api_url.is_https()
                    || api_url.host_and_port().starts_with("localhost")
                    || api_url.host_and_port().starts_with("127.")
                    || api_url.host_and_port().starts_with("[::1]")
            );
        }
        Ok(())
    });
    if let Err(found) = result {
        panic!("{found}");
    }
    let tree = json().new_tree(&mut TestRunner::deterministic()).unwrap();
    assert!(
        serde_json::from_str::<serde_json::Value>(&tree.current()).is_ok(),
        "the generator makes JSON"
    );
}
