//! Renewal: the exchange of the refresh token, and all that can go wrong with it.

use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};

use super::{Keeper, SessionError, Spent, Verdict};
use crate::api::ApiError;
use crate::model::{Mark, Session};
use crate::store::{ProfileLock, StoreError};

/// How long the write of a renewed session is tried again.
const SAVE_FOR: Duration = Duration::from_secs(8);

/// What makes an exchange necessary.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// Somebody asked for it, or the server refused the access token.
    Now,
    /// The access token has to last longer than this.
    Lasting(Duration),
}

impl Keeper<'_> {
    /// The session after a renewal, by us or by whoever held the lock before us.
    ///
    /// `before` is the session as this run has read it, if it has: a session
    /// that differs from it under the lock was renewed since, which is as
    /// fresh as can be had.
    pub fn renew(&self, before: Option<Session>, need: Need) -> Result<Session, SessionError> {
        let started = Instant::now();
        let mut before = before;
        let lock = loop {
            if let Some(lock) = self.locks.try_acquire(self.store.profile())? {
                break lock;
            }
            if before.is_none() {
                before = self.load()?;
            }
            self.wait_for_holder(started)?;
            if let (Some(before), Some(now)) = (&before, self.load()?)
                && !now.same_tokens(before)
            {
                self.terminal
                    .verbose("another process has renewed the session");
                return Ok(now);
            }
        };

        // What was read before the lock may be spent by now: read again.
        let session = self.load()?.ok_or(SessionError::NotSignedIn)?;
        if before.is_some_and(|before| !session.same_tokens(&before)) {
            self.terminal
                .verbose("another process has renewed the session");
            return Ok(session);
        }
        if self.is_fresh(&session, need) {
            return Ok(session);
        }
        self.exchange(&lock, session)
    }

    /// Whether `session` meets the need as it is.
    #[must_use]
    pub fn is_fresh(&self, session: &Session, need: Need) -> bool {
        let Some(access) = &session.access else {
            return false;
        };
        match need {
            Need::Now => false,
            Need::Lasting(wanted) => access.expiry.outlasts(wanted, (self.now)()),
        }
    }

    /// Exchanges the refresh token of `session`, which was read under `lock`;
    /// signals wait for the end of it.
    fn exchange(&self, lock: &ProfileLock, session: Session) -> Result<Session, SessionError> {
        let deferral = self.interrupts.defer();
        deferral.end(self.exchange_and_store(lock, session))
    }

    fn exchange_and_store(
        &self,
        lock: &ProfileLock,
        session: Session,
    ) -> Result<Session, SessionError> {
        let former_mark = session.mark;
        let mut session = session;

        // The mark proves the store writable before anything is spent.
        session.mark = Some(Mark {
            began: (self.now)(),
        });
        self.save(lock, &session)?;

        let answer = {
            let _waiting = self.terminal.spin("waiting for the server");
            self.client.exchange(&session.refresh.value)
        };
        let grant = match answer {
            Ok(grant) => grant,
            Err(error) => return self.after_failure(lock, session, former_mark, error),
        };
        if grant.access.is_none() && grant.refresh.is_none() {
            self.unmark(lock, session, former_mark);
            return Err(SessionError::NoToken {
                missing: "access token",
            });
        }
        self.terminal.verbose(match &grant.refresh {
            Some(_) => "renewed; the server has replaced the refresh token",
            None => "renewed; the refresh token stays",
        });
        let session = session.renewed(grant);
        self.persist(lock, &session)?;
        Ok(session)
    }

    fn after_failure(
        &self,
        lock: &ProfileLock,
        session: Session,
        former_mark: Option<Mark>,
        error: ApiError,
    ) -> Result<Session, SessionError> {
        if Verdict::of(&error) == Verdict::Passing {
            if let Some(mark) = session.mark
                && error.may_have_arrived()
                && let Err(e) = lock.note_unanswered(Some(mark.began))
            {
                self.terminal
                    .verbose(&format!("the lost answer is not noted: {e}"));
            }
            self.unmark(lock, session, former_mark);
            return Err(error.into());
        }
        let spent = match former_mark {
            Some(mark) => Some(Spent::Killed(mark.began)),
            None => lock.unanswered().map(Spent::Unanswered),
        };
        // Nobody else should have written under our lock; an older version, or
        // another machine on a shared home, may have. Its session is not ours
        // to drop, nor is one that cannot be looked at.
        match self.load() {
            Ok(Some(now)) if !now.same_tokens(&session) => {
                self.terminal
                    .verbose("the refused token is not the stored one any more");
                return Ok(now);
            }
            Ok(_) => {
                if let Err(error) = self.store.delete(lock) {
                    self.terminal.warn(&format!(
                        "the ended session could not be removed from the store: {error}"
                    ));
                }
            }
            Err(error) => self.terminal.warn(&format!(
                "the ended session was not removed from the store: {error}"
            )),
        }
        Err(SessionError::Ended {
            message: error.to_string(),
            spent,
        })
    }

    /// Puts the entry back as it was before the mark. Should that fail, the
    /// tokens in it are the same all the same.
    fn unmark(&self, lock: &ProfileLock, session: Session, former_mark: Option<Mark>) {
        let mut session = session;
        session.mark = former_mark;
        if let Err(error) = self.save(lock, &session) {
            self.terminal
                .verbose(&format!("the mark of the exchange stays: {error}"));
        }
    }

    /// Writes a session that exists nowhere else, again and again while there is hope.
    pub(super) fn persist(
        &self,
        lock: &ProfileLock,
        session: &Session,
    ) -> Result<(), SessionError> {
        let started = Instant::now();
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .without_max_times()
            .with_jitter();
        (|| self.save(lock, session))
            .retry(backoff)
            .when(|_| started.elapsed() < SAVE_FOR)
            .notify(|error, _| {
                self.terminal
                    .verbose(&format!("storing the session again: {error}"));
            })
            .call()
            .map_err(SessionError::Lost)?;
        // What was noted was of the former tokens.
        if let Err(error) = lock.note_unanswered(None) {
            self.terminal
                .verbose(&format!("an old note stays in the lock file: {error}"));
        }
        Ok(())
    }

    fn save(&self, lock: &ProfileLock, session: &Session) -> Result<(), StoreError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        self.store.save(lock, session)
    }
}
