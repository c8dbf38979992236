//! A sign of life on stderr while something is waited for: after 300 ms, on a
//! terminal alone, gone without a trace.
//!
//! The thread that draws and whoever writes a message share a [`Screen`], so
//! that neither writes into the other's line. Does not know what is waited for.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use console::{Term, measure_text_width};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::lock;

/// Waits shorter than this show nothing.
const DELAY: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(100);

/// What is on the last line of the person's screen.
#[derive(Default)]
pub(super) struct Screen {
    /// The spinner that is drawn at the moment.
    bar: Option<ProgressBar>,
    /// Nothing is drawn any more: the process ends.
    closed: bool,
}

impl Screen {
    /// Writes messages with the spinner out of the way.
    pub(super) fn aside(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the spinner away until its next tick: for a line on stdout, which
    /// may block and must not hold the screen meanwhile.
    pub(super) fn hide(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Takes the spinner away for good.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.hide();
    }
}

/// Shows what is waited for until it is dropped.
#[must_use = "the spinner ends when this is dropped"]
pub struct Spinner(Option<Running>);

struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Spinner {
    /// A spinner that shows nothing.
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn start(what: &str, screen: Arc<Mutex<Screen>>) -> Self {
        let what = what.to_owned();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("spinner".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                let mut wait = DELAY;
                while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    wait = TICK;
                    if !draw(&mut lock(&screen), &what) {
                        return;
                    }
                }
                lock(&screen).hide();
            });
        Self(thread.ok().map(|thread| Running { stop, thread }))
    }
}

/// Draws one step; `false` when nothing is drawn any more.
fn draw(screen: &mut Screen, what: &str) -> bool {
    if screen.closed {
        return false;
    }
    let bar = screen.bar.get_or_insert_with(|| {
        let line = Narrow {
            term: Term::stderr(),
            columns: measure_text_width(what) + 2,
        };
        let target = ProgressDrawTarget::term_like(Box::new(line));
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar
    });
    bar.tick();
    true
}

/// Stderr, no wider than the spinner: indicatif fills its line up with blanks to
/// the width, and then the `^C` that the terminal echoes begins a second row, as
/// does the line itself when the window shrinks, and one row would stay behind.
#[derive(Debug)]
struct Narrow {
    term: Term,
    columns: usize,
}

impl TermLike for Narrow {
    fn width(&self) -> u16 {
        let room = self.term.size().1.saturating_sub(3).max(1);
        u16::try_from(self.columns).map_or(room, |columns| room.min(columns))
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_left(n)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.term.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.term.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.term.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.term.flush()
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(Running { stop, thread }) = self.0.take() {
            drop(stop);
            // The thread ends at once; what it has drawn must be gone before
            // anything else is written.
            drop(thread.join());
        }
    }
}
