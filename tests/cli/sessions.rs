//! Profiles and runs are independent of each other: their stores, cookie names, records and
//! credentials.

use std::time::Duration;

use crate::sandbox::{Delay, Fault, RotationPolicy, Settings};
use crate::support::world::{EMAIL, PASSWORD, set_mode};
use crate::support::{Output, Part, Screen, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let file = |name: &str, run: fn(&World)| {
        test(&format!("sessions::{name}"), move || {
            run(&World::new(Store::File));
        })
    };
    let mut tests = vec![
        file(
            "variable_is_exchanged_once_for_all_pages",
            one_exchange_for_pages,
        ),
        file(
            "variable_is_exchanged_once_for_all_codes",
            one_exchange_for_codes,
        )
        .needs(&[Part::Command("tmux")]),
        file("logout_of_all_uses_own_cookie_names", own_cookie_names),
        file("remove_uses_own_cookie_names", remove_own_cookie_names),
        file("signup_into_a_file_then_the_code", signup_then_code).needs(&[Part::Command("tmux")]),
        file("logout_of_an_exposed_file_revokes", exposed_file),
        file("remove_ignores_the_cache", remove_ignores_cache),
        file("another_server_ignores_the_cache", set_origin_ignores_cache),
        file("a_refused_logout_is_reported", refused_logout),
        file(
            "store_is_proven_before_the_password",
            proven_before_password,
        )
        .needs(&[Part::Command("tmux")]),
        file(
            "signed_out_profile_chooses_a_store_without_keyring",
            set_store_signed_out,
        ),
        file("occupied_store_is_refused", occupied).needs(&[Part::Keyring]),
        file("signup_trims_the_address", signup_trims),
        file("signal_is_remembered_after_a_failure", interrupted_logout),
    ];
    tests.extend(on_both_stores(
        "sessions::take_over_of_the_own_token",
        take_over_of_the_own_token,
    ));
    tests.extend(on_both_stores(
        "sessions::exchange_without_access_token",
        exchange_without_access_token,
    ));
    tests.extend(on_both_stores(
        "sessions::ctrl_c_at_login_waits_for_the_record",
        ctrl_c_at_login_waits_for_the_record,
    ));
    tests.extend([test("sessions::live_session_in_the_other_store", || {
        live_in_other_store();
    })
    .needs(&[Part::Keyring])]);
    tests
}

fn refresh_token(world: &World) -> String {
    let entry = world.entry_json();
    entry["refresh_token"].as_str().unwrap().to_owned()
}

fn watchful(world: &World) {
    world
        .api
        .set(|settings| settings.rotation = RotationPolicy::RevokeFamily);
}

const TOKEN: &str = "REMEMBERIZER_REFRESH_TOKEN";

fn one_exchange_for_pages(world: &World) {
    watchful(world);
    world.api.set(|settings| settings.list_pages = 3);
    let refresh = world.api.begin_session(EMAIL).refresh.unwrap();
    let output = world
        .run_env(
            &[(TOKEN, &refresh)],
            &[
                "api",
                "list/",
                "--paginate",
                "--api-url",
                &world.api.base_url(),
            ],
        )
        .expect(0);
    assert_eq!(world.api.count("/auth/custom-refresh/"), 1);
    assert!(world.api.session_alive(EMAIL));
    let printed = output.stderr.matches("is no longer valid").count();
    assert_eq!(printed, 1, "{output:?}");
}

fn one_exchange_for_codes(world: &World) {
    watchful(world);
    let refresh = world.api.begin_session(EMAIL).refresh.unwrap();
    let screen = Screen::new(world);
    screen.start(&format!("{TOKEN}={refresh} rememberizer verify"));
    for (tries, wrong) in ["000001", "000002"].into_iter().enumerate() {
        screen.wait_until("the question", |text| {
            text.matches("(blank: later)").count() > tries
        });
        screen.type_line(wrong);
        screen.wait_until("the refusal", |text| text.matches("error:").count() > tries);
    }
    screen.wait_until("the last question", |text| {
        text.matches("(blank: later)").count() > 2
    });
    screen.press("Enter");
    let (code, text) = screen.wait_for_exit();
    assert_eq!(code, 0, "{text}");
    assert_eq!(world.api.count("/auth/custom-refresh/"), 1, "{text}");
    assert!(world.api.session_alive(EMAIL));
}

/// A login takes over the token that the same profile has stored.
fn take_over_of_the_own_token(world: &World) {
    world.login();
    watchful(world);
    let stored = refresh_token(world);
    world
        .run_stdin(
            stored.as_bytes(),
            &["login", "--refresh-token-stdin", world.store_flag()],
        )
        .expect(0);
    assert_eq!(world.api.count("/auth/custom-logout/"), 0);
    assert!(world.api.refresh_works(&refresh_token(world)));
    world.run(&["refresh"]).expect(0);
}

