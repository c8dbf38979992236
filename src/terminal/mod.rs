//! The person's side: answers, messages, questions, signs of life.
//!
//! This folder alone writes to stdout and stderr. It decides how things look,
//! and cleans what came from elsewhere; what is said is decided above.

mod clean;
mod prompt;
mod spinner;

use std::io::{self, IsTerminal, Read, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::model::Secret;

pub use clean::{clean, clean_json};
pub use prompt::PromptError;
pub use spinner::Spinner;

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// On a terminal, unless the environment says no.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// How the run speaks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// When colours are used.
    pub color: ColorChoice,
    /// The environment asks for no colours (`NO_COLOR`, `TERM=dumb`).
    pub plain: bool,
    /// Confirmations and spinners are left out.
    pub quiet: bool,
    /// Requests and decisions are told.
    pub verbose: bool,
    /// Nobody is asked anything.
    pub no_input: bool,
}

/// The three streams of the process, or stand-ins for them. Clones share them.
#[derive(Clone)]
pub struct Terminal(Arc<Shared>);

struct Shared {
    streams: Streams,
    style: OnceLock<Style>,
    /// The terminal's mode before the first question.
    #[cfg(unix)]
    mode: OnceLock<rustix::termios::Termios>,
}

enum Streams {
    Process,
    Captured(Captured),
}

/// What stands in for the streams: what was written, and what can be read.
#[derive(Clone, Default)]
pub struct Captured {
    stdin: Arc<Mutex<io::Cursor<Vec<u8>>>>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Captured {
    /// Streams of which stdin holds `stdin`.
    #[must_use]
    pub fn new(stdin: &[u8]) -> Self {
        let captured = Self::default();
        *lock(&captured.stdin) = io::Cursor::new(stdin.to_owned());
        captured
    }

    /// What was written to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&lock(&self.stdout)).into_owned()
    }

    /// What was written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&lock(&self.stderr)).into_owned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Terminal {
    /// The streams of the process.
    #[must_use]
    pub fn real() -> Self {
        Self::over(Streams::Process)
    }

    /// Stand-ins, none of which is a terminal.
    #[must_use]
    pub fn captured(captured: &Captured) -> Self {
        Self::over(Streams::Captured(captured.clone()))
    }

    fn over(streams: Streams) -> Self {
        Self(Arc::new(Shared {
            streams,
            style: OnceLock::new(),
            #[cfg(unix)]
            mode: OnceLock::new(),
        }))
    }

    /// Decides how the run speaks; the first decision stands.
    pub fn configure(&self, style: Style) {
        self.0.style.get_or_init(|| style);
    }

    fn style(&self) -> Style {
        self.0.style.get().copied().unwrap_or_default()
    }

    /// Whether requests and decisions are told.
    #[must_use]
    pub fn is_verbose(&self) -> bool {
        self.style().verbose
    }

    /// Whether a person is there to be asked.
    #[must_use]
    pub fn can_prompt(&self) -> bool {
        !self.style().no_input && self.stdin_is_terminal() && self.stderr_is_terminal()
    }

    /// Whether nobody is to be asked anything.
    #[must_use]
    pub fn no_input(&self) -> bool {
        self.style().no_input
    }

    /// Whether stdin is a terminal.
    #[must_use]
    pub fn stdin_is_terminal(&self) -> bool {
        matches!(self.0.streams, Streams::Process) && io::stdin().is_terminal()
    }

    /// Whether stdout is a terminal.
    #[must_use]
    pub fn stdout_is_terminal(&self) -> bool {
        matches!(self.0.streams, Streams::Process) && io::stdout().is_terminal()
    }

    fn stderr_is_terminal(&self) -> bool {
        matches!(self.0.streams, Streams::Process) && io::stderr().is_terminal()
    }

