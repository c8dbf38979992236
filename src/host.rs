//! Access to the environment, clock, directories and keyring of the process: all
//! that a test replaces.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::model::Timestamp;
use crate::store::{KeyringOptions, SecretStore, platform_keyring};
use crate::terminal::Terminal;

/// Reads a variable of the environment.
pub type ReadVariable = Box<dyn Fn(&str) -> Option<OsString>>;

/// The environment, terminal, clock, directories and keyring of the process.
pub struct Host {
    /// Reads a variable of the environment.
    pub variable: ReadVariable,
    /// Standard input, output and error.
    pub terminal: Terminal,
    /// Reads the local clock.
    pub now: std::sync::Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The config directory, unless a flag chooses another; `None` if unknown.
    pub config_dir: Option<PathBuf>,
    /// The directory of locks and session files; `None` if unknown.
    pub data_dir: Option<PathBuf>,
    /// Opens the keyring of the system.
    pub open_keyring: Box<dyn Fn(KeyringOptions) -> Box<dyn SecretStore>>,
    /// Ends the process at once with an exit code, from any thread.
    pub end: fn(i32),
    /// Restores the limits of this process before `exec` replaces it.
    pub restore_limits: Box<dyn Fn()>,
}

impl Host {
    /// Returns the real environment of this process.
    pub fn real() -> Self {
        let restore_limits = disable_core_dumps();
        let dirs = directories::ProjectDirs::from("", "", "rememberizer");
        Self {
            variable: Box::new(read_variable),
            terminal: Terminal::real(),
            now: std::sync::Arc::new(read_clock),
            config_dir: xdg_dir("XDG_CONFIG_HOME")
                .or_else(|| dirs.as_ref().map(|d| d.config_dir().to_owned())),
            data_dir: xdg_dir("XDG_DATA_HOME")
                .or_else(|| dirs.as_ref().map(|d| d.data_local_dir().to_owned())),
            open_keyring: Box::new(platform_keyring),
            end: end_process,
            restore_limits,
        }
    }
}

/// Returns our directory below an XDG directory, which must be absolute (XDG
/// Base Directory Specification). `directories` reads the same variables, but
/// only if the user has a home.
fn xdg_dir(variable: &str) -> Option<PathBuf> {
    let applies = cfg!(all(unix, not(target_os = "macos")));
    let dir = PathBuf::from(read_variable(variable).filter(|_| applies)?);
    dir.is_absolute().then(|| dir.join("rememberizer"))
}

/// Keeps a crash from writing the memory to the disk, and other processes of the
/// user from attaching to this one (prctl(2), `PR_SET_DUMPABLE`). `exec` resets
/// the second only; the returned function restores the first.
#[cfg(unix)]
fn disable_core_dumps() -> Box<dyn Fn()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let original = getrlimit(Resource::Core);
    // If it is not permitted, the limit stays.
    let set = move |current| {
        let maximum = original.maximum;
        let _ = setrlimit(Resource::Core, Rlimit { current, maximum });
    };
    set(Some(0));
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    Box::new(move || set(original.current))
}

#[cfg(not(unix))]
fn disable_core_dumps() -> Box<dyn Fn()> {
    Box::new(|| {})
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
fn read_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the clock is read"
)]
fn read_clock() -> Timestamp {
    SystemTime::now().into()
}

#[expect(
    clippy::exit,
    reason = "a signal ends the process while other threads wait"
)]
fn end_process(code: i32) {
    std::process::exit(code);
}
