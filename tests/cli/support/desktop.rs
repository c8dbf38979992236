//! `KWallet` and `KeePassXC` on a private bus, without a display.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bus, Store, World};

/// A world whose keyring is `KWallet` or `KeePassXC`.
pub struct Desktop {
    pub world: World,
    daemon: Child,
    service: Service,
    /// Whether `KeePassXC` prompts before each access and deletion, which is its default.
    pub confirms: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    KWallet,
    KeePassXc,
}

/// A wallet besides the default wallet `kdewallet`.
pub const SECOND_WALLET: &str = "second";

const KWALLETRC: &str = "[Wallet]\nEnabled=true\nFirst Use=false\nDefault Wallet=kdewallet\n\
    Prompt on Open=false\n[org.freedesktop.secrets]\napiEnabled=true\n";

/// Written before each start, since `KeePassXC` sets `Enabled` to false when another service
/// owns the name.
const KEEPASSXC_INI: &str = "[General]\nConfigVersion=2\nSingleInstance=false\n\
    CheckForUpdates=false\nUpdateCheckMessageShown=true\nRememberLastDatabases=false\n\
    AutoSaveAfterEveryChange=true\n[FdoSecrets]\nEnabled=true\nShowNotification=false\n\
    ConfirmDeleteItem=CONFIRM\nConfirmAccessItem=CONFIRM\nUnlockBeforeSearch=false\n[Security]\n\
    LockDatabaseIdle=false\nLockDatabaseScreenLock=false\nLockDatabaseMinimize=false\n";

const DATABASE: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<KeePassFile><Meta><RecycleBinEnabled>False</RecycleBinEnabled>
<CustomData><Item><Key>FDO_SECRETS_EXPOSED_GROUP</Key><Value>{6f1c2d3e-4a5b-4c6d-8e9f-0123456789ab}</Value></Item></CustomData></Meta>
<Root><Group><UUID>bxwtPkpbTG2OnwEjRWeJqw==</UUID><Name>Root</Name></Group></Root></KeePassFile>"#;

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Polls until `done`.
#[track_caller]
fn wait(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Desktop {
    /// Creates a world with an open wallet or an unlocked database.
    pub fn new(service: Service) -> Self {
        let mut world = World::new(Store::File);
        world.store = Store::Keyring;
        world.bus = Some(Bus::without_keyring(&world.home()));
        let daemon = Command::new("true").spawn().unwrap();
        let mut desktop = Self {
            world,
            daemon,
            service,
            confirms: false,
        };
        match service {
            Service::KWallet => {
                write(&desktop.world.home().join(".config/kwalletrc"), KWALLETRC);
                // The first opening creates the file of the wallet. Its collection exists after
                // the next start.
                desktop.start();
                desktop.open_wallets();
                desktop.kill();
            }
            Service::KeePassXc => desktop.make_database(),
        }
        desktop.restart();
        desktop
    }

    fn bus(&self) -> &Bus {
        self.world.bus.as_ref().unwrap()
    }

    fn make_database(&self) {
        let home = self.world.home();
        write(&home.join("t.xml"), DATABASE);
        write(&home.join("password"), "test\n");
        write(&home.join("passwords"), "test\ntest\n");
        let status = self
            .bus()
            .command("keepassxc-cli")
            .args(["import", "-q", "-p", "-t", "100", "t.xml", "t.kdbx"])
            .current_dir(&home)
            .stdin(std::fs::File::open(home.join("passwords")).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn start(&mut self) {
        let home = self.world.home();
        let mut command = match self.service {
            Service::KWallet => self.bus().command("kwalletd5"),
            Service::KeePassXc => {
                self.configure();
                let mut command = self.bus().command("keepassxc");
                command
                    .args(["--pw-stdin", "t.kdbx"])
                    .stdin(std::fs::File::open(home.join("password")).unwrap());
                command
            }
        };
        self.daemon = command
            .current_dir(&home)
            .env("TMPDIR", &home)
            .env("QT_QPA_PLATFORM", "offscreen")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait("service", || self.bus().has_secret_service());
    }

    fn configure(&self) {
        let path = self.world.home().join(".config/keepassxc/keepassxc.ini");
        let text = KEEPASSXC_INI.replace("CONFIRM", &self.confirms.to_string());
        write(&path, &text);
    }

    fn open_wallets(&self) {
        self.open_wallet("kdewallet");
        self.open_wallet(SECOND_WALLET);
    }

    /// Opens a wallet as a desktop login does; any 56 bytes are its key.
    fn open_wallet(&self, wallet: &str) {
        let wallet = format!("string:{wallet}");
        let key = format!("array:byte:{}", ["1"; 56].join(","));
        self.bus().dbus_send(&[
            "--dest=org.kde.kwalletd5",
            "/modules/kwalletd5",
            "org.kde.KWallet.pamOpen",
            &wallet,
            &key,
            "int32:0",
        ]);
        wait("open wallet", || {
            self.bus()
                .dbus_send(&[
                    "--dest=org.kde.kwalletd5",
                    "/modules/kwalletd5",
                    "org.kde.KWallet.isOpen",
                    &wallet,
                ])
                .contains("true")
        });
    }

    /// Copies the entry of the default profile to another wallet.
    pub fn copy_entry_to(&self, wallet: &str) {
        let collection = format!("--collection=/org/freedesktop/secrets/collection/{wallet}");
        let mut child = self
            .bus()
            .command("secret-tool")
            .args(["store", "--label=copy", &collection])
            .args(["service", "rememberizer", "username", "default"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let entry = self.world.entry().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), entry.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Reads the file of a wallet.
    pub fn wallet_file(&self, wallet: &str) -> Vec<u8> {
        let path = format!(".local/share/kwalletd/{wallet}.kwl");
        std::fs::read(self.world.home().join(path)).unwrap()
    }

    /// Kills the service.
    pub fn kill(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
        wait("end of the service", || !self.bus().has_secret_service());
    }

    /// Waits for `KeePassXC` to save its database, about half a second after a change:
    /// until the file has not changed for two seconds.
    pub fn wait_until_saved(&self) {
        const QUIET: Duration = Duration::from_secs(2);
        let file = self.world.home().join("t.kdbx");
        let called = Instant::now();
        wait("save", || {
            let modified = file.metadata().unwrap().modified().unwrap();
            called.elapsed() > QUIET && modified.elapsed().is_ok_and(|age| age > QUIET)
        });
    }

    /// Starts the service with an open wallet, or an unlocked database.
    pub fn restart(&mut self) {
        self.start();
        match self.service {
            Service::KWallet => self.open_wallets(),
            Service::KeePassXc => {
                wait("collection", || self.bus().has_default_collection());
                // Just after the start, the service does not respond to prompts.
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }

    /// Closes the wallet by starting a new daemon, or locks the database.
    pub fn lock(&mut self) {
        match self.service {
            Service::KWallet => {
                self.kill();
                self.start();
            }
            Service::KeePassXc => {
                let script = "import secretstorage\n\
                    from secretstorage.util import DBusAddressWrapper, exec_prompt\n\
                    c = secretstorage.dbus_init()\n\
                    s = DBusAddressWrapper('/org/freedesktop/secrets', 'org.freedesktop.Secret.Service', c)\n\
                    _, p = s.call('Lock', 'ao', ['/org/freedesktop/secrets/collection/t'])\n\
                    p == '/' or exec_prompt(c, p)";
                let status = self
                    .bus()
                    .command("/usr/bin/python3")
                    .args(["-c", script])
                    .status()
                    .unwrap();
                assert!(status.success());
            }
        }
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
