//! The keyrings of other desktops: `KWallet` and `KeePassXC`.

use std::time::Duration;

use crate::support::{Desktop, Part, Service, Test, test};

const KWALLET: [Part; 2] = [Part::Command("dbus-daemon"), Part::Command("kwalletd5")];
const KEEPASSXC: [Part; 3] = [
    Part::Command("dbus-daemon"),
    Part::Command("keepassxc"),
    Part::Python("secretstorage"),
];

pub fn tests() -> Vec<Test> {
    vec![
        test("desktops::kwallet", || life(Service::KWallet)).needs(&KWALLET),
        test("desktops::keepassxc", || life(Service::KeePassXc)).needs(&KEEPASSXC),
        test("desktops::kwallet_killed_after_a_refresh", killed).needs(&KWALLET),
    ]
}

/// A life without a terminal, a locked keyring included. The collection of
/// `KWallet` is locked at first although its wallet is open.
fn life(service: Service) {
    let mut desktop = Desktop::new(service);
    let world = &desktop.world;
    world.run(&["token"]).expect(3);
    world.login();
    world.run(&["refresh"]).expect(0);
    world.run(&["whoami"]).expect(0);
    let doctor = world.run(&["doctor"]).expect(0);
    assert!(doctor.stdout.contains("ok       store     the keyring"));
    world.run(&["profile", "set", "store", "file"]).expect(0);
    world.run(&["profile", "set", "store", "keyring"]).expect(0);
    world.api.clear_requests();
    // The last change is on the disk of KeePassXC half a second later.
    std::thread::sleep(Duration::from_millis(500));

    desktop.lock();
    let world = &desktop.world;
    let hint = match service {
        Service::KWallet => "hint: open the wallet in KDE Wallet Manager",
        Service::KeePassXc => "hint: unlock the database in KeePassXC\n",
    };
    for args in [&["token"][..], &["logout"], &["whoami"], &["refresh"]] {
        let output = world.run(args).expect(6);
        assert!(
            output.stderr.starts_with("error: the keyring is locked\n")
                && output.stderr.contains(hint),
            "{args:?}: {output:?}"
        );
        let json = world.run(&[args, &["--json"]].concat()).expect(6);
        assert_eq!(json.error_code(), "store_locked");
    }
    assert!(world.api.requests().is_empty());
    assert_eq!(world.profiles()["profiles"]["default"]["signed_in"], true);

    desktop.kill();
    desktop.restart();
    let world = &desktop.world;
    world.run(&["whoami"]).expect(0);
    let output = world.run(&["logout"]).expect(0);
    assert!(
        output.stderr.contains("removed from the keyring"),
        "{output:?}"
    );
    world.run(&["token"]).expect(3);
}

/// `KWallet` writes five seconds late by itself.
fn killed() {
    let mut desktop = Desktop::new(Service::KWallet);
    desktop.world.login();
    for _ in 0..20 {
        desktop.world.run(&["refresh"]).expect(0);
        desktop.kill();
        desktop.restart();
    }
    desktop.world.run(&["refresh"]).expect(0);
    desktop.world.run(&["whoami"]).expect(0);
}
