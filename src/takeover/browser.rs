//! Signs in through a browser window. The user signs in while the browser runs without
//! remote control, because sign-in pages such as Google's reject a remote-controlled
//! browser. A second, headless run with the same profile then returns the cookies.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::EnvLookup;
use super::cookies::{CookieError, FoundCookie, WantedCookie, find_in_response};
use super::find::Browser;
use super::pipe::{self, AfterResponse, PipeError};
use super::temp_profile::{self, TempProfile};

/// Maximum time for the user to sign in.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(600);

/// Maximum time for the browser to exit after SIGINT.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which the browser process is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The SQLite database with the cookies, relative to the profile, and its journal.
const COOKIES_DATABASE: &str = "Default/Cookies";
const COOKIES_JOURNAL: &str = "Default/Cookies-journal";

/// Flags of both runs: skip the dialogs of the first start, and do not use the keyring.
const COMMON_FLAGS: [&str; 4] = [
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--use-mock-keychain",
];

/// A step of the sign-in that is reported to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The browser window is about to open.
    Opening,
    /// The cookie was found: the user can close the window.
    SignedIn,
    /// The browser still runs `EXIT_TIMEOUT` after SIGINT. Probably a page asks whether to
    /// leave it.
    StillOpen,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BrowserError {
    #[error("{}", match .0 {
        Some(name) => format!("browser not found: {name}"),
        None => "no browser of the Chromium family was found".to_owned(),
    })]
    NotFound(Option<String>),
    #[error("signing in does not work with {0}, only with browsers of the Chromium family")]
    Unsupported(String),
    #[error(
        "there is no display to open a browser window on (DISPLAY and WAYLAND_DISPLAY are unset)"
    )]
    NoDisplay,
    #[error("cannot create a directory for the browser profile: {0}")]
    TempProfile(String),
    #[error("{program} cannot be used: {error}")]
    Unusable { program: String, error: PipeError },
    #[error("the browser crashed ({0}) before you were signed in")]
    Crashed(ExitStatus),
    #[error("the browser was closed before you were signed in")]
    ClosedEarly,
    #[error("you did not sign in within {} minutes", SIGN_IN_TIMEOUT.as_secs() / 60)]
    TimedOut,
    #[error(transparent)]
    Cookie(CookieError),
}

/// Parameters and callbacks of one sign-in.
pub(crate) struct SignIn<'a> {
    pub(crate) browser: &'a Browser,
    pub(crate) url: &'a str,
    pub(crate) cookie: WantedCookie<'a>,
    pub(crate) env: EnvLookup<'a>,
    /// Environment variables that are removed for the browser.
    pub(crate) secret_variables: &'a [&'a str],
    pub(crate) on_event: &'a dyn Fn(Event),
    /// Waits for Enter up to the given time. Returns whether the user pressed Enter.
    pub(crate) wait_for_enter: &'a dyn Fn(Duration) -> bool,
    /// Registers a function that must be called before a signal ends this process.
    pub(crate) on_shutdown: &'a dyn Fn(Box<dyn FnOnce() + Send>),
}

