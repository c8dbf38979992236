//! Signing in in a browser window: a person in a plain run, whose cookies a
//! headless second run of the same profile hands over. A browser under remote
//! control would be refused by sign-in pages such as Google's.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::cookies::{CookieError, Found, Wanted, find_in_answer};
use super::directory::{self, Directory};
use super::find::Browser;
use super::pipe::{self, AfterAnswer, PipeError};

/// How long a person has for signing in.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(600);

/// How long the browser may take to end after it was asked to.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the browser is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The profile's cookies.
const COOKIES: &str = "Default/Cookies";
const JOURNAL: &str = "Default/Cookies-journal";

/// Both runs: nothing is asked at the first start, and the keyring is not touched.
const SHARED: [&str; 4] = [
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--use-mock-keychain",
];

/// What a person is told while the browser is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The window opens now.
    Opening,
    /// The cookie is there: the window can be closed.
    SignedIn,
    /// The browser was asked to end and is still open, most likely with a question.
    StillOpen,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BrowserError {
    #[error("{}", match .0 {
        Some(name) => format!("no browser {name}"),
        None => "no browser of the Chromium family was found".to_owned(),
    })]
    NotFound(Option<String>),
    #[error("signing in does not work with {0}, only with browsers of the Chromium family")]
    Unsupported(String),
    #[error(
        "there is no display to open a browser window on (DISPLAY and WAYLAND_DISPLAY are unset)"
    )]
    NoDisplay,
    #[error("cannot make a directory for the browser: {0}")]
    Directory(String),
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

/// A sign-in, and what it needs of the outside world.
pub(crate) struct SignIn<'a> {
    pub(crate) browser: &'a Browser,
    pub(crate) url: &'a str,
    pub(crate) cookie: Wanted<'a>,
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Variables that the browser must not see.
    pub(crate) private: &'a [&'a str],
    pub(crate) tell: &'a dyn Fn(Event),
    /// Waits at most so long. Returns whether the person pressed Enter.
    pub(crate) wait: &'a dyn Fn(Duration) -> bool,
    /// Takes what must be done before the process ends for a signal.
    pub(crate) on_end: &'a dyn Fn(Box<dyn FnOnce() + Send>),
}

impl SignIn<'_> {
    /// Lets the person sign in and returns the cookie. Browser and directory are
    /// gone when it returns.
    pub(crate) fn run(&self) -> Result<Found, BrowserError> {
        let has_display = cfg!(target_os = "macos")
            || ["DISPLAY", "WAYLAND_DISPLAY"]
                .iter()
                .any(|name| (self.variable)(name).is_some_and(|value| !value.is_empty()));
        // A program of the person's own choice may need none.
        if !has_display && !self.browser.is_path {
            return Err(BrowserError::NoDisplay);
        }
        directory::sweep(self.variable);
        let directory = Directory::create(self.browser, self.variable)
            .map_err(|error| BrowserError::Directory(error.to_string()))?;
        self.wipe_at_end(&directory);
        let result = self.run_in(&directory);
        if !directory.wipe() {
            // A signal has ended the browser, and ends the process in a moment.
            std::thread::sleep(END_TIMEOUT);
        }
        match result {
            Err(BrowserError::Crashed(_)) if !has_display => Err(BrowserError::NoDisplay),
            other => other,
        }
    }

    fn wipe_at_end(&self, directory: &Directory) {
        let at_signal = directory.clone();
        (self.on_end)(Box::new(move || _ = at_signal.wipe()));
        // A panic ends the process without dropping anything.
        let (at_panic, former) = (directory.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            let _ = at_panic.wipe();
            former(info);
        }));
    }

    fn run_in(&self, directory: &Directory) -> Result<Found, BrowserError> {
        // Finds a browser that cannot do it before a person has signed in for nothing.
        self.cookies(directory, AfterAnswer::Close)?;
        let deadline = Instant::now() + SIGN_IN_TIMEOUT;
        (self.tell)(Event::Opening);
        let status = self.plain_run(directory, deadline)?;
        let answer = self.cookies(directory, AfterAnswer::Kill)?;
        find_in_answer(&answer, self.cookie).map_err(|error| match error {
            CookieError::Missing(_) | CookieError::UnknownForm if status.success() => {
                BrowserError::ClosedEarly
            }
            CookieError::Missing(_) | CookieError::UnknownForm => BrowserError::Crashed(status),
            other => BrowserError::Cookie(other),
        })
    }

    fn command(&self, directory: &Directory) -> Command {
        let mut command = Command::new(&self.browser.program);
        command.args(SHARED);
        // Otherwise the image of a crashed browser, cookies included, goes to the
        // user's own profile.
        command.env("BREAKPAD_DUMP_LOCATION", directory.crashes());
        for name in self.private {
            command.env_remove(name);
        }
        command
    }

    fn cookies(
        &self,
        directory: &Directory,
        after: AfterAnswer,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, BrowserError> {
        let command = self.command(directory);
        pipe::cookies(directory, &command, &directory.profile(), after)
            .map_err(|error| self.unusable(error))
    }

    fn unusable(&self, error: PipeError) -> BrowserError {
        let program = self.browser.program.display().to_string();
        BrowserError::Unusable { program, error }
    }

    /// Runs the browser on the sign-in page until it ends.
    fn plain_run(
        &self,
        directory: &Directory,
        deadline: Instant,
    ) -> Result<ExitStatus, BrowserError> {
        let mut command = self.command(directory);
        command
            .arg(profile_flag(&directory.profile()))
            .arg(self.url);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = directory
            .spawn(&mut command)
            .map_err(|error| self.unusable(PipeError::Start(error.to_string())))?;
        let in_time = self.wait_for(directory, &mut child, deadline);
        directory.end(&mut child);
        match child.try_wait() {
            Ok(Some(status)) if in_time => Ok(status),
            _ => Err(BrowserError::TimedOut),
        }
    }

    /// Returns whether the browser has ended in time.
    fn wait_for(&self, directory: &Directory, child: &mut Child, deadline: Instant) -> bool {
        let mut asked: Option<Instant> = None;
        let mut told = false;
        let mut hint = Hint::new(directory);
        while !has_ended(child) {
            if Instant::now() > deadline {
                return false;
            }
            if (self.wait)(POLL_INTERVAL) && asked.is_none() {
                // Once: a second one would end it before its cookies are on the disk.
                interrupt(child);
                asked = Some(Instant::now());
            }
            if asked.is_some_and(|at| at.elapsed() > END_TIMEOUT) && !told {
                (self.tell)(Event::StillOpen);
                told = true;
            }
            if asked.is_none() && hint.is_signed_in(self) {
                (self.tell)(Event::SignedIn);
            }
        }
        true
    }
}

