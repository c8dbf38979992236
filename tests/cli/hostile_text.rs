//! Every string of the server, of the profiles file and of the arguments is hostile. Checks
//! what a terminal and a reader of JSON receive.

use serde_json::Value;

use crate::sandbox::{BodyKind, Fault, RetryAfter, Settings};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Screen, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("hostile_text::escapes", || run_all(&escapes())),
        test("hostile_text::texts_of_a_mebibyte", || {
            run_all(&(escapes() + &"x".repeat(1 << 20)));
        }),
        test("hostile_text::error_pages", error_pages),
        test(
            "hostile_text::profiles_and_arguments",
            profiles_and_arguments,
        ),
        test(
            "hostile_text::tokens_with_escapes_are_rejected",
            tokens_with_escapes_are_rejected,
        ),
        test("hostile_text::at_a_terminal", at_a_terminal).needs(&[Part::Command("tmux")]),
    ]
}

/// Colours, cursor movement, a link (OSC 8), the clipboard (OSC 52), a title, a
/// string control, 8-bit controls, a lone CR, bidi and invisible characters.
fn escapes() -> String {
    "\u{1b}[31m\u{1b}[2J\u{1b}[1;1H\u{1b}]8;;https://evil.test\u{7}here\u{1b}]8;;\u{7}\
     \u{1b}]52;c;ZXZpbA==\u{7}\u{1b}]0;title\u{1b}\\\u{1b}Pq#0\u{1b}\\\u{9b}2J\u{9d}52;c;ZXZpbA==\u{9c}\
     \r\u{8}\u{0}\u{7f}\u{202e}\u{2066}\u{200f}\u{200b}\u{feff}\n"
        .to_owned()
}

fn hostile_world(suffix: &str) -> World {
    let world = World::with_settings(
        Store::File,
        Settings {
            text_suffix: suffix.to_owned(),
            ..Settings::default()
        },
    );
    world.login();
    world
}

/// Maximum length of the output of these commands.
const LONGEST: usize = 80_000;

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
}

#[track_caller]
fn expect_clean(text: &str, what: &str) {
    expect_harmless(text, what);
    assert!(text.len() < LONGEST, "{what}: {} bytes", text.len());
}

#[track_caller]
fn expect_harmless(text: &str, what: &str) {
    let bad: Vec<_> = text
        .chars()
        .filter(|c| *c != '\n' && is_hostile(*c))
        .collect();
    assert!(bad.is_empty(), "{what}: {bad:?} in {}", head(text));
}

/// An escape sequence is removed with its payload, and is not shown in quoted form.
#[track_caller]
fn expect_stripped(text: &str, what: &str) {
    for trace in ["evil", "52;c", "ZXZpbA", "0;title", "\\u001b", "\\u{1b}"] {
        assert!(!text.contains(trace), "{what}: {trace} in {}", head(text));
    }
}

fn head(text: &str) -> String {
    text.chars().take(2_000).collect()
}

#[track_caller]
fn expect_clean_json(value: &Value, what: &str) {
    match value {
        Value::String(text) => {
            expect_clean(text, what);
            assert!(!text.contains('\n'), "{what}");
        }
        Value::Array(items) => items.iter().for_each(|item| expect_clean_json(item, what)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            expect_clean(key, what);
            expect_clean_json(item, what);
        }),
        _ => {}
    }
}

/// Runs a command with and without --json, and checks that both outputs are harmless.
#[track_caller]
fn clean_run(world: &World, arguments: &[&str]) -> (Output, Output) {
    let url = world.api.base_url();
    let env = [
        ("REMEMBERIZER_PASSWORD", PASSWORD),
        ("REMEMBERIZER_API_URL", &url),
        ("REMEMBERIZER_STORE", "file"),
    ];
    let text = world.run_env(&env, &[arguments, &["-v"]].concat());
    expect_clean(&text.stdout, &format!("{arguments:?} stdout"));
    expect_clean(&text.stderr, &format!("{arguments:?} stderr"));
    // Do not check `api`, which prints the body, nor responses that are too long to be parsed.
    if arguments[0] != "api" && world.api.settings().text_suffix.len() < 1 << 20 {
        expect_stripped(&text.stdout, &format!("{arguments:?} stdout"));
        expect_stripped(&text.stderr, &format!("{arguments:?} stderr"));
    }
    let json = world.run_env(&env, &[arguments, &["--json"]].concat());
    expect_clean(&json.stderr, &format!("{arguments:?} --json stderr"));
    // Data is complete, with dangerous characters escaped. An error is a message, which is cut.
    expect_harmless(&json.stdout, &format!("{arguments:?} --json"));
    expect_clean_json(&json.json()["error"], &format!("{arguments:?} --json"));
    (text, json)
}

