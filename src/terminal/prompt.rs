//! Prompts, drawn with dialoguer's themes.
//!
//! A line is read here, key by key, because dialoguer's `Input` and `Confirm`
//! ignore Ctrl-D, and its `Password` takes it for a blank line, prompts again
//! for ever once the terminal is gone, and leaves the secret in the buffer of stdin.
//! The keys themselves are console's, the list is dialoguer's `Select`.

use std::io;
use std::time::Duration;

use console::{Key, Term, measure_text_width};
use dialoguer::Select;
use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};
use zeroize::Zeroizing;

use super::clean::is_invisible;
use super::{Terminal, clean, lock};
use crate::model::Secret;

/// Maximum number of characters of an answer. All of them are reserved at once:
/// a buffer that grows leaves copies of a secret behind.
const MAX_ANSWER: usize = 16 * 1024;

/// A row with less room than this behind its prompt leaves the input to the next row.
const MIN_ROOM: usize = 12;

/// How long a signal's thread may take to begin the end of the process. Until then an
/// interrupted wait for a key may be its signal as well as a Ctrl-C.
const SIGNAL_TIMEOUT: Duration = Duration::from_millis(100);

/// Why a prompt has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Ctrl-D, or the terminal went away.
    #[error("the input was closed")]
    Closed,
    /// The terminal failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for PromptError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::Interrupted => Self::Interrupted,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

type Result<T> = std::result::Result<T, PromptError>;

/// The mode of the terminal, which prompts change.
#[derive(Default)]
pub(super) struct Mode {
    /// The mode before the open prompt.
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
    prompting: bool,
    closed: bool,
}

impl Mode {
    /// Restores the mode and forbids further prompts. Returns whether one was open.
    pub(super) fn close(&mut self) -> bool {
        self.closed = true;
        self.leave()
    }

    /// Sets the raw mode for the whole prompt. console does so for each key
    /// alone, and what is pasted between two keys would be echoed twice.
    fn enter(&mut self, hidden: bool) -> io::Result<()> {
        #[cfg(unix)]
        {
            use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
            let before = tcgetattr(io::stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            raw.output_modes = before.output_modes;
            // Text typed before the prompt, and echoed, is not a password.
            let discard = match hidden {
                true => OptionalActions::Flush,
                false => OptionalActions::Now,
            };
            tcsetattr(io::stdin(), discard, &raw)?;
            self.before = Some(before);
        }
        let _ = hidden;
        self.prompting = true;
        Ok(())
    }

    pub(super) fn leave(&mut self) -> bool {
        #[cfg(unix)]
        if let Some(before) = self.before.take() {
            use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcsetattr};
            // The rest of a paste with a line break in it answers no other
            // prompt and is not a command for the shell.
            let _ = tcflush(io::stdin(), QueueSelector::IFlush);
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
        std::mem::take(&mut self.prompting)
    }
}

impl Terminal {
    /// Prompts for a line of text until it is not blank; a blank line takes `default`.
    pub fn ask(&self, prompt: &str, default: Option<&str>) -> Result<String> {
        loop {
            match (self.line(prompt, default)?, default) {
                (Some(line), _) => return Ok(line),
                (None, Some(default)) => return Ok(default.to_owned()),
                (None, None) => self.warn("the answer must not be blank"),
            }
        }
    }

