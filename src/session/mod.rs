//! The life of a session: it begins, is renewed, and ends.
//!
//! This is the only place where the server's answers and the stored session
//! meet, and so the place that keeps the one rule of the program: a session is
//! never lost. A rotating server accepts a refresh token once and may revoke
//! the whole session when a spent one comes back (RFC 9700 §4.14), so
//!
//! 1. one exchange at a time for a profile, under its lock, of the token that
//!    is read *under* the lock (`renew`);
//! 2. the store is proven writable by a mark before the exchange, and what the
//!    exchange brought is durable before anybody sees it (`renew`);
//! 3. only a definitive answer ends a session, and only after a second look
//!    ([`Verdict`]);
//! 4. signals wait while a session exists in memory alone ([`Interrupts`]).
//!
//! It knows nothing of flags, variables, prompts or texts of commands.

mod access;
mod begin;
mod end;
mod error;
mod interrupts;
mod renew;

use std::time::Duration;

use crate::api::Client;
use crate::model::{Origin, Session, Timestamp};
use crate::store::{Locks, ProfileLock, SecretStore, SessionStore};
use crate::terminal::Terminal;

pub use access::{Credential, Variables};
pub use begin::Begun;
pub use end::{Ended, Revocation};
pub use error::{SessionError, Spent, Verdict};
pub use interrupts::{Deferral, Interrupts};
pub use renew::Need;

/// Keeps the session of one profile: all that an operation on it needs.
pub struct Keeper<'a> {
    /// The session's place in the store that the profile uses.
    pub store: SessionStore<'a>,
    /// The server that the profile is pinned to.
    pub origin: &'a Origin,
    /// The way to that server.
    pub client: &'a Client,
    /// The profiles' locks.
    pub locks: &'a Locks,
    /// How long the lock is waited for.
    pub lock_timeout: Duration,
    /// The local clock.
    pub now: &'a dyn Fn() -> Timestamp,
    /// What a signal waits for.
    pub interrupts: &'a Interrupts,
    /// Where decisions are told and waiting is shown.
    pub terminal: &'a Terminal,
}

impl Keeper<'_> {
    /// The stored session, if there is one and it belongs to the profile's server.
    pub fn load(&self) -> Result<Option<Session>, SessionError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        let Some(session) = self.store.read()? else {
            return Ok(None);
        };
        if session.origin != *self.origin {
            return Err(SessionError::OtherOrigin {
                stored: session.origin,
            });
        }
        Ok(Some(session))
    }

    /// Takes the profile's lock, waiting for it at most the lock timeout.
    pub fn lock(&self) -> Result<ProfileLock, SessionError> {
        let profile = self.store.profile();
        let started = std::time::Instant::now();
        loop {
            if let Some(lock) = self.locks.try_acquire(profile)? {
                return Ok(lock);
            }
            self.wait_for_holder(started)?;
        }
    }

    /// Waits until the lock's holder is done, within what is left of the lock timeout.
    fn wait_for_holder(&self, started: std::time::Instant) -> Result<(), SessionError> {
        let profile = self.store.profile();
        self.interrupts.watch();
        self.terminal
            .verbose(&format!("waiting for the lock of profile {profile}"));
        let _waiting = self
            .terminal
            .spin("waiting for another process that uses this profile");
        let left = self.lock_timeout.saturating_sub(started.elapsed());
        match self.locks.wait(profile, left) {
            Err(crate::store::LockError::Busy(_)) => Err(SessionError::Busy(self.lock_timeout)),
            other => Ok(other?),
        }
    }

    /// Removes what another store holds of this profile, so that it can never
    /// shadow the session in force. The session that was there, if it was one.
    pub fn purge(
        &self,
        lock: &ProfileLock,
        other: &dyn SecretStore,
    ) -> Result<Option<Session>, SessionError> {
        let other = SessionStore::new(other, self.store.profile());
        let session = other.read().ok().flatten();
        other.delete(lock)?;
        Ok(session)
    }
}
