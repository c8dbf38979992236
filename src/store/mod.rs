//! Persistent state: the secret stores, the locks and the profiles file.
//!
//! Only this module accesses keyrings and session files. It knows nothing of the API, flags
//! and environment variables: callers pass directories and settings as arguments.

mod blocking;
mod entry;
mod file;
mod helper;
mod keyring;
mod lazy_object;
mod lock;
#[cfg(any(target_os = "macos", windows))]
mod os_keyring;
mod private_files;
mod profiles;
#[cfg(all(unix, not(target_os = "macos")))]
mod secret_service;
mod serve;
mod sessions;
mod shared;
mod stores;
mod token_file;
mod versioned;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub(crate) use file::FileStore;
pub use helper::HelperSpec;
pub(crate) use helper::HelperStores;
pub(crate) use keyring::platform_keyring;
pub use keyring::{DismissPrompt, KeyringOptions, OnPrompt};
pub(crate) use lock::{LockError, Locks, ProfileLock};
pub use profiles::{Profile, UnknownKey};
pub(crate) use profiles::{Profiles, ProfilesError, SelectedProfile};
pub(crate) use serve::StoreServer;
pub use sessions::SessionStore;
pub(crate) use shared::{Coordination, FailedAttempt, Lease, SessionEnd, SharedEntry};
pub(crate) use stores::{Prompts, Stores};
pub(crate) use token_file::TokenFile;
pub use versioned::{PutOutcome, Version, VersionedEntry, VersionedStore};

/// Returns the name of this machine, which other machines print. If the name is not known,
/// returns "another machine".
pub(crate) fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    let name = String::new();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let name: String = name.chars().filter(is_plain).take(64).collect();
    match name.is_empty() {
        true => "another machine".to_owned(),
        false => name,
    }
}

/// The kind of store that keeps a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "Cow<'_, str>")]
pub enum StoreKind {
    /// The operating system's keyring.
    Keyring,
    /// A file that only its owner can read.
    File,
    /// A store behind a helper program.
    Helper(HelperSpec),
}

impl StoreKind {
    /// The kinds that need no helper, in the order in which completions and `doctor` list them.
    pub(crate) const BUILT_IN: [Self; 2] = [Self::Keyring, Self::File];

    /// Returns the name of the kind in flags, variables and files.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Keyring => "keyring",
            Self::File => "file",
            Self::Helper(spec) => spec.as_str(),
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "keyring" => Ok(Self::Keyring),
            "file" => Ok(Self::File),
            helper if helper.starts_with("helper:") => helper.parse().map(Self::Helper),
            _ => Err("the store must be `keyring`, `file` or `helper:NAME[:LOCATION]`".to_owned()),
        }
    }
}

impl TryFrom<Cow<'_, str>> for StoreKind {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<StoreKind> for &'static str {
    fn from(kind: StoreKind) -> Self {
        kind.as_str()
    }
}

/// Stores one secret per account. An account is the key of an entry: the name of a profile,
/// or a name derived from it.
pub trait SecretStore {
    /// Returns the kind of the store.
    fn kind(&self) -> StoreKind;

    /// Returns the maximum size of one secret, if the store has a maximum.
    fn max_secret_bytes(&self) -> Option<usize> {
        None
    }

    /// Returns the secret of `account`, or `None` if there is no entry.
    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>;

    /// Reads the secret even if it is exposed to other users, which [`read`](Self::read)
    /// refuses. A logout needs the secret to revoke the session.
    fn read_even_if_others_can_read(
        &self,
        account: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.read(account)
    }

    /// Creates or replaces the secret of `account`. The secret is durable when this returns.
    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError>;

    /// Removes every copy of the secret of `account`. Returns whether there was one.
    fn delete(&self, account: &str) -> Result<bool, StoreError>;

    /// Returns true if deleting `account` may open a dialog and no person can respond to it.
    fn deletion_may_prompt(&self, _account: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Returns this store as a [`VersionedStore`], if its entries have versions.
    fn as_versioned(&self) -> Result<Option<&dyn VersionedStore>, StoreError> {
        Ok(None)
    }
}

/// The kind of a store failure, which decides what the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The store does not exist or does not respond.
    Unavailable,
    /// The store is locked, and a person must unlock it.
    Locked,
    /// The store refused the operation or could not do it, or the entry is not valid.
    Failed,
}

/// A failure of a secret store or of a lock, or an invalid stored entry.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// The kind of failure.
    pub kind: StoreErrorKind,
    /// The error message.
    pub message: String,
    /// How to fix the failure, if that is known.
    pub hint: Option<String>,
}

impl StoreError {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Failed, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Unavailable, message)
    }

    fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
