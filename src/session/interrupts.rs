//! SIGINT, SIGTERM and SIGHUP end the process with status 130, 143 or 129: 128 plus the
//! number of the signal, as in shells. The process ends at once, or after new tokens are
//! stored if they exist only in memory.
//!
//! The thread that receives signals starts when the run first waits for something.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::SessionError;

type EndProcess = dyn Fn(i32) + Send + Sync;
type ReportDeferred = dyn Fn() + Send + Sync;

/// Handles the signals of the process. Clones share their state.
#[derive(Clone)]
pub(crate) struct Interrupts(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Set once signals are handled.
    is_started: OnceLock<()>,
    end_process: Box<EndProcess>,
    report_deferred: Box<ReportDeferred>,
}

#[derive(Default)]
struct State {
    /// The number of current deferrals.
    deferrals: usize,
    /// The deferred signal, which ends the process after the last deferral.
    deferred: Option<i32>,
    /// Whether another signal arrived while one was deferred.
    is_repeated: bool,
    forwarding: Forwarding,
    /// A deferred signal that did not end the process, so that a failure could be reported.
    unhandled: Option<i32>,
    shutdown_hooks: Vec<Box<dyn FnOnce() + Send>>,
}

/// Whether signals are sent to a child process instead of ending this process.
#[derive(Default)]
enum Forwarding {
    #[default]
    Off,
    /// The child process has not started yet. It receives these signals once it has.
    BeforeStart(Vec<i32>),
    /// Signals are sent to the child process with this ID.
    ToChild(u32),
    /// The child process has exited, so signals have no effect.
    AfterExit,
}

impl State {
    fn run_shutdown_hooks(&mut self) {
        self.shutdown_hooks.drain(..).for_each(|hook| hook());
    }
}

/// Defers signals until it is dropped. When the last deferral is dropped, a deferred
/// signal ends the process.
pub(crate) struct Deferral<'a>(&'a Shared);

impl Interrupts {
    /// `end_process` ends the process for a signal. `report_deferred` reports that a
    /// signal was received and is deferred.
    pub(crate) fn new(end_process: Box<EndProcess>, report_deferred: Box<ReportDeferred>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            is_started: OnceLock::new(),
            end_process,
            report_deferred,
        }))
    }

    /// Starts handling signals, unless that was done before.
    pub(crate) fn start_handling_signals(&self) {
        self.0.is_started.get_or_init(|| start_receiving(&self.0));
    }

    /// Registers a function that is called before a signal ends the process.
    pub(crate) fn on_shutdown(&self, hook: Box<dyn FnOnce() + Send>) {
        self.start_handling_signals();
        self.0.lock().shutdown_hooks.push(hook);
    }

    /// Must be called before a child process starts. From now on, signals are meant for the
    /// child process and do not end this process. On Unix, these are also SIGQUIT, SIGUSR1 and
    /// SIGUSR2.
    pub(crate) fn prepare_forwarding(&self) {
        self.0.lock().forwarding = Forwarding::BeforeStart(Vec::new());
        self.start_handling_signals();
        #[cfg(unix)]
        start_signal_thread(
            &self.0,
            &[
                signal_hook::consts::SIGQUIT,
                signal_hook::consts::SIGUSR1,
                signal_hook::consts::SIGUSR2,
            ],
        );
    }

    /// Sends signals to the child process, including those that arrived before it started.
    pub(crate) fn forward_to(&self, process: u32) {
        let mut state = self.0.lock();
        let forwarding = std::mem::replace(&mut state.forwarding, Forwarding::ToChild(process));
        if let Forwarding::BeforeStart(signals) = forwarding {
            for signal in signals {
                // Send a Ctrl-C too. The terminal sends it only to processes that exist, so the
                // child process may have missed it. If not, the child process has exited,
                // because it had no time to install a handler.
                send(process, signal);
            }
        }
    }

    /// Stops sending signals, because the child process has exited.
    pub(crate) fn stop_forwarding(&self) {
        self.0.lock().forwarding = Forwarding::AfterExit;
    }

    /// Whether a signal arrived that did not end the process, so that a failure could be
    /// reported. A command with several steps must then stop.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.0.lock().unhandled.is_some()
    }

    /// Whether a second signal arrived while the first one was deferred. The run must then
    /// stop waiting.
    pub(crate) fn is_repeated(&self) -> bool {
        self.0.lock().is_repeated
    }

    /// Defers signals until the returned value is dropped.
    pub(crate) fn defer(&self) -> Deferral<'_> {
        self.start_handling_signals();
        self.0.lock().deferrals += 1;
        Deferral(&self.0)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, signal: i32) {
        let mut state = self.lock();
        match &mut state.forwarding {
            Forwarding::Off => {}
            Forwarding::BeforeStart(signals) => return signals.push(signal),
            Forwarding::ToChild(process) => return forward(*process, signal),
            Forwarding::AfterExit => return,
        }
        if state.deferrals == 0 {
            // The lock is still held, so that no deferral can begin now.
            state.run_shutdown_hooks();
            (self.end_process)(signal);
        } else {
            let is_first = state.deferred.replace(signal).is_none();
            state.is_repeated |= !is_first;
            drop(state);
            if is_first {
                (self.report_deferred)();
            }
        }
    }
}

