//! Bad input from the user: flags and variables that are empty, huge, not UTF-8 or contain line
//! breaks; paths that are not files; closed streams.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use rememberizer_cli::exit::Outcome;
use rememberizer_cli::settings::{FLAG_VARIABLES, SECRET_VARIABLES};

use crate::support::world::{EMAIL, PASSWORD, set_mode};
use crate::support::{Output, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("inputs::flags", flags),
        test("inputs::variables", variables),
        test("inputs::password_files", password_files),
        test("inputs::closed_streams", closed_streams),
        test("inputs::two_secrets_on_stdin", two_secrets_on_stdin),
        test("inputs::durations", durations),
    ]
}

/// Texts that nobody enters on purpose. Arguments and variables cannot contain a NUL.
fn bad_values() -> Vec<OsString> {
    let huge = "x".repeat(100_000);
    let mut values: Vec<OsString> = [
        "",
        " ",
        "a\nb",
        "a\u{1b}[31mb",
        "\u{202e}x",
        "-",
        "--",
        "%s%n",
        "../../etc/passwd",
        &huge,
    ]
    .into_iter()
    .map(OsString::from)
    .collect();
    values.push(OsStr::from_bytes(b"\xff\xfe").to_owned());
    values
}

#[track_caller]
fn in_the_table(output: &Output, what: &str) {
    let known = Outcome::ALL
        .iter()
        .any(|outcome| i32::from(outcome.codes().0) == output.code);
    assert!(known, "{what}: {output:?}");
    let printed = format!("{}{}", output.stdout, output.stderr);
    assert!(!printed.contains("panicked"), "{what}: {printed}");
    if what.contains("\"api\"") {
        // The server's response is passed on unchanged.
        return;
    }
    assert!(
        !printed.chars().any(|c| c.is_control() && c != '\n'),
        "{what}: {printed:?}"
    );
    assert!(printed.len() < 20_000, "{what}: {} bytes", printed.len());
}

fn flags() {
    let world = World::new(Store::File);
    world.login();
    let mut count = 0;
    for value in bad_values() {
        let plain = [
            "--profile",
            "--api-url",
            "--config-dir",
            "--store",
            "--timeout",
            "--lock-timeout",
            "--ca-cert",
            "--color",
        ];
        for flag in plain {
            let output = world.run(&[
                OsStr::new("whoami"),
                OsStr::new("--offline"),
                OsStr::new(flag),
                &value,
            ]);
            in_the_table(&output, flag);
            count += 1;
        }
        for args in [
            &["login", "--store=file", "--password-file"][..],
            &["login", EMAIL, "--captcha"],
            &["login", "--refresh-token-file"],
            &["signup", "--name=x", "--email"],
            &["signup", "--email=x", "--name"],
            &["verify"],
            &["token", "--min-ttl"],
            &["refresh", "--min-ttl"],
            &["completions"],
            &["profile", "use"],
            &["profile", "show"],
            &["profile", "set", "login"],
            &["profile", "set", "api_url"],
            &["profile", "set", "refresh_cookie"],
            &["exec", "--env"],
            &["api"],
            &["api", "me/", "-X"],
            &["api", "me/", "-H"],
            &["api", "me/", "-f"],
            &["api", "me/", "--input"],
            &["man"],
            &[],
        ] {
            let mut args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
            args.push(&value);
            in_the_table(&world.run(&args), &format!("{args:?}"));
            count += 1;
        }
    }
    println!("{count} inputs");
    world.run(&["token", "-p", "default"]).expect(0);
}

fn variables() {
    let world = World::new(Store::File);
    world.login();
    let names = FLAG_VARIABLES
        .iter()
        .map(|(name, _)| *name)
        .chain(SECRET_VARIABLES);
    for name in names {
        for value in bad_values() {
            let mut command = world.command(&["whoami"]);
            command.env(name, &value);
            let output = Output::from_process(command.output().unwrap());
            in_the_table(&output, name);
            if value.is_empty() {
                assert_eq!(output.code, 0, "{name} that is empty is unset: {output:?}");
            }
        }
    }
}

