//! The keyring: working, locked, absent, stopped, or without a collection. Checks messages,
//! exit codes and times, and that other programs read our entries and we read theirs.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    let keyring = [Part::Keyring];
    let python = [
        Part::Keyring,
        Part::Python("keyring"),
        Part::Python("secretstorage"),
    ];
    vec![
        test("keyring::locked", locked).needs(&keyring),
        test("keyring::absent", absent).needs(&keyring),
        test("keyring::no_bus", no_bus),
        test("keyring::list_of_addresses", list_of_addresses).needs(&keyring),
        test("keyring::stopped_daemon", stopped_daemon).needs(&keyring),
        test("keyring::bus_that_never_responds", bus_that_never_responds),
        test("keyring::no_default_collection", no_default_collection).needs(&keyring),
        test("keyring::more_than_one_match", more_than_one_match).needs(&keyring),
        test(
            "keyring::secret_tool_reads_and_writes",
            secret_tool_reads_and_writes,
        )
        .needs(&keyring),
        test("keyring::python_reads_and_writes", python_reads_and_writes).needs(&python),
        test(
            "keyring::login_offers_the_file_store",
            login_offers_the_file_store,
        )
        .needs(&[Part::Command("tmux")]),
        test(
            "keyring::help_and_version_do_not_connect",
            help_and_version_do_not_connect,
        )
        .needs(&[Part::Command("strace")]),
    ]
}

const COMMANDS: [&[&str]; 5] = [
    &["login", EMAIL],
    &["token"],
    &["whoami"],
    &["logout"],
    &["doctor"],
];

/// Runs each command. Each must fail with this code, within `bound`.
fn assert_each_fails(
    world: &World,
    env: &[(&str, &str)],
    message: &str,
    json_code: &str,
    bound: f32,
) {
    for args in COMMANDS {
        let started = Instant::now();
        let mut command = world.command(args);
        command
            .env("REMEMBERIZER_PASSWORD", PASSWORD)
            .envs(env.iter().copied());
        let output = Output::from_process(command.output().unwrap());
        let took = started.elapsed();
        assert!(
            took < Duration::from_secs_f32(bound),
            "{args:?} took {took:?}"
        );
        let printed = format!("{}{}", output.stdout, output.stderr);
        assert!(printed.contains(message), "{args:?}: {output:?}");
        if args == ["doctor"] {
            assert_eq!(output.code, 1, "{output:?}");
            assert!(printed.contains("problem  store"), "{output:?}");
            continue;
        }
        assert_eq!(output.code, 6, "{args:?}: {output:?}");
        assert!(output.stderr.contains("\nhint: "), "{args:?}: {output:?}");
        let mut command = world.command(&[args, &["--json"]].concat());
        command
            .env("REMEMBERIZER_PASSWORD", PASSWORD)
            .envs(env.iter().copied());
        assert_eq!(
            Output::from_process(command.output().unwrap()).error_code(),
            json_code
        );
    }
    let output = world.run_env(
        &[&[("REMEMBERIZER_PASSWORD", PASSWORD)], env].concat(),
        &["login", EMAIL],
    );
    assert!(
        output
            .stderr
            .contains("; or keep the session in a private file: rememberizer login --store file\n"),
        "both ways out: {output:?}"
    );
    assert!(
        !world
            .api
            .requests()
            .iter()
            .any(|seen| seen.path.starts_with("/auth/")),
        "nothing was sent"
    );
}

/// Creates a world with a session in its keyring.
fn signed_in() -> World {
    let world = World::new(Store::Keyring);
    world.login();
    world
}

fn locked() {
    let world = signed_in();
    world.bus.as_ref().unwrap().lock();
    assert_each_fails(&world, &[], "the keyring is locked", "store_locked", 2.0);
}

fn absent() {
    let mut world = signed_in();
    world.bus.as_mut().unwrap().kill_keyring();
    assert_each_fails(
        &world,
        &[],
        "there is no keyring service on the session bus",
        "store_unavailable",
        2.0,
    );
}

