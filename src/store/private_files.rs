//! Files and directories that only their owner may use. They are opened without following
//! symbolic links, checked for owner and mode, and replaced atomically.

#[cfg_attr(unix, path = "private_files/unix.rs")]
#[cfg_attr(not(unix), path = "private_files/windows.rs")]
mod platform;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::StoreError;
use crate::model::read_at_most;
use platform::{check_mode, check_owner, create_private_dir, sync_dir};

pub(super) use platform::{open_no_follow, restrict, restrict_dir, retry_while_open};

/// Maximum size of a file that is read.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// What to do with a file that other users can read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IfExposed {
    Refuse,
    Read,
}

/// Creates `dir` and its missing parents with mode 0700, regardless of the umask.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    // The parent of a relative name is the empty path, which stands for the working
    // directory. The working directory exists.
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir(parent)?;
    }
    match create_private_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        result => result,
    }
}

/// Refuses a directory that other users can enter, or that belongs to another user.
pub(super) fn check_dir(dir: &Path) -> Result<(), StoreError> {
    let metadata = fs::symlink_metadata(dir)
        .map_err(|e| StoreError::failed(format!("cannot read {}: {e}", dir.display())))?;
    if !metadata.is_dir() {
        let message = format!("{} is not a directory", dir.display());
        return Err(StoreError::failed(message));
    }
    check_owner(dir, &metadata)?;
    check_mode(dir, &metadata, 0o700)
}

/// Refuses to replace the file of another user, since that user could not use the new
/// file. Accepts a path that does not exist.
pub(super) fn check_replaceable(path: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => check_owner(path, &metadata),
        Err(_) => Ok(()),
    }
}

/// Quotes a path for a shell, if needed.
fn shell_quoted(path: &Path) -> String {
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

/// Resolves the symbolic links in `path`. Removes the prefix `\\?\` that Windows puts
/// before a drive.
pub(super) fn resolve_links(path: &Path) -> io::Result<PathBuf> {
    let target = fs::canonicalize(path)?;
    let without_prefix = target
        .to_str()
        .and_then(|text| text.strip_prefix(r"\\?\"))
        .filter(|text| text.as_bytes().get(1) == Some(&b':'));
    Ok(without_prefix.map_or_else(|| target.clone(), PathBuf::from))
}

/// Reads a private file. Returns `None` if it does not exist.
pub(super) fn read(
    path: &Path,
    if_exposed: IfExposed,
) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
    let shown = path.display();
    let cannot_read = |e: io::Error| StoreError::failed(format!("cannot read {shown}: {e}"));
    let mut file = match open_no_follow(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if is_link(path) => {
            let message = format!("{shown} is a symbolic link, which is not followed ({e})");
            return Err(StoreError::failed(message).with_hint(format!("rm {}", shell_quoted(path))));
        }
        Err(e) => return Err(cannot_read(e)),
    };
    let metadata = file.metadata().map_err(cannot_read)?;
    if !metadata.is_file() {
        let message = format!("{shown} is not a regular file");
        return Err(StoreError::failed(message));
    }
    check_owner(path, &metadata)?;
    if if_exposed == IfExposed::Refuse {
        check_mode(path, &metadata, 0o600)?;
    }
    let size = metadata.len();
    if size > MAX_FILE_BYTES {
        let message = format!("{shown} is too large ({size} bytes)");
        return Err(StoreError::failed(message));
    }
    let bytes = read_at_most(&mut file, MAX_FILE_BYTES).map_err(cannot_read)?;
    Ok(Some(bytes))
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_symlink())
}

/// Returns the path of the temporary file that becomes the new `path`. The name is fixed,
/// so that a run overwrites the temporary file of a killed run. Callers of [`replace`]
/// must hold a lock for `path`.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".next");
    path.with_file_name(name)
}

/// Replaces the file at `path` atomically: writes a temporary file with mode 0600, syncs
/// it, renames it to `path`, and syncs the directory. The new content is durable when this
/// returns.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    check_replaceable(path)
        .map_err(|e| io::Error::other(format!("{e}; run rememberizer as that user")))?;
    let temporary = temporary_path(path);
    let create = || {
        tempfile::Builder::new()
            .prefix(temporary.file_name().unwrap_or_default())
            .rand_bytes(0)
            .tempfile_in(dir)
    };
    let mut file = match create() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary)?;
            create()?
        }
        result => result?,
    };
    restrict(file.as_file())?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    let (file, temporary) = file.keep().map_err(|e| e.error)?;
    drop(file);
    retry_while_open(|| fs::rename(&temporary, path))?;
    sync_dir(dir)
}

/// Removes `path`, and the temporary file of a killed run. Returns whether `path` existed.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    remove_file(&temporary_path(path))?;
    let existed = remove_file(path)?;
    if existed {
        sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    }
    Ok(existed)
}

fn remove_file(path: &Path) -> io::Result<bool> {
    match retry_while_open(|| fs::remove_file(path)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
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
