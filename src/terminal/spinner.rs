//! The spinner. It appears on stderr after a delay and is erased when it ends.
//!
//! Messages are written through the same [`Screen`], so that messages and the spinner are
//! never mixed in one line.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use console::{Term, measure_text_width};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike, WeakProgressBar};

/// Delay before a spinner is drawn. A spinner that ends earlier is never drawn.
const DRAW_DELAY: Duration = Duration::from_millis(300);
const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// Stderr, and the spinner in its last line, if one is running.
pub(super) struct Screen {
    stderr: Box<dyn Write + Send>,
    /// The running spinner. The [`Spinner`] owns it and removes it when dropped.
    bar: WeakProgressBar,
    /// Whether the process is about to end, so that no further spinner may start.
    is_closed: bool,
}

impl Screen {
    pub(super) fn new(stderr: Box<dyn Write + Send>) -> Self {
        Self {
            stderr,
            bar: WeakProgressBar::default(),
            is_closed: false,
        }
    }

    /// Writes a message. Erases the spinner before, and draws it again after.
    pub(super) fn print(&mut self, text: &[u8]) {
        let stderr = &mut self.stderr;
        let mut write = || drop(stderr.write_all(text));
        match self.bar.upgrade() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Removes the spinner. Call this before writing to stdout, which may block.
    pub(super) fn hide(&self) {
        if let Some(bar) = self.bar.upgrade() {
            bar.finish_and_clear();
        }
    }

    /// Removes the spinner and prevents further spinners.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.hide();
    }

    /// Starts a spinner with this text, unless one is running already.
    pub(super) fn spin(&mut self, text: &str) -> Spinner {
        if self.is_closed || self.bar.upgrade().is_some() {
            return Spinner::hidden();
        }
        let term = SpinnerTerm {
            term: Term::stderr(),
            columns: measure_text_width(text) + 2,
            draw_after: Instant::now() + DRAW_DELAY,
        };
        let target = ProgressDrawTarget::term_like(Box::new(term));
        let bar = ProgressBar::with_draw_target(None, target).with_message(text.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK_INTERVAL);
        self.bar = bar.downgrade();
        Spinner(Some(bar))
    }
}

/// Shows a spinner until it is dropped.
#[must_use = "the spinner ends when this is dropped"]
pub(crate) struct Spinner(Option<ProgressBar>);

impl Spinner {
    /// Returns a spinner that is never drawn.
    pub(super) fn hidden() -> Self {
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

/// The stderr that indicatif draws on. It adds two features that indicatif lacks:
///
/// - Nothing is drawn before `draw_after`.
/// - The reported width is that of the spinner, not of the terminal. indicatif pads its
///   line to the reported width. If that filled a whole row, the `^C` that the terminal
///   echoes, or a resize of the window, would wrap the row, and a part would not be erased.
#[derive(Debug)]
struct SpinnerTerm {
    term: Term,
    columns: usize,
    draw_after: Instant,
}

impl SpinnerTerm {
    fn draw(&self, draw: impl FnOnce(&Term) -> io::Result<()>) -> io::Result<()> {
        if Instant::now() < self.draw_after {
            return Ok(());
        }
        draw(&self.term)
    }
}

impl TermLike for SpinnerTerm {
    fn width(&self) -> u16 {
        let available = self.term.size().1.saturating_sub(3).max(1);
        u16::try_from(self.columns).map_or(available, |columns| available.min(columns))
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
