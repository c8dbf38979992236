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
use crate::model::{Remaining, Timestamp};
use crate::session::Credential;
use crate::store::TokenFile;

/// The variable that names the file.
pub(super) const TOKEN_FILE: &str = "REMEMBERIZER_TOKEN_FILE";

/// Maximum pause between two checks of the clock, which may jump while the
/// machine sleeps.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Minimum pause between two attempts to renew the token.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// Interval of the checks whether the token in the file has expired.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long before it expires a token is removed from the file. Servers round
/// to whole seconds.
const EXPIRY_MARGIN: Duration = Duration::from_secs(1);

/// Runs the command and returns its exit status.
pub(super) fn supervise(
    context: &Context<'_>,
    mut credential: Credential<'_>,
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
        last_failure: None,
    };
    updater.write(&credential)?;
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
        match ended.recv_timeout(updater.pause(&credential)) {
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
    (context.host.variable)("XDG_RUNTIME_DIR")
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
    /// The exit code that stands for the last failure, so that a failure is
    /// reported once and not at every attempt.
    last_failure: Option<u8>,
}

impl FileUpdater<'_> {
    /// Writes the token to the file, and records until when it may be used.
    fn write(&self, credential: &Credential<'_>) -> Result<(), Error> {
        let mut current = lock(&self.current);
        current.file.write(credential.access()?)?;
        current.usable_until = credential.access_expiry().and_then(|expiry| {
            let margin = self
                .lifetime(credential)
                .map_or(EXPIRY_MARGIN, |lifetime| EXPIRY_MARGIN.min(lifetime / 3));
            let margin = i64::try_from(margin.as_millis()).unwrap_or_default();
            Some(expiry.ends_at()?.offset(-margin))
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
                std::thread::sleep(EXPIRY_CHECK_INTERVAL);
                let mut current = lock(&current);
                if current.usable_until.is_none_or(|end| now() < end) {
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

    fn lifetime(&self, credential: &Credential<'_>) -> Option<Duration> {
        let expiry = credential.access_expiry()?;
        let millis = expiry.ends_at()?.millis_since(expiry.received_at());
        u64::try_from(millis).ok().map(Duration::from_millis)
    }

    /// The remaining lifetime at which the token is renewed: `--min-ttl`, or
    /// half of the lifetime if that is less.
    fn threshold(&self, credential: &Credential<'_>) -> Duration {
        let half = self.lifetime(credential).map(|lifetime| lifetime / 2);
        half.map_or(self.min_ttl, |half| self.min_ttl.min(half))
    }

    fn remaining(&self, credential: &Credential<'_>) -> Remaining {
        let now = (self.context.host.now)();
        credential
            .access_expiry()
            .map_or(Remaining::Unknown, |expiry| expiry.remaining(now))
    }

    /// How long to wait for the command before the next check of the token.
    fn pause(&self, credential: &Credential<'_>) -> Duration {
        let until_due = match self.remaining(credential) {
            Remaining::Time(left) if self.last_failure.is_some() => left / 4,
            Remaining::Time(left) => left.saturating_sub(self.threshold(credential)),
            Remaining::Nothing | Remaining::Unknown => MAX_PAUSE,
        };
        until_due.clamp(MIN_PAUSE, MAX_PAUSE)
    }

    /// Renews the token if that is due. Reports a failure, after which the next
    /// call tries again: another process may log in meanwhile.
    fn renew(&mut self, credential: &mut Credential<'_>) {
        let due = match self.remaining(credential) {
            Remaining::Unknown => false,
            Remaining::Nothing => true,
            Remaining::Time(left) => left <= self.threshold(credential),
        };
        if !due {
            return;
        }
        let terminal = self.context.terminal;
        let renewed = credential
            .keep_fresh(self.threshold(credential))
            .map_err(Error::from)
            .and_then(|()| self.write(credential));
        match renewed {
            Ok(()) => {
                if self.last_failure.take().is_some() {
                    terminal.note("the access token was renewed");
                }
            }
            Err(error) => {
                let failure = self.context.explain(error);
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
