//! Renews a session: exchanges its refresh token, stores the new tokens, and handles
//! failures of the exchange. The user's command `on_rotate_check` runs before an exchange, and
//! `on_rotate` once a new refresh token is stored.

use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};

use super::error::ends_session;
use super::{LikelyCause, SessionError, SessionManager, TokenKind};
use crate::api::ApiError;
use crate::model::{Grant, PendingExchange, Session};
use crate::store::{ProfileLock, StoreError, StoreKind};

/// How long saving new tokens is retried.
const SAVE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long saving new tokens is retried in a store behind a helper program, which may be on
/// another machine.
const REMOTE_SAVE_TIMEOUT: Duration = Duration::from_secs(120);

/// The condition under which a session is renewed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RefreshPolicy {
    /// Always: the user asked for it, or the server refused the access token.
    Now,
    /// If the access token expires within this time.
    IfExpiresWithin(Duration),
}

impl SessionManager<'_> {
    /// Renews the stored session if `policy` requires it, and returns the session.
    ///
    /// `last_read` is the session that this run last read, if any. If the stored session now
    /// has other tokens than `last_read`, or than when this run began to wait for the lock,
    /// another process has renewed the session, and it is returned without an exchange.
    pub(crate) fn renew(
        &self,
        last_read: Option<&Session>,
        policy: RefreshPolicy,
    ) -> Result<Session, SessionError> {
        let started = Instant::now();
        let mut read_before_wait = None;
        // Tells an old failure to renew a shared session from a new one: `None` if this run did
        // not wait for the lock, `Some(None)` if no failed attempt was stored before the wait,
        // and `Some(Some(id))` if the failed attempt `id` was.
        let mut failed_attempt_before_wait = None;
        let lock = loop {
            if let Some(lock) = self.locks.try_acquire(&self.profile)? {
                break lock;
            }
            if failed_attempt_before_wait.is_none() {
                let entry = self.read_entry()?;
                read_before_wait = entry.session;
                failed_attempt_before_wait = Some(entry.failed_attempt_id);
            }
            self.wait_for_lock(started)?;
            if let (Some(baseline), Some(stored)) =
                (last_read.or(read_before_wait.as_ref()), self.load()?)
                && self.is_renewed_by_other_process(baseline, &stored)
            {
                return Ok(stored);
            }
        };

        let baseline = last_read.or(read_before_wait.as_ref());
        // If several machines share the session, renew it under a lease instead.
        if let Some(session) = self.renew_if_shared(baseline, failed_attempt_before_wait, policy)? {
            return Ok(session);
        }
        // Read the session again: before this run held the lock, another process may have
        // exchanged the token.
        let session = self.load()?.ok_or(SessionError::NotSignedIn)?;
        if last_read.is_none() {
            // A caller with `last_read` got it from `load_with_local_times`, which warns itself.
            self.warn_if_stored_by_other_host(&session);
        }
        // An earlier run may have stored a new refresh token without completing `on_rotate`.
        let session = self.run_on_rotate_if_pending(&lock, session)?;
        if baseline.is_some_and(|baseline| self.is_renewed_by_other_process(baseline, &session))
            || self.is_fresh(&session, policy)
        {
            return Ok(session);
        }
        // Defer signals: until they are stored, new tokens exist only in memory.
        let signal_deferral = self.interrupts.defer();
        signal_deferral.finish(self.exchange(&lock, session))
    }

    /// Whether another process has replaced the tokens of `baseline` by those of
    /// `stored`. If so, logs that.
    fn is_renewed_by_other_process(&self, baseline: &Session, stored: &Session) -> bool {
        let is_renewed = !stored.has_same_tokens(baseline);
        if is_renewed {
            self.terminal
                .verbose("another process has renewed the session");
        }
        is_renewed
    }

    /// Whether `policy` allows using `session` without an exchange.
    pub(crate) fn is_fresh(&self, session: &Session, policy: RefreshPolicy) -> bool {
        let Some(access) = &session.access else {
            return false;
        };
        match policy {
            RefreshPolicy::Now => false,
            RefreshPolicy::IfExpiresWithin(ttl) => access.expiry.outlasts(ttl, (self.now)()),
        }
    }

    /// Exchanges the refresh token of `session`, which was read under `lock`.
    fn exchange(&self, lock: &ProfileLock, mut session: Session) -> Result<Session, SessionError> {
        self.rotation_commands.run_on_rotate_check()?;
        let previous_pending = session.pending;
        // The pending marker lets a later run explain why the server refused the token.
        // Saving it also proves that the store is writable, before the token is sent.
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
                return self.handle_refusal(lock, &session, previous_pending, &error);
            }
            Err(error) => {
                let pending = if error.request_may_have_been_processed() {
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

    /// Saves the tokens that an exchange returned. If there is only a refresh token,
    /// saves it and then fails.
    fn store_grant(
        &self,
        lock: &ProfileLock,
        session: Session,
        previous_pending: Option<PendingExchange>,
        grant: Grant,
    ) -> Result<Session, SessionError> {
        const NO_ACCESS_TOKEN: SessionError = SessionError::NoToken(TokenKind::Access);
        let has_access_token = grant.access.is_some();
        let is_rotated = grant.refresh.is_some();
        if !has_access_token && !is_rotated {
            self.set_pending(lock, session, previous_pending);
            return Err(NO_ACCESS_TOKEN);
        }
        self.terminal.verbose(match &grant.refresh {
            Some(_) => "the server has replaced the refresh token",
            None => "the refresh token is unchanged",
        });
        let mut session = session.with_grant(grant);
        session.on_rotate_pending |= is_rotated && self.rotation_commands.has_on_rotate();
        self.save_with_retries(lock, &session)?;
        let session = self.run_on_rotate_if_pending(lock, session)?;
        if has_access_token {
            Ok(session)
        } else {
            Err(NO_ACCESS_TOKEN)
        }
    }

    /// Deletes the session, whose refresh token the server has refused. If a session
    /// with other tokens was stored in the meantime, returns that session instead.
    fn handle_refusal(
        &self,
        lock: &ProfileLock,
        session: &Session,
        previous_pending: Option<PendingExchange>,
        error: &ApiError,
    ) -> Result<Session, SessionError> {
        // An older version of this program, or another machine with the same home
        // directory, may store a session without acquiring our lock. Do not delete that
        // session. If the entry cannot be read, it may hold such a session too.
        match self.load() {
            Ok(Some(stored)) if !stored.has_same_tokens(session) => {
                self.terminal
                    .verbose("the refused token is no longer the stored token");
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

    /// Replaces the pending marker. Only logs a failure, because the marker is used
    /// only to explain a later error.
    fn set_pending(
        &self,
        lock: &ProfileLock,
        mut session: Session,
        pending: Option<PendingExchange>,
    ) {
        session.pending = pending;
        if let Err(error) = self.save(lock, &session) {
            self.terminal.verbose(&format!(
                "could not record the outcome of the exchange in the store: {error}"
            ));
        }
    }

    /// Saves new tokens, which exist only in memory. Retries with backoff until
    /// `SAVE_TIMEOUT` has passed, or `REMOTE_SAVE_TIMEOUT` for a helper's store.
    pub(super) fn save_with_retries(
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
            .map_err(SessionError::TokensNotStored)
    }

    /// Saves a session. Makes one attempt.
    pub(super) fn save(&self, lock: &ProfileLock, session: &Session) -> Result<(), StoreError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        self.entry().save(lock, session)
    }
}
