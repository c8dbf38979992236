//! The commands of the person's that follow a rotation: one that receives each
//! new refresh token, and one that must succeed before a token is spent.
//!
//! Both are a program and its arguments, run without a shell. A new token is
//! durable in the store before it is handed over, and the entry says so until
//! the command has succeeded, so that the next run can hand it over.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{SessionError, SessionManager};
use crate::model::{RefreshToken, Session};
use crate::store::ProfileLock;

/// How long such a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest pause between two looks at whether it has ended.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The commands of a profile, or of the environment. Empty ones are not set.
#[derive(Debug, Clone, Default)]
pub(crate) struct RotationCommands {
    pub(crate) on_rotate: Vec<String>,
    pub(crate) check: Vec<String>,
    /// The variables that the commands must not inherit.
    pub(crate) secret_variables: &'static [&'static str],
}

impl RotationCommands {
    /// Whether new refresh tokens are handed to a command.
    pub(crate) fn is_set(&self) -> bool {
        !self.on_rotate.is_empty()
    }

    /// The key of the first command that is set.
    pub(crate) fn first_key(&self) -> Option<&'static str> {
        match (self.on_rotate.is_empty(), self.check.is_empty()) {
            (false, _) => Some("on_rotate"),
            (true, false) => Some("on_rotate_check"),
            (true, true) => None,
        }
    }

    /// Runs the check, if there is one. Nothing may be spent if it fails.
    pub(super) fn check(&self) -> Result<(), SessionError> {
        let failed = |reason| SessionError::RotationCheck {
            command: self.check.join(" "),
            reason,
        };
        match self.run(&self.check, None) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(failed(reason)),
        }
    }

    /// Hands a new refresh token to the command, if there is one.
    pub(super) fn hand_over(&self, refresh: &RefreshToken) -> Result<(), String> {
        self.run(&self.on_rotate, Some(refresh)).unwrap_or(Ok(()))
    }

    /// Runs a command with the token on its stdin. Returns `None` if it is not
    /// set, and the reason if it fails. Its stdout goes to stderr: ours is the
    /// answer.
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
            Err(error) => Err(format!("it cannot be run: {error}")),
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
        (false, _) => Err(format!("it ended with {status}")),
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
                // It may end by itself in between; either way it is over.
                drop(child.kill());
                drop(child.wait());
                return Err(format!(
                    "it took longer than {} s",
                    COMMAND_TIMEOUT.as_secs()
                ));
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl SessionManager<'_> {
    /// Hands over the refresh token of a stored session, if an earlier run
    /// could not. Nothing else may happen to the session before.
    pub(super) fn complete_hand_over(&self, session: &Session) -> Result<(), SessionError> {
        if !session.hand_over_pending {
            return Ok(());
        }
        let lock = self.lock()?;
        match self.load()? {
            Some(session) if session.hand_over_pending => self.hand_over(&lock, session).map(drop),
            // Another run has done it, or the session is gone.
            _ => Ok(()),
        }
    }

    /// Hands over the refresh token of a session that is durable, and records
    /// that in its entry.
    pub(super) fn hand_over(
        &self,
        lock: &ProfileLock,
        mut session: Session,
    ) -> Result<Session, SessionError> {
        if !session.hand_over_pending {
            return Ok(session);
        }
        // Without a command there is nobody to hand it to any more.
        self.rotation
            .hand_over(&session.refresh.value)
            .map_err(|reason| SessionError::HandOver {
                command: self.rotation.on_rotate.join(" "),
                reason,
            })?;
        session.hand_over_pending = false;
        self.save(lock, &session)?;
        Ok(session)
    }
}
