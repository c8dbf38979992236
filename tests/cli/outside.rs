//! Tokens of other programs: a login takes a token over, or a variable replaces the stored
//! session.

use crate::sandbox::RotationPolicy;
use crate::support::world::EMAIL;
use crate::support::{Output, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("outside::access_token", access_token),
        test("outside::refresh_token", refresh_token),
        test(
            "outside::rejected_never_falls_back",
            rejected_never_falls_back,
        ),
        test(
            "outside::variables_in_force_are_named",
            variables_in_force_are_named,
        ),
        test(
            "outside::taken_over_without_rotation",
            taken_over_without_rotation,
        ),
    ];
    tests.extend(on_both_stores("outside::take_over", take_over));
    tests
}

const ACCESS: &str = "REMEMBERIZER_ACCESS_TOKEN";
const REFRESH: &str = "REMEMBERIZER_REFRESH_TOKEN";

fn take_over(world: &World) {
    let url = world.api.base_url();
    let token = || world.api.begin_session(EMAIL).refresh.unwrap();
    let args = [
        "login",
        "--refresh-token-stdin",
        "--api-url",
        &url,
        world.store_flag(),
    ];
    let given = token();
    let output = world
        .run_stdin(format!("{given}\n").as_bytes(), &args)
        .expect(0);
    assert!(
        output
            .stderr
            .starts_with("signed in as ann@example.com on "),
        "{output:?}"
    );
    assert_ne!(
        world.entry_json()["refresh_token"],
        given,
        "proven by an exchange"
    );
    assert_eq!(world.profiles()["profiles"]["default"]["login"], EMAIL);
    // If a session exists, the new session is stored and then the old one is revoked.
    let old = world.entry_json()["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let file = world.home().join("token");
    std::fs::write(&file, token()).unwrap();
    let path = file.display().to_string();
    world
        .run(&["login", "--refresh-token-file", &path])
        .expect(0);
    assert!(
        !world.api.refresh_works(&old),
        "the previous session is revoked"
    );
    world.run(&["whoami"]).expect(0);
    // An invalid token does not change the session.
    let before = world.entry();
    world
        .run_stdin(b"nonsense", &["login", "--refresh-token-stdin"])
        .expect(4);
    assert_eq!(world.entry(), before);
    // Passes the session on to another profile.
    let handed = world.run(&["token", "--refresh-token"]).expect(0).stdout;
    world
        .run_stdin(
            handed.as_bytes(),
            &[
                "login",
                "--refresh-token-stdin",
                "--profile",
                "two",
                "--api-url",
                &url,
                world.store_flag(),
            ],
        )
        .expect(0);
    world.run(&["whoami", "--profile", "two"]).expect(0);
}

fn taken_over_without_rotation() {
    let world = World::new(Store::File);
    world.api.set(|s| s.rotation = RotationPolicy::Off);
    let url = world.api.base_url();
    let given = world.api.begin_session(EMAIL).refresh.unwrap();
    let args = [
        "login",
        "--refresh-token-stdin",
        "--api-url",
        &url,
        "--store=file",
    ];
    world.run_stdin(given.as_bytes(), &args).expect(0);
    assert_eq!(world.entry_json()["refresh_token"], given);
    // Takes the same session over again. It must not be revoked as the replaced session.
    world.run_stdin(given.as_bytes(), &args).expect(0);
    world.run(&["refresh"]).expect(0);
}

/// Creates a world with a stored session, and returns its entry, which a token in a variable
/// must not change.
fn with_stored() -> (World, Option<String>) {
    let world = World::new(Store::File);
    world.login();
    let entry = world.entry();
    (world, entry)
}

fn access_token() {
    let (world, stored) = with_stored();
    let access = world.api.begin_session(EMAIL).access;
    let run = |args: &[&str]| world.run_env(&[(ACCESS, &access)], args);
    assert_eq!(run(&["token"]).expect(0).stdout.trim(), access);
    let json = run(&["whoami", "--json"]).expect(0).json();
    assert_eq!(json["source"], ACCESS);
    assert!(
        run(&["whoami", "--offline"])
            .expect(0)
            .stdout
            .contains(ACCESS)
    );
    assert_eq!(run(&["refresh"]).code, 2);
    let logout = run(&["logout"]).expect(2);
    assert!(
        logout.stderr.contains(ACCESS) && logout.stderr.contains("is unchanged"),
        "{logout:?}"
    );
    assert_eq!(world.entry(), stored);
}

fn refresh_token() {
    let (world, stored) = with_stored();
    let mut refresh = world.api.begin_session(EMAIL).refresh.unwrap();
    let warned = |output: &Output| {
        assert!(
            output.stderr.starts_with(
                "warning: the value in REMEMBERIZER_REFRESH_TOKEN is no longer valid: "
            ),
            "{output:?}"
        );
        assert!(
            output.stderr.contains("token --refresh-token"),
            "{output:?}"
        );
    };
    // The command that prints the new refresh token does not warn.
    for _ in 0..3 {
        let output = world
            .run_env(&[(REFRESH, &refresh)], &["token", "--refresh-token"])
            .expect(0);
        assert_eq!(output.stderr, "");
        refresh = output.stdout.trim().to_owned();
    }
    let output = world.run_env(&[(REFRESH, &refresh)], &["whoami"]).expect(0);
    assert!(output.stdout.contains(REFRESH));
    warned(&output);
    let spent = world
        .run_env(&[(REFRESH, &refresh)], &["whoami", "--json"])
        .expect(3);
    assert_eq!(spent.error_code(), "session_ended");
    // If the server does not rotate tokens, no token is replaced.
    world.api.set(|s| s.rotation = RotationPolicy::Off);
    let refresh = world.api.begin_session(EMAIL).refresh.unwrap();
    for args in [&["token"][..], &["whoami"], &["refresh"]] {
        let output = world.run_env(&[(REFRESH, &refresh)], args).expect(0);
        assert!(!output.stderr.contains("warning"), "{output:?}");
    }
    let logout = world.run_env(&[(REFRESH, &refresh)], &["logout"]).expect(0);
    assert!(
        logout.stderr.contains("revoked on the server"),
        "{logout:?}"
    );
    assert!(!world.api.refresh_works(&refresh));
    assert_eq!(world.entry(), stored, "no store was touched");
    world.run(&["whoami"]).expect(0);
}

fn rejected_never_falls_back() {
    let (world, stored) = with_stored();
    for variable in [ACCESS, REFRESH] {
        for args in [&["whoami", "--json"][..], &["api", "me/", "--json"]] {
            let output = world.run_env(&[(variable, "nonsense")], args).expect(3);
            assert_eq!(output.error_code(), "session_ended");
            assert!(output.stdout.contains(variable), "{output:?}");
        }
    }
    // If the server refuses the access token in a variable, the refresh token in the other
    // variable is exchanged.
    let refresh = world.api.begin_session(EMAIL).refresh.unwrap();
    world
        .run_env(&[(ACCESS, "nonsense"), (REFRESH, &refresh)], &["whoami"])
        .expect(0);
    assert_eq!(world.entry(), stored);
    for seen in world.api.requests() {
        assert_ne!(
            seen.bearer.as_deref(),
            world.entry_json()["access_token"].as_str()
        );
    }
    // An empty variable counts as unset.
    world
        .run_env(&[(ACCESS, ""), (REFRESH, "")], &["whoami"])
        .expect(0);
}

fn variables_in_force_are_named() {
    let (world, _) = with_stored();
    let output = world.run_env(
        &[
            (ACCESS, "x"),
            ("REMEMBERIZER_PASSWORD", crate::support::world::PASSWORD),
        ],
        &["login", EMAIL],
    );
    assert!(
        output
            .expect(0)
            .stderr
            .contains("warning: REMEMBERIZER_ACCESS_TOKEN is set: other commands use it"),
    );
}
