//! Failing servers and stores: the error messages, and the session that remains.

use std::process::Command;
use std::time::Duration;

use crate::sandbox::{BodyKind, Delay, Fault, RetryAfter};
use crate::support::world::EMAIL;
use crate::support::{Output, Part, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let unshare = [Part::Command("unshare"), Part::Root];
    let mut tests = vec![
        test(
            "faults::keyring_locked_before_the_exchange",
            keyring_locked_before_the_exchange,
        )
        .needs(&[Part::Keyring]),
        test(
            "faults::keyring_locked_after_the_exchange",
            keyring_locked_after_the_exchange,
        )
        .needs(&[Part::Keyring]),
        test(
            "faults::keyring_locked_briefly_after_the_exchange",
            keyring_locked_briefly_after_the_exchange,
        )
        .needs(&[Part::Keyring]),
        test("faults::disk_full_before_the_exchange", || disk_full(true)).needs(&unshare),
        test("faults::disk_full_after_the_exchange", || disk_full(false)).needs(&unshare),
        test("faults::only_gets_are_retried", only_gets_are_retried),
    ];
    tests.extend(on_both_stores(
        "faults::transient_failures_keep_the_session",
        transient_failures_keep_the_session,
    ));
    tests.extend(on_both_stores(
        "faults::definitive_refusals_end_the_session",
        definitive_refusals_end_the_session,
    ));
    tests.extend(on_both_stores(
        "faults::request_times_out",
        request_times_out,
    ));
    tests
}

const REFRESH: &str = "/auth/custom-refresh/";

/// After a transient failure, the entry is unchanged and the session still works.
fn transient_failures_keep_the_session(world: &World) {
    world.login();
    let html = || Fault::status(502, BodyKind::Html);
    for (name, fault, exit, code, retry_after) in [
        ("502 html", html(), 5, "unavailable", None),
        (
            "500 json",
            Fault::status(500, BodyKind::Json),
            5,
            "unavailable",
            None,
        ),
        (
            "408",
            Fault::status(408, BodyKind::Json),
            5,
            "unavailable",
            None,
        ),
        (
            "401 html",
            Fault::status(401, BodyKind::Html),
            5,
            "unavailable",
            None,
        ),
        (
            "403 html",
            Fault::status(403, BodyKind::Html),
            5,
            "unavailable",
            None,
        ),
        (
            "429 seconds",
            Fault::throttle(RetryAfter::Seconds(60), BodyKind::Json),
            8,
            "rate_limited",
            Some(60),
        ),
        (
            "429 date",
            Fault::throttle(RetryAfter::Date(60), BodyKind::Html),
            8,
            "rate_limited",
            Some(60),
        ),
        (
            "429 nothing",
            Fault::throttle(RetryAfter::None, BodyKind::Json),
            8,
            "rate_limited",
            None,
        ),
        ("cut before", Fault::close(), 5, "unavailable", None),
        (
            "redirect",
            Fault::answer(302, &[("Location", "https://evil.test/")], ""),
            5,
            "unavailable",
            None,
        ),
        (
            "404 json",
            Fault::status(404, BodyKind::Json),
            1,
            "failed",
            None,
        ),
        (
            "204 without tokens",
            Fault::answer(204, &[], ""),
            1,
            "failed",
            None,
        ),
    ] {
        let before = world.tokens();
        world.api.clear_requests();
        world.api.fault(fault.at(REFRESH));
        let output = world.run(&["refresh", "--json"]);
        assert_eq!(output.code, exit, "{name}: {output:?}");
        let json = output.json();
        assert_eq!(json["error"]["code"], code, "{name}");
        match (retry_after, json["error"]["retry_after"].as_u64()) {
            (None, printed) => assert_eq!(printed, None, "{name}"),
            // The date has whole seconds, and time has passed since the response.
            (Some(wanted), printed) => assert!(
                printed.is_some_and(|t| t.abs_diff(wanted) <= 2),
                "{name}: {printed:?}"
            ),
        }
        assert_eq!(world.tokens(), before, "{name}: the tokens stay");
        assert_eq!(world.api.count(REFRESH), 1, "{name}: sent once");
    }
    world.run(&["refresh"]).expect(0);
    // The connection is cut after the server did the exchange. Only the next exchange shows
    // that the token was used.
    let before = world.tokens();
    world.api.fault(Fault::close().after_work().at(REFRESH));
    world.run(&["refresh"]).expect(5);
    assert_eq!(world.tokens(), before, "the tokens stay");
    let lost = "; most likely, a renewal at 20";
    let printed = world.run(&["refresh"]).expect(3).stderr;
    assert!(
        printed.contains(lost) && printed.contains("but its response was lost"),
        "{printed}"
    );
    // A recorded failure of one session is not reported for the next session.
    world.login();
    world.api.revoke_all();
    let printed = world.run(&["refresh"]).expect(3).stderr;
    assert!(!printed.contains(lost), "{printed}");
    // After a gateway error, the server may have done the exchange. If no connection was made,
    // it has not.
    world.login();
    let gateway = Fault::status(504, BodyKind::Html).at(REFRESH);
    world.api.fault(gateway);
    world.run(&["refresh"]).expect(5);
    world.run(&["refresh"]).expect(0);
    world.api.revoke_all();
    let printed = world.run(&["refresh"]).expect(3).stderr;
    assert!(!printed.contains(lost), "{printed}");
}

