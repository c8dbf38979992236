//! Renewal by several processes: one exchange at a time, of the token that was read under the
//! lock. New tokens are stored before they are printed.

use std::time::Duration;

use crate::sandbox::{BodyKind, Delay, Fault};
use crate::support::world::EMAIL;
use crate::support::{Output, Part, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    tests.extend(on_both_stores(
        "renew::sixty_four_at_once",
        sixty_four_at_once,
    ));
    tests.extend(on_both_stores(
        "renew::eight_refreshes_at_once",
        eight_refreshes_at_once,
    ));
    tests.extend(on_both_stores(
        "renew::fresh_token_calls_and_writes_nothing",
        fresh_token_calls_and_writes_nothing,
    ));
    tests.extend(on_both_stores("renew::min_ttl", min_ttl));
    tests.extend(on_both_stores(
        "renew::the_second_run_uses_the_renewed_session",
        the_second_run_uses_the_renewed_session,
    ));
    tests.extend(on_both_stores(
        "renew::stored_before_printed",
        stored_before_printed,
    ));
    tests.extend(on_both_stores(
        "renew::pending_marker_is_stored_during_an_exchange",
        pending_marker_is_stored_during_an_exchange,
    ));
    tests.extend(on_both_stores(
        "renew::a_killed_run_is_explained",
        a_killed_run_is_explained,
    ));
    tests.extend(on_both_stores(
        "renew::one_refresh_on_a_401",
        one_refresh_on_a_401,
    ));
    tests.extend(on_both_stores(
        "renew::refused_token_was_replaced_meanwhile",
        refused_token_was_replaced_meanwhile,
    ));
    tests.push(test(
        "renew::busy_past_the_lock_timeout",
        busy_past_the_lock_timeout,
    ));
    tests
}

const REFRESH: &str = "/auth/custom-refresh/";

fn delay_exchanges(world: &World, millis: u64) {
    let delay = Delay::before(Duration::from_millis(millis)).at(REFRESH);
    world.api.set(|s| s.delays.push(delay));
}

fn wait_for_success(children: Vec<std::process::Child>) -> Vec<Output> {
    children
        .into_iter()
        .map(|child| Output::from_process(child.wait_with_output().unwrap()).expect(0))
        .collect()
}

fn sixty_four_at_once(world: &World) {
    world.login();
    world.expire_access();
    delay_exchanges(world, 200);
    let runs = (0..64).map(|i| world.spawn(&[["token", "whoami"][i % 2]]));
    let outputs = wait_for_success(runs.collect());
    assert_eq!(world.api.exchanges(), 1, "one exchange for all");
    assert_eq!(world.api.count(REFRESH), 1);
    let tokens: std::collections::BTreeSet<_> =
        outputs.iter().step_by(2).map(|o| &o.stdout).collect();
    assert_eq!(tokens.len(), 1, "all print the same token");
    world.run(&["whoami"]).expect(0);
    world.run(&["refresh"]).expect(0);
    assert!(world.api.session_alive(EMAIL));
}

fn eight_refreshes_at_once(world: &World) {
    world.login();
    delay_exchanges(world, 50);
    wait_for_success((0..8).map(|_| world.spawn(&["refresh"])).collect());
    assert!(world.api.exchanges() >= 1);
    assert!(world.api.session_alive(EMAIL));
    world.run(&["refresh"]).expect(0);
    world.run(&["whoami"]).expect(0);
}

fn fresh_token_calls_and_writes_nothing(world: &World) {
    world.login();
    let before = world.entry();
    let locks = world.data_dir().join("locks/default.lock");
    std::fs::remove_file(&locks).unwrap();
    for args in [
        &["token"][..],
        &["token", "--header"],
        &["refresh", "--min-ttl", "10s"],
        &["token", "--refresh-token"],
    ] {
        world.run(args).expect(0);
    }
    assert_eq!(world.entry(), before);
    assert!(world.api.requests().is_empty(), "no request was sent");
    assert!(!locks.exists(), "no lock was taken");
}

fn min_ttl(world: &World) {
    world.login();
    let token = |args: &[&str]| world.run(args).expect(0).stdout;
    let first = token(&["token"]);
    assert_eq!(token(&["token", "--min-ttl", "4m"]), first);
    let second = token(&["token", "--min-ttl", "10m"]);
    assert_ne!(second, first);
    assert_eq!(world.api.exchanges(), 1);
    assert_eq!(
        token(&["token", "--header"]),
        format!("Authorization: Bearer {second}")
    );
    let json = world.run(&["token", "--json"]).expect(0).json();
    assert_eq!(json["access_token"], second.trim());
    let refreshed = world
        .run(&["refresh", "--min-ttl", "10m", "--json"])
        .expect(0)
        .json();
    assert_eq!(refreshed["renewed"], true);
    let kept = world
        .run(&["refresh", "--min-ttl", "1m", "--json"])
        .expect(0)
        .json();
    assert_eq!(kept["renewed"], false);
    assert_eq!(world.api.exchanges(), 2);
    let refresh = token(&["token", "--refresh-token"]);
    assert_eq!(refresh.trim(), world.entry_json()["refresh_token"]);
}

