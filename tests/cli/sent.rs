//! The requests to each endpoint, for servers with each set of cookie names: they contain only
//! what is needed.

use crate::sandbox::{Dialect, RecordedRequest, RotationPolicy, Settings, SignupTokens};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Part, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test(
            "sent::only_what_each_endpoint_needs",
            only_what_each_endpoint_needs,
        ),
        test(
            "sent::cookie_names_and_rotations",
            cookie_names_and_rotations,
        ),
        test("sent::signup_tokens_in_the_body", || {
            signup(SignupTokens::Body, true)
        }),
        test("sent::signup_tokens_in_data", || {
            signup(SignupTokens::BodyLong, true)
        }),
        test("sent::signup_without_tokens", || {
            signup(SignupTokens::None, false)
        }),
        test("sent::signup_without_content", || {
            signup(SignupTokens::NoContent, false)
        }),
        test(
            "sent::cleared_cookies_do_not_end_the_session",
            cleared_cookies_do_not_end_the_session,
        ),
        test("sent::malformed_tokens", malformed_tokens),
        test("sent::no_token_in_any_file", no_token_in_any_file).needs(&[Part::Keyring]),
        test("sent::other_cookie_names", other_cookie_names),
        test("sent::one_pair_of_cookies", one_pair_of_cookies),
    ];
    tests.extend(on_both_stores(
        "sent::expired_access_token_is_not_sent",
        expired_access_token_is_not_sent,
    ));
    tests
}

fn only_request(world: &World, path: &str) -> RecordedRequest {
    let mut requests = world.api.requests();
    requests.retain(|request| request.path == path);
    assert_eq!(requests.len(), 1, "{path}");
    requests.remove(0)
}

fn only_what_each_endpoint_needs() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    let run = |args: &[&str]| {
        world
            .run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], args)
            .expect(0);
    };
    let bob = "bob@example.com";
    run(&[
        "signup",
        "--email",
        bob,
        "--name",
        "Bob",
        "--api-url",
        &url,
        "--store",
        "file",
    ]);
    run(&["verify", &world.api.mailed_code(bob).unwrap()]);
    run(&["whoami"]);
    run(&["whoami", "--full"]);
    run(&["refresh"]);
    run(&["logout"]);
    run(&["login", bob]);

    for path in ["/auth/signup/", "/auth/signin/"] {
        let request = only_request(&world, path);
        assert!(
            request.cookies.is_empty() && request.bearer.is_none(),
            "{request:?}"
        );
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert!(request.json().get("captcha").is_none(), "none was given");
    }
    assert_eq!(only_request(&world, "/auth/signup/").json()["name"], "Bob");
    assert_eq!(only_request(&world, "/auth/signin/").json()["login"], bob);
    for path in ["/auth/custom-refresh/", "/auth/custom-logout/"] {
        let request = only_request(&world, path);
        assert!(
            request.bearer.is_none() && request.body.is_empty(),
            "{request:?}"
        );
        let names: Vec<_> = request
            .cookies
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["refresh_token"]);
        assert_eq!(request.header("content-length"), Some("0"));
        assert_eq!(request.header("content-type"), None);
    }
    for path in ["/auth/verify-email/", "/account/", "/me/"] {
        let request = only_request(&world, path);
        assert!(
            request.cookies.is_empty() && request.bearer.is_some(),
            "{request:?}"
        );
    }
    for request in world.api.requests() {
        assert_eq!(request.header("accept"), Some("application/json"));
        assert_eq!(request.header("origin"), None);
    }
}

