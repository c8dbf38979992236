//! The user's commands `on_rotate_check` and `on_rotate`.

use std::path::PathBuf;

use crate::sandbox::RotationPolicy;
use crate::support::world::{EMAIL, set_mode};
use crate::support::{Output, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("rotate::check_fails", check_fails),
        test("rotate::variable", variable),
        test("rotate::killed_at_each_step", killed_at_each_step),
        test("rotate::login_runs_on_rotate", login_runs_on_rotate),
    ];
    tests.extend(on_both_stores(
        "rotate::on_rotate_receives_the_token",
        on_rotate_receives_the_token,
    ));
    tests.extend(on_both_stores(
        "rotate::failed_on_rotate_is_repeated",
        failed_on_rotate_is_repeated,
    ));
    tests
}

/// Writes a script into the home directory that runs `body`.
fn write_script(world: &World, name: &str, body: &str) -> PathBuf {
    let path = world.home().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    set_mode(&path, 0o755);
    path
}

/// Sets up a server that rotates tokens, and a script as `on_rotate`. Returns the path of the
/// script.
fn prepared(world: &World, body: &str) -> PathBuf {
    world.login();
    world
        .api
        .set(|settings| settings.rotation = RotationPolicy::RevokeFamily);
    let take = write_script(world, "take", body);
    let path = take.to_str().unwrap();
    world
        .run(&["profile", "set", "on_rotate", "--", path, "--name", "TOKEN"])
        .expect(0);
    take
}

fn received_tokens(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.home().join("taken")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn refresh_token(world: &World) -> String {
    let entry = world.entry_json();
    entry["refresh_token"].as_str().unwrap().to_owned()
}

const TAKE: &str = r#"[ "$*" = "--name TOKEN" ] || exit 9
env | grep -E 'REMEMBERIZER_(PASSWORD|ACCESS_TOKEN|REFRESH_TOKEN)' && exit 8
cat >> taken; echo >> taken; echo noise"#;

fn on_rotate_receives_the_token(world: &World) {
    prepared(world, TAKE);
    let output = world.run(&["refresh", "--json"]).expect(0);
    assert!(output.json()["renewed"] == true && output.stderr == "noise\n");
    assert_eq!(received_tokens(world), [refresh_token(world)]);
    world.expire_access();
    let output = world.run(&["token"]).expect(0);
    assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
    assert_eq!(received_tokens(world).len(), 2);
    assert_eq!(received_tokens(world)[1], refresh_token(world));
    assert!(world.entry_json()["hand_over_pending"].is_null());
}

fn failed_on_rotate_is_repeated(world: &World) {
    let take = prepared(world, "exit 3");
    let output = world.run(&["refresh", "--json"]).expect(6);
    assert_eq!(output.error_code(), "store_failed");
    let message = output.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.starts_with("the session is stored, but the command of on_rotate failed: ")
            && message.ends_with("exit status: 3"),
        "{message}"
    );
    let stored = refresh_token(world);
    assert!(world.api.refresh_works(&stored));
    // Every run first repeats the failed command, even `token` with a fresh access token.
    for args in [
        &["token"][..],
        &["refresh", "--min-ttl", "1s"],
        &["refresh", "--all", "--min-ttl", "1s"],
    ] {
        world.run(args).expect(6);
    }
    assert_eq!(world.api.count("/auth/custom-refresh/"), 1);
    write_script(world, take.file_name().unwrap().to_str().unwrap(), TAKE);
    world.run(&["token"]).expect(0);
    assert_eq!(received_tokens(world), [stored]);
    assert_eq!(world.api.count("/auth/custom-refresh/"), 1);
    world.run(&["token"]).expect(0);
    assert_eq!(received_tokens(world).len(), 1, "once");
}

fn check_fails() {
    let world = World::new(Store::File);
    prepared(&world, TAKE);
    let before = world.entry();
    let check = write_script(&world, "check", "exit 1");
    world
        .run(&["profile", "set", "on_rotate_check", check.to_str().unwrap()])
        .expect(0);
    let output = world.run(&["refresh"]).expect(6);
    assert!(
        output
            .stderr
            .contains("the command of on_rotate_check failed: ")
            && output.stderr.contains("\nhint: no token was used"),
        "{output:?}"
    );
    assert_eq!((world.entry(), world.api.requests().len()), (before, 0));
    let missing = world.home().join("nobody");
    world
        .run(&[
            "profile",
            "set",
            "on_rotate_check",
            missing.to_str().unwrap(),
        ])
        .expect(0);
    world.run(&["refresh"]).expect(6);
    assert!(world.api.requests().is_empty());
    world
        .run(&["profile", "set", "on_rotate_check", ""])
        .expect(0);
    world.run(&["refresh"]).expect(0);
}

fn variable() {
    let world = World::new(Store::File);
    world
        .api
        .set(|settings| settings.rotation = RotationPolicy::RevokeFamily);
    let take = write_script(&world, "take", "cat > new");
    let bad = write_script(&world, "bad", "exit 1");
    let url = world.api.base_url();
    let run = |refresh: &str, on_rotate: &PathBuf, check: &str| {
        world.run_env(
            &[
                ("REMEMBERIZER_REFRESH_TOKEN", refresh),
                ("REMEMBERIZER_ON_ROTATE", on_rotate.to_str().unwrap()),
                ("REMEMBERIZER_ON_ROTATE_CHECK", check),
            ],
            &["whoami", "--api-url", &url],
        )
    };
    let first = world.api.begin_session(EMAIL).refresh.unwrap();
    run(&first, &take, bad.to_str().unwrap()).expect(6);
    assert!(world.api.refresh_works(&first), "the token was not used");
    let output = run(&first, &take, "").expect(0);
    assert!(!output.stderr.contains("is no longer valid"), "{output:?}");
    let new = std::fs::read_to_string(world.home().join("new")).unwrap();
    assert!(world.api.refresh_works(&new));
    let output = run(&new, &bad, "").expect(6);
    assert!(
        output
            .stderr
            .contains("the new refresh token is not stored, "),
        "{output:?}"
    );
}

fn login_runs_on_rotate() {
    let world = World::new(Store::File);
    prepared(&world, TAKE);
    let token = world.api.begin_session(EMAIL).refresh.unwrap();
    let args = ["login", "--refresh-token-stdin", "--store=file"];
    world.run_stdin(token.as_bytes(), &args).expect(0);
    assert_eq!(received_tokens(&world), [refresh_token(&world)]);
    assert!(world.api.refresh_works(&refresh_token(&world)));
}

/// If a run is killed while the check runs, no token was used. If it is killed while
/// `on_rotate` runs, the next run repeats `on_rotate`.
fn killed_at_each_step() {
    let world = World::new(Store::File);
    let kill = "kill -9 $PPID; exit 1";
    prepared(&world, kill);
    let check = write_script(&world, "check", kill);
    let set_check = |value: &str| {
        world
            .run(&["profile", "set", "on_rotate_check", value])
            .expect(0);
    };
    set_check(check.to_str().unwrap());
    let before = world.entry();
    let killed: Output = world.run(&["refresh"]);
    assert_eq!(killed.code, 137, "{killed:?}");
    assert!(world.entry() == before && world.api.requests().is_empty());
    set_check("");
    assert_eq!(world.run(&["refresh"]).code, 137);
    assert_eq!(world.entry_json()["hand_over_pending"], true);
    let stored = refresh_token(&world);
    write_script(&world, "take", TAKE);
    world.run(&["token"]).expect(0);
    assert_eq!(received_tokens(&world), [stored]);
    assert!(world.api.session_alive(EMAIL));
}
