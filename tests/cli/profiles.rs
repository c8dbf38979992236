//! Commands that read and change the profiles file, which is never reset.

use serde_json::json;

use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Part, Screen, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test(
            "profiles::list_show_use_set_remove",
            list_show_use_set_remove,
        ),
        test(
            "profiles::remove_asks_for_confirmation",
            remove_asks_for_confirmation,
        )
        .needs(&[Part::Command("tmux")]),
        test("profiles::names", names),
        test("profiles::names_that_clash", names_that_clash),
        test("profiles::origins", origins),
        test(
            "profiles::another_origin_ends_the_session",
            another_origin_ends_the_session,
        ),
        test(
            "profiles::malformed_is_never_reset",
            malformed_is_never_reset,
        ),
        test("profiles::unknown_keys_survive", unknown_keys_survive),
        test("profiles::every_key_survives", every_key_survives),
        test(
            "profiles::two_processes_lose_nothing",
            two_processes_lose_nothing,
        ),
        test("profiles::a_thousand_profiles", a_thousand_profiles),
        test("profiles::default_written_last", default_written_last),
    ]
}

fn list_show_use_set_remove() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    assert_eq!(
        world.run(&["profile", "list"]).expect(0).stderr,
        "there is no profile yet: rememberizer login creates one\n"
    );
    world.login();
    world.login_as("work");
    world.run(&["logout"]).expect(0);
    let list = world.run(&["profile", "list"]).expect(0).stdout;
    assert_eq!(
        list,
        format!(
            "* default  {url}  {EMAIL}  file  signed out\n  work     {url}  {EMAIL}  file  signed in\n"
        )
    );
    world.run(&["profile", "use", "work"]).expect(0);
    let json = world.run(&["profile", "list", "--json"]).expect(0).json();
    assert_eq!(
        json["profiles"][1],
        json!({"name": "work", "default": true, "api_url": url, "login": EMAIL, "store": "file", "signed_in": true})
    );
    world.run(&["whoami"]).expect(0);
    world
        .run(&["profile", "set", "login", "bob", "-p", "default"])
        .expect(0);
    let show = world
        .run(&["profile", "show", "default", "--json"])
        .expect(0)
        .json();
    assert_eq!(
        (&show["login"], &show["sign_in_url"]),
        (&"bob".into(), &json!(null))
    );
    assert!(
        world
            .run(&["profile", "show"])
            .expect(0)
            .stdout
            .contains("name            work\n")
    );
    for args in [
        &["profile", "show", "nobody"][..],
        &["profile", "use", "nobody"],
        &["profile", "remove", "nobody", "--yes"],
    ] {
        assert_eq!(
            world.run(args).expect(1).stderr,
            "error: there is no profile nobody\nhint: rememberizer profile list\n"
        );
    }
    world.run(&["profile", "set", "colour", "red"]).expect(2);
    world.run(&["profile", "set", "store", "attic"]).expect(2);
    world
        .run(&["profile", "set", "access_cookie", "a b"])
        .expect(2);
    world.run(&["profile", "remove", "work"]).expect(2);
    world.api.clear_requests();
    let removed = world.run(&["profile", "remove", "work", "--yes"]).expect(0);
    assert_eq!(
        removed.stderr,
        "signed out of profile work: revoked on the server; removed from a private file; profile work is removed\n"
    );
    assert_eq!(world.api.count("/auth/custom-logout/"), 1);
    assert!(!world.session_file("work").exists());
    assert_eq!(
        world.profiles()["default"],
        json!(null),
        "the default falls back"
    );
}

fn remove_asks_for_confirmation() {
    let world = World::new(Store::File);
    world.login();
    let screen = Screen::new(&world);
    screen.start("rememberizer profile remove default");
    screen.wait_for("Remove the Rememberizer profile default and end its session? [y/N]");
    screen.press("Enter");
    let (code, shown) = screen.wait_for_exit();
    assert!(
        code == 0 && shown.ends_with("nothing was removed"),
        "{shown}"
    );
    assert!(world.entry().is_some());
}

