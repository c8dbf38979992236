//! SIGINT, SIGTERM and SIGHUP: they end the process with 130, 143 and 129, at
//! once where nothing can be lost, and after the write where a session exists
//! in memory alone (codes: 128 plus the signal's number, as shells count).
//!
//! The watching thread starts at the first wait of a run; a command that waits
//! for nobody has none.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::SessionError;

type End = dyn Fn(i32) + Send + Sync;
type Delayed = dyn Fn() + Send + Sync;

/// What a signal does, and what it waits for.
#[derive(Clone)]
pub struct Interrupts(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    watching: OnceLock<()>,
    end: Box<End>,
    delayed: Box<Delayed>,
}

#[derive(Default)]
struct State {
    deferrals: usize,
    pending: Option<i32>,
    at_end: Vec<Box<dyn FnOnce() + Send>>,
}

impl State {
    /// Does what must be done before the process ends.
    fn clean_up(&mut self) {
        self.at_end.drain(..).for_each(|act| act());
    }
}

/// While it lives, signals wait. When the last one is dropped, a signal that
/// came meanwhile ends the process.
pub struct Deferral<'a>(&'a Shared);

impl Interrupts {
    /// `end` ends the process for a signal; `delayed` tells the person that
    /// the signal was heard and has to wait.
    #[must_use]
    pub fn new(end: Box<End>, delayed: Box<Delayed>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            watching: OnceLock::new(),
            end,
            delayed,
        }))
    }

    /// From here on, signals come to us.
    pub fn watch(&self) {
        self.0.watching.get_or_init(|| watch(&self.0));
    }

    /// Has `act` called before a signal ends the process.
    pub fn on_end(&self, act: Box<dyn FnOnce() + Send>) {
        self.watch();
        self.0.lock().at_end.push(act);
    }

    /// From here on until the value is dropped, signals wait.
    #[must_use]
    pub fn defer(&self) -> Deferral<'_> {
        self.watch();
        self.0.lock().deferrals += 1;
        Deferral(&self.0)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: i32) {
        let mut state = self.lock();
        if state.deferrals == 0 {
            // The lock stays held: no deferral can begin while the process ends.
            state.clean_up();
            (self.end)(signal);
        } else {
            let first = state.pending.replace(signal).is_none();
            drop(state);
            if first {
                (self.delayed)();
            }
        }
    }
}

impl Deferral<'_> {
    /// Ends the deferral with what it was for. A failure that has to be told,
    /// as nobody could learn of it later, goes before a signal that waits.
    pub fn end<T>(self, result: Result<T, SessionError>) -> Result<T, SessionError> {
        if let Err(error) = &result
            && !matches!(error, SessionError::Api(_))
        {
            self.0.lock().pending = None;
        }
        result
    }
}

impl Drop for Deferral<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.deferrals -= 1;
        if state.deferrals == 0
            && let Some(signal) = state.pending.take()
        {
            state.clean_up();
            (self.0.end)(signal);
        }
    }
}

#[cfg(unix)]
fn watch(shared: &Arc<Shared>) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    // A signal that was ignored when we started (nohup, a background job of a
    // script) is not ours to bring back; signal-hook replaces handlers
    // without asking, so only those are asked for that are not ignored.
    let ignored = ignored();
    let signals = [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let Ok(mut signals) = Signals::new(signals) else {
        return;
    };
    let shared = Arc::clone(shared);
    // Without the thread, the signals' handlers swallow them: the process then
    // ends by itself when its time-outs are over.
    drop(
        std::thread::Builder::new()
            .name("signals".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || {
                for signal in signals.forever() {
                    shared.signal(signal);
                }
            }),
    );
}

/// Ctrl-C and Ctrl-Break; Windows has no other of the three.
#[cfg(windows)]
fn watch(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    // A second handler in the process cannot be: then its maker's stays.
    drop(ctrlc::set_handler(move || shared.signal(2)));
}

/// The signals that the process was started with as ignored, a bit each, the
/// lowest for signal 1 (signal(7): inherited over execve). Only Linux tells
/// without changing it.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}
