//! Home directories that are missing, read-only or full, or that have files in place of our
//! directories: errors are clear, the working directory stays empty, and no session is lost.

use std::process::Command;

use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, on_both_stores, test};

pub fn tests() -> Vec<Test> {
    let unshare = [Part::Command("unshare"), Part::Root];
    let strace = [Part::Command("strace")];
    let mut tests = vec![
        test("machine::no_home", no_home),
        test("machine::read_only_home", read_only_home).needs(&unshare),
        test("machine::full_home", full_home).needs(&unshare),
        test("machine::directories_elsewhere", directories_elsewhere),
        test("machine::relative_config_dir", relative_config_dir),
        test(
            "machine::directories_without_home",
            directories_without_home,
        )
        .needs(&[Part::Command("setpriv"), Part::Root]),
        test(
            "machine::files_in_place_of_directories",
            files_in_place_of_directories,
        ),
        test("machine::killed_at_each_file_operation", || {
            interrupt_file_operations(Injection::Kill)
        })
        .needs(&strace),
        test("machine::each_file_operation_fails", || {
            interrupt_file_operations(Injection::Error)
        })
        .needs(&strace),
        test("machine::no_more_threads", no_more_threads).needs(&[
            Part::Command("prlimit"),
            Part::Command("setpriv"),
            Part::Root,
        ]),
    ];
    let prlimit = [Part::Command("prlimit")];
    tests.extend(
        on_both_stores("machine::few_descriptors", few_descriptors)
            .map(|test| test.needs(&prlimit)),
    );
    tests
}

fn no_home() {
    let world = World::new(Store::File);
    let empty = world.home().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for home in [Some("/dev/null/home"), Some(""), None] {
        for args in [
            &["login", EMAIL, "--store=file"][..],
            &["whoami", "--store=file"],
            &["token"],
            &["profile", "list"],
        ] {
            let mut command = world.command(args);
            command
                .current_dir(&empty)
                .env("REMEMBERIZER_PASSWORD", PASSWORD)
                .env_remove("HOME");
            // Without HOME, `directories` reads the home from the password database.
            command
                .env("XDG_CONFIG_HOME", "/dev/null/c")
                .env("XDG_DATA_HOME", "/dev/null/d");
            if let Some(home) = home {
                command.env("HOME", home);
            }
            let output = Output::from_process(command.output().unwrap());
            assert!([0, 1, 3, 6].contains(&output.code), "{args:?}: {output:?}");
            if args[0] == "login" {
                assert_eq!(output.code, 1, "{output:?}");
                assert!(
                    output
                        .stderr
                        .contains("hint: choose another directory with --config-dir DIR"),
                    "{output:?}"
                );
            }
        }
    }
    assert_eq!(
        std::fs::read_dir(&empty).unwrap().count(),
        0,
        "nothing in the working directory"
    );
    assert!(world.api.requests().is_empty());
}

/// Runs a script in a mount namespace, where it can mount a tmpfs over our directories.
fn unshared(world: &World, script: &str) -> Output {
    let mut command = Command::new("unshare");
    world.set_environment(&mut command);
    let program = World::program();
    command
        .args([
            "-m",
            "sh",
            "-c",
            &format!("set -u; R='{}'; {script}", program.display()),
        ])
        .env("REMEMBERIZER_PASSWORD", PASSWORD);
    Output::from_process(command.output().unwrap())
}

fn read_only_home() {
    let world = World::new(Store::File);
    world.login();
    let before = world.entry();
    let script = "mount --bind \"$HOME\" \"$HOME\" && mount -o remount,bind,ro \"$HOME\"
        cd /; $R token >/dev/null || exit 99
        $R refresh; echo code=$?; $R login ann@example.com; echo code=$?; $R logout; echo code=$?; $R whoami >/dev/null; echo code=$?";
    let output = unshared(&world, script).expect(0);
    assert_eq!(
        output.stdout, "code=6\ncode=1\ncode=6\ncode=0\n",
        "{output:?}"
    );
    assert!(
        output.stderr.contains("Read-only file system"),
        "{output:?}"
    );
    assert_eq!(world.entry(), before);
    assert!(
        !world
            .api
            .requests()
            .iter()
            .any(|seen| seen.path.starts_with("/auth/")),
        "{:?}",
        world.api.requests()
    );
}

