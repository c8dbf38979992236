//! Wrong clocks: no loop of exchanges, no expired token, and the skew is reported.

use std::path::Path;
use std::process::Command;

use crate::sandbox::{Dialect, Settings};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    let faketime = [Part::Command("faketime")];
    vec![
        test("clocks::an_hour_off_both_ways", an_hour_off_both_ways).needs(&faketime),
        test(
            "clocks::clock_changes_after_login",
            clock_changes_after_login,
        )
        .needs(&faketime),
        test("clocks::a_year_off", a_year_off).needs(&faketime),
        test("clocks::lifetime_of_each_header", lifetime_of_each_header),
        test("clocks::server_clock_off", server_clock_off),
    ]
}

/// Runs the program with its clock off by `offset`.
fn run_with_clock(world: &World, offset: &str, args: &[&str]) -> Output {
    let mut command = Command::new("faketime");
    world.set_environment(&mut command);
    command
        .args(["-f", offset])
        .arg(World::program())
        .args(args);
    command.env("REMEMBERIZER_PASSWORD", crate::support::world::PASSWORD);
    Output::from_process(command.output().unwrap())
}

/// Logs in and uses the session with a wrong clock.
fn under_clock(offset: &str, expected: &str) {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    run_with_clock(
        &world,
        offset,
        &[
            "login",
            crate::support::world::EMAIL,
            "--store=file",
            "--api-url",
            &url,
        ],
    )
    .expect(0);
    for _ in 0..5 {
        let token = run_with_clock(&world, offset, &["token"]).expect(0).stdout;
        assert!(
            world.api.access_works(token.trim()),
            "{offset}: no expired token"
        );
    }
    assert_eq!(world.api.exchanges(), 0, "{offset}: no loop");
    let who = run_with_clock(&world, offset, &["whoami"]).expect(0).stdout;
    assert!(who.contains(expected), "{offset}: {who}");
    assert_eq!(world.api.exchanges(), 0);
}

fn an_hour_off_both_ways() {
    under_clock("-1h", "clock    1h behind the server's\n");
    under_clock("+1h", "clock    1h ahead of the server's\n");
}

fn a_year_off() {
    under_clock("-365d", "behind the server's");
    under_clock("+365d", "ahead of the server's");
}

/// The clock jumps after the login, which leads to one exchange.
fn clock_changes_after_login() {
    for offset in ["-1h", "+1h"] {
        let world = World::new(Store::File);
        world.login();
        for _ in 0..5 {
            let token = run_with_clock(&world, offset, &["token"]).expect(0).stdout;
            assert!(world.api.access_works(token.trim()), "{offset}");
        }
        assert_eq!(
            world.api.exchanges(),
            1,
            "{offset}: renewed once for the new clock"
        );
        // The clock is set back.
        for _ in 0..5 {
            let token = world.run(&["token"]).expect(0).stdout;
            assert!(world.api.access_works(token.trim()), "{offset}");
        }
        assert_eq!(world.api.exchanges(), 2, "{offset}");
    }
}

/// The lifetime is Max-Age, else Expires minus the response's Date, else the token's `exp − iat`.
fn lifetime_of_each_header() {
    use crate::sandbox::CookieExpiry;
    for (dialect, cookie_expiry) in [
        (Dialect::SimpleJwt, CookieExpiry::Both),
        (Dialect::SimpleJwt, CookieExpiry::MaxAge),
        (Dialect::SimpleJwt, CookieExpiry::Expires),
        (Dialect::SimpleJwt, CookieExpiry::None),
        (Dialect::FusionAuth, CookieExpiry::Both),
    ] {
        let world = World::with_settings(
            Store::File,
            Settings {
                dialect,
                cookie_expiry,
                clock_offset: 5000,
                ..Settings::default()
            },
        );
        world.login();
        let lifetime = world.entry_json()["access"]["lifetime"].as_i64().unwrap();
        assert!(
            (lifetime - 300_000).abs() <= 1000,
            "{dialect:?} {cookie_expiry:?}: {lifetime}"
        );
    }
    // A token of unknown lifetime is used until the server refuses it.
    let world = World::new(Store::File);
    world.login();
    world.edit_entry(|entry| entry["access"] = serde_json::Value::Null);
    world.run(&["token"]).expect(0);
    world.api.set(|s| s.access_lifetime = 300);
    assert_eq!(world.api.exchanges(), 0);
}

fn server_clock_off() {
    for offset in [-3600, 3600] {
        let world = World::with_settings(
            Store::File,
            Settings {
                clock_offset: offset,
                ..Settings::default()
            },
        );
        world.login();
        for _ in 0..3 {
            world.run(&["token"]).expect(0);
        }
        assert_eq!(world.api.exchanges(), 0);
        let json = world.run(&["whoami", "--json"]).expect(0).json();
        let skew = json["clock_skew_seconds"].as_i64().unwrap();
        assert!((skew - offset).abs() <= 2, "{skew}");
        assert!(Path::new(&world.session_file("default")).is_file());
    }
}
