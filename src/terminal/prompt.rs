//! Questions to the person.
//!
//! Prompts look as dialoguer's themes have them. Answers are read in the
//! terminal's own line mode: there Ctrl-D ends the input, a paste is a paste,
//! and wide characters, long lines and resizing are the terminal's business.
//! None of this holds for dialoguer's text input, which reads key by key; and
//! its password input cannot tell a blank line from a closed terminal.

use std::io;

use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};
use zeroize::Zeroizing;

use super::clean::is_invisible;
use super::{Streams, Terminal, clean, lock};
use crate::model::Secret;

/// The longest answer, in bytes; a terminal's line is shorter. All of it is
/// reserved at once: a buffer that grows leaves copies of a secret behind.
const LONGEST: usize = 64 * 1024;

/// What a terminal that brackets pastes puts around one.
const PASTE_MARKS: [&str; 2] = ["\u{1b}[200~", "\u{1b}[201~"];

/// Why a question has no answer.
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

/// The state of the terminal that questions change.
#[derive(Default)]
pub(super) struct Mode {
    /// How it was when the open question was asked.
    #[cfg(unix)]
    found: Option<rustix::termios::Termios>,
    asking: bool,
    closed: bool,
}

impl Mode {
    /// Undoes what the open question changed, and lets none follow; whether there was one.
    pub(super) fn close(&mut self) -> bool {
        self.closed = true;
        self.leave()
    }

    #[cfg(unix)]
    fn enter(&mut self, hidden: bool) -> io::Result<()> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let found = tcgetattr(io::stdin())?;
        if hidden {
            let mut mode = found.clone();
            mode.local_modes.remove(LocalModes::ECHO);
            // The line break is shown, so that what follows has its own line.
            mode.local_modes
                .insert(LocalModes::ECHONL | LocalModes::ICANON);
            // What was typed before the prompt, and was seen, is no password.
            tcsetattr(io::stdin(), OptionalActions::Flush, &mode)?;
        }
        self.found = Some(found);
        self.asking = true;
        Ok(())
    }

    #[cfg(unix)]
    fn leave(&mut self) -> bool {
        use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcsetattr};
        if let Some(found) = self.found.take() {
            // The rest of a paste with a line break in it answers no other
            // question and is no command for the shell. Nothing here waits for
            // output, which Ctrl-S may have stopped.
            let _ = tcflush(io::stdin(), QueueSelector::IFlush);
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &found);
        }
        std::mem::take(&mut self.asking)
    }

    #[cfg(not(unix))]
    fn enter(&mut self, _hidden: bool) -> io::Result<()> {
        self.asking = true;
        Ok(())
    }

    #[cfg(not(unix))]
    fn leave(&mut self) -> bool {
        std::mem::take(&mut self.asking)
    }
}

impl Terminal {
    /// Asks for a line of text; a blank one takes `default`, and is asked
    /// again where there is none.
    pub fn ask(&self, prompt: &str, default: Option<&str>) -> Result<String, PromptError> {
        loop {
            let line = self.line(prompt, default)?;
            match (line, default) {
                (Some(line), _) => return Ok(line),
                (None, Some(default)) => return Ok(default.to_owned()),
                (None, None) => {}
            }
        }
    }

    /// Asks for a line of text; a blank one is no answer, which is fine.
    pub fn ask_optional(&self, prompt: &str) -> Result<Option<String>, PromptError> {
        self.line(prompt, None)
    }

    /// Asks for a secret, which is not shown; a blank one is asked for again.
    pub fn ask_secret(&self, prompt: &str) -> Result<Secret, PromptError> {
        loop {
            let answer = self.read(prompt, None, true)?;
            // Nobody sees what an arrow key put there, and a secret that is
            // wrong costs a try. Spaces and tabs may well be meant.
            if answer.chars().any(|c| c.is_control() && c != '\t') {
                self.warn("plain characters only, please");
            } else if !answer.is_empty() {
                return Ok(Secret::new(answer.as_str().to_owned()));
            }
        }
    }

    /// Asks for a secret twice, until both times agree.
    pub fn ask_secret_twice(&self, prompt: &str, again: &str) -> Result<Secret, PromptError> {
        loop {
            let secret = self.ask_secret(prompt)?;
            if self.ask_secret(again)? == secret {
                return Ok(secret);
            }
            self.warn("the two differ; once more");
        }
    }