fn exchange_without_access_token(world: &World) {
    world.login();
    world.expire_access();
    watchful(world);
    let old = refresh_token(world);
    world
        .api
        .set(|settings| settings.exchange_without_access = true);
    let output = world.run(&["token"]).expect(1);
    assert_eq!(output.stdout, "");
    assert!(
        output
            .stderr
            .starts_with("error: the server's response contains no access token\n"),
        "{output:?}"
    );
    let new = refresh_token(world);
    assert!(new != old && world.api.refresh_works(&new), "it is stored");
    world
        .api
        .set(|settings| settings.exchange_without_access = false);
    world.run(&["token"]).expect(0);
}

/// Two profiles on one server. The second has other cookie names.
fn with_other_names(world: &World) {
    world.login();
    world
        .run(&[
            "profile",
            "set",
            "refresh_cookie",
            "other_refresh",
            "--profile",
            "work",
        ])
        .expect(0);
    world
        .run(&[
            "profile",
            "set",
            "access_cookie",
            "other_access",
            "--profile",
            "work",
        ])
        .expect(0);
    world.api.set(|settings| {
        settings.refresh_cookie = "other_refresh".to_owned();
        settings.access_cookie = "other_access".to_owned();
    });
    world.login_as("work");
    world
        .api
        .add_account(crate::sandbox::Account::new("bob@example.com", PASSWORD));
}

fn own_cookie_names(world: &World) {
    with_other_names(world);
    let token = |profile| {
        let text = world.entry_of(profile).unwrap();
        let entry: serde_json::Value = serde_json::from_str(&text).unwrap();
        entry["refresh_token"].as_str().unwrap().to_owned()
    };
    let (first, second) = (token("default"), token("work"));
    world.run(&["logout", "--all"]);
    let sent: Vec<String> = world
        .api
        .requests()
        .iter()
        .filter_map(|request| request.header("cookie").map(str::to_owned))
        .collect();
    assert_eq!(
        sent,
        [
            format!("refresh_token={first}"),
            format!("other_refresh={second}")
        ]
    );
}

fn remove_own_cookie_names(world: &World) {
    with_other_names(world);
    let text = world.entry_of("work").unwrap();
    let entry: serde_json::Value = serde_json::from_str(&text).unwrap();
    let token = entry["refresh_token"].as_str().unwrap();
    let json = world
        .run(&["profile", "remove", "work", "--yes", "--json"])
        .expect(0)
        .json();
    assert_eq!(json["server"], "revoked");
    assert!(!world.api.refresh_works(token));
}

/// Without a keyring, the user chooses the file store. `verify` must then find the session
/// there.
fn signup_then_code(world: &World) {
    let screen = Screen::new(world);
    let mailbox = world.api.mailbox();
    screen.start(&format!(
        "unset REMEMBERIZER_STORE; printf %s '{PASSWORD}' > pw; rememberizer signup --email new@example.com --name New --password-file pw"
    ));
    screen.wait_for("private file instead?");
    screen.type_line("y");
    let (_, code) = mailbox.recv_timeout(Duration::from_secs(20)).unwrap();
    screen.wait_for("later");
    screen.type_line(&code);
    screen.wait_for("is verified");
    assert_eq!(screen.wait_for_exit().0, 0);
}

fn exposed_file(world: &World) {
    world.login();
    let token = refresh_token(world);
    set_mode(&world.session_file("default"), 0o644);
    world.run(&["token"]).expect(6);
    let json = world.run(&["logout", "--json"]).expect(0).json();
    assert_eq!(json["server"], "revoked");
    assert!(!world.api.refresh_works(&token));
    assert_eq!(world.entry(), None);
}

fn live_in_other_store() {
    let world = World::new(Store::Keyring);
    world.login();
    let token = refresh_token(&world);
    // The profiles file was copied from another machine and records the file store.
    let path = world.config_dir().join("profiles.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"keyring\"", "\"file\"")).unwrap();
    let json = world.run(&["logout", "--json"]).expect(0).json();
    assert_eq!(json["server"], "revoked");
    assert_eq!(json["sessions"][0]["store"], "keyring");
    assert!(!world.api.refresh_works(&token));
    assert_eq!(world.entry(), None);
}

fn record_signed_out(world: &World) {
    let path = world.config_dir().join("profiles.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("\"signed_in\": true", "\"signed_in\": false"),
    )
    .unwrap();
}

fn remove_ignores_cache(world: &World) {
    world.login_as("work");
    record_signed_out(world);
    let json = world
        .run(&["profile", "remove", "work", "--yes", "--json"])
        .expect(0)
        .json();
    assert_eq!(json["server"], "revoked");
    assert!(!world.api.session_alive(EMAIL) && world.entry_of("work").is_none());
}

fn set_origin_ignores_cache(world: &World) {
    world.login();
    record_signed_out(world);
    world
        .run(&[
            "profile",
            "set",
            "api_url",
            "https://elsewhere.example.test",
        ])
        .expect(0);
    assert!(!world.api.session_alive(EMAIL) && world.entry().is_none());
}

