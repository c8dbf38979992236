//! The Secret Service of Linux and the BSDs behind keyring-core's traits.
//!
//! One thread speaks to the service, and callers wait for it no longer than
//! they were told to: whatever stalls (the bus, the daemon, a prompt that
//! nobody sees) stalls that thread alone, and the process ends without it.
//!
//! The session is a plain one: the bus belongs to the user, and any process of
//! the user may ask the service for the secret anyway. Attributes and content
//! type are those of the keyring crate, so `secret-tool`, Python's keyring and
//! others read our entries and we read theirs.

mod worker;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyring_core::api::{Credential, CredentialApi, CredentialStoreApi};
use keyring_core::{Entry, Error};

use super::{KeyringOptions, StoreErrorKind};
use worker::{Event, Request, Worker};

/// What can be wrong with a Secret Service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretServiceError {
    /// No session bus, or nobody on it is the Secret Service.
    #[error("there is no keyring service on the session bus")]
    Absent,
    /// It is locked, and nobody can be asked to unlock it.
    #[error("the keyring is locked")]
    Locked,
    /// Somebody was asked to unlock it and did not.
    #[error("the keyring is locked, and the request to unlock it was dismissed")]
    Dismissed,
    /// No answer in time.
    #[error("the keyring service did not answer within {} s", .0.as_secs())]
    Stalled(Duration),
    /// There is no default collection to put a secret into.
    #[error("the keyring service has no default collection")]
    NoCollection,
    /// More than one entry bears the same service and account.
    #[error("the keyring holds {0} entries for this profile")]
    Ambiguous(usize),
    /// Anything else, in the service's own words.
    #[error("the keyring service failed: {0}")]
    Other(String),
}

impl SecretServiceError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Absent | Self::Stalled(_) => StoreErrorKind::Unavailable,
            Self::Locked | Self::Dismissed => StoreErrorKind::Locked,
            Self::NoCollection | Self::Ambiguous(_) | Self::Other(_) => StoreErrorKind::Failed,
        }
    }

    /// What mends it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Absent => {
                Some("start a Secret Service, such as gnome-keyring, KWallet or KeePassXC")
            }
            Self::Locked | Self::Dismissed => Some(
                "unlock the login keyring, as a desktop login or `gnome-keyring-daemon --unlock` does",
            ),
            Self::Stalled(_) => {
                Some("restart the keyring service (gnome-keyring-daemon --replace)")
            }
            Self::NoCollection => Some("make a default keyring, as a first desktop login does"),
            Self::Ambiguous(_) => Some("`rememberizer logout` removes all of them"),
            Self::Other(_) => None,
        }
    }
}

impl From<SecretServiceError> for Error {
    fn from(error: SecretServiceError) -> Self {
        match error.kind() {
            StoreErrorKind::Failed => Self::PlatformFailure(Box::new(error)),
            _ => Self::NoStorageAccess(Box::new(error)),
        }
    }
}

/// The credential store: one connection, made at the first call.
pub struct SecretServiceStore {
    options: KeyringOptions,
    worker: Mutex<Option<Worker>>,
    /// A handle to itself for the credentials that it builds.
    itself: std::sync::Weak<Self>,
}

impl SecretServiceStore {
    /// A store; nothing connects before the first call.
    #[must_use]
    pub fn new(options: KeyringOptions) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            options,
            worker: Mutex::new(None),
            itself: itself.clone(),
        })
    }

    /// Has the worker do something, for as long as the options allow.
    fn call(&self, request: Request) -> Result<Event, SecretServiceError> {
        let mut slot = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(Worker::start(
                self.options.bound,
                self.options.prompt_bound.is_some(),
            )?);
        }
        let Some(worker) = &mut *slot else {
            return Err(SecretServiceError::Absent);
        };
        worker.send(request)?;
        let mut bound = self.options.bound;
        loop {
            match worker.receive(bound)? {
                Some(Event::Prompting) => {
                    (self.options.on_prompt)();
                    bound = self.options.prompt_bound.unwrap_or(bound);
                }
                Some(Event::Failed(error)) => return Err(error),
                Some(done) => return Ok(done),
                None => return Err(SecretServiceError::Stalled(bound)),
            }
        }
    }
}

impl fmt::Debug for SecretServiceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretServiceStore")
    }
}

impl CredentialStoreApi for SecretServiceStore {
    fn vendor(&self) -> String {
        "Secret Service, plain session".to_owned()
    }

    fn id(&self) -> String {
        "org.freedesktop.secrets".to_owned()
    }

    fn build(
        &self,
        service: &str,
        user: &str,
        _modifiers: Option<&HashMap<&str, &str>>,
    ) -> keyring_core::Result<Entry> {
        let store = self.itself.upgrade().ok_or(Error::NoDefaultStore)?;
        Ok(Entry::new_with_credential(Arc::new(Item {
            store,
            service: service.to_owned(),
            user: user.to_owned(),
        })))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The entry of one service and user.
#[derive(Debug)]
struct Item {
    store: Arc<SecretServiceStore>,
    service: String,
    user: String,
}

impl Item {
    fn key(&self) -> (String, String) {
        (self.service.clone(), self.user.clone())
    }
}

impl CredentialApi for Item {
    fn set_secret(&self, secret: &[u8]) -> keyring_core::Result<()> {
        let secret = zeroize::Zeroizing::new(secret.to_vec());
        self.store.call(Request::Write(self.key(), secret))?;
        Ok(())
    }

    fn get_secret(&self) -> keyring_core::Result<Vec<u8>> {
        match self.store.call(Request::Read(self.key()))? {
            Event::Secret(Some(secret)) => Ok(secret),
            _ => Err(Error::NoEntry),
        }
    }

    /// Deletes every entry of the service and user.
    fn delete_credential(&self) -> keyring_core::Result<()> {
        match self.store.call(Request::Delete(self.key()))? {
            Event::Deleted(0) => Err(Error::NoEntry),
            _ => Ok(()),
        }
    }

    fn get_credential(&self) -> keyring_core::Result<Option<Arc<Credential>>> {
        match self.store.call(Request::Read(self.key()))? {
            Event::Secret(Some(_)) => Ok(None),
            _ => Err(Error::NoEntry),
        }
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        Some(self.key())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