impl SignIn<'_> {
    /// Opens the sign-in page, waits until the browser is closed and returns the cookie.
    /// The browser has exited and its profile is removed when this returns.
    pub(crate) fn run(&self) -> Result<FoundCookie, BrowserError> {
        let has_display = cfg!(target_os = "macos")
            || ["DISPLAY", "WAYLAND_DISPLAY"]
                .iter()
                .any(|name| (self.env)(name).is_some_and(|value| !value.is_empty()));
        // A program that the user chose by path may work without a display.
        if !has_display && !self.browser.chosen_by_path {
            return Err(BrowserError::NoDisplay);
        }
        temp_profile::remove_stale_profiles(self.env);
        let temp_profile = TempProfile::create(self.browser, self.env)
            .map_err(|error| BrowserError::TempProfile(error.to_string()))?;
        self.destroy_on_signal_or_panic(&temp_profile);
        let result = self.run_with_profile(&temp_profile);
        if !temp_profile.destroy() {
            // The signal thread is destroying the profile, and then ends the process. Wait for
            // that.
            std::thread::sleep(EXIT_TIMEOUT);
        }
        match result {
            Err(BrowserError::Crashed(_)) if !has_display => Err(BrowserError::NoDisplay),
            other => other,
        }
    }

    fn destroy_on_signal_or_panic(&self, temp_profile: &TempProfile) {
        let signal_profile = temp_profile.clone();
        (self.on_shutdown)(Box::new(move || _ = signal_profile.destroy()));
        // A panic aborts the process, so no destructor runs.
        let (panic_profile, previous_hook) = (temp_profile.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            let _ = panic_profile.destroy();
            previous_hook(info);
        }));
    }

    fn run_with_profile(&self, temp_profile: &TempProfile) -> Result<FoundCookie, BrowserError> {
        // Check, before the user signs in, that this browser can return cookies. Let it close
        // by itself, because the profile is used again.
        self.read_cookies(temp_profile, AfterResponse::Close)?;
        let deadline = Instant::now() + SIGN_IN_TIMEOUT;
        (self.on_event)(Event::Opening);
        let status = self.run_sign_in_window(temp_profile, deadline)?;
        let json = self.read_cookies(temp_profile, AfterResponse::Kill)?;
        find_in_response(&json, self.cookie).map_err(|error| match error {
            CookieError::Missing(_) | CookieError::UnknownFormat if status.success() => {
                BrowserError::ClosedEarly
            }
            CookieError::Missing(_) | CookieError::UnknownFormat => BrowserError::Crashed(status),
            other => BrowserError::Cookie(other),
        })
    }

    fn browser_command(&self, temp_profile: &TempProfile) -> Command {
        let mut command = Command::new(&self.browser.program);
        command.args(COMMON_FLAGS);
        // By default a crash dump, which may contain cookies, goes to the user's own profile.
        command.env("BREAKPAD_DUMP_LOCATION", temp_profile.crash_dump_dir());
        for name in self.secret_variables {
            command.env_remove(name);
        }
        command
    }

    fn read_cookies(
        &self,
        temp_profile: &TempProfile,
        after: AfterResponse,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, BrowserError> {
        let command = self.browser_command(temp_profile);
        pipe::read_cookies(temp_profile, &command, &temp_profile.profile_dir(), after)
            .map_err(|error| self.unusable_error(error))
    }

    fn unusable_error(&self, error: PipeError) -> BrowserError {
        let program = self.browser.program.display().to_string();
        BrowserError::Unusable { program, error }
    }

    /// Runs the browser on the sign-in page until it exits.
    fn run_sign_in_window(
        &self,
        temp_profile: &TempProfile,
        deadline: Instant,
    ) -> Result<ExitStatus, BrowserError> {
        let mut command = self.browser_command(temp_profile);
        command
            .arg(user_data_dir_flag(&temp_profile.profile_dir()))
            .arg(self.url);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = temp_profile
            .spawn(&mut command)
            .map_err(|error| self.unusable_error(PipeError::Start(error.to_string())))?;
        let exited_in_time = self.wait_until_closed(temp_profile, &mut child, deadline);
        temp_profile.kill_and_reap(&mut child);
        match child.try_wait() {
            Ok(Some(status)) if exited_in_time => Ok(status),
            _ => Err(BrowserError::TimedOut),
        }
    }

    /// Waits until the browser exits, or until the deadline. Returns whether it has exited.
    /// Interrupts the browser when the user presses Enter.
    fn wait_until_closed(
        &self,
        temp_profile: &TempProfile,
        child: &mut Child,
        deadline: Instant,
    ) -> bool {
        let mut interrupted_at: Option<Instant> = None;
        let mut is_still_open_reported = false;
        let mut detector = SignInDetector::new(temp_profile);
        while !has_exited(child) {
            if Instant::now() > deadline {
                return false;
            }
            if (self.wait_for_enter)(POLL_INTERVAL) && interrupted_at.is_none() {
                // Send only one SIGINT: at a second one the browser exits without saving cookies.
                interrupt(child);
                interrupted_at = Some(Instant::now());
            }
            if interrupted_at.is_some_and(|at| at.elapsed() > EXIT_TIMEOUT)
                && !is_still_open_reported
            {
                (self.on_event)(Event::StillOpen);
                is_still_open_reported = true;
            }
            if interrupted_at.is_none() && detector.poll(self) {
                (self.on_event)(Event::SignedIn);
            }
        }
        true
    }
}

