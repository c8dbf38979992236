//! Hostile answers: for every command that calls the server, whatever the
//! server says, there is no panic, no hang, no secret in what is printed, an
//! outcome of the table, and the session stays unless the answer was definitive.
//!
//! Answers are generated; a failing one is shrunk and printed with its seed,
//! and joins `REGRESSIONS`.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rememberizer_cli::exit::Outcome;

use crate::sandbox::{self, Account, Fault, Handle, Settings};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Inside, Test, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("hostile::answers", || answers(150)),
        test("hostile::answers_10000", || answers(10_000)).long(),
        test("hostile::slow_drips_end_in_time", drips),
        test("hostile::texts_of_the_server", texts),
        test("hostile::entries", || entries(2_000)),
        test("hostile::profile_files", || profile_files(2_000)),
        test("hostile::durations_and_names", durations_and_names),
    ]
}

/// A runner whose seed is told, and can be given: `PROPTEST_SEED=…`.
fn runner(cases: u32) -> TestRunner {
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

const COMMANDS: [&[&str]; 8] = [
    &["refresh"],
    &["whoami"],
    &["whoami", "--full"],
    &["verify", "123456"],
    &["token", "--min-ttl", "10days"],
    &["api", "me/"],
    &["login", EMAIL, "--password-stdin"],
    &["logout"],
];

fn date() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Tue, 24 Nov 2026 02:59:05 GMT".to_owned()),
        Just("Wed, 05-Aug-2020 13:53:05 GMT".to_owned()),
        Just("Wednesday, 05-Aug-20 13:53:05 GMT".to_owned()),
        Just("Wed Aug  5 13:53:05 2020".to_owned()),
        Just("2026-11-24T02:59:05Z".to_owned()),
        Just("Thu, 01 Jan 1970 00:00:00 GMT".to_owned()),
        Just("Fri, 31 Dec 99999 99:99:99 GMT".to_owned()),
        "[ -~]{0,30}",
    ]
}

fn cookie() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => Just("access_token".to_owned()),
        4 => Just("refresh_token".to_owned()),
        1 => Just("__Host-refresh_token".to_owned()),
        1 => Just("__Secure-access_token".to_owned()),
        1 => Just(String::new()),
        1 => "[!-~]{0,12}",
    ];
    let value = prop_oneof![
        Just("\"\"".to_owned()),
        Just(String::new()),
        Just("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjk5OTk5OTk5OTk5OTk5OTk5OTk5fQ.x".to_owned()),
        Just("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOi0xLCJpYXQiOjF9.x".to_owned()),
        Just("a.b.c".to_owned()),
        "[ -~]{0,40}",
        "[a-z]{1,8}".prop_map(|text| text.repeat(3000)),
    ];
    let attribute = prop_oneof![
        date().prop_map(|date| format!("expires={date}")),
        any::<i64>().prop_map(|age| format!("Max-Age={age}")),
        Just("Max-Age=99999999999999999999999".to_owned()),
        Just("Max-Age=".to_owned()),
        Just("Domain=evil.test".to_owned()),
        Just("Domain=".to_owned()),
        Just("Path=/elsewhere".to_owned()),
        Just("Secure; HttpOnly; SameSite=Lax".to_owned()),
        "[ -~]{0,20}",
    ];
    let raw = prop::collection::vec(1_u8..=255, 0..40);
    prop_oneof![
        6 => (name, value, prop::collection::vec(attribute, 0..4)).prop_map(|(name, value, attributes)| {
            let mut line = format!("{name}={value}");
            for attribute in attributes {
                line += &format!("; {attribute}");
            }
            line.into_bytes()
        }),
        1 => raw,
    ]
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,20}".prop_map(Into::into),
        Just(serde_json::json!("\u{1b}]52;c;ZXZpbA==\u{7}\u{202e}x")),
    ];
    let key = prop_oneof![
        Just("detail".to_owned()),
        Just("message".to_owned()),
        Just("error".to_owned()),
        Just("error_description".to_owned()),
        Just("non_field_errors".to_owned()),
        Just("captcha".to_owned()),
        Just("data".to_owned()),
        Just("code".to_owned()),
        Just("access".to_owned()),
        Just("refresh".to_owned()),
        Just("token".to_owned()),
        Just("refresh_token".to_owned()),
        Just("email".to_owned()),
        "[a-z]{0,6}",
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
    .prop_map(|value| value.to_string())
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => json().prop_map(String::into_bytes),
        2 => json().prop_map(|text| text.as_bytes()[..text.len() / 2].to_vec()),
        1 => Just("[".repeat(100_000).into_bytes()),
        1 => Just("{\"a\":".repeat(20_000).into_bytes()),
        1 => Just(vec![b' '; 3_000_000]),
        1 => Just(format!("{{\"detail\":\"{}\"}}", "x".repeat(2_000_000)).into_bytes()),
        2 => Just(b"<html><title>Bad \x1b[31m gateway &lt;b&gt;</title><p>x</html>".to_vec()),
        1 => Just(b"\x1f\x8b\x08\x00garbage".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..200),
        1 => Just(Vec::new()),
    ]
}

