//! The temporary browser profile of one sign-in, and the browser processes that use it.
//!
//! `destroy` kills the browsers and removes the profile. It is called when the sign-in
//! ends, from the signal thread and from the panic hook. If `kill -9` prevents that, a
//! later run removes the profile: the lock file in the directory is then not locked.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpgid, getuid, kill_process_group};

use super::EnvLookup;
use super::browser::child_pid;
use super::find::Browser;

/// Prefix of the directory names.
const PREFIX: &str = "rememberizer-browser-";

/// Minimum free space for a profile. A new profile takes about 10 MB.
const MIN_FREE_BYTES: u64 = 300 * 1024 * 1024;

/// Maximum time for removing a directory: a killed process may still write for a moment.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Preferences of the profile. `restore_on_startup` keeps session cookies (those without
/// an expiry time) on disk when the browser exits, so that the headless run can read them.
const PREFERENCES: &str = r#"{"session":{"restore_on_startup":1},
"credentials_enable_service":false,"profile":{"password_manager_enabled":false}}"#;

/// Owns the directory of the profile. Clones share the directory.
#[derive(Clone)]
pub(super) struct TempProfile(Arc<Shared>);

struct Shared {
    root: PathBuf,
    /// Locked while this process runs. The kernel unlocks it even after `kill -9`.
    _lock: File,
    state: Mutex<State>,
    /// Notified when `is_removed` is set.
    removal: Condvar,
}

#[derive(Default)]
struct State {
    process_groups: Vec<Pid>,
    /// The thread that destroys the profile, once a thread has begun to.
    destroyer: Option<ThreadId>,
    is_removed: bool,
}

impl TempProfile {
    pub(super) fn create(browser: &Browser, env: EnvLookup<'_>) -> io::Result<Self> {
        let parent = parent_dir(browser, env)
            .ok_or_else(|| io::Error::other("HOME is not set to an absolute path"))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&parent)?;
        let root = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        std::fs::set_permissions(root.path(), Permissions::from_mode(0o700))?;
        let lock = open_lock_file(root.path())?;
        lock.try_lock()?;
        write_preferences(&root.path().join("profile/Default"))?;
        Ok(Self(Arc::new(Shared {
            root: root.keep(),
            _lock: lock,
            state: Mutex::default(),
            removal: Condvar::new(),
        })))
    }

    pub(super) fn profile_dir(&self) -> PathBuf {
        self.0.root.join("profile")
    }

    /// The file with the stderr of the last headless run.
    pub(super) fn log_path(&self) -> PathBuf {
        self.0.root.join("log")
    }

    /// The directory for crash dumps, which contain the memory of the browser.
    pub(super) fn crash_dump_dir(&self) -> PathBuf {
        self.0.root.join("crashes")
    }

    /// Copies the files that a headless run needs for reading the cookies. Returns the
    /// path of the copy.
    pub(super) fn copy_profile(&self) -> io::Result<PathBuf> {
        // Hold the mutex while copying, so that `destroy` cannot remove the directory meanwhile.
        let state = self.0.lock();
        if state.destroyer.is_some() {
            return Err(shutdown_error());
        }
        let (original, copy) = (self.profile_dir(), self.0.root.join("copy"));
        let mut dirs = DirBuilder::new();
        dirs.recursive(true)
            .mode(0o700)
            .create(copy.join("Default"))?;
        for dir in ["", "Default"] {
            for entry in std::fs::read_dir(original.join(dir))?.flatten() {
                let name = entry.file_name();
                let is_needed = name.as_encoded_bytes().starts_with(b"Cookies")
                    || ["Local State", "Preferences", "Secure Preferences"]
                        .iter()
                        .any(|file| name == *file);
                if is_needed {
                    std::fs::copy(entry.path(), copy.join(dir).join(name))?;
                }
            }
        }
        Ok(copy)
    }

    /// Starts a process in its own process group, which `destroy` kills.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mut state = self.0.lock();
        if state.destroyer.is_some() {
            return Err(shutdown_error());
        }
        let child = command.process_group(0).spawn()?;
        state.process_groups.extend(child_pid(&child));
        Ok(child)
    }

    /// Kills the process group of the child and reaps the child.
    pub(super) fn kill_and_reap(&self, child: &mut Child) {
        if let Some(pid) = child_pid(child) {
            // Kill before reaping: afterwards, another process may have this pid.
            let _ = kill_process_group(pid, Signal::KILL);
            self.0.lock().process_groups.retain(|group| *group != pid);
        }
        drop(child.wait());
    }

    /// Kills the browsers and removes the directory. Returns true once this is done. If
    /// another thread does it, waits for that thread and returns false.
    pub(super) fn destroy(&self) -> bool {
        let this_thread = std::thread::current().id();
        let mut state = self.0.lock();
        match state.destroyer {
            None => state.destroyer = Some(this_thread),
            // The panic hook called this because the thread has panicked while it removed the
            // directory. Waiting would never end.
            Some(destroyer) if destroyer == this_thread => return false,
            Some(_) => {
                let timeout = REMOVE_TIMEOUT + Duration::from_secs(1);
                drop(
                    self.0
                        .removal
                        .wait_timeout_while(state, timeout, |state| !state.is_removed),
                );
                return false;
            }
        }
        // Kill before the mutex is released: afterwards another thread may reap a browser, and
        // another process may get its pid.
        for group in std::mem::take(&mut state.process_groups) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        drop(state);
        remove_dir_with_retries(&self.0.root);
        self.0.lock().is_removed = true;
        self.0.removal.notify_all();
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

fn shutdown_error() -> io::Error {
    io::Error::other("the program is exiting")
}

/// Returns the parent directory for profiles of this browser. It must not be `/tmp`, which
/// other users can list.
fn parent_dir(browser: &Browser, env: EnvLookup<'_>) -> Option<PathBuf> {
    if let Some(name) = &browser.snap {
        return Some(home_dir(env)?.join("snap").join(name).join("common"));
    }
    let has_space = |dir: &PathBuf| {
        rustix::fs::statvfs(dir)
            .is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) >= MIN_FREE_BYTES)
    };
    runtime_dir(env)
        .filter(has_space)
        .or_else(|| cache_dir(env))
}

