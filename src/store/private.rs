//! Files and directories that only their owner may use. They are opened without
//! following links, checked for owner and mode, and replaced atomically.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
#[cfg(not(unix))]
use std::time::Duration;

use super::StoreError;
use crate::model::read_at_most;

/// Maximum size of a file that we read.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Creates `dir` and its missing parents, with mode 0700 whatever the umask.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    // The parent of a relative name is empty: the working directory, which exists.
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir(parent)?;
    }
    match fs::create_dir(dir) {
        Ok(()) => restrict_dir(dir),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(unix)]
pub(super) fn restrict_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

/// Gives the directory an access control list of its own, which files in it
/// inherit: that of its parent without the groups of all users. The owner keeps
/// full access. `icacls` is part of Windows and is found in the system directory
/// before `PATH`; setting the list by a call would be `unsafe`.
#[cfg(not(unix))]
pub(super) fn restrict_dir(dir: &Path) -> io::Result<()> {
    const OWNER: &str = "*S-1-3-4:(OI)(CI)F";
    const EVERYONE: &str = "*S-1-1-0";
    const AUTHENTICATED_USERS: &str = "*S-1-5-11";
    const INTERACTIVE: &str = "*S-1-5-4";
    const USERS: &str = "*S-1-5-32-545";
    // `icacls` takes what begins with a slash for an option.
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
        let output = std::process::Command::new("icacls")
            .arg(&dir)
            .args(arguments)
            .output()?;
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

/// Sets mode 0600 on an open file, whatever the umask.
#[cfg(unix)]
pub(super) fn restrict(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
pub(super) fn restrict(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Refuses a directory that other users can enter, or that belongs to another user.
pub(super) fn check_dir(dir: &Path) -> Result<(), StoreError> {
    let metadata = fs::symlink_metadata(dir)
        .map_err(|e| StoreError::failed(format!("cannot read {}: {e}", dir.display())))?;
    if !metadata.is_dir() {
        let message = format!("{} is not a directory", dir.display());
        return Err(StoreError::failed(message));
    }
    check_owner_and_mode(dir, &metadata, 0o700, 0o077)
}

#[cfg_attr(
    not(unix),
    expect(unused_variables, reason = "directories have access lists")
)]
fn check_owner_and_mode(
    path: &Path,
    metadata: &fs::Metadata,
    mode: u32,
    forbidden: u32,
) -> Result<(), StoreError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let shown = path.display();
        let (owner, actual) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != rustix::process::geteuid().as_raw() {
            let message = format!("{shown} belongs to another user (uid {owner})");
            return Err(StoreError::failed(message).hint("run it as that user"));
        }
        if actual & forbidden != 0 {
            let message = format!("{shown} can be read by others (mode {actual:04o})");
            let hint = format!("chmod {mode:o} {}", quoted(path));
            return Err(StoreError::failed(message).hint(hint));
        }
    }
    Ok(())
}

/// Refuses a file that belongs to another user: after a replacement that user could
/// no longer use it. Accepts a path that does not exist.
pub(super) fn check_owner(path: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => check_owner_and_mode(path, &metadata, 0, 0),
        Err(_) => Ok(()),
    }
}