/// One whole answer, and whether it ends the session where it answers an exchange.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        4 => prop_oneof![Just(200_u16), Just(204), Just(400), Just(401), Just(403), Just(429), Just(500), Just(502)],
        1 => 100_u16..600,
        1 => Just(999),
    ];
    let kind = prop_oneof![
        4 => Just("application/json".to_owned()),
        1 => Just("text/html; charset=utf-8".to_owned()),
        1 => Just("application/json; charset=utf-16".to_owned()),
        1 => "[ -~]{0,30}",
    ];
    let extra = prop_oneof![
        5 => Just(String::new()),
        1 => Just("Retry-After: 99999999999999999999\r\n".to_owned()),
        1 => date().prop_map(|date| format!("Retry-After: {date}\r\n")),
        1 => date().prop_map(|date| format!("Date: {date}\r\n")),
        1 => Just("Location: http://169.254.169.254/latest\r\n".to_owned()),
        1 => Just("Content-Encoding: gzip\r\n".to_owned()),
        1 => Just("Transfer-Encoding: chunked\r\n".to_owned()),
        1 => Just("Content-Length: 99999\r\n".to_owned()),
        1 => Just("X-Many: y\r\n".repeat(2000)),
    ];
    let cookies = prop_oneof![
        8 => prop::collection::vec(cookie(), 0..4),
        1 => prop::collection::vec(cookie(), 300..320),
    ];
    let parts = (status, kind, extra, cookies, body());
    let whole = parts.prop_map(|(status, kind, extra, cookies, body)| {
        let mut bytes =
            format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{extra}").into_bytes();
        for cookie in cookies {
            bytes.extend_from_slice(b"Set-Cookie: ");
            bytes.extend(cookie.iter().filter(|byte| !b"\r\n".contains(byte)));
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"Connection: close\r\n\r\n");
        bytes.extend(body);
        bytes
    });
    prop_oneof![
        12 => whole,
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        1 => Just(b"HTTP/9.9 200 OK\r\n\r\n".to_vec()),
    ]
}

struct Scene {
    api: Handle,
    dir: tempfile::TempDir,
    inside: Inside,
}

impl Scene {
    fn new() -> Self {
        let api = sandbox::start_on_loopback(Settings::default());
        api.add_account(Account::new(EMAIL, PASSWORD));
        let scene = Self {
            api,
            dir: tempfile::tempdir().unwrap(),
            inside: Inside::new(None),
        };
        let url = scene.api.base_url();
        let args = ["login", EMAIL, "--password-stdin", "--api-url", &url];
        scene
            .inside
            .run(scene.dir.path(), PASSWORD.as_bytes(), &args)
            .expect(0);
        scene
    }

    fn entry(&self) -> Option<Vec<u8>> {
        self.inside.entries.lock().unwrap().get("default").cloned()
    }
}