fn run_all(suffix: &str) {
    let world = hostile_world(suffix);
    for arguments in [
        &["whoami"][..],
        &["whoami", "--full"],
        &["refresh"],
        &["verify", "000000"],
        &["profile", "list"],
        &["profile", "show"],
        &["doctor"],
        &["logout"],
        &["login", EMAIL],
        &["login", "nobody@example.com"],
    ] {
        clean_run(&world, arguments);
    }
    // The body does not matter if the tokens are in cookies.
    let (text, json) = clean_run(
        &world,
        &[
            "signup",
            "--email",
            "bob@example.com",
            "--name",
            "Bob",
            "-p",
            "b",
        ],
    );
    // The second login is refused. A refusal that is too long to be parsed counts as
    // unavailable.
    let refused = if suffix.len() > 1 << 20 { 5 } else { 4 };
    assert_eq!((text.code, json.code), (0, refused), "{text:#?}");
    assert!(world.entry_of("b").is_some());
    // The login comes from the server and is recorded in the profiles file.
    let refresh = world
        .run(&["token", "--refresh-token", "-p", "b"])
        .expect(0)
        .stdout;
    let url = world.api.base_url();
    let taken = [
        "login",
        "--refresh-token-stdin",
        "--store=file",
        "--api-url",
        &url,
        "-p",
        "c",
    ];
    let output = world.run_stdin(refresh.as_bytes(), &taken).expect(0);
    expect_clean(&output.stderr, "taken over");
    clean_run(&world, &["profile", "list"]);
    clean_run(&world, &["whoami", "-p", "c", "--offline"]);
}

fn error_pages() {
    let world = hostile_world(&escapes());
    for kind in [BodyKind::Json, BodyKind::Html] {
        for status in [400, 401, 403, 404, 409, 429, 500, 503] {
            for arguments in [&["whoami"][..], &["login", EMAIL], &["verify", "123456"]] {
                world.api.fault(Fault::status(status, kind).times(4));
                clean_run(&world, arguments);
                world.api.set(|s| s.faults.clear());
                world.login();
            }
        }
    }
    let page = format!("<title>{0}</title><h1>{0}</h1>", escapes());
    world
        .api
        .fault(Fault::throttle(RetryAfter::None, BodyKind::Html));
    world
        .api
        .fault(Fault::answer(502, &[("Content-Type", "text/html")], page));
    world.api.fault(Fault::answer(
        302,
        &[("Location", "https://evil.test/\u{9b}2J")],
        "",
    ));
    world
        .api
        .fault(Fault::raw(b"HTTP/1.1 500 \x1b[31mred\r\n\r\n".to_vec()));
    world
        .api
        .fault(Fault::raw(b"\x1b[31mno HTTP\r\n\r\n".to_vec()));
    for _ in 0..3 {
        clean_run(&world, &["whoami"]);
    }
}

fn profiles_and_arguments() {
    let world = hostile_world("");
    let escapes = escapes().replace('\0', "");
    clean_run(&world, &["profile", "set", "login", &escapes]);
    clean_run(&world, &["profile", "set", "sign_in_url", &escapes]);
    for arguments in [
        &["profile", "list"][..],
        &["profile", "show"],
        &["whoami", "--offline"],
        &["doctor"],
        &["whoami", "-p", &escapes],
        &["profile", "use", &escapes],
        &["login", &escapes, "--captcha", "x"],
        &[
            "login",
            "--password-file",
            &escapes,
            EMAIL,
            "--captcha",
            "x",
        ],
        &[&escapes],
        &["api", &escapes],
        &["whoami", "--ca-cert", &escapes],
    ] {
        clean_run(&world, arguments);
    }
    let profiles = world.config_dir().join("profiles.json");
    std::fs::write(&profiles, format!("{{\"version\": 1, \"{escapes}\": 1")).unwrap();
    clean_run(&world, &["whoami"]);
}

/// A token is printed unchanged, so a text that is not a valid token is rejected when it is
/// received.
fn tokens_with_escapes_are_rejected() {
    let world = hostile_world("");
    for token in ["a\u{1b}[2Jb", "a\u{9b}2J", "a\u{202e}b", "a\nb", "ü"] {
        let body = serde_json::json!({"access": token, "refresh": token}).to_string();
        world.api.fault(
            Fault::answer(200, &[("Content-Type", "application/json")], body).at("/auth/signin/"),
        );
        let (text, _) = clean_run(&world, &["login", EMAIL, "-p", "t"]);
        assert_ne!(text.code, 0, "{token:?}");
        for arguments in [
            &["token", "-p", "t"][..],
            &["token", "--refresh-token", "-p", "t"],
        ] {
            let output = world.run(arguments);
            expect_clean(&output.stdout, "a token");
        }
        world.run(&["logout", "-p", "t"]);
    }
}

fn at_a_terminal() {
    let world = hostile_world(&escapes());
    let screen = Screen::new(&world);
    screen.run("PS1='[\\#:$?]$ ' PROMPT_COMMAND= ; bind 'set enable-bracketed-paste off'");
    screen.record("bytes");
    for command in [
        "whoami",
        "whoami --full",
        "verify 000000",
        "api account/",
        "api me/",
        "api no/",
        "doctor",
    ] {
        screen.start(&format!("rememberizer {command} --color never"));
        screen.wait_for_exit();
    }
    let bytes = std::fs::read(world.home().join("bytes")).unwrap();
    let written = String::from_utf8(bytes).unwrap().replace("\r\n", "\n");
    assert!(written.contains("\nsession  expires "), "{written:?}");
    expect_clean(&written, "terminal");
}
