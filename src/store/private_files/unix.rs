//! Owner and mode of private files on Unix.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::shell_quoted;
use crate::store::StoreError;

/// Creates a directory with mode 0700. It never has another mode, which another process of this
/// program would refuse.
pub(super) fn create_private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    restrict_dir(dir)
}

/// Sets mode 0700 on a directory, regardless of the umask.
pub(in crate::store) fn restrict_dir(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))
}

/// Sets mode 0600 on an open file, regardless of the umask.
pub(in crate::store) fn restrict(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Refuses a file or directory that belongs to another user.
pub(super) fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), StoreError> {
    let owner = metadata.uid();
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let message = format!("{} belongs to another user (uid {owner})", path.display());
    Err(StoreError::failed(message).with_hint("run rememberizer as that user"))
}

/// Refuses a file or directory that other users can access. The hint suggests `mode`.
pub(super) fn check_mode(
    path: &Path,
    metadata: &fs::Metadata,
    mode: u32,
) -> Result<(), StoreError> {
    let actual = metadata.mode() & 0o7777;
    if actual & 0o077 == 0 {
        return Ok(());
    }
    let message = format!(
        "{} can be read by others (mode {actual:04o})",
        path.display()
    );
    Err(StoreError::failed(message).with_hint(format!("chmod {mode:o} {}", shell_quoted(path))))
}

/// Opens `path` without following a symbolic link, and without blocking if it is a FIFO.
pub(in crate::store) fn open_no_follow(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    options
        .mode(0o600)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
}

/// Runs `operation` once, since Unix can replace and remove open files.
pub(in crate::store) fn retry_while_open<T>(
    mut operation: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    operation()
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
