//! Outputs and exit codes if an input is missing or wrong, or if prompting is not
//! possible.

use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("missing::no_value_is_repeated", no_value_is_repeated),
        test("missing::everything_at_once", everything_at_once),
        test(
            "missing::outcomes_of_the_first_minute",
            outcomes_of_the_first_minute,
        ),
        test("missing::flags_take_no_secrets", flags_take_no_secrets),
        test("missing::line_endings", line_endings),
        test(
            "missing::other_server_or_store_than_the_profile",
            other_server_or_store_than_the_profile,
        ),
    ]
}

const NOBODY: &str = "hint: prompts need a terminal on stdin and stderr, and no --no-input\n";

fn everything_at_once() {
    let world = World::new(Store::File);
    for (args, message) in [
        (
            &["signup", "--store=file"][..],
            "error: missing input: e-mail address (--email ADDRESS); name (--name NAME); \
             password (--password-stdin, --password-file PATH or REMEMBERIZER_PASSWORD)\n",
        ),
        (
            &["login", "--store=file"],
            "error: missing input: login (LOGIN as an argument); \
             password (--password-stdin, --password-file PATH or REMEMBERIZER_PASSWORD)\n",
        ),
        (
            &["verify"],
            "error: missing input: code (CODE as an argument, or --code-stdin)\n",
        ),
    ] {
        let output = world.run(args).expect(2);
        assert_eq!(output.stderr, format!("{message}{NOBODY}"));
        assert_eq!(output.stdout, "");
        let json = world.run(&[args, &["--json"]].concat()).expect(2);
        assert_eq!(json.error_code(), "input_required");
        assert_eq!(json.stderr, "");
    }
    assert!(world.api.requests().is_empty());
}

fn outcomes_of_the_first_minute() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    let nobody = world.run(&["whoami", "--store=file"]).expect(3);
    assert_eq!(
        nobody.stderr,
        "error: not signed in\nhint: rememberizer login\n"
    );
    let wrong = world
        .run_env(
            &[("REMEMBERIZER_PASSWORD", "wrong")],
            &["login", EMAIL, "--store=file", "--api-url", &url],
        )
        .expect(4);
    assert_eq!(
        wrong.stderr,
        "error: Unable to log in with provided credentials.\nhint: rememberizer login --help\n"
    );
    assert_eq!(world.entry(), None);
    world.login();
    drop(world);
    // No server listens on that port any more.
    let world = World::new(Store::File);
    let down = world
        .run_env(
            &[("REMEMBERIZER_PASSWORD", PASSWORD)],
            &["login", EMAIL, "--store=file", "--api-url", &url],
        )
        .expect(5);
    assert!(
        down.stderr
            .starts_with("error: cannot connect to 127.0.0.1:"),
        "{down:?}"
    );
    assert!(
        down.stderr
            .ends_with("hint: try again, or run: rememberizer doctor\n"),
        "{down:?}"
    );
}

fn flags_take_no_secrets() {
    let world = World::new(Store::File);
    for args in [
        &["login", "--password", "hunter2"][..],
        &["login", "--password=hunter2"],
        &["signup", "--password", "hunter2"],
        &["login", "--refresh-token=hunter2"],
        &["token", "--refresh-token=hunter2"],
        &["login", "--token", "hunter2"],
        &["verify", "--code=hunter2"],
    ] {
        for args in [args.to_vec(), [args, &["--json"]].concat()] {
            let output = world.run(&args).expect(2);
            let printed = format!("{}{}", output.stdout, output.stderr);
            assert!(!printed.contains("hunter2"), "{args:?}: {printed}");
            assert!(
                printed.contains("other processes can read the command line"),
                "{printed}"
            );
        }
    }
}

