//! Runs the user's commands `on_rotate_check` and `on_rotate`. The first must succeed
//! before a refresh token is exchanged, and the second receives each new refresh token.
//!
//! A command is a program and its arguments, and runs without a shell. A new token is
//! stored with `on_rotate_pending` before `on_rotate` runs. If `on_rotate` fails, the next
//! run repeats it.

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
    pub(crate) on_rotate_check: Vec<String>,
    /// The environment variables that the commands must not inherit.
    pub(crate) secret_variables: &'static [&'static str],
}

impl RotationCommands {
    pub(crate) fn has_on_rotate(&self) -> bool {
        !self.on_rotate.is_empty()
    }

    /// Returns the name of the first setting that configures a command, if any.
    pub(crate) fn first_configured_key(&self) -> Option<&'static str> {
        match (self.on_rotate.is_empty(), self.on_rotate_check.is_empty()) {
            (false, _) => Some("on_rotate"),
            (true, false) => Some("on_rotate_check"),
            (true, true) => None,
        }
    }

    /// Runs `on_rotate_check`, if configured. If this fails, the caller must not send the
    /// refresh token.
    pub(super) fn run_on_rotate_check(&self) -> Result<(), SessionError> {
        self.run(&self.on_rotate_check, None)
            .map_err(|reason| SessionError::OnRotateCheckFailed {
                command: self.on_rotate_check.join(" "),
                reason,
            })
    }

    /// Runs `on_rotate`, if configured, with the new refresh token on its stdin.
    pub(super) fn run_on_rotate(&self, refresh: &RefreshToken) -> Result<(), String> {
        self.run(&self.on_rotate, Some(refresh))
    }

    /// Runs a command, with `token` on its stdin if given. Does nothing if `command_words`
    /// is empty. Returns the reason if the command fails. The command's stdout goes to our
    /// stderr, since our stdout carries this program's own output.
    fn run(&self, command_words: &[String], token: Option<&RefreshToken>) -> Result<(), String> {
        let Some((program, arguments)) = command_words.split_first() else {
            return Ok(());
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(match token {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(crate::terminal::stderr_for_child());
        for variable in self.secret_variables {
            command.env_remove(variable);
        }
        match command.spawn() {
            Ok(child) => pass_token_and_wait(child, token),
            Err(error) => Err(format!("it could not be started: {error}")),
        }
    }
}

fn pass_token_and_wait(mut child: Child, token: Option<&RefreshToken>) -> Result<(), String> {
    let write_result = match (child.stdin.take(), token) {
        (Some(mut stdin), Some(token)) => stdin.write_all(token.secret().expose().as_bytes()),
        _ => Ok(()),
    };
    let status = wait_or_kill(&mut child)?;
    match (status.success(), write_result) {
        (true, Ok(())) => Ok(()),
        (true, Err(error)) => Err(format!("it did not read the token: {error}")),
        (false, _) => Err(status.to_string()),
    }
}

/// Waits until the command exits. Kills it after `COMMAND_TIMEOUT`.
fn wait_or_kill(child: &mut Child) -> Result<ExitStatus, String> {
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
    /// Runs `on_rotate` with the refresh token of a stored session, if an earlier run of
    /// the command failed. Must be called before the session is used.
    pub(crate) fn rerun_failed_on_rotate(&self, session: &Session) -> Result<(), SessionError> {
        if !session.on_rotate_pending {
            return Ok(());
        }
        let lock = self.lock()?;
        match self.load()? {
            Some(session) if session.on_rotate_pending => {
                self.run_on_rotate_if_pending(&lock, session).map(drop)
            }
            // Another process has run the command, or has removed the session.
            _ => Ok(()),
        }
    }

    /// If `session.on_rotate_pending` is set, runs `on_rotate` with the session's refresh
    /// token, and then clears `on_rotate_pending` in the store. If the profile no longer
    /// has an `on_rotate` command, only clears `on_rotate_pending`.
    pub(super) fn run_on_rotate_if_pending(
        &self,
        lock: &ProfileLock,
        mut session: Session,
    ) -> Result<Session, SessionError> {
        if !session.on_rotate_pending {
            return Ok(session);
        }
        self.rotation_commands
            .run_on_rotate(&session.refresh.value)
            .map_err(|reason| SessionError::OnRotateFailed {
                command: self.rotation_commands.on_rotate.join(" "),
                reason,
            })?;
        session.on_rotate_pending = false;
        self.save(lock, &session)?;
        Ok(session)
    }
}
