//! Signals at any moment of a renewal. The session survives.

use std::process::Command;
use std::time::Duration;

use crate::sandbox::Delay;
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    tests.extend(on_both_stores(
        "signals::wait_for_the_write",
        wait_for_the_write,
    ));
    tests.push(test(
        "signals::lost_session_is_explained",
        lost_session_is_explained,
    ));
    tests.push(test("signals::blocked_stderr", blocked_stderr));
    tests.extend(on_both_stores("signals::random_moments", |world| {
        interrupted(world, 40)
    }));
    tests.extend(on_both_stores("signals::random_kills", |world| {
        killed(world, 40)
    }));
    tests.push(
        test("signals::random_moments_300::file", || {
            interrupted(&World::new(Store::File), 300)
        })
        .long(),
    );
    tests.push(
        test("signals::random_moments_300::keyring", || {
            interrupted(&World::new(Store::Keyring), 300)
        })
        .needs(&[Part::Keyring])
        .long(),
    );
    tests.push(
        test("signals::random_kills_300::file", || {
            killed(&World::new(Store::File), 300)
        })
        .long(),
    );
    tests.push(
        test("signals::random_kills_300::keyring", || {
            killed(&World::new(Store::Keyring), 300)
        })
        .needs(&[Part::Keyring])
        .long(),
    );
    tests
}

const SIGNALS: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

fn send_signal(signal: &str, pid: u32) {
    // Sending fails if the process has exited; ignore that.
    drop(
        Command::new("kill")
            .args([&format!("-{signal}"), &pid.to_string()])
            .output(),
    );
}

/// A signal during the exchange ends the process after the response is stored.
fn wait_for_the_write(world: &World) {
    world.login();
    let slow = Delay::before(Duration::from_millis(400)).at("/auth/custom-refresh/");
    world.api.set(|s| s.delays.push(slow));
    for (signal, code) in SIGNALS {
        let before = world.entry_json();
        let run = world.spawn_until_request(&["refresh", "--json"], "/auth/custom-refresh/");
        send_signal(signal, run.id());
        let output = Output::from_process(run.wait_with_output().unwrap()).expect(code);
        assert_eq!(output.error_code(), "interrupted", "{signal}");
        assert!(
            output.stderr.contains("saving the session before exiting"),
            "{output:?}"
        );
        let after = world.entry_json();
        assert_ne!(
            after["refresh_token"], before["refresh_token"],
            "{signal}: stored"
        );
        assert!(after["exchange_began"].is_null());
    }
    // If nothing can be lost, the process ends at once.
    world.api.set(|s| {
        s.delays.clear();
        s.delays
            .push(Delay::before(Duration::from_secs(20)).at("/account/"));
    });
    for (signal, code) in SIGNALS {
        let run = world.spawn_until_request(&["whoami"], "/account/");
        let sent = std::time::Instant::now();
        send_signal(signal, run.id());
        let output = Output::from_process(run.wait_with_output().unwrap()).expect(code);
        assert!(sent.elapsed() < Duration::from_secs(2), "{signal}");
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("", "error: interrupted\n")
        );
    }
}

/// A deferred signal does not suppress a message that a later run could not print.
fn lost_session_is_explained() {
    let world = World::new(Store::File);
    let slow = Delay::before(Duration::from_millis(600));
    let password = world.home().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let password = password.display().to_string();
    for (args, path, printed) in [
        (
            &["refresh"][..],
            "/auth/custom-refresh/",
            "could not be stored",
        ),
        (
            &["login", EMAIL, "--password-file", &password],
            "/auth/signin/",
            "could not be stored",
        ),
        (&["logout"], "/auth/custom-logout/", "Not a directory"),
    ] {
        world.login();
        world.api.set(|s| s.delays = vec![slow.clone().at(path)]);
        let run = world.spawn_until_request(args, path);
        let sessions = world.session_file("default").parent().unwrap().to_owned();
        let aside = sessions.with_extension("aside");
        std::fs::rename(&sessions, &aside).unwrap();
        std::fs::write(&sessions, "in the way").unwrap();
        send_signal("INT", run.id());
        let output = Output::from_process(run.wait_with_output().unwrap()).expect(6);
        assert!(output.stderr.contains(printed), "{args:?}: {output:?}");
        std::fs::remove_file(&sessions).unwrap();
        std::fs::rename(&aside, &sessions).unwrap();
        world.api.set(|s| s.delays.clear());
    }
}

