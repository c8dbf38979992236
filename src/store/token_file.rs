//! The file with the current access token that `exec --token-file` keeps for its command.
//! Each run creates a private directory for its token file and locks the directory, so
//! that later runs can recognize and remove the directories of killed runs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lock::{self, LockError};
use super::{StoreError, private_files};
use crate::model::AccessToken;

const DIR_PREFIX: &str = "exec-";
const TOKEN_FILE: &str = "token";
const LOCK_FILE: &str = "lock";

/// How long to wait while another process creates its directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A token file. Closing or dropping it removes its directory.
#[derive(Debug)]
pub(crate) struct TokenFile {
    // Declared before `dir`, to be dropped first: Windows cannot remove an open file.
    lock: Option<File>,
    dir: tempfile::TempDir,
}

impl TokenFile {
    /// Creates a directory in `parent`, and removes the directories of killed runs.
    pub(crate) fn create(parent: &Path) -> Result<Self, StoreError> {
        let cannot_create = |e: io::Error| cannot("create", parent, &e);
        private_files::create_dir(parent).map_err(cannot_create)?;
        private_files::check_dir(parent)?;
        // Hold this lock until the new directory is locked, so that another process does
        // not remove the directory before.
        let _parent_lock = acquire_lock(parent)?;
        let _removed_count = remove_unlocked_dirs(parent);
        let dir = tempfile::Builder::new()
            .prefix(DIR_PREFIX)
            .tempdir_in(parent)
            .map_err(cannot_create)?;
        private_files::restrict_dir(dir.path()).map_err(cannot_create)?;
        let lock = acquire_lock(dir.path())?;
        Ok(Self {
            lock: Some(lock),
            dir,
        })
    }

    /// Removes the directories of killed runs in `parent`. Returns how many there were.
    pub(crate) fn remove_stale(parent: &Path) -> usize {
        match parent.is_dir().then(|| acquire_lock(parent)) {
            Some(Ok(_parent_lock)) => remove_unlocked_dirs(parent),
            _ => 0,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join(TOKEN_FILE)
    }

    /// Replaces the token in the file atomically.
    pub(crate) fn write(&self, token: &AccessToken) -> Result<(), StoreError> {
        let path = self.path();
        private_files::replace(&path, token.secret().expose().as_bytes())
            .map_err(|e| cannot("write", &path, &e))
    }

    /// Removes the file, so that the command cannot read an expired token.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        let path = self.path();
        private_files::remove(&path)
            .map(drop)
            .map_err(|e| cannot("remove", &path, &e))
    }

    /// Removes the directory. Later writes fail.
    pub(crate) fn close(&mut self) {
        self.lock = None;
        drop(private_files::retry_while_open(|| {
            fs::remove_dir_all(self.dir.path())
        }));
    }
}

fn cannot(action: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::failed(format!("cannot {action} {}: {error}", path.display()))
}

fn acquire_lock(dir: &Path) -> Result<File, StoreError> {
    lock::acquire(&dir.join(LOCK_FILE), LOCK_TIMEOUT).map_err(|error| match error {
        LockError::Store(error) => error,
        busy @ LockError::Busy(_) => StoreError::failed(busy.to_string()),
    })
}

/// Removes the directories of runs that no longer hold their lock. Ignores failures.
fn remove_unlocked_dirs(parent: &Path) -> usize {
    let Ok(entries) = fs::read_dir(parent) else {
        return 0;
    };
    let mut removed_count = 0;
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(DIR_PREFIX);
        let dir = entry.path();
        if is_ours && lock::acquire(&dir.join(LOCK_FILE), Duration::ZERO).is_ok() {
            removed_count += usize::from(fs::remove_dir_all(&dir).is_ok());
        }
    }
    removed_count
}
