//! Prompts whose input is not echoed (secrets and pasted text), and waiting for Enter.

use std::time::Duration;

use console::Key;
use zeroize::Zeroizing;

use super::prompt::{CTRL_D, Echo, PromptError};
use super::{Terminal, clean};
use crate::model::Secret;

/// Maximum size of an input. The buffer has this capacity from the start, because each
/// reallocation would leave a copy of the secret in freed memory.
const MAX_INPUT_BYTES: usize = 256 * 1024;

/// A paste has ended if no input follows a line break for this time.
#[cfg(unix)]
const PASTE_GAP: Duration = Duration::from_millis(150);

impl Terminal {
    /// Prompts for a secret until it is not blank.
    pub(crate) fn ask_secret(&self, prompt: &str) -> Result<Secret, PromptError> {
        loop {
            let mut line = self.read_hidden(prompt, |_line| true)?;
            if line.ends_with('\n') {
                line.pop();
            }
            if !line.is_empty() {
                return Ok(Secret::new(std::mem::take(&mut *line)));
            }
        }
    }

    /// Prompts for a secret twice, until both entries are the same.
    pub(crate) fn ask_secret_twice(
        &self,
        prompt: &str,
        repeat_prompt: &str,
    ) -> Result<Secret, PromptError> {
        loop {
            let secret = self.ask_secret(prompt)?;
            if self.ask_secret(repeat_prompt)? == secret {
                return Ok(secret);
            }
            self.warn("the two entries differ; try again");
        }
    }

    /// Prompts for a text of several lines. The input ends after a line for which
    /// `is_complete(text)` is true, after a blank line, or at Ctrl-D.
    pub(crate) fn ask_paste(
        &self,
        prompt: &str,
        is_complete: &dyn Fn(&str) -> bool,
    ) -> Result<Zeroizing<String>, PromptError> {
        self.read_hidden(prompt, |text| {
            let is_blank = text.trim().is_empty();
            let has_ended = || text.ends_with("\n\n") || is_complete(text);
            !is_blank && !self.has_more_pasted_text() && has_ended()
        })
    }

    /// Reads input without echoing it, until Ctrl-D or until a line break after which
    /// `ends_input(text)` is true.
    fn read_hidden(
        &self,
        prompt: &str,
        ends_input: impl Fn(&str) -> bool,
    ) -> Result<Zeroizing<String>, PromptError> {
        let _open = self.open_prompt(Echo::Hidden)?;
        let mut text = Zeroizing::new(String::with_capacity(MAX_INPUT_BYTES));
        let theme = self.theme();
        self.draw(|out| theme.format_password_prompt(out, &clean(prompt)))?;
        let was_closed = loop {
            match self.read_key()? {
                Key::Enter => {
                    text.push('\n');
                    if ends_input(&text) {
                        break false;
                    }
                }
                CTRL_D => break text.is_empty(),
                Key::Backspace => drop(text.pop()),
                // Ctrl-U deletes the input, as it does in a shell.
                Key::Char('\u{15}') => text.clear(),
                Key::Tab => text.push('\t'),
                // Characters that do not fit into the buffer are ignored.
                Key::Char(c) if !c.is_control() && text.len() < MAX_INPUT_BYTES - 8 => text.push(c),
                _ => {}
            }
        };
        self.write_stderr("\n");
        if was_closed {
            Err(PromptError::Closed)
        } else {
            Ok(text)
        }
    }

    /// Waits until the user presses Enter, then returns true. Returns false after `timeout`.
    /// If prompts are not possible, always waits for the whole `timeout`.
    #[cfg_attr(
        not(unix),
        expect(
            dead_code,
            reason = "its only caller, the browser login, exists only on Unix"
        )
    )]
    pub(crate) fn wait_for_enter(&self, timeout: Duration) -> bool {
        if !self.can_prompt() {
            std::thread::sleep(timeout);
            return false;
        }
        #[cfg(unix)]
        if self.wait_for_input(timeout) {
            // Remove the line from the input. If the terminal was closed, stdin stays readable
            // and reading returns nothing: wait, so that the caller does not loop without pause.
            let mut line = [0; 1024];
            if !matches!(rustix::io::read(std::io::stdin(), &mut line), Ok(1..)) {
                std::thread::sleep(timeout);
            }
            return true;
        }
        false
    }

    /// Waits until stdin is readable, then returns true. Returns false after `timeout`.
    #[cfg(unix)]
    fn wait_for_input(&self, timeout: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdin = std::io::stdin();
        let mut files = [PollFd::new(&stdin, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        poll(&mut files, timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Whether more pasted text follows a line break.
    fn has_more_pasted_text(&self) -> bool {
        #[cfg(unix)]
        return self.wait_for_input(PASTE_GAP);
        #[cfg(not(unix))]
        false
    }
}
