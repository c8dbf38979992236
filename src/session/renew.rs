//! Renewal: the exchange of the refresh token, and the handling of its failures.

use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};

use super::error::ends_session;
use super::{LikelyCause, SessionError, SessionManager};
use crate::api::ApiError;
use crate::model::{Grant, PendingExchange, Session};
use crate::store::{ProfileLock, StoreError, StoreKind};

/// How long saving new tokens is retried.
const SAVE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long saving new tokens is retried in a helper's store, which may be on
/// another machine.
const REMOTE_SAVE_TIMEOUT: Duration = Duration::from_secs(120);

/// The condition under which a session is renewed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RefreshPolicy {
    /// Always: the user asked for it, or the server refused the access token.
    Now,
    /// If the access token expires within this time.
    IfEndsWithin(Duration),
}

impl SessionManager<'_> {
    /// Renews the session, unless another process renewed it while this process
    /// waited for the lock, or it is fresh under `policy`. Returns the session.
    ///
    /// `last_read` is the session that this run last read, if any. If the stored
    /// session differs once the lock is held, another process has renewed it, and
    /// it is returned without another exchange.
    pub(crate) fn renew(
        &self,
        last_read: Option<&Session>,
        policy: RefreshPolicy,
    ) -> Result<Session, SessionError> {
        let started = Instant::now();
        let mut read_while_waiting = None;
        let lock = loop {
            if let Some(lock) = self.locks.try_acquire(&self.profile)? {
                break lock;
            }
            if last_read.is_none() && read_while_waiting.is_none() {
                read_while_waiting = self.load()?;
            }
            self.wait_for_holder(started)?;
            if let (Some(last_read), Some(stored)) =
                (last_read.or(read_while_waiting.as_ref()), self.load()?)
                && !stored.has_same_tokens(last_read)
            {
                self.terminal
                    .verbose("another process has renewed the session");
                return Ok(stored);
            }
        };

        if let Some(session) =
            self.renew_shared(last_read.or(read_while_waiting.as_ref()), policy)?
        {
            return Ok(session);
        }
        // Another process may have exchanged the token that was read before the
        // lock was acquired, so it is read again.
        let session = self.load()?.ok_or(SessionError::NotSignedIn)?;
        let is_first_read = last_read.is_none();
        let last_read = last_read.or(read_while_waiting.as_ref());
        if is_first_read {
            self.warn_if_stored_by_other_host(&session);
        }
        let session = self.run_pending_on_rotate(&lock, session)?;
        if last_read.is_some_and(|last_read| !session.has_same_tokens(last_read)) {
            self.terminal
                .verbose("another process has renewed the session");
            return Ok(session);
        }
        if self.is_fresh(&session, policy) {
            return Ok(session);
        }
        let deferral = self.interrupts.defer();
        deferral.finish(self.exchange(&lock, session))
    }

    /// Whether `session` needs no exchange under `policy`.
    pub(crate) fn is_fresh(&self, session: &Session, policy: RefreshPolicy) -> bool {
        let Some(access) = &session.access else {
            return false;
        };
        match policy {
            RefreshPolicy::Now => false,
            RefreshPolicy::IfEndsWithin(ttl) => access.expiry.outlasts(ttl, (self.now)()),
        }
    }

    /// Exchanges the refresh token of `session`, which was read under `lock`.
    fn exchange(&self, lock: &ProfileLock, session: Session) -> Result<Session, SessionError> {
        self.rotation_commands.run_check()?;
        let previous_pending = session.pending;
        let mut session = session;

        // Saving the marker that an exchange has begun also proves that the store
        // is writable before the token is sent.
        session.pending = Some(PendingExchange {
            began_at: (self.now)(),
            got_no_response: false,
        });
        self.save(lock, &session)?;

        let response = {
            let _waiting = self.terminal.spin("waiting for the server");
            self.client.exchange(&session.refresh.value)
        };
        let grant = match response {
            Ok(grant) => grant,
            Err(error) if ends_session(&error) => {
                return self.after_refusal(lock, &session, previous_pending, &error);
            }
            Err(error) => {
                let pending = if error.may_have_been_processed() {
                    session.pending.map(|pending| PendingExchange {
                        got_no_response: true,
                        ..pending
                    })
                } else {
                    previous_pending
                };
                self.set_pending(lock, session, pending);
                return Err(error.into());
            }
        };
        self.store_grant(lock, session, previous_pending, grant)
    }

    /// Saves the tokens of an exchange. If the grant has no access token, saves
    /// the refresh token and then fails.
    fn store_grant(
        &self,
        lock: &ProfileLock,
        session: Session,
        previous_pending: Option<PendingExchange>,
        grant: Grant,
    ) -> Result<Session, SessionError> {
        const NO_ACCESS: SessionError = SessionError::NoToken {
            missing: "access token",
        };
        let has_access = grant.access.is_some();
        let is_rotated = grant.refresh.is_some();
        if !has_access && grant.refresh.is_none() {
            self.set_pending(lock, session, previous_pending);
            return Err(NO_ACCESS);
        }
        self.terminal.verbose(match &grant.refresh {
            Some(_) => "renewed; the server has replaced the refresh token",
            None => "renewed; the refresh token is unchanged",
        });
        let mut session = session.with_grant(grant);
        if !has_access {
            // The old access token must not be taken for a new one.
            session.access = None;
        }
        session.hand_over_pending |= is_rotated && self.rotation_commands.has_on_rotate();
        self.persist(lock, &session)?;
        let session = self.run_pending_on_rotate(lock, session)?;
        if has_access {
            Ok(session)
        } else {
            Err(NO_ACCESS)
        }
    }

    /// Handles the server's refusal of the refresh token: deletes the session,
    /// unless a different session has been stored in the meantime.
    fn after_refusal(
        &self,
        lock: &ProfileLock,
        session: &Session,
        previous_pending: Option<PendingExchange>,
        error: &ApiError,
    ) -> Result<Session, SessionError> {
        // An older version of this program, or another machine with the same
        // home directory, may store a session without taking our lock. Such a
        // session must not be deleted. An unreadable session may be such a one.
        match self.load() {
            Ok(Some(stored)) if !stored.has_same_tokens(session) => {
                self.terminal
                    .verbose("the stored token is no longer the one that was refused");
                return Ok(stored);
            }
            Ok(_) => match self.entry().delete(lock) {
                Ok(_) => self.record_signed_out(),
                Err(error) => self.terminal.warn(&format!(
                    "the ended session could not be removed from the store: {error}"
                )),
            },
            Err(error) => self.terminal.warn(&format!(
                "the ended session was not removed from the store: {error}"
            )),
        }
        Err(SessionError::Ended {
            message: error.to_string(),
            cause: previous_pending.map(LikelyCause::from),
        })
    }

    /// Replaces the marker that an exchange has begun. A failure is only logged:
    /// the tokens are unchanged, and the marker is only used to word a later error.
    fn set_pending(&self, lock: &ProfileLock, session: Session, pending: Option<PendingExchange>) {
        let mut session = session;
        session.pending = pending;
        if let Err(error) = self.save(lock, &session) {
            self.terminal.verbose(&format!(
                "could not record the state of the exchange: {error}"
            ));
        }
    }

    /// Saves a session that exists only in memory. Retries with backoff for up
    /// to `SAVE_TIMEOUT`, or `REMOTE_SAVE_TIMEOUT` for a helper's store.
    pub(super) fn persist(
        &self,
        lock: &ProfileLock,
        session: &Session,
    ) -> Result<(), SessionError> {
        let started = Instant::now();
        let timeout = match self.store {
            StoreKind::Helper(_) => REMOTE_SAVE_TIMEOUT,
            _ => SAVE_TIMEOUT,
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .without_max_times()
            .with_jitter();
        (|| self.save(lock, session))
            .retry(backoff)
            .when(|_| started.elapsed() < timeout)
            .notify(|error, _| {
                self.terminal
                    .verbose(&format!("could not store the session, retrying: {error}"));
            })
            .call()
            .map_err(SessionError::NotSaved)
    }

    pub(super) fn save(&self, lock: &ProfileLock, session: &Session) -> Result<(), StoreError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        self.entry().save(lock, session)
    }
}