fn no_bus() {
    let world = World::new(Store::File);
    world
        .run(&["profile", "set", "api_url", &world.api.base_url()])
        .expect(0);
    for address in [
        "unix:path=/nonexistent",
        "nonsense",
        "tcp:host=127.0.0.1,port=1",
    ] {
        let env = [("DBUS_SESSION_BUS_ADDRESS", address)];
        assert_each_fails(
            &world,
            &env,
            &format!("no session bus at the addresses in DBUS_SESSION_BUS_ADDRESS ({address}: "),
            "store_unavailable",
            2.0,
        );
    }
}

fn list_of_addresses() {
    let world = signed_in();
    let address = world.bus.as_ref().unwrap().address();
    let list = format!("nonsense;unix:path=/nonexistent;{address};");
    world
        .run_env(&[("DBUS_SESSION_BUS_ADDRESS", &list)], &["whoami"])
        .expect(0);
    let dead = "unix:path=/nonexistent;tcp:host=127.0.0.1,port=1";
    let output = world
        .run_env(&[("DBUS_SESSION_BUS_ADDRESS", dead)], &["whoami"])
        .expect(6);
    assert!(
        output.stderr.contains("(unix:path=/nonexistent: ")
            && output.stderr.contains("; tcp:host=127.0.0.1,port=1: ")
            && output
                .stderr
                .contains("\nhint: correct or unset DBUS_SESSION_BUS_ADDRESS"),
        "{output:?}"
    );
}

fn stopped_daemon() {
    let world = signed_in();
    let bus = world.bus.as_ref().unwrap();
    bus.signal_keyring("STOP");
    assert_each_fails(
        &world,
        &[],
        "the keyring service did not answer within 3 s",
        "store_unavailable",
        7.5,
    );
    bus.signal_keyring("CONT");
    world.run(&["whoami"]).expect(0);
}

fn bus_that_never_responds() {
    let world = World::new(Store::File);
    world
        .run(&["profile", "set", "api_url", &world.api.base_url()])
        .expect(0);
    let path = world.home().join("mute");
    let _listener = UnixListener::bind(&path).unwrap();
    let address = format!("unix:path={}", path.display());
    let started = Instant::now();
    let output = world.run_env(
        &[("DBUS_SESSION_BUS_ADDRESS", &address)],
        &["token", "--json"],
    );
    assert_eq!(output.expect(6).error_code(), "store_unavailable");
    assert!(started.elapsed() < Duration::from_secs(5));
}

fn no_default_collection() {
    let mut world = signed_in();
    let bus = world.bus.as_mut().unwrap();
    bus.kill_keyring();
    std::fs::remove_dir_all(world.home().join(".local/share/keyrings")).unwrap();
    world.bus.as_mut().unwrap().start_keyring(None);
    assert_eq!(
        world.run(&["token", "--json"]).expect(3).error_code(),
        "not_signed_in"
    );
    let output = world
        .run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], &["login", EMAIL])
        .expect(6);
    assert_eq!(
        output.stderr,
        "error: the keyring service has no default collection\n\
         hint: create a default keyring (the first desktop login creates one); or keep the session in a private file: rememberizer login --store file\n"
    );
    assert!(
        world.api.requests().is_empty(),
        "found out before anything was sent"
    );
    assert_eq!(
        world.run(&["logout"]).expect(0).stderr,
        "profile default was not signed in\n"
    );
    let doctor = world.run(&["doctor"]).expect(1);
    assert!(
        doctor
            .stdout
            .contains("problem  store     the keyring service has no default collection"),
        "{doctor:?}"
    );
}

fn more_than_one_match() {
    let world = signed_in();
    let other = [
        "service",
        "rememberizer",
        "username",
        "default",
        "extra",
        "1",
    ];
    let mut child = world
        .bus
        .as_ref()
        .unwrap()
        .command("secret-tool")
        .args(["store", "--label=another"])
        .args(other)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"other").unwrap();
    assert!(child.wait().unwrap().success());
    let output = world.run(&["token"]).expect(6);
    assert_eq!(
        output.stderr,
        "error: the keyring holds 2 entries for this profile\nhint: `rememberizer logout` removes all of them\n"
    );
    world.run(&["logout"]).expect(0);
    assert_eq!(world.entry(), None);
    assert_eq!(world.run(&["token"]).code, 3);
}

