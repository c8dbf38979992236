//! The secret stores of a run. Each is opened by its first use.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::{FileStore, HelperStores, SecretStore, StoreKind};

/// The secret stores by their kind.
pub struct Stores<'h> {
    files: FileStore,
    helpers: HelperStores,
    keyring: OnceCell<Box<dyn SecretStore>>,
    open_keyring: Box<dyn Fn() -> Box<dyn SecretStore> + 'h>,
}

impl<'h> Stores<'h> {
    pub(crate) fn new(
        sessions: PathBuf,
        open_keyring: Box<dyn Fn() -> Box<dyn SecretStore> + 'h>,
    ) -> Self {
        Self {
            files: FileStore::new(sessions),
            helpers: HelperStores::default(),
            keyring: OnceCell::new(),
            open_keyring,
        }
    }

    pub(crate) fn get(&self, kind: StoreKind) -> &dyn SecretStore {
        match kind {
            StoreKind::File => &self.files,
            StoreKind::Helper(address) => self.helpers.get(address),
            StoreKind::Keyring => &**self.keyring.get_or_init(|| (self.open_keyring)()),
        }
    }
}