    /// Prompts for a line of text until it is not blank and `problem` finds nothing wrong.
    pub fn ask_valid(
        &self,
        prompt: &str,
        problem: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<String> {
        loop {
            let line = self.ask(prompt, None)?;
            match problem(&line) {
                None => return Ok(line),
                Some(problem) => self.warn(problem),
            }
        }
    }

    /// Prompts for a line of text; a blank line is `None`.
    pub fn ask_optional(&self, prompt: &str) -> Result<Option<String>> {
        self.line(prompt, None)
    }

    /// Prompts for a secret, which is not echoed, until it is not blank.
    pub fn ask_secret(&self, prompt: &str) -> Result<Secret> {
        loop {
            let answer = self.read(prompt, None, true)?;
            if !answer.is_empty() {
                // Reserved at once, and then moved into the secret, not copied.
                let mut text = String::with_capacity(answer.len() * 4);
                text.extend(answer.iter());
                return Ok(Secret::new(text));
            }
        }
    }

    /// Prompts for a secret twice, until both times agree.
    pub fn ask_secret_twice(&self, prompt: &str, again: &str) -> Result<Secret> {
        loop {
            let secret = self.ask_secret(prompt)?;
            if self.ask_secret(again)? == secret {
                return Ok(secret);
            }
            self.warn("the two entries differ; try again");
        }
    }

    /// Asks a question of yes or no.
    pub fn confirm(&self, prompt: &str, default: bool) -> Result<bool> {
        let prompt = format!("{prompt} {}", if default { "[Y/n]" } else { "[y/N]" });
        loop {
            let answer = self.line(&prompt, None)?;
            match answer.as_deref().map(str::to_lowercase).as_deref() {
                None => return Ok(default),
                Some("y" | "yes") => return Ok(true),
                Some("n" | "no") => return Ok(false),
                Some(_) => self.warn("answer y or n"),
            }
        }
    }

    /// Lets the person choose one of `items` with the arrow keys; Esc closes the
    /// input. Returns the item's index.
    pub fn select(&self, prompt: &str, items: &[&str]) -> Result<usize> {
        self.begin(false)?;
        let term = Term::stderr();
        let items: Vec<_> = items.iter().map(|item| clean(item)).collect();
        let chosen = Select::with_theme(&*self.theme())
            .with_prompt(clean(prompt))
            .items(&items)
            .default(0)
            .interact_on_opt(&term);
        let dialoguer::Error::IO(error) = match chosen {
            Ok(chosen) => {
                lock(&self.0.mode).leave();
                return chosen.ok_or(PromptError::Closed);
            }
            Err(error) => error,
        };
        // Its Ctrl-C raises SIGINT, for which the thread of the signals ends the process.
        let error = self.interrupted(error);
        term.show_cursor()?;
        lock(&self.0.mode).leave();
        Err(error)
    }

    /// Reads one line, trimmed; `None` for a blank one.
    fn line(&self, prompt: &str, default: Option<&str>) -> Result<Option<String>> {
        let line: String = self.read(prompt, default, false)?.iter().collect();
        let line = line.trim();
        Ok((!line.is_empty()).then(|| line.to_owned()))
    }

    /// Reads one line as it was typed.
    fn read(
        &self,
        prompt: &str,
        default: Option<&str>,
        hidden: bool,
    ) -> Result<Zeroizing<Vec<char>>> {
        self.begin(hidden)?;
        let shown = self.themed(&clean(prompt), default.map(clean).as_deref(), hidden);
        let mut line = Line::new(hidden);
        let answer = shown.and_then(|shown| self.edit(&shown, &mut line));
        if !matches!(answer, Err(PromptError::Interrupted)) || !lock(&self.0.mode).closed {
            self.print("\n");
        }
        lock(&self.0.mode).leave();
        answer.map(|()| line.chars)
    }

    pub(super) fn begin(&self, hidden: bool) -> Result<()> {
        if !self.can_prompt() {
            return Err(PromptError::Closed);
        }
        if let Some(act) = self.0.before_questions.get() {
            act();
        }
        // One step for the thread of the signals: it finds the terminal either
        // unchanged or with the mode to restore.
        let mut mode = lock(&self.0.mode);
        if mode.closed {
            return Err(PromptError::Interrupted);
        }
        Ok(mode.enter(hidden)?)
    }

    fn edit(&self, prompt: &str, line: &mut Line) -> Result<()> {
        let term = Term::stderr();
        self.print(prompt);
        let mut column = measure_text_width(prompt);
        loop {
            let width = usize::from(term.size().1);
            if !line.hidden && width - (column % width).min(width) < MIN_ROOM && column > 0 {
                self.print("\n");
                column = 0;
            }
            let key = match term.read_key_raw() {
                Ok(Key::CtrlC) => {
                    return Err(self.interrupted(io::ErrorKind::Interrupted.into()));
                }
                key => key?,
            };
            match line.press(key, || term.read_key_raw())? {
                Some(Pressed::Enter) => return Ok(()),
                Some(Pressed::Closed) => return Err(PromptError::Closed),
                None if line.hidden => {}
                None => self.print(&line.redraw(width.saturating_sub(column % width + 1).max(1))),
            }
        }
    }

    /// A wait for a key also ends for a signal, whose own thread then ends the process.
    pub(super) fn interrupted(&self, error: io::Error) -> PromptError {
        let error = PromptError::from(error);
        if matches!(error, PromptError::Interrupted) {
            std::thread::sleep(SIGNAL_TIMEOUT);
            if lock(&self.0.mode).closed {
                std::thread::sleep(super::CLOSE_TIMEOUT * 2);
            }
        }
        error
    }

    fn theme(&self) -> Box<dyn Theme> {
        match self.stderr_has_color() {
            true => Box::new(ColorfulTheme::default()),
            false => Box::new(SimpleTheme),
        }
    }

    fn themed(&self, prompt: &str, default: Option<&str>, hidden: bool) -> Result<String> {
        let mut shown = String::new();
        let formatted = match hidden {
            true => self.theme().format_password_prompt(&mut shown, prompt),
            false => self
                .theme()
                .format_input_prompt(&mut shown, prompt, default),
        };
        formatted.map_err(|_| PromptError::Io(io::Error::other("the prompt cannot be written")))?;
        if !shown.ends_with(char::is_whitespace) {
            shown.push(' ');
        }
        Ok(shown)
    }
}

enum Pressed {
    Enter,
    Closed,
}

/// A line that is being typed, and how much of it is on the screen.
struct Line {
    chars: Zeroizing<Vec<char>>,
    /// The cursor's index into `chars`.
    at: usize,
    hidden: bool,
    /// The columns between the start of the drawn part and the cursor.
    before: usize,
    /// The columns of the drawn part.
    drawn: usize,
}

impl Line {
    fn new(hidden: bool) -> Self {
        Self {
            chars: Zeroizing::new(Vec::with_capacity(MAX_ANSWER)),
            at: 0,
            hidden,
            before: 0,
            drawn: 0,
        }
    }

