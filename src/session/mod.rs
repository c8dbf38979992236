//! Starts, renews and ends the session of a profile.
//!
//! Only this layer uses both the API client and the stores, so it enforces the main
//! rule of the program: a session must never be lost. A server that rotates refresh
//! tokens accepts each one once, and may revoke the whole session if a token is sent
//! again (RFC 9700 §4.14). Therefore
//!
//! 1. a refresh token is exchanged only under the profile's lock, after it was read
//!    under that lock (`renew`);
//! 2. before an exchange, a marker (`PendingExchange`) is stored, from which a later run can
//!    tell that the token was sent; this also proves that the store is writable; new tokens are stored before they are used or printed (`renew`);
//! 3. a session ends only if the server has definitively refused its refresh token,
//!    and the store, read again, still holds that token (`renew`);
//! 4. signals are deferred while new tokens exist only in memory ([`Interrupts`]).
//!
//! If the store has versions, several machines can share the session. A lease then coordinates
//! them (`shared`, `lease`).
//!
//! Flags, environment variables, prompts and the texts of commands belong to the
//! layers above.

mod access;
mod error;
mod interrupts;
mod lease;
mod lease_environment;
mod logout;
mod on_rotate;
mod renew;
mod shared;
mod start;

use std::time::{Duration, Instant};

use crate::api::Client;
use crate::model::{ApiUrl, ProfileName, Session, Timestamp};
use crate::store::{
    LockError, Locks, Profile, ProfileLock, Profiles, SessionStore, StoreKind, Stores,
};
use crate::terminal::Terminal;

pub(crate) use access::{Credential, TokenVariables};
pub(crate) use error::{LikelyCause, SessionError, TokenKind};
pub(crate) use interrupts::Interrupts;
pub(crate) use logout::{LogoutScope, Revocation, StoreLogout};
pub(crate) use on_rotate::RotationCommands;
pub(crate) use renew::RefreshPolicy;
pub(crate) use start::{NewSession, StoreProof};

/// The remaining lifetime of a session below which the user is warned.
pub(crate) const EXPIRY_WARNING_THRESHOLD: Duration = Duration::from_secs(3 * 24 * 3600);
const DAY_MILLIS: i64 = 24 * 3600 * 1000;

/// Operations on one profile's session, with the store, client, lock and clock
/// that they need. Only `Context` constructs this type.
pub(crate) struct SessionManager<'a> {
    pub(crate) profile: ProfileName,
    /// The only server that the profile's tokens are sent to.
    pub(crate) api_url: ApiUrl,
    /// The store that the profile uses.
    pub(crate) store: StoreKind,
    /// The client of `api_url`, with the profile's cookie names.
    pub(crate) client: Client,
    /// Creates a client of another server, to revoke a session that was issued there.
    pub(crate) new_client: Box<dyn Fn(ApiUrl) -> Client + 'a>,
    /// The user's commands around an exchange of the stored refresh token.
    pub(crate) rotation_commands: RotationCommands,
    /// The user's commands around an exchange of a refresh token in the environment.
    pub(crate) env_rotation_commands: RotationCommands,
    pub(crate) stores: &'a Stores<'a>,
    pub(crate) profiles: &'a Profiles,
    pub(crate) locks: &'a Locks,
    /// How long to wait for a lock, if the user set it.
    pub(crate) requested_lock_timeout: Option<Duration>,
    pub(crate) now: &'a dyn Fn() -> Timestamp,
    pub(crate) interrupts: &'a Interrupts,
    pub(crate) terminal: &'a Terminal,
}

/// What was read from a profile's entry.
#[derive(Default)]
struct ReadEntry {
    session: Option<Session>,
    /// The id of the last attempt to renew a shared session, if it failed.
    failed_attempt_id: Option<String>,
}

