//! The JSON output that `OUTPUT.md` describes, and output for scripts: stdout has only the
//! result; colours; closed pipes.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Account, SignupTokens};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("json::shapes", shapes),
        test("json::same_keys_everywhere", same_keys_everywhere),
        test("json::errors_have_one_shape", errors_have_one_shape),
        test("json::closed_pipes", closed_pipes),
        test("json::blocked_streams", blocked_streams),
        test("json::colours", colours),
        test("json::quiet_and_verbose", quiet_and_verbose),
    ]
}

/// Returns the keys in `OUTPUT.md` for a command, in their order.
fn promised(command: &str) -> Vec<String> {
    let document = include_str!("../../OUTPUT.md");
    let start = format!("| `{command}` | `");
    let line = document.lines().rfind(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("a row for {command}"));
    let keys = line[start.len() - 1..].split('`').skip(1).step_by(2);
    keys.map(str::to_owned).collect()
}

fn shapes() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    let bob = "bob@example.com";
    let signup = [
        "signup",
        "--email",
        bob,
        "--name",
        "Bob",
        "--api-url",
        &url,
        "--store=file",
    ];
    let mut count = 0;
    let mut check = |command: &str, args: &[&str]| {
        let args = [args, &["--json"]].concat();
        let output = world
            .run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], &args)
            .expect(0);
        let json = output.json();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, promised(command), "{command}");
        count += 1;
        json
    };
    let json = check("signup", &signup);
    assert_eq!(
        (&json["signed_in"], &json["verified"]),
        (&true.into(), &false.into())
    );
    let end = json["refresh_expires_at"].as_str().unwrap();
    assert!(
        end.len() == 20 && end.ends_with('Z') && end.as_bytes()[10] == b'T',
        "{end}"
    );
    check("verify", &["verify", &world.api.mailed_code(bob).unwrap()]);
    check("refresh", &["refresh"]);
    check("refresh --all", &["refresh", "--all"]);
    check("whoami", &["whoami"]);
    check("whoami", &["whoami", "--full"]);
    assert!(check("whoami", &["whoami", "--offline"])["account"].is_null());
    check("token", &["token"]);
    check("token --header", &["token", "--header"]);
    check("token --refresh-token", &["token", "--refresh-token"]);
    check("api", &["api", "me/"]);
    check("profile list", &["profile", "list"]);
    check("profile show", &["profile", "show"]);
    check("profile use", &["profile", "use", "default"]);
    check("profile set login", &["profile", "set", "login", bob]);
    check("doctor", &["doctor"]);
    check("logout", &["logout"]);
    check("login", &["login", bob]);
    check("logout --all", &["logout", "--all"]);
    check("profile remove", &["profile", "remove", "default", "--yes"]);
    assert_eq!(count, 20);
}

/// The keys do not depend on the source of the credential, nor on whether the server returns a
/// session.
fn same_keys_everywhere() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    let run = |name: &str, value: &str, args: &[&str]| {
        let env = [(name, value), ("REMEMBERIZER_API_URL", &*url)];
        let json = world
            .run_env(&env, &[args, &["--json"]].concat())
            .expect(0)
            .json();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, promised(args[0]), "{name} {args:?}");
    };
    let refresh = || world.api.begin_session(EMAIL).refresh.unwrap();
    run("REMEMBERIZER_REFRESH_TOKEN", &refresh(), &["whoami"]);
    run(
        "REMEMBERIZER_REFRESH_TOKEN",
        &refresh(),
        &["whoami", "--offline"],
    );
    run("REMEMBERIZER_REFRESH_TOKEN", &refresh(), &["refresh"]);
    let access = world.api.begin_session(EMAIL).access;
    run("REMEMBERIZER_ACCESS_TOKEN", &access, &["whoami"]);
    run(
        "REMEMBERIZER_ACCESS_TOKEN",
        &access,
        &["whoami", "--offline"],
    );
    world.api.set(|s| s.signup_tokens = SignupTokens::None);
    let bob = [
        "signup",
        "--email",
        "bob@example.com",
        "--name",
        "Bob",
        "--store=file",
    ];
    run("REMEMBERIZER_PASSWORD", PASSWORD, &bob);
}

fn errors_have_one_shape() {
    let world = World::new(Store::File);
    world.login();
    world
        .api
        .add_account(Account::new("bob@example.com", PASSWORD));
    let url = world.api.base_url();
    let taken = [
        "signup",
        "--email",
        "bob@example.com",
        "--name",
        "x",
        "--json",
        "-p",
        "two",
        "--store=file",
        "--api-url",
        &url,
    ];
    let output = world
        .run_env(&[("REMEMBERIZER_PASSWORD", "short")], &taken)
        .expect(4);
    let error = &output.json()["error"];
    assert_eq!(error["code"], "rejected");
    assert!(
        error["fields"]
            .as_object()
            .unwrap()
            .values()
            .all(|texts| texts.is_array()),
        "{error}"
    );
    assert_eq!(output.stderr, "");
    for args in [
        &["--json"][..],
        &["--json", "nonsense"],
        &["whoami", "--json", "--nonsense"],
        &["verify", "--json"],
    ] {
        let output = world.run(args).expect(2);
        let json = output.json();
        assert_eq!(json.as_object().unwrap().len(), 1);
        assert!(
            json["error"]["message"].is_string() && json["error"]["hint"].is_string(),
            "{json}"
        );
    }
    let output = world
        .run_env(&[("REMEMBERIZER_JSON", "1")], &["whoami", "--nonsense"])
        .expect(2);
    assert_eq!(output.error_code(), "usage");
}