/// Notices the cookie while the browser still runs, up to 30 s late: the browser
/// writes its cookies to the disk no sooner. It is looked for in a copy.
struct Hint {
    directory: Directory,
    seen: Option<(u64, SystemTime)>,
    search: Option<Receiver<bool>>,
    done: bool,
}

impl Hint {
    fn new(directory: &Directory) -> Self {
        let mut hint = Self {
            directory: directory.clone(),
            seen: None,
            search: None,
            done: false,
        };
        hint.has_changed();
        hint
    }

    /// Returns true once, when the cookie is found.
    fn is_signed_in(&mut self, sign_in: &SignIn<'_>) -> bool {
        if self.done {
            return false;
        }
        match self.search.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => {}
            Some(found) => {
                self.search = None;
                self.done = found == Ok(true);
            }
            None if self.has_changed() => self.search = self.start(sign_in),
            None => {}
        }
        self.done
    }

    /// Whether the cookies have changed. While the database is written, its journal
    /// holds the former pages, and a copy would be read without the new ones.
    fn has_changed(&mut self) -> bool {
        let file = |name| std::fs::metadata(self.directory.profile().join(name));
        if file(JOURNAL).is_ok_and(|journal| journal.len() > 0) {
            return false;
        }
        let now = file(COOKIES)
            .ok()
            .and_then(|m| Some((m.len(), m.modified().ok()?)));
        let changed = now.is_some() && now != self.seen;
        self.seen = now;
        changed
    }

    /// Reads the copy in a thread, so that the end of the browser is noticed at once.
    fn start(&self, sign_in: &SignIn<'_>) -> Option<Receiver<bool>> {
        let (directory, command) = (self.directory.clone(), sign_in.command(&self.directory));
        let (name, host) = (
            sign_in.cookie.name.to_owned(),
            sign_in.cookie.host.to_owned(),
        );
        let (sender, found) = mpsc::channel();
        let search = move || {
            let wanted = Wanted {
                name: &name,
                host: &host,
            };
            let copy = directory.copy_profile().ok()?;
            let answer = pipe::cookies(&directory, &command, &copy, AfterAnswer::Kill).ok()?;
            sender.send(find_in_answer(&answer, wanted).is_ok()).ok()
        };
        let thread = std::thread::Builder::new().name("hint".to_owned());
        thread.spawn(move || _ = search()).ok()?;
        Some(found)
    }
}

pub(super) fn profile_flag(profile: &Path) -> OsString {
    let mut flag = OsString::from("--user-data-dir=");
    flag.push(profile);
    flag
}

/// Whether the process has ended. It is not reaped, so that its number stays its own.
pub(super) fn has_ended(child: &Child) -> bool {
    let Some(pid) = pid(child) else {
        return true;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

pub(super) fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn interrupt(child: &Child) {
    if let Some(pid) = pid(child) {
        let _ = kill_process_group(pid, Signal::INT);
    }
}
