//! Prompts, drawn with dialoguer's themes; a line of text is edited by its `Input`.
//!
//! dialoguer does not know the end of the input: `Input`, `Confirm` and `Select` ignore
//! Ctrl-D, and `Password` returns an empty line for it (and leaves the secret in the
//! buffer of stdin). Therefore the first key of a line is read here before `Input` takes
//! over, and so are the keys of a list; `hidden.rs` reads secrets.

use std::fmt;
use std::io;

use console::{Key, Term};
use dialoguer::Input;
use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};

use super::clean::is_invisible;
use super::{CLOSE_TIMEOUT, Terminal, clean, lock};

pub(super) const CTRL_D: Key = Key::Char('\u{4}');

/// Why a prompt has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
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
    /// The mode before the open prompt, to be restored.
    #[cfg(unix)]
    saved: Option<rustix::termios::Termios>,
    prompting: bool,
    /// No further prompt may open.
    ended: bool,
}

impl Mode {
    /// Restores the mode and forbids further prompts. Returns whether one was open.
    pub(super) fn close(&mut self) -> bool {
        self.ended = true;
        self.leave()
    }

    /// Sets the raw mode until the prompt closes. console sets it for one key at a
    /// time, and the terminal would echo what is pasted between two keys.
    fn enter(&mut self, hidden: bool) -> io::Result<()> {
        #[cfg(unix)]
        {
            use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
            let saved = tcgetattr(io::stdin())?;
            let mut raw = saved.clone();
            raw.make_raw();
            raw.output_modes = saved.output_modes;
            // Text typed before the prompt, and echoed, is not a password.
            let discard = match hidden {
                true => OptionalActions::Flush,
                false => OptionalActions::Now,
            };
            tcsetattr(io::stdin(), discard, &raw)?;
            self.saved = Some(saved);
        }
        let _ = hidden;
        self.prompting = true;
        Ok(())
    }

    pub(super) fn leave(&mut self) -> bool {
        #[cfg(unix)]
        if let Some(saved) = self.saved.take() {
            use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcsetattr};
            // The rest of a paste with a line break in it answers no other
            // prompt and is not a command for the shell.
            let _ = tcflush(io::stdin(), QueueSelector::IFlush);
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &saved);
        }
        std::mem::take(&mut self.prompting)
    }
}

/// An open prompt; dropping it restores the mode of the terminal.
pub(super) struct OpenPrompt<'a>(&'a Terminal);

impl Drop for OpenPrompt<'_> {
    fn drop(&mut self) {
        lock(&self.0.0.mode).leave();
    }
}

impl Terminal {
    /// Prompts for a line of text until it is not blank; a blank line takes `default`.
    pub(crate) fn ask(&self, prompt: &str, default: Option<&str>) -> Result<String> {
        loop {
            match (self.line(prompt, default)?, default) {
                (Some(line), _) => return Ok(line),
                (None, Some(default)) => return Ok(default.to_owned()),
                (None, None) => self.warn("the answer must not be blank"),
            }
        }
    }