fn runtime_dir(env: EnvLookup<'_>) -> Option<PathBuf> {
    env("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
}

fn cache_dir(env: EnvLookup<'_>) -> Option<PathBuf> {
    if cfg!(target_os = "macos") {
        return Some(home_dir(env)?.join("Library/Caches"));
    }
    let cache = env("XDG_CACHE_HOME").map(PathBuf::from);
    cache
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(home_dir(env)?.join(".cache")))
}

fn home_dir(env: EnvLookup<'_>) -> Option<PathBuf> {
    env("HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
}

fn open_lock_file(root: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits());
    options
        .custom_flags(no_follow.unwrap_or(0))
        .open(root.join("lock"))
}

/// Kills the browsers and removes the profiles that killed runs have left behind.
/// Returns the number of profiles removed.
pub(crate) fn remove_stale_profiles(env: EnvLookup<'_>) -> usize {
    let snap_entries = home_dir(env).and_then(|home| std::fs::read_dir(home.join("snap")).ok());
    let snap_dirs = snap_entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("common"));
    let mut parents: Vec<PathBuf> = snap_dirs.collect();
    parents.extend(runtime_dir(env).into_iter().chain(cache_dir(env)));
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
    let mut removed = 0;
    for root in roots.map(|entry| entry.path()) {
        // The lock file of a profile in use is locked.
        if let Ok(lock) = open_lock_file(&root)
            && lock.try_lock().is_ok()
        {
            kill_browser_using(&root);
            remove_dir_with_retries(&root);
            removed += usize::from(!root.exists());
        }
    }
    removed
}

/// Kills the browser that uses the profile. `SingletonLock` in the profile is a symlink to
/// `HOST-PID`. Another process may use this pid by now, so the command line of the process
/// must contain the path of the profile.
fn kill_browser_using(root: &Path) {
    for profile in ["profile", "copy"] {
        let profile = root.join(profile);
        let host_and_pid = std::fs::read_link(profile.join("SingletonLock")).ok();
        let pid = host_and_pid.and_then(|target| target.to_str()?.rsplit('-').next()?.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        if !command_line_contains(pid, &profile) {
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

fn command_line_contains(pid: Pid, path: &Path) -> bool {
    let pid = pid.as_raw_nonzero().to_string();
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))
        .ok()
        .or_else(|| {
            let ps = Command::new("ps")
                .args(["-ww", "-o", "args=", "-p", &pid])
                .output();
            Some(ps.ok()?.stdout)
        });
    let path = path.as_os_str().as_encoded_bytes();
    line.unwrap_or_default()
        .windows(path.len())
        .any(|part| part == path)
}

/// Removes a directory. Retries, because a killed process may still write for a moment.
fn remove_dir_with_retries(root: &Path) {
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

/// Removes the socket of a killed browser, and the directory of the socket in `/tmp`.
fn remove_socket(profile: &Path) {
    if let Ok(socket) = std::fs::read_link(profile.join("SingletonSocket"))
        && let Some(dir) = socket.parent()
        && socket
            .file_name()
            .is_some_and(|name| name == "SingletonSocket")
    {
        drop(std::fs::remove_file(&socket));
        drop(std::fs::remove_file(dir.join("SingletonCookie")));
        // This fails if the directory has other files; ignore that.
        drop(std::fs::remove_dir(dir));
    }
}