    /// Asks a question of yes or no.
    pub fn confirm(&self, prompt: &str, default: bool) -> Result<bool, PromptError> {
        let prompt = format!("{prompt} {}", if default { "[Y/n]" } else { "[y/N]" });
        loop {
            let answer = self.line(&prompt, None)?;
            match answer.as_deref().map(str::to_lowercase).as_deref() {
                None => return Ok(default),
                Some("y" | "yes") => return Ok(true),
                Some("n" | "no") => return Ok(false),
                Some(_) => {}
            }
        }
    }

    /// One line, trimmed; `None` for a blank one. A line with control
    /// characters in it, such as those of an arrow key, is asked for again.
    fn line(&self, prompt: &str, default: Option<&str>) -> Result<Option<String>, PromptError> {
        loop {
            let line = self.read(prompt, default, false)?;
            let line = line.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
            if !line.chars().any(char::is_control) {
                return Ok((!line.is_empty()).then(|| line.to_owned()));
            }
            self.warn("plain characters only, please");
        }
    }

    /// One line as it was typed, without its end and the marks of a paste.
    fn read(
        &self,
        prompt: &str,
        default: Option<&str>,
        hidden: bool,
    ) -> Result<Zeroizing<String>, PromptError> {
        if matches!(self.0.streams, Streams::Captured(_)) {
            return Err(PromptError::Closed);
        }
        if let Some(act) = self.0.before_questions.get() {
            act();
        }
        let prompt = self.themed(&clean(prompt), default.map(clean).as_deref(), hidden)?;
        loop {
            {
                // One step for a signal's thread: it finds the terminal either
                // untouched or with what there is to undo.
                let mut mode = lock(&self.0.mode);
                if mode.closed {
                    return Err(PromptError::Interrupted);
                }
                mode.enter(hidden)?;
            }
            self.tell(&prompt);
            let line = read_line(hidden);
            lock(&self.0.mode).leave();
            let Some(line) = line? else {
                self.tell("\n");
                return Err(PromptError::Closed);
            };
            let Ok(text) = std::str::from_utf8(&line) else {
                self.warn("plain characters only, please");
                continue;
            };
            let mut text = text.trim_end_matches(['\r', '\n']);
            let [begin, end] = PASTE_MARKS;
            // A paste may stand within what was typed; two pastes are rare, and
            // then the marks that are left make the answer be asked for again.
            text = text.strip_suffix(end).unwrap_or(text);
            text = text.strip_prefix(begin).unwrap_or(text);
            return Ok(Zeroizing::new(text.to_owned()));
        }
    }

    fn themed(
        &self,
        prompt: &str,
        default: Option<&str>,
        hidden: bool,
    ) -> Result<String, PromptError> {
        let theme: Box<dyn Theme> = if self.stderr_has_color() {
            Box::new(ColorfulTheme::default())
        } else {
            Box::new(SimpleTheme)
        };
        let mut shown = String::new();
        let formatted = if hidden {
            theme.format_password_prompt(&mut shown, prompt)
        } else {
            theme.format_input_prompt(&mut shown, prompt, default)
        };
        formatted.map_err(|_| PromptError::Io(io::Error::other("the prompt cannot be written")))?;
        if !shown.ends_with(char::is_whitespace) {
            shown.push(' ');
        }
        Ok(shown)
    }
}

/// One line with its end; `None` at the end of the input. Past the buffer of
/// [`io::stdin`], which nobody wipes.
#[cfg(unix)]
fn read_line(_hidden: bool) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut piece = Zeroizing::new([0_u8; 4096]);
    loop {
        let length = match rustix::io::read(io::stdin(), piece.as_mut_slice()) {
            Err(rustix::io::Errno::INTR) => continue,
            read => read?,
        };
        if length == 0 {
            return Ok((!line.is_empty()).then_some(line));
        }
        let read = &piece[..length.min(LONGEST - line.len())];
        let end = read.iter().position(|&b| b == b'\n');
        line.extend_from_slice(&read[..end.map_or(read.len(), |end| end + 1)]);
        if end.is_some() || line.len() == LONGEST {
            return Ok(Some(line));
        }
    }
}

#[cfg(not(unix))]
fn read_line(hidden: bool) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    use std::io::{BufRead, Read};
    if hidden {
        // A console's hidden line is read key by key, and has no end of input.
        return Ok(Some(Zeroizing::new(
            console::Term::stderr().read_secure_line()?.into_bytes(),
        )));
    }
    let mut line = Zeroizing::new(Vec::new());
    let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    let length = io::stdin()
        .lock()
        .take(limit)
        .read_until(b'\n', &mut line)?;
    Ok((length > 0).then_some(line))
}
