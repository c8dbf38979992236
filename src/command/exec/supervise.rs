//! `exec --token-file`: stays as the parent of the command and keeps a file
//! with the current access token fresh until the command ends.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Outcome;
use crate::model::{Expiry, Remaining, Timestamp};
use crate::session::Credential;
use crate::store::TokenFile;

/// The variable that names the file.
pub(super) const TOKEN_FILE: &str = "REMEMBERIZER_TOKEN_FILE";

/// Maximum pause between two checks of the clock, which may jump while the
/// machine sleeps.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Minimum pause between two attempts to renew the token.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// Maximum interval of the checks whether the token in the file has expired.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long before it expires a token is removed from the file. Servers round
/// to whole seconds, and the file may be read a moment before it is removed.
const EXPIRY_MARGIN: Duration = Duration::from_millis(1250);

/// Runs the command and returns its exit status. `requested_at` is the time just
/// before the credential was obtained.
pub(super) fn supervise(
    context: &Context<'_>,
    mut credential: Credential<'_>,
    requested_at: Timestamp,
    min_ttl: Duration,
    mut command: Command,
) -> Result<i32, Error> {
    let file = TokenFile::create(&run_dir(context))?;
    command.env(TOKEN_FILE, file.path());
    let mut updater = FileUpdater {
        context,
        current: Arc::new(Mutex::new(Current {
            file,
            usable_until: None,
        })),
        min_ttl,
        expiry: None,
        latency: Duration::ZERO,
        last_failure: None,
    };
    updater.write(&credential, requested_at)?;
    context.interrupts.prepare_forwarding();
    let child = super::spawn(&mut command)?;
    updater.watch_expiry()?;
    context.interrupts.forward_to(child.id());
    let (sender, ended) = mpsc::sync_channel(1);
    let interrupts = context.interrupts.clone();
    std::thread::Builder::new()
        .name("child".to_owned())
        .spawn(move || {
            let status = wait(child);
            // From here on, the process id may belong to another process.
            interrupts.stop_forwarding();
            drop(sender.send(status));
        })?;
    loop {
        match ended.recv_timeout(updater.pause()) {
            Ok(status) => return Ok(exit_code(status?)),
            Err(RecvTimeoutError::Timeout) => updater.renew(&mut credential),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(std::io::Error::other("the command cannot be waited for").into());
            }
        }
    }
}

fn wait(mut child: Child) -> std::io::Result<ExitStatus> {
    child.wait()
}

/// 128 and the number of the signal if one ended the command, as shells count.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128 + signal;
    }
    status.code().unwrap_or(1)
}