/// Quotes a path for a shell, if it needs quoting.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b))
    {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Resolves the links in `path`, without the `\\?\` that Windows puts before a drive.
pub(super) fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let target = fs::canonicalize(path)?;
    let plain = target
        .to_str()
        .and_then(|text| text.strip_prefix(r"\\?\"))
        .filter(|text| text.as_bytes().get(1) == Some(&b':'));
    Ok(plain.map_or_else(|| target.clone(), PathBuf::from))
}

/// Opens `path` without following a link.
pub(super) fn open_no_follow(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Without O_NONBLOCK, opening a FIFO would block.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options
            .mode(0o600)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    options.open(path)
}

/// Reads a private file. Returns `None` if there is none. The mode must have
/// none of the bits of `forbidden`.
pub(super) fn read(
    path: &Path,
    forbidden: u32,
) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, StoreError> {
    let shown = path.display();
    let failed = |e: io::Error| StoreError::failed(format!("cannot read {shown}: {e}"));
    let mut file = match open_no_follow(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if is_link(path) => {
            let message = format!("{shown} is a symbolic link, which is not followed ({e})");
            return Err(StoreError::failed(message).hint(format!("rm {}", quoted(path))));
        }
        Err(e) => return Err(failed(e)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        let message = format!("{shown} is not a regular file");
        return Err(StoreError::failed(message));
    }
    check_owner_and_mode(path, &metadata, 0o600, forbidden)?;
    let size = metadata.len();
    if size > MAX_FILE_BYTES {
        let message = format!("{shown} is too large ({size} bytes)");
        return Err(StoreError::failed(message));
    }
    let bytes = read_at_most(&mut file, MAX_FILE_BYTES).map_err(failed)?;
    Ok(Some(bytes))
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_symlink())
}

/// Returns the path of the temporary file for `path`. Its name is fixed, so that
/// the next run overwrites what a killed run left. The caller of [`replace`] holds
/// the lock for `path`.
fn next_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".next");
    path.with_file_name(name)
}

/// Replaces the content of `path`: a new file beside it with mode 0600, synced,
/// renamed over it, directory synced. The old content stays until the new one is durable.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    check_owner(path).map_err(|e| io::Error::other(format!("{e}; run it as that user")))?;
    let next = next_path(path);
    let create = || {
        tempfile::Builder::new()
            .prefix(next.file_name().unwrap_or_default())
            .rand_bytes(0)
            .tempfile_in(dir)
    };
    let mut file = match create() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&next)?;
            create().map_err(without_path)?
        }
        other => other.map_err(without_path)?,
    };
    restrict(file.as_file())?;
    file.write_all(content).map_err(without_path)?;
    file.as_file().sync_all()?;
    let (file, next) = file.keep().map_err(|e| e.error)?;
    drop(file);
    retry_while_open(|| fs::rename(&next, path))?;
    sync_dir(dir)
}

/// The system's error in one of tempfile's, which names its own path: the caller
/// names the file that is meant.
fn without_path(error: io::Error) -> io::Error {
    error
        .get_ref()
        .and_then(std::error::Error::source)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .and_then(io::Error::raw_os_error)
        .map_or(error, io::Error::from_raw_os_error)
}

#[cfg(unix)]
pub(super) fn retry_while_open<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    operation()
}

/// Windows refuses to replace or remove a file that another process has open.
/// Programs have it open for moments only, so the operation is retried for a second.
#[cfg(not(unix))]
pub(super) fn retry_while_open<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    use io::ErrorKind::{DirectoryNotEmpty, PermissionDenied};

    const TIMEOUT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(10);
    /// `ERROR_SHARING_VIOLATION` of winerror.h.
    const IN_USE: i32 = 32;
    let started = std::time::Instant::now();
    loop {
        match operation() {
            Err(e)
                if (matches!(e.kind(), PermissionDenied | DirectoryNotEmpty)
                    || e.raw_os_error() == Some(IN_USE))
                    && started.elapsed() < TIMEOUT =>
            {
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// Removes `path`, and the temporary file of a killed run. Returns whether `path`
/// existed.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    let mut existed = false;
    for (path, counts) in [(next_path(path), false), (path.to_owned(), true)] {
        match retry_while_open(|| fs::remove_file(&path)) {
            Ok(()) => existed |= counts,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    if existed {
        sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    }
    Ok(existed)
}

/// Makes a rename durable. Windows opens no directory as a file.
fn sync_dir(dir: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(dir)?.sync_all(),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_relative_directories() {
        let temporary = tempfile::tempdir_in(".").unwrap();
        let relative = Path::new(temporary.path().file_name().unwrap());
        fs::remove_dir(relative).unwrap();
        create_dir(&relative.join("below")).unwrap();
        assert!(relative.join("below").is_dir());
    }
}
