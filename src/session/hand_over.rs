//! The commands that the user configured to run before and after an exchange:
//! `on_rotate_check` must succeed before the refresh token is sent, and `on_rotate` receives each new refresh token.
//!
//! Both are a program and its arguments, run without a shell. A new token is
//! stored before `on_rotate` runs, and the entry is marked `hand_over_pending`
//! until `on_rotate` has succeeded, so that the next run can repeat the command.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{SessionError, SessionManager};
use crate::model::{RefreshToken, Session};
use crate::store::ProfileLock;

/// How long a command may run.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum poll interval while waiting for a command.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The commands configured in a profile or in environment variables. An empty
/// list means that no command is configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct RotationCommands {
    pub(crate) on_rotate: Vec<String>,
    pub(crate) check: Vec<String>,
    /// The environment variables that the commands must not inherit.
    pub(crate) secret_variables: &'static [&'static str],
}

impl RotationCommands {
    pub(crate) fn has_on_rotate(&self) -> bool {
        !self.on_rotate.is_empty()
    }

    /// The name of a setting that configures a command, if there is one.
    pub(crate) fn first_key(&self) -> Option<&'static str> {
        match (self.on_rotate.is_empty(), self.check.is_empty()) {
            (false, _) => Some("on_rotate"),
            (true, false) => Some("on_rotate_check"),
            (true, true) => None,
        }
    }

    /// Runs `on_rotate_check`, if configured. If it fails, the refresh token must
    /// not be sent.
    pub(super) fn run_check(&self) -> Result<(), SessionError> {
        let failed = |reason| SessionError::RotationCheck {
            command: self.check.join(" "),
            reason,
        };
        match self.run(&self.check, None) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(failed(reason)),
        }
    }

    /// Runs `on_rotate`, if configured, with the new refresh token on its stdin.
    pub(super) fn run_on_rotate(&self, refresh: &RefreshToken) -> Result<(), String> {
        self.run(&self.on_rotate, Some(refresh)).unwrap_or(Ok(()))
    }

    /// Runs a command with the token on its stdin. Returns `None` if no command
    /// is configured, and the reason if the command fails. The command's stdout
    /// goes to our stderr, since our stdout carries this program's own output.
    fn run(&self, words: &[String], stdin: Option<&RefreshToken>) -> Option<Result<(), String>> {
        let (program, arguments) = words.split_first()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(match stdin {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(crate::terminal::stderr_for_child());
        for variable in self.secret_variables {
            command.env_remove(variable);
        }
        Some(match command.spawn() {
            Ok(child) => finish(child, stdin),
            Err(error) => Err(format!("it could not be started: {error}")),
        })
    }
}

fn finish(mut child: Child, stdin: Option<&RefreshToken>) -> Result<(), String> {
    let written = match (child.stdin.take(), stdin) {
        (Some(mut pipe), Some(refresh)) => pipe.write_all(refresh.secret().expose().as_bytes()),
        _ => Ok(()),
    };
    let status = wait(&mut child)?;
    match (status.success(), written) {
        (true, Ok(())) => Ok(()),
        (true, Err(error)) => Err(format!("it did not read the token: {error}")),
        (false, _) => Err(status.to_string()),
    }
}

fn wait(child: &mut Child) -> Result<ExitStatus, String> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Err(error) => return Err(error.to_string()),
            Ok(None) if started.elapsed() < COMMAND_TIMEOUT => {}
            Ok(None) => {
                // Killing fails if the command has just exited; ignore that.
                drop(child.kill());
                drop(child.wait());
                return Err(format!(
                    "it took longer than {} s",
                    COMMAND_TIMEOUT.as_secs()
                ));
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(MAX_POLL_INTERVAL);
    }
}

impl SessionManager<'_> {
    /// Runs `on_rotate` for the refresh token of a stored session, if that failed
    /// in an earlier run. Must be called before any other use of the session.
    pub(crate) fn complete_hand_over(&self, session: &Session) -> Result<(), SessionError> {
        if !session.hand_over_pending {
            return Ok(());
        }
        let lock = self.lock()?;
        match self.load()? {
            Some(session) if session.hand_over_pending => {
                self.run_pending_on_rotate(&lock, session).map(drop)
            }
            // Another run has done it, or the session was removed.
            _ => Ok(()),
        }
    }

    /// Runs `on_rotate` for the refresh token of a stored session, then clears
    /// `hand_over_pending` in the store. If `on_rotate` was removed from the
    /// profile, only clears it.
    pub(super) fn run_pending_on_rotate(
        &self,
        lock: &ProfileLock,
        mut session: Session,
    ) -> Result<Session, SessionError> {
        if !session.hand_over_pending {
            return Ok(session);
        }
        self.rotation_commands
            .run_on_rotate(&session.refresh.value)
            .map_err(|reason| SessionError::HandOver {
                command: self.rotation_commands.on_rotate.join(" "),
                reason,
            })?;
        session.hand_over_pending = false;
        self.save(lock, &session)?;
        Ok(session)
    }
}
