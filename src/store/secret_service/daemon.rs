//! The programs that provide the Secret Service, as far as they differ: which
//! one is running, what helps when it is locked, and `KWallet`'s own interface.

use zbus::zvariant::OwnedValue;

use super::bus::{BUS_NAME, Bus, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    GnomeKeyring,
    KWallet(KWallet),
    KeePassXc,
    Unknown,
}

/// The bus name and the object of a kwalletd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KWallet {
    name: &'static str,
    path: &'static str,
}

/// The name that each daemon owns beside that of the Secret Service.
const NAMES: [(&str, Daemon); 4] = [
    ("org.gnome.keyring", Daemon::GnomeKeyring),
    kwallet("org.kde.kwalletd6", "/modules/kwalletd6"),
    kwallet("org.kde.kwalletd5", "/modules/kwalletd5"),
    ("org.keepassxc.KeePassXC.MainWindow", Daemon::KeePassXc),
];

const fn kwallet(name: &'static str, path: &'static str) -> (&'static str, Daemon) {
    (name, Daemon::KWallet(KWallet { name, path }))
}

impl Daemon {
    /// Asks the bus which daemon is running. The service itself is not asked.
    pub(super) async fn identify(bus: Bus) -> Self {
        let Ok(service) = owner(&bus, BUS_NAME).await else {
            return Self::Unknown;
        };
        for (name, daemon) in NAMES {
            if owner(&bus, name).await.is_ok_and(|owner| owner == service) {
                return daemon;
            }
        }
        Self::Unknown
    }

    /// Returns whether the service closes the dialog of a prompt that is dismissed.
    /// gnome-keyring 42 aborts instead (an assertion in its `perform_next_unlock`),
    /// which locks the keyrings of all programs. KeePassXC 2.7 leaves it open.
    pub(super) fn can_dismiss(self) -> bool {
        !matches!(self, Self::GnomeKeyring | Self::KeePassXc)
    }

    pub(super) fn unlock_hint(self) -> &'static str {
        match self {
            Self::GnomeKeyring => {
                // Reads the password without echo, and without a variable or an
                // argument; the same in every shell. A newline would count as
                // part of the password. Without `--replace` a second daemon
                // would start beside the locked one.
                r"unlock the login keyring; this command reads its password: stty -echo; head -n 1 | tr -d '\n' | gnome-keyring-daemon --replace --unlock; stty echo"
            }
            Self::KWallet(_) => "open the wallet in KDE Wallet Manager (kwalletmanager5)",
            Self::KeePassXc => "unlock the database in KeePassXC",
            Self::Unknown => "unlock the default keyring",
        }
    }

    pub(super) fn approval_hint(self) -> &'static str {
        match self {
            Self::KeePassXc => {
                "confirm it in KeePassXC, or turn off its confirmations in Settings > Secret Service Integration"
            }
            _ => "confirm it in the keyring's dialog",
        }
    }

    pub(super) fn restart_hint(self) -> &'static str {
        match self {
            Self::GnomeKeyring => "restart the keyring service (gnome-keyring-daemon --replace)",
            Self::KWallet(_) => "restart KWallet",
            Self::KeePassXc => "restart KeePassXC",
            Self::Unknown => "restart the keyring service",
        }
    }
}

async fn owner(bus: &Bus, name: &str) -> Result<String> {
    const DBUS: &str = "org.freedesktop.DBus";
    bus.call_at(DBUS, "/org/freedesktop/DBus", DBUS, "GetNameOwner", &name)
        .await
}

impl KWallet {
    const INTERFACE: &str = "org.kde.KWallet";
    const APPLICATION: &str = "rememberizer";

    /// Whether a wallet is open. `KWallet` reports the collection of an open
    /// wallet as locked until its prompt, which then asks nobody, has run.
    pub(super) async fn is_open(self, bus: &Bus, wallet: &str) -> bool {
        bus.call_at(self.name, self.path, Self::INTERFACE, "isOpen", &wallet)
            .await
            .unwrap_or(false)
    }

    /// Has a wallet written to disk, which `KWallet` otherwise does five seconds
    /// after the last change.
    pub(super) async fn sync(self, bus: &Bus, wallet: &str) -> Result<()> {
        let window = 0_i64;
        let open = (wallet, window, Self::APPLICATION);
        let handle: i32 = bus
            .call_at(self.name, self.path, Self::INTERFACE, "open", &open)
            .await?;
        let sync = (handle, Self::APPLICATION);
        bus.call_at(self.name, self.path, Self::INTERFACE, "sync", &sync)
            .await
    }
}

/// Reads a property of an object of the service.
pub(super) async fn property<T: TryFrom<OwnedValue>>(
    bus: &Bus,
    path: &str,
    interface: &str,
    property: &str,
) -> Option<T> {
    let value: OwnedValue = bus
        .call(
            path,
            "org.freedesktop.DBus.Properties",
            "Get",
            &(interface, property),
        )
        .await
        .ok()?;
    T::try_from(value).ok()
}