/// Detects that the user has signed in while the browser still runs. Searches for the
/// cookie in a copy of the profile. Detection may take 30 s, because the browser writes new
/// cookies to disk with that delay.
struct SignInDetector {
    temp_profile: TempProfile,
    /// Size and modification time of the cookie database at the last call of `detect_change`.
    last_state: Option<(u64, SystemTime)>,
    /// Receives whether a check that is still running has found the cookie.
    running_check: Option<Receiver<bool>>,
    is_found: bool,
}

impl SignInDetector {
    fn new(temp_profile: &TempProfile) -> Self {
        let mut detector = Self {
            temp_profile: temp_profile.clone(),
            last_state: None,
            running_check: None,
            is_found: false,
        };
        // Record the current state, so that only later changes are searched.
        detector.detect_change();
        detector
    }

    /// Returns true the first time that the cookie is found, and false otherwise.
    fn poll(&mut self, sign_in: &SignIn<'_>) -> bool {
        if self.is_found {
            return false;
        }
        match self.running_check.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => {}
            Some(result) => {
                self.running_check = None;
                self.is_found = result == Ok(true);
            }
            None if self.detect_change() => self.running_check = self.start_check(sign_in),
            None => {}
        }
        self.is_found
    }

    /// Returns whether the cookie database has changed since the last call. Returns false
    /// while the journal is not empty: the browser is writing, and in a copy SQLite would
    /// roll back the unfinished transaction.
    fn detect_change(&mut self) -> bool {
        let metadata = |name| std::fs::metadata(self.temp_profile.profile_dir().join(name));
        if metadata(COOKIES_JOURNAL).is_ok_and(|journal| journal.len() > 0) {
            return false;
        }
        let state = metadata(COOKIES_DATABASE)
            .ok()
            .and_then(|m| Some((m.len(), m.modified().ok()?)));
        let changed = state.is_some() && state != self.last_state;
        self.last_state = state;
        changed
    }

    /// Searches a copy of the profile in a thread, so that the caller keeps polling the browser.
    fn start_check(&self, sign_in: &SignIn<'_>) -> Option<Receiver<bool>> {
        let (temp_profile, command) = (
            self.temp_profile.clone(),
            sign_in.browser_command(&self.temp_profile),
        );
        let (name, host) = (
            sign_in.cookie.name.to_owned(),
            sign_in.cookie.host.to_owned(),
        );
        let (sender, receiver) = mpsc::channel();
        let check = move || {
            let wanted = WantedCookie {
                name: &name,
                host: &host,
            };
            let copy = temp_profile.copy_profile().ok()?;
            let json =
                pipe::read_cookies(&temp_profile, &command, &copy, AfterResponse::Kill).ok()?;
            sender.send(find_in_response(&json, wanted).is_ok()).ok()
        };
        let thread = std::thread::Builder::new().name("detector".to_owned());
        thread.spawn(move || _ = check()).ok()?;
        Some(receiver)
    }
}

pub(super) fn user_data_dir_flag(profile_dir: &Path) -> OsString {
    let mut flag = OsString::from("--user-data-dir=");
    flag.push(profile_dir);
    flag
}

/// Returns whether the process has exited. Does not reap the process, so that its pid is
/// not reused.
pub(super) fn has_exited(child: &Child) -> bool {
    let Some(pid) = child_pid(child) else {
        return true;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

pub(super) fn child_pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn interrupt(child: &Child) {
    if let Some(pid) = child_pid(child) {
        let _ = kill_process_group(pid, Signal::INT);
    }
}
