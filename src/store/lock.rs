//! One lock per profile, across processes and threads: `flock` on a file that
//! is never unlinked (a lock on an unlinked file excludes nobody).
//!
//! The system releases the lock when its holder ends, however it ends, so there
//! are no stale locks to break.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::{StoreError, private};
use crate::model::ProfileName;

/// The directory that holds the lock files.
#[derive(Debug)]
pub(crate) struct Locks {
    dir: PathBuf,
}

/// The exclusive right to change one profile's session, held until dropped.
#[derive(Debug)]
pub(crate) struct ProfileLock {
    _file: File,
    profile: ProfileName,
}

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process held it for the whole timeout.
    #[error("another process held the lock for {} s", .0.as_secs_f32())]
    Busy(Duration),
    /// The lock file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ProfileLock {
    /// The profile whose session it guards.
    pub(crate) fn profile(&self) -> &ProfileName {
        &self.profile
    }
}

impl Locks {
    /// Locks in `dir`, which is created at the first use.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Takes the lock of `profile` if nobody holds it.
    pub(crate) fn try_acquire(
        &self,
        profile: &ProfileName,
    ) -> Result<Option<ProfileLock>, StoreError> {
        let path = self.path(profile);
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(ProfileLock {
                _file: file,
                profile: profile.clone(),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(cannot_lock(&path, &e)),
        }
    }

    /// Waits until nobody holds the lock of `profile`, at most `limit`.
    ///
    /// It does not take the lock: all waiters wake together, each checks whether
    /// the holder has renewed the session, and only one that still needs the
    /// lock tries to take it.
    pub(crate) fn wait(&self, profile: &ProfileName, limit: Duration) -> Result<(), LockError> {
        wait_shared(&self.path(profile), limit)
    }

    fn path(&self, profile: &ProfileName) -> PathBuf {
        self.dir.join(format!("{profile}.lock"))
    }
}

/// Locks the file at `path` until the returned file is dropped. Waits at most `limit`.
pub(super) fn hold(path: &Path, limit: Duration) -> Result<File, LockError> {
    let path = path.to_owned();
    let file = open(&path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => return Err(cannot_lock(&path, &e).into()),
    }
    bounded(path, limit, move || {
        file.lock()?;
        Ok(file)
    })
}

fn wait_shared(path: &Path, limit: Duration) -> Result<(), LockError> {
    let path = path.to_owned();
    let file = open(&path)?;
    bounded(path, limit, move || file.lock_shared())
}

/// Runs a blocking lock call in a thread, which is left behind at the timeout:
/// a blocked `flock` cannot be ended otherwise.
fn bounded<T: Send + 'static>(
    path: PathBuf,
    limit: Duration,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, LockError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("lock".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            // After the timeout nobody receives the result; it is dropped, which unlocks.
            drop(sender.send(call()));
        })
        .map_err(|e| cannot_lock(&path, &e))?;
    match receiver.recv_timeout(limit) {
        Ok(result) => result.map_err(|e| cannot_lock(&path, &e).into()),
        Err(RecvTimeoutError::Timeout) => Err(LockError::Busy(limit)),
        Err(RecvTimeoutError::Disconnected) => {
            Err(cannot_lock(&path, &io::Error::other("the waiting thread ended")).into())
        }
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let there = private::open_no_follow(OpenOptions::new().read(true).write(true), path);
    let opened = match there {
        Err(e) if e.kind() == io::ErrorKind::NotFound => create(path),
        other => other,
    };
    opened.map_err(|e| cannot_lock(path, &e))
}

/// Creates the lock file, or opens the one that another process just created.
fn create(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        private::create_dir(dir)?;
    }
    let file = private::open_no_follow(
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false),
        path,
    )?;
    private::restrict(&file)?;
    Ok(file)
}

fn cannot_lock(path: &Path, error: &io::Error) -> StoreError {
    StoreError::failed(format!("cannot lock {}: {error}", path.display()))
}