/// The directory of run-time files, which a reboot empties; else the data directory.
fn run_dir(context: &Context<'_>) -> PathBuf {
    (context.host.read_variable)("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute() && dir.is_dir())
        .map_or_else(
            || context.settings.data_dir.join("run"),
            |dir| dir.join("rememberizer"),
        )
}

/// The token file, and the time until which its token may be used.
struct Current {
    file: TokenFile,
    usable_until: Option<Timestamp>,
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces the token in the file before it expires.
struct FileUpdater<'c> {
    context: &'c Context<'c>,
    current: Arc<Mutex<Current>>,
    min_ttl: Duration,
    /// The expiry of the token in the file, counted from the request: the server
    /// may have issued the token at any time since.
    expiry: Option<Expiry>,
    /// The time from the request to its response.
    latency: Duration,
    /// The exit code that stands for the last failure, so that a failure is
    /// reported once and not at every attempt.
    last_failure: Option<u8>,
}

impl FileUpdater<'_> {
    /// Writes the token to the file, and records until when it may be used.
    fn write(&mut self, credential: &Credential<'_>, requested_at: Timestamp) -> Result<(), Error> {
        let expiry = credential.access_expiry();
        // A token that another run had received before has no latency.
        let latency = expiry.map_or(0, |expiry| expiry.received_at().millis_since(requested_at));
        let latency = latency.max(0);
        self.latency = Duration::from_millis(latency.unsigned_abs());
        self.expiry = expiry.map(|expiry| expiry.shifted_by_millis(-latency));
        let mut current = lock(&self.current);
        current.file.write(credential.access()?)?;
        current.usable_until = self.expiry.and_then(|expiry| {
            let margin = self.lifetime().map(|lifetime| lifetime * 2 / 5);
            let margin = margin.map_or(EXPIRY_MARGIN, |margin| EXPIRY_MARGIN.min(margin));
            let margin = i64::try_from(margin.as_millis()).unwrap_or_default();
            Some(expiry.expires_at()?.plus_millis(-margin))
        });
        Ok(())
    }

    /// Starts a thread that removes the file when its token expires. The main
    /// thread may be waiting for the server then.
    fn watch_expiry(&self) -> std::io::Result<()> {
        let current = Arc::clone(&self.current);
        let (terminal, now) = (
            self.context.terminal.clone(),
            Arc::clone(&self.context.host.now),
        );
        let watch = move || {
            loop {
                let mut current = lock(&current);
                let left = current.usable_until.map(|end| end.millis_since(now()));
                if left.is_none_or(|millis| millis > 0) {
                    drop(current);
                    let left = left.map_or(u64::MAX, i64::unsigned_abs);
                    std::thread::sleep(Duration::from_millis(left).min(EXPIRY_CHECK_INTERVAL));
                    continue;
                }
                current.usable_until = None;
                let cleared = current.file.clear();
                drop(current);
                terminal.warn(
                    "the access token has expired; its file is removed until there is a new one",
                );
                if let Err(error) = cleared {
                    terminal.warn(&error.message);
                }
            }
        };
        std::thread::Builder::new()
            .name("expiry".to_owned())
            .spawn(watch)
            .map(drop)
    }

    fn lifetime(&self) -> Option<Duration> {
        let expiry = self.expiry?;
        let millis = expiry.expires_at()?.millis_since(expiry.received_at());
        u64::try_from(millis).ok().map(Duration::from_millis)
    }

    /// The remaining lifetime at which the token is renewed: `--min-ttl`, or two
    /// thirds of the lifetime if that is less.
    fn threshold(&self) -> Duration {
        let most = self.lifetime().map(|lifetime| lifetime * 2 / 3);
        most.map_or(self.min_ttl, |most| self.min_ttl.min(most))
    }

    fn remaining(&self) -> Remaining {
        let now = (self.context.host.now)();
        self.expiry
            .map_or(Remaining::Unknown, |expiry| expiry.remaining(now))
    }

    /// How long to wait for the command before the next check of the token.
    fn pause(&self) -> Duration {
        let until_due = match self.remaining() {
            Remaining::Time(left) if self.last_failure.is_some() => left / 4,
            Remaining::Time(left) => left.saturating_sub(self.threshold()),
            Remaining::Expired | Remaining::Unknown => MAX_PAUSE,
        };
        until_due.clamp(MIN_PAUSE, MAX_PAUSE)
    }

    /// Renews the token if that is due. Reports a failure, after which the next
    /// call tries again: another process may log in meanwhile.
    fn renew(&mut self, credential: &mut Credential<'_>) {
        let due = match self.remaining() {
            Remaining::Unknown => false,
            Remaining::Expired => true,
            Remaining::Time(left) => left <= self.threshold(),
        };
        if !due {
            return;
        }
        let terminal = self.context.terminal;
        let requested_at = (self.context.host.now)();
        let renewed = credential
            .keep_fresh(self.threshold() + self.latency)
            .map_err(Error::from)
            .and_then(|()| self.write(credential, requested_at));
        match renewed {
            Ok(()) => {
                if self.last_failure.take().is_some() {
                    terminal.note("the access token was renewed");
                }
            }
            Err(error) => {
                let failure = self.context.to_failure(error);
                let code = failure.outcome.exit_code();
                if self.last_failure.replace(code) == Some(code) {
                    return;
                }
                let mut text = format!("the access token was not renewed: {failure}");
                // A login in another shell is picked up.
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
        // The thread that checks for expiry still owns the file, so it would not be dropped.
        lock(&self.current).file.close();
    }
}
