//! The secret stores of a run. Each store is opened at its first use.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::{FileStore, HelperStores, SecretStore, StoreKind};

/// Opens the keyring. The argument states whether the keyring may prompt a person.
type OpenKeyring<'h> = Box<dyn Fn(bool) -> Box<dyn SecretStore> + 'h>;

/// The secret stores by their kind.
pub(crate) struct Stores<'h> {
    files: FileStore,
    helpers: HelperStores,
    keyring: OnceCell<Box<dyn SecretStore>>,
    keyring_unprompted: OnceCell<Box<dyn SecretStore>>,
    open_keyring: OpenKeyring<'h>,
}

impl<'h> Stores<'h> {
    pub(crate) fn new(sessions_dir: PathBuf, open_keyring: OpenKeyring<'h>) -> Self {
        Self {
            files: FileStore::new(sessions_dir),
            helpers: HelperStores::default(),
            keyring: OnceCell::new(),
            keyring_unprompted: OnceCell::new(),
            open_keyring,
        }
    }

    /// Returns a store that may prompt a person.
    pub(crate) fn get(&self, kind: StoreKind) -> &dyn SecretStore {
        self.open(kind, true)
    }

    /// Returns a store that never prompts.
    pub(crate) fn get_without_prompts(&self, kind: StoreKind) -> &dyn SecretStore {
        self.open(kind, false)
    }

    fn open(&self, kind: StoreKind, may_prompt: bool) -> &dyn SecretStore {
        let keyring = match kind {
            StoreKind::File => return &self.files,
            StoreKind::Helper(spec) => return self.helpers.get(spec),
            StoreKind::Keyring if may_prompt => &self.keyring,
            StoreKind::Keyring => &self.keyring_unprompted,
        };
        &**keyring.get_or_init(|| (self.open_keyring)(may_prompt))
    }
}