fn line_endings() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    let args = [
        "login",
        EMAIL,
        "--store=file",
        "--api-url",
        &url,
        "--password-stdin",
    ];
    for (ending, code) in [("", 0), ("\n", 0), ("\r\n", 0), ("\n\n", 4), (" \n", 4)] {
        let output = world.run_stdin(format!("{PASSWORD}{ending}").as_bytes(), &args);
        assert_eq!(output.code, code, "{ending:?}: {output:?}");
    }
    assert_eq!(world.run_stdin(b"", &args).code, 2);
    assert_eq!(world.run_stdin(b"\n", &args).code, 2);
    let file = world.home().join("password");
    std::fs::write(&file, format!("{PASSWORD}\r\n")).unwrap();
    let path = file.display().to_string();
    world
        .run(&["login", EMAIL, "--password-file", &path])
        .expect(0);
}

fn other_server_or_store_than_the_profile() {
    let world = World::new(Store::File);
    world.login();
    let url = world.api.base_url();
    for args in [
        &["whoami", "--api-url", "https://example.com"][..],
        &["token", "--store", "keyring"],
        &["refresh", "--api-url", "http://example.com"],
        &["whoami", "--profile", "../x"],
    ] {
        world.run(args).expect(2);
    }
    world
        .run(&["whoami", "--api-url", &url, "--store", "file"])
        .expect(0);
    let other = world.run_env(
        &[("REMEMBERIZER_API_URL", "https://example.com")],
        &["token"],
    );
    assert_eq!(
        other.expect(2).stderr,
        format!(
            "error: profile default is pinned to {url}, and its session is not sent to https://example.com\n\
             hint: log in there with another profile: rememberizer login --profile NAME --api-url URL\n"
        )
    );
}

/// The argument that a usage error is about may be a secret, so only names of flags and
/// commands are repeated, with similar names.
fn no_value_is_repeated() {
    let world = World::new(Store::File);
    for args in [
        &["login", "ann", "hunter2"][..],
        &["login", "ann", "--", "-hunter2"],
        &["login", "ann", "--", "--hunter2"],
        &["login", "--passwrd=hunter2"],
        &["login", "--hunter2"],
        &["verify", "123456", "hunter2"],
        &["token", "hunter2"],
        &["profile", "show", "work", "hunter2"],
        &["--store=hunter2", "whoami"],
        &["--color=hunter2", "whoami"],
        &["--timeout=hunter2", "whoami"],
        &["whoami", "--json=hunter2"],
        &["profile", "set", "hunter2", "x"],
        &["completions", "hunter2"],
    ] {
        let output = world.run(args).expect(2);
        let printed = format!("{}{}", output.stdout, output.stderr);
        assert!(!printed.contains("hunter2"), "{args:?}: {printed}");
        assert!(printed.contains("hint"), "{args:?}: {printed}");
    }
    for (args, stderr) in [
        (
            &["login", "ann", "x"][..],
            "error: unexpected argument (not repeated here, in case it is a secret)\nhint: usage: rememberizer login [OPTIONS] [LOGIN]\n",
        ),
        (
            &["signup", "--emial", "x"],
            "error: unexpected argument '--emial' found\nhint: a similar argument exists: '--email'\n",
        ),
        (
            &["whomi"],
            "error: unrecognized subcommand 'whomi'\nhint: a similar subcommand exists: 'whoami'\n",
        ),
        (
            &["help", "login"],
            "error: unrecognized subcommand 'help'\nhint: rememberizer login --help\n",
        ),
        (
            &["help", "nonsense"],
            "error: unrecognized subcommand 'help'\nhint: rememberizer --help\n",
        ),
        (
            &["profile"],
            "error: no command given\nhint: rememberizer profile --help\n",
        ),
        (
            &["whoami", "--expires-within"],
            "error: '--expires-within <DURATION>' needs a value\nhint: rememberizer whoami --help\n",
        ),
        (
            &["profile", "set", "api_url", "example.com"],
            "error: the API URL must start with https:// (http:// only for localhost)\nhint: rememberizer profile set --help\n",
        ),
        (
            &["whoami", "--store=atic"],
            "error: --store <KIND>: the store must be `keyring`, `file` or `helper:NAME[:LOCATION]`\nhint: rememberizer whoami --help\n",
        ),
    ] {
        assert_eq!(world.run(args).expect(2).stderr, stderr, "{args:?}");
    }
}
