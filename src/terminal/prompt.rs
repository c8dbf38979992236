//! Prompts, drawn with dialoguer's themes.
//!
//! dialoguer does not support Ctrl-D as the end of the input: `Input`, `Confirm` and
//! `Select` ignore it, and `Password` returns an empty line for it (and leaves the secret
//! in the buffer of stdin). Therefore dialoguer's `Input` is used only to edit a line after
//! this module has read its first key. This module also reads all keys of a selection,
//! and `hidden.rs` reads secrets.

use std::fmt;
use std::io;

use console::{Key, Term};
use dialoguer::Input;
use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};

use super::clean::is_always_invisible;
use super::{CLOSE_TIMEOUT, Terminal, clean, lock};

pub(super) const CTRL_D: Key = Key::Char('\u{4}');

/// Why a prompt returned no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    /// The user pressed Ctrl-C, or another signal was received.
    #[error("interrupted")]
    Interrupted,
    /// The user pressed Ctrl-D or Esc, the terminal was closed, or prompts are not possible.
    #[error("the input was closed")]
    Closed,
    /// Reading from or writing to the terminal failed.
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

/// Whether the characters that the user types at a prompt are shown.
#[derive(Clone, Copy)]
pub(super) enum Echo {
    Visible,
    Hidden,
}

/// The input mode of the terminal, which is raw while a prompt is open.
#[derive(Default)]
pub(super) struct InputMode {
    /// The attributes before the prompt opened, to be restored when it closes.
    #[cfg(unix)]
    saved_attributes: Option<rustix::termios::Termios>,
    is_prompt_open: bool,
    /// Whether the process is about to end, so that no further prompt may open.
    prompts_forbidden: bool,
}

impl InputMode {
    /// Restores the input mode and forbids further prompts. Returns whether a prompt was
    /// open.
    pub(super) fn close(&mut self) -> bool {
        self.prompts_forbidden = true;
        self.restore()
    }

    /// Sets raw mode until the prompt closes. The crate `console` sets it only while it
    /// waits for a key, so the terminal would echo text that is pasted between two keys.
    fn set_raw(&mut self, echo: Echo) -> io::Result<()> {
        #[cfg(unix)]
        {
            use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
            let saved = tcgetattr(io::stdin())?;
            let mut raw = saved.clone();
            raw.make_raw();
            raw.output_modes = saved.output_modes;
            let actions = match echo {
                Echo::Visible => OptionalActions::Now,
                // Discard text that was typed before the prompt. The terminal has echoed it, so
                // it must not become part of a password.
                Echo::Hidden => OptionalActions::Flush,
            };
            tcsetattr(io::stdin(), actions, &raw)?;
            self.saved_attributes = Some(saved);
        }
        #[cfg(not(unix))]
        let _ = echo;
        self.is_prompt_open = true;
        Ok(())
    }

    /// Restores the saved attributes. Returns whether a prompt was open.
    fn restore(&mut self) -> bool {
        #[cfg(unix)]
        if let Some(saved) = self.saved_attributes.take() {
            use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcsetattr};
            // If the user pasted several lines, discard the rest: the next prompt or the shell
            // must not read it.
            let _ = tcflush(io::stdin(), QueueSelector::IFlush);
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &saved);
        }
        std::mem::take(&mut self.is_prompt_open)
    }
}

/// An open prompt. Dropping it restores the input mode of the terminal.
pub(super) struct OpenPrompt<'a> {
    terminal: &'a Terminal,
}

impl Drop for OpenPrompt<'_> {
    fn drop(&mut self) {
        lock(&self.terminal.state.input_mode).restore();
    }
}

impl Terminal {
    /// Prompts for a line of text. A blank line selects `default`; without a `default`, the
    /// prompt is repeated until the line is not blank.
    pub(crate) fn ask(&self, prompt: &str, default: Option<&str>) -> Result<String> {
        loop {
            match (self.read_line(prompt, default)?, default) {
                (Some(line), _) => return Ok(line),
                (None, Some(default)) => return Ok(default.to_owned()),
                (None, None) => self.warn("the answer must not be blank"),
            }
        }
    }

