//! Failures of the Secret Service, and the D-Bus error names that map to each.

use std::io;
use std::time::Duration;

use zbus::DBusError;

use super::daemon::Daemon;
use crate::store::{StoreError, StoreErrorKind};

/// A failure of the Secret Service. The variants differ in what the user can do about them.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub(super) enum SecretServiceError {
    /// `DBUS_SESSION_BUS_ADDRESS` has no address of a bus. Contains each address and its error.
    #[error("no session bus at the addresses in DBUS_SESSION_BUS_ADDRESS ({0})")]
    NoBusAtAddresses(String),
    /// There is no session bus, or no program on the bus provides the service.
    #[error("there is no keyring service on the session bus")]
    Absent,
    /// No person could be prompted to unlock the keyring, or none responded.
    #[error("the keyring is locked")]
    Locked,
    /// A person closed the unlock prompt.
    #[error("the keyring is locked, and the request to unlock it was dismissed")]
    Dismissed,
    #[error("access to the keyring entry was not confirmed")]
    AccessNotConfirmed,
    #[error("the keyring did not delete the entry: the deletion was not confirmed")]
    DeletionNotConfirmed,
    /// The service or the bus did not respond in time.
    #[error("the keyring service did not answer within {seconds} s")]
    TimedOut { seconds: u64 },
    /// There is no default collection to create an item in.
    #[error("the keyring service has no default collection")]
    NoCollection,
    /// Several items match the account.
    #[error("the keyring holds {0} entries for this profile")]
    Ambiguous(usize),
    /// Any other failure, with the message of the service.
    #[error("the keyring service failed: {0}")]
    Other(String),
}

impl SecretServiceError {
    /// Returns how to fix the failure with the running daemon, if that is known.
    fn hint(&self, daemon: Daemon) -> Option<&'static str> {
        match self {
            Self::Absent => {
                Some("start a Secret Service, such as gnome-keyring, KWallet or KeePassXC")
            }
            Self::NoBusAtAddresses(_) => Some("correct or unset DBUS_SESSION_BUS_ADDRESS"),
            Self::Locked | Self::Dismissed => Some(daemon.unlock_hint()),
            Self::AccessNotConfirmed | Self::DeletionNotConfirmed => {
                Some(daemon.confirmation_hint())
            }
            Self::TimedOut { .. } => Some(daemon.restart_hint()),
            Self::NoCollection => {
                Some("create a default keyring (the first desktop login creates one)")
            }
            Self::Ambiguous(_) => Some("`rememberizer logout` removes all of them"),
            Self::Other(_) => None,
        }
    }

    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::NoBusAtAddresses(_) | Self::Absent | Self::TimedOut { .. } => {
                StoreErrorKind::Unavailable
            }
            Self::Locked | Self::Dismissed | Self::AccessNotConfirmed => StoreErrorKind::Locked,
            Self::DeletionNotConfirmed
            | Self::NoCollection
            | Self::Ambiguous(_)
            | Self::Other(_) => StoreErrorKind::Failed,
        }
    }

    /// Returns the error for a call that took longer than `timeout`.
    pub(super) fn timed_out(timeout: Duration) -> Self {
        Self::TimedOut {
            seconds: timeout.as_secs().max(1),
        }
    }

    /// Classifies an error of the bus or of the service.
    pub(super) fn from_bus(error: zbus::Error, timeout: Duration) -> Self {
        match error {
            zbus::Error::MethodError(name, text, _) => {
                Self::from_name(&name, text.as_deref(), timeout)
            }
            zbus::Error::FDO(e) => Self::from_fdo(*e, timeout),
            zbus::Error::InputOutput(e) if e.kind() == io::ErrorKind::TimedOut => {
                Self::timed_out(timeout)
            }
            // The bus closed the connection.
            zbus::Error::InputOutput(_) => Self::Absent,
            e => Self::Other(e.to_string()),
        }
    }

    fn from_fdo(error: zbus::fdo::Error, timeout: Duration) -> Self {
        match error {
            zbus::fdo::Error::ZBus(e) => Self::from_bus(e, timeout),
            e => Self::from_name(&e.name(), e.description(), timeout),
        }
    }

    /// Classifies an error reply by its name. The names are those of the D-Bus
    /// specification, of D-Bus service activation and of the Secret Service
    /// specification.
    fn from_name(name: &str, text: Option<&str>, timeout: Duration) -> Self {
        if name.starts_with("org.freedesktop.DBus.Error.Spawn.") {
            return Self::Absent;
        }
        match name {
            "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.DBus.Error.NameHasNoOwner"
            | "org.freedesktop.DBus.Error.NoServer"
            // The service exited during the call.
            | "org.freedesktop.DBus.Error.NoReply"
            | "org.freedesktop.DBus.Error.Disconnected" => Self::Absent,
            "org.freedesktop.DBus.Error.TimedOut" | "org.freedesktop.DBus.Error.Timeout" => {
                Self::timed_out(timeout)
            }
            "org.freedesktop.Secret.Error.IsLocked" => Self::Locked,
            name => Self::Other(text.unwrap_or(name).to_owned()),
        }
    }

    pub(super) fn into_store_error(self, daemon: Daemon) -> StoreError {
        StoreError {
            kind: self.kind(),
            message: self.to_string(),
            hint: self.hint(daemon).map(str::to_owned),
        }
    }
}