    fn press(
        &mut self,
        key: Key,
        mut next: impl FnMut() -> io::Result<Key>,
    ) -> io::Result<Option<Pressed>> {
        match key {
            Key::Enter => return Ok(Some(Pressed::Enter)),
            Key::Char('\u{4}') if self.chars.is_empty() => return Ok(Some(Pressed::Closed)),
            Key::ArrowLeft => self.at = self.at.saturating_sub(1),
            Key::ArrowRight => self.at = self.chars.len().min(self.at + 1),
            Key::Home => self.at = 0,
            Key::End => self.at = self.chars.len(),
            Key::Backspace => self.remove(self.at.saturating_sub(1)..self.at),
            Key::Del | Key::Char('\u{4}') => {
                self.remove(self.at..self.chars.len().min(self.at + 1));
            }
            // Ctrl-U and Ctrl-W, as in the terminal's own line mode.
            Key::Char('\u{15}') => self.remove(0..self.at),
            Key::Char('\u{17}') => {
                let typed = &self.chars[..self.at];
                let word = typed.iter().rposition(|c| !c.is_whitespace()).unwrap_or(0);
                let gap = typed[..word].iter().rposition(|c| c.is_whitespace());
                self.remove(gap.map_or(0, |gap| gap + 1)..self.at);
            }
            Key::Tab if self.hidden => self.insert('\t'),
            Key::Char(c) if !c.is_control() && (self.hidden || !is_invisible(c)) => self.insert(c),
            // console reads three characters of a sequence, such as that of
            // Ctrl-Left or of a paste's end; the others are not text either.
            Key::UnknownEscSeq(sequence) if sequence.first() == Some(&'[') => {
                let mut last = sequence.last().copied();
                while !matches!(last, Some('@'..='Z' | '\\'..='~')) {
                    last = match next()? {
                        Key::Char(c) => Some(c),
                        _ => break,
                    };
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn insert(&mut self, c: char) {
        if self.chars.len() < MAX_ANSWER {
            self.chars.insert(self.at, c);
            self.at += 1;
        }
    }

    fn remove(&mut self, range: std::ops::Range<usize>) {
        self.at = range.start;
        self.chars.drain(range);
    }

    /// Returns what brings the row up to date: the part of the line around the cursor
    /// that fits into `room` columns, in characters and backspaces alone.
    fn redraw(&mut self, room: usize) -> String {
        let width = |c: &char| measure_text_width(c.encode_utf8(&mut [0; 4]));
        let (mut start, mut end) = (self.at, self.at);
        let mut before = 0;
        while start > 0 && before + width(&self.chars[start - 1]) <= room {
            start -= 1;
            before += width(&self.chars[start]);
        }
        let mut drawn = before;
        while end < self.chars.len() && drawn + width(&self.chars[end]) <= room {
            drawn += width(&self.chars[end]);
            end += 1;
        }
        let shown: String = self.chars[start..end].iter().collect();
        let blanks = self.drawn.saturating_sub(drawn);
        let text = format!(
            "{}{shown}{}{}",
            "\u{8}".repeat(self.before),
            " ".repeat(blanks),
            "\u{8}".repeat(blanks + drawn - before)
        );
        (self.before, self.drawn) = (before, drawn);
        text
    }
}
