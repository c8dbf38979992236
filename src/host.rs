//! The outside world in one struct: all that a test replaces.
//!
//! Nothing here decides anything. What the parts mean is the business of
//! whoever is handed them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::model::Timestamp;
use crate::store::{KeyringOptions, SecretStore, platform_keyring};
use crate::terminal::Terminal;

/// Reads a variable of the environment.
pub type ReadVariable = Box<dyn Fn(&str) -> Option<OsString>>;

/// Makes the keyring of a run.
pub type OpenKeyring = Box<dyn Fn(KeyringOptions) -> Box<dyn SecretStore>>;

/// What surrounds the program.
pub struct Host {
    /// A variable's value.
    pub variable: ReadVariable,
    /// The person's side.
    pub terminal: Terminal,
    /// The local clock.
    pub now: std::sync::Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Where configuration goes, unless a flag says otherwise; `None` without a home.
    pub config_dir: Option<PathBuf>,
    /// Where locks and the file store go; `None` without a home.
    pub data_dir: Option<PathBuf>,
    /// The keyring of the system.
    pub open_keyring: OpenKeyring,
    /// Ends the process at once with an exit code, from any thread.
    pub end: fn(i32),
    /// Gives back what was taken from this process alone, before another
    /// program takes its place.
    pub restore_limits: Box<dyn Fn()>,
}

impl Host {
    /// The process's own surroundings.
    #[must_use]
    pub fn real() -> Self {
        let restore_limits = leave_no_core();
        let dirs = directories::ProjectDirs::from("", "", "rememberizer");
        Self {
            variable: Box::new(read_variable),
            terminal: Terminal::real(),
            now: std::sync::Arc::new(read_clock),
            config_dir: dirs.as_ref().map(|d| d.config_dir().to_owned()),
            data_dir: dirs.as_ref().map(|d| d.data_local_dir().to_owned()),
            open_keyring: Box::new(platform_keyring),
            end: end_process,
            restore_limits,
        }
    }
}

/// A crash leaves no image of the memory on the disk, and other processes of
/// the user cannot attach to this one (prctl(2), `PR_SET_DUMPABLE`, which ends
/// with the program). Returned is what undoes the limit, which would not.
#[cfg(unix)]
fn leave_no_core() -> Box<dyn Fn()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let former = getrlimit(Resource::Core);
    // Where it is not permitted, it is as it was.
    let set = move |current| {
        let maximum = former.maximum;
        let _ = setrlimit(Resource::Core, Rlimit { current, maximum });
    };
    set(Some(0));
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    Box::new(move || set(former.current))
}

#[cfg(not(unix))]
fn leave_no_core() -> Box<dyn Fn()> {
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
