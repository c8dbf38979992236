//! The life of a session: it begins, is renewed, and ends.
//!
//! This is the only layer where the server's responses and the stored session
//! meet, and so the one that keeps the rule of the program: a session is never
//! lost. A rotating server accepts a refresh token once and may revoke the
//! whole session when a spent one comes back (RFC 9700 §4.14), so
//!
//! 1. a profile has one exchange at a time, under its lock, of the token that
//!    is read *under* the lock (`renew`);
//! 2. a journal mark proves the store writable before the exchange, and the new
//!    tokens are durable before anybody sees them (`renew`);
//! 3. only a definitive response to an exchange ends a session, and only after
//!    a second look at the store (`renew`);
//! 4. signals wait while a session exists in memory alone ([`Interrupts`]).
//!
//! It knows nothing of flags, variables, prompts or the texts of commands.

mod access;
mod begin;
mod end;
mod error;
mod hand_over;
mod interrupts;
mod lease;
mod renew;
mod shared;

use std::time::{Duration, Instant};

use crate::api::Client;
use crate::model::{Origin, ProfileName, Session, Timestamp};
use crate::store::{
    LockError, Locks, Profile, ProfileLock, Profiles, SessionStore, StoreKind, Stores,
};
use crate::terminal::Terminal;

pub(crate) use access::{Credential, TokenVariables};
pub(crate) use begin::{Started, StoreProof};
pub(crate) use end::{LogoutOutcome, Revocation};
pub(crate) use error::{LikelyCause, SessionError};
pub(crate) use hand_over::RotationCommands;
pub(crate) use interrupts::Interrupts;
pub(crate) use renew::RefreshPolicy;

/// How long before the end of a session a person is warned.
const END_WARNING: Duration = Duration::from_secs(3 * 24 * 3600);
const DAY_MILLIS: i64 = 24 * 3600 * 1000;

/// Operations on one profile's session, with the store, client, lock and clock
/// that they need.
///
/// Its origin, store and cookie names are those of this profile, whichever
/// profile is in use. `Context` has its one constructor.
pub(crate) struct SessionManager<'a> {
    pub(crate) profile: ProfileName,
    /// The server that the profile is pinned to.
    pub(crate) origin: Origin,
    /// The store that the profile uses.
    pub(crate) store: StoreKind,
    /// The client of that server, which knows the profile's cookie names.
    pub(crate) client: Client,
    /// Makes such a client for another server, to revoke a session that is its.
    pub(crate) connect: Box<dyn Fn(Origin) -> Client + 'a>,
    /// What is run when the server replaces the refresh token.
    pub(crate) rotation: RotationCommands,
    /// The same for a refresh token in the environment.
    pub(crate) environment_rotation: RotationCommands,
    pub(crate) stores: &'a Stores<'a>,
    pub(crate) profiles: &'a Profiles,
    pub(crate) locks: &'a Locks,
    /// How long to wait for a lock.
    pub(crate) lock_timeout: Duration,
    pub(crate) now: &'a dyn Fn() -> Timestamp,
    pub(crate) interrupts: &'a Interrupts,
    pub(crate) terminal: &'a Terminal,
}

impl SessionManager<'_> {
    /// The profile's entry in the store that it uses.
    pub(crate) fn entry(&self) -> SessionStore<'_> {
        self.entry_in(self.store)
    }

    /// The profile's entry in the store `kind`. Only the profile's own store may
    /// ask a person to unlock it.
    pub(crate) fn entry_in(&self, kind: StoreKind) -> SessionStore<'_> {
        SessionStore::new(self.stores.get(kind, kind == self.store), &self.profile)
    }

    /// Reads the stored session. It must belong to the profile's server.
    pub(crate) fn load(&self) -> Result<Option<Session>, SessionError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        let read = match self.load_shared()? {
            Some(shared) => shared,
            None => self.entry().read()?,
        };
        let Some(session) = read else {
            return Ok(None);
        };
        if session.origin != self.origin {
            return Err(SessionError::OtherOrigin {
                stored: session.origin,
            });
        }
        Ok(Some(session))
    }

    /// Takes the profile's lock. Waits for it at most the lock timeout.
    pub(crate) fn lock(&self) -> Result<ProfileLock, SessionError> {
        let started = Instant::now();
        loop {
            if let Some(lock) = self.locks.try_acquire(&self.profile)? {
                return Ok(lock);
            }
            self.wait_for_holder(started)?;
        }
    }

    /// Waits until the lock is free, for what is left of the lock timeout.
    fn wait_for_holder(&self, started: Instant) -> Result<(), SessionError> {
        self.interrupts.watch();
        self.terminal
            .verbose(&format!("waiting for the lock of profile {}", self.profile));
        let _waiting = self
            .terminal
            .spin("waiting for another process that uses this profile");
        let left = self.patience().saturating_sub(started.elapsed());
        match self.locks.wait(&self.profile, left) {
            Err(LockError::Busy(_)) => Err(SessionError::Busy(self.patience())),
            other => Ok(other?),
        }
    }

    /// Changes what the profiles file records of this profile.
    pub(crate) fn record(&self, change: impl FnOnce(&mut Profile)) -> Result<(), SessionError> {
        Ok(self
            .profiles
            .update(&self.profile, self.lock_timeout, change)?)
    }

    /// Records that the profile has no session. A failure is not worth the
    /// command's: the record is a cache.
    fn record_signed_out(&self) {
        let recorded = self.profiles.select(Some(&self.profile));
        if !recorded.is_ok_and(|recorded| recorded.profile.is_some()) {
            return;
        }
        if let Err(error) = self.record(|profile| profile.signed_in = Some(false)) {
            self.terminal.verbose(&format!(
                "the profile is still recorded as signed in: {error}"
            ));
        }
    }

    /// Prints a warning at a terminal if the session ends soon, at most once a
    /// day per profile. Nothing depends on it, so it waits for no lock.
    fn warn_before_end(&self, session: &Session) {
        let now = (self.now)();
        let expiry = &session.refresh.expiry;
        let Some(ends_at) = expiry.ends_at() else {
            return;
        };
        if !self.terminal.can_remind() || expiry.outlasts(END_WARNING, now) {
            return;
        }
        let mut is_due = false;
        let recorded = self
            .profiles
            .update(&self.profile, Duration::ZERO, |profile| {
                let last = profile.end_warned_at.map(|last| now.millis_since(last));
                is_due = last.is_none_or(|passed| !(0..DAY_MILLIS).contains(&passed));
                if is_due {
                    profile.end_warned_at = Some(now);
                }
            });
        if is_due && recorded.is_ok() {
            self.terminal.warn(&format!(
                "the session of profile {} ends at {ends_at}: log in again before then",
                self.profile
            ));
        }
    }

    /// The stores that the profile does not use, where an older session may be.
    fn other_stores(&self) -> impl Iterator<Item = StoreKind> + use<> {
        let own = self.store;
        StoreKind::ALL.into_iter().filter(move |kind| *kind != own)
    }
}
