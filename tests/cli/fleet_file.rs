//! A session that machines share in a file, with a helper that has versions: wrong clocks,
//! rotation commands, `doctor`, and hostile helpers.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fleet::{signal, wait_until};
use crate::helpers::MISDEEDS;
use crate::sandbox::{BodyKind, Delay, Fault, Settings};
use crate::support::machines::Machines;
use crate::support::world::EMAIL;
use crate::support::{Output, Part, Test, test};

pub fn tests() -> Vec<Test> {
    let python = [Part::Command("python3")];
    let faketime = [python[0], Part::Command("faketime")];
    vec![
        test("fleet_file::wrong_clocks", wrong_clocks).needs(&faketime),
        test("fleet_file::rotation_commands", rotation_commands).needs(&python),
        test("fleet_file::doctor_during_a_lease", doctor_during_a_lease).needs(&python),
        test(
            "fleet_file::an_unavailable_store_can_be_left",
            an_unavailable_store_can_be_left,
        )
        .needs(&python),
        test(
            "fleet_file::store_is_set_before_the_server",
            store_is_set_before_the_server,
        )
        .needs(&python),
        test("fleet_file::a_failure_is_shared", a_failure_is_shared).needs(&python),
        test(
            "fleet_file::an_earlier_failure_is_not_shared",
            an_earlier_failure_is_not_shared,
        )
        .needs(&python),
        test(
            "fleet_file::a_store_that_overwrites_is_refused",
            a_store_that_overwrites_is_refused,
        )
        .needs(&python),
        test("fleet_file::hostile_under_the_lease", || hostile(&QUICK)).needs(&python),
        test("fleet_file::silent_under_the_lease", || hostile(&SILENT))
            .needs(&python)
            .long(),
    ]
}

fn expire_access(machines: &Machines) {
    machines
        .helper_world
        .edit_entry(|entry| entry["access"]["lifetime"] = 0.into());
}

/// A machine with a wrong clock uses the token of the other machines until the token expires.
fn wrong_clocks() {
    for (writer, reader) in [("+0", "+1d"), ("+0", "-1d"), ("+1d", "+0"), ("-2h", "+3h")] {
        let machines = Machines::on_a_file(Settings::default());
        let api = &machines.helper_world.world.api;
        machines.login(writer, "one").expect(0);
        machines.join("two");
        let token = machines
            .run_with_clock(writer, "one", &["token"])
            .expect(0)
            .stdout;
        for _ in 0..3 {
            let read = machines
                .run_with_clock(reader, "two", &["token"])
                .expect(0)
                .stdout;
            assert_eq!(read, token, "{writer} {reader}");
        }
        assert_eq!(
            api.exchanges(),
            0,
            "{writer} {reader}: a token that lasts is renewed"
        );
        // By the server's clock, the token expired a minute ago.
        machines.helper_world.edit_entry(|entry| {
            let received = entry["access"]["received_at"].as_i64().unwrap();
            entry["access"]["received_at"] = (received - 360_000).into();
        });
        let renewed = machines
            .run_with_clock(reader, "two", &["token"])
            .expect(0)
            .stdout;
        assert_ne!(renewed, token, "{writer} {reader}: an ended token is used");
        for _ in 0..2 {
            assert_eq!(
                machines
                    .run_with_clock(writer, "one", &["token"])
                    .expect(0)
                    .stdout,
                renewed
            );
            assert_eq!(
                machines
                    .run_with_clock(reader, "two", &["token"])
                    .expect(0)
                    .stdout,
                renewed
            );
        }
        assert_eq!(api.exchanges(), 1, "{writer} {reader}");
    }
}

