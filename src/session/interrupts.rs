//! SIGINT, SIGTERM and SIGHUP end the process with 130, 143 and 129 (128 plus
//! the signal's number, as shells count): at once if nothing can be lost, and
//! after the write while a session exists only in memory.
//!
//! The thread that receives signals starts at the first wait of a run.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::SessionError;

type End = dyn Fn(i32) + Send + Sync;
type Delayed = dyn Fn() + Send + Sync;

/// Handles the signals of the process. Clones share their state.
#[derive(Clone)]
pub(crate) struct Interrupts(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    watching: OnceLock<()>,
    end: Box<End>,
    delayed: Box<Delayed>,
}

#[derive(Default)]
struct State {
    deferrals: usize,
    /// The signal that ends the process after the last deferral.
    pending: Option<i32>,
    /// Whether a second signal came while the first one waits.
    is_repeated: bool,
    /// Whether signals are meant for a child process.
    forwards: bool,
    /// The child process, while it runs.
    forward_to: Option<u32>,
    /// The signals for a child process that has not started yet.
    kept: Vec<i32>,
    /// A signal that was not acted on, because a failure had to be reported.
    remembered: Option<i32>,
    at_end: Vec<Box<dyn FnOnce() + Send>>,
}

impl State {
    fn clean_up(&mut self) {
        self.at_end.drain(..).for_each(|act| act());
    }
}

/// Defers signals until it is dropped. When the last deferral is dropped, a
/// signal that arrived in the meantime ends the process.
pub(crate) struct Deferral<'a>(&'a Shared);

impl Interrupts {
    /// `end` ends the process for a signal. `delayed` reports that the signal
    /// was received and must wait.
    pub(crate) fn new(end: Box<End>, delayed: Box<Delayed>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            watching: OnceLock::new(),
            end,
            delayed,
        }))
    }

    /// Starts handling signals.
    pub(crate) fn watch(&self) {
        self.0.watching.get_or_init(|| watch(&self.0));
    }

    /// Registers `act` to be called before a signal ends the process.
    pub(crate) fn on_shutdown(&self, act: Box<dyn FnOnce() + Send>) {
        self.watch();
        self.0.lock().at_end.push(act);
    }

    /// Starts keeping signals for a child process, including SIGQUIT, SIGUSR1 and
    /// SIGUSR2. After this call no signal ends this process.
    pub(crate) fn prepare_forwarding(&self) {
        self.0.lock().forwards = true;
        self.watch();
        #[cfg(unix)]
        watch_for(
            &self.0,
            &[
                signal_hook::consts::SIGQUIT,
                signal_hook::consts::SIGUSR1,
                signal_hook::consts::SIGUSR2,
            ],
        );
    }

    /// Sends signals to the child process, first those that were kept.
    pub(crate) fn forward_to(&self, process: u32) {
        let mut state = self.0.lock();
        state.forward_to = Some(process);
        for signal in state.kept.drain(..) {
            forward(process, signal);
        }
    }

    /// Stops sending signals, because the child process has ended.
    pub(crate) fn stop_forwarding(&self) {
        self.0.lock().forward_to = None;
    }

    /// Whether a signal was not acted on because a failure had to be reported. A
    /// command that does several things must then stop.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.0.lock().remembered.is_some()
    }

    /// Whether a second signal arrived while the first is deferred, so that the
    /// wait must be given up.
    pub(crate) fn is_repeated(&self) -> bool {
        self.0.lock().is_repeated
    }

    /// Defers signals until the returned value is dropped.
    pub(crate) fn defer(&self) -> Deferral<'_> {
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
        if state.forwards {
            match state.forward_to {
                Some(process) => forward(process, signal),
                None => state.kept.push(signal),
            }
        } else if state.deferrals == 0 {
            // The lock is still held, so that no deferral can begin now.
            state.clean_up();
            (self.end)(signal);
        } else {
            let first = state.pending.replace(signal).is_none();
            state.is_repeated |= !first;
            drop(state);
            if first {
                (self.delayed)();
            }
        }
    }
}

impl Deferral<'_> {
    /// Ends the deferral and returns `result`. A failure that the next run could
    /// not detect must be reported, so a deferred signal is then only remembered:
    /// see [`Interrupts::is_interrupted`].
    pub(super) fn finish<T>(self, result: Result<T, SessionError>) -> Result<T, SessionError> {
        if let Err(error) = &result
            && !matches!(error, SessionError::Api(_))
        {
            self.remember_signal();
        }
        result
    }

    /// Remembers a deferred signal instead of acting on it, so that a failure can
    /// be reported.
    pub(super) fn remember_signal(&self) {
        let mut state = self.0.lock();
        let pending = state.pending.take();
        state.remembered = state.remembered.or(pending);
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
    watch_for(shared, &[SIGINT, SIGTERM, SIGHUP]);
}

#[cfg(unix)]
fn watch_for(shared: &Arc<Shared>, signals: &[i32]) {
    use signal_hook::iterator::Signals;

    // A signal that was ignored when the process started (nohup, a background
    // job of a script) must stay ignored; signal-hook would replace that.
    let ignored = ignored();
    let signals = signals
        .iter()
        .filter(|&signal| ignored & (1 << (signal - 1)) == 0);
    let Ok(mut signals) = Signals::new(signals) else {
        return;
    };
    let shared = Arc::clone(shared);
    // If the thread cannot be started, signals have no effect, and the process
    // ends after its timeouts.
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

/// Sends a signal to a process. The terminal sends Ctrl-C and Ctrl-\ to all
/// foreground processes, so these are not sent a second time.
#[cfg(unix)]
fn forward(process: u32, signal: i32) {
    use rustix::process::{Pid, Signal, getpgrp, kill_process};

    let from_terminal = [Signal::INT.as_raw(), Signal::QUIT.as_raw()].contains(&signal)
        && rustix::termios::tcgetpgrp(std::io::stdin()).is_ok_and(|group| group == getpgrp());
    let target = i32::try_from(process).ok().and_then(Pid::from_raw);
    if let (false, Some(target), Some(signal)) =
        (from_terminal, target, Signal::from_named_raw(signal))
    {
        // The process may have ended in the meantime.
        let _ = kill_process(target, signal);
    }
}

/// The console sends Ctrl-C to the child itself.
#[cfg(windows)]
fn forward(_process: u32, _signal: i32) {}

/// Watches for Ctrl-C and Ctrl-Break. Windows has none of the others.
#[cfg(windows)]
fn watch(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    // A process can have only one handler. An existing handler stays in place.
    drop(ctrlc::set_handler(move || shared.signal(2)));
}

/// The signals that were ignored when the process started, one bit per signal,
/// the lowest for signal 1 (signal(7): inherited over execve). Only Linux shows
/// them.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}
