//! A sign of life on stderr while something is waited for: after 300 ms, on a
//! terminal alone, gone without a trace.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Waits shorter than this show nothing.
const DELAY: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(100);

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

    pub(super) fn start(what: &str) -> Self {
        let what = what.to_owned();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("spinner".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                if stopped.recv_timeout(DELAY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                    bar.set_style(style);
                }
                bar.set_message(what);
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    bar.tick();
                }
                bar.finish_and_clear();
            });
        Self(thread.ok().map(|thread| Running { stop, thread }))
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
