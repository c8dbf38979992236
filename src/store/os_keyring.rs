//! The keyrings of macOS and Windows as secret stores, through the keyring crate.
//!
//! The operating system's calls have no timeout, so each call runs in a thread that is
//! abandoned at the timeout.

use std::time::Duration;

use keyring::{Entry, Error};
use zeroize::Zeroizing;

use super::blocking::run_with_timeout;
use super::keyring::SERVICE_NAME;
use super::{KeyringOptions, SecretStore, StoreError, StoreKind};

pub(super) struct OsKeyring {
    timeout: Duration,
}

impl OsKeyring {
    /// macOS may show a prompt in any call. If a person can respond, all calls therefore
    /// have the timeout of a prompt.
    pub(super) fn new(options: &KeyringOptions) -> Self {
        Self {
            timeout: options.prompt_timeout.unwrap_or(options.timeout),
        }
    }

    /// Runs `call` on the entry of `account`. Returns `None` if there is no entry.
    fn with_entry<T: Send + 'static>(
        &self,
        account: &str,
        call: impl FnOnce(&Entry) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let account = account.to_owned();
        let result = run_with_timeout(self.timeout, move || match Entry::store_status() {
            Ok(()) => open(&account).and_then(|entry| call(&entry)),
            Err(e) => Err(Error::NoStorageAccess(e.to_string().into())),
        });
        match result {
            Ok(Some(Ok(value))) => Ok(Some(value)),
            Ok(Some(Err(Error::NoEntry))) => Ok(None),
            Ok(Some(Err(e))) => Err(e.into()),
            Ok(None) => Err(StoreError::unavailable(format!(
                "the keyring did not answer within {} s",
                self.timeout.as_secs()
            ))),
            Err(e) => Err(StoreError::failed(format!("cannot call the keyring: {e}"))),
        }
    }
}

/// Opens an entry that stays on this machine. By default Windows copies credentials to the
/// user's other machines, and a session ends if two machines exchange the same refresh
/// token.
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
    fn max_secret_bytes(&self) -> Option<usize> {
        cfg!(windows).then_some(2560)
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.with_entry(account, |entry| entry.get_secret().map(Zeroizing::new))
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError> {
        let secret = Zeroizing::new(secret.to_vec());
        self.with_entry(account, move |entry| entry.set_secret(&secret))?
            .ok_or_else(|| StoreError::failed("the keyring did not store the entry"))
    }

    fn delete(&self, account: &str) -> Result<bool, StoreError> {
        let deleted = self.with_entry(account, Entry::delete_credential)?;
        Ok(deleted.is_some())
    }
}

/// Does not use the `Display` of the keyring's errors, since some contain the secret.
impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let message = match error {
            Error::NoStorageAccess(source) | Error::PlatformFailure(source) => {
                return Self::unavailable(format!("the keyring cannot be used: {source}"));
            }
            Error::TooLong(name, limit) => {
                format!("the keyring accepts at most {limit} bytes ({name})")
            }
            Error::BadEncoding(_) | Error::BadDataFormat(..) => {
                "the keyring's entry cannot be decoded".to_owned()
            }
            Error::Ambiguous(entries) => {
                let count = entries.len();
                return Self::failed(format!(
                    "the keyring holds {count} entries for this profile"
                ))
                .with_hint("`rememberizer logout` removes all of them");
            }
            _ => "the keyring refused the call".to_owned(),
        };
        Self::failed(message)
    }
}
