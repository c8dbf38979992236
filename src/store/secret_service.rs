//! The Secret Service (GNOME Keyring, KWallet, KeePassXC) as a credential store
//! behind keyring-core's traits.
//!
//! Owns what is said to the service and what its answers mean. Must not know
//! what the secrets are, where the settings come from, or how a person is
//! told something: it calls [`KeyringOptions::on_prompt`] and waits.

mod error;
mod link;
mod service;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keyring_core::Entry;
use keyring_core::api::{Credential, CredentialApi, CredentialStoreApi};
use keyring_core::attributes::parse_attributes;

use super::KeyringOptions;
pub use error::SecretServiceError;
use service::{Name, Service};
use tokio::runtime::Runtime;

const BUS_NAME: &str = "org.freedesktop.secrets";

/// The credential store. Nothing connects until the first use; then one
/// connection serves the process.
#[derive(Debug)]
pub struct SecretServiceStore {
    id: String,
    shared: Arc<Shared>,
}

impl SecretServiceStore {
    /// A store that has not connected yet.
    #[must_use]
    pub fn new(options: KeyringOptions) -> Arc<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            id: format!("{} #{count}", env!("CARGO_PKG_VERSION")),
            shared: Arc::new(Shared {
                options,
                open: Mutex::new(None),
            }),
        })
    }
}

impl CredentialStoreApi for SecretServiceStore {
    fn vendor(&self) -> String {
        "Secret Service, https://specifications.freedesktop.org/secret-service/".into()
    }

    fn id(&self) -> String {
        self.id.clone()
    }

    /// Takes no modifiers.
    fn build(
        &self,
        service: &str,
        user: &str,
        modifiers: Option<&HashMap<&str, &str>>,
    ) -> keyring_core::Result<Entry> {
        parse_attributes(&[], modifiers)?;
        let credential = SecretServiceCredential {
            shared: Arc::clone(&self.shared),
            name: Name::new(service, user),
        };
        Ok(Entry::new_with_credential(Arc::new(credential)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn debug_fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The entry of one user at one service, found by these two attributes.
#[derive(Debug)]
pub struct SecretServiceCredential {
    shared: Arc<Shared>,
    name: Name,
}

impl SecretServiceCredential {
    /// Puts an error in keyring-core's terms. An ambiguity is answered with
    /// as many entries as matched, all for the same name.
    fn explain(&self, error: SecretServiceError) -> keyring_core::Error {
        let SecretServiceError::Ambiguous(count) = error else {
            return error.into();
        };
        let same = || {
            Entry::new_with_credential(Arc::new(Self {
                shared: Arc::clone(&self.shared),
                name: self.name.clone(),
            }))
        };
        keyring_core::Error::Ambiguous(std::iter::repeat_with(same).take(count).collect())
    }
}

impl CredentialApi for SecretServiceCredential {
    /// Writes into the one matching item, or else creates one in the default collection.
    fn set_secret(&self, secret: &[u8]) -> keyring_core::Result<()> {
        self.shared
            .talk(async |service, options| service.write(&self.name, secret, options).await)
            .map_err(|e| self.explain(e))
    }

    fn get_secret(&self) -> keyring_core::Result<Vec<u8>> {
        self.shared
            .talk(async |service, options| service.read(&self.name, options).await)
            .map_err(|e| self.explain(e))?
            .ok_or(keyring_core::Error::NoEntry)
    }

    /// Deletes every match, not one: what is left behind would be a secret
    /// that its owner believes gone.
    fn delete_credential(&self) -> keyring_core::Result<()> {
        let deleted = self
            .shared
            .talk(async |service, options| service.delete_all(&self.name, options).await)
            .map_err(|e| self.explain(e))?;
        if deleted == 0 {
            return Err(keyring_core::Error::NoEntry);
        }
        Ok(())
    }

    /// Whether there is exactly one match; `self` already stands for it.
    fn get_credential(&self) -> keyring_core::Result<Option<Arc<Credential>>> {
        self.shared
            .talk(async |service, options| service.locate(&self.name, options).await)
            .map_err(|e| self.explain(e))?
            .map(|_| None)
            .ok_or(keyring_core::Error::NoEntry)
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        Some((self.name.service.clone(), self.name.user.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn debug_fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the store and its credentials hold in common.
struct Shared {
    options: KeyringOptions,
    open: Mutex<Option<Open>>,
}

/// A connection, and the runtime that drives it.
struct Open {
    service: Service,
    runtime: Runtime,
}

impl Shared {
    /// Runs one exchange with the service to its end on this thread, connecting
    /// first if need be. Exchanges of several threads take turns.
    fn talk<T>(
        &self,
        exchange: impl AsyncFnOnce(&mut Service, &KeyringOptions) -> Result<T, SecretServiceError>,
    ) -> Result<T, SecretServiceError> {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open { runtime, service } = match slot.as_mut() {
            Some(open) => open,
            None => {
                let (runtime, service) = Service::connect(self.options.bound)?;
                slot.insert(Open { service, runtime })
            }
        };
        let answer = runtime.block_on(exchange(service, &self.options));
        if let Err(
            SecretServiceError::Absent
            | SecretServiceError::Stalled { .. }
            | SecretServiceError::Other(_),
        ) = answer
        {
            // A daemon that was restarted has forgotten our session: whatever
            // is not plainly an answer about the keyring ends the connection,
            // and the next exchange makes another.
            *slot = None;
        }
        answer
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("bound", &self.options.bound)
            .finish_non_exhaustive()
    }
}