fn refused_logout(world: &World) {
    world.login();
    world.api.fault(Fault::csrf().at("/auth/custom-logout/"));
    let output = world.run(&["logout", "--json"]).expect(4);
    let json = output.json();
    assert_eq!(json["error"]["code"], "rejected");
    assert_eq!(json["logout"]["server"], "refused");
    assert_eq!(json["logout"]["removed"], true);
    assert_eq!(world.entry(), None);
}

fn proven_before_password(world: &World) {
    // The store can be read but not written.
    let sessions = world.data_dir().join("sessions");
    for name in ["default.probe.json", ".probe.json"] {
        std::fs::create_dir_all(sessions.join(name)).unwrap();
    }
    set_mode(&sessions, 0o700);
    let screen = Screen::new(world);
    let (code, text) = screen.run("rememberizer login ann@example.com --store file");
    assert_eq!(code, 6, "{text}");
    assert!(!text.contains("password"), "{text}");
    assert!(world.api.requests().is_empty());
}

fn set_store_signed_out(world: &World) {
    // This world has no keyring.
    world.run(&["profile", "set", "login", "ann"]).expect(0);
    world.run(&["profile", "set", "store", "file"]).expect(0);
    assert_eq!(world.profiles()["profiles"]["default"]["store"], "file");
}

fn occupied(_world: &World) {
    let world = World::new(Store::Keyring);
    world.login();
    let file = world.session_file("default");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    set_mode(file.parent().unwrap(), 0o700);
    std::fs::write(
        &file,
        r#"{"version":1,"api_url":"https://other.example.test","refresh_token":"R"}"#,
    )
    .unwrap();
    set_mode(&file, 0o600);
    let output = world.run(&["profile", "set", "store", "file"]).expect(2);
    assert!(
        output
            .stderr
            .contains("already holds a session of profile default, on https://other.example.test"),
        "{output:?}"
    );
    world.run(&["token"]).expect(0);
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("other.example")
    );
}

fn signup_trims(world: &World) {
    let output = world.run_env(
        &[("REMEMBERIZER_PASSWORD", PASSWORD)],
        &[
            "signup",
            "--email",
            " new@example.com ",
            "--name",
            " New ",
            "--store",
            "file",
            "--json",
            "--api-url",
            &world.api.base_url(),
        ],
    );
    assert_eq!(output.expect(0).json()["login"], "new@example.com");
    assert!(world.api.account("new@example.com").is_some());
}

/// A failure is reported before a deferred signal takes effect.
fn interrupted_logout(world: &World) {
    world.login();
    world.login_as("work");
    let obstacle = world
        .session_file("default")
        .with_file_name(".default.json.next");
    std::fs::create_dir(&obstacle).unwrap();
    world.api.set(|settings: &mut Settings| {
        let slow = Delay::before(Duration::from_secs(1));
        settings.delays = vec![slow.at("/auth/custom-logout/")];
    });
    let child = world.spawn(&["logout", "--all", "--json"]);
    wait_for_request(world, "/auth/custom-logout/");
    let pid = child.id().to_string();
    let status = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(status.unwrap().success());
    let output = Output::from_process(child.wait_with_output().unwrap()).expect(130);
    let logout = &output.json()["logout"];
    // Both the revocation and the remaining entry are reported.
    assert_eq!(logout[0]["server"], "revoked", "{output:?}");
    assert_eq!(logout[0]["removed"], false);
    assert_eq!(logout.as_array().unwrap().len(), 1);
    assert!(world.entry_of("work").is_some());
}

/// Waits until the server has received a request. It delays the response.
fn wait_for_request(world: &World, path: &str) {
    let started = std::time::Instant::now();
    while world.api.count(path) == 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "no {path}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A signal during a login does not separate storing the session, recording it, and revoking
/// the replaced session.
fn ctrl_c_at_login_waits_for_the_record(world: &World) {
    world.login();
    let previous = refresh_token(world);
    world.api.set(|settings: &mut Settings| {
        let slow = Delay::before(Duration::from_secs(1));
        settings.delays = vec![slow.at("/auth/signin/")];
    });
    let mut command = world.command(&[
        "login",
        EMAIL,
        "--profile",
        "second",
        "--api-url",
        &world.api.base_url(),
        world.store_flag(),
    ]);
    command
        .env("REMEMBERIZER_PASSWORD", PASSWORD)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for_request(world, "/auth/signin/");
    let pid = child.id().to_string();
    let status = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(status.unwrap().success());
    let output = Output::from_process(child.wait_with_output().unwrap()).expect(143);
    assert!(
        output.stderr.contains("saving the session before exiting"),
        "{output:?}"
    );
    assert!(world.entry_of("second").is_some());
    assert_eq!(world.profiles()["profiles"]["second"]["signed_in"], true);
    assert!(
        world.api.refresh_works(&previous),
        "another profile's session"
    );
}
