//! One lock a profile, across processes and threads: `flock` on a file that is
//! never unlinked (a lock on an unlinked file locks nobody out).
//!
//! The system releases the lock when its holder ends, however it ends; there
//! is no stale lock to break. The file itself holds a note for the next holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::{StoreError, private};
use crate::model::{ProfileName, Timestamp};

/// The directory that holds the lock files.
#[derive(Debug)]
pub struct Locks {
    dir: PathBuf,
}

/// The right to change the session of one profile, held until dropped.
#[derive(Debug)]
pub struct ProfileLock {
    file: File,
    profile: ProfileName,
}

/// Why a wait for a lock ended without it.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process held it all the time.
    #[error("another process held the lock for {} s", .0.as_secs_f32())]
    Busy(Duration),
    /// The lock file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ProfileLock {
    /// Whose session it guards.
    #[must_use]
    pub fn profile(&self) -> &ProfileName {
        &self.profile
    }

    /// When the exchange began, of this profile's session as it is now, that
    /// got no proper answer; `None` where there was none.
    #[must_use]
    pub fn unanswered(&self) -> Option<Timestamp> {
        let mut text = String::new();
        let mut file = &self.file;
        file.rewind().ok()?;
        file.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse().ok().map(Timestamp::from_millis)
    }

    /// Notes for the next holders that an exchange got no proper answer, or
    /// that there is nothing to note. It explains, and nothing depends on it.
    pub fn note_unanswered(&self, began: Option<Timestamp>) -> io::Result<()> {
        if began.is_none() && self.file.metadata()?.len() == 0 {
            return Ok(());
        }
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        match began {
            Some(began) => writeln!(file, "{}", began.millis()),
            None => Ok(()),
        }
    }
}

impl Locks {
    /// Locks in `dir`, which is created at the first use.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Takes the lock of `profile` if nobody holds it.
    pub fn try_acquire(&self, profile: &ProfileName) -> Result<Option<ProfileLock>, StoreError> {
        let path = self.path(profile);
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(ProfileLock {
                file,
                profile: profile.clone(),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(cannot_lock(&path, &e)),
        }
    }

    /// Waits until nobody holds the lock of `profile`, at most `limit`.
    ///
    /// It does not take the lock: those who wait wake together, each looks
    /// whether the holder did its work, and only who still needs the lock
    /// tries for it.
    pub fn wait(&self, profile: &ProfileName, limit: Duration) -> Result<(), LockError> {
        wait_shared(&self.path(profile), limit)
    }

    fn path(&self, profile: &ProfileName) -> PathBuf {
        self.dir.join(format!("{profile}.lock"))
    }
}

/// A lock on the file at `path` for as long as the value lives, waited for at most `limit`.
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

/// Runs a blocking lock call in a thread of its own, which is left behind when
/// the time is over: nothing else can end a blocked `flock`.
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
            // Whoever waited may have gone; then the result, and a lock in it, is dropped.
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