fn is_definitive(answer: &[u8]) -> bool {
    [&b"HTTP/1.1 400"[..], b"HTTP/1.1 401", b"HTTP/1.1 403"]
        .iter()
        .any(|start| answer.starts_with(start))
}

/// Tries one answer with one command, and looks at everything.
fn one(
    scene: &Scene,
    entry: &[u8],
    command: &[&str],
    answer: &[u8],
    json: bool,
) -> Result<(), TestCaseError> {
    scene
        .inside
        .entries
        .lock()
        .unwrap()
        .insert("default".to_owned(), entry.to_vec());
    scene.api.set(|s| s.faults.clear());
    scene.api.fault(Fault::raw(answer.to_vec()).times(20));
    let mode = if json { "--json" } else { "-v" };
    let args = [command, &["--timeout", "4", mode]].concat();
    let started = Instant::now();
    let output = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        scene
            .inside
            .run(scene.dir.path(), PASSWORD.as_bytes(), &args)
    }))
    .map_err(|_| TestCaseError::fail("it panicked"))?;
    let took = started.elapsed();
    prop_assert!(took < Duration::from_secs(8), "{command:?} took {took:?}");
    let known = Outcome::TABLE
        .iter()
        .any(|row| i32::from(row.exit) == output.code);
    prop_assert!(known, "an outcome of the table: {output:?}");
    if json {
        prop_assert!(
            output.stdout.lines().count() == 1 || command[0] == "token",
            "{output:?}"
        );
    }
    let told = format!("{}{}", output.stdout, output.stderr);
    let stored: serde_json::Value = serde_json::from_slice(entry).unwrap();
    for secret in ["refresh_token", "access_token"].map(|key| stored[key].as_str().unwrap()) {
        // `token` prints what it is asked for, and `api` the body as it came.
        prop_assert!(
            !told.contains(secret),
            "a secret was printed by {command:?}"
        );
    }
    prop_assert!(!told.contains(PASSWORD));
    if command[0] != "api" {
        prop_assert!(
            !told.chars().any(|c| c.is_control() && c != '\n'),
            "{told:?}"
        );
    }
    let ends = ["logout", "login"].contains(&command[0]);
    if scene.entry().is_none() {
        prop_assert!(
            ends || is_definitive(answer),
            "{command:?} lost the session: {output:?}"
        );
    }
    Ok(())
}

/// Answers that once found something, and what.
const REGRESSIONS: [&[u8]; 2] = [
    // The literal clear of both cookies is no new session.
    b"HTTP/1.1 200 X\r\nSet-Cookie: access_token=\"\"; Max-Age=0\r\nSet-Cookie: refresh_token=\"\"; Max-Age=0\r\n\r\n",
    // A body of nothing but openings.
    b"HTTP/1.1 400 X\r\nContent-Type: application/json\r\n\r\n[[[[[[[[[[[[[[[[[[[[",
];

fn answers(cases: u32) {
    let scene = Scene::new();
    let entry = scene.entry().unwrap();
    for answer in REGRESSIONS {
        for command in COMMANDS {
            one(&scene, &entry, command, answer, false).unwrap();
        }
    }
    let started = Instant::now();
    let strategy = (0..COMMANDS.len(), answer(), any::<bool>());
    let result = runner(cases).run(&strategy, |(command, answer, json)| {
        one(&scene, &entry, COMMANDS[command], &answer, json)
    });
    println!("{cases} hostile answers in {:.0?}", started.elapsed());
    if let Err(found) = result {
        panic!("{found}");
    }
}

