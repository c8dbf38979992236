//! The directory of the throw-away profile, and the browsers that run in it.
//!
//! Whatever ends the run, they end with it: `wipe` is called at its end, from
//! the signals' thread and from the panic hook. What `kill -9` leaves is found
//! by its lock, which nobody holds, and swept by a later run.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpgid, getuid, kill_process_group};

use super::browser::pid;
use super::find::Browser;

/// How the directories' names begin.
const PREFIX: &str = "rememberizer-browser-";

/// The free space in bytes that a profile needs; a new one is some 10 MB.
const ROOM: u64 = 300 * 1024 * 1024;

/// How long removing may take: a process that was just killed may still write.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Without the first line a session cookie would be gone in the second run.
const PREFERENCES: &str = r#"{"session":{"restore_on_startup":1},
"credentials_enable_service":false,"profile":{"password_manager_enabled":false}}"#;

/// Reads a variable of the environment.
type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The directory of one sign-in. Clones share it.
#[derive(Clone)]
pub(super) struct Directory(Arc<Shared>);

struct Shared {
    root: PathBuf,
    /// Held until the end; the system lets go of it whatever ends the process.
    _lock: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The process groups of the browsers, by their leaders.
    groups: Vec<Pid>,
    wiped: bool,
}

impl Directory {
    pub(super) fn create(browser: &Browser, variable: Variable<'_>) -> io::Result<Self> {
        let parent = parent(browser, variable)
            .ok_or_else(|| io::Error::other("there is no home directory for it"))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&parent)?;
        let root = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        std::fs::set_permissions(root.path(), Permissions::from_mode(0o700))?;
        let lock = open_lock(root.path())?;
        lock.try_lock()?;
        write_preferences(&root.path().join("profile/Default"))?;
        Ok(Self(Arc::new(Shared {
            root: root.keep(),
            _lock: lock,
            state: Mutex::default(),
        })))
    }

    /// The browser's profile in it.
    pub(super) fn profile(&self) -> PathBuf {
        self.0.root.join("profile")
    }

    /// What the headless run last complained about.
    pub(super) fn log(&self) -> PathBuf {
        self.0.root.join("log")
    }

    /// Where a browser that crashes leaves its memory.
    pub(super) fn crashes(&self) -> PathBuf {
        self.0.root.join("crashes")
    }

    /// Copies what a second run needs for reading the cookies. Returns the copy.
    pub(super) fn copy_profile(&self) -> io::Result<PathBuf> {
        // The lock is held: nothing may be written while the directory is removed.
        let state = self.0.lock();
        if state.wiped {
            return Err(ending());
        }
        let (from, copy) = (self.profile(), self.0.root.join("copy"));
        let mut dirs = DirBuilder::new();
        dirs.recursive(true)
            .mode(0o700)
            .create(copy.join("Default"))?;
        for dir in ["", "Default"] {
            for entry in std::fs::read_dir(from.join(dir))?.flatten() {
                let name = entry.file_name();
                let wanted = name.as_encoded_bytes().starts_with(b"Cookies")
                    || ["Local State", "Preferences", "Secure Preferences"]
                        .iter()
                        .any(|wanted| name == *wanted);
                if wanted {
                    std::fs::copy(entry.path(), copy.join(dir).join(name))?;
                }
            }
        }
        Ok(copy)
    }

    /// Starts a process in a group of its own, which ends with the directory.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mut state = self.0.lock();
        if state.wiped {
            return Err(ending());
        }
        let child = command.process_group(0).spawn()?;
        state.groups.extend(pid(&child));
        Ok(child)
    }

    /// Kills what is left of a process's group, and reaps the process.
    pub(super) fn end(&self, child: &mut Child) {
        if let Some(pid) = pid(child) {
            // As long as the leader is not reaped, its number belongs to nobody else.
            let _ = kill_process_group(pid, Signal::KILL);
            self.0.lock().groups.retain(|group| *group != pid);
        }
        drop(child.wait());
    }

    /// Ends the browsers and removes the directory. Returns whether this call did it.
    pub(super) fn wipe(&self) -> bool {
        let groups = {
            let mut state = self.0.lock();
            if std::mem::replace(&mut state.wiped, true) {
                return false;
            }
            std::mem::take(&mut state.groups)
        };
        for group in groups {
            let _ = kill_process_group(group, Signal::KILL);
        }
        remove(&self.0.root);
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_preferences(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dir.join("Preferences"))?;
    io::Write::write_all(&mut file, PREFERENCES.as_bytes())
}