    /// Prompts for a line of text until it is not blank and `problem` finds nothing wrong.
    pub(crate) fn ask_valid(
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
    pub(crate) fn ask_optional(&self, prompt: &str) -> Result<Option<String>> {
        self.line(prompt, None)
    }

    /// Prompts for yes or no.
    pub(crate) fn confirm(&self, prompt: &str, default: bool) -> Result<bool> {
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
    pub(crate) fn select(&self, prompt: &str, items: &[&str]) -> Result<usize> {
        let _open = self.open_prompt(false)?;
        let theme = self.theme();
        let mut chosen = 0;
        loop {
            self.draw(|out| theme.format_select_prompt(out, &clean(prompt)))?;
            for (index, item) in items.iter().enumerate() {
                self.write_stderr("\n");
                self.draw(|out| {
                    theme.format_select_prompt_item(out, &clean(item), index == chosen)
                })?;
            }
            self.write_stderr("\n");
            let key = self.read_key()?;
            Term::stderr().clear_last_lines(items.len() + 1)?;
            chosen = match key {
                Key::ArrowDown | Key::Tab => chosen + 1,
                Key::ArrowUp | Key::BackTab => chosen + items.len() - 1,
                Key::Enter => {
                    let (prompt, item) = (clean(prompt), clean(items[chosen]));
                    self.draw(|out| theme.format_select_prompt_selection(out, &prompt, &item))?;
                    self.write_stderr("\n");
                    return Ok(chosen);
                }
                Key::Escape | CTRL_D => return Err(PromptError::Closed),
                _ => chosen,
            } % items.len();
        }
    }

    /// Reads one line, trimmed; `None` for a blank one.
    fn line(&self, prompt: &str, default: Option<&str>) -> Result<Option<String>> {
        let _open = self.open_prompt(false)?;
        let theme = self.theme();
        let (prompt, default) = (clean(prompt), default.map(clean));
        self.draw(|out| theme.format_input_prompt(out, &prompt, default.as_deref()))?;
        let first = loop {
            match self.read_key()? {
                Key::Char(c) if !c.is_control() => break c,
                key @ (Key::Enter | CTRL_D) => {
                    self.write_stderr("\n");
                    return if key == CTRL_D {
                        Err(PromptError::Closed)
                    } else {
                        Ok(None)
                    };
                }
                _ => {}
            }
        };
        let term = Term::stderr();
        term.clear_line()?;
        let mut input = Input::<String>::with_theme(&*theme)
            .with_prompt(prompt)
            .with_initial_text(first)
            .allow_empty(true);
        if let Some(default) = default {
            input = input.default(default.into_owned());
        }
        let line = input
            .interact_text_on(&term)
            .map_err(|dialoguer::Error::IO(error)| self.map_read_err(error))?;
        let line: String = line.chars().filter(|c| !is_invisible(*c)).collect();
        let line = line.trim();
        Ok((!line.is_empty()).then(|| line.to_owned()))
    }

    pub(super) fn open_prompt(&self, hidden: bool) -> Result<OpenPrompt<'_>> {
        if !self.can_prompt() {
            return Err(PromptError::Closed);
        }
        if let Some(hook) = self.0.before_prompt.get() {
            hook();
        }
        // Locked, so that the signal thread sees the terminal either unchanged or
        // with a mode to restore.
        let mut mode = lock(&self.0.mode);
        if mode.ended {
            return Err(PromptError::Interrupted);
        }
        mode.enter(hidden)?;
        Ok(OpenPrompt(self))
    }

    /// Waits for a key. Ctrl-C raises SIGINT.
    pub(super) fn read_key(&self) -> Result<Key> {
        Term::stderr()
            .read_key()
            .map_err(|error| self.map_read_err(error))
    }

    /// A signal interrupts the wait for a key, and its own thread then ends the
    /// process: it gets the time to do so.
    fn map_read_err(&self, error: io::Error) -> PromptError {
        let error = PromptError::from(error);
        if matches!(error, PromptError::Interrupted) {
            std::thread::sleep(CLOSE_TIMEOUT * 2);
        }
        error
    }

    pub(super) fn draw(&self, format: impl FnOnce(&mut String) -> fmt::Result) -> Result<()> {
        let mut text = String::new();
        format(&mut text).map_err(io::Error::other)?;
        self.write_stderr(&text);
        Ok(())
    }

    pub(super) fn theme(&self) -> Box<dyn Theme> {
        if !self.stderr_has_color() {
            return Box::new(SimpleTheme);
        }
        // An answer is not marked as valid before it was checked.
        let theme = ColorfulTheme::default();
        Box::new(ColorfulTheme {
            success_prefix: theme.prompt_prefix.clone(),
            success_suffix: theme.prompt_suffix.clone(),
            ..theme
        })
    }
}