/// If stderr is a full pipe that nobody reads, a second signal still ends the run.
fn blocked_stderr() {
    let world = World::new(Store::File);
    world.login();
    let slow = Delay::before(Duration::from_millis(600)).at("/auth/custom-refresh/");
    world.api.set(|s| s.delays = vec![slow]);
    let (unread, full) = std::io::pipe().unwrap();
    let mut filler = Command::new("timeout")
        .args(["1", "cat", "/dev/zero"])
        .stdout(full.try_clone().unwrap())
        .spawn()
        .unwrap();
    filler.wait().unwrap();
    let mut command = Command::new("env");
    world.set_environment(&mut command);
    command.arg("--default-signal=INT").arg(World::program());
    let mut run = command.arg("refresh").stderr(full).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let sessions = world.session_file("default").parent().unwrap().to_owned();
    std::fs::rename(&sessions, sessions.with_extension("aside")).unwrap();
    std::fs::write(&sessions, "in the way").unwrap();
    let started = std::time::Instant::now();
    while run.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(20) {
            run.kill().unwrap();
            panic!("signals have no effect");
        }
        send_signal("INT", run.id());
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(run.wait().unwrap().code(), Some(130));
    drop(unread);
}

/// Returns times that are spread over the whole run.
fn nth_delay(number: u32) -> Duration {
    let spread = number.wrapping_mul(2_654_435_761) % 60_000;
    Duration::from_micros(u64::from(spread))
}

fn interrupted(world: &World, count: u32) {
    world.login();
    let slow = Delay::before(Duration::from_millis(15)).at("/auth/custom-refresh/");
    world.api.set(|s| s.delays.push(slow));
    let mut codes = std::collections::BTreeMap::<i32, u32>::new();
    for number in 0..count {
        let (signal, _) = SIGNALS[number as usize % 2];
        let run = world.spawn(&["refresh"]);
        std::thread::sleep(nth_delay(number));
        send_signal(signal, run.id());
        let output = Output::from_process(run.wait_with_output().unwrap());
        assert!([0, 130, 143].contains(&output.code), "{number}: {output:?}");
        *codes.entry(output.code).or_default() += 1;
        let entry = world.entry_json();
        let refresh = entry["refresh_token"].as_str().unwrap();
        assert!(
            world.api.refresh_works(refresh),
            "{number}: the session works"
        );
    }
    println!("{count} refreshes with a signal: exit codes {codes:?}, no session lost");
    assert!(codes.len() > 1, "some were early, some late: {codes:?}");
}

/// SIGKILL cannot be deferred. A session is lost only if the run was killed after the server
/// had rotated the token and before the entry was written. The next run then explains the loss.
fn killed(world: &World, count: u32) {
    world.login();
    let slow = Delay::before(Duration::from_millis(15)).at("/auth/custom-refresh/");
    world.api.set(|s| s.delays.push(slow));
    let mut lost = 0;
    for number in 0..count {
        let exchanges = world.api.exchanges();
        let run = world.spawn(&["refresh"]);
        std::thread::sleep(nth_delay(number));
        send_signal("KILL", run.id());
        Output::from_process(run.wait_with_output().unwrap());
        // The server may still be handling the request.
        std::thread::sleep(Duration::from_millis(150));
        let rotated = world.api.exchanges() > exchanges;
        let entry = world.entry_json();
        let works = world
            .api
            .refresh_works(entry["refresh_token"].as_str().unwrap());
        if works {
            if number % 10 == 0 {
                world.run(&["refresh"]).expect(0);
            }
            continue;
        }
        lost += 1;
        assert!(
            rotated,
            "{number}: lost although the server had not rotated"
        );
        assert!(entry["exchange_began"].is_i64(), "{number}: marked");
        let output = world.run(&["refresh"]).expect(3);
        assert!(
            output.stderr.contains("a run that began to renew it at"),
            "{output:?}"
        );
        world.login();
    }
    println!("{count} refreshes killed: {lost} sessions lost, each explained by the next run");
}
