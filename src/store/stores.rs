//! The secret stores of a run. Each store is opened at its first use.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::{FileStore, HelperStores, SecretStore, StoreKind};

/// Whether the keyring may prompt a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prompts {
    Allowed,
    Never,
}

type OpenKeyring<'h> = Box<dyn Fn(Prompts) -> Box<dyn SecretStore> + 'h>;

/// The secret stores by their kind.
pub(crate) struct Stores<'h> {
    files: FileStore,
    helpers: HelperStores,
    keyring: OnceCell<Box<dyn SecretStore>>,
    keyring_without_prompts: OnceCell<Box<dyn SecretStore>>,
    open_keyring: OpenKeyring<'h>,
}

impl<'h> Stores<'h> {
    pub(crate) fn new(sessions_dir: PathBuf, open_keyring: OpenKeyring<'h>) -> Self {
        Self {
            files: FileStore::new(sessions_dir),
            helpers: HelperStores::default(),
            keyring: OnceCell::new(),
            keyring_without_prompts: OnceCell::new(),
            open_keyring,
        }
    }

    /// Returns a store that may prompt a person.
    pub(crate) fn get(&self, kind: StoreKind) -> &dyn SecretStore {
        self.open(kind, Prompts::Allowed)
    }

    /// Returns a store that never prompts.
    pub(crate) fn get_without_prompts(&self, kind: StoreKind) -> &dyn SecretStore {
        self.open(kind, Prompts::Never)
    }

    fn open(&self, kind: StoreKind, prompts: Prompts) -> &dyn SecretStore {
        let keyring = match kind {
            StoreKind::File => return &self.files,
            StoreKind::Helper(spec) => return self.helpers.get(spec),
            StoreKind::Keyring => match prompts {
                Prompts::Allowed => &self.keyring,
                Prompts::Never => &self.keyring_without_prompts,
            },
        };
        &**keyring.get_or_init(|| (self.open_keyring)(prompts))
    }
}