/// Two runs read the same expired session. The second run gets the lock after the first has
/// exchanged the refresh token that both have read.
fn the_second_run_uses_the_renewed_session(world: &World) {
    world.login();
    world.expire_access();
    delay_exchanges(world, 400);
    let first = world.spawn(&["token"]);
    std::thread::sleep(Duration::from_millis(100));
    let second = world.spawn(&["token"]);
    wait_for_success(vec![first, second]);
    assert_eq!(world.api.exchanges(), 1);
    assert!(world.api.session_alive(EMAIL), "no token was used twice");
}

/// Printing fails (closed pipe, `/dev/full`), but the session is stored.
fn stored_before_printed(world: &World) {
    world.login();
    world.expire_access();
    let before = world.entry_json();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = world.command(&["token"]);
    let output = Output::from_process(command.stdout(full).output().unwrap());
    assert_eq!(output.code, 1, "{output:?}");
    let after = world.entry_json();
    assert_ne!(
        after["refresh_token"], before["refresh_token"],
        "stored before it was printed"
    );
    world.run(&["refresh"]).expect(0);
}

fn pending_marker_is_stored_during_an_exchange(world: &World) {
    world.login();
    delay_exchanges(world, 500);
    let run = world.spawn_until_request(&["refresh"], REFRESH);
    assert!(
        world.entry_json()["exchange_began"].is_i64(),
        "marked before the answer"
    );
    wait_for_success(vec![run]);
    assert!(
        world.entry_json()["exchange_began"].is_null(),
        "gone after it"
    );
}

fn a_killed_run_is_explained(world: &World) {
    world.login();
    // The run was killed before the server did the exchange. The next run reports nothing.
    delay_exchanges(world, 600);
    let mut run = world.spawn_until_request(&["refresh"], REFRESH);
    run.kill().unwrap();
    run.wait().unwrap();
    let entry = world.entry_json();
    assert!(entry["exchange_began"].is_i64());
    std::thread::sleep(Duration::from_millis(600));
    // The sandbox has done the exchange nevertheless, so the token was used.
    world.api.set(|s| s.delays.clear());
    let output = world.run(&["refresh"]).expect(3);
    assert!(
        output.stderr.contains("a run that began to renew it at 20"),
        "{output:?}"
    );
    assert_eq!(world.entry(), None);
    // If the server still accepts the old token, nothing is reported.
    world
        .api
        .set(|s| s.rotation = crate::sandbox::RotationPolicy::Off);
    world.login();
    world.edit_entry(|entry| entry["exchange_began"] = 1_700_000_000_000_i64.into());
    let output = world.run(&["refresh"]).expect(0);
    assert!(!output.stderr.contains("killed"), "{output:?}");
    assert!(world.entry_json()["exchange_began"].is_null());
}

fn one_refresh_on_a_401(world: &World) {
    world.login();
    world
        .api
        .fault(Fault::status(401, BodyKind::Json).at("/account/"));
    world.run(&["whoami"]).expect(0);
    assert_eq!(
        (world.api.count("/account/"), world.api.exchanges()),
        (2, 1)
    );
    world.api.clear_requests();
    world
        .api
        .fault(Fault::status(401, BodyKind::Json).at("/account/").times(5));
    let output = world.run(&["whoami", "--json"]).expect(4);
    assert_eq!(output.error_code(), "rejected");
    assert_eq!(
        (world.api.count("/account/"), world.api.count(REFRESH)),
        (2, 1)
    );
    assert!(
        world
            .api
            .refresh_works(world.entry_json()["refresh_token"].as_str().unwrap())
    );
}

/// The server refuses the token, and meanwhile a program without our lock has stored another
/// token. That token is kept.
fn refused_token_was_replaced_meanwhile(world: &World) {
    world.login();
    let mine = world.entry_json();
    let other = world.api.begin_session(EMAIL);
    world
        .api
        .fault(Fault::status(401, BodyKind::Json).at(REFRESH));
    delay_exchanges(world, 500);
    let run = world.spawn_until_request(&["refresh"], REFRESH);
    let mut better = mine;
    better["refresh_token"] = other.refresh.clone().into();
    world.set_entry(&better.to_string());
    wait_for_success(vec![run]);
    assert_eq!(world.entry_json()["refresh_token"], other.refresh.unwrap());
}

/// The process with the lock is stopped, so the second process exits with 9.
fn busy_past_the_lock_timeout() {
    let world = World::new(Store::File);
    world.login();
    let before = world.entry();
    delay_exchanges(&world, 60_000);
    let mut holder = world.spawn_until_request(&["refresh"], REFRESH);
    let pid = holder.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-STOP", &pid])
            .status()
            .unwrap()
            .success()
    );
    let marked = world.entry();
    assert_ne!(marked, before);
    let started = std::time::Instant::now();
    let output = world
        .run(&["refresh", "--lock-timeout", "1", "--json"])
        .expect(9);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(output.error_code(), "busy");
    let text = world
        .run(&["refresh", "--lock-timeout", "1"])
        .expect(9)
        .stderr;
    assert_eq!(
        text,
        "error: another process has held this profile for 1 s\n\
         hint: try again, or wait longer with --lock-timeout SECONDS\n"
    );
    assert_eq!(world.entry(), marked, "the entry is untouched");
    assert_eq!(world.api.count(REFRESH), 1, "only the holder's");
    holder.kill().unwrap();
    holder.wait().unwrap();
}