fn names() {
    let world = World::new(Store::File);
    for bad in ["", "../x", "a.b", "a b", "é", "x\ny", &"x".repeat(65)] {
        world.run(&["whoami", "--profile", bad]).expect(2);
        world.run(&["profile", "use", bad]).expect(2);
        if !bad.is_empty() {
            let output = world
                .run_env(&[("REMEMBERIZER_PROFILE", bad)], &["whoami"])
                .expect(2);
            assert!(
                output
                    .stderr
                    .starts_with("error: REMEMBERIZER_PROFILE: a profile name "),
                "{output:?}"
            );
        }
    }
    let long = "x".repeat(64);
    world
        .run(&["whoami", "--store=file", "--profile", &long])
        .expect(3);
}

/// `Work` and `work` would share a session on file systems that ignore case, and
/// Windows does not allow a file named `con`.
fn names_that_clash() {
    let world = World::new(Store::File);
    world.login_as("Work");
    world.api.clear_requests();
    for (name, why) in [
        (
            "work",
            "there is a profile Work, which differs in case only",
        ),
        ("CON", "Windows reserves that name"),
        ("nul", "Windows reserves that name"),
        ("Com1", "Windows reserves that name"),
        ("lpt9", "Windows reserves that name"),
    ] {
        for args in [
            &["login", EMAIL, "--store=file", "-p", name][..],
            &["signup", "--email", EMAIL, "--store=file", "-p", name],
            &["profile", "set", "login", "bob", "-p", name],
        ] {
            let output = world
                .run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], args)
                .expect(2);
            assert_eq!(
                output.stderr,
                format!(
                    "error: a profile cannot be named {name}: {why}\nhint: choose another name\n"
                )
            );
        }
        assert!(!world.session_file(name).exists());
    }
    assert!(world.api.requests().is_empty());
    for name in ["com", "com10", "console", "nul-2"] {
        world
            .run(&["profile", "set", "login", "bob", "-p", name])
            .expect(0);
    }
    // Existing profiles with such names can still be used.
    let mut profiles = world.profiles();
    for name in ["work", "aux"] {
        profiles["profiles"][name] = profiles["profiles"]["Work"].clone();
    }
    std::fs::write(
        world.config_dir().join("profiles.json"),
        profiles.to_string(),
    )
    .unwrap();
    world.login_as("work");
    world.login_as("aux");
    world.run(&["whoami", "-p", "aux"]).expect(0);
    world.run(&["whoami", "-p", "Work"]).expect(0);
}

fn origins() {
    let world = World::new(Store::File);
    for (bad, why) in [
        ("http://example.com", "only for localhost"),
        ("http://127.0.0.1.evil.test/api", "only for localhost"),
        (
            "https://user:hunter2@example.com",
            "a user name or a password",
        ),
        ("https://example.com/?q=hunter2", "a query or a fragment"),
        ("ftp://example.com", "must start with https://"),
        ("example.com", "must start with https://"),
        ("", "must start with https://"),
    ] {
        let output = world.run(&["profile", "set", "api_url", bad]).expect(2);
        assert!(output.stderr.contains(why), "{bad}: {output:?}");
        let flag = world.run(&["whoami", "--api-url", bad]).expect(2);
        let variable = world.run_env(
            &[("REMEMBERIZER_API_URL", bad)],
            &["whoami", "--store=file"],
        );
        if !bad.is_empty() {
            assert!(
                variable.stderr.contains(why) && variable.code == 2,
                "{variable:?}"
            );
        }
        for output in [output, flag, variable] {
            assert!(
                !output.stderr.contains("hunter2") || bad.contains("?q="),
                "{output:?}"
            );
        }
    }
    for (given, normal) in [
        (
            "https://API.Example.COM:443/v1///",
            "https://api.example.com/v1",
        ),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://[::1]:8080/api", "http://[::1]:8080/api"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ] {
        world.run(&["profile", "set", "api_url", given]).expect(0);
        assert_eq!(world.profiles()["profiles"]["default"]["api_url"], normal);
    }
}