/// After a definitive refusal, the session is removed from the store.
fn definitive_refusals_end_the_session(world: &World) {
    for status in [400, 401, 403] {
        world.login();
        world
            .api
            .fault(Fault::status(status, BodyKind::Json).at(REFRESH));
        let output = world.run(&["refresh", "--json"]).expect(3);
        assert_eq!(output.error_code(), "session_ended", "{status}");
        assert_eq!(world.entry(), None, "{status}");
        let next = world.run(&["refresh", "--json"]).expect(3);
        assert_eq!(next.error_code(), "not_signed_in");
        assert_eq!(world.profiles()["profiles"]["default"]["signed_in"], false);
    }
    world.login();
    world.api.revoke_all();
    world.expire_access();
    let output = world.run(&["token"]).expect(3);
    assert_eq!(output.stdout, "");
    assert!(
        output
            .stderr
            .starts_with("error: the server has ended the session: "),
        "{output:?}"
    );
    assert!(
        output.stderr.ends_with("\nhint: rememberizer login\n"),
        "{output:?}"
    );
}

fn request_times_out(world: &World) {
    world.login();
    let before = world.tokens();
    world.api.set(|s| {
        s.delays
            .push(Delay::before(Duration::from_secs(30)).at(REFRESH))
    });
    let started = std::time::Instant::now();
    let output = world.run(&["refresh", "--timeout", "1"]).expect(5);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(
        output.stderr.contains("no response from 127.0.0.1"),
        "{output:?}"
    );
    assert_eq!(world.tokens(), before);
}

/// Only GET requests are retried after a transient failure.
fn only_gets_are_retried() {
    let world = World::new(Store::File);
    world.login();
    world
        .api
        .fault(Fault::status(503, BodyKind::Html).at("/account/").times(2));
    world.run(&["whoami"]).expect(0);
    assert_eq!(world.api.count("/account/"), 3);
    for (path, args) in [
        ("/auth/verify-email/", &["verify", "123456"][..]),
        ("/auth/custom-logout/", &["logout"]),
    ] {
        world.api.clear_requests();
        world
            .api
            .fault(Fault::status(503, BodyKind::Html).at(path).times(2));
        world.run(args).expect(5);
        assert_eq!(world.api.count(path), 1, "{path}");
        world.api.set(|s| s.faults.clear());
    }
}

