//! A session from login to logout, in both stores: the output, the requests, and what remains
//! in the store.

use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Test, World, on_both_stores};

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    tests.extend(on_both_stores("life::login_to_logout", login_to_logout));
    tests
}

fn login_to_logout(world: &World) {
    let url = world.api.base_url();
    let password = [("REMEMBERIZER_PASSWORD", PASSWORD)];
    let output = world
        .run_env(
            &password,
            &[
                "signup",
                "--email",
                "bob@example.com",
                "--name",
                "Bob",
                "--api-url",
                &url,
                world.store_flag(),
            ],
        )
        .expect(0);
    assert_eq!(output.stdout, "");
    assert!(world.entry().is_some());
    let code = world.api.mailed_code("bob@example.com").unwrap();
    world.run(&["verify", &code]).expect(0);
    assert!(world.api.account("bob@example.com").unwrap().verified);
    let me = world.run(&["whoami", "--json"]).expect(0).json();
    assert_eq!(me["account"]["email"], "bob@example.com");
    let token = world.run(&["token"]).expect(0).stdout;
    assert!(world.api.access_works(token.trim()));
    world.run(&["refresh"]).expect(0);
    assert!(world.api.session_alive("bob@example.com"));
    world.run(&["logout"]).expect(0);
    assert!(!world.api.session_alive("bob@example.com"));
    assert_eq!(world.entry(), None);
    assert_eq!(world.run(&["whoami"]).code, 3);
    world.run_env(&password, &["login", EMAIL]).expect(0);
    assert!(world.api.session_alive(EMAIL));
}
