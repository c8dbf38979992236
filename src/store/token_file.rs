//! A file that holds the current access token for the command of `exec`, in a
//! private directory of its own. A lock tells a live directory from one that a
//! killed run left behind.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lock::{self, LockError};
use super::{StoreError, private};
use crate::model::AccessToken;

const PREFIX: &str = "exec-";
const TOKEN: &str = "token";
const LOCK: &str = "lock";
/// How long another process may take to create a directory.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The file. Its directory is removed when it is closed or dropped.
#[derive(Debug)]
pub(crate) struct TokenFile {
    // Closed before the directory goes: Windows keeps a file that is open.
    lock: Option<File>,
    dir: tempfile::TempDir,
}

impl TokenFile {
    /// Creates a directory in `parent`, and removes those of killed runs.
    pub(crate) fn create(parent: &Path) -> Result<Self, StoreError> {
        let failed = |e: io::Error| cannot("create", parent, &e);
        private::create_dir(parent).map_err(failed)?;
        private::check_dir(parent)?;
        // While it is held, no directory is without its lock.
        let _creating = hold(&parent.join(LOCK))?;
        sweep(parent);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(parent)
            .map_err(failed)?;
        private::restrict_dir(dir.path()).map_err(failed)?;
        let lock = hold(&dir.path().join(LOCK))?;
        Ok(Self {
            lock: Some(lock),
            dir,
        })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join(TOKEN)
    }

    /// Makes `token` the content of the file, in one step.
    pub(crate) fn write(&self, token: &AccessToken) -> Result<(), StoreError> {
        let path = self.path();
        private::replace(&path, token.secret().expose().as_bytes())
            .map_err(|e| cannot("write", &path, &e))
    }

    /// Removes the file, so that nobody reads an expired token.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        let path = self.path();
        private::remove(&path)
            .map(drop)
            .map_err(|e| cannot("remove", &path, &e))
    }

    /// Removes the directory. Nothing can be written afterwards.
    pub(crate) fn close(&mut self) {
        self.lock = None;
        drop(private::retry_while_open(|| {
            fs::remove_dir_all(self.dir.path())
        }));
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::failed(format!("cannot {what} {}: {error}", path.display()))
}

fn hold(path: &Path) -> Result<File, StoreError> {
    lock::hold(path, CREATE_TIMEOUT).map_err(|error| match error {
        LockError::Store(error) => error,
        busy @ LockError::Busy(_) => StoreError::failed(busy.to_string()),
    })
}

/// Removes the directories whose lock nobody holds. What cannot be removed stays.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let dir = entry.path();
        if is_ours && lock::hold(&dir.join(LOCK), Duration::ZERO).is_ok() {
            drop(fs::remove_dir_all(&dir));
        }
    }
}