fn keyring_locked_before_the_exchange() {
    let world = World::new(Store::Keyring);
    world.login();
    world.bus.as_ref().unwrap().lock();
    for args in [
        &["refresh", "--json"][..],
        &["token", "--json"],
        &["logout", "--json"],
    ] {
        assert_eq!(world.run(args).expect(6).error_code(), "store_locked");
    }
    assert!(world.api.requests().is_empty(), "no exchange happened");
    assert!(world.api.session_alive(EMAIL));
}

fn keyring_locked_after_the_exchange() {
    let world = World::new(Store::Keyring);
    world.login();
    world.api.set(|s| {
        s.delays
            .push(Delay::after(Duration::from_millis(600)).at(REFRESH))
    });
    let run = world.spawn_until_request(&["refresh", "--json"], REFRESH);
    world.bus.as_ref().unwrap().lock();
    let output = Output::from_process(run.wait_with_output().unwrap()).expect(6);
    let json = output.json();
    assert_eq!(json["error"]["code"], "store_locked");
    let printed = json["error"]["message"].as_str().unwrap();
    assert!(
        printed.starts_with("the server renewed the session, but it could not be stored: "),
        "{printed}"
    );
    assert!(
        json["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("may have been used"),
        "{json}"
    );
}

/// The write of new tokens is retried.
fn keyring_locked_briefly_after_the_exchange() {
    let mut world = World::new(Store::Keyring);
    world.login();
    world.api.set(|s| {
        s.delays
            .push(Delay::after(Duration::from_millis(600)).at(REFRESH))
    });
    let run = world.spawn_until_request(&["refresh"], REFRESH);
    world.bus.as_ref().unwrap().lock();
    std::thread::sleep(Duration::from_millis(1000));
    world.bus.as_mut().unwrap().unlock();
    Output::from_process(run.wait_with_output().unwrap()).expect(0);
    world.api.set(|s| s.delays.clear());
    world.run(&["refresh"]).expect(0);
}

/// The file system of the data directory is full, either before the exchange, or between the
/// exchange and the write.
fn disk_full(before: bool) {
    let world = World::new(Store::File);
    world.login();
    let home = world.home();
    let delay = if before { 0 } else { 700 };
    world.api.set(|s| {
        s.delays
            .push(Delay::after(Duration::from_millis(delay)).at(REFRESH))
    });
    let fill = "head -c 1000000 /dev/zero > \"$D/full\" 2>/dev/null";
    let (first, meanwhile) = if before {
        (fill, "true")
    } else {
        ("true", fill)
    };
    let script = format!(
        "set -u; D=\"$HOME/.local/share/rememberizer\"; cp -a \"$D\" \"$HOME/copy\"
         mount -t tmpfs -o size=64k tmpfs \"$D\" && cp -a \"$HOME/copy/.\" \"$D/\" && chmod 700 \"$D\"
         {first}
         '{}' refresh --json & run=$!
         sleep 0.3; {meanwhile}
         wait $run; code=$?
         cat \"$D/sessions/default.json\" > \"$HOME/left\"; exit $code",
        World::program().display()
    );
    let mut command = Command::new("unshare");
    world.set_environment(&mut command);
    let output =
        Output::from_process(command.args(["-m", "sh", "-c", &script]).output().unwrap()).expect(6);
    let json = output.json();
    assert_eq!(json["error"]["code"], "store_failed");
    let left = std::fs::read_to_string(home.join("left")).unwrap();
    let left: serde_json::Value = serde_json::from_str(&left).expect("a whole entry is left");
    let works = world
        .api
        .refresh_works(left["refresh_token"].as_str().unwrap());
    if before {
        assert!(world.api.requests().is_empty(), "no exchange happened");
        assert!(works && left["exchange_began"].is_null());
    } else {
        assert_eq!(world.api.exchanges(), 1);
        assert!(
            json["error"]["message"]
                .as_str()
                .unwrap()
                .contains("could not be stored")
        );
    }
}
