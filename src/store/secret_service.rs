//! The Secret Service (GNOME Keyring, KWallet, KeePassXC) as a secret store.
//!
//! Owns the D-Bus calls to the service and the classification of its errors. Does not
//! interpret the secrets. [`KeyringOptions::on_prompt`] tells a person about a prompt.

mod bus;
mod daemon;
mod error;
mod prompt;
mod service;
mod unlock;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use super::{KeyringOptions, SecretStore, StoreError, StoreKind};
use daemon::Daemon;
use error::SecretServiceError;
use service::Service;

/// Calls the service over one connection, which the first operation opens.
pub(super) struct SecretServiceStore {
    options: Arc<KeyringOptions>,
    connection: Mutex<Option<(Runtime, Service)>>,
}

impl SecretStore for SecretServiceStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Keyring
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.with_service(async |service| service.read(account).await)
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError> {
        self.with_service(async |service| service.write(account, secret).await)
    }

    fn delete(&self, account: &str) -> Result<bool, StoreError> {
        self.with_service(async |service| service.delete_all(account).await)
    }

    /// KeePassXC prompts for each deletion unless it is set not to, and does not close
    /// the dialog when the prompt is dismissed.
    fn deletion_may_prompt(&self, account: &str) -> Result<bool, StoreError> {
        if self.options.prompt_timeout.is_some() {
            return Ok(false);
        }
        self.with_service(async |service| {
            // If the bus starts the service on demand, this call starts it. A daemon that
            // is not running cannot be identified.
            service.read(account).await?;
            Ok(service.daemon().await == Daemon::KeePassXc)
        })
    }
}

impl SecretServiceStore {
    pub(super) fn new(options: KeyringOptions) -> Self {
        Self {
            options: Arc::new(options),
            connection: Mutex::new(None),
        }
    }

    /// Runs `operation` on this thread, and connects first if there is no connection.
    /// Operations of several threads run one after the other.
    fn with_service<T>(
        &self,
        operation: impl AsyncFnOnce(&mut Service) -> Result<T, SecretServiceError>,
    ) -> Result<T, StoreError> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (runtime, service) = match &mut *connection {
            Some(open) => open,
            None => {
                let open = Service::connect(self.options.clone())
                    .map_err(|e| e.into_store_error(Daemon::Unknown))?;
                connection.insert(open)
            }
        };
        let error = match runtime.block_on(operation(service)) {
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
                | SecretServiceError::TimedOut { .. }
                | SecretServiceError::Other(_)
        ) {
            // Reconnect for the next operation: if the service was restarted, it does not
            // know our session.
            *connection = None;
        }
        Err(error.into_store_error(daemon))
    }
}
