//! The person's side: output, messages, prompts, spinners.
//!
//! This folder alone writes to stdout and stderr. It decides how things look,
//! and cleans or escapes what came from elsewhere; the wording is decided above. A
//! run that prompts for nothing and waits for nothing starts no thread here.

mod clean;
mod color;
mod hidden;
mod prompt;
mod spinner;

use std::io::{self, IsTerminal, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::model::{Secret, read_at_most};

use clean::{json_line, visible};
use color::{Label, dim};
use prompt::Mode;
use spinner::Screen;

pub use clean::clean;
pub(crate) use clean::clean_json;
pub(crate) use color::ColorChoice;
pub(crate) use prompt::PromptError;
pub(crate) use spinner::Spinner;

/// How long the last words of a run that a signal ends may take: a stream may be blocked.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// How a run prints.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// When colours are used.
    pub color: ColorChoice,
    /// `NO_COLOR` is set and not empty.
    pub no_color_env: bool,
    /// The terminal cannot move its cursor (`TERM=dumb`): no colours, no spinner.
    pub dumb: bool,
    /// Suppress confirmations and spinners.
    pub quiet: bool,
    /// Log requests and decisions.
    pub verbose: bool,
    /// Never prompt.
    pub no_input: bool,
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

/// What is called before a prompt.
type Hook = Box<dyn Fn() + Send + Sync>;

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stderr of the process, for a child's stdout: ours is the answer.
pub(crate) fn stderr_for_child() -> std::process::Stdio {
    io::stderr().into()
}

impl Terminal {
    /// The streams of the process.
    #[must_use]
    pub fn real() -> Self {
        let terminals = Terminals {
            stdin: io::stdin().is_terminal(),
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
        };
        Self::new(io::stdin(), io::stdout(), io::stderr(), terminals)
    }

    /// A terminal over any three streams. Prompts read from the process's own
    /// stdin, and only if `terminals` says that it is a terminal.
    #[must_use]
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

    /// Whether stdin is a terminal.
    pub(crate) fn stdin_is_terminal(&self) -> bool {
        self.0.terminals.stdin
    }

    /// Whether stdout is a terminal.
    pub(crate) fn stdout_is_terminal(&self) -> bool {
        self.0.terminals.stdout
    }

    /// Whether stderr is a terminal.
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

    /// Prints the answer: one line on stdout.
    pub(crate) fn answer(&self, line: &str) -> io::Result<()> {
        self.answer_bytes(format!("{}\n", clean(line)).as_bytes())
    }

    /// Prints the answer: one JSON value on a line of stdout. Its `error` is a
    /// message, and cleaned; everything else is data, and printed whole.
    pub(crate) fn answer_json(&self, mut value: Value) -> io::Result<()> {
        if let Some(error) = value.get_mut("error") {
            clean_json(error);
        }
        self.answer_bytes(&Zeroizing::new(json_line(&value)?))
    }

    /// Prints the answer: a document on a line of stdout, whole.
    pub(crate) fn answer_json_document(&self, document: &impl Serialize) -> io::Result<()> {
        self.answer_bytes(&json_line(document)?)
    }

    /// Prints the answer: a secret, after `prefix`.
    pub(crate) fn answer_secret(&self, prefix: &str, secret: &Secret) -> io::Result<()> {
        let secret = secret.expose();
        let mut line = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.len() + 1));
        line.extend_from_slice(prefix.as_bytes());
        line.extend_from_slice(secret.as_bytes());
        line.push(b'\n');
        self.answer_bytes(&line)
    }

    /// Prints a JSON object with a secret in it, and no copy of it left in memory.
    pub(crate) fn answer_secret_json(
        &self,
        key: &str,
        prefix: &str,
        secret: &Secret,
        others: &[(&str, Value)],
    ) -> io::Result<()> {
        let value = Zeroizing::new([prefix, secret.expose()].concat());
        let room = 2 * value.len() + 1024;
        let mut line = Zeroizing::new(Vec::with_capacity(room));
        line.push(b'{');
        serde_json::to_writer(&mut *line, key)?;
        line.push(b':');
        serde_json::to_writer(&mut *line, value.as_str())?;
        for (key, value) in others {
            line.extend_from_slice(format!(",{}:{value}", Value::from(*key)).as_bytes());
        }
        line.extend_from_slice(b"}\n");
        self.answer_bytes(&line)
    }

    /// Prints a piece of a document: as it is, or on a terminal, where a piece
    /// should be whole lines, with control characters in a visible form.
    pub(crate) fn answer_document(&self, piece: &[u8]) -> io::Result<()> {
        if self.stdout_is_terminal() {
            let text = String::from_utf8_lossy(piece);
            self.answer_bytes(visible(&text).as_bytes())
        } else {
            self.answer_bytes(piece)
        }
    }

    /// Prints the answer as it is.
    ///
    /// # Errors
    /// `BrokenPipe` if the reader has closed the pipe.
    pub(crate) fn answer_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        lock(&self.0.screen).hide();
        // Stdout is buffered by lines; a secret should not stay in its buffer.
        let mut stdout = lock(&self.0.stdout);
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Prints a confirmation.
    pub(crate) fn note(&self, line: &str) {
        if !self.style().quiet {
            self.print(&format!("{}\n", clean(line)));
        }
    }

    /// Prints what the person must do for the run to continue, also under `--quiet`.
    pub(crate) fn instruct(&self, line: &str) {
        self.print(&format!("{}\n", clean(line)));
    }

    /// Prints a warning.
    pub(crate) fn warn(&self, line: &str) {
        let label = Label::Warning.paint(self.stderr_has_color());
        self.print(&format!("{label} {}\n", clean(line)));
    }

    /// Prints an error, and what to do next.
    pub(crate) fn error(&self, message: &str, hint: Option<&str>) {
        let colored = self.stderr_has_color();
        let mut text = format!("{} {}\n", Label::Error.paint(colored), clean(message));
        if let Some(hint) = hint {
            text += &format!("{} {}\n", Label::Hint.paint(colored), clean(hint));
        }
        self.print(&text);
    }

    /// Logs a request or a decision, under `-v`.
    pub(crate) fn verbose(&self, line: &str) {
        if self.is_verbose() {
            let line = format!("* {}", clean(line));
            self.print(&format!("{}\n", dim(&line, self.stderr_has_color())));
        }
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
    /// [`CLOSE_TIMEOUT`] at the latest, because stdout or stderr may be blocked.
    pub(crate) fn close(&self, report: impl FnOnce() + Send + 'static) {
        let terminal = self.clone();
        let (done, finished) = mpsc::channel();
        let last_words = std::thread::Builder::new().spawn(move || {
            terminal.restore();
            report();
            let _ = done.send(());
        });
        if last_words.is_ok() {
            let _ = finished.recv_timeout(CLOSE_TIMEOUT);
        }
    }

    fn restore(&self) {
        let prompting = lock(&self.0.mode).close();
        lock(&self.0.screen).close();
        if self.stderr_is_terminal() {
            // The cursor is behind a prompt, or behind the terminal's own `^C`. A
            // list hides the cursor, and so may what ran in this terminal before.
            self.print(match (self.style().dumb, prompting) {
                (true, _) => "\n",
                (false, true) => "\n\u{1b}[?25h",
                (false, false) => "\r\u{1b}[2K\u{1b}[?25h",
            });
        }
    }

    /// Writes to stderr; errors are ignored, since nothing is left to report them to.
    fn print(&self, text: &str) {
        lock(&self.0.screen).print(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream in memory that the test reads after the terminal has written to it.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8_lossy(&lock(&self.0)).into_owned()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn terminal(stdin: &'static [u8], terminals: Terminals) -> (Terminal, Buffer, Buffer) {
        let (stdout, stderr) = (Buffer::default(), Buffer::default());
        let terminal = Terminal::new(stdin, stdout.clone(), stderr.clone(), terminals);
        (terminal, stdout, stderr)
    }

    #[test]
    fn what_is_written_is_cleaned_and_goes_where_it_belongs() {
        let (terminal, stdout, stderr) = terminal(b"line\n", Terminals::default());
        terminal.configure(Style {
            verbose: true,
            ..Style::default()
        });
        terminal.answer("a\u{1b}[31mb\nc").unwrap();
        terminal
            .answer_json(serde_json::json!({"k\u{202e}": "\u{7}v", "error": "\u{7}v"}))
            .unwrap();
        terminal
            .answer_secret("Bearer ", &Secret::new("s3cret".to_owned()))
            .unwrap();
        terminal.answer_bytes(b"\x1b[1mours\n").unwrap();
        terminal.note("noted\u{9b}2J");
        terminal.warn("careful\n");
        terminal.verbose("GET /");
        terminal.error("no\u{1b}]0;x\u{7} way", Some("try\r\nthis"));
        assert_eq!(
            stdout.text(),
            "ab c\n{\"k\\u202e\":\"\\u0007v\",\"error\":\"v\"}\nBearer s3cret\n\u{1b}[1mours\n"
        );
        assert_eq!(
            stderr.text(),
            "noted\nwarning: careful\n* GET /\nerror: no way\nhint: try this\n"
        );
        assert_eq!(&**terminal.read_stdin(3).unwrap(), b"lin");
        assert!(!terminal.can_prompt());
    }

    #[test]
    fn quiet_silences_notes_and_not_warnings() {
        let (terminal, _, stderr) = terminal(b"", Terminals::default());
        terminal.configure(Style {
            quiet: true,
            color: ColorChoice::Always,
            ..Style::default()
        });
        terminal.note("noted");
        terminal.verbose("told");
        terminal.warn("careful");
        assert_eq!(
            stderr.text(),
            "\u{1b}[33m\u{1b}[1mwarning:\u{1b}[0m careful\n"
        );
        assert!(matches!(
            terminal.ask("Name:", None),
            Err(PromptError::Closed)
        ));
    }

    #[test]
    fn documents_are_escaped_on_a_terminal_alone() {
        for (is_terminal, shown) in [(false, "\u{1b}[2Ja\n"), (true, "^[[2Ja\n")] {
            let terminals = Terminals {
                stdout: is_terminal,
                ..Terminals::default()
            };
            let (terminal, stdout, _) = terminal(b"", terminals);
            terminal.answer_document(b"\x1b[2Ja\n").unwrap();
            assert_eq!(stdout.text(), shown);
        }
    }
}