fn full_home() {
    let world = World::new(Store::File);
    world.login();
    let script = "cp -a \"$HOME\" /tmp/full.$$; mount -t tmpfs -o size=200k tmpfs \"$HOME\"; cp -a /tmp/full.$$/. \"$HOME/\"; rm -rf /tmp/full.$$
        cd /; head -c 1000000 /dev/zero > \"$HOME/fill\" 2>/dev/null
        $R token >/dev/null; echo code=$?; $R refresh; echo code=$?; $R login ann@example.com; echo code=$?
        $R profile set login bob; echo code=$?; cat \"$HOME/.local/share/rememberizer/sessions/default.json\"";
    let output = unshared(&world, script).expect(0);
    assert!(
        output
            .stdout
            .starts_with("code=0\ncode=6\ncode=1\ncode=1\n{"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("No space left on device"),
        "{output:?}"
    );
    let entry: serde_json::Value =
        serde_json::from_str(output.stdout.lines().nth(4).unwrap()).unwrap();
    assert_eq!(entry, world.entry_json(), "whole, and as it was");
    assert!(world.api.requests().is_empty());
}

fn directories_elsewhere() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    let (config, data) = (world.home().join("c"), world.home().join("d"));
    let env = [
        ("XDG_CONFIG_HOME", config.to_str().unwrap()),
        ("XDG_DATA_HOME", data.to_str().unwrap()),
        ("REMEMBERIZER_PASSWORD", PASSWORD),
    ];
    world
        .run_env(&env, &["login", EMAIL, "--store=file", "--api-url", &url])
        .expect(0);
    assert!(config.join("rememberizer/profiles.json").is_file());
    assert!(data.join("rememberizer/sessions/default.json").is_file());
    assert!(!world.config_dir().exists() && !world.data_dir().exists());
    world.run_env(&env, &["whoami"]).expect(0);
}

fn relative_config_dir() {
    let world = World::new(Store::File);
    let set = ["profile", "set", "login", "bob", "--config-dir", "new/dir"];
    world.run(&set).expect(0);
    let list = world.run(&["profile", "list", "--config-dir=new/dir"]);
    assert!(list.expect(0).stdout.contains("bob"));
    assert!(world.home().join("new/dir/profiles.json").is_file());
}

/// A user without HOME and without a passwd entry, as in some containers.
fn directories_without_home() {
    let world = World::new(Store::File);
    let program = world.home().join("program");
    std::fs::copy(World::program(), &program).unwrap();
    let own = Command::new("chown")
        .args(["-R", "54321"])
        .arg(world.home())
        .status();
    assert!(own.unwrap().success());
    let (config, data) = (world.home().join("c"), world.home().join("d"));
    let run = |dirs: &[(&str, &std::path::Path)], args: &[&str]| {
        let mut command = Command::new("setpriv");
        world.set_environment(&mut command);
        command
            .args(["--reuid=54321", "--clear-groups"])
            .arg(&program)
            .args(args)
            .env("REMEMBERIZER_PASSWORD", PASSWORD)
            .env_remove("HOME")
            .envs(dirs.iter().copied());
        Output::from_process(command.output().unwrap())
    };
    let both = [
        ("XDG_CONFIG_HOME", config.as_path()),
        ("XDG_DATA_HOME", data.as_path()),
    ];
    let url = world.api.base_url();
    run(&both, &["login", EMAIL, "--store=file", "--api-url", &url]).expect(0);
    run(&both, &["whoami"]).expect(0);
    for (dirs, missing) in [(&both[..1], "data"), (&both[1..], "config")] {
        let output = run(dirs, &["whoami"]).expect(1);
        let variable = format!("XDG_{}_HOME", missing.to_uppercase());
        assert_eq!(
            output.stderr,
            format!(
                "error: there is no {missing} directory: the home directory is not known\nhint: set HOME, or set {variable} to an absolute path\n"
            )
        );
    }
}

fn files_in_place_of_directories() {
    let world = World::new(Store::File);
    world.login();
    let before = world.entry();
    let lock = world.data_dir().join("locks/default.lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    let output = world.run(&["refresh"]).expect(6);
    assert!(
        output
            .stderr
            .starts_with(&format!("error: cannot lock {}: ", lock.display())),
        "{output:?}"
    );
    std::fs::remove_dir(&lock).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &lock).unwrap();
    world.run(&["refresh"]).expect(6);
    std::fs::remove_file(&lock).unwrap();
    assert_eq!(world.entry(), before);
    assert!(world.api.requests().is_empty());
    let file = world.home().join("file");
    std::fs::write(&file, "").unwrap();
    let dir = file.display().to_string();
    let output = world
        .run(&["profile", "list", "--config-dir", &dir])
        .expect(1);
    assert!(output.stderr.contains("Not a directory"), "{output:?}");
    world.run(&["refresh"]).expect(0);
}

