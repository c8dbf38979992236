//! `exec --token-file`: a job that lives longer than its access token.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::sandbox::{BodyKind, Fault, RotationPolicy, Settings};
use crate::support::world::EMAIL;
use crate::support::{Output, Part, Screen, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("token_file::signals_and_status", signals_and_status),
        test(
            "token_file::directory_of_a_killed_run_is_removed",
            directory_of_a_killed_run_is_removed,
        ),
        test("token_file::session_ends", session_ends),
        test("token_file::short_min_ttl", short_min_ttl),
        test("token_file::slow_check", slow_check),
        test("token_file::cannot_be_written", cannot_be_written),
        test("token_file::variable", variable),
        test(
            "token_file::ctrl_c_reaches_the_command_once",
            ctrl_c_reaches_the_command_once,
        )
        .needs(&[Part::Command("tmux")]),
    ];
    tests.extend(on_both_stores(
        "token_file::token_in_a_private_file",
        token_in_a_private_file,
    ));
    tests.extend(
        on_both_stores("token_file::outlives_its_tokens", outlives_its_tokens)
            .map(|test| test.needs(&[Part::Command("curl")])),
    );
    tests
}

/// Access tokens last three seconds, and the server revokes a session when a token is reused.
fn short() -> Settings {
    Settings {
        access_lifetime: 3,
        rotation: RotationPolicy::RevokeFamily,
        refresh_lifetime: 30 * 24 * 3600,
        ..Settings::default()
    }
}

fn with_short_tokens(store: Store) -> World {
    let world = World::with_settings(store, short());
    world.login();
    world
}

fn run_dir(world: &World) -> PathBuf {
    world.data_dir().join("run")
}

/// Counts the private directories.
fn count_private_dirs(world: &World) -> usize {
    let entries = std::fs::read_dir(run_dir(world));
    let names = entries.into_iter().flatten().flatten();
    names
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("exec-"))
        .count()
}

fn exec(script: &str) -> [&str; 6] {
    ["exec", "--token-file", "--", "sh", "-c", script]
}

fn token_in_a_private_file(world: &World) {
    world.login();
    let token = world.run(&["token"]).expect(0).stdout;
    let output = world
        .run(&exec(
            "cat $REMEMBERIZER_TOKEN_FILE; echo; stat -c %a $REMEMBERIZER_TOKEN_FILE $(dirname $REMEMBERIZER_TOKEN_FILE); \
             tr '\\0' '\\n' </proc/self/environ; exit 7",
        ))
        .expect(7);
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(lines[..3], [token.trim(), "600", "700"]);
    assert!(!lines[3..].iter().any(|line| line.contains(token.trim())));
    assert_eq!(count_private_dirs(world), 0);
}

fn outlives_its_tokens(world: &World) {
    world.api.set(|settings| *settings = short());
    world.login();
    let url = world.api.base_url();
    // Each token in the file must work at once. While the server fails, the file may be
    // missing.
    let script = format!(
        "end=$(($(date +%s) + 11)); while [ $(date +%s) -lt $end ]; do
           t=$(cat $REMEMBERIZER_TOKEN_FILE 2>/dev/null) || {{ echo missing; sleep 0.1; continue; }}
           printf 'Authorization: Bearer %s' \"$t\" | curl -s -o /dev/null -w '%{{http_code}}\\n' -H @- {url}/account/
           sleep 0.1
         done"
    );
    let child = spawn(world, &script);
    std::thread::sleep(Duration::from_secs(3));
    // The server fails twice: briefly, and for longer than a token is valid.
    let down = |times| {
        let fault = Fault::status(503, BodyKind::Html).at("/auth/custom-refresh/");
        world.api.fault(fault.times(times));
    };
    down(2);
    std::thread::sleep(Duration::from_secs(3));
    down(6);
    let output = Output::from_process(child.wait_with_output().unwrap()).expect(0);
    let count = |what: &str| output.stdout.lines().filter(|line| *line == what).count();
    let (fine, missing) = (count("200"), count("missing"));
    assert_eq!(fine + missing, output.stdout.lines().count(), "{output:?}");
    assert!(fine > 20, "{output:?}");
    assert!(
        output
            .stderr
            .contains("warning: the access token was not renewed: "),
        "{output:?}"
    );
    assert!(world.api.session_alive(EMAIL));
    assert!(world.api.exchanges() > 3);
    assert_eq!(count_private_dirs(world), 0);
}

fn spawn(world: &World, script: &str) -> Child {
    world.spawn(&exec(script))
}

fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Waits for a file that the command writes, and returns its text.
fn wait_for(path: &std::path::Path) -> String {
    let started = Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ if started.elapsed() > Duration::from_secs(10) => panic!("no {}", path.display()),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn signals_and_status() {
    let world = World::new(Store::File);
    world.login();
    for (signal, code) in [
        ("TERM", 41),
        ("INT", 42),
        ("HUP", 43),
        ("USR1", 44),
        ("QUIT", 45),
    ] {
        let ready = world.home().join(format!("ready-{signal}"));
        let script = format!(
            "trap 'exit {code}' {signal}; echo $$ > {}; while :; do sleep 0.05; done",
            ready.display()
        );
        let child = spawn(&world, &script);
        wait_for(&ready);
        kill(&format!("-{signal}"), child.id());
        Output::from_process(child.wait_with_output().unwrap()).expect(code);
    }
    world.run(&exec("kill -9 $$")).expect(137);
    world
        .run(&["exec", "--token-file", "--", "/no/such/command"])
        .expect(1);
    assert_eq!(count_private_dirs(&world), 0);
}

/// A killed run leaves its directory. The next run removes it, but not the directory of a live
/// run.
fn directory_of_a_killed_run_is_removed() {
    let world = World::new(Store::File);
    world.login();
    let ready = world.home().join("ready");
    let script = format!("echo $$ > {}; exec sleep 20", ready.display());
    let mut child = spawn(&world, &script);
    let command = wait_for(&ready);
    let live_ready = world.home().join("live");
    let live = spawn(
        &world,
        &format!("echo $$ > {}; exec sleep 3", live_ready.display()),
    );
    wait_for(&live_ready);
    kill("-KILL", child.id());
    child.wait().unwrap();
    assert_eq!(count_private_dirs(&world), 2);
    let doctor = world.run(&["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("removed 1 token file(s) that a killed exec had left"),
        "{doctor:?}"
    );
    assert_eq!(count_private_dirs(&world), 1);
    world.run(&exec("true")).expect(0);
    assert_eq!(count_private_dirs(&world), 1);
    Output::from_process(live.wait_with_output().unwrap()).expect(0);
    assert_eq!(count_private_dirs(&world), 0);
    kill("-KILL", command.trim().parse().unwrap());
}

/// Each kind of failure is reported once, and a new login is picked up.
fn session_ends() {
    let world = with_short_tokens(Store::File);
    let child = spawn(
        &world,
        "echo >$HOME/started; sleep 4; [ -e $REMEMBERIZER_TOKEN_FILE ] && exit 1
         echo >$HOME/ended; while ! [ -e $REMEMBERIZER_TOKEN_FILE ]; do sleep 0.1; done; exit 5",
    );
    wait_for(&world.home().join("started"));
    let fault = Fault::status(503, BodyKind::Html).at("/auth/custom-refresh/");
    world.api.fault(fault.times(3));
    world.api.revoke_all();
    wait_for(&world.home().join("ended"));
    world.login();
    let output = Output::from_process(child.wait_with_output().unwrap()).expect(5);
    let count = |text: &str| output.stderr.matches(text).count();
    for text in [
        "not renewed: the server answered 503",
        "not renewed: the server has ended the session: ",
        "; to sign in again, run: rememberizer login\n",
        "the token file is removed",
        "the access token was renewed\n",
    ] {
        assert_eq!(count(text), 1, "{text}: {output:?}");
    }
    assert_eq!(count("\n"), 4, "{output:?}");
}

/// A `--min-ttl` below the time at which the file is removed leaves no gap.
fn short_min_ttl() {
    let world = with_short_tokens(Store::File);
    world.api.set(|settings| settings.access_lifetime = 6);
    let script = "end=$(($(date +%s) + 9)); while [ $(date +%s) -lt $end ]; do \
        [ -e $REMEMBERIZER_TOKEN_FILE ] || exit 1; sleep 0.05; done";
    let args = [&["exec", "--min-ttl", "0.5s"], &exec(script)[1..]].concat();
    let output = world.run(&args).expect(0);
    assert_eq!(output.stderr, "", "{output:?}");
    assert!(world.api.exchanges() > 1);
}

/// The time that `on_rotate_check` takes does not shorten the use of the token.
fn slow_check() {
    let world = with_short_tokens(Store::File);
    world.api.set(|settings| settings.access_lifetime = 18);
    world
        .run(&["profile", "set", "on_rotate_check", "--", "sleep", "4"])
        .expect(0);
    // The token must be renewed a third of its lifetime after the command has started.
    let output = world.run(&exec("sleep 4")).expect(0);
    assert_eq!(output.stderr, "", "{output:?}");
    assert_eq!(world.api.exchanges(), 1);
}

fn cannot_be_written() {
    let world = with_short_tokens(Store::File);
    let output = world
        .run(&exec(
            "rm $REMEMBERIZER_TOKEN_FILE; mkdir $REMEMBERIZER_TOKEN_FILE; sleep 2; exit 3",
        ))
        .expect(3);
    assert!(
        output.stderr.contains("not renewed: cannot write "),
        "{output:?}"
    );
    // The session is safe: the tokens were stored before they were written there.
    world.run(&["refresh"]).expect(0);
    std::fs::remove_dir_all(run_dir(&world)).unwrap();
    std::fs::write(run_dir(&world), "").unwrap();
    world.run(&exec("true")).expect(6);
}

/// A refresh token in the environment is exchanged, and its successors are exchanged too.
fn variable() {
    let world = World::with_settings(Store::File, short());
    let refresh = world.api.begin_session(EMAIL).refresh.unwrap();
    let url = world.api.base_url();
    let script = "sleep 4; env | grep -c REMEMBERIZER_REFRESH_TOKEN; cat $REMEMBERIZER_TOKEN_FILE";
    let args = [&exec(script)[..], &[]].concat();
    let output = world
        .run_env(
            &[
                ("REMEMBERIZER_REFRESH_TOKEN", refresh.as_str()),
                ("REMEMBERIZER_API_URL", url.as_str()),
            ],
            &args,
        )
        .expect(0);
    let token = output.stdout.strip_prefix("0\n").unwrap();
    assert!(world.api.access_works(token), "{output:?}");
    assert!(world.api.session_alive(EMAIL) && world.entry().is_none());
}

fn ctrl_c_reaches_the_command_once() {
    let world = World::new(Store::File);
    world.login();
    let screen = Screen::new(&world);
    screen.start(
        "rememberizer exec --token-file -- sh -c 'trap \"echo caught\" INT; echo up; sleep 2; sleep 1; exit 6'",
    );
    screen.wait_until("the command", |text| text.lines().any(|line| line == "up"));
    screen.press("C-c");
    let (code, text) = screen.wait_for_exit();
    // The word appears once in the command line, and once from the trap.
    assert_eq!((code, text.matches("caught").count()), (6, 2), "{text}");
}
