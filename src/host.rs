//! Access to the environment, clock, directories and keyring of the process. Tests
//! replace them by passing another [`Host`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::model::Timestamp;
use crate::store::{KeyringOptions, SecretStore, platform_keyring};
use crate::terminal::Terminal;

/// Returns the value of an environment variable, if it is set.
pub type ReadVariable = Box<dyn Fn(&str) -> Option<OsString>>;

/// The environment, terminal, clock, directories and keyring of the process.
pub struct Host {
    /// Reads an environment variable.
    pub read_variable: ReadVariable,
    /// Standard input, output and error.
    pub terminal: Terminal,
    /// Reads the local clock.
    pub now: std::sync::Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The default config directory; `None` if unknown.
    pub config_dir: Option<PathBuf>,
    /// The directory of locks and session files; `None` if unknown.
    pub data_dir: Option<PathBuf>,
    /// Opens the keyring of the system.
    pub open_keyring: Box<dyn Fn(KeyringOptions) -> Box<dyn SecretStore>>,
    /// Exits the process immediately with an exit code. Can be called on any thread.
    pub exit_process: fn(i32),
    /// Restores the core limit that [`Host::real`] lowered, so that the command that `exec`
    /// runs inherits the original.
    pub restore_limits: Box<dyn Fn()>,
}

impl Host {
    /// Returns the host of this process. Also disables core dumps.
    pub fn real() -> Self {
        let restore_limits = disable_core_dumps();
        let dirs = directories::ProjectDirs::from("", "", "rememberizer");
        Self {
            read_variable: Box::new(read_variable),
            terminal: Terminal::stdio(),
            now: std::sync::Arc::new(read_clock),
            config_dir: xdg_dir("XDG_CONFIG_HOME")
                .or_else(|| dirs.as_ref().map(|d| d.config_dir().to_owned())),
            data_dir: xdg_dir("XDG_DATA_HOME")
                .or_else(|| dirs.as_ref().map(|d| d.data_local_dir().to_owned())),
            open_keyring: Box::new(platform_keyring),
            exit_process,
            restore_limits,
        }
    }
}

/// Returns this program's directory in the XDG base directory that `variable` names. The
/// XDG Base Directory Specification says to ignore relative paths. `directories` reads
/// the same variables, but only if the user has a home directory.
fn xdg_dir(variable: &str) -> Option<PathBuf> {
    let uses_xdg = cfg!(all(unix, not(target_os = "macos")));
    let dir = PathBuf::from(read_variable(variable).filter(|_| uses_xdg)?);
    dir.is_absolute().then(|| dir.join("rememberizer"))
}

/// Disables core dumps, which would write secrets to disk. On Linux also keeps the
/// user's other processes from attaching to this one (prctl(2), `PR_SET_DUMPABLE`).
/// execve(2) resets `PR_SET_DUMPABLE`; the returned function restores the core limit.
#[cfg(unix)]
fn disable_core_dumps() -> Box<dyn Fn()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let original = getrlimit(Resource::Core);
    let set_core_limit = move |current| {
        let maximum = original.maximum;
        // If the limit cannot be set, continue: secrets leak only if we crash as well.
        let _ = setrlimit(Resource::Core, Rlimit { current, maximum });
    };
    set_core_limit(Some(0));
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    Box::new(move || set_core_limit(original.current))
}

#[cfg(not(unix))]
fn disable_core_dumps() -> Box<dyn Fn()> {
    Box::new(|| {})
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment must be read only here"
)]
fn read_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock must be read only here"
)]
fn read_clock() -> Timestamp {
    SystemTime::now().into()
}

#[expect(
    clippy::exit,
    reason = "the signal thread must end the process while other threads are blocked"
)]
fn exit_process(code: i32) {
    std::process::exit(code);
}
