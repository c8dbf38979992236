//! Stores behind helper programs: the scripts of `helpers/` on real stores, a
//! session's whole life in each store without versions, and hostile helpers.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::machines::HelperWorld;
use crate::support::world::EMAIL;
use crate::support::{Part, Store, Test, test};

pub fn tests() -> Vec<Test> {
    let pass = [
        Part::Command("pass"),
        Part::Command("gpg"),
        Part::Command("python3"),
    ];
    let docker = [
        pass[0],
        pass[1],
        pass[2],
        Part::Command("docker-credential-pass"),
    ];
    let service = [
        Part::Keyring,
        pass[2],
        Part::Command("docker-credential-secretservice"),
    ];
    vec![
        test("helpers::check_pass", check_pass).needs(&pass),
        test(
            "helpers::check_docker_credential_pass",
            check_docker_credential_pass,
        )
        .needs(&docker),
        test(
            "helpers::check_docker_credential_secretservice",
            check_docker_credential_secretservice,
        )
        .needs(&service),
        test("helpers::life_pass", || life("helper:pass:team/cli")).needs(&pass),
        test("helpers::life_docker_credential_pass", || {
            life("helper:docker-credential:pass");
        })
        .needs(&docker),
        test(
            "helpers::life_docker_credential_secretservice",
            life_docker_credential_secretservice,
        )
        .needs(&service),
        test("helpers::missing_helper", missing_helper),
        test(
            "helpers::warning_names_the_other_machine",
            warning_names_the_other_machine,
        )
        .needs(&pass[2..]),
        test("helpers::silent_at_every_step", silent_at_every_step).needs(&pass[2..]),
        test("helpers::hostile_at_every_step", hostile_at_every_step).needs(&pass[2..]),
        test(
            "helpers::hostile_never_shows_a_secret",
            hostile_never_shows_a_secret,
        )
        .needs(&pass[2..]),
        test(
            "helpers::no_secret_in_the_environment",
            no_secret_in_the_environment,
        ),
        test("helpers::own_process_group", own_process_group),
        test(
            "helpers::write_without_response_is_read_back",
            write_without_response_is_read_back,
        )
        .needs(&pass[2..]),
    ]
}

/// A world with a password store, whose key has no passphrase.
fn with_pass() -> HelperWorld {
    let helper_world = HelperWorld::new(Store::File);
    let gpg = helper_world.world.home().join(".gnupg");
    std::fs::create_dir_all(&gpg).unwrap();
    std::fs::set_permissions(&gpg, std::fs::Permissions::from_mode(0o700)).unwrap();
    helper_world
        .shell(
            "gpg -q --batch --passphrase '' --quick-gen-key test@example.com default default never \
             && pass init test@example.com",
        )
        .expect(0);
    helper_world
}

fn check_pass() {
    with_pass().check(&["pass", "team/cli"]).expect(0);
}

fn check_docker_credential_pass() {
    let helper_world = with_pass();
    helper_world.check(&["docker-credential", "pass"]).expect(0);
}

fn check_docker_credential_secretservice() {
    let helper_world = HelperWorld::new(Store::Keyring);
    helper_world
        .check(&["docker-credential", "secretservice"])
        .expect(0);
}

fn life(store: &str) {
    whole_life(&with_pass(), store);
}

fn life_docker_credential_secretservice() {
    let helper_world = HelperWorld::new(Store::Keyring);
    whole_life(&helper_world, "helper:docker-credential:secretservice");
}

fn whole_life(helper_world: &HelperWorld, store: &str) {
    let api = &helper_world.world.api;
    helper_world.login(store).expect(0);
    assert_eq!(
        helper_world.world.profiles()["profiles"]["default"]["store"],
        store
    );
    let token = helper_world.run(&["token"]).expect(0).stdout;
    assert!(api.access_works(token.trim()));
    helper_world.run(&["refresh"]).expect(0);
    let renewed = helper_world.run(&["token"]).expect(0).stdout;
    assert_ne!(token, renewed);
    assert!(api.access_works(renewed.trim()));
    let me = helper_world.run(&["whoami", "--json"]).expect(0).json();
    assert_eq!(me["account"]["email"], EMAIL);
    helper_world.run(&["doctor"]).expect(0);
    helper_world.run(&["logout"]).expect(0);
    assert!(!api.session_alive(EMAIL));
    helper_world.run(&["token"]).expect(3);
}