/// The reader of the output may close the pipe.
fn closed_pipes() {
    let world = World::new(Store::File);
    world.login();
    for args in [
        "whoami",
        "profile list",
        "completions zsh",
        "--help",
        "doctor",
        "api me/",
    ] {
        let mut command = Command::new("bash");
        world.set_environment(&mut command);
        let script = format!(
            "set -o pipefail; '{}' {args} | true; echo code=$?",
            World::program().display()
        );
        let output = Output::from_process(command.args(["-c", &script]).output().unwrap());
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("code=0\n", ""),
            "{args}"
        );
        // The stream is closed from the start.
        let script = format!("'{}' {args} >&-", World::program().display());
        let mut command = Command::new("bash");
        world.set_environment(&mut command);
        let output = Output::from_process(command.args(["-c", &script]).output().unwrap());
        assert!(output.code < 101, "{args}: {output:?}");
    }
}

/// If nobody reads stdout or stderr, a signal still ends the run within a second.
fn blocked_streams() {
    let world = World::new(Store::File);
    world.login();
    for (args, stderr) in [
        (&["whoami", "--json"][..], false),
        (&["whoami"], false),
        (&["whoami", "--json", "-v"], true),
        (&["api", "no/"], true),
    ] {
        for (signal, code) in [("TERM", 143), ("INT", 130)] {
            // A pipe holds 64 KiB. Fill it before the program writes to it.
            let (_reader, mut full) = std::io::pipe().unwrap();
            full.write_all(&[b'x'; 65_536]).unwrap();
            let mut command = world.command(args);
            command.stdin(Stdio::null());
            match stderr {
                true => command.stderr(full).stdout(Stdio::null()),
                false => command.stdout(full).stderr(Stdio::null()),
            };
            let mut child = command.spawn().unwrap();
            drop(command);
            std::thread::sleep(Duration::from_millis(400));
            assert!(child.try_wait().unwrap().is_none(), "{args:?} is blocked");
            let pid = child.id().to_string();
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap();
            let sent = Instant::now();
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                if sent.elapsed() > Duration::from_secs(1) {
                    child.kill().unwrap();
                    panic!("{args:?} goes on after SIG{signal}");
                }
                std::thread::sleep(Duration::from_millis(10));
            };
            // Until a run first waits, signals have their default effect.
            let ended = status.code().or(status.signal().map(|number| 128 + number));
            assert_eq!(ended, Some(code), "{args:?} {signal}");
        }
    }
}

fn colours() {
    let world = World::new(Store::File);
    let red = |env: &[(&str, &str)], args: &[&str]| {
        let output = world
            .run_env(env, &[&["whoami", "--store=file"], args].concat())
            .expect(3);
        assert!(!output.stdout.contains('\u{1b}'));
        output.stderr.contains('\u{1b}')
    };
    assert!(!red(&[], &[]), "no terminal, no colour");
    assert!(red(&[], &["--color", "always"]));
    assert!(
        red(&[("REMEMBERIZER_COLOR", "always"), ("NO_COLOR", "1")], &[]),
        "who says always means it"
    );
    assert!(!red(
        &[("REMEMBERIZER_COLOR", "always")],
        &["--color", "never"]
    ));
    assert!(!red(&[], &["--color", "always", "--json"]));
}

fn quiet_and_verbose() {
    let world = World::new(Store::File);
    world.login();
    let quiet = world.run(&["refresh", "-q"]).expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let mut command = world.command(&["refresh", "-v"]);
    let printed = Output::from_process(command.stdin(Stdio::null()).output().unwrap()).stderr;
    assert!(printed.contains("* POST http://127.0.0.1:"), "{printed}");
    assert!(
        printed.contains("the server has replaced the refresh token"),
        "{printed}"
    );
    world.expire_access();
    let printed = world.run(&["token", "-v"]).expect(0).stderr;
    assert!(
        printed.contains("* the access token has expired or is about to expire: renewing\n"),
        "{printed}"
    );
    let printed = world
        .run_env(&[("REMEMBERIZER_ACCESS_TOKEN", "x")], &["token", "-v"])
        .expect(0)
        .stderr;
    assert!(
        printed.contains("* using the access token in REMEMBERIZER_ACCESS_TOKEN\n"),
        "{printed}"
    );
}
