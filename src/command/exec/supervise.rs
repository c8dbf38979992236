//! `exec --token-file`: stays as the parent of the command and keeps a file
//! with the current access token fresh until the command ends.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::context::Context;
use crate::error::Error;
use crate::model::{Remaining, Timestamp};
use crate::session::Credential;
use crate::store::TokenFile;

/// The variable that names the file.
pub(super) const TOKEN_FILE: &str = "REMEMBERIZER_TOKEN_FILE";

/// The longest time between two looks at the clock, which may jump or the
/// machine may sleep.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The shortest time between two tries.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// How often the end of the token is looked at.
const EXPIRY_PAUSE: Duration = Duration::from_millis(100);

/// How long before its end a token is not offered any more: servers count in
/// whole seconds.
const MARGIN: Duration = Duration::from_secs(1);

/// Runs the command and returns its exit status.
pub(super) fn supervise(
    context: &Context<'_>,
    mut credential: Credential<'_>,
    min_ttl: Duration,
    mut command: Command,
) -> Result<i32, Error> {
    let file = TokenFile::create(&run_dir(context))?;
    command.env(TOKEN_FILE, file.path());
    let mut keeper = Keeper {
        context,
        current: Arc::new(Mutex::new(Current {
            file,
            usable_until: None,
        })),
        min_ttl,
        failed: false,
    };
    keeper.write(&credential)?;
    context.interrupts.prepare_forwarding();
    let child = super::spawn(&mut command)?;
    keeper.watch_expiry()?;
    context.interrupts.forward_to(child.id());
    let (sender, ended) = mpsc::sync_channel(1);
    let interrupts = context.interrupts.clone();
    std::thread::Builder::new()
        .name("child".to_owned())
        .spawn(move || {
            let status = wait(child);
            // From here on, the process number may be another process's.
            interrupts.stop_forwarding();
            drop(sender.send(status));
        })?;
    loop {
        match ended.recv_timeout(keeper.pause(&credential)) {
            Ok(status) => return Ok(exit_code(status?)),
            Err(RecvTimeoutError::Timeout) => keeper.renew(&mut credential),
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

/// The file, and until when its token may be used.
struct Current {
    file: TokenFile,
    usable_until: Option<Timestamp>,
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the file fresh.
struct Keeper<'c> {
    context: &'c Context<'c>,
    current: Arc<Mutex<Current>>,
    min_ttl: Duration,
    /// Whether the last renewal failed, so that each trouble is reported once.
    failed: bool,
}

impl Keeper<'_> {
    /// Writes the token, and notes until when it may be used.
    fn write(&self, credential: &Credential<'_>) -> Result<(), Error> {
        let mut current = lock(&self.current);
        current.file.write(credential.access()?)?;
        current.usable_until = credential.access_expiry().and_then(|expiry| {
            let margin = self
                .lifetime(credential)
                .map_or(MARGIN, |l| MARGIN.min(l / 3));
            let margin = i64::try_from(margin.as_millis()).unwrap_or_default();
            Some(expiry.ends_at()?.offset(-margin))
        });
        Ok(())
    }

    /// Removes the file when its token ends, in a thread: the renewal may be
    /// waiting for the server.
    fn watch_expiry(&self) -> std::io::Result<()> {
        let current = Arc::clone(&self.current);
        let (terminal, now) = (
            self.context.terminal.clone(),
            Arc::clone(&self.context.host.now),
        );
        let watch = move || {
            loop {
                std::thread::sleep(EXPIRY_PAUSE);
                let mut current = lock(&current);
                if current.usable_until.is_none_or(|end| now() < end) {
                    continue;
                }
                current.usable_until = None;
                let cleared = current.file.clear();
                drop(current);
                terminal.warn("the access token has ended: its file is away until it is renewed");
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

    /// How much must be left of the token: `--min-ttl`, but at most half of a
    /// short lifetime.
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

    /// How long until there is something to do.
    fn pause(&self, credential: &Credential<'_>) -> Duration {
        let until_due = match self.remaining(credential) {
            Remaining::Time(left) if self.failed => left / 4,
            Remaining::Time(left) => left.saturating_sub(self.threshold(credential)),
            Remaining::Nothing | Remaining::Unknown => LONGEST_PAUSE,
        };
        until_due.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    /// Renews the token if it is due. A failure is reported, and retried while
    /// the command runs.
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
            Ok(()) if std::mem::take(&mut self.failed) => {
                terminal.note("the access token is renewed again");
            }
            Ok(()) => {}
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                let failure = self.context.explain(error);
                terminal.warn(&format!("the access token is not renewed: {failure}"));
            }
            Err(_) => {}
        }
    }
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        // The thread has a share of it, and goes on until the process ends.
        lock(&self.current).file.close();
    }
}