/// The fault that strace injects into one file operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Injection {
    Kill,
    Error,
}

/// Interrupts each file operation of a renewal in turn. Afterwards the stored entry is
/// complete: the old session or the new one.
fn interrupt_file_operations(injection: Injection) {
    let fail = injection == Injection::Error;
    let calls = [
        "openat", "write", "fsync", "rename", "fchmod", "flock", "unlink",
    ];
    let (mut injected, mut lost) = (0, 0);
    for call in calls {
        for number in 1..60 {
            let world = World::new(Store::File);
            world.login();
            let what = if fail { "error=ENOSPC" } else { "signal=KILL" };
            let mut command = Command::new("strace");
            world.set_environment(&mut command);
            let log = world.home().join("strace");
            command
                .args(["-f", "-qq", "-o"])
                .arg(&log)
                .args([
                    "-e",
                    &format!("trace={call}"),
                    "-P",
                    world.data_dir().join("sessions").to_str().unwrap(),
                ])
                .args(["-P", world.session_file("default").to_str().unwrap()])
                .args([
                    "-P",
                    world
                        .session_file("default")
                        .with_file_name(".default.json.next")
                        .to_str()
                        .unwrap(),
                ])
                .args([
                    "-P",
                    world
                        .data_dir()
                        .join("locks/default.lock")
                        .to_str()
                        .unwrap(),
                ])
                .args(["-e", &format!("inject={call}:{what}:when={number}")])
                .arg(World::program())
                .arg("refresh");
            let output = Output::from_process(command.output().unwrap());
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let hit = log.contains("INJECTED") || log.contains("killed by SIGKILL");
            if !hit {
                break;
            }
            injected += 1;
            if fail {
                assert!([0, 6].contains(&output.code), "{call} {number}: {output:?}");
            }
            let entry = world.entry_json();
            if world
                .api
                .refresh_works(entry["refresh_token"].as_str().unwrap())
            {
                world.run(&["refresh"]).expect(0);
            } else {
                lost += 1;
                assert_eq!(world.api.exchanges(), 1, "{call} {number}");
                if fail {
                    assert!(
                        output.stderr.contains("could not be stored"),
                        "{call} {number}: {output:?}"
                    );
                } else {
                    assert!(entry["exchange_began"].is_i64(), "{call} {number}");
                    let next = world.run(&["refresh"]).expect(3);
                    assert!(
                        next.stderr.contains("a run that began to renew it at"),
                        "{next:?}"
                    );
                }
            }
        }
    }
    println!(
        "{injected} file operations {}: {lost} sessions lost, each of them reported",
        if fail { "failed" } else { "killed" }
    );
    assert!(injected > 8, "only {injected}");
}

fn few_descriptors(world: &World) {
    world.login();
    for limit in 3..22 {
        let before = world.entry();
        let mut command = Command::new("prlimit");
        world.set_environment(&mut command);
        command
            .arg(format!("--nofile={limit}"))
            .arg(World::program())
            .arg("refresh");
        let output = Output::from_process(command.output().unwrap());
        assert!(
            output.code != 101 && output.code < 128,
            "{limit}: {output:?}"
        );
        if output.code != 0 {
            let now = world.entry_json();
            assert!(
                world
                    .api
                    .refresh_works(now["refresh_token"].as_str().unwrap()),
                "{limit}: {before:?} {output:?}"
            );
        }
    }
    world.run(&["refresh"]).expect(0);
}

/// A user who may start no more processes, and so no threads.
fn no_more_threads() {
    let world = World::new(Store::File);
    world.login();
    let program = world.home().join("program");
    std::fs::copy(World::program(), &program).unwrap();
    let own = |command: &mut Command| {
        assert!(command.arg(world.home()).status().unwrap().success());
    };
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    own(Command::new("chown").args(["-R", "65534:65534"]));
    for threads in 1..4 {
        for args in [&["refresh"][..], &["token"], &["whoami"], &["doctor"]] {
            let mut command = Command::new("setpriv");
            world.set_environment(&mut command);
            let limit = format!("--nproc={threads}");
            command.args(nobody).args(["prlimit", &limit]);
            let output = Output::from_process(command.arg(&program).args(args).output().unwrap());
            assert!(
                [0, 1, 5].contains(&output.code),
                "{threads} {args:?}: {output:?}"
            );
            if threads == 1 && args == ["refresh"] {
                let printed = "error: cannot open a connection: ";
                assert!(output.stderr.starts_with(printed), "{output:?}");
            }
        }
    }
    own(Command::new("chown").args(["-R", "0:0"]));
    world.run(&["refresh"]).expect(0);
}
