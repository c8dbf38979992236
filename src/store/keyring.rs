//! The keyring store: one entry an account, service `rememberizer`, through
//! keyring-core's traits.
//!
//! On Linux and the BSDs the credential store is our own (`secret_service`),
//! elsewhere the platform's by way of the keyring crate.

use std::time::Duration;

use keyring_core::{Entry, Error};
use zeroize::Zeroizing;

use super::{SecretStore, StoreError, StoreErrorKind, StoreKind};

/// The service under which every entry stands.
pub const SERVICE: &str = "rememberizer";

/// How long a keyring is waited for.
pub struct KeyringOptions {
    /// The longest that one call may take when no person is asked anything.
    pub bound: Duration,
    /// The longest that a person may take to answer an unlock prompt; `None`
    /// where nobody is there, and then no prompt is raised.
    pub prompt_bound: Option<Duration>,
    /// Called when an unlock prompt is about to be waited for.
    pub on_prompt: Box<dyn Fn() + Send + Sync>,
}

type Build = Box<dyn Fn(&str) -> Result<Entry, Error>>;

/// A keyring behind keyring-core's entries.
pub struct Keyring {
    build: Build,
    limit: Option<usize>,
}

impl Keyring {
    /// A keyring whose entries `build` makes for an account, with at most
    /// `limit` bytes an entry.
    #[must_use]
    pub fn new(build: Build, limit: Option<usize>) -> Self {
        Self { build, limit }
    }

    /// The keyring of the operating system. Nothing connects before the first call.
    #[cfg(all(unix, not(target_os = "macos")))]
    #[must_use]
    pub fn platform(options: KeyringOptions) -> Self {
        use super::secret_service::SecretServiceStore;
        use keyring_core::api::CredentialStoreApi;

        let store = SecretServiceStore::new(options);
        Self::new(
            Box::new(move |account| store.build(SERVICE, account, None)),
            None,
        )
    }

    /// The keyring of the operating system. Nothing connects before the first call.
    #[cfg(any(target_os = "macos", windows))]
    #[must_use]
    pub fn platform(_options: KeyringOptions) -> Self {
        // CRED_MAX_CREDENTIAL_BLOB_SIZE of wincred.h.
        let limit = cfg!(windows).then_some(2560);
        Self::new(
            Box::new(|account| {
                if let Err(e) = keyring::Entry::store_status() {
                    return Err(Error::NoStorageAccess(e.to_string().into()));
                }
                keyring::Entry::new(SERVICE, account).map(|entry| entry.inner)
            }),
            limit,
        )
    }
}

impl SecretStore for Keyring {
    fn kind(&self) -> StoreKind {
        StoreKind::Keyring
    }

    fn limit(&self) -> Option<usize> {
        self.limit
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        match (self.build)(account).and_then(|entry| entry.get_secret()) {
            Ok(secret) => Ok(Some(Zeroizing::new(secret))),
            Err(Error::NoEntry) => Ok(None),
            Err(e) => Err(explain(e)),
        }
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError> {
        (self.build)(account)
            .and_then(|entry| entry.set_secret(secret))
            .map_err(explain)
    }

    fn delete(&self, account: &str) -> Result<bool, StoreError> {
        match (self.build)(account).and_then(|entry| entry.delete_credential()) {
            Ok(()) => Ok(true),
            Err(Error::NoEntry) => Ok(false),
            Err(e) => Err(explain(e)),
        }
    }
}

/// What a keyring's error means for the person. The bytes that some errors
/// carry are the secret, so their text is never shown.
fn explain(error: Error) -> StoreError {
    let (kind, message, hint) = match error {
        Error::NoStorageAccess(source) | Error::PlatformFailure(source) => {
            #[cfg(all(unix, not(target_os = "macos")))]
            if let Some(known) = source.downcast_ref::<super::secret_service::SecretServiceError>()
            {
                return StoreError {
                    kind: known.kind(),
                    message: known.to_string(),
                    hint: known.hint().map(str::to_owned),
                };
            }
            (
                StoreErrorKind::Unavailable,
                format!("the keyring cannot be used: {source}"),
                None,
            )
        }
        Error::Ambiguous(entries) => (
            StoreErrorKind::Failed,
            format!(
                "the keyring holds {} entries for this profile",
                entries.len()
            ),
            Some("`rememberizer logout` removes all of them"),
        ),
        Error::TooLong(name, limit) => (
            StoreErrorKind::Failed,
            format!("the keyring takes at most {limit} bytes ({name})"),
            None,
        ),
        Error::BadEncoding(_) | Error::BadDataFormat(..) => (
            StoreErrorKind::Failed,
            "the keyring's entry cannot be decoded".to_owned(),
            None,
        ),
        Error::BadStoreFormat(why) | Error::NotSupportedByStore(why) => (
            StoreErrorKind::Failed,
            format!("the keyring cannot do this: {why}"),
            None,
        ),
        Error::Invalid(what, why) => (
            StoreErrorKind::Failed,
            format!("the keyring refuses {what}: {why}"),
            None,
        ),
        _ => (
            StoreErrorKind::Unavailable,
            "there is no keyring on this system".to_owned(),
            None,
        ),
    };
    StoreError {
        kind,
        message,
        hint: hint.map(str::to_owned),
    }
}
