//! Private files on Windows: the access control list of the directory protects them.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::store::StoreError;

pub(super) fn create_private_dir(dir: &Path) -> io::Result<()> {
    std::fs::create_dir(dir)?;
    restrict_dir(dir)
}

/// Gives the directory its own access control list, which files in the directory inherit:
/// the list of its parent without the groups that contain all users, and full access for
/// the owner.
///
/// Runs `icacls`, since setting the list with a system call would need `unsafe` code.
/// Windows looks for `icacls`, which is part of Windows, in the system directory before
/// `PATH`.
pub(in crate::store) fn restrict_dir(dir: &Path) -> io::Result<()> {
    const OWNER: &str = "*S-1-3-4:(OI)(CI)F";
    const EVERYONE: &str = "*S-1-1-0";
    const AUTHENTICATED_USERS: &str = "*S-1-5-11";
    const INTERACTIVE: &str = "*S-1-5-4";
    const USERS: &str = "*S-1-5-32-545";
    // A relative path may begin with a slash, which `icacls` would parse as an option.
    let dir = std::path::absolute(dir)?;
    for arguments in [
        &["/inheritance:d", "/grant", OWNER][..],
        &[
            "/remove:g",
            EVERYONE,
            AUTHENTICATED_USERS,
            INTERACTIVE,
            USERS,
        ],
    ] {
        let output = Command::new("icacls").arg(&dir).args(arguments).output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!(
                "icacls failed ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
    }
    Ok(())
}

/// Does nothing: the file inherits the access control list of its directory.
pub(in crate::store) fn restrict(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Does nothing: there is no uid to compare.
pub(super) fn check_owner(_path: &Path, _metadata: &Metadata) -> Result<(), StoreError> {
    Ok(())
}

/// Does nothing: there is no mode to compare.
pub(super) fn check_mode(_path: &Path, _metadata: &Metadata, _mode: u32) -> Result<(), StoreError> {
    Ok(())
}

/// Opens `path`. Unlike on Unix, a symbolic link is followed.
pub(in crate::store) fn open_no_follow(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.open(path)
}

/// Retries `operation` for up to a second while another process has the file open, since
/// Windows then refuses to replace or remove it. Other programs, such as virus scanners,
/// open a file only briefly.
pub(in crate::store) fn retry_while_open<T>(
    mut operation: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    use io::ErrorKind::{DirectoryNotEmpty, PermissionDenied};

    const TIMEOUT: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_millis(10);
    /// `ERROR_SHARING_VIOLATION` of winerror.h.
    const IN_USE: i32 = 32;
    let started = Instant::now();
    loop {
        match operation() {
            Err(e)
                if (matches!(e.kind(), PermissionDenied | DirectoryNotEmpty)
                    || e.raw_os_error() == Some(IN_USE))
                    && started.elapsed() < TIMEOUT =>
            {
                std::thread::sleep(INTERVAL);
            }
            result => return result,
        }
    }
}

/// Does nothing: `File` cannot open a directory on Windows.
pub(super) fn sync_dir(_dir: &Path) -> io::Result<()> {
    Ok(())
}