/// Rotation commands are refused: each machine renews, so the command of one machine would not
/// receive all tokens.
fn rotation_commands() {
    let machines = Machines::on_a_file(Settings::default());
    for key in ["on_rotate", "on_rotate_check"] {
        machines
            .run("one", &["profile", "set", key, "--", "true"])
            .expect(0);
        let refused = machines.login("+0", "one").expect(2);
        assert!(
            refused.stderr.contains(&format!("profile set {key} ''")),
            "{refused:#?}"
        );
        machines
            .run("one", &["profile", "set", "store", &machines.store])
            .expect(2);
        machines.run("one", &["profile", "set", key, ""]).expect(0);
    }
    assert!(
        machines.helper_world.world.api.requests().is_empty(),
        "asked before it was refused"
    );
    machines.login("+0", "one").expect(0);
    let refused = machines
        .run("one", &["profile", "set", "on_rotate", "--", "true"])
        .expect(2);
    assert!(
        refused
            .stderr
            .contains("does not work with a store that machines share")
    );

    // If another program has recorded such a command, tokens are still read, renewals fail, and
    // logout works.
    let file = machines
        .home("one")
        .join(".config/rememberizer/profiles.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut profiles: serde_json::Value = serde_json::from_str(&text).unwrap();
    profiles["profiles"]["default"]["on_rotate"] = json!(["true"]);
    std::fs::write(&file, profiles.to_string()).unwrap();
    machines.run("one", &["token"]).expect(0);
    expire_access(&machines);
    machines.run("one", &["token"]).expect(2);
    assert_eq!(machines.helper_world.world.api.exchanges(), 0);
    machines.run("one", &["logout"]).expect(0);
    assert!(!machines.helper_world.world.api.session_alive(EMAIL));
}

/// While another machine holds the lease, `doctor` writes nothing and does not claim that
/// writing works.
fn doctor_during_a_lease() {
    let machines = Machines::on_a_file(Settings::default());
    machines.login("+0", "one").expect(0);
    let tested = machines.run("one", &["doctor"]).expect(0).stdout;
    assert!(tested.contains("an outdated write is refused"), "{tested}");
    machines.helper_world.edit_entry(|entry| {
        entry["lease"] = json!({"by": "x", "host": "ci-7", "pid": 1, "began": 0, "for": 30000});
    });
    let entry = machines.helper_world.entry();
    let tested = machines.run("one", &["doctor"]).expect(0).stdout;
    assert!(
        tested.contains("not tested further while ci-7 renews"),
        "{tested}"
    );
    assert!(!tested.contains("refused"), "{tested}");
    assert_eq!(machines.helper_world.entry(), entry);
}

/// A renewal fails. The runs that waited for it, on the same machine and on another one, report
/// the failure without a request of their own.
fn a_failure_is_shared() {
    const REFRESH: &str = "/auth/custom-refresh/";
    let machines = Machines::on_a_file(Settings::default());
    let api = &machines.helper_world.world.api;
    machines.login("+0", "one").expect(0);
    machines.join("two");
    // Each machine compares its clock with the server's first.
    machines.run("two", &["token"]).expect(0);
    expire_access(&machines);
    api.fault(Fault::status(503, BodyKind::Html).at(REFRESH).times(9));
    api.set(|settings| {
        let delay = Delay::before(Duration::from_secs(5)).at(REFRESH);
        settings.delays.push(delay);
    });
    let holder = machines.spawn("one", &["token"]);
    wait_until("the exchange begins", || api.count(REFRESH) > 0);
    signal(holder.id(), "-STOP");
    let others = ["one", "two"].map(|machine| {
        let mut child = machines.spawn(machine, &["token", "-v"]);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("waiting for the") {
            assert!(stderr.read_line(&mut seen).unwrap() > 0, "{seen}");
        }
        (child, stderr)
    });
    signal(holder.id(), "-CONT");
    let holder = Output::from_process(holder.wait_with_output().unwrap()).expect(5);
    assert!(holder.stderr.contains("503"), "{holder:#?}");
    for (mut child, mut stderr) in others {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(5), "{text}");
        assert!(text.contains("another run could not renew"), "{text}");
    }
    assert_eq!(api.count(REFRESH), 1);
}

/// A run reads the session, and another run then fails to renew it. The first run later gets a
/// 401. It did not wait for the other run, so it renews the session itself.
fn an_earlier_failure_is_not_shared() {
    let machines = Machines::on_a_file(Settings::default());
    let api = &machines.helper_world.world.api;
    machines.login("+0", "one").expect(0);
    machines.join("two");
    // Each machine compares its clock with the server's first.
    machines.run("two", &["token"]).expect(0);
    api.clear_requests();
    api.fault(Fault::status(401, BodyKind::Html).at("/account/"));
    api.set(|settings| {
        let delay = Delay::before(Duration::from_secs(3)).at("/account/");
        settings.delays.push(delay);
    });
    let first = machines.spawn("two", &["whoami"]);
    wait_until("the request begins", || api.count("/account/") > 0);
    api.fault(Fault::status(503, BodyKind::Html).at("/auth/custom-refresh/"));
    machines.run("one", &["refresh"]).expect(5);
    Output::from_process(first.wait_with_output().unwrap()).expect(0);
    assert_eq!(api.exchanges(), 1);
}

/// The helper claims that its store compares versions, but the store does not.
fn a_store_that_overwrites_is_refused() {
    let machines = Machines::on_a_file(Settings::default());
    let script = "hello(True)\ndef step(ask):\n    ask.pop('if', None)\nserve(step)";
    machines.helper_world.write_helper("odd", script);
    let output = machines.login("+0", "one").expect(6);
    assert!(output.stderr.contains("overwrote"), "{output:#?}");
    let requests = machines.helper_world.world.api.requests();
    assert!(requests.is_empty(), "asked the server before the store");
}

