//! Failures of the Secret Service: those that a person can act on, and the D-Bus
//! error names that map to each. It does not know which operation failed.

use std::io;
use std::time::Duration;

use zbus::DBusError;

use super::daemon::Daemon;
use crate::store::{StoreError, StoreErrorKind};

/// A failure of the Secret Service, by what its user can do about it.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub(super) enum SecretServiceError {
    /// There is no session bus, or no program on it provides the service.
    #[error("there is no keyring service on the session bus")]
    Absent,
    /// The keyring is locked, and nobody unlocked it or could be asked to.
    #[error("the keyring is locked")]
    Locked,
    /// A person closed the prompt.
    #[error("the keyring is locked, and the request to unlock it was dismissed")]
    Dismissed,
    /// The service asks before it gives out an entry, and nobody allowed it.
    #[error("the keyring asks before it gives out an entry, and it was not allowed")]
    AccessNotAllowed,
    /// The service asks before it deletes an entry, and nobody confirmed it.
    #[error("the keyring did not delete the entry: the deletion was not confirmed")]
    DeletionNotConfirmed,
    /// The service, or the bus in front of it, gave no answer in time.
    #[error("the keyring service did not answer within {seconds} s")]
    Stalled {
        /// The limit that passed.
        seconds: u64,
    },
    /// There is no default collection to create an entry in.
    #[error("the keyring service has no default collection")]
    NoCollection,
    /// More than one entry matches.
    #[error("the keyring holds {0} entries for this profile")]
    Ambiguous(usize),
    /// Any other failure, with the message of the service.
    #[error("the keyring service failed: {0}")]
    Other(String),
}

impl SecretServiceError {
    /// Returns how to fix it, in terms of the daemon that is running.
    fn hint(&self, daemon: Daemon) -> Option<&'static str> {
        match self {
            Self::Absent => {
                Some("start a Secret Service, such as gnome-keyring, KWallet or KeePassXC")
            }
            Self::Locked | Self::Dismissed => Some(daemon.unlock_hint()),
            Self::AccessNotAllowed | Self::DeletionNotConfirmed => Some(daemon.approval_hint()),
            Self::Stalled { .. } => Some(daemon.restart_hint()),
            Self::NoCollection => Some("make a default keyring, as a first desktop login does"),
            Self::Ambiguous(_) => Some("`rememberizer logout` removes all of them"),
            Self::Other(_) => None,
        }
    }

    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Absent | Self::Stalled { .. } => StoreErrorKind::Unavailable,
            Self::Locked | Self::Dismissed | Self::AccessNotAllowed => StoreErrorKind::Locked,
            Self::DeletionNotConfirmed
            | Self::NoCollection
            | Self::Ambiguous(_)
            | Self::Other(_) => StoreErrorKind::Failed,
        }
    }

    /// Returns the error for an answer that did not come within `timeout`.
    pub(super) fn stalled(timeout: Duration) -> Self {
        Self::Stalled {
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
                Self::stalled(timeout)
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

    /// Classifies an error reply by its name, which the D-Bus specification, its
    /// service activation or the Secret Service specification defines.
    fn from_name(name: &str, text: Option<&str>, timeout: Duration) -> Self {
        if name.starts_with("org.freedesktop.DBus.Error.Spawn.") {
            return Self::Absent;
        }
        match name {
            "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.DBus.Error.NameHasNoOwner"
            | "org.freedesktop.DBus.Error.NoServer"
            // The service went away during the call.
            | "org.freedesktop.DBus.Error.NoReply"
            | "org.freedesktop.DBus.Error.Disconnected" => Self::Absent,
            "org.freedesktop.DBus.Error.TimedOut" | "org.freedesktop.DBus.Error.Timeout" => {
                Self::stalled(timeout)
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
