//! stub
use super::{KeyringOptions, StoreErrorKind};
use std::sync::Arc;
/// stub
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct SecretServiceError;
impl SecretServiceError {
    /// stub
    pub fn kind(&self) -> StoreErrorKind {
        StoreErrorKind::Failed
    }
    /// stub
    pub fn hint(&self) -> Option<&'static str> {
        None
    }
}
/// stub
#[derive(Debug)]
pub struct SecretServiceStore;
impl SecretServiceStore {
    /// stub
    pub fn new(_o: KeyringOptions) -> Arc<Self> {
        Arc::new(Self)
    }
}
impl keyring_core::api::CredentialStoreApi for SecretServiceStore {
    fn vendor(&self) -> String {
        String::new()
    }
    fn id(&self) -> String {
        String::new()
    }
    fn build(
        &self,
        _: &str,
        _: &str,
        _: Option<&std::collections::HashMap<&str, &str>>,
    ) -> keyring_core::Result<keyring_core::Entry> {
        Err(keyring_core::Error::NoDefaultStore)
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