fn cookie_names_and_rotations() {
    for dialect in [Dialect::SimpleJwt, Dialect::FusionAuth] {
        for rotation in [
            RotationPolicy::Off,
            RotationPolicy::Rotate,
            RotationPolicy::Blacklist,
            RotationPolicy::RevokeFamily,
        ] {
            let world = World::with_settings(
                Store::File,
                Settings {
                    dialect,
                    rotation,
                    foreign_cookies: true,
                    ..Settings::default()
                },
            );
            world.login();
            let first = world.entry_json()["refresh_token"].clone();
            for _ in 0..3 {
                world.run(&["refresh"]).expect(0);
                world.run(&["whoami"]).expect(0);
            }
            let last = world.entry_json()["refresh_token"].clone();
            assert_eq!(
                first == last,
                rotation == RotationPolicy::Off,
                "{dialect:?} {rotation:?}"
            );
            assert!(world.api.refresh_works(last.as_str().unwrap()));
            world.run(&["logout"]).expect(0);
            assert!(!world.api.session_alive(EMAIL), "{dialect:?} {rotation:?}");
            assert_eq!(world.entry(), None);
        }
    }
}

fn signup(tokens: SignupTokens, signed_in: bool) {
    let world = World::with_settings(
        Store::File,
        Settings {
            signup_tokens: tokens,
            ..Settings::default()
        },
    );
    let url = world.api.base_url();
    let bob = ["signup", "--email", "bob@example.com", "--name", "Bob"];
    let output = world
        .run_env(
            &[("REMEMBERIZER_PASSWORD", PASSWORD)],
            &[&bob[..], &["--api-url", &url, "--store", "file"]].concat(),
        )
        .expect(0);
    assert_eq!(world.entry().is_some(), signed_in, "{output:?}");
    if signed_in {
        world.run(&["whoami"]).expect(0);
    } else {
        assert_eq!(
            output.stderr,
            "bob@example.com is signed up; a code was mailed. First run rememberizer login, then rememberizer verify\n"
        );
        world.run(&["verify", "123456"]).expect(3);
        world
            .run_env(
                &[("REMEMBERIZER_PASSWORD", PASSWORD)],
                &["login", "bob@example.com"],
            )
            .expect(0);
    }
    let code = world.api.mailed_code("bob@example.com").unwrap();
    world.run(&["verify", &code]).expect(0);
}

fn cleared_cookies_do_not_end_the_session() {
    let world = World::new(Store::File);
    world.login();
    let clears = [
        (
            "Set-Cookie",
            r#"access_token=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax"#,
        ),
        (
            "Set-Cookie",
            r#"refresh_token=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax"#,
        ),
    ];
    let before = world.entry();
    world
        .api
        .fault(crate::sandbox::Fault::answer(204, &clears, "").at("/auth/custom-refresh/"));
    // A successful response that clears the cookies neither starts nor ends a session.
    world.run(&["refresh"]).expect(1);
    assert_eq!(world.entry(), before);
}

/// A token that cannot be sent is a usage error that names the source of the token.
fn malformed_tokens() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    let file = world.home().join("token");
    let path = file.to_str().unwrap();
    let long = "x".repeat(20_000);
    for token in ["a;b", "a\u{e9}b", "a\nb", &long] {
        std::fs::write(&file, token).unwrap();
        let target = ["--json", "--store", "file", "--api-url", &url];
        let login = [&["login"], &target[..]].concat();
        let variable = |name| world.run_env(&[(name, token)], &["whoami", "--json"]);
        for (output, source) in [
            (
                world.run_stdin(
                    token.as_bytes(),
                    &[&login[..], &["--refresh-token-stdin"]].concat(),
                ),
                "stdin",
            ),
            (
                world.run(&[&login[..], &["--refresh-token-file", path]].concat()),
                path,
            ),
            (
                variable("REMEMBERIZER_ACCESS_TOKEN"),
                "REMEMBERIZER_ACCESS_TOKEN",
            ),
            (
                variable("REMEMBERIZER_REFRESH_TOKEN"),
                "REMEMBERIZER_REFRESH_TOKEN",
            ),
        ] {
            let output = output.expect(2);
            assert_eq!(output.error_code(), "usage", "{output:?}");
            assert!(output.stdout.contains(source), "{output:?}");
            assert!(!output.stdout.contains(token), "{output:?}");
        }
    }
    let cookies = [
        "login",
        "--cookies=-",
        "--store=file",
        "--json",
        "--api-url",
        &url,
    ];
    let output = world
        .run_stdin("refresh_token=a\u{e9}b".as_bytes(), &cookies)
        .expect(2);
    assert_eq!(output.error_code(), "usage", "{output:?}");
    assert!(world.api.requests().is_empty());
    // A login ignores the variables, with a warning.
    let output = world
        .run_env(
            &[
                ("REMEMBERIZER_PASSWORD", PASSWORD),
                ("REMEMBERIZER_ACCESS_TOKEN", "a;b"),
            ],
            &["login", EMAIL, "--store", "file", "--api-url", &url],
        )
        .expect(0);
    assert!(
        output.stderr.contains("REMEMBERIZER_ACCESS_TOKEN is set"),
        "{output:?}"
    );
}