fn secret_tool_reads_and_writes() {
    let world = signed_in();
    let entry = world.entry_json();
    assert_eq!(entry["version"], 1);
    assert_eq!(entry["api_url"], world.api.base_url());
    // Another tool writes an entry with only the required keys.
    let refresh = world.api.begin_session(EMAIL).refresh.unwrap();
    world.set_entry(
        &serde_json::json!({"version": 1, "api_url": world.api.base_url(), "refresh_token": refresh}).to_string(),
    );
    let me = world.run(&["whoami", "--json"]).expect(0).json();
    assert_eq!(me["account"]["email"], EMAIL);
    // A renewal replaces the entry in place: there is still one entry, which both programs
    // read.
    world.run(&["refresh"]).expect(0);
    assert_ne!(world.entry_json()["refresh_token"], refresh);
    let found = world
        .bus
        .as_ref()
        .unwrap()
        .command("secret-tool")
        .args([
            "search",
            "--all",
            "service",
            "rememberizer",
            "username",
            "default",
        ])
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.matches("secret = ").count(), 1, "{found}");
    world.run(&["logout"]).expect(0);
    assert_eq!(world.entry(), None);
}

fn python_reads_and_writes() {
    let world = signed_in();
    let python = |script: &str| {
        let output = world
            .bus
            .as_ref()
            .unwrap()
            .command("/usr/bin/python3")
            .args(["-c", &format!("import keyring\nfrom keyring.backends import SecretService\nk=SecretService.Keyring()\n{script}")])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let read = python("print(k.get_password('rememberizer', 'default'))");
    assert_eq!(read.trim(), world.entry().unwrap());
    let refresh = world.api.begin_session(EMAIL).refresh.unwrap();
    let entry = serde_json::json!({"version": 1, "api_url": world.api.base_url(), "refresh_token": refresh});
    world.run(&["logout"]).expect(0);
    python(&format!(
        "k.set_password('rememberizer', 'default', '{entry}')"
    ));
    world.run(&["whoami"]).expect(0);
    world.run(&["logout"]).expect(0);
    assert_eq!(
        python("print(k.get_password('rememberizer', 'default'))").trim(),
        "None"
    );
}

fn login_offers_the_file_store() {
    use crate::support::Screen;
    let world = World::new(Store::File);
    let url = world.api.base_url();
    let screen = Screen::new(&world);
    screen.run("unset REMEMBERIZER_STORE");
    screen.start(&format!("rememberizer login {EMAIL} --api-url {url}"));
    screen.wait_for("Keep the Rememberizer session in a private file instead? [y/N]");
    screen.type_line("y");
    screen.wait_for("password");
    screen.type_line(PASSWORD);
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.ends_with("the session is in a private file"),
        "{shown}"
    );
    assert_eq!(world.profiles()["profiles"]["default"]["store"], "file");
    // The user is asked once. The profile records the choice.
    world.run(&["whoami"]).expect(0);
}

fn help_and_version_do_not_connect() {
    let world = World::new(Store::File);
    world.login();
    for (args, complete) in [
        (&["--help"][..], false),
        (&["--version"], false),
        (&["login", "--help"], false),
        (&["completions", "bash"], false),
        (&["--", "rememberizer", "lo"], true),
        (&["--", "rememberizer", "whoami", "--profile", "d"], true),
    ] {
        let log = world.home().join("strace");
        let mut command = Command::new("strace");
        world.set_environment(&mut command);
        command
            .args(["-f", "-e", "trace=openat,connect,execve,flock,socket", "-o"])
            .arg(&log)
            .arg(World::program())
            .args(args);
        if complete {
            command.env("REMEMBERIZER_COMPLETE", "fish");
        }
        let output = Output::from_process(command.output().unwrap()).expect(0);
        assert!(!output.stdout.is_empty(), "{args:?} prints something");
        let log = std::fs::read_to_string(log).unwrap();
        for word in [
            "connect(", "socket(", "flock(", ".lock", "sessions", "/etc/ssl",
        ] {
            assert!(!log.contains(word), "{args:?}: {log}");
        }
        assert_eq!(log.matches("execve(").count(), 1, "{args:?}");
    }
}
