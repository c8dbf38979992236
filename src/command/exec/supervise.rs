//! `exec --token-file`: runs the command as a child process, and keeps the current access
//! token in a file until the command exits.

use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Outcome;
use crate::model::{Expiry, Remaining, Timestamp};
use crate::session::Credential;
use crate::store::TokenFile;

/// The environment variable that holds the path of the token file.
pub(super) const TOKEN_FILE: &str = "REMEMBERIZER_TOKEN_FILE";

/// Maximum pause between two checks of the clock, which may jump while the
/// machine sleeps.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Minimum pause between two attempts to renew the token.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// Maximum interval between two checks whether the token in the file has expired.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long before its expiry a token is removed from the file. The server may have rounded
/// the expiry up to a whole second, and a command may read the file just before the removal.
const EXPIRY_MARGIN: Duration = Duration::from_millis(1250);

/// Runs the command and returns its exit code.
pub(super) fn supervise(
    context: &Context<'_>,
    mut credential: Credential<'_>,
    min_ttl: Duration,
    mut command: Command,
) -> Result<i32, Error> {
    let file = TokenFile::create(&context.runtime_dir())?;
    command.env(TOKEN_FILE, file.path());
    let mut updater = FileUpdater {
        context,
        state: Arc::new(Mutex::new(FileState {
            file,
            remove_at: None,
        })),
        min_ttl,
        expiry: None,
        round_trip: Duration::ZERO,
        last_failure_code: None,
    };
    updater.write(&credential)?;
    context.interrupts.prepare_forwarding();
    let mut child = super::spawn(&mut command)?;
    context.interrupts.forward_to(child.id());
    updater.watch_expiry()?;
    let (status_sender, status_receiver) = mpsc::sync_channel(1);
    let interrupts = context.interrupts.clone();
    std::thread::Builder::new()
        .name("child".to_owned())
        .spawn(move || {
            let status = child.wait();
            // Stop forwarding now, since another process may get the child's process ID.
            interrupts.stop_forwarding();
            drop(status_sender.send(status));
        })?;
    loop {
        match status_receiver.recv_timeout(updater.time_until_check()) {
            Ok(status) => return Ok(exit_code(status?)),
            Err(RecvTimeoutError::Timeout) => updater.renew(&mut credential),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(std::io::Error::other("could not wait for the command").into());
            }
        }
    }
}

/// Returns the exit code as shells report it: 128 plus the signal number if a signal ended
/// the command.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128 + signal;
    }
    status.code().unwrap_or(1)
}

/// The token file, and the time at which its token must be removed, if known.
struct FileState {
    file: TokenFile,
    remove_at: Option<Timestamp>,
}

fn lock(state: &Mutex<FileState>) -> MutexGuard<'_, FileState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces the token in the file before it expires.
struct FileUpdater<'c> {
    context: &'c Context<'c>,
    state: Arc<Mutex<FileState>>,
    min_ttl: Duration,
    /// The expiry of the token in the file, calculated as if the server had issued the token
    /// when the request was sent. The real expiry is later by at most `round_trip`.
    expiry: Option<Expiry>,
    /// The time between the request and its response. Zero if another process renewed the
    /// token. Does not include waiting for a lock or for a rotation command.
    round_trip: Duration,
    /// The exit code of the last failure. A failure with the same code is not reported
    /// again.
    last_failure_code: Option<u8>,
}