fn drips() {
    let scene = Scene::new();
    let entry = scene.entry().unwrap();
    let slow = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"detail\":\"never ends never ends\"}";
    for command in [
        &["whoami", "--timeout", "1"][..],
        &["refresh", "--timeout", "1"],
        &["api", "me/", "--timeout", "1"],
    ] {
        scene
            .inside
            .entries
            .lock()
            .unwrap()
            .insert("default".to_owned(), entry.clone());
        scene
            .api
            .fault(Fault::drip(slow.to_vec(), 1, Duration::from_millis(200)).times(9));
        let started = Instant::now();
        let output = scene.inside.run(scene.dir.path(), b"", command);
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{command:?} took {:?}",
            started.elapsed()
        );
        assert_eq!(output.code, 5, "{command:?}: {output:?}");
        assert_eq!(scene.entry().unwrap(), entry);
        scene.api.set(|s| s.faults.clear());
    }
}

/// A server whose every string carries escapes, direction marks and 80 kB of text.
fn texts() {
    let suffix = format!(
        "\u{1b}[31m\u{1b}]8;;https://evil.test\u{7}x\u{1b}]52;c;ZXZpbA==\u{7}\u{202e}\u{9b}1m\n{}",
        "é".repeat(40_000)
    );
    let scene = Scene::new();
    scene.api.set(|s| s.text_suffix = suffix);
    for command in [
        &["whoami"][..],
        &["whoami", "--full"],
        &["verify", "000000"],
        &["login", EMAIL, "--password-stdin"],
    ] {
        for mode in ["-v", "--json"] {
            let output = scene
                .inside
                .run(scene.dir.path(), b"wrong", &[command, &[mode]].concat());
            let told = format!("{}{}", output.stdout, output.stderr);
            assert!(
                !told.chars().any(|c| c.is_control() && c != '\n'),
                "{command:?}"
            );
            for word in ["\u{202e}", "52;c;", "8;;https", "[31m"] {
                assert!(!told.contains(word), "{command:?} {mode}: {word:?}");
            }
            assert!(
                told.len() < 200_000,
                "{command:?} {mode}: {} bytes",
                told.len()
            );
            assert!(
                told.contains('é') || command[0] == "login",
                "honest text stays"
            );
        }
    }
}

/// Entries that others wrote: read, or refused, never a panic, never printed.
fn entries(cases: u32) {
    let scene = Scene::new();
    let good = String::from_utf8(scene.entry().unwrap()).unwrap();
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
        scene
            .inside
            .entries
            .lock()
            .unwrap()
            .insert("default".to_owned(), entry.clone());
        let output = scene
            .inside
            .run(scene.dir.path(), b"", &["whoami", "--offline"]);
        prop_assert!([0, 3, 6].contains(&output.code), "{output:?}");
        prop_assert!(!output.stderr.contains("eyJ"), "{output:?}");
        prop_assert_eq!(scene.entry(), Some(entry));
        Ok(())
    });
    if let Err(found) = result {
        panic!("{found}");
    }
}

/// Profile files that others wrote: understood, or refused at a place, never changed.
fn profile_files(cases: u32) {
    let scene = Scene::new();
    let file = scene.dir.path().join("config/profiles.json");
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
            let output = scene.inside.run(scene.dir.path(), b"", args);
            let known = Outcome::TABLE
                .iter()
                .any(|row| i32::from(row.exit) == output.code);
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
    use rememberizer_cli::globals::duration;
    use rememberizer_cli::model::{Origin, ProfileName};
    let text = prop_oneof![
        "\\PC{0,30}",
        "[0-9.eE+-]{0,12}",
        "[0-9]{1,25}[a-z]{0,6}",
        "https?://[ -~]{0,30}"
    ];
    let result = runner(5_000).run(&text, |text| {
        if let Ok(duration) = duration(&text) {
            prop_assert!(duration.as_secs() <= 10 * 366 * 24 * 3600);
        }
        if let Ok(name) = text.parse::<ProfileName>() {
            prop_assert!(
                name.as_str()
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            );
        }
        if let Ok(origin) = text.parse::<Origin>() {
            // The normal form is its own normal form.
            prop_assert_eq!(origin.as_str().parse::<Origin>(), Ok(origin.clone()));
            prop_assert!(
                origin.is_https()
                    || origin.host().starts_with("localhost")
                    || origin.host().starts_with("127.")
                    || origin.host().starts_with("[::1]")
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
