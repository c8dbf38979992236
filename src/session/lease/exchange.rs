//! Acquires the lease, exchanges the token under it, and stores the result.

use std::time::Duration;

use super::watch::Backoff;
use super::{
    Environment, ExchangeOutcome, LeaseError, LeaseResult, MIN_SAVE_ATTEMPTS, ReadRetries, Renewal,
    SharedSession,
};
use crate::model::{Grant, PendingExchange};
use crate::store::{
    FailedAttempt, Lease, PutOutcome, SessionEnd, SharedEntry, StoreError, Version,
};

impl<E: Environment> SharedSession<'_, E> {
    /// Writes this run's lease into the entry. Returns `None` if another run has
    /// changed the entry.
    pub(super) fn acquire_lease(
        &self,
        mut entry: SharedEntry,
        version: &Version,
    ) -> LeaseResult<Option<HeldLease>, E> {
        let acquisition_started = self.environment.holder_clock();
        let attempt_id = self.random_id();
        entry.coordination.failed_attempt = None;
        entry.coordination.lease = Some(Lease {
            attempt_id: attempt_id.clone(),
            host: self.environment.host(),
            pid: std::process::id(),
            acquired_at: self.environment.now(),
            duration_millis: u64::try_from(self.timing.lease_duration.as_millis())
                .unwrap_or(u64::MAX),
        });
        let put = self
            .environment
            .put(version, &entry.to_bytes()?, self.timing.request_timeout)?;
        match put {
            PutOutcome::Stored(version) => Ok(Some(HeldLease {
                entry,
                version,
                acquisition_started,
                attempt_id,
            })),
            PutOutcome::Conflict => Ok(None),
            PutOutcome::Unknown => {
                let deadline = self.deadline_in(self.timing.lease_duration);
                let (version, found_entry) = self.read_entry(
                    deadline,
                    self.timing.request_timeout,
                    ReadRetries::WhileUnavailable,
                )?;
                let is_own_lease_stored = found_entry
                    .and_then(|entry| entry.coordination.lease)
                    .is_some_and(|lease| lease.attempt_id == attempt_id);
                Ok(is_own_lease_stored.then_some(HeldLease {
                    entry,
                    version,
                    acquisition_started,
                    attempt_id,
                }))
            }
        }
    }

    /// Exchanges the token and stores the result. Returns `None` if the caller must start
    /// over: if the rest of the lease was too short for an exchange (then the lease is
    /// released), or if the server refused the token and another run holds the lease.
    pub(super) fn exchange_under_lease(
        &self,
        held: HeldLease,
        expired_lease: Option<&Lease>,
    ) -> LeaseResult<Option<Renewal>, E> {
        let timing = self.timing;
        let elapsed = self
            .environment
            .holder_clock()
            .saturating_sub(held.acquisition_started);
        if elapsed + timing.exchange_timeout * 2 + timing.margin > timing.lease_duration {
            self.environment
                .log("acquiring the lease took too long, releasing it");
            self.release(held, None);
            return Ok(None);
        }
        let Some(session) = &held.entry.session else {
            return Err(LeaseError::NotSignedIn);
        };
        match self
            .environment
            .exchange(&session.refresh.value, timing.exchange_timeout)
        {
            ExchangeOutcome::Granted(grant)
                if grant.access.is_none() && grant.refresh.is_none() =>
            {
                self.release(held, None);
                Err(LeaseError::NoAccessToken)
            }
            ExchangeOutcome::Granted(grant) => {
                let has_access = grant.access.is_some();
                let renewal = self.store_result(&held, grant)?;
                match renewal {
                    Renewal::ByThisRun(_) if !has_access => Err(LeaseError::NoAccessToken),
                    renewal => Ok(Some(renewal)),
                }
            }
            ExchangeOutcome::NoResponse(error) => {
                self.release(held, Some(error.to_string()));
                Err(LeaseError::Request(error))
            }
            ExchangeOutcome::Refused(error) => {
                self.handle_refusal(&held, &error.to_string(), expired_lease)
            }
        }
    }

    /// Removes the lease from the entry. `failure` is the reason if the exchange got no
    /// usable response; it is stored, so that other runs can report it. Makes only one
    /// attempt, because the lease expires anyway.
    fn release(&self, held: HeldLease, failure: Option<String>) {
        let HeldLease {
            mut entry,
            version,
            attempt_id,
            ..
        } = held;
        let lease = entry.coordination.lease.take();
        let began_at = lease.map_or_else(|| self.environment.now(), |lease| lease.acquired_at);
        if failure.is_some()
            && let Some(session) = &mut entry.session
        {
            session.pending = Some(PendingExchange {
                began_at,
                got_no_response: true,
            });
        }
        entry.coordination.failed_attempt =
            failure.map(|reason| FailedAttempt { attempt_id, reason });
        let put = entry.to_bytes().and_then(|bytes| {
            self.environment
                .put(&version, &bytes, self.timing.save_attempt_timeout)
        });
        match put {
            Ok(PutOutcome::Stored(_) | PutOutcome::Conflict) => {}
            Ok(PutOutcome::Unknown) => self
                .environment
                .log("no response to the release of the lease; it may stay until it expires"),
            Err(error) => self.environment.log(&format!(
                "the lease was not released and stays until it expires: {error}"
            )),
        }
    }

    /// Stores the new tokens. Retries for `save_timeout`, with a short timeout for each
    /// attempt. A retry is safe, because each write is conditional on the version that was
    /// last read.
    fn store_result(&self, held: &HeldLease, grant: Grant) -> LeaseResult<Renewal, E> {
        let renewed_entry = self.renewed_entry(held, grant)?;
        let bytes = renewed_entry.to_bytes()?;
        let deadline = self.deadline_in(self.timing.save_timeout);
        let mut version = held.version.clone();
        let mut backoff = Backoff::default();
        let mut attempts_made = 0;
        loop {
            attempts_made += 1;
            let put_error =
                match self
                    .environment
                    .put(&version, &bytes, self.timing.save_attempt_timeout)
                {
                    Ok(PutOutcome::Stored(_)) => return into_renewal_by_this_run(renewed_entry),
                    Ok(PutOutcome::Conflict | PutOutcome::Unknown) => None,
                    Err(error) => Some(error),
                };
            let (found_version, found_entry) = self
                .read_entry(
                    deadline,
                    self.timing.save_attempt_timeout,
                    ReadRetries::EveryError,
                )
                .map_err(LeaseError::Lost)?;
            let (Some(new_session), Some(session_before)) =
                (&renewed_entry.session, &held.entry.session)
            else {
                return Err(LeaseError::NotSignedIn);
            };
            let Some(SharedEntry {
                session: Some(stored),
                coordination,
            }) = found_entry
            else {
                // The session was logged out meanwhile, so revoke the new tokens too.
                self.environment.revoke(new_session);
                return Err(LeaseError::NotSignedIn);
            };
            if stored.has_same_tokens(new_session) {
                return into_renewal_by_this_run(renewed_entry);
            }
            if coordination.login_id != renewed_entry.coordination.login_id {
                // Another login has replaced the session, so nobody else has the new tokens.
                self.environment.revoke(new_session);
                return Ok(Renewal::ByOthers(stored));
            }
            if !stored.has_same_tokens(session_before) {
                return Ok(Renewal::ByOthers(stored));
            }
            // The entry still holds the token that this run has exchanged. Overwrite the
            // entry even if another run has written a lease or marked the session as ended,
            // because only this run has the new tokens.
            version = found_version;
            let has_timed_out = self.has_passed(deadline) && attempts_made >= MIN_SAVE_ATTEMPTS;
            if has_timed_out || self.environment.is_abandoned() {
                return Err(LeaseError::Lost(put_error.unwrap_or_else(|| {
                    StoreError::failed("the store did not accept the renewed session")
                })));
            }
            if attempts_made > 2 {
                // Pause briefly: until the write succeeds, only this run has the tokens.
                let pause = backoff.next_pause(self.environment.random()) / 4;
                self.environment.sleep(pause);
            }
        }
    }

    /// Returns the entry to store after a successful exchange, without a lease.
    fn renewed_entry(&self, held: &HeldLease, grant: Grant) -> Result<SharedEntry, StoreError> {
        let SharedEntry {
            session,
            mut coordination,
        } = self.copy_entry(&held.entry)?;
        let mut session =
            session.ok_or_else(|| StoreError::failed("the shared entry holds no session"))?;
        if grant.clock_skew_millis.is_some() {
            session.set_clock_skew(grant.clock_skew_millis);
        }
        let session = session.with_grant(grant);
        coordination.renewal_count += 1;
        coordination.lease = None;
        coordination.failed_attempt = None;
        coordination.ended = None;
        Ok(SharedEntry {
            session: Some(session),
            coordination,
        })
    }

    /// Marks the session as ended after the server refused the token. First reads the
    /// entry again. If the entry has other tokens, returns them. If it has another run's
    /// lease, returns `None`, because that run may still get new tokens.
    fn handle_refusal(
        &self,
        held: &HeldLease,
        message: &str,
        expired_lease: Option<&Lease>,
    ) -> LeaseResult<Option<Renewal>, E> {
        let deadline = self.deadline_in(self.timing.lock_timeout.max(Duration::from_secs(60)));
        let ended = || LeaseError::Ended {
            message: message.to_owned(),
            expired_lease: expired_lease.cloned(),
            pending: held.entry.session.as_ref().and_then(|s| s.pending),
        };
        loop {
            let Ok((version, entry)) = self.read_entry(
                deadline,
                self.timing.request_timeout,
                ReadRetries::WhileUnavailable,
            ) else {
                return Err(ended());
            };
            let Some(mut entry) = entry else {
                return Err(LeaseError::NotSignedIn);
            };
            let session = self.current_session(&entry, expired_lease)?;
            let refused = held.entry.session.as_ref();
            if refused.is_some_and(|refused| !session.has_same_tokens(refused)) {
                self.environment
                    .log("the refused token is no longer the stored token");
                return entry.into_renewal_by_others().map(Some);
            }
            if entry
                .coordination
                .lease
                .as_ref()
                .is_some_and(|lease| lease.attempt_id != held.attempt_id)
            {
                return Ok(None);
            }
            entry.coordination.lease = None;
            entry.coordination.ended = Some(SessionEnd {
                message: message.to_owned(),
                at: self.environment.now(),
            });
            let put =
                self.environment
                    .put(&version, &entry.to_bytes()?, self.timing.request_timeout);
            if matches!(put, Ok(PutOutcome::Stored(_)) | Err(_)) || self.has_passed(deadline) {
                return Err(ended());
            }
        }
    }
}

/// A lease that this run holds.
pub(super) struct HeldLease {
    /// The entry that this run wrote. It contains the lease.
    entry: SharedEntry,
    version: Version,
    /// The time of the holder's clock before the lease was written.
    acquisition_started: Duration,
    attempt_id: String,
}

fn into_renewal_by_this_run<E>(entry: SharedEntry) -> Result<Renewal, LeaseError<E>> {
    entry
        .session
        .map(Renewal::ByThisRun)
        .ok_or(LeaseError::NotSignedIn)
}