fn ending() -> io::Error {
    io::Error::other("the run is ending")
}

/// Where directories of this browser go; never in `/tmp`, which others can list.
fn parent(browser: &Browser, variable: Variable<'_>) -> Option<PathBuf> {
    if let Some(name) = &browser.snap {
        return Some(home(variable)?.join("snap").join(name).join("common"));
    }
    let room = |dir: &PathBuf| {
        rustix::fs::statvfs(dir).is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) >= ROOM)
    };
    runtime_dir(variable)
        .filter(room)
        .or_else(|| cache_dir(variable))
}

fn runtime_dir(variable: Variable<'_>) -> Option<PathBuf> {
    variable("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
}

fn cache_dir(variable: Variable<'_>) -> Option<PathBuf> {
    if cfg!(target_os = "macos") {
        return Some(home(variable)?.join("Library/Caches"));
    }
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    cache
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(home(variable)?.join(".cache")))
}

fn home(variable: Variable<'_>) -> Option<PathBuf> {
    variable("HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
}

fn open_lock(root: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits());
    options
        .custom_flags(no_follow.unwrap_or(0))
        .open(root.join("lock"))
}

/// Ends the browsers and removes the directories that killed runs left behind.
/// Returns how many directories are gone.
pub(crate) fn sweep(variable: Variable<'_>) -> usize {
    let snaps = home(variable).and_then(|home| std::fs::read_dir(home.join("snap")).ok());
    let snaps = snaps
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("common"));
    let mut parents: Vec<PathBuf> = snaps.collect();
    parents.extend(runtime_dir(variable).into_iter().chain(cache_dir(variable)));
    let entries = parents.iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    let roots = entries.flatten().flatten().filter(|entry| {
        entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
            && entry
                .metadata()
                .is_ok_and(|m| m.is_dir() && m.uid() == getuid().as_raw())
    });
    let mut swept = 0;
    for root in roots.map(|entry| entry.path()) {
        // A directory in use is locked.
        if let Ok(lock) = open_lock(&root)
            && lock.try_lock().is_ok()
        {
            end_browser_of(&root);
            remove(&root);
            swept += usize::from(!root.exists());
        }
    }
    swept
}

/// Ends the browser that holds the profile, if its command line names it: the
/// number in the profile may belong to another process by now.
fn end_browser_of(root: &Path) {
    for profile in ["profile", "copy"] {
        let profile = root.join(profile);
        let owner = std::fs::read_link(profile.join("SingletonLock")).ok();
        let pid = owner.and_then(|owner| owner.to_str()?.rsplit('-').next()?.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        if !names(pid, &profile) {
            continue;
        }
        let group = getpgid(Some(pid))
            .ok()
            .filter(|group| *group != rustix::process::getpgrp());
        let _ = match group {
            Some(group) => kill_process_group(group, Signal::KILL),
            None => rustix::process::kill_process(pid, Signal::KILL),
        };
    }
}

fn names(pid: Pid, profile: &Path) -> bool {
    let number = pid.as_raw_nonzero().to_string();
    let line = std::fs::read(format!("/proc/{number}/cmdline"))
        .ok()
        .or_else(|| {
            let ps = Command::new("ps")
                .args(["-ww", "-o", "args=", "-p", &number])
                .output();
            Some(ps.ok()?.stdout)
        });
    let (line, wanted) = (
        line.unwrap_or_default(),
        profile.as_os_str().as_encoded_bytes(),
    );
    line.windows(wanted.len()).any(|part| part == wanted)
}

/// Removes a directory, retrying while what was killed still writes to it.
fn remove(root: &Path) {
    for profile in ["profile", "copy"] {
        remove_socket(&root.join(profile));
    }
    let started = Instant::now();
    while let Err(error) = std::fs::remove_dir_all(root) {
        if error.kind() == io::ErrorKind::NotFound || started.elapsed() > REMOVE_TIMEOUT {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A browser that is killed leaves its socket, and the directory made for it, in `/tmp`.
fn remove_socket(profile: &Path) {
    if let Ok(socket) = std::fs::read_link(profile.join("SingletonSocket"))
        && let Some(dir) = socket.parent()
        && socket
            .file_name()
            .is_some_and(|name| name == "SingletonSocket")
    {
        drop(std::fs::remove_file(&socket));
        drop(std::fs::remove_file(dir.join("SingletonCookie")));
        // Fails unless it is empty now.
        drop(std::fs::remove_dir(dir));
    }
}