fn another_origin_ends_the_session() {
    let world = World::new(Store::File);
    world.login();
    let refresh = world.entry_json()["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let output = world
        .run(&["profile", "set", "api_url", "https://example.com"])
        .expect(0);
    assert!(
        output
            .stderr
            .starts_with("signed out of profile default: revoked on the server; removed from "),
        "{output:?}"
    );
    assert!(!world.api.refresh_works(&refresh) && world.entry().is_none());
    // The session of another server is never sent to this one.
    world
        .run(&["profile", "set", "api_url", &world.api.base_url()])
        .expect(0);
    world.login();
    let elsewhere = "https://127.0.0.1:9";
    world.edit_entry(|entry| entry["api_url"] = elsewhere.into());
    world.api.clear_requests();
    let output = world.run(&["whoami"]).expect(3);
    assert!(
        output
            .stderr
            .contains("belongs to https://127.0.0.1:9, another server than the profile's"),
        "{output:?}"
    );
    // The revocation is sent to the session's own server, which does not answer.
    let output = world.run(&["logout"]).expect(5);
    assert!(
        output.stderr.contains("not revoked on the server: ")
            && output.stderr.contains("127.0.0.1:9"),
        "{output:?}"
    );
    assert!(world.api.requests().is_empty() && world.entry().is_none());
}

fn malformed_is_never_reset() {
    let world = World::new(Store::File);
    world.login();
    let file = world.config_dir().join("profiles.json");
    for (text, place, why) in [
        ("", "1:1", "EOF"),
        ("nonsense", "1:2", "expected"),
        (
            "{\"version\":1,\n \"profiles\": {\"default\": 3}}",
            "2:26",
            "invalid type",
        ),
        (
            "{\"version\":1,\"profiles\":{\"default\":{\"store\":\"attic\"}}}",
            "1:52",
            "the store must be `keyring`, `file`",
        ),
        (
            "{\"version\":1,\"profiles\":{\"default\":{\"api_url\":\"http://evil.test\"}}}",
            "1:65",
            "only for localhost",
        ),
        ("{\"profiles\":{}}", "1:15", "missing field `version`"),
        (
            "{\"version\":2,\"profiles\":{}}",
            "1:12",
            "the file has version 2, and this program knows 1",
        ),
        (
            "{\"version\":1,\"profiles\":{\"default\":{},\n \"default\":{}}}",
            "2:2",
            "duplicate key `default`",
        ),
        ("[1,\"a\",{}]", "1:1", "expected an object"),
        ("{\"version\":1} trailing", "1:15", "trailing"),
        (
            "{\"version\":1,\"default\":\"../x\"}",
            "1:24",
            "a profile name",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        for args in [
            &["whoami"][..],
            &["login", EMAIL, "--password-stdin"],
            &["logout"],
            &["profile", "list"],
            &["profile", "set", "login", "x"],
            &["profile", "use", "default"],
        ] {
            let output = world.run_stdin(PASSWORD.as_bytes(), args);
            assert_eq!(output.code, 1, "{text:?} {args:?}: {output:?}");
            let start = format!("error: {}:", file.display());
            let printed = output
                .stderr
                .strip_prefix(&start)
                .unwrap_or_else(|| panic!("{text:?} {output:?}"));
            assert!(
                printed.starts_with(&format!("{place}: ")),
                "{text:?}: {printed}"
            );
            assert!(printed.contains(why), "{text:?}: {printed}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "never reset");
    }
    assert!(world.entry().is_some(), "nothing is lost");
}

fn unknown_keys_survive() {
    let world = World::new(Store::File);
    world.login();
    let file = world.config_dir().join("profiles.json");
    let mut profiles = world.profiles();
    profiles["colour"] = "red".into();
    profiles["profiles"]["default"]["pets"] = json!(["cat"]);
    std::fs::write(&file, serde_json::to_string_pretty(&profiles).unwrap()).unwrap();
    world.run(&["whoami"]).expect(0);
    let output = world.run(&["profile", "set", "login", "bob"]).expect(0);
    let text = std::fs::read_to_string(&file).unwrap();
    for key in ["colour", "profiles.default.pets"] {
        assert!(
            output.stderr.contains(&format!(": unknown key {key}\n")),
            "{output:?}"
        );
        assert!(text.contains(key.rsplit('.').next().unwrap()), "{text}");
    }
    let places: Vec<_> = output
        .stderr
        .lines()
        .filter(|l| l.contains("unknown key"))
        .collect();
    assert!(
        places
            .iter()
            .all(|l| l.split(':').nth(2).unwrap().parse::<u32>().unwrap() > 1),
        "{places:?}"
    );
    assert_eq!(world.profiles()["profiles"]["default"]["login"], "bob");
}

/// Writes all keys of this version, and `site_key` of earlier versions.
fn every_key_survives() {
    let world = World::new(Store::File);
    world.login();
    let file = world.config_dir().join("profiles.json");
    let mut profiles = world.profiles();
    let keys = json!({
        "sign_in_url": "https://h.test/sign-in?next=/",
        "sign_up_url": "http://localhost:8080/sign-up",
        "referer": "https://h.test/",
        "captcha": true,
        "on_rotate": ["gh", "secret", "set", "TOKEN"],
        "on_rotate_check": ["gh", "auth", "status"],
        "end_warned_at": 1_795_489_145_000_i64,
        "site_key": "6Lc",
    });
    for (key, value) in keys.as_object().unwrap() {
        profiles["profiles"]["default"][key] = value.clone();
    }
    std::fs::write(&file, profiles.to_string()).unwrap();
    let output = world.run(&["profile", "set", "login", "bob"]).expect(0);
    assert_eq!(output.stderr, "profile default: login is bob\n");
    profiles["profiles"]["default"]["login"] = "bob".into();
    assert_eq!(world.profiles(), profiles);
    for (key, bad) in [
        ("sign_in_url", json!("http://h.test/")),
        ("sign_up_url", json!("javascript:alert(1)")),
        ("on_rotate", json!("gh secret set TOKEN")),
        ("captcha", json!("yes")),
    ] {
        let mut profiles = profiles.clone();
        profiles["profiles"]["default"][key] = bad;
        std::fs::write(&file, profiles.to_string()).unwrap();
        world.run(&["whoami"]).expect(1);
    }
}

fn two_processes_lose_nothing() {
    let world = World::new(Store::File);
    let children: Vec<_> = (0..24)
        .map(|i| {
            world.spawn(&[
                "profile",
                "set",
                "login",
                &format!("user{i}"),
                "-p",
                &format!("p{i}"),
            ])
        })
        .collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    for i in 0..24 {
        assert_eq!(
            world.profiles()["profiles"][format!("p{i}")]["login"],
            format!("user{i}")
        );
    }
}

fn a_thousand_profiles() {
    let world = World::new(Store::File);
    world.login();
    let mut profiles = world.profiles();
    for i in 0..1000 {
        profiles["profiles"][format!("profile-{i:04}")] = json!({"api_url": "https://example.com/api/v1", "login": format!("user{i}@example.com"), "store": "keyring"});
    }
    std::fs::write(
        world.config_dir().join("profiles.json"),
        profiles.to_string(),
    )
    .unwrap();
    world.run(&["token"]).expect(0);
    assert_eq!(
        world
            .run(&["profile", "list"])
            .expect(0)
            .stdout
            .lines()
            .count(),
        1001
    );
    let show = world
        .run(&["profile", "show", "profile-0999", "--json"])
        .expect(0)
        .json();
    assert_eq!(show["login"], "user999@example.com");
}

/// A file written by hand may name the default after the profiles.
fn default_written_last() {
    let world = World::new(Store::File);
    world.login_as("work");
    let profile = world.profiles()["profiles"]["work"].clone();
    let text =
        format!("{{\"profiles\":{{\"work\":{profile}}},\"version\":1,\"default\":\"work\"}}");
    std::fs::write(world.config_dir().join("profiles.json"), text).unwrap();
    assert_eq!(
        world.run(&["whoami", "--json"]).expect(0).json()["profile"],
        "work"
    );
}
