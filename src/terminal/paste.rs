//! What the person does at the terminal while a browser has the stage: pressing
//! Enter, and pasting what was copied there.

use std::io;
use std::time::Duration;

use console::{Key, Term};
use zeroize::Zeroizing;

use super::{PromptError, Terminal, lock};

/// Maximum size of a pasted text in bytes, reserved at once so that it does not grow.
const MAX_PASTE: usize = 256 * 1024;

/// How long the terminal must be silent after a line break for a paste to be over.
#[cfg(unix)]
const PASTE_GAP: Duration = Duration::from_millis(150);

impl Terminal {
    /// Prompts for a text of several lines, which is not echoed. It ends with a
    /// line after which `is_complete` holds, with a blank line, or with Ctrl-D.
    pub fn ask_paste(
        &self,
        prompt: &str,
        is_complete: &dyn Fn(&str) -> bool,
    ) -> Result<Zeroizing<String>, PromptError> {
        self.begin(true)?;
        let mut text = Zeroizing::new(String::with_capacity(MAX_PASTE));
        self.print(&format!("{prompt}: "));
        let result = self.read_paste(&mut text, is_complete);
        self.print("\n");
        lock(&self.0.mode).leave();
        result.map(|()| text)
    }

    fn read_paste(
        &self,
        text: &mut String,
        is_complete: &dyn Fn(&str) -> bool,
    ) -> Result<(), PromptError> {
        let term = Term::stderr();
        loop {
            match term.read_key_raw() {
                Ok(Key::CtrlC) => {
                    return Err(self.interrupted(io::ErrorKind::Interrupted.into()));
                }
                Ok(Key::Enter) => {
                    text.push('\n');
                    let is_blank = text.trim().is_empty();
                    let is_over = || text.ends_with("\n\n") || is_complete(text);
                    if !is_blank && !self.paste_goes_on() && is_over() {
                        return Ok(());
                    }
                }
                Ok(Key::Char('\u{4}')) if text.is_empty() => return Err(PromptError::Closed),
                Ok(Key::Char('\u{4}')) => return Ok(()),
                Ok(Key::Backspace) => drop(text.pop()),
                Ok(Key::Tab) => text.push('\t'),
                Ok(Key::Char(c)) if text.len() < MAX_PASTE - 4 => text.push(c),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits at most `timeout`. Returns true early if the person presses Enter.
    pub fn wait_for_enter(&self, timeout: Duration) -> bool {
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
    pub(super) fn has_input(&self, timeout: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdin = std::io::stdin();
        let mut files = [PollFd::new(&stdin, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        poll(&mut files, timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Whether a paste goes on after a line break.
    pub(super) fn paste_goes_on(&self) -> bool {
        #[cfg(unix)]
        return self.has_input(PASTE_GAP);
        #[cfg(not(unix))]
        false
    }
}
