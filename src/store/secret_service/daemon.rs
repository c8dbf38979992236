//! Differences between the daemons that provide the Secret Service: how the running
//! daemon is identified, hints for its user, and `KWallet`'s own D-Bus interface.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::zvariant::{DynamicType, Type};

use super::bus::{Bus, Result, SECRET_SERVICE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    GnomeKeyring,
    KWallet(KWallet),
    KeePassXc,
    Unknown,
}

/// The bus name and the path of `KWallet`'s own interface, which depend on its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KWallet {
    bus_name: &'static str,
    object_path: &'static str,
}

const KWALLET6: KWallet = KWallet {
    bus_name: "org.kde.kwalletd6",
    object_path: "/modules/kwalletd6",
};

const KWALLET5: KWallet = KWallet {
    bus_name: "org.kde.kwalletd5",
    object_path: "/modules/kwalletd5",
};

/// The bus name that each daemon owns in addition to that of the Secret Service.
const DAEMON_BUS_NAMES: [(&str, Daemon); 4] = [
    ("org.gnome.keyring", Daemon::GnomeKeyring),
    (KWALLET6.bus_name, Daemon::KWallet(KWALLET6)),
    (KWALLET5.bus_name, Daemon::KWallet(KWALLET5)),
    ("org.keepassxc.KeePassXC.MainWindow", Daemon::KeePassXc),
];

impl Daemon {
    /// Identifies the running daemon by the bus names that it owns. Calls only the bus,
    /// since the daemon itself may not respond.
    pub(super) async fn identify(bus: Bus) -> Self {
        let Ok(service_owner) = bus_name_owner(&bus, SECRET_SERVICE).await else {
            return Self::Unknown;
        };
        for (bus_name, daemon) in DAEMON_BUS_NAMES {
            let owner = bus_name_owner(&bus, bus_name).await;
            if owner.is_ok_and(|owner| owner == service_owner) {
                return daemon;
            }
        }
        Self::Unknown
    }

    /// Returns whether the daemon closes the dialog of a dismissed prompt. KeePassXC 2.7
    /// leaves the dialog open. gnome-keyring 42 aborts (an assertion in its
    /// `perform_next_unlock` fails), which locks the keyrings for all programs.
    pub(super) fn can_dismiss_prompts(self) -> bool {
        !matches!(self, Self::GnomeKeyring | Self::KeePassXc)
    }

    pub(super) fn unlock_hint(self) -> &'static str {
        match self {
            Self::GnomeKeyring => {
                // This command works in every shell, and keeps the password off the
                // screen, the command line and the environment. `tr` removes the newline,
                // which would count as part of the password. Without `--replace` a second
                // daemon would start beside the locked one.
                r"unlock the login keyring; this command reads its password: stty -echo; head -n 1 | tr -d '\n' | gnome-keyring-daemon --replace --unlock; stty echo"
            }
            Self::KWallet(_) => "open the wallet in KDE Wallet Manager (kwalletmanager5)",
            Self::KeePassXc => "unlock the database in KeePassXC",
            Self::Unknown => "unlock the default keyring",
        }
    }

    pub(super) fn confirmation_hint(self) -> &'static str {
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

async fn bus_name_owner(bus: &Bus, bus_name: &str) -> Result<String> {
    const DBUS: &str = "org.freedesktop.DBus";
    bus.call_to(
        DBUS,
        "/org/freedesktop/DBus",
        DBUS,
        "GetNameOwner",
        &bus_name,
    )
    .await
}

impl KWallet {
    const APPLICATION: &str = "rememberizer";

    /// Returns whether a wallet is open. `KWallet` reports the collection of an open
    /// wallet as locked until its prompt has run, which then shows no dialog.
    pub(super) async fn is_open(self, bus: &Bus, wallet: &str) -> bool {
        self.call(bus, "isOpen", &wallet).await.unwrap_or(false)
    }

    /// Makes `KWallet` write a wallet to disk now. It would otherwise do so five seconds
    /// after the last change.
    pub(super) async fn sync(self, bus: &Bus, wallet: &str) -> Result<()> {
        let no_window = 0_i64;
        let open_arguments = (wallet, no_window, Self::APPLICATION);
        let handle: i32 = self.call(bus, "open", &open_arguments).await?;
        self.call(bus, "sync", &(handle, Self::APPLICATION)).await
    }

    async fn call<T: DeserializeOwned + Type>(
        self,
        bus: &Bus,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> Result<T> {
        let path = self.object_path;
        bus.call_to(self.bus_name, path, "org.kde.KWallet", method, body)
            .await
    }
}
