//! `doctor` prints every problem with its fix, even if several things are broken, and no
//! secret.

use crate::support::machines::HelperWorld;
use crate::support::world::EMAIL;
use crate::support::{Part, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("doctor::everything_is_broken", everything_is_broken),
        test("doctor::variables_in_force", variables_in_force),
        test("doctor::clock_and_killed_run", clock_and_killed_run),
        test("doctor::bad_output_variables", bad_output_variables),
        test("doctor::all_profiles", all_profiles),
        test("doctor::reads_the_session_once", reads_the_session_once)
            .needs(&[Part::Command("python3")]),
        test("doctor::keyring_states", keyring_states).needs(&[Part::Keyring]),
    ];
    tests.extend(on_both_stores("doctor::healthy", healthy));
    tests
}

fn healthy(world: &World) {
    world.login();
    world.edit_entry(|entry| entry["refresh"]["lifetime"] = (30 * 86_400_000_i64).into());
    let before = world.entry();
    let output = world.run(&["doctor"]).expect(0);
    for line in output.stdout.lines() {
        assert!(line.starts_with("ok       "), "{line}");
    }
    for topic in [
        "version", "config", "profile", "store", "server", "clock", "tls", "proxy", "session",
    ] {
        assert!(
            output.stdout.contains(&format!("ok       {topic:<10}")),
            "{topic}: {output:?}"
        );
    }
    assert!(output.stdout.contains(EMAIL));
    assert!(
        output
            .stdout
            .contains("wrote, read and removed a test entry in ")
    );
    let json = world.run(&["doctor", "--json"]).expect(0).json();
    assert_eq!(json["ok"], true);
    assert!(
        json["findings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|f| f["level"] == "ok")
    );
    assert_eq!(world.entry(), before, "nothing was changed");
    assert!(
        world
            .api
            .requests()
            .iter()
            .all(|seen| seen.bearer.is_none() && seen.cookies.is_empty())
    );
    world.run(&["logout"]).expect(0);
    let output = world.run(&["doctor"]).expect(0);
    assert!(
        output.stdout.contains(
            "warning  session   not signed in\n                   fix: rememberizer login\n"
        ),
        "{output:?}"
    );
}

/// Of a store with versions: one read for the test of the store, one for the session.
fn reads_the_session_once() {
    let helper_world = HelperWorld::new(Store::File);
    let script = "def step(ask):\n    print(ask['op'], file=open(place + '.log', 'a'))\n\
                  hello(cas=True)\nserve(step)";
    helper_world.write_helper("odd", script);
    helper_world.login("helper:odd").expect(0);
    let log = helper_world.world.home().join("entries.log");
    std::fs::remove_file(&log).unwrap();
    let output = helper_world.run(&["doctor"]).expect(0);
    assert!(output.stdout.contains(" ms (in total)\n"), "{output:?}");
    let operations = std::fs::read_to_string(log).unwrap();
    assert_eq!(operations, "get\nput\nput\nget\n");
}

fn everything_is_broken() {
    let world = World::new(Store::File);
    std::fs::create_dir_all(world.config_dir()).unwrap();
    std::fs::write(world.config_dir().join("profiles.json"), "{nonsense").unwrap();
    let url = "http://127.0.0.1:1/api";
    let env = [
        ("REMEMBERIZER_API_URL", url),
        ("REMEMBERIZER_TIMEOUT", "soon"),
        ("REMEMBERIZER_PROFILE", "../x"),
    ];
    let output = world.run_env(&env, &["doctor"]).expect(1);
    for line in [
        "problem  settings  REMEMBERIZER_PROFILE: a profile name may contain only letters, digits, `-` and `_`\n",
        "problem  settings  REMEMBERIZER_TIMEOUT: ",
        "profiles.json:1:2: key must be a string\n                   fix: fix the file or move it away\n",
        "problem  store     there is no keyring service on the session bus\n                   fix: start ",
        "problem  server    cannot connect to 127.0.0.1:1: connection refused\n                   fix: ",
    ] {
        assert!(output.stdout.contains(line), "{line}: {output:#?}");
    }
    assert_eq!(output.stderr, "error: there are 5 problems\n");
    let json = world.run_env(&env, &["doctor", "--json"]).expect(1).json();
    assert_eq!(
        (&json["ok"], &json["error"]["code"]),
        (&false.into(), &"failed".into())
    );
    // Without a home directory.
    let mut command = world.command(&["doctor", "--api-url", url]);
    command.env_remove("HOME").env("HOME", "/dev/null/nowhere");
    let output = crate::support::Output::from_process(command.output().unwrap());
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stdout.contains("problem  store"), "{output:?}");
}

fn variables_in_force() {
    let world = World::new(Store::File);
    world.login();
    let proxy = "http://user:hunter2@proxy.test:3128";
    let env = [
        ("REMEMBERIZER_ACCESS_TOKEN", "hunter2"),
        ("REMEMBERIZER_REFRESH_TOKEN", "hunter2"),
        ("REMEMBERIZER_PASSWORD", "hunter2"),
        ("REMEMBERIZER_TIMEOUT", "7"),
        ("HTTPS_PROXY", proxy),
        ("NO_COLOR", "1"),
    ];
    for args in [&["doctor"][..], &["doctor", "-v"], &["doctor", "--json"]] {
        let output = world.run_env(&env, args).expect(0);
        let printed = format!("{}{}", output.stdout, output.stderr);
        assert!(!printed.contains("hunter2"), "{printed}");
        for (name, _) in &env {
            assert!(printed.contains(name), "{name}: {printed}");
        }
        assert!(printed.contains("commands use it instead of the stored session"));
    }
}