impl FileUpdater<'_> {
    /// Writes the token to the file, and records when to remove it.
    fn write(&mut self, credential: &Credential<'_>) -> Result<(), Error> {
        let mut state = lock(&self.state);
        // Record the expiry only after the write: if the write fails, the old expiry makes the
        // next check try again.
        state.file.write(credential.access_token()?)?;
        let expiry = credential.access_expiry();
        self.round_trip = expiry.map_or(Duration::ZERO, Expiry::round_trip);
        let millis = i64::try_from(self.round_trip.as_millis()).unwrap_or_default();
        self.expiry = expiry.map(|expiry| expiry.shifted_by_millis(-millis));
        state.remove_at = self.expiry.and_then(|expiry| {
            // For short-lived tokens, limit the margin to 2/5 of the lifetime.
            let max_margin = self.lifetime().map(|lifetime| lifetime * 2 / 5);
            let margin = max_margin.map_or(EXPIRY_MARGIN, |max| EXPIRY_MARGIN.min(max));
            let millis = i64::try_from(margin.as_millis()).unwrap_or_default();
            Some(expiry.expires_at()?.plus_millis(-millis))
        });
        Ok(())
    }

    /// Starts a thread that removes the file when its token expires. The main thread cannot
    /// do that, since it may be waiting for the server.
    fn watch_expiry(&self) -> std::io::Result<()> {
        let shared_state = Arc::clone(&self.state);
        let (terminal, now) = (
            self.context.terminal.clone(),
            Arc::clone(&self.context.host.now),
        );
        let watch = move || {
            loop {
                let mut state = lock(&shared_state);
                let remaining_millis = state.remove_at.map(|time| time.millis_since(now()));
                if remaining_millis.is_none_or(|millis| millis > 0) {
                    drop(state);
                    let millis = remaining_millis.map_or(u64::MAX, i64::unsigned_abs);
                    std::thread::sleep(Duration::from_millis(millis).min(EXPIRY_CHECK_INTERVAL));
                    continue;
                }
                state.remove_at = None;
                let result = state.file.clear();
                drop(state);
                terminal.warn(
                    "the access token has expired; the token file is removed until the token has been renewed",
                );
                if let Err(error) = result {
                    terminal.warn(&error.message);
                }
            }
        };
        std::thread::Builder::new()
            .name("expiry".to_owned())
            .spawn(watch)
            .map(drop)
    }

    /// Returns the time from the receipt of the token to its expiry, if known.
    fn lifetime(&self) -> Option<Duration> {
        let expiry = self.expiry?;
        let millis = expiry.expires_at()?.millis_since(expiry.received_at());
        u64::try_from(millis).ok().map(Duration::from_millis)
    }

    /// Returns the remaining lifetime at which to renew the token: `--min-ttl`, or twice the
    /// margin if that is longer, so that the token is renewed before it is removed from the
    /// file. It is at most two thirds of the lifetime.
    fn renewal_threshold(&self) -> Duration {
        let threshold = self.min_ttl.max(2 * EXPIRY_MARGIN);
        let max = self.lifetime().map(|lifetime| lifetime * 2 / 3);
        max.map_or(threshold, |max| threshold.min(max))
    }

    fn remaining(&self) -> Remaining {
        let now = (self.context.host.now)();
        self.expiry
            .map_or(Remaining::Unknown, |expiry| expiry.remaining(now))
    }

    /// Returns how long to wait for the command before the next check of the token.
    fn time_until_check(&self) -> Duration {
        let time = match self.remaining() {
            // After a failure, retry several times before the token expires.
            Remaining::Time(remaining) if self.last_failure_code.is_some() => remaining / 4,
            Remaining::Time(remaining) => remaining.saturating_sub(self.renewal_threshold()),
            Remaining::Expired | Remaining::Unknown => MAX_PAUSE,
        };
        time.clamp(MIN_PAUSE, MAX_PAUSE)
    }

    /// Renews the token if its remaining lifetime is at most the threshold. Reports a
    /// failure. The next call retries, even after a permanent failure, since another process
    /// may have logged in by then.
    fn renew(&mut self, credential: &mut Credential<'_>) {
        let is_due = match self.remaining() {
            Remaining::Unknown => false,
            Remaining::Expired => true,
            Remaining::Time(remaining) => remaining <= self.renewal_threshold(),
        };
        if !is_due {
            return;
        }
        let terminal = self.context.terminal;
        let renewed = credential
            .renew_if_expires_within(self.renewal_threshold() + self.round_trip)
            .map_err(Error::from)
            .and_then(|()| self.write(credential));
        match renewed {
            Ok(()) => {
                if self.last_failure_code.take().is_some() {
                    terminal.note("the access token was renewed");
                }
            }
            Err(error) => {
                let failure = self.context.to_failure(error);
                let code = failure.outcome.exit_code();
                if self.last_failure_code.replace(code) == Some(code) {
                    return;
                }
                let mut text = format!("the access token was not renewed: {failure}");
                // After a login in another shell, the next attempt uses the new session.
                if let (Outcome::NotSignedIn | Outcome::SessionEnded, Some(login)) =
                    (failure.outcome, &failure.hint)
                {
                    text += &format!("; to sign in again, run: {login}");
                }
                terminal.warn(&text);
            }
        }
    }
}

impl Drop for FileUpdater<'_> {
    fn drop(&mut self) {
        // Remove the file now: the thread of `watch_expiry` also owns the state, so dropping
        // this reference does not drop the file.
        lock(&self.state).file.close();
    }
}
