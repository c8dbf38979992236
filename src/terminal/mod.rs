//! Output, messages, prompts and spinners.
//!
//! Only this module writes to stdout and stderr. It formats texts, and cleans or
//! escapes those that came from elsewhere; callers choose the wording. A run that
//! neither prompts nor waits starts no thread here.

mod clean;
mod color;
mod hidden;
mod output;
mod prompt;
mod spinner;

use std::io::{self, IsTerminal, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::model::read_at_most;

use prompt::Mode;
use spinner::Screen;

pub use clean::clean;
pub(crate) use clean::clean_json;
pub(crate) use color::ColorChoice;
pub(crate) use prompt::PromptError;
pub(crate) use spinner::Spinner;

/// How long the report of a run that a signal ends may take: a stream may be blocked.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// How a run prints.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// When colours are used.
    pub(crate) color: ColorChoice,
    /// `NO_COLOR` is set and not empty.
    pub(crate) no_color_env: bool,
    /// The terminal cannot move its cursor (`TERM=dumb`): no colours, no spinner.
    pub(crate) dumb: bool,
    /// Suppress confirmations and spinners.
    pub(crate) quiet: bool,
    /// Log requests and decisions.
    pub(crate) verbose: bool,
    /// Never prompt.
    pub(crate) no_input: bool,
}

/// Which of the three streams are terminals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminals {
    /// Whether stdin is one.
    pub stdin: bool,
    /// Whether stdout is one.
    pub stdout: bool,
    /// Whether stderr is one.
    pub stderr: bool,
}

/// The three streams of a run. Clones share them.
#[derive(Clone)]
pub struct Terminal(Arc<Shared>);

struct Shared {
    stdin: Mutex<Box<dyn Read + Send>>,
    stdout: Mutex<Box<dyn Write + Send>>,
    screen: Mutex<Screen>,
    terminals: Terminals,
    style: OnceLock<Style>,
    mode: Mutex<Mode>,
    before_prompt: OnceLock<Hook>,
}

type Hook = Box<dyn Fn() + Send + Sync>;

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the stderr of the process for a child's stdout: our own stdout is for results.
pub(crate) fn stderr_for_child() -> std::process::Stdio {
    io::stderr().into()
}

impl Terminal {
    /// Returns the streams of the process.
    pub fn real() -> Self {
        let terminals = Terminals {
            stdin: io::stdin().is_terminal(),
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
        };
        Self::new(io::stdin(), io::stdout(), io::stderr(), terminals)
    }

    /// Returns a terminal over any three streams. Prompts read from the process's own
    /// stdin, and only if `terminals` says that it is a terminal.
    pub fn new(
        stdin: impl Read + Send + 'static,
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
        terminals: Terminals,
    ) -> Self {
        Self(Arc::new(Shared {
            stdin: Mutex::new(Box::new(stdin)),
            stdout: Mutex::new(Box::new(stdout)),
            screen: Mutex::new(Screen::new(Box::new(stderr))),
            terminals,
            style: OnceLock::new(),
            mode: Mutex::default(),
            before_prompt: OnceLock::new(),
        }))
    }

    /// Sets how the run prints; the first call counts.
    pub(crate) fn configure(&self, style: Style) {
        self.0.style.get_or_init(|| style);
    }

    /// Registers a function that is called before each prompt.
    pub(crate) fn before_prompt(&self, hook: Hook) {
        self.0.before_prompt.get_or_init(|| hook);
    }

    fn style(&self) -> Style {
        self.0.style.get().copied().unwrap_or_default()
    }

    /// Whether requests and decisions are logged.
    pub(crate) fn is_verbose(&self) -> bool {
        self.style().verbose
    }

    /// Whether prompts are possible: stdin and stderr are terminals, and no `--no-input`.
    pub(crate) fn can_prompt(&self) -> bool {
        !self.style().no_input && self.stdin_is_terminal() && self.stderr_is_terminal()
    }

    pub(crate) fn stdin_is_terminal(&self) -> bool {
        self.0.terminals.stdin
    }

    pub(crate) fn stdout_is_terminal(&self) -> bool {
        self.0.terminals.stdout
    }

    pub(crate) fn stderr_is_terminal(&self) -> bool {
        self.0.terminals.stderr
    }

    /// Whether a person is there to answer a dialog on the desktop, for which
    /// stdin is not needed.
    pub(crate) fn can_ask_on_desktop(&self) -> bool {
        !self.style().no_input && self.stderr_is_terminal()
    }

    /// Whether a person reads stderr and wants to be reminded of things.
    pub(crate) fn can_remind(&self) -> bool {
        !self.style().quiet && self.stderr_is_terminal()
    }

    fn stderr_has_color(&self) -> bool {
        let style = self.style();
        style.color.allows(style.no_color_env || style.dumb, || {
            self.stderr_is_terminal()
        })
    }

    /// Shows a spinner until the value is dropped.
    pub(crate) fn spin(&self, what: &str) -> Spinner {
        let style = self.style();
        if style.quiet || style.verbose || style.dumb || !self.stderr_is_terminal() {
            Spinner::none()
        } else {
            lock(&self.0.screen).spin(&clean(what))
        }
    }

    /// Reads stdin to its end, at most `limit` bytes of it.
    pub(crate) fn read_stdin(&self, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        read_at_most(&mut *lock(&self.0.stdin), limit)
    }

    /// Ends the use of the terminal when a signal ends the process: restores its
    /// mode, removes the spinner, then runs `report`. Returns after
    /// [`CLOSE_TIMEOUT`] at the latest.
    pub(crate) fn close(&self, report: impl FnOnce() + Send + 'static) {
        let terminal = self.clone();
        print_bounded(move || {
            terminal.restore();
            report();
        });
    }

    fn restore(&self) {
        let prompting = lock(&self.0.mode).close();
        lock(&self.0.screen).close();
        if self.stderr_is_terminal() {
            // The cursor is behind a prompt, or behind the terminal's own `^C`. What ran
            // in this terminal before may have hidden it.
            self.write_stderr(match (self.style().dumb, prompting) {
                (true, _) => "\n",
                (false, true) => "\n\u{1b}[?25h",
                (false, false) => "\r\u{1b}[2K\u{1b}[?25h",
            });
        }
    }

    /// Writes to stderr; errors are ignored, since nothing is left to report them to.
    fn write_stderr(&self, text: &str) {
        lock(&self.0.screen).print(text.as_bytes());
    }
}

/// Runs `print` on a thread of its own and waits for it for [`CLOSE_TIMEOUT`] at
/// most, because stdout or stderr may be blocked.
pub(crate) fn print_bounded(print: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let printer = std::thread::Builder::new().spawn(move || {
        print();
        let _ = done.send(());
    });
    if printer.is_ok() {
        let _ = finished.recv_timeout(CLOSE_TIMEOUT);
    }
}