/// `doctor` reports invalid output variables, such as `REMEMBERIZER_COLOR`, and continues.
fn bad_output_variables() {
    let world = World::new(Store::File);
    world.login();
    let url = format!("https://ann:hunter2@{}/?token=hunter2", "example.com");
    let env = [
        ("REMEMBERIZER_COLOR", "pink"),
        ("REMEMBERIZER_JSON", "x"),
        ("REMEMBERIZER_QUIET", "x"),
        ("REMEMBERIZER_VERBOSE", "x"),
        ("REMEMBERIZER_NO_INPUT", "x"),
        ("REMEMBERIZER_API_URL", &url),
        ("all_proxy", "ann:hunter2@proxy.test"),
    ];
    let output = world.run_env(&env, &["doctor"]).expect(1);
    for name in ["JSON", "QUIET", "VERBOSE", "NO_INPUT"] {
        let line = format!("problem  settings  REMEMBERIZER_{name}: must be 1 or 0\n");
        assert!(output.stdout.contains(&line), "{name}: {output:?}");
    }
    for line in [
        "problem  settings  REMEMBERIZER_COLOR: must be auto, always or never\n",
        "ok       variable  REMEMBERIZER_API_URL is https://***@example.com/?***\n",
        "ok       variable  all_proxy is ***@proxy.test\n",
        "ok       store ",
    ] {
        assert!(output.stdout.contains(line), "{line}: {output:?}");
    }
    let printed = format!("{}{}", output.stdout, output.stderr);
    assert!(!printed.contains("hunter2"), "{printed}");
    // Other commands refuse to run.
    world.run_env(&env[..1], &["whoami"]).expect(2);
}

fn all_profiles() {
    let world = World::new(Store::File);
    for name in ["default", "soon", "gone", "back", "killed"] {
        world.login_as(name);
    }
    let edit = |name: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let file = world.session_file(name);
        let mut entry = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut entry);
        std::fs::write(&file, entry.to_string()).unwrap();
    };
    for name in ["default", "soon", "back", "killed"] {
        let days = if name == "soon" { 2 } else { 30 };
        edit(name, &|entry| {
            entry["refresh"]["lifetime"] = (days * 86_400_000_i64).into();
        });
    }
    edit("killed", &|entry| {
        entry["exchange_began"] = 1_700_000_000_000_i64.into();
    });
    std::fs::remove_file(world.session_file("gone")).unwrap();
    let mut profiles = world.profiles();
    profiles["profiles"]["back"]["signed_in"] = false.into();
    profiles["profiles"]["moved"] = serde_json::json!({"store": "keyring"});
    profiles["profiles"]["other"] = serde_json::json!({"store": "keyring"});
    let file = world.config_dir().join("profiles.json");
    std::fs::write(&file, profiles.to_string()).unwrap();
    std::fs::copy(world.session_file("default"), world.session_file("moved")).unwrap();
    let output = world.run(&["doctor"]).expect(0);
    for (text, fix) in [
        (
            "the session of soon expires 20",
            "rememberizer refresh --profile soon, or rememberizer login --profile soon",
        ),
        (
            "gone is recorded as signed in, but has no session\n",
            "rememberizer login --profile gone",
        ),
        (
            "back is recorded as signed out, but has a session\n",
            "end it: rememberizer logout --profile back",
        ),
        (
            "killed: a run began to renew the session at 2023-11-14T22:13:20Z, and was interrupted or got no response\n",
            "check whether the session is still valid: rememberizer refresh --profile killed",
        ),
        (
            "moved has a session left in a private file, which it does not use\n",
            "end all its sessions: rememberizer logout --profile moved",
        ),
        (
            "sessions that cannot be read: moved, other (there is no keyring service on the session bus",
            "start ",
        ),
    ] {
        let start = format!("warning  profile   {text}");
        let at = output
            .stdout
            .find(&start)
            .unwrap_or_else(|| panic!("{text}: {output:#?}"));
        let next = output.stdout[at..].lines().nth(1).unwrap();
        assert!(
            next.starts_with(&format!("                   fix: {fix}")),
            "{next}"
        );
    }
    assert_eq!(output.stdout.matches("warning  ").count(), 6, "{output:#?}");
}

fn clock_and_killed_run() {
    let world = World::new(Store::File);
    world.api.set(|s| s.clock_offset = -3600);
    world.login();
    world.edit_entry(|entry| entry["exchange_began"] = 1_700_000_000_000_i64.into());
    let output = world.run(&["doctor"]).expect(0);
    assert!(
        output
            .stdout
            .contains("warning  clock     the local clock is 1h ahead of the server's\n"),
        "{output:?}"
    );
    assert!(
        output.stdout.contains("warning  session   a run began to renew the session at 2023-11-14T22:13:20Z, and was interrupted or got no response\n"),
        "{output:?}"
    );
}

fn keyring_states() {
    let mut world = World::new(Store::Keyring);
    world.login();
    world.bus.as_ref().unwrap().lock();
    let locked = world.run(&["doctor"]).expect(1);
    assert!(
        locked
            .stdout
            .contains("problem  store     the keyring is locked\n                   fix: unlock "),
        "{locked:?}"
    );
    assert!(
        locked
            .stdout
            .contains("warning  session   cannot be read\n")
    );
    world.bus.as_mut().unwrap().unlock();
    world.run(&["doctor"]).expect(0);
}
