//! The Secret Service (GNOME Keyring, KWallet, KeePassXC) as a secret store.
//!
//! Owns the D-Bus calls to the service and the meaning of its answers. It knows
//! nothing about the content of the secrets. [`KeyringOptions::on_prompt`] tells
//! a person about a prompt.

mod bus;
mod daemon;
mod error;
mod prompt;
mod service;
mod unlock;

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use super::{KeyringOptions, SecretStore, StoreError, StoreKind};
use daemon::Daemon;
use error::SecretServiceError;
use service::Service;

/// One connection to the service per process, made by the first call.
pub(super) struct SecretServiceStore {
    options: KeyringOptions,
    open: Mutex<Option<Open>>,
}

impl SecretServiceStore {
    pub(super) fn new(options: KeyringOptions) -> Self {
        Self {
            options,
            open: Mutex::new(None),
        }
    }
}

impl SecretStore for SecretServiceStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Keyring
    }

    fn limit(&self) -> Option<usize> {
        None
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.with_service(async |service, options| service.read(account, options).await)
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError> {
        self.with_service(async |service, options| service.write(account, secret, options).await)
    }

    fn delete(&self, account: &str) -> Result<bool, StoreError> {
        self.with_service(async |service, options| service.delete_all(account, options).await)
    }

    /// KeePassXC prompts for each deletion unless it is set not to, and does not
    /// close the dialog when the prompt is dismissed.
    fn deletion_may_prompt(&self, account: &str) -> Result<bool, StoreError> {
        if self.options.prompt_timeout.is_some() {
            return Ok(false);
        }
        self.with_service(async |service, options| {
            // Starts the service, if the bus does that on demand.
            service.read(account, options).await?;
            Ok(service.daemon().await == Daemon::KeePassXc)
        })
    }
}

/// A connection and the runtime that drives it.
struct Open {
    service: Service,
    runtime: Runtime,
}

impl SecretServiceStore {
    /// Runs `operation` on this thread, with a connection that is made if there
    /// is none. Operations of several threads take turns.
    fn with_service<T>(
        &self,
        operation: impl AsyncFnOnce(&mut Service, &KeyringOptions) -> Result<T, SecretServiceError>,
    ) -> Result<T, StoreError> {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open { runtime, service } = match slot.as_mut() {
            Some(open) => open,
            None => {
                let (runtime, service) = Service::connect(self.options.timeout)
                    .map_err(|e| e.into_store_error(Daemon::Unknown))?;
                slot.insert(Open { service, runtime })
            }
        };
        let error = match runtime.block_on(operation(service, &self.options)) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let daemon = match error {
            SecretServiceError::Absent => Daemon::Unknown,
            _ => runtime.block_on(service.daemon()),
        };
        if matches!(
            error,
            SecretServiceError::Absent
                | SecretServiceError::Stalled { .. }
                | SecretServiceError::Other(_)
        ) {
            // A restarted daemon has forgotten our session, so the next
            // operation makes another connection.
            *slot = None;
        }
        Err(error.into_store_error(daemon))
    }
}