impl Deferral<'_> {
    /// Ends the deferral and returns `result`. Any failure other than that of a request must
    /// be reported now, because the next run cannot detect it. A deferred signal then does not
    /// end the process: see [`Interrupts::is_interrupted`].
    pub(super) fn finish<T>(self, result: Result<T, SessionError>) -> Result<T, SessionError> {
        if let Err(error) = &result
            && !matches!(error, SessionError::Api(_))
        {
            self.cancel_exit();
        }
        result
    }

    /// Keeps a deferred signal from ending the process, so that a failure can be reported.
    pub(super) fn cancel_exit(&self) {
        let mut state = self.0.lock();
        let deferred = state.deferred.take();
        state.unhandled = state.unhandled.or(deferred);
    }
}

impl Drop for Deferral<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.deferrals -= 1;
        if state.deferrals == 0
            && let Some(signal) = state.deferred.take()
        {
            state.run_shutdown_hooks();
            (self.0.end_process)(signal);
        }
    }
}

#[cfg(unix)]
fn start_receiving(shared: &Arc<Shared>) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    start_signal_thread(shared, &[SIGINT, SIGTERM, SIGHUP]);
}

/// Starts a thread that handles `signals`.
#[cfg(unix)]
fn start_signal_thread(shared: &Arc<Shared>, signals: &[i32]) {
    use signal_hook::iterator::Signals;

    // A signal that was ignored when the process started (by nohup, or in a background job
    // of a script) must stay ignored. signal-hook would replace that.
    let ignored_signals = ignored_signals();
    let signals = signals
        .iter()
        .filter(|&signal| ignored_signals & (1 << (signal - 1)) == 0);
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
                    shared.handle(signal);
                }
            }),
    );
}

/// Sends a signal to a process, unless the terminal has sent it: the terminal sends Ctrl-C
/// and Ctrl-\ to all foreground processes.
#[cfg(unix)]
fn forward(process: u32, signal: i32) {
    use rustix::process::{Signal, getpgrp};

    let is_from_terminal = [Signal::INT.as_raw(), Signal::QUIT.as_raw()].contains(&signal)
        && rustix::termios::tcgetpgrp(std::io::stdin()).is_ok_and(|group| group == getpgrp());
    if !is_from_terminal {
        send(process, signal);
    }
}

/// Sends a signal to a process. Does nothing if the process has exited.
#[cfg(unix)]
fn send(process: u32, signal: i32) {
    use rustix::process::{Pid, Signal, kill_process};

    let target = i32::try_from(process).ok().and_then(Pid::from_raw);
    if let (Some(target), Some(signal)) = (target, Signal::from_named_raw(signal)) {
        let _ = kill_process(target, signal);
    }
}

/// Does nothing, because the console sends Ctrl-C to the child process itself.
#[cfg(windows)]
fn forward(_process: u32, _signal: i32) {}

#[cfg(windows)]
fn send(_process: u32, _signal: i32) {}

/// Handles Ctrl-C and Ctrl-Break. Windows has no other signals.
#[cfg(windows)]
fn start_receiving(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    // A process can have only one handler. An existing handler stays in place.
    drop(ctrlc::set_handler(move || shared.handle(2)));
}

/// Returns the signals that were ignored when the process started, one bit per signal, with
/// the lowest bit for signal 1. A process inherits them from its parent (signal(7)). Only
/// Linux lets us read them.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// `forward_to` must send a Ctrl-C even if the terminal has sent it. If it did not, this
    /// would fail at a terminal only: only there, a Ctrl-C is taken for one that the child
    /// process has received too.
    #[test]
    fn a_signal_that_arrives_before_the_child_process_starts_is_sent_to_it() {
        let interrupts = Interrupts::new(Box::new(|_| ()), Box::new(|| ()));
        interrupts.0.lock().forwarding = Forwarding::BeforeStart(Vec::new());
        interrupts.0.handle(signal_hook::consts::SIGINT);
        let mut child = Command::new("sleep").arg("10").spawn().unwrap();
        interrupts.forward_to(child.id());
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal_hook::consts::SIGINT));
    }
}