/// A machine that sets the server after the store does not end the session of the others.
fn store_is_set_before_the_server() {
    let machines = Machines::on_a_file(Settings::default());
    machines.login("+0", "one").expect(0);
    let url = machines.helper_world.world.api.base_url();
    let run = |args: &[&str]| machines.run("two", args);
    run(&["profile", "set", "store", &machines.store]).expect(0);
    run(&["whoami"]).expect(3);
    run(&["profile", "set", "api_url", &url]).expect(0);
    run(&["whoami"]).expect(0);
    let output = run(&["profile", "set", "api_url", "https://other.example"]).expect(2);
    assert!(output.stderr.contains("logout --local"), "{output:#?}");
    machines.run("one", &["whoami"]).expect(0);
    assert!(machines.helper_world.world.api.session_alive(EMAIL));
}

/// `logout --local` needs neither the store nor its helper, and leaves the session to others.
fn an_unavailable_store_can_be_left() {
    let machines = Machines::on_a_file(Settings::default());
    machines.login("+0", "one").expect(0);
    machines.join("two");
    let helper = machines
        .helper_world
        .world
        .home()
        .join("bin/rememberizer-store-odd");
    let away = helper.with_extension("away");
    std::fs::rename(&helper, &away).unwrap();
    let left = machines.run("two", &["logout", "--local"]).expect(0);
    assert!(
        left.stderr.contains("nothing was removed from"),
        "{left:#?}"
    );
    machines
        .run("two", &["profile", "set", "store", "file"])
        .expect(0);
    std::fs::rename(&away, &helper).unwrap();
    let left = machines.run("one", &["logout", "--local"]).expect(0);
    assert!(left.stderr.contains("still in"), "{left:#?}");
    machines
        .run("two", &["profile", "set", "store", &machines.store])
        .expect(0);
    machines.run("two", &["token"]).expect(0);
    assert!(machines.helper_world.world.api.session_alive(EMAIL));
}

/// The helper misbehaves once, at the put of the lease or of the result. There is one exchange,
/// its result is stored, and no helper process and no secret in the output remains.
fn hostile(more: &[(&str, &str)]) {
    let machines = Machines::on_a_file(Settings::default());
    let api = &machines.helper_world.world.api;
    machines.login("+0", "one").expect(0);
    let all = match more == SILENT {
        true => more.to_vec(),
        false => [&MISDEEDS[..], more].concat(),
    };
    for (what, deed) in all {
        for step in ["lease", "result"] {
            let script = format!(
                "hello(True)\ndef step(ask):\n    once = place + '.once'\n    \
                 if kind(ask) == '{step}' and not os.path.exists(once):\n        \
                 open(once, 'w').close()\n        {deed}\n        return True\nserve(step)"
            );
            let once = machines.helper_world.world.home().join("entries.once");
            expire_access(&machines);
            drop(std::fs::remove_file(&once));
            machines.helper_world.write_helper("odd", &script);
            let (before, started) = (api.exchanges(), Instant::now());
            let output = machines.run("one", &["token", "-v"]);
            let context = format!("{what} at the {step}: {output:#?}");
            assert!(once.exists(), "{context}");
            // If the store refuses the lease, no token was used.
            let is_refused = deed == SHOWS && step == "lease";
            assert_eq!(output.code, if is_refused { 6 } else { 0 }, "{context}");
            assert_eq!(
                api.exchanges() - before,
                u64::from(!is_refused),
                "{context}"
            );
            assert!(started.elapsed() < Duration::from_secs(40), "{context}");
            assert!(!output.stderr.contains("eyJ"), "{context}");
            machines.helper_world.assert_no_helper_left(&context);
            if !is_refused {
                assert!(api.access_works(output.stdout.trim()), "{context}");
                let entry = machines.helper_world.entry();
                assert_eq!(entry["access_token"], output.stdout.trim(), "{context}");
                assert!(entry.get("lease").is_none(), "{context}");
            }
        }
    }
}

const QUICK: [(&str, &str); 2] = [
    ("dies after the write", "done(ask); os._exit(1)"),
    ("fails and shows the entry", SHOWS),
];

const SILENT: [(&str, &str); 4] = [
    ("is silent", "time.sleep(60)"),
    (
        "ignores SIGTERM",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
    ),
    ("is late", "time.sleep(3); answer(ask)"),
    ("is silent after the write", "done(ask); time.sleep(60)"),
];

const SHOWS: &str =
    "say(json.dumps({'ok': False, 'error': 'failed', 'message': str(decoded(ask['value']))}))";
