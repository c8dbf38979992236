//! The keyrings of macOS and Windows as secret stores, through the keyring crate.
//!
//! The system's calls have no timeout of their own, so each runs in a thread
//! that is abandoned at its deadline.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use keyring::{Entry, Error};
use zeroize::Zeroizing;

use super::keyring::SERVICE_NAME;
use super::{KeyringOptions, SecretStore, StoreError, StoreErrorKind, StoreKind};

pub(super) struct OsKeyring {
    timeout: Duration,
}

impl OsKeyring {
    /// macOS may show a prompt within any call, so the longer limit applies to
    /// all calls where a person can answer it.
    pub(super) fn new(options: &KeyringOptions) -> Self {
        Self {
            timeout: options.prompt_timeout.unwrap_or(options.timeout),
        }
    }

    fn call<T: Send + 'static>(
        &self,
        account: &str,
        call: impl FnOnce(&Entry) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let account = account.to_owned();
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("keyring".to_owned())
            .spawn(move || {
                let result = match Entry::store_status() {
                    Ok(()) => open(&account).and_then(|entry| call(&entry)),
                    Err(e) => Err(Error::NoStorageAccess(e.to_string().into())),
                };
                // After the deadline there is no receiver; the result is dropped.
                drop(sender.send(result));
            })
            .map_err(|e| StoreError::failed(format!("cannot start a thread: {e}")))?;
        match receiver.recv_timeout(self.timeout) {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(Error::NoEntry)) => Ok(None),
            Ok(Err(e)) => Err(e.into()),
            Err(RecvTimeoutError::Timeout) => Err(StoreError {
                kind: StoreErrorKind::Unavailable,
                message: format!(
                    "the keyring did not answer within {} s",
                    self.timeout.as_secs()
                ),
                hint: None,
            }),
            Err(RecvTimeoutError::Disconnected) => {
                Err(StoreError::failed("the call to the keyring ended early"))
            }
        }
    }
}

/// Keeps credentials on this machine. By default Windows copies them to the user's
/// other machines, and two machines that rotate one refresh token end the session.
#[cfg(windows)]
fn open(account: &str) -> Result<Entry, Error> {
    let modifiers = std::collections::HashMap::from([("persistence", "Local")]);
    let inner = keyring_core::Entry::new_with_modifiers(SERVICE_NAME, account, &modifiers)?;
    Ok(Entry { inner })
}

#[cfg(not(windows))]
fn open(account: &str) -> Result<Entry, Error> {
    Entry::new(SERVICE_NAME, account)
}

impl SecretStore for OsKeyring {
    fn kind(&self) -> StoreKind {
        StoreKind::Keyring
    }

    /// The limit on Windows is `CRED_MAX_CREDENTIAL_BLOB_SIZE` of wincred.h.
    fn limit(&self) -> Option<usize> {
        cfg!(windows).then_some(2560)
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.call(account, |entry| entry.get_secret().map(Zeroizing::new))
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError> {
        let secret = Zeroizing::new(secret.to_vec());
        self.call(account, move |entry| entry.set_secret(&secret))?
            .ok_or_else(|| StoreError::failed("the keyring did not keep the entry"))
    }

    fn delete(&self, account: &str) -> Result<bool, StoreError> {
        let deleted = self.call(account, Entry::delete_credential)?;
        Ok(deleted.is_some())
    }
}

/// Some of these errors carry the secret, so their `Display` is not used.
impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let message = match error {
            Error::NoStorageAccess(source) | Error::PlatformFailure(source) => {
                return Self {
                    kind: StoreErrorKind::Unavailable,
                    message: format!("the keyring cannot be used: {source}"),
                    hint: None,
                };
            }
            Error::TooLong(name, limit) => {
                format!("the keyring takes at most {limit} bytes ({name})")
            }
            Error::BadEncoding(_) | Error::BadDataFormat(..) => {
                "the keyring's entry cannot be decoded".to_owned()
            }
            Error::Ambiguous(entries) => {
                let count = entries.len();
                return Self::failed(format!(
                    "the keyring holds {count} entries for this profile"
                ))
                .hint("`rememberizer logout` removes all of them");
            }
            _ => "the keyring refused the call".to_owned(),
        };
        Self::failed(message)
    }
}
