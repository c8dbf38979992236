//! Output, messages, prompts and spinners.
//!
//! Only this module writes to stdout and stderr. Callers choose the wording; this module
//! formats the texts, and removes or escapes characters that are unsafe to print. It
//! starts a thread only for a spinner, or to print before a signal ends the process.

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

use prompt::InputMode;
use spinner::Screen;

pub use clean::clean;
pub(crate) use clean::clean_json;
pub(crate) use color::ColorChoice;
pub(crate) use prompt::PromptError;
pub(crate) use spinner::Spinner;

/// Time limit for the last output before a signal ends the process.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// The options that control output and prompts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TerminalOptions {
    pub(crate) color: ColorChoice,
    /// Whether `NO_COLOR` is set and not empty.
    pub(crate) no_color_env: bool,
    /// Whether `TERM` is `dumb`, so that there are no colours and the cursor cannot be moved.
    pub(crate) dumb: bool,
    /// Whether to suppress confirmations and spinners.
    pub(crate) quiet: bool,
    /// Whether to log requests and decisions.
    pub(crate) verbose: bool,
    /// Whether prompts are forbidden.
    pub(crate) no_input: bool,
}

/// Which of the standard streams are terminals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminals {
    /// Whether stdin is a terminal.
    pub stdin: bool,
    /// Whether stdout is a terminal.
    pub stdout: bool,
    /// Whether stderr is a terminal.
    pub stderr: bool,
}

/// The standard streams and the options for using them. Clones share the same state.
#[derive(Clone)]
pub struct Terminal {
    state: Arc<State>,
}

struct State {
    stdin: Mutex<Box<dyn Read + Send>>,
    stdout: Mutex<Box<dyn Write + Send>>,
    screen: Mutex<Screen>,
    terminals: Terminals,
    options: OnceLock<TerminalOptions>,
    input_mode: Mutex<InputMode>,
    before_prompt: OnceLock<Hook>,
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// Locks the mutex, even if another thread panicked while it held the lock.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns our stderr, for use as a child's stdout: our own stdout is only for results.
pub(crate) fn stderr_for_child() -> std::process::Stdio {
    io::stderr().into()
}

impl Terminal {
    /// Uses the standard streams of the process.
    pub fn stdio() -> Self {
        let terminals = Terminals {
            stdin: io::stdin().is_terminal(),
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
        };
        Self::new(io::stdin(), io::stdout(), io::stderr(), terminals)
    }

    /// Uses the given streams. Prompts still read from the stdin of the process, and only if
    /// `terminals.stdin` and `terminals.stderr` are true.
    pub fn new(
        stdin: impl Read + Send + 'static,
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
        terminals: Terminals,
    ) -> Self {
        let state = State {
            stdin: Mutex::new(Box::new(stdin)),
            stdout: Mutex::new(Box::new(stdout)),
            screen: Mutex::new(Screen::new(Box::new(stderr))),
            terminals,
            options: OnceLock::new(),
            input_mode: Mutex::default(),
            before_prompt: OnceLock::new(),
        };
        Self {
            state: Arc::new(state),
        }
    }

    /// Sets the options. Only the first call has an effect.
    pub(crate) fn configure(&self, options: TerminalOptions) {
        self.state.options.get_or_init(|| options);
    }

    /// Sets a function that is called before each prompt. Only the first call has an effect.
    pub(crate) fn set_before_prompt(&self, hook: Hook) {
        self.state.before_prompt.get_or_init(|| hook);
    }

    fn options(&self) -> TerminalOptions {
        self.state.options.get().copied().unwrap_or_default()
    }

    /// Whether requests and decisions are logged.
    pub(crate) fn is_verbose(&self) -> bool {
        self.options().verbose
    }

    /// Whether prompts are possible: stdin and stderr are terminals, and `--no-input` is not
    /// set.
    pub(crate) fn can_prompt(&self) -> bool {
        !self.options().no_input && self.stdin_is_terminal() && self.stderr_is_terminal()
    }

    pub(crate) fn stdin_is_terminal(&self) -> bool {
        self.state.terminals.stdin
    }

    pub(crate) fn stdout_is_terminal(&self) -> bool {
        self.state.terminals.stdout
    }

    pub(crate) fn stderr_is_terminal(&self) -> bool {
        self.state.terminals.stderr
    }

    /// Whether a desktop dialog may be opened: `--no-input` is not set, and stderr is a
    /// terminal, so that a person probably sees the dialog. A dialog does not need stdin.
    pub(crate) fn can_open_dialog(&self) -> bool {
        !self.options().no_input && self.stderr_is_terminal()
    }

    /// Whether reminders may be printed: stderr is a terminal, and `--quiet` is not set.
    pub(crate) fn can_remind(&self) -> bool {
        !self.options().quiet && self.stderr_is_terminal()
    }

    fn stderr_has_color(&self) -> bool {
        let options = self.options();
        options
            .color
            .allows_color(options.no_color_env || options.dumb, || {
                self.stderr_is_terminal()
            })
    }

    /// Shows a spinner with this text until the returned value is dropped.
    pub(crate) fn spin(&self, text: &str) -> Spinner {
        let options = self.options();
        if options.quiet || options.verbose || options.dumb || !self.stderr_is_terminal() {
            Spinner::hidden()
        } else {
            lock(&self.state.screen).spin(&clean(text))
        }
    }

    /// Reads stdin to its end, or until `limit` bytes have been read.
    pub(crate) fn read_stdin(&self, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        read_at_most(&mut *lock(&self.state.stdin), limit)
    }

    /// Restores the terminal before a signal ends the process: restores the input mode,
    /// removes the spinner, then runs `report`. Waits at most [`CLOSE_TIMEOUT`].
    pub(crate) fn close(&self, report: impl FnOnce() + Send + 'static) {
        let terminal = self.clone();
        print_with_timeout(move || {
            terminal.restore();
            report();
        });
    }

    fn restore(&self) {
        let prompt_was_open = lock(&self.state.input_mode).close();
        lock(&self.state.screen).close();
        if self.stderr_is_terminal() {
            // The cursor stands after a prompt or after the `^C` that the terminal echoes. Go to
            // an empty line, and show the cursor, which another program may have hidden.
            self.write_stderr(match (self.options().dumb, prompt_was_open) {
                (true, _) => "\n",
                (false, true) => "\n\u{1b}[?25h",
                (false, false) => "\r\u{1b}[2K\u{1b}[?25h",
            });
        }
    }

    /// Writes to stderr. Ignores errors, because there is no other place to report them.
    fn write_stderr(&self, text: &str) {
        lock(&self.state.screen).print(text.as_bytes());
    }
}

/// Runs `print` on a new thread and waits at most [`CLOSE_TIMEOUT`] for it, because
/// writing to stdout or stderr may block.
pub(crate) fn print_with_timeout(print: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let printer = std::thread::Builder::new().spawn(move || {
        print();
        let _ = sender.send(());
    });
    if printer.is_ok() {
        let _ = receiver.recv_timeout(CLOSE_TIMEOUT);
    }
}
