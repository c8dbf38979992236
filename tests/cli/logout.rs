//! Logout: revokes the session, removes it from the stores, and reports each result.

use crate::sandbox::{BodyKind, Fault};
use crate::support::world::EMAIL;
use crate::support::{Part, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let mut tests =
        vec![test("logout::copies_in_both_stores", copies_in_both_stores).needs(&[Part::Keyring])];
    tests.extend(on_both_stores("logout::reports", reports));
    tests.extend(on_both_stores(
        "logout::server_unreachable",
        server_unreachable,
    ));
    tests.extend(on_both_stores("logout::all", all));
    tests.extend(on_both_stores(
        "logout::login_over_a_session",
        login_over_a_session,
    ));
    tests
}

fn reports(world: &World) {
    let place = ["a private file", "the keyring"][usize::from(world.store == Store::Keyring)];
    world.login();
    let output = world.run(&["logout"]).expect(0);
    assert_eq!(
        (output.stdout.as_str(), output.stderr),
        (
            "",
            format!("signed out of profile default: revoked on the server; removed from {place}\n")
        )
    );
    assert!(!world.api.session_alive(EMAIL));
    assert_eq!(world.entry(), None);
    let again = world.run(&["logout"]).expect(0);
    assert_eq!(again.stderr, "profile default was not signed in\n");
    world.login();
    let output = world.run(&["logout", "--local"]).expect(0);
    assert_eq!(
        output.stderr,
        format!(
            "signed out of profile default: not revoked on the server (--local); removed from {place}\n"
        )
    );
    assert!(world.api.requests().is_empty() && world.entry().is_none());
    assert!(world.api.session_alive(EMAIL));
    world.login();
    world.api.revoke_all();
    let json = world.run(&["logout", "--json"]).expect(0).json();
    assert_eq!(json["server"], "already_ended");
    assert_eq!(
        (json["removed"].clone(), world.entry()),
        (true.into(), None)
    );
}

fn server_unreachable(world: &World) {
    world.login();
    world
        .api
        .fault(Fault::status(503, BodyKind::Html).at("/auth/custom-logout/"));
    let output = world.run(&["logout", "--json"]).expect(5);
    let json = output.json();
    assert_eq!(json["error"]["code"], "unavailable");
    assert_eq!(json["logout"]["server"], "unreached");
    assert_eq!(json["logout"]["removed"], true);
    assert_eq!(world.entry(), None, "the local part is done");
    world.login();
    world.api.fault(Fault::close().at("/auth/custom-logout/"));
    let output = world.run(&["logout"]).expect(5);
    assert!(
        output
            .stderr
            .contains("error: signed out of profile default: not revoked on the server: "),
        "{output:?}"
    );
    assert_eq!(world.entry(), None);
    assert_eq!(world.run(&["whoami"]).code, 3);
}

fn all(world: &World) {
    world.login();
    world.login_as("work");
    let json = world.run(&["logout", "--all", "--json"]).expect(0).json();
    assert_eq!(json["logout"].as_array().unwrap().len(), 2);
    assert_eq!((world.entry(), world.entry_of("work")), (None, None));
    assert!(!world.api.session_alive(EMAIL));
    world.login();
    world.login_as("work");
    world
        .api
        .fault(Fault::status(500, BodyKind::Html).at("/auth/custom-logout/"));
    let output = world.run(&["logout", "--all"]).expect(5);
    assert!(
        output.stderr.contains("profile default: ") && output.stderr.contains("profile work: "),
        "{output:?}"
    );
    assert_eq!((world.entry(), world.entry_of("work")), (None, None));
}

fn login_over_a_session(world: &World) {
    world.login();
    let old = world.entry_json()["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    // The old session is revoked after the new one is stored. A failure is only reported.
    world
        .api
        .fault(Fault::status(503, BodyKind::Html).at("/auth/custom-logout/"));
    let output = world.login();
    assert!(
        output
            .stderr
            .contains("warning: the previous session: not revoked on the server: "),
        "{output:?}"
    );
    let new = world.entry_json()["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(new, old);
    assert!(world.api.refresh_works(&old) && world.api.refresh_works(&new));
    world.login();
    assert!(!world.api.refresh_works(&new), "revoked");
    world.run(&["refresh"]).expect(0);
    // A refused login does not change the store.
    let before = world.entry();
    world
        .run_env(&[("REMEMBERIZER_PASSWORD", "wrong")], &["login", EMAIL])
        .expect(4);
    assert_eq!(world.entry(), before);
}

/// An old session in the other store is not used, and a login or logout removes it.
fn copies_in_both_stores() {
    let world = World::new(Store::Keyring);
    world.login();
    let left_over = world.entry().unwrap();
    let file = world.session_file("default");
    let plant = || {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(
            &file,
            left_over.replace("refresh_token\":\"", "refresh_token\":\"x"),
        )
        .unwrap();
        crate::support::world::set_mode(&file, 0o600);
        crate::support::world::set_mode(file.parent().unwrap(), 0o700);
    };
    plant();
    world.run(&["refresh"]).expect(0);
    assert!(
        !world.entry_json()["refresh_token"]
            .as_str()
            .unwrap()
            .starts_with('x')
    );
    world.login();
    assert!(!file.exists(), "removed by a login");
    plant();
    world.run(&["logout"]).expect(0);
    assert!(
        !file.exists() && world.entry().is_none(),
        "removed by a logout"
    );
}
