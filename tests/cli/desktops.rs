//! The keyrings of desktops: `KWallet`, `KeePassXC`, and gnome-keyring with its prompts.

use std::time::Duration;

use crate::support::bus::PROMPTER;
use crate::support::desktop::SECOND_WALLET;
use crate::support::{Bus, Desktop, Display, Part, Screen, Service, Store, Test, World, test};

const KWALLET: [Part; 2] = [Part::Command("dbus-daemon"), Part::Command("kwalletd5")];
const KEEPASSXC: [Part; 3] = [
    Part::Command("dbus-daemon"),
    Part::Command("keepassxc"),
    Part::Python("secretstorage"),
];

pub fn tests() -> Vec<Test> {
    let prompt = [
        Part::Keyring,
        Part::Command(PROMPTER),
        Part::Command("Xvfb"),
        Part::Command("xdotool"),
        Part::Command("tmux"),
    ];
    vec![
        test("desktops::gnome_prompt", gnome_prompt).needs(&prompt),
        test("desktops::gnome_unlock_hint", gnome_unlock_hint).needs(&[
            Part::Keyring,
            Part::Command("tmux"),
            Part::Command("zsh"),
            Part::Command("dash"),
        ]),
        test("desktops::kwallet", || life(Service::KWallet)).needs(&KWALLET),
        test("desktops::keepassxc", || life(Service::KeePassXc)).needs(&KEEPASSXC),
        test("desktops::keepassxc_with_prompts", keepassxc_with_prompts).needs(&KEEPASSXC),
        test(
            "desktops::kwallet_killed_after_a_refresh",
            kwallet_killed_after_a_refresh,
        )
        .needs(&KWALLET),
        test(
            "desktops::kwallet_killed_after_a_logout",
            kwallet_killed_after_a_logout,
        )
        .needs(&[KWALLET[0], KWALLET[1], Part::Command("secret-tool")]),
    ]
}

/// Uses a session from login to logout without a terminal, also while the keyring is locked.
/// The collection of `KWallet` is locked at first, although its wallet is open.
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
    if let Service::KeePassXc = service {
        desktop.wait_until_saved();
    }

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

/// By default, `KeePassXC` prompts before each access and deletion.
fn keepassxc_with_prompts() {
    let mut desktop = Desktop::new(Service::KeePassXc);
    desktop.world.login();
    desktop.wait_until_saved();
    desktop.kill();
    desktop.confirms = true;
    desktop.restart();
    let doctor = desktop.world.run(&["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("ok       store     the keyring: read in ")
            && doctor
                .stdout
                .contains(" ms (not written, since removing a test entry could open a dialog)\n"),
        "{doctor:?}"
    );
    let output = desktop.world.run(&["token"]).expect(6);
    assert_eq!(
        output.stderr,
        "error: access to the keyring entry was not confirmed\n\
         hint: confirm it in KeePassXC, or turn off its confirmations in Settings > Secret Service Integration\n"
    );
}

/// `KWallet` writes a change to disk after five seconds, unless it is asked to write at once.
fn kwallet_killed_after_a_refresh() {
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

/// A logout also deletes an entry in a wallet that is not the default wallet. When the logout
/// ends, the deletion is on disk.
fn kwallet_killed_after_a_logout() {
    let mut desktop = Desktop::new(Service::KWallet);
    desktop.world.login();
    desktop.copy_entry_to(SECOND_WALLET);
    // `KWallet` writes the copy to disk by itself.
    std::thread::sleep(Duration::from_secs(6));
    desktop.world.run(&["token"]).expect(6);
    let copied = desktop.wallet_file(SECOND_WALLET);
    desktop.world.run(&["logout"]).expect(0);
    assert_ne!(desktop.wallet_file(SECOND_WALLET), copied);
    desktop.kill();
    desktop.restart();
    desktop.world.run(&["token"]).expect(3);
    assert_eq!(desktop.world.entry(), None);
}

/// The window class of the program that shows the prompts of gnome-keyring.
const PROMPT: &str = "gcr-prompter";

fn gnome_prompt() {
    let display = Display::start();
    let mut world = World::new(Store::File);
    world.store = Store::Keyring;
    world.bus = Some(Bus::with_prompts(&world.home(), display.name()));
    world.login();
    let bus = world.bus.as_ref().unwrap();
    let screen = Screen::new(&world);

    // If the user dismisses the prompt, the run does not prompt again.
    bus.lock();
    screen.start("rememberizer doctor --quiet");
    display.wait_for_window(PROMPT);
    screen.wait_for("unlock the keyring to continue");
    display.answer(PROMPT, &["Escape"]);
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 1, "{shown}");
    assert_eq!(shown.matches("unlock the keyring to continue").count(), 1);
    assert!(!display.has_window(PROMPT));
    screen.clear();

    screen.start("rememberizer token --json");
    display.wait_for_window(PROMPT);
    display.answer(PROMPT, &["Escape"]);
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 6, "{shown}");
    assert!(shown.contains("store_locked"), "{shown}");
    screen.clear();

    // If the run is interrupted, the service and its dialog remain. Dismissing the dialog from
    // the run would crash the service.
    screen.start("rememberizer whoami --quiet");
    display.wait_for_window(PROMPT);
    screen.wait_for("(Ctrl-C leaves the dialog open)");
    screen.press("C-c");
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 130, "{shown}");
    assert!(bus.has_secret_service(), "the service has not crashed");
    display.answer(PROMPT, &["Escape"]);
    screen.clear();

    screen.start("rememberizer whoami");
    display.wait_for_window(PROMPT);
    screen.wait_for("unlock the keyring to continue");
    display.answer(PROMPT, &["ctrl+a", "t", "e", "s", "t", "Return"]);
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 0, "{shown}");
    world.run(&["token"]).expect(0);
}

/// Types the command that the hint prints.
fn gnome_unlock_hint() {
    let world = World::new(Store::Keyring);
    world.login();
    let bus = world.bus.as_ref().unwrap();
    for shell in [&["bash", "--norc"][..], &["dash"], &["zsh", "-f"]] {
        bus.lock();
        let output = world.run(&["token"]).expect(6);
        let (_, hint) = output.stderr.split_once("its password: ").unwrap();
        let runtime = world.home().display().to_string();
        let env = [("XDG_RUNTIME_DIR", runtime.as_str())];
        let screen = Screen::with_shell(&world, &env, shell);
        screen.wait_until("prompt", |shown| !shown.is_empty());
        screen.type_line(&format!("{}; echo ended", hint.trim()));
        // Keys that are typed before `stty -echo` takes effect would be shown.
        screen.wait_until("reading command", |_| screen.foreground() == "head");
        screen.type_line("test");
        let shown = screen.wait_for("\nended");
        assert!(!shown.contains("test"), "{shown}");
        // The command returns shortly before the new daemon runs and is unlocked.
        screen.wait_until("unlocked keyring", |_| world.run(&["token"]).code == 0);
    }
}