    fn stderr_has_color(&self) -> bool {
        let style = self.style();
        match style.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => !style.plain && self.stderr_is_terminal(),
        }
    }

    /// The answer: one line on stdout.
    pub fn answer(&self, line: &str) -> io::Result<()> {
        self.answer_bytes(format!("{}\n", clean(line)).as_bytes())
    }

    /// The answer: one JSON value on a line of stdout.
    pub fn answer_json(&self, value: Value) -> io::Result<()> {
        self.answer_bytes(format!("{}\n", clean_json(value)).as_bytes())
    }

    /// The answer: a secret, after `prefix`. One command prints secrets; this is how.
    pub fn answer_secret(&self, prefix: &str, secret: &Secret) -> io::Result<()> {
        let secret = secret.expose();
        let mut line = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.len() + 1));
        line.extend_from_slice(prefix.as_bytes());
        line.extend_from_slice(secret.as_bytes());
        line.push(b'\n');
        self.answer_bytes(&line)
    }

    /// The answer as it is: a text of our own, or a body that was asked for.
    pub fn answer_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.0.streams {
            Streams::Process => {
                // Stdout is buffered by lines; a secret should not stay in its
                // buffer, and one write is cheaper than several.
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Streams::Captured(captured) => {
                lock(&captured.stdout).extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// A confirmation.
    pub fn note(&self, line: &str) {
        if !self.style().quiet {
            self.tell(&format!("{}\n", clean(line)));
        }
    }

    /// What the person has to do for the run to go on; shown under `--quiet` as well.
    pub fn instruct(&self, line: &str) {
        self.tell(&format!("{}\n", clean(line)));
    }

    /// Something that the person should know and that stops nothing.
    pub fn warn(&self, line: &str) {
        self.tell(&format!(
            "{} {}\n",
            self.label("warning:", "33"),
            clean(line)
        ));
    }

    /// What went wrong: a line that names the thing, and what to do next.
    pub fn error(&self, message: &str, hint: Option<&str>) {
        let mut text = format!("{} {}\n", self.label("error:", "31"), clean(message));
        if let Some(hint) = hint {
            text += &format!("{} {}\n", self.label("hint:", "36"), clean(hint));
        }
        self.tell(&text);
    }

    /// A request or a decision, under `-v`.
    pub fn verbose(&self, line: &str) {
        if self.is_verbose() {
            self.tell(&format!("* {}\n", clean(line)));
        }
    }

    /// Shows what is waited for, while the value lives.
    pub fn spin(&self, what: &str) -> Spinner {
        let style = self.style();
        if style.quiet || style.verbose || style.plain || !self.stderr_is_terminal() {
            Spinner::none()
        } else {
            Spinner::start(what)
        }
    }

    /// Reads stdin to its end, at most `limit` bytes of it.
    pub fn read_stdin(&self, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
        match &self.0.streams {
            Streams::Process => io::stdin().lock().take(limit).read_to_end(&mut bytes)?,
            Streams::Captured(captured) => Read::by_ref(&mut *lock(&captured.stdin))
                .take(limit)
                .read_to_end(&mut bytes)?,
        };
        Ok(bytes)
    }

    /// Leaves the terminal as it was found: for the end by a signal, from any thread.
    pub fn restore(&self) {
        #[cfg(unix)]
        if let Some(mode) = self.0.mode.get() {
            use rustix::termios::{OptionalActions, tcsetattr};
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, mode);
        }
        if self.stderr_is_terminal() && !self.style().plain {
            // Erase the line, which may hold a spinner, and show the cursor.
            self.tell("\r\u{1b}[2K\u{1b}[?25h");
        }
    }

    #[cfg(unix)]
    fn remember_mode(&self) {
        if self.0.mode.get().is_none()
            && let Ok(mode) = rustix::termios::tcgetattr(io::stdin())
        {
            self.0.mode.get_or_init(|| mode);
        }
    }

    #[cfg(not(unix))]
    fn remember_mode(&self) {}

    fn prompt_line(&self, text: &str) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        write!(
            stderr,
            "{text}{}",
            if text.ends_with(char::is_whitespace) {
                ""
            } else {
                " "
            }
        )?;
        stderr.flush()
    }

    fn label(&self, label: &str, color: &str) -> String {
        if self.stderr_has_color() {
            format!("\u{1b}[1;{color}m{label}\u{1b}[0m")
        } else {
            label.to_owned()
        }
    }

    /// Writes to stderr; nobody can be told that stderr does not work.
    fn tell(&self, text: &str) {
        match &self.0.streams {
            Streams::Process => drop(io::stderr().lock().write_all(text.as_bytes())),
            Streams::Captured(captured) => {
                lock(&captured.stderr).extend_from_slice(text.as_bytes());
            }
        }
    }
}
