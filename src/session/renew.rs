//! Renewal: the exchange of the refresh token, and what can go wrong with it.

use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};

use super::error::ends_session;
use super::{LikelyCause, SessionError, SessionManager};
use crate::api::ApiError;
use crate::model::{Grant, PendingExchange, Session};
use crate::store::{ProfileLock, StoreError, StoreKind};

/// How long the write of new tokens is retried.
const SAVE_TIMEOUT: Duration = Duration::from_secs(8);
/// The same for a store behind a helper.
const REMOTE_SAVE_TIMEOUT: Duration = Duration::from_secs(120);

/// When an exchange is necessary.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RefreshPolicy {
    /// In any case: it was asked for, or the server refused the access token.
    Now,
    /// If the access token does not last longer than this.
    IfEndsWithin(Duration),
}

impl SessionManager<'_> {
    /// Returns the session after a renewal, by this process or by another one
    /// that held the lock before.
    ///
    /// `before` is the session as this run has read it, if it has. A session
    /// that differs from it under the lock was renewed since, which is as fresh
    /// as can be had.
    pub(crate) fn renew(
        &self,
        before: Option<&Session>,
        policy: RefreshPolicy,
    ) -> Result<Session, SessionError> {
        let started = Instant::now();
        let mut read_while_waiting = None;
        let lock = loop {
            if let Some(lock) = self.locks.try_acquire(&self.profile)? {
                break lock;
            }
            if before.is_none() && read_while_waiting.is_none() {
                read_while_waiting = self.load()?;
            }
            self.wait_for_holder(started)?;
            if let (Some(before), Some(now)) =
                (before.or(read_while_waiting.as_ref()), self.load()?)
                && !now.has_same_tokens(before)
            {
                self.terminal
                    .verbose("another process has renewed the session");
                return Ok(now);
            }
        };

        if let Some(session) = self.renew_shared(before.or(read_while_waiting.as_ref()), policy)? {
            return Ok(session);
        }
        // What was read before the lock may be spent by now.
        let session = self.load()?.ok_or(SessionError::NotSignedIn)?;
        let before = before.or(read_while_waiting.as_ref());
        if before.is_none() {
            self.warn_of_other_writer(&session);
        }
        let session = self.hand_over(&lock, session)?;
        if before.is_some_and(|before| !session.has_same_tokens(before)) {
            self.terminal
                .verbose("another process has renewed the session");
            return Ok(session);
        }
        if self.is_fresh(&session, policy) {
            return Ok(session);
        }
        let deferral = self.interrupts.defer();
        deferral.end(self.exchange(&lock, session))
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
        self.rotation.check()?;
        let former = session.pending;
        let mut session = session;

        // The journal mark proves the store writable before anything is spent.
        session.pending = Some(PendingExchange {
            began: (self.now)(),
            unanswered: false,
        });
        self.save(lock, &session)?;

        let response = {
            let _waiting = self.terminal.spin("waiting for the server");
            self.client.exchange(&session.refresh.value)
        };
        let grant = match response {
            Ok(grant) => grant,
            Err(error) if ends_session(&error) => {
                return self.after_refusal(lock, &session, former, &error);
            }
            Err(error) => {
                let unanswered = session.pending.map(|pending| PendingExchange {
                    unanswered: true,
                    ..pending
                });
                let left = if error.may_have_arrived() {
                    unanswered
                } else {
                    former
                };
                self.set_pending(lock, session, left);
                return Err(error.into());
            }
        };
        self.store_grant(lock, session, former, grant)
    }

    /// Stores the tokens of an exchange. Without an access token it fails after that.
    fn store_grant(
        &self,
        lock: &ProfileLock,
        session: Session,
        former: Option<PendingExchange>,
        grant: Grant,
    ) -> Result<Session, SessionError> {
        const NO_ACCESS: SessionError = SessionError::NoToken {
            missing: "access token",
        };
        let has_access = grant.access.is_some();
        let is_rotated = grant.refresh.is_some();
        if !has_access && grant.refresh.is_none() {
            self.set_pending(lock, session, former);
            return Err(NO_ACCESS);
        }
        self.terminal.verbose(match &grant.refresh {
            Some(_) => "renewed; the server has replaced the refresh token",
            None => "renewed; the refresh token stays",
        });
        let mut session = session.renewed(grant);
        if !has_access {
            // The former access token must not pass for a new one.
            session.access = None;
        }
        session.hand_over_pending |= is_rotated && self.rotation.is_set();
        self.persist(lock, &session)?;
        let session = self.hand_over(lock, session)?;
        if has_access {
            Ok(session)
        } else {
            Err(NO_ACCESS)
        }
    }

    /// The server refused the token: ends the session, unless another one is
    /// stored meanwhile.
    fn after_refusal(
        &self,
        lock: &ProfileLock,
        session: &Session,
        former: Option<PendingExchange>,
        error: &ApiError,
    ) -> Result<Session, SessionError> {
        // Nobody else should have written under our lock, but an older version,
        // or another machine with a shared home, may have. Its session must not
        // be deleted, nor may one that cannot be read.
        match self.load() {
            Ok(Some(now)) if !now.has_same_tokens(session) => {
                self.terminal
                    .verbose("the refused token is not the stored one any more");
                return Ok(now);
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
            cause: former.map(LikelyCause::from),
        })
    }

    /// Replaces the journal mark. If that fails, the tokens are unchanged all
    /// the same, and the mark stays.
    fn set_pending(&self, lock: &ProfileLock, session: Session, pending: Option<PendingExchange>) {
        let mut session = session;
        session.pending = pending;
        if let Err(error) = self.save(lock, &session) {
            self.terminal
                .verbose(&format!("the journal mark of the exchange stays: {error}"));
        }
    }

    /// Writes a session that exists in memory alone. Retries with backoff for
    /// up to `SAVE_TIMEOUT`, longer if the store may be remote.
    pub(super) fn persist(
        &self,
        lock: &ProfileLock,
        session: &Session,
    ) -> Result<(), SessionError> {
        let started = Instant::now();
        let timeout = match self.store {
            // What a helper stands for may be on another machine.
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
                    .verbose(&format!("storing the session again: {error}"));
            })
            .call()
            .map_err(SessionError::Lost)
    }

    pub(super) fn save(&self, lock: &ProfileLock, session: &Session) -> Result<(), StoreError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        self.entry().save(lock, session)
    }
}
