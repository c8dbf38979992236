//! Input that is not echoed: secrets and pasted text, and waiting for Enter.

use std::time::Duration;

use console::Key;
use zeroize::Zeroizing;

use super::prompt::{CTRL_D, PromptError};
use super::{Terminal, clean};
use crate::model::Secret;

/// Maximum size of an input in bytes. All of them are reserved at once: a buffer that
/// grows leaves copies of a secret behind.
const MAX_INPUT: usize = 256 * 1024;

/// How long the terminal must be silent after a line break for a paste to be over.
#[cfg(unix)]
const PASTE_GAP: Duration = Duration::from_millis(150);

impl Terminal {
    /// Prompts for a secret until it is not blank.
    pub(crate) fn ask_secret(&self, prompt: &str) -> Result<Secret, PromptError> {
        loop {
            let mut line = self.read_hidden(prompt, |_| true)?;
            if line.ends_with('\n') {
                line.pop();
            }
            if !line.is_empty() {
                return Ok(Secret::new(std::mem::take(&mut *line)));
            }
        }
    }

    /// Prompts for a secret twice, until both times agree.
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

    /// Prompts for a text of several lines. It ends with a line after which
    /// `is_complete` holds, with a blank line, or with Ctrl-D.
    pub(crate) fn ask_paste(
        &self,
        prompt: &str,
        is_complete: &dyn Fn(&str) -> bool,
    ) -> Result<Zeroizing<String>, PromptError> {
        self.read_hidden(prompt, |text| {
            let is_blank = text.trim().is_empty();
            let is_over = || text.ends_with("\n\n") || is_complete(text);
            !is_blank && !self.paste_goes_on() && is_over()
        })
    }

    /// Reads until Ctrl-D, or until a line break after which `is_over` holds.
    fn read_hidden(
        &self,
        prompt: &str,
        is_over: impl Fn(&str) -> bool,
    ) -> Result<Zeroizing<String>, PromptError> {
        let _open = self.open_prompt(true)?;
        let mut text = Zeroizing::new(String::with_capacity(MAX_INPUT));
        let theme = self.theme();
        self.draw(|out| theme.format_password_prompt(out, &clean(prompt)))?;
        let is_closed = loop {
            match self.read_key()? {
                Key::Enter => {
                    text.push('\n');
                    if is_over(&text) {
                        break false;
                    }
                }
                CTRL_D => break text.is_empty(),
                Key::Backspace => drop(text.pop()),
                // Ctrl-U, as in the terminal's own line mode.
                Key::Char('\u{15}') => text.clear(),
                Key::Tab => text.push('\t'),
                Key::Char(c) if !c.is_control() && text.len() < MAX_INPUT - 8 => text.push(c),
                _ => {}
            }
        };
        self.write_stderr("\n");
        if is_closed {
            Err(PromptError::Closed)
        } else {
            Ok(text)
        }
    }

    /// Waits at most `timeout`. Returns true early if the person presses Enter.
    #[cfg_attr(not(unix), expect(dead_code, reason = "no browser is opened there"))]
    pub(crate) fn wait_for_enter(&self, timeout: Duration) -> bool {
        if !self.can_prompt() {
            std::thread::sleep(timeout);
            return false;
        }
        #[cfg(unix)]
        if self.has_input(timeout) {
            // The terminal hands over whole lines. One that is closed stays readable.
            let mut line = [0; 1024];
            if !matches!(rustix::io::read(std::io::stdin(), &mut line), Ok(1..)) {
                std::thread::sleep(timeout);
            }
            return true;
        }
        false
    }

    /// Whether something can be read from stdin within the time.
    #[cfg(unix)]
    fn has_input(&self, timeout: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdin = std::io::stdin();
        let mut files = [PollFd::new(&stdin, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        poll(&mut files, timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Whether a paste goes on after a line break.
    fn paste_goes_on(&self) -> bool {
        #[cfg(unix)]
        return self.has_input(PASTE_GAP);
        #[cfg(not(unix))]
        false
    }
}