fn no_token_in_any_file() {
    let world = World::new(Store::Keyring);
    world.login();
    world.run(&["refresh"]).expect(0);
    let entry = world.entry_json();
    let tokens = [&entry["refresh_token"], &entry["access_token"]].map(|t| t.as_str().unwrap());
    let grep = std::process::Command::new("grep")
        .args(["-rlF", "-e", tokens[0], "-e", tokens[1], "-e", PASSWORD])
        .arg(world.home())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&grep.stdout),
        "",
        "a secret is in a file"
    );
    assert!(world.config_dir().join("profiles.json").is_file());
}

fn other_cookie_names() {
    let world = World::with_cookie_names("app.at", "app.rt");
    let url = world.api.base_url();
    world.run(&["profile", "set", "api_url", &url]).expect(0);
    let login = |code| {
        world
            .run_env(
                &[("REMEMBERIZER_PASSWORD", PASSWORD)],
                &["login", EMAIL, "--store", "file"],
            )
            .expect(code)
    };
    let refused = login(1);
    assert!(
        refused.stderr.contains("profile set refresh_cookie NAME"),
        "{refused:?}"
    );
    world
        .run(&["profile", "set", "refresh_cookie", "app.rt"])
        .expect(0);
    login(0);
    world.run(&["whoami"]).expect(0);
    world.run(&["refresh"]).expect(0);
    let refresh = world.entry_json()["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(world.api.refresh_works(&refresh));
    world.run(&["logout"]).expect(0);
    assert!(!world.api.refresh_works(&refresh));
}

/// If there are no cookies of the configured names, the only pair of access and refresh cookies
/// is used.
fn one_pair_of_cookies() {
    let world = World::with_cookie_names("app.access", "app.refresh");
    world.api.set(|s| s.foreign_cookies = true);
    let output = world.login();
    let text = "the server's cookies are named app.access and app.refresh; the profile now contains these names\n";
    assert!(output.stderr.contains(text), "{output:?}");
    let shown = world.run(&["profile", "show", "--json"]).expect(0).json();
    assert_eq!(
        (&shown["access_cookie"], &shown["refresh_cookie"]),
        (&"app.access".into(), &"app.refresh".into())
    );
    world.run(&["refresh"]).expect(0);
    world.run(&["whoami"]).expect(0);
    world.run(&["logout"]).expect(0);
    assert!(!world.api.session_alive(EMAIL));
    // Ambiguous names are not used.
    let world = World::with_cookie_names("app.access.refresh", "app.refresh");
    let url = world.api.base_url();
    let args = ["login", EMAIL, "--store", "file", "--api-url", &url];
    world
        .run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], &args)
        .expect(1);
    assert_eq!(world.entry(), None);
}

fn expired_access_token_is_not_sent(world: &World) {
    world.api.set(|s| s.access_lifetime = 1);
    let bob = ["signup", "--email", "bob@example.com", "--name", "Bob"];
    let url = world.api.base_url();
    world
        .run_env(
            &[("REMEMBERIZER_PASSWORD", PASSWORD)],
            &[&bob[..], &["--api-url", &url, world.store_flag()]].concat(),
        )
        .expect(0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let code = world.api.mailed_code("bob@example.com").unwrap();
    world.run(&["verify", &code]).expect(0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world.run(&["whoami"]).expect(0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world.run(&["logout"]).expect(0);
    assert!(!world.api.session_alive("bob@example.com"));
}
