//! Questions to the person.
//!
//! Passwords are asked by dialoguer. Lines of text are read in the terminal's
//! own line mode, behind the same theme's prompts: there Ctrl-D ends the input,
//! a paste is a paste, and wide characters and lines longer than the screen
//! are the terminal's business, none of which holds for dialoguer's text input,
//! which reads key by key.

use std::io::{self, BufRead};

use dialoguer::Password;
use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};

use super::Terminal;
use crate::model::Secret;

/// The longest answer, in bytes; a terminal's line is shorter.
const LONGEST: u64 = 64 * 1024;

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

    /// Asks for a secret, which is not shown. A blank one ends the questions, as Ctrl-D does.
    pub fn ask_secret(&self, prompt: &str) -> Result<Secret, PromptError> {
        self.password(Password::with_theme(&*self.theme()).with_prompt(prompt))
    }

    /// Asks for a secret twice, until both times agree.
    pub fn ask_secret_twice(&self, prompt: &str, again: &str) -> Result<Secret, PromptError> {
        self.password(
            Password::with_theme(&*self.theme())
                .with_prompt(prompt)
                .with_confirmation(again, "the two differ; once more"),
        )
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

    fn theme(&self) -> Box<dyn Theme> {
        if self.stderr_has_color() {
            Box::new(ColorfulTheme::default())
        } else {
            Box::new(SimpleTheme)
        }
    }

    fn password(&self, password: Password<'_>) -> Result<Secret, PromptError> {
        self.remember_mode();
        let answer = password
            // A blank answer and a closed terminal are one and the same to
            // dialoguer; without this it would ask a closed terminal for ever.
            .allow_empty_password(true)
            .report(false)
            .interact()
            .map_err(|dialoguer::Error::IO(e)| PromptError::from(e))?;
        if answer.is_empty() {
            return Err(PromptError::Closed);
        }
        Ok(Secret::new(answer))
    }

    /// One line, trimmed; `None` for a blank one. A line with control
    /// characters in it, such as those of an arrow key, is asked for again.
    fn line(&self, prompt: &str, default: Option<&str>) -> Result<Option<String>, PromptError> {
        self.remember_mode();
        loop {
            let mut shown = String::new();
            self.theme()
                .format_input_prompt(&mut shown, prompt, default)
                .map_err(|_| PromptError::Io(io::Error::other("the prompt cannot be written")))?;
            self.prompt_line(&shown)?;
            let mut line = String::new();
            let read = io::Read::take(io::stdin().lock(), LONGEST).read_line(&mut line);
            match read {
                Ok(0) => {
                    self.prompt_line("\n")?;
                    return Err(PromptError::Closed);
                }
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {}
                Err(e) => return Err(e.into()),
                Ok(_) => {
                    let line = line.trim();
                    if !line.chars().any(char::is_control) {
                        return Ok((!line.is_empty()).then(|| line.to_owned()));
                    }
                }
            }
            self.warn("plain characters only, please");
        }
    }
}