fn password_files() {
    let world = World::new(Store::File);
    world.login();
    let dir = world.home();
    let path = |name: &str, content: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let huge = path("huge", &vec![b'x'; 1_000_000]);
    let cases = [
        (path("empty", b""), "there is no password in"),
        (path("line", b"\n"), "there is no password in"),
        (huge, " is longer than 65536 bytes"),
        (path("latin", b"\xe9\xff"), "is not UTF-8"),
        (dir.display().to_string(), "cannot read the password from"),
        (
            dir.join("none").display().to_string(),
            "cannot read the password from",
        ),
    ];
    for (file, why) in cases {
        let output = world
            .run(&["login", EMAIL, "--password-file", &file])
            .expect(2);
        assert!(output.stderr.contains(why), "{file}: {output:?}");
    }
    // The encodings of Notepad and PowerShell 5, with both kinds of line break. Only one
    // trailing line break is removed.
    let utf16 = |text: &str| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    };
    let line = format!("{PASSWORD}\r\n");
    let big_endian = |bytes: Vec<u8>| -> Vec<u8> {
        bytes
            .chunks(2)
            .flat_map(|unit| [unit[1], unit[0]])
            .collect()
    };
    for content in [
        format!("\u{feff}{line}").into_bytes(),
        utf16(&line),
        big_endian(utf16(&line)),
        utf16(PASSWORD),
    ] {
        let file = path("encoded", &content);
        world
            .run(&["login", EMAIL, "--password-file", &file])
            .expect(0);
        world
            .run_stdin(&content, &["login", EMAIL, "--password-stdin"])
            .expect(0);
    }
    let two = path("two", format!("{PASSWORD}\n\n").as_bytes());
    world
        .run(&["login", EMAIL, "--password-file", &two])
        .expect(4);
    let file = path("odd", &[0xff, 0xfe, b'x']);
    let output = world
        .run(&["login", EMAIL, "--password-file", &file])
        .expect(2);
    assert!(
        output.stderr.contains("\nhint: save it as UTF-8"),
        "{output:?}"
    );
    // A shell replaces <(…) by a FIFO or a descriptor. Both can be read.
    let script = format!(
        "'{}' login {EMAIL} --password-file <(printf '%s\\n' '{PASSWORD}')",
        World::program().display()
    );
    let mut command = Command::new("bash");
    world.set_environment(&mut command);
    Output::from_process(command.args(["-c", &script]).output().unwrap()).expect(0);
    let script = format!(
        "'{}' login {EMAIL} --password-file /dev/fd/3 3<<< '{PASSWORD}'",
        World::program().display()
    );
    let mut command = Command::new("bash");
    world.set_environment(&mut command);
    Output::from_process(command.args(["-c", &script]).output().unwrap()).expect(0);
    set_mode(&dir, 0o700);
}

fn closed_streams() {
    let world = World::new(Store::File);
    world.login();
    for (redirect, args, codes) in [
        ("<&-", "login ann@example.com --password-stdin", &[2][..]),
        ("<&-", "whoami", &[0]),
        (">&-", "token", &[0, 1]),
        ("2>&-", "whoami", &[0]),
        ("2>&-", "refresh", &[0]),
        ("<&- >&- 2>&-", "refresh", &[0]),
        (">/dev/full", "token", &[1]),
        (">/dev/full", "whoami --json", &[1]),
    ] {
        let script = format!("'{}' {args} {redirect}", World::program().display());
        let mut command = Command::new("bash");
        world.set_environment(&mut command);
        let output = Output::from_process(
            command
                .stdin(Stdio::null())
                .args(["-c", &script])
                .output()
                .unwrap(),
        );
        assert!(
            codes.contains(&output.code),
            "{args} {redirect}: {output:?}"
        );
    }
    world.run(&["refresh"]).expect(0);
}

fn two_secrets_on_stdin() {
    let world = World::new(Store::File);
    for args in [
        &["login", "--password-stdin", "--refresh-token-stdin"][..],
        &["login", "--password-stdin", "--password-file", "x"],
        &[
            "login",
            "--refresh-token-stdin",
            "--refresh-token-file",
            "x",
        ],
        &["login", EMAIL, "--refresh-token-stdin"],
        &["verify", "1", "--code-stdin"],
    ] {
        let output = world.run_stdin(b"hunter2", args).expect(2);
        assert!(
            output.stderr.contains("cannot be used with"),
            "{args:?}: {output:?}"
        );
    }
}

fn durations() {
    let world = World::new(Store::File);
    world.login();
    for good in ["0", "1", "1.5", "90s", "5m", "1h 30m", "1day"] {
        world.run(&["token", "--min-ttl", good]).expect(0);
    }
    for bad in [
        "-1",
        "1x",
        "1e400",
        "inf",
        "NaN",
        "99999999999999999999h",
        "soon",
        "5 m 3",
    ] {
        let arg = format!("--min-ttl={bad}");
        let output = world.run(&["token", &arg]).expect(2);
        assert!(
            output.stderr.starts_with("error: --min-ttl <DURATION>: "),
            "{bad}: {output:?}"
        );
    }
    world.run(&["whoami", "--timeout", "0"]).expect(2);
}