impl SessionManager<'_> {
    /// The profile's entry in the store that it uses.
    pub(crate) fn entry(&self) -> SessionStore<'_> {
        self.entry_in(self.store)
    }

    /// The profile's entry in the store `kind`. Only the profile's own store may
    /// prompt the user to unlock it.
    pub(crate) fn entry_in(&self, kind: StoreKind) -> SessionStore<'_> {
        let store = match kind == self.store {
            true => self.stores.get(kind),
            false => self.stores.get_without_prompts(kind),
        };
        SessionStore::new(store, &self.profile)
    }

    /// Reads the stored session. Fails if another server than the profile's issued it.
    pub(crate) fn load(&self) -> Result<Option<Session>, SessionError> {
        Ok(self.read_entry()?.session)
    }

    /// Reads the profile's entry. Fails if another server than the profile's issued the
    /// session.
    fn read_entry(&self) -> Result<ReadEntry, SessionError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        let entry = match self.read_entry_if_shared()? {
            Some(entry) => entry,
            None => ReadEntry {
                session: self.entry().read()?,
                failed_attempt_id: None,
            },
        };
        match entry.session {
            Some(Session { api_url, .. }) if api_url != self.api_url => {
                Err(SessionError::OtherServer { stored: api_url })
            }
            _ => Ok(entry),
        }
    }

    /// Acquires the profile's lock. Waits for at most the lock timeout.
    pub(crate) fn lock(&self) -> Result<ProfileLock, SessionError> {
        let started = Instant::now();
        loop {
            if let Some(lock) = self.locks.try_acquire(&self.profile)? {
                return Ok(lock);
            }
            self.wait_for_lock(started)?;
        }
    }

    /// Waits until the lock is released. Fails if the lock timeout has passed since
    /// `started`.
    fn wait_for_lock(&self, started: Instant) -> Result<(), SessionError> {
        self.interrupts.start_handling_signals();
        self.terminal
            .verbose(&format!("waiting for the lock of profile {}", self.profile));
        let _waiting = self
            .terminal
            .spin("waiting for another process that uses this profile");
        let remaining = self.lock_timeout().saturating_sub(started.elapsed());
        match self.locks.wait_until_released(&self.profile, remaining) {
            Err(LockError::Busy(_)) => Err(SessionError::Busy(self.lock_timeout())),
            result => Ok(result?),
        }
    }

    /// Changes this profile in the profiles file.
    pub(crate) fn update_profile(
        &self,
        change: impl FnOnce(&mut Profile),
    ) -> Result<(), SessionError> {
        Ok(self
            .profiles
            .update(&self.profile, self.lock_timeout(), change)?)
    }

    /// Records in the profiles file that the profile has no session. Only logs a
    /// failure, because the record is a cache.
    fn record_signed_out(&self) {
        let selected = self.profiles.select(Some(&self.profile));
        if !selected.is_ok_and(|selected| selected.profile.is_some()) {
            return;
        }
        if let Err(error) = self.update_profile(|profile| profile.signed_in = Some(false)) {
            self.terminal.verbose(&format!(
                "the profile is still recorded as signed in: {error}"
            ));
        }
    }

    /// Warns at a terminal if the session expires soon, at most once per day and
    /// profile. Does nothing if the profiles file is locked.
    fn warn_before_expiry(&self, session: &Session) {
        let now = (self.now)();
        let expiry = &session.refresh.expiry;
        let Some(ends_at) = expiry.expires_at() else {
            return;
        };
        if !self.terminal.can_remind() || expiry.outlasts(EXPIRY_WARNING_THRESHOLD, now) {
            return;
        }
        let mut is_due = false;
        let recorded = self
            .profiles
            .update(&self.profile, Duration::ZERO, |profile| {
                let since_last = profile.end_warned_at.map(|last| now.millis_since(last));
                is_due = since_last.is_none_or(|millis| !(0..DAY_MILLIS).contains(&millis));
                if is_due {
                    profile.end_warned_at = Some(now);
                }
            });
        if is_due && recorded.is_ok() {
            self.terminal.warn(&format!(
                "the session of profile {} ends at {ends_at}: renew it or log in again before then",
                self.profile
            ));
        }
    }

    /// The built-in stores that the profile does not use. They may hold an older session.
    fn other_stores(&self) -> impl Iterator<Item = StoreKind> + use<> {
        let own = self.store;
        StoreKind::BUILT_IN
            .into_iter()
            .filter(move |kind| *kind != own)
    }
}
