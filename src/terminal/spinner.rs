//! The spinner: on stderr, on a terminal alone, after 300 ms, and removed without a trace.
//!
//! Messages go through the same [`Screen`], so that neither writes into the
//! other's line. Does not know what is waited for.

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
    /// The process is about to end; no spinner is drawn any more.
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

    /// Writes a message with the spinner out of the way.
    pub(super) fn print(&mut self, text: &[u8]) {
        let stderr = &mut self.stderr;
        let mut write = || drop(stderr.write_all(text));
        match self.bar.upgrade() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Removes the spinner: for output on stdout, which may block and must not hold the screen.
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

/// Shows what is waited for until it is dropped.
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

/// Stderr from an instant on, since indicatif has no delay of its own; and no
/// wider than the spinner: indicatif pads its line with blanks to the width, and
/// then the `^C` that the terminal echoes begins a second row, as does the line
/// itself when the window shrinks, and one row would stay behind.
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
