//! Secrets must not appear in argv, the environment of child processes, stdout, stderr, files
//! or the output of a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sandbox::{Delay, RotationPolicy, Settings};
use crate::support::inside::Inside;
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let prlimit = [Part::Command("prlimit")];
    let mut tests = vec![test(
        "secrets::not_in_argv_or_a_core",
        not_in_argv_or_a_core,
    )];
    tests.extend(on_both_stores("secrets::in_no_output", in_no_output));
    tests.push(
        test(
            "secrets::a_core_of_another_program",
            a_core_of_another_program,
        )
        .needs(&prlimit),
    );
    tests.push(test("secrets::not_in_a_panic", not_in_a_panic));
    tests.push(
        test(
            "secrets::not_in_any_file_of_the_home",
            not_in_any_file_of_the_home,
        )
        .needs(&[Part::Keyring]),
    );
    tests
}

/// Runs every command with `-v`. No output contains a secret.
fn in_no_output(world: &World) {
    world.api.set(|s: &mut Settings| s.foreign_cookies = true);
    let url = world.api.base_url();
    let password = [("REMEMBERIZER_PASSWORD", PASSWORD)];
    let mut printed = String::new();
    let mut secrets = vec![PASSWORD.to_owned()];
    let commands: &[&[&str]] = &[
        &["login", EMAIL, "--api-url", &url, world.store_flag()],
        &["whoami"],
        &["whoami", "--full"],
        &["whoami", "--offline"],
        &["refresh"],
        &["verify", "000000"],
        &["api", "me/"],
        &["profile", "list"],
        &["profile", "show"],
        &["doctor"],
        &["exec", "--", "true"],
        &["login", EMAIL],
        &["logout"],
        &["login", EMAIL],
    ];
    for command in commands {
        for mode in [&["-v"][..], &["-v", "--json"]] {
            // The arguments after `--` belong to the command that `exec` runs.
            let args = match command.iter().position(|arg| *arg == "--") {
                Some(at) => [&command[..at], mode, &command[at..]].concat(),
                None => [command, mode].concat(),
            };
            let output = world.run_env(&password, &args);
            printed += &format!("{}{}", output.stdout, output.stderr);
            if let Some(entry) = world.entry() {
                let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
                for key in ["refresh_token", "access_token"] {
                    secrets.push(entry[key].as_str().unwrap().to_owned());
                }
            }
        }
    }
    assert!(
        printed.contains("POST ") && printed.contains("/auth/custom-refresh/"),
        "-v tells requests"
    );
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() > 6);
    for secret in &secrets {
        assert!(!printed.contains(secret), "a secret was printed");
        // The signature of a token is not printed either.
        let tail = secret.rsplit('.').next().unwrap();
        assert!(!printed.contains(tail), "a part of a secret was printed");
    }
}

fn not_in_argv_or_a_core() {
    let world = World::new(Store::File);
    world.login();
    let entry = world.entry_json();
    world.api.set(|s| {
        s.delays
            .push(Delay::before(Duration::from_millis(700)).at("/account/"))
    });
    let mut run = world.spawn_until_request(&["whoami"], "/account/");
    let proc = format!("/proc/{}", run.id());
    let argv = std::fs::read(format!("{proc}/cmdline")).unwrap();
    let argv = String::from_utf8_lossy(&argv).into_owned();
    assert!(argv.contains("whoami"), "{argv}");
    for key in ["refresh_token", "access_token"] {
        assert!(!argv.contains(entry[key].as_str().unwrap()));
    }
    // A crash writes no core file.
    let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let words: Vec<_> = core.split_whitespace().collect();
    assert_eq!(words[4], "0", "{core}");
    assert!(run.wait().unwrap().success());
}

/// The limit for core files that `exec` gives to its command is unchanged.
fn a_core_of_another_program() {
    let world = World::new(Store::File);
    world.login();
    let mut command = std::process::Command::new("prlimit");
    world.set_environment(&mut command);
    let output = command
        .arg("--core=4096:8192")
        .arg(World::program())
        .args(["exec", "--", "sh", "-c", "ulimit -S -c; ulimit -H -c"])
        .output()
        .unwrap();
    let output = Output::from_process(output).expect(0);
    // The limit is in blocks of 512 bytes.
    assert_eq!(output.stdout, "8\n16\n");
}

fn not_in_any_file_of_the_home() {
    let world = World::new(Store::Keyring);
    world.login();
    let mut secrets = vec![PASSWORD.to_owned()];
    for _ in 0..3 {
        let entry = world.entry_json();
        for key in ["refresh_token", "access_token"] {
            secrets.push(entry[key].as_str().unwrap().to_owned());
        }
        world.run(&["refresh"]).expect(0);
    }
    world.run(&["logout"]).expect(0);
    let mut grep = std::process::Command::new("grep");
    grep.arg("-rlF");
    for secret in &secrets {
        grep.args(["-e", secret]);
    }
    let found = grep.arg(world.home()).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&found.stdout),
        "",
        "a secret is in a file"
    );
}

/// The program panics at each reading of the clock in turn. The message and the backtrace
/// contain no secret.
fn not_in_a_panic() {
    let settings = Settings {
        // If the server rotated tokens, a panic after the exchange would lose the session.
        rotation: RotationPolicy::Off,
        ..Settings::default()
    };
    let world = World::with_settings(Store::File, settings);
    let mut inside = Inside::new(None);
    let url = world.api.base_url();
    inside
        .env
        .insert("REMEMBERIZER_PASSWORD".into(), PASSWORD.into());
    inside.env.insert("REMEMBERIZER_API_URL".into(), url);
    let dir = tempfile::tempdir().unwrap();
    let printed = Arc::new(Mutex::new(String::new()));
    let previous = Arc::new(std::panic::take_hook());
    let (ours, kept, others) = (
        std::thread::current().id(),
        Arc::clone(&printed),
        Arc::clone(&previous),
    );
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == ours {
            let trace = std::backtrace::Backtrace::force_capture();
            *kept.lock().unwrap() += &format!("{panic}\n{trace}\n");
        } else {
            others(panic);
        }
    }));
    let mut secrets = vec![PASSWORD.to_owned()];
    let mut struck = 0;
    for args in [
        &["login", EMAIL, "--store", "keyring"][..],
        &["refresh", "-v"],
        &["token", "--min-ttl", "2days"],
        &["whoami", "-v"],
        &["logout"],
    ] {
        for left in 0..40 {
            *inside
                .readings_left
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(left);
            let run = || inside.run(dir.path(), b"", args);
            let ended = catch_unwind(AssertUnwindSafe(run));
            let entries = inside
                .entries
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for entry in entries.values() {
                let entry: serde_json::Value = serde_json::from_slice(entry).unwrap_or_default();
                let tokens = ["refresh_token", "access_token"];
                secrets.extend(
                    tokens
                        .iter()
                        .filter_map(|t| entry[t].as_str().map(str::to_owned)),
                );
            }
            match ended {
                Ok(output) => {
                    assert_eq!(output.code, 0, "{args:?}: {output:?}");
                    break;
                }
                Err(_) => struck += 1,
            }
        }
    }
    // No other test may change the hook at the same time.
    drop(std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| previous(panic)));
    let printed = printed.lock().unwrap();
    println!("{struck} panics, {} bytes printed", printed.len());
    assert!(struck > 5 && printed.contains("a clock") && printed.contains("rememberizer_cli::"));
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() > 3);
    for secret in &secrets {
        assert!(
            !printed.contains(secret.as_str()),
            "the output of a panic contains a secret"
        );
    }
}
