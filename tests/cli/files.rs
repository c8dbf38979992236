//! The file store is private and atomic. A store is chosen only explicitly, and the profile
//! records it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::support::world::{EMAIL, PASSWORD, set_mode};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("files::modes_whatever_the_umask", modes_whatever_the_umask),
        test(
            "files::directories_are_private_when_they_appear",
            directories_are_private_when_they_appear,
        )
        .needs(&[Part::Command("strace")]),
        test(
            "files::unsafe_files_are_rejected",
            unsafe_files_are_rejected,
        ),
        test(
            "files::remains_of_a_killed_write_are_ignored",
            remains_of_a_killed_write_are_ignored,
        ),
        test("files::choice_is_sticky", choice_is_sticky).needs(&[Part::Keyring]),
        test("files::moved_to_the_other_store", moved_to_the_other_store).needs(&[Part::Keyring]),
        test(
            "files::config_dir_is_replaced_atomically",
            config_dir_is_replaced_atomically,
        ),
    ]
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Another process could see a directory before its mode is restricted, and refuse it.
fn directories_are_private_when_they_appear() {
    let world = World::new(Store::File);
    let log = world.home().join("strace");
    let mut command = Command::new("strace");
    world.set_environment(&mut command);
    command
        .args(["-f", "-e", "trace=mkdir,mkdirat", "-o"])
        .arg(&log)
        .arg(World::program())
        .args(["login", EMAIL, "--store", "file", "--api-url"])
        .arg(world.api.base_url())
        .env("REMEMBERIZER_PASSWORD", PASSWORD);
    Output::from_process(command.output().unwrap()).expect(0);
    let log = std::fs::read_to_string(log).unwrap();
    let created: Vec<_> = log.lines().filter(|line| line.ends_with(" = 0")).collect();
    assert!(created.len() >= 3, "{log}");
    assert!(created.iter().all(|line| line.contains(", 0700)")), "{log}");
}

fn modes_whatever_the_umask() {
    for umask in ["000", "022", "077", "777"] {
        let world = World::new(Store::File);
        let url = world.api.base_url();
        let mut command = Command::new("sh");
        world.set_environment(&mut command);
        command
            .args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .arg(World::program())
            .args(["login", EMAIL, "--store=file", "--api-url", &url])
            .env("REMEMBERIZER_PASSWORD", PASSWORD);
        Output::from_process(command.output().unwrap()).expect(0);
        for (path, wanted) in [
            (world.session_file("default"), 0o600),
            (world.config_dir().join("profiles.json"), 0o600),
            (world.data_dir().join("locks/default.lock"), 0o600),
            (world.data_dir().join("sessions"), 0o700),
            (world.data_dir(), 0o700),
            (world.config_dir(), 0o700),
        ] {
            assert_eq!(mode(&path), wanted, "umask {umask}: {}", path.display());
        }
        world.run(&["refresh"]).expect(0);
        assert_eq!(mode(&world.session_file("default")), 0o600);
    }
}