    /// Prompts for a line of text until the line is not blank and `find_problem` returns
    /// `None`. Prints the problem as a warning otherwise.
    pub(crate) fn ask_valid(
        &self,
        prompt: &str,
        find_problem: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<String> {
        loop {
            let line = self.ask(prompt, None)?;
            match find_problem(&line) {
                None => return Ok(line),
                Some(problem) => self.warn(problem),
            }
        }
    }

    /// Prompts for a line of text. Returns `None` for a blank line.
    pub(crate) fn ask_optional(&self, prompt: &str) -> Result<Option<String>> {
        self.read_line(prompt, None)
    }

    /// Prompts for yes or no. A blank line means no.
    pub(crate) fn confirm(&self, prompt: &str) -> Result<bool> {
        let prompt = format!("{prompt} [y/N]");
        loop {
            let answer = self.read_line(&prompt, None)?;
            match answer.as_deref().map(str::to_lowercase).as_deref() {
                Some("y" | "yes") => return Ok(true),
                Some("n" | "no") | None => return Ok(false),
                Some(_) => self.warn("answer y or n"),
            }
        }
    }

    /// Lets the user select one of `items` with the arrow keys, and returns its index. Esc
    /// and Ctrl-D cancel.
    pub(crate) fn select(&self, prompt: &str, items: &[&str]) -> Result<usize> {
        let _open = self.open_prompt(Echo::Visible)?;
        let theme = self.theme();
        let mut selected = 0;
        loop {
            self.draw(|out| theme.format_select_prompt(out, &clean(prompt)))?;
            for (index, item) in items.iter().enumerate() {
                self.write_stderr("\n");
                self.draw(|out| {
                    theme.format_select_prompt_item(out, &clean(item), index == selected)
                })?;
            }
            self.write_stderr("\n");
            let key = self.read_key()?;
            Term::stderr().clear_last_lines(items.len() + 1)?;
            // The selection wraps around at both ends of the list.
            selected = match key {
                Key::ArrowDown | Key::Tab => selected + 1,
                Key::ArrowUp | Key::BackTab => selected + items.len() - 1,
                Key::Enter => {
                    let (prompt, item) = (clean(prompt), clean(items[selected]));
                    self.draw(|out| theme.format_select_prompt_selection(out, &prompt, &item))?;
                    self.write_stderr("\n");
                    return Ok(selected);
                }
                Key::Escape | CTRL_D => return Err(PromptError::Closed),
                _ => selected,
            } % items.len();
        }
    }

    /// Prompts for a line of text and trims it. Returns `None` for a blank line.
    fn read_line(&self, prompt: &str, default: Option<&str>) -> Result<Option<String>> {
        let _open = self.open_prompt(Echo::Visible)?;
        let theme = self.theme();
        let (prompt, default) = (clean(prompt), default.map(clean));
        self.draw(|out| theme.format_input_prompt(out, &prompt, default.as_deref()))?;
        let first_key = loop {
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
        // `Input` draws the prompt itself, so erase the line.
        let term = Term::stderr();
        term.clear_line()?;
        let mut input = Input::<String>::with_theme(&*theme)
            .with_prompt(prompt)
            .with_initial_text(first_key)
            .allow_empty(true);
        if let Some(default) = default {
            input = input.default(default.into_owned());
        }
        let line = input
            .interact_text_on(&term)
            .map_err(|dialoguer::Error::IO(error)| self.map_read_err(error))?;
        let line: String = line.chars().filter(|c| !is_always_invisible(*c)).collect();
        let line = line.trim();
        Ok((!line.is_empty()).then(|| line.to_owned()))
    }

    /// Prepares the terminal for a prompt. Fails if prompts are not possible.
    pub(super) fn open_prompt(&self, echo: Echo) -> Result<OpenPrompt<'_>> {
        if !self.can_prompt() {
            return Err(PromptError::Closed);
        }
        if let Some(hook) = self.state.before_prompt.get() {
            hook();
        }
        // Hold the lock while the mode changes, so that the signal thread never restores the
        // mode before it has been saved.
        let mut input_mode = lock(&self.state.input_mode);
        if input_mode.prompts_forbidden {
            return Err(PromptError::Interrupted);
        }
        input_mode.set_raw(echo)?;
        Ok(OpenPrompt { terminal: self })
    }

    /// Waits for a key. Ctrl-C raises SIGINT, because the crate `console` does that in
    /// raw mode.
    pub(super) fn read_key(&self) -> Result<Key> {
        Term::stderr()
            .read_key()
            .map_err(|error| self.map_read_err(error))
    }

    /// Maps an error of reading a key. If a signal interrupted the read, waits, because the
    /// signal thread is about to end the process and must print its message first.
    fn map_read_err(&self, error: io::Error) -> PromptError {
        let error = PromptError::from(error);
        if matches!(error, PromptError::Interrupted) {
            std::thread::sleep(CLOSE_TIMEOUT * 2);
        }
        error
    }

    /// Writes what `format` produces to stderr.
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
        // dialoguer marks each answer with a check mark, even before the answer has been
        // validated. Use the mark of the prompt instead.
        let theme = ColorfulTheme::default();
        Box::new(ColorfulTheme {
            success_prefix: theme.prompt_prefix.clone(),
            success_suffix: theme.prompt_suffix.clone(),
            ..theme
        })
    }
}
