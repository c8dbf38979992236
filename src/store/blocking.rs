//! Runs blocking system calls with a timeout.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Runs `call` in a thread and returns its result, or `None` at the timeout. The thread
/// then keeps running, since a blocked system call cannot be cancelled. An error means
/// that the thread could not be started or panicked.
pub(super) fn run_with_timeout<T: Send + 'static>(
    timeout: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new().spawn(move || {
        // Sending fails after the timeout, and drops the result.
        drop(sender.send(call()));
    })?;
    match receiver.recv_timeout(timeout) {
        Ok(result) => Ok(Some(result)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread ended early")),
    }
}
