//! Sessions that expire: `refresh --all`, `whoami --expires-within`, and the warning at a
//! terminal.

use crate::sandbox::{Account, BodyKind, CookieExpiry, Dialect, Fault, RotationPolicy, Settings};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Screen, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("ends::expires_within", expires_within),
        test("ends::expiry_unknown", expiry_unknown),
        test("ends::warned_once_a_day", warned_once_a_day).needs(&[Part::Command("tmux")]),
        test("ends::profile_use_asks", profile_use_asks).needs(&[Part::Command("tmux")]),
        test("ends::refresh_all_reports_each", refresh_all_reports_each),
    ];
    tests.extend(on_both_stores(
        "ends::refresh_all_at_once",
        refresh_all_at_once,
    ));
    tests
}

const PROFILES: [&str; 3] = ["default", "second", "third"];

/// Twenty processes renew three profiles on a server that revokes a session when a token is
/// reused.
fn refresh_all_at_once(world: &World) {
    for (number, profile) in PROFILES.iter().enumerate() {
        // Each profile has its own account, because the reuse of a token ends all sessions of
        // an account.
        let login = format!("user{number}@example.com");
        world.api.add_account(Account::new(&login, PASSWORD));
        let url = world.api.base_url();
        world
            .run_env(
                &[("REMEMBERIZER_PASSWORD", PASSWORD)],
                &[
                    "login",
                    &login,
                    "--api-url",
                    &url,
                    world.store_flag(),
                    "-p",
                    profile,
                ],
            )
            .expect(0);
    }
    world
        .api
        .set(|settings| settings.rotation = RotationPolicy::RevokeFamily);
    world.api.clear_requests();
    let before = world.api.exchanges();
    let running: Vec<_> = (0..20)
        .map(|_| world.spawn(&["refresh", "--all"]))
        .collect();
    for child in running {
        Output::from_process(child.wait_with_output().unwrap()).expect(0);
    }
    let sent: Vec<_> = world
        .api
        .requests()
        .iter()
        .filter_map(|request| request.header("cookie").map(str::to_owned))
        .collect();
    let mut once = sent.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), sent.len(), "no token was exchanged twice");
    assert_eq!(world.api.exchanges() - before, sent.len() as u64);
    for number in 0..3 {
        assert!(
            world
                .api
                .session_alive(&format!("user{number}@example.com"))
        );
    }
    println!("{} exchanges for 20 runs over 3 profiles", sent.len());
}

fn refresh_all_reports_each() {
    let world = World::new(Store::File);
    for profile in PROFILES {
        world.login_as(profile);
    }
    world.run(&["logout", "-p", "third"]).expect(0);
    let json = world.run(&["refresh", "--all", "--json"]).expect(0).json();
    let names: Vec<_> = json["refresh"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["profile"])
        .collect();
    assert_eq!(names, ["default", "second"]);
    let output = world
        .run(&["refresh", "--all", "--min-ttl", "1s"])
        .expect(0);
    assert!(
        output.stderr.starts_with("profile default: still fresh; ")
            && output.stderr.contains("\nprofile second: still fresh; "),
        "{output:?}"
    );
    // If one renewal fails, the other profile is renewed nevertheless.
    world
        .api
        .fault(Fault::status(503, BodyKind::Html).at("/auth/custom-refresh/"));
    let json = world.run(&["refresh", "--all", "--json"]).expect(5).json();
    assert_eq!(json["error"]["code"], "unavailable");
    assert_eq!(json["refresh"][0]["error"], "unavailable");
    assert_eq!(json["refresh"][1]["renewed"], true);
    let message = "refresh failed for 1 of 2 profiles: default";
    assert_eq!(json["error"]["message"], message);
    world
        .api
        .fault(Fault::status(503, BodyKind::Html).at("/auth/custom-refresh/"));
    let output = world.run(&["refresh", "--all", "--quiet"]).expect(5);
    assert!(
        output.stderr.starts_with("warning: profile default: ")
            && output
                .stderr
                .contains(&format!("\nerror: {message}\nhint: ")),
        "{output:?}"
    );
}

fn expires_within() {
    let world = World::new(Store::File);
    world.login();
    for args in [&["whoami"][..], &["whoami", "--offline"]] {
        let with = |duration| [args, &["--expires-within", duration]].concat();
        world.run(&with("3days")).expect(0);
        let output = world.run(&with("31days")).expect(3);
        assert!(output.stdout.contains("session  expires "), "{output:?}");
        assert!(
            output.stderr.starts_with("error: the session expires "),
            "{output:?}"
        );
        let output = world
            .run(&[&with("31days")[..], &["--json"]].concat())
            .expect(3);
        assert_eq!(output.error_code(), "session_ending");
        assert_eq!(output.json()["profile"], "default");
    }
}

fn expiry_unknown() {
    let settings = Settings {
        dialect: Dialect::FusionAuth,
        cookie_expiry: CookieExpiry::None,
        ..Settings::default()
    };
    let world = World::with_settings(Store::File, settings);
    world.login();
    let output = world
        .run(&["whoami", "--expires-within", "31days"])
        .expect(0);
    assert!(
        output.stdout.contains("session  expiry unknown"),
        "{output:?}"
    );
    assert!(output.stderr.contains("expiry unknown"), "{output:?}");
    world.run(&["refresh", "--all"]).expect(0);
}

fn warned_once_a_day() {
    let world = World::with_settings(Store::File, Settings::default());
    world.login();
    let line = "warning: the session of profile default ends at ";
    assert!(
        !world.run(&["whoami"]).expect(0).stderr.contains(line),
        "no terminal"
    );
    let screen = Screen::new(&world);
    assert!(!screen.run("rememberizer whoami --quiet").1.contains(line));
    assert!(screen.run("rememberizer token >/dev/null").1.contains(line));
    assert!(!screen.run("rememberizer token >/dev/null").1.contains(line));
    assert!(world.api.session_alive(EMAIL));
}

fn profile_use_asks() {
    let world = World::new(Store::File);
    world.login();
    world.login_as("work");
    let output = world.run(&["profile", "use", "--json"]).expect(2);
    assert_eq!(output.error_code(), "input_required");
    let screen = Screen::new(&world);
    screen.start("rememberizer profile use");
    screen.wait_for("work");
    screen.press("Down");
    screen.press("Enter");
    assert_eq!(screen.wait_for_exit().0, 0);
    assert_eq!(world.profiles()["default"], "work");
}