fn missing_helper() {
    let helper_world = HelperWorld::new(Store::File);
    let output = helper_world.login("helper:nowhere:x").expect(6);
    assert!(
        output
            .stderr
            .contains("rememberizer-store-nowhere is not in PATH"),
        "{output:#?}"
    );
    assert!(
        helper_world.world.api.requests().is_empty(),
        "asked the server before the store"
    );
    helper_world.login("helper:../x").expect(2);
    helper_world.login("helper:").expect(2);
}

/// A store without versions cannot prevent two machines from renewing at once, so a warning
/// names the machine that last wrote the entry.
fn warning_names_the_other_machine() {
    let helper_world = HelperWorld::new(Store::File);
    helper_world.write_helper("odd", "hello()\nserve()");
    helper_world.login("helper:odd").expect(0);
    let quiet = helper_world.run(&["token"]).expect(0);
    assert_eq!(quiet.stderr, "", "{quiet:#?}");
    helper_world.edit_entry(|entry| entry["host"] = "elsewhere".into());
    for command in ["token", "refresh"] {
        let output = helper_world.run(&[command]).expect(0);
        let is_named = output
            .stderr
            .contains("the session in helper:odd was last written by elsewhere");
        assert!(is_named, "{output:#?}");
    }
    let quiet = helper_world.run(&["token"]).expect(0);
    assert_eq!(quiet.stderr, "", "{quiet:#?}");
}

/// Misbehaviour of a helper at one step: `hello`, `get` or `put`.
pub const MISDEEDS: [(&str, &str); 11] = [
    ("dies", "os._exit(1)"),
    ("closes its output", "os.close(1); time.sleep(60)"),
    ("is killed", "os.kill(os.getpid(), signal.SIGKILL)"),
    ("says junk", "say('\\x00\\xff junk')"),
    ("says an empty line", "say('')"),
    ("says 10 MB", "say('x' * 10_000_000)"),
    (
        "says 10 MB without an end",
        "sys.stdout.write('x' * 10_000_000); sys.stdout.flush(); time.sleep(60)",
    ),
    ("nests", r#"say('{"ok":{"a":1},"v":{"b":[1]}}')"#),
    (
        "doubles keys",
        r#"say('{"ok":true,"ok":true,"value":null,"v":[1],"v":[1],"cas":false}')"#,
    ),
    (
        "says another error",
        r#"say('{"ok":false,"error":"tired","message":"x"}')"#,
    ),
    ("says deep JSON", "say('[' * 100000)"),
];

fn hostile_at_every_step() {
    let helper_world = HelperWorld::new(Store::File);
    helper_world.write_helper("odd", "hello()\nserve()");
    helper_world.login("helper:odd").expect(0);
    let entry = helper_world.world.home().join("entries");
    for (what, deed) in MISDEEDS {
        for step in ["hello", "get", "put"] {
            let script = match step {
                "hello" => format!("{deed}\nhello()\nserve()"),
                op => format!(
                    "hello()\ndef step(ask):\n    if ask['op'] == '{op}':\n        {deed}\n        return True\nserve(step)"
                ),
            };
            helper_world.write_helper("odd", &script);
            let before = std::fs::read_to_string(&entry).unwrap();
            let sent = helper_world.world.api.requests().len();
            let started = Instant::now();
            let output = helper_world.run(&["refresh"]);
            assert_eq!(output.code, 6, "{what} at {step}: {output:#?}");
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{what} at {step}"
            );
            assert_eq!(
                std::fs::read_to_string(&entry).unwrap(),
                before,
                "{what} at {step}"
            );
            assert_eq!(
                helper_world.world.api.requests().len(),
                sent,
                "{what} at {step}: an exchange"
            );
            helper_world.assert_no_helper_left(&format!("{what} at {step}"));
        }
    }
    helper_world.write_helper("odd", "hello()\nserve()");
    helper_world.run(&["refresh"]).expect(0);
}