fn unsafe_files_are_rejected() {
    let world = World::new(Store::File);
    world.login();
    let file = world.session_file("default");
    let content = std::fs::read(&file).unwrap();
    let path = file.display().to_string();
    let token = |message: &str, hint: &str| {
        let output = world.run(&["token"]).expect(6);
        assert_eq!(output.stdout, "");
        assert!(
            output
                .stderr
                .starts_with(&format!("error: {path} {message}")),
            "{output:?}"
        );
        assert!(output.stderr.contains(hint), "{output:?}");
    };
    set_mode(&file, 0o640);
    token(
        "can be read by others (mode 0640)\n",
        &format!("hint: chmod 600 {path}\n"),
    );
    set_mode(&file, 0o600);
    world.run(&["token"]).expect(0);

    std::fs::rename(&file, file.with_extension("real")).unwrap();
    std::os::unix::fs::symlink(file.with_extension("real"), &file).unwrap();
    token(
        "is a symbolic link, which is not followed",
        &format!("hint: rm {path}\n"),
    );
    std::fs::remove_file(&file).unwrap();

    std::fs::create_dir(&file).unwrap();
    token("is not a regular file\n", "");
    std::fs::remove_dir(&file).unwrap();

    assert!(
        Command::new("mkfifo")
            .arg("-m600")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    token("is not a regular file\n", "");
    std::fs::remove_file(&file).unwrap();

    std::fs::write(&file, &content).unwrap();
    set_mode(&file, 0o600);
    if std::fs::metadata(&file).unwrap().uid() == 0 {
        // Only root can change the owner of a file.
        std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
        token(
            "belongs to another user (uid 12345)\n",
            "hint: run rememberizer as that user\n",
        );
        for args in [&["logout"][..], &["logout", "--local"], &["refresh"]] {
            let output = world.run(args);
            assert_eq!(output.code, 6, "{args:?}: {output:?}");
            assert!(
                output.stderr.contains("run rememberizer as that user"),
                "{output:?}"
            );
            let owner = std::fs::metadata(&file).unwrap().uid();
            assert_eq!(owner, 12345, "{args:?} left it alone");
        }
        let locks = world.data_dir().join("locks");
        std::os::unix::fs::chown(&locks, Some(12345), None).unwrap();
        let output = world.run(&["refresh", "--profile", "new"]);
        assert_ne!(output.code, 0, "{output:?}");
        assert!(!locks.join("new.lock").exists(), "a file for another user");
        std::os::unix::fs::chown(&locks, Some(0), None).unwrap();
        let profiles = world.config_dir().join("profiles.json");
        std::os::unix::fs::chown(&profiles, Some(12345), None).unwrap();
        let output = world.run(&["profile", "set", "login", "x"]);
        assert_ne!(output.code, 0, "{output:?}");
        assert!(
            output.stderr.contains("run rememberizer as that user"),
            "{output:?}"
        );
        assert_eq!(std::fs::metadata(&profiles).unwrap().uid(), 12345);
        std::os::unix::fs::chown(&profiles, Some(0), None).unwrap();
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    }
    set_mode(file.parent().unwrap(), 0o755);
    let output = world.run(&["refresh"]).expect(6);
    assert!(output.stderr.contains("hint: chmod 700 "), "{output:?}");
    assert!(world.api.requests().is_empty(), "before the exchange");
    set_mode(file.parent().unwrap(), 0o700);
    world.run(&["refresh"]).expect(0);

    for garbage in ["", "nonsense", "{}", "[1]", "{\"version\":9}", "\u{0}"] {
        std::fs::write(&file, garbage).unwrap();
        let output = world.run(&["token"]).expect(6);
        assert!(output.stderr.contains("hint: "), "{garbage:?}: {output:?}");
    }
    world.run(&["logout", "--local"]).expect(0);
    assert!(!file.exists());
}

fn remains_of_a_killed_write_are_ignored() {
    let world = World::new(Store::File);
    world.login();
    let next = world
        .session_file("default")
        .with_file_name(".default.json.next");
    std::fs::write(&next, "half a session").unwrap();
    world.run(&["refresh"]).expect(0);
    assert!(!next.exists(), "overwritten and renamed");
    std::fs::write(&next, "half a session").unwrap();
    world.run(&["logout"]).expect(0);
    assert!(!next.exists(), "no copy outlives a logout");
}

fn choice_is_sticky() {
    let world = World::new(Store::Keyring);
    let url = world.api.base_url();
    let login = |args: &[&str]| {
        let args = [&["login", EMAIL, "--api-url", &url], args].concat();
        world
            .run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], &args)
            .expect(0)
    };
    login(&["--store", "file"]);
    assert!(world.session_file("default").is_file() && world.entry().is_none());
    // Every later command uses the recorded store, including login.
    login(&[]);
    world.run(&["whoami"]).expect(0);
    assert!(world.entry().is_none());
    let output = world
        .run_env(&[("REMEMBERIZER_STORE", "keyring")], &["whoami"])
        .expect(2);
    assert_eq!(
        output.stderr,
        "error: the session of profile default is in the file store, not in the keyring store\n\
         hint: move it: rememberizer profile set store keyring\n"
    );
    let old = std::fs::read_to_string(world.session_file("default")).unwrap();
    let old: serde_json::Value = serde_json::from_str(&old).unwrap();
    login(&["--store", "keyring"]);
    assert!(
        !world.session_file("default").exists(),
        "the old copy is purged"
    );
    assert!(
        !world
            .api
            .refresh_works(old["refresh_token"].as_str().unwrap()),
        "and its session revoked"
    );
    world.run(&["whoami"]).expect(0);
}

fn moved_to_the_other_store() {
    let world = World::new(Store::Keyring);
    world.login();
    let session = world.entry().unwrap();
    world.run(&["profile", "set", "store", "file"]).expect(0);
    assert_eq!(world.entry(), None);
    assert_eq!(
        std::fs::read_to_string(world.session_file("default")).unwrap(),
        session
    );
    world.run(&["whoami"]).expect(0);
    // If the other store cannot hold the session, the session stays where it is.
    world.bus.as_ref().unwrap().lock();
    world.run(&["profile", "set", "store", "keyring"]).expect(6);
    assert_eq!(
        std::fs::read_to_string(world.session_file("default")).unwrap(),
        session
    );
    world.run(&["whoami"]).expect(0);
}

fn config_dir_is_replaced_atomically() {
    let world = World::new(Store::File);
    world.login();
    let dir = world.home().join("elsewhere");
    let url = world.api.base_url();
    let other = dir.display().to_string();
    world
        .run_env(
            &[("REMEMBERIZER_PASSWORD", PASSWORD)],
            &[
                "login",
                EMAIL,
                "--config-dir",
                &other,
                "-p",
                "two",
                "--store=file",
                "--api-url",
                &url,
            ],
        )
        .expect(0);
    assert!(dir.join("profiles.json").is_file());
    // If the file is a symlink, its target is replaced and the link is kept.
    let real = world.home().join("dotfiles.json");
    std::fs::rename(dir.join("profiles.json"), &real).unwrap();
    std::os::unix::fs::symlink(&real, dir.join("profiles.json")).unwrap();
    world
        .run(&[
            "profile",
            "set",
            "login",
            "bob",
            "--config-dir",
            &other,
            "-p",
            "two",
        ])
        .expect(0);
    assert!(
        std::fs::symlink_metadata(dir.join("profiles.json"))
            .unwrap()
            .is_symlink()
    );
    assert!(std::fs::read_to_string(&real).unwrap().contains("bob"));
}
