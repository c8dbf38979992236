//! Stores the session of a login, logs out, and tests a shared store. None of these waits
//! for a lease.

use super::watch::Backoff;
use super::{
    Environment, LeaseError, LeaseResult, LoggedOut, MIN_SAVE_ATTEMPTS, ReadRetries, SharedSession,
};
use crate::model::Session;
use crate::session::StoreProof;
use crate::store::{Coordination, PutOutcome, SharedEntry, StoreError};

impl<E: Environment> SharedSession<'_, E> {
    /// Stores the session of a login in place of any stored session. Returns it with the
    /// replaced session, unless the server had ended that one.
    pub(in crate::session) fn log_in(
        &self,
        session: Session,
    ) -> LeaseResult<(Session, Option<Session>), E> {
        let new = SharedEntry {
            session: Some(session),
            coordination: Coordination {
                login_id: self.random_id(),
                ..Default::default()
            },
        };
        let bytes = new.to_bytes()?;
        let deadline = self.deadline_in(self.timing.save_timeout);
        let mut backoff = Backoff::default();
        let mut replaced = None;
        let mut put_error = None;
        loop {
            let read = self.read_bytes(
                deadline,
                self.timing.save_attempt_timeout,
                ReadRetries::EveryError,
            );
            let (version, found_bytes) = read.map_err(LeaseError::Lost)?;
            // Ignore parse errors: the login replaces an unreadable entry too.
            let entry = found_bytes.and_then(|bytes| self.parse(&bytes).ok());
            let is_own_entry = entry
                .as_ref()
                .is_some_and(|entry| entry.coordination.login_id == new.coordination.login_id);
            // An earlier put of this login may have stored the session without a response.
            // Do not return that session as replaced, because the caller revokes it.
            if !is_own_entry {
                replaced = entry
                    .and_then(|entry| entry.session.filter(|_| entry.coordination.ended.is_none()));
            }
            let is_stored = is_own_entry
                || match self
                    .environment
                    .put(&version, &bytes, self.timing.save_attempt_timeout)
                {
                    Ok(PutOutcome::Stored(_)) => true,
                    Ok(PutOutcome::Conflict | PutOutcome::Unknown) => false,
                    Err(error) => {
                        put_error = Some(error);
                        false
                    }
                };
            if is_stored {
                let session = new.session.ok_or(LeaseError::NotSignedIn)?;
                return Ok((session, replaced));
            }
            if self.has_passed(deadline) || self.environment.is_abandoned() {
                return Err(LeaseError::Lost(put_error.unwrap_or_else(|| {
                    StoreError::failed("the store did not accept the session")
                })));
            }
            self.pause(&mut backoff);
        }
    }

    /// Ends the session for all machines: revokes it, then marks the entry as logged out.
    /// If another run is renewing the session, it finds the mark and revokes the new
    /// tokens.
    pub(in crate::session) fn log_out(&self) -> LeaseResult<LoggedOut<E::Revocation>, E> {
        let deadline = self.deadline_in(self.timing.lock_timeout);
        let mut backoff = Backoff::default();
        let mut revocations = Vec::new();
        let mut last_revoked: Option<Session> = None;
        let mut session_existed = false;
        loop {
            let (version, entry) = self.read_entry(
                deadline,
                self.timing.request_timeout,
                ReadRetries::WhileUnavailable,
            )?;
            let Some(mut entry) = entry.filter(|entry| !entry.coordination.is_logged_out) else {
                return Ok(LoggedOut {
                    session_existed,
                    revocations,
                });
            };
            session_existed = true;
            if let Some(session) = entry.session.take()
                && last_revoked
                    .as_ref()
                    .is_none_or(|last| last.refresh.value != session.refresh.value)
            {
                if entry.coordination.ended.is_none() {
                    revocations.push(self.environment.revoke(&session));
                }
                last_revoked = Some(session);
            }
            entry.coordination.is_logged_out = true;
            entry.coordination.lease = None;
            entry.coordination.failed_attempt = None;
            entry.coordination.ended = None;
            let put =
                self.environment
                    .put(&version, &entry.to_bytes()?, self.timing.request_timeout)?;
            if matches!(put, PutOutcome::Stored(_)) {
                return Ok(LoggedOut {
                    session_existed,
                    revocations,
                });
            }
            if self.has_passed(deadline) {
                return Err(LeaseError::Busy(None));
            }
            self.pause(&mut backoff);
        }
    }

    /// Tests that the store can be written and refuses a write with an old version.
    /// Writes nothing if the entry contains a lease.
    pub(in crate::session) fn test_store(&self) -> LeaseResult<StoreProof, E> {
        let mut backoff = Backoff::default();
        for _ in 0..MIN_SAVE_ATTEMPTS {
            let (version, bytes) = self.environment.get(self.timing.request_timeout)?;
            let entry = bytes.as_ref().map(|bytes| self.parse(bytes));
            if let Some(Ok(entry)) = entry
                && let Some(lease) = entry.coordination.lease
            {
                return Ok(StoreProof::LeaseHeld { host: lease.host });
            }
            let empty_entry = SharedEntry {
                session: None,
                coordination: Coordination {
                    is_logged_out: true,
                    ..Default::default()
                },
            };
            let bytes = bytes.map_or_else(|| empty_entry.to_bytes(), Ok)?;
            let put = || {
                self.environment
                    .put(&version, &bytes, self.timing.request_timeout)
            };
            match put()? {
                PutOutcome::Stored(_) => {}
                // Another machine has changed the entry. Read it again.
                PutOutcome::Conflict => {
                    self.pause(&mut backoff);
                    continue;
                }
                PutOutcome::Unknown => return Err(outcome_unknown().into()),
            }
            return match put()? {
                PutOutcome::Conflict => Ok(StoreProof::ComparesVersions),
                PutOutcome::Unknown => Err(outcome_unknown().into()),
                PutOutcome::Stored(_) => Err(StoreError::failed(
                    "the store claims to compare versions, but overwrote a newer version",
                )
                .into()),
            };
        }
        let text = "other machines changed the entry while the store was tested";
        Err(StoreError::unavailable(text).into())
    }
}

fn outcome_unknown() -> StoreError {
    StoreError::unavailable("the store did not confirm the write")
}
