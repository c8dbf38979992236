//! The file store: one private file per account, in the data directory.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::private_files::{self, IfExposed};
use super::{SecretStore, StoreError, StoreKind};

/// Stores each secret in a file of mode 0600 in a directory of mode 0700.
#[derive(Debug)]
pub(crate) struct FileStore {
    dir: PathBuf,
}

impl FileStore {
    /// Keeps the files in `dir`. The first write creates the directory.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn path(&self, account: &str) -> PathBuf {
        self.dir.join(format!("{account}.json"))
    }
}

impl SecretStore for FileStore {
    fn kind(&self) -> StoreKind {
        StoreKind::File
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        private_files::read(&self.path(account), IfExposed::Refuse)
    }

    fn read_even_if_others_can_read(
        &self,
        account: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        private_files::read(&self.path(account), IfExposed::Read)
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError> {
        let path = self.path(account);
        private_files::create_dir(&self.dir).map_err(|e| {
            StoreError::failed(format!("cannot create {}: {e}", self.dir.display()))
        })?;
        private_files::check_dir(&self.dir)?;
        private_files::check_replaceable(&path)?;
        private_files::replace(&path, secret)
            .map_err(|e| StoreError::failed(format!("cannot write {}: {e}", path.display())))
    }

    fn delete(&self, account: &str) -> Result<bool, StoreError> {
        let path = self.path(account);
        private_files::check_replaceable(&path)?;
        private_files::remove(&path)
            .map_err(|e| StoreError::failed(format!("cannot remove {}: {e}", path.display())))
    }
}
