//! One lock per profile, across processes and threads: `flock` on a file that is never
//! unlinked, since a lock on an unlinked file would exclude nobody.
//!
//! The operating system releases a lock when its holder exits or is killed, so no lock
//! becomes stale.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::blocking::run_with_timeout;
use super::{StoreError, private_files};
use crate::model::ProfileName;

/// The directory of the lock files.
#[derive(Debug)]
pub(crate) struct Locks {
    dir: PathBuf,
}

/// The exclusive right to change one profile's session, until this is dropped.
#[derive(Debug)]
pub(crate) struct ProfileLock {
    _file: File,
    profile: ProfileName,
}

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process held the lock for the whole timeout.
    #[error("another process held the lock for {} s", .0.as_secs_f32())]
    Busy(Duration),
    /// The lock file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ProfileLock {
    pub(crate) fn profile(&self) -> &ProfileName {
        &self.profile
    }
}

impl Locks {
    /// Keeps the lock files in `dir`. The first lock creates the directory.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Acquires the lock of `profile`, or returns `None` if another process holds it.
    pub(crate) fn try_acquire(
        &self,
        profile: &ProfileName,
    ) -> Result<Option<ProfileLock>, StoreError> {
        let (file, is_locked) = try_lock(&self.path(profile))?;
        Ok(is_locked.then(|| ProfileLock {
            _file: file,
            profile: profile.clone(),
        }))
    }

    /// Waits until the lock of `profile` is released, without acquiring it.
    ///
    /// All waiting processes continue at once. Each checks whether the holder has renewed
    /// the session, and tries to acquire the lock only if it still needs to.
    pub(crate) fn wait_until_released(
        &self,
        profile: &ProfileName,
        timeout: Duration,
    ) -> Result<(), LockError> {
        let path = self.path(profile);
        let file = open(&path)?;
        lock_with_timeout(&path, timeout, move || file.lock_shared())
    }

    fn path(&self, profile: &ProfileName) -> PathBuf {
        self.dir.join(format!("{profile}.lock"))
    }
}

/// Locks the file at `path` until the returned file is dropped.
pub(super) fn acquire(path: &Path, timeout: Duration) -> Result<File, LockError> {
    let (file, is_locked) = try_lock(path)?;
    if is_locked {
        return Ok(file);
    }
    lock_with_timeout(path, timeout, move || file.lock().map(|()| file))
}

/// Opens a lock file, and returns whether it could be locked at once.
fn try_lock(path: &Path) -> Result<(File, bool), StoreError> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok((file, true)),
        Err(TryLockError::WouldBlock) => Ok((file, false)),
        Err(TryLockError::Error(e)) => Err(cannot_lock(path, &e)),
    }
}

fn lock_with_timeout<T: Send + 'static>(
    path: &Path,
    timeout: Duration,
    lock: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, LockError> {
    match run_with_timeout(timeout, lock) {
        Ok(Some(Ok(locked))) => Ok(locked),
        Ok(Some(Err(e))) | Err(e) => Err(cannot_lock(path, &e).into()),
        Ok(None) => Err(LockError::Busy(timeout)),
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let existing = private_files::open_no_follow(OpenOptions::new().read(true).write(true), path);
    let opened = match existing {
        Err(e) if e.kind() == io::ErrorKind::NotFound => create(path),
        result => result,
    };
    opened.map_err(|e| cannot_lock(path, &e))
}

/// Creates a lock file, or opens it if another process has just created it.
fn create(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        private_files::create_dir(dir)?;
        // Another user could not open a lock file that this user creates.
        private_files::check_replaceable(dir)
            .map_err(|e| io::Error::other(format!("{e}; run rememberizer as that user")))?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = private_files::open_no_follow(&mut options, path)?;
    private_files::restrict(&file)?;
    Ok(file)
}

fn cannot_lock(path: &Path, error: &io::Error) -> StoreError {
    StoreError::failed(format!("cannot lock {}: {error}", path.display()))
}
