//! The person's side: answers, messages, questions, signs of life.
//!
//! This folder alone writes to stdout and stderr. It decides how things look,
//! and cleans what came from elsewhere; what is said is decided above. A run
//! that asks nothing and waits for nothing pays for neither: no thread, no
//! look at the terminal, one write an answer.

mod clean;
mod color;
mod prompt;
mod spinner;

use std::io::{self, IsTerminal, Read, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::model::Secret;

use color::{Label, dim};
use prompt::Mode;
use spinner::Screen;

pub use clean::{clean, clean_json};
pub use color::ColorChoice;
pub use prompt::PromptError;
pub use spinner::Spinner;

/// How the run speaks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// When colours are used.
    pub color: ColorChoice,
    /// The environment asks for no colours: `NO_COLOR` is set and not empty.
    pub no_color_env: bool,
    /// The terminal cannot move its cursor: `TERM=dumb`. No colours, no spinner.
    pub dumb: bool,
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
    screen: Arc<Mutex<Screen>>,
    mode: Mutex<Mode>,
    before_questions: OnceLock<Hook>,
}

/// What is done before a question is asked.
type Hook = Box<dyn Fn() + Send + Sync>;

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

    /// Stand-ins, none of which is a terminal; stdin holds `stdin`.
    #[must_use]
    pub fn captured(stdin: Vec<u8>) -> (Self, Captured) {
        let captured = Captured {
            stdin: Arc::new(Mutex::new(io::Cursor::new(stdin))),
            ..Captured::default()
        };
        (Self::over(Streams::Captured(captured.clone())), captured)
    }

    fn over(streams: Streams) -> Self {
        Self(Arc::new(Shared {
            streams,
            style: OnceLock::new(),
            screen: Arc::default(),
            mode: Mutex::default(),
            before_questions: OnceLock::new(),
        }))
    }

    /// Decides how the run speaks; the first decision stands.
    pub fn configure(&self, style: Style) {
        self.0.style.get_or_init(|| style);
    }

    /// Has `act` called before each question.
    pub fn before_questions(&self, act: Box<dyn Fn() + Send + Sync>) {
        self.0.before_questions.get_or_init(|| act);
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

    /// Whether stderr is a terminal.
    #[must_use]
    pub fn stderr_is_terminal(&self) -> bool {
        matches!(self.0.streams, Streams::Process) && io::stderr().is_terminal()
    }

    fn stderr_has_color(&self) -> bool {
        let style = self.style();
        style.color.allows(style.no_color_env || style.dumb, || {
            self.stderr_is_terminal()
        })
    }

    /// The answer: one line on stdout.
    pub fn answer(&self, line: &str) -> io::Result<()> {
        self.answer_bytes(format!("{}\n", clean(line)).as_bytes())
    }

    /// The answer: one JSON value on a line of stdout.
    pub fn answer_json(&self, mut value: Value) -> io::Result<()> {
        clean_json(&mut value);
        self.answer_bytes(format!("{value}\n").as_bytes())
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
    ///
    /// # Errors
    /// `BrokenPipe` when whoever reads it has stopped reading.
    pub fn answer_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.0.streams {
            Streams::Process => {
                lock(&self.0.screen).hide();
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
        let label = Label::Warning.paint(self.stderr_has_color());
        self.tell(&format!("{label} {}\n", clean(line)));
    }

    /// What went wrong: a line that names the thing, and what to do next.
    pub fn error(&self, message: &str, hint: Option<&str>) {
        let colored = self.stderr_has_color();
        let mut text = format!("{} {}\n", Label::Error.paint(colored), clean(message));
        if let Some(hint) = hint {
            text += &format!("{} {}\n", Label::Hint.paint(colored), clean(hint));
        }
        self.tell(&text);
    }

    /// A request or a decision, under `-v`.
    pub fn verbose(&self, line: &str) {
        if self.is_verbose() {
            let line = format!("* {}", clean(line));
            self.tell(&format!("{}\n", dim(&line, self.stderr_has_color())));
        }
    }

    /// Shows what is waited for, while the value lives.
    pub fn spin(&self, what: &str) -> Spinner {
        let style = self.style();
        if style.quiet || style.verbose || style.dumb || !self.stderr_is_terminal() {
            Spinner::none()
        } else {
            Spinner::start(&clean(what), Arc::clone(&self.0.screen))
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

    /// Leaves the terminal as it was found: for the end by a signal, from any
    /// thread. No spinner is drawn and no question asked afterwards.
    pub fn restore(&self) {
        lock(&self.0.screen).close();
        let asking = lock(&self.0.mode).close();
        if self.stderr_is_terminal() {
            // The cursor stands behind a prompt that may fill several rows, or
            // behind the terminal's own `^C`. Nothing here hides the cursor,
            // but what ran in this terminal before may have.
            self.tell(match (self.style().dumb, asking) {
                (true, _) => "\n",
                (false, true) => "\n\u{1b}[?25h",
                (false, false) => "\r\u{1b}[2K\u{1b}[?25h",
            });
        }
    }

    /// Writes to stderr; nobody can be told that stderr does not work.
    fn tell(&self, text: &str) {
        match &self.0.streams {
            Streams::Process => {
                lock(&self.0.screen).aside(|| drop(io::stderr().lock().write_all(text.as_bytes())))
            }
            Streams::Captured(captured) => {
                lock(&captured.stderr).extend_from_slice(text.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_cleaned_and_goes_where_it_belongs() {
        let (terminal, captured) = Terminal::captured(b"line\n".to_vec());
        terminal.configure(Style {
            verbose: true,
            ..Style::default()
        });
        terminal.answer("a\u{1b}[31mb\nc").unwrap();
        terminal
            .answer_json(serde_json::json!({"k\u{202e}": "\u{7}v"}))
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
            captured.stdout(),
            "ab c\n{\"k\":\"v\"}\nBearer s3cret\n\u{1b}[1mours\n"
        );
        assert_eq!(
            captured.stderr(),
            "noted\nwarning: careful\n* GET /\nerror: no way\nhint: try this\n"
        );
        assert_eq!(&**terminal.read_stdin(3).unwrap(), b"lin");
        assert!(!terminal.can_prompt());
    }

    #[test]
    fn quiet_silences_notes_and_not_warnings() {
        let (terminal, captured) = Terminal::captured(Vec::new());
        terminal.configure(Style {
            quiet: true,
            color: ColorChoice::Always,
            ..Style::default()
        });
        terminal.note("noted");
        terminal.verbose("told");
        terminal.warn("careful");
        assert_eq!(
            captured.stderr(),
            "\u{1b}[33m\u{1b}[1mwarning:\u{1b}[0m careful\n"
        );
        assert!(matches!(
            terminal.ask("Name:", None),
            Err(PromptError::Closed)
        ));
    }
}