fn hostile_never_shows_a_secret() {
    let helper_world = HelperWorld::new(Store::File);
    helper_world.write_helper("odd", "hello()\nserve()");
    helper_world.login("helper:odd").expect(0);
    for message in [
        "ask['value']",
        "base64.b64decode(ask['value']).decode().replace(chr(34), chr(39))",
    ] {
        helper_world.write_helper(
            "odd",
            &format!(
                "hello()\ndef step(ask):\n    if ask['op'] == 'put':\n        say(json.dumps({{'ok': False, 'error': 'failed', 'message': {message}}}))\n        return True\nserve(step)"
            ),
        );
        let entries = std::fs::read_to_string(helper_world.world.home().join("entries")).unwrap();
        let output = helper_world.run(&["refresh", "-v"]).expect(6);
        assert!(output.stderr.contains("withheld"), "{output:#?}");
        let entries: serde_json::Value = serde_json::from_str(&entries).unwrap();
        let stored = entries["default"][1].as_str().unwrap();
        assert!(!output.stderr.contains(&stored[..24]), "{output:#?}");
        assert!(!output.stderr.contains("eyJ"), "{output:#?}");
    }
}

fn no_secret_in_the_environment() {
    let helper_world = HelperWorld::new(Store::File);
    let path = helper_world.world.home().join("bin/rememberizer-store-odd");
    std::fs::write(&path, "#!/bin/sh\nenv >\"$HOME/seen\"\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    helper_world.login("helper:odd").expect(6);
    let seen = std::fs::read_to_string(helper_world.world.home().join("seen")).unwrap();
    assert!(
        seen.contains("HOME=") && !seen.contains("REMEMBERIZER_"),
        "{seen}"
    );
}

fn own_process_group() {
    let helper_world = HelperWorld::new(Store::File);
    let path = helper_world.world.home().join("bin/rememberizer-store-odd");
    let script =
        "#!/bin/sh\necho $$ >\"$HOME/pid\"\nawk '{print $5}' /proc/$$/stat >\"$HOME/group\"\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    helper_world.login("helper:odd").expect(6);
    let read = |name: &str| std::fs::read_to_string(helper_world.world.home().join(name)).unwrap();
    assert_eq!(read("pid"), read("group"));
}

/// The first put of each helper is done, but its response is lost. The session is stored.
fn write_without_response_is_read_back() {
    let helper_world = HelperWorld::new(Store::File);
    helper_world.write_helper(
        "odd",
        "hello()\ndef step(ask):\n    if ask['op'] == 'put' and ask['value'] and not os.path.exists(place + '.calm'):\n        keep(ask['key'], ask['value'])\n        os._exit(1)\nserve(step)",
    );
    helper_world.login("helper:odd").expect(0);
    helper_world.run(&["refresh"]).expect(0);
    let token = helper_world.run(&["token"]).expect(0).stdout;
    assert!(helper_world.world.api.access_works(token.trim()));
}

/// A helper that does not respond is killed after its timeout, and the session is unchanged.
fn silent_at_every_step() {
    let helper_world = HelperWorld::new(Store::File);
    helper_world.write_helper("odd", "hello()\nserve()");
    helper_world.login("helper:odd").expect(0);
    let entry = helper_world.world.home().join("entries");
    let before = std::fs::read_to_string(&entry).unwrap();
    let silent =
        "\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    while True: time.sleep(60)";
    for (step, script, at_most) in [
        ("hello", format!("if True:{silent}"), 8),
        (
            "get",
            format!("hello()\nfor line in sys.stdin:{silent}"),
            13,
        ),
    ] {
        helper_world.write_helper("odd", &script);
        let started = Instant::now();
        let output = helper_world.run(&["token", "--json"]).expect(6);
        assert_eq!(output.error_code(), "store_unavailable", "{step}");
        assert!(
            started.elapsed() < Duration::from_secs(at_most),
            "{step}: {:?}",
            started.elapsed()
        );
        assert_eq!(std::fs::read_to_string(&entry).unwrap(), before, "{step}");
    }
}
