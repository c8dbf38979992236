//! The spinner. It appears on stderr after 300 ms and is erased at its end.
//!
//! Messages are written through the same [`Screen`], so that neither is written
//! into the line of the other.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use console::{Term, measure_text_width};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike, WeakProgressBar};

/// Waits shorter than this show nothing.
const DELAY: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(100);

/// Stderr, and the spinner on its last line.
pub(super) struct Screen {
    stderr: Box<dyn Write + Send>,
    bar: WeakProgressBar,
    /// The process is about to end; no further spinner may start.
    closed: bool,
}

impl Screen {
    pub(super) fn new(stderr: Box<dyn Write + Send>) -> Self {
        Self {
            stderr,
            bar: WeakProgressBar::default(),
            closed: false,
        }
    }

    /// Writes a message; the spinner is erased meanwhile.
    pub(super) fn print(&mut self, text: &[u8]) {
        let stderr = &mut self.stderr;
        let mut write = || drop(stderr.write_all(text));
        match self.bar.upgrade() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Removes the spinner before output on stdout, which may block.
    pub(super) fn hide(&self) {
        if let Some(bar) = self.bar.upgrade() {
            bar.finish_and_clear();
        }
    }

    /// Removes the spinner for good.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.hide();
    }

    /// Starts a spinner, unless there is one.
    pub(super) fn spin(&mut self, what: &str) -> Spinner {
        if self.closed || self.bar.upgrade().is_some() {
            return Spinner::none();
        }
        let line = Line {
            term: Term::stderr(),
            columns: measure_text_width(what) + 2,
            from: Instant::now() + DELAY,
        };
        let target = ProgressDrawTarget::term_like(Box::new(line));
        let bar = ProgressBar::with_draw_target(None, target).with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        self.bar = bar.downgrade();
        Spinner(Some(bar))
    }
}

/// A spinner on the screen until it is dropped.
#[must_use = "the spinner ends when this is dropped"]
pub(crate) struct Spinner(Option<ProgressBar>);

impl Spinner {
    /// A spinner that shows nothing.
    pub(super) fn none() -> Self {
        Self(None)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// Stderr for indicatif, which has no delay and pads its line with blanks to the
/// width of the terminal. Nothing is drawn before `from`, and the width is that of
/// the spinner: after a full row, the `^C` that the terminal echoes, or a smaller
/// window, would leave a row behind.
#[derive(Debug)]
struct Line {
    term: Term,
    columns: usize,
    from: Instant,
}

impl Line {
    fn draw(&self, draw: impl FnOnce(&Term) -> io::Result<()>) -> io::Result<()> {
        if Instant::now() < self.from {
            return Ok(());
        }
        draw(&self.term)
    }
}

impl TermLike for Line {
    fn width(&self) -> u16 {
        let room = self.term.size().1.saturating_sub(3).max(1);
        u16::try_from(self.columns).map_or(room, |columns| room.min(columns))
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_up(n))
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_down(n))
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_right(n))
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_left(n))
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(|term| term.write_line(text))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(|term| term.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(Term::clear_line)
    }

    fn flush(&self) -> io::Result<()> {
        self.term.flush()
    }
}
