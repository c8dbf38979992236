//! Under the lease: taking it, the exchange, and what is written after it.

use std::time::Duration;

use super::watch::Backoff;
use super::{Exchanged, LeaseError, MIN_ATTEMPTS, Outcome, Renewal, SharedSession, Step, World};
use crate::model::{Grant, PendingExchange};
use crate::store::{EndedMark, FailedAttempt, Lease, PutOutcome, SharedEntry, StoreError, Version};

impl<W: World> SharedSession<'_, W> {
    /// Puts the lease. `None` if another one was faster.
    pub(super) fn take(&self, entry: SharedEntry, version: &Version) -> Outcome<Option<Taken>, W> {
        let began = self.world.holder_clock();
        let by = format!("{:016x}{:016x}", self.world.random(), self.world.random());
        let mut entry = entry;
        entry.sharing.failed = None;
        entry.sharing.lease = Some(Lease {
            by: by.clone(),
            host: self.world.host(),
            pid: self.world.pid(),
            began: self.world.now(),
            duration: u64::try_from(self.timing.lease.as_millis()).unwrap_or(u64::MAX),
        });
        let put = self
            .world
            .put(version, &entry.to_bytes()?, self.timing.request)?;
        match put {
            PutOutcome::Stored(version) => Ok(Some(Taken {
                entry,
                version,
                began,
                by,
            })),
            PutOutcome::Conflict => Ok(None),
            PutOutcome::Unknown => {
                let limit = self.after(self.timing.lease);
                let (version, found) = self.look_up(limit, self.timing.request, 1)?;
                let is_mine = found
                    .as_ref()
                    .and_then(|entry| entry.sharing.lease.as_ref())
                    .is_some_and(|lease| lease.by == by);
                Ok(is_mine.then_some(Taken {
                    entry,
                    version,
                    began,
                    by,
                }))
            }
        }
    }

    /// Exchanges the token under a lease, unless the lease has become too short.
    pub(super) fn exchange(&self, taken: Taken, lapsed: &mut Option<Lease>) -> Outcome<Step, W> {
        let timing = self.timing;
        let elapsed = self.world.holder_clock().saturating_sub(taken.began);
        if elapsed + timing.exchange * 2 + timing.margin > timing.lease {
            self.world
                .log("taking the lease took too long: giving it back");
            self.release(taken, None);
            return Ok(Step::Again);
        }
        let Some(session) = &taken.entry.session else {
            return Err(LeaseError::NotSignedIn);
        };
        match self.world.exchange(&session.refresh.value) {
            Exchanged::Granted(grant) if grant.access.is_none() && grant.refresh.is_none() => {
                self.release(taken, None);
                Err(LeaseError::NoAccess)
            }
            Exchanged::Granted(grant) => {
                let has_access = grant.access.is_some();
                let renewal = self.persist(&taken, grant)?;
                match renewal {
                    Renewal::Own(_) if !has_access => Err(LeaseError::NoAccess),
                    renewal => Ok(Step::Done(renewal)),
                }
            }
            Exchanged::NoAnswer(error) => {
                let why = error.to_string();
                self.release(taken, Some(why));
                Err(LeaseError::Request(error))
            }
            Exchanged::Refused(error) => self.after_refusal(&taken, &error.to_string(), lapsed),
        }
    }

    /// Gives the lease back, with the reason if the exchange got no usable
    /// response. One attempt: if it fails, the lease runs out.
    fn release(&self, taken: Taken, why: Option<String>) {
        let Taken {
            mut entry,
            version,
            by,
            ..
        } = taken;
        if why.is_some()
            && let Some(session) = &mut entry.session
        {
            session.pending = Some(PendingExchange {
                began: self.world.now(),
                unanswered: true,
            });
        }
        entry.sharing.lease = None;
        entry.sharing.failed = why.map(|why| FailedAttempt { by, why });
        let put = entry
            .to_bytes()
            .and_then(|bytes| self.world.put(&version, &bytes, self.timing.attempt));
        match put {
            Ok(PutOutcome::Stored(_) | PutOutcome::Conflict) => {}
            Ok(PutOutcome::Unknown) => self.world.log("the lease may stay until it runs out"),
            Err(error) => self
                .world
                .log(&format!("the lease stays until it runs out: {error}")),
        }
    }

    /// Puts the new tokens, in short attempts: with versions, a repetition does no harm.
    fn persist(&self, taken: &Taken, grant: Grant) -> Outcome<Renewal, W> {
        let after = self.renewed(taken, grant)?;
        let bytes = after.to_bytes()?;
        let limit = self.after(self.timing.save_timeout);
        let mut version = taken.version.clone();
        let mut backoff = Backoff::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failed = match self.world.put(&version, &bytes, self.timing.attempt) {
                Ok(PutOutcome::Stored(_)) => return own(after),
                Ok(PutOutcome::Conflict | PutOutcome::Unknown) => None,
                Err(error) => Some(error),
            };
            let (found, entry) = self
                .look_up(limit, self.timing.attempt, MIN_ATTEMPTS)
                .map_err(LeaseError::Lost)?;
            let (Some(new), Some(redeemed)) = (&after.session, &taken.entry.session) else {
                return Err(LeaseError::NotSignedIn);
            };
            let Some((entry, session)) = entry.and_then(|mut entry| {
                let session = entry.session.take()?;
                Some((entry, session))
            }) else {
                // Logged out meanwhile: what the server has just issued ends as well.
                self.world.revoke(new);
                return Err(LeaseError::NotSignedIn);
            };
            if session.has_same_tokens(new) {
                return own(after);
            }
            if entry.sharing.lineage != after.sharing.lineage {
                self.world.revoke(new);
                return Ok(Renewal::Theirs(session));
            }
            if !session.has_same_tokens(redeemed) {
                return Ok(Renewal::Theirs(session));
            }
            // Still the token that this run has redeemed, whoever holds a lease
            // on it or believes it ended: the new one belongs there.
            version = found;
            let is_late = self.world.watcher_clock() >= limit && attempts >= MIN_ATTEMPTS;
            if is_late || self.world.is_abandoned() {
                return Err(LeaseError::Lost(failed.unwrap_or_else(|| {
                    StoreError::failed("the store did not take the renewed session")
                })));
            }
            if attempts > 2 {
                self.world.sleep(backoff.next(self.world.random()) / 4);
            }
        }
    }

    /// The entry after a renewal under the lease.
    fn renewed(&self, taken: &Taken, grant: Grant) -> Result<SharedEntry, StoreError> {
        let SharedEntry {
            session,
            mut sharing,
        } = self.reparsed(&taken.entry)?;
        let mut session =
            session.ok_or_else(|| StoreError::failed("the shared entry holds no session"))?;
        if grant.skew.is_some() {
            session.set_skew(grant.skew);
        }
        let has_access = grant.access.is_some();
        let mut session = session.renewed(grant);
        if !has_access {
            // The former access token must not pass for a new one.
            session.access = None;
        }
        sharing.generation += 1;
        sharing.lease = None;
        sharing.failed = None;
        sharing.ended = None;
        Ok(SharedEntry {
            session: Some(session),
            sharing,
        })
    }

    /// Looks again before a refusal is believed: the token may not be the stored
    /// one any more, or another run may hold it and know better.
    fn after_refusal(
        &self,
        taken: &Taken,
        message: &str,
        lapsed: &mut Option<Lease>,
    ) -> Outcome<Step, W> {
        let limit = self.after(self.timing.lock_timeout.max(Duration::from_secs(60)));
        let ended = || LeaseError::Ended {
            message: message.to_owned(),
            lapsed: lapsed.clone(),
            pending: taken.entry.session.as_ref().and_then(|s| s.pending),
        };
        loop {
            let Ok((version, entry)) = self.look_up(limit, self.timing.request, 1) else {
                return Err(ended());
            };
            let Some(mut entry) = entry else {
                return Err(LeaseError::NotSignedIn);
            };
            let session = self.session_of(&entry, lapsed.as_ref())?;
            let refused = taken.entry.session.as_ref();
            if refused.is_some_and(|refused| !session.has_same_tokens(refused)) {
                self.world
                    .log("the refused token is not the stored one any more");
                return entry.renewed_by_others().map(Step::Done);
            }
            if entry
                .sharing
                .lease
                .as_ref()
                .is_some_and(|lease| lease.by != taken.by)
            {
                return Ok(Step::Again);
            }
            entry.sharing.lease = None;
            entry.sharing.ended = Some(EndedMark {
                message: message.to_owned(),
                at: self.world.now(),
            });
            let put = self
                .world
                .put(&version, &entry.to_bytes()?, self.timing.request);
            if matches!(put, Ok(PutOutcome::Stored(_)) | Err(_))
                || self.world.watcher_clock() >= limit
            {
                return Err(ended());
            }
        }
    }
}

/// A lease that this run holds.
pub(super) struct Taken {
    /// The entry as it was put.
    entry: SharedEntry,
    version: Version,
    /// The holder's clock before that put.
    began: Duration,
    by: String,
}

fn own<E>(entry: SharedEntry) -> Result<Renewal, LeaseError<E>> {
    entry
        .session
        .map(Renewal::Own)
        .ok_or(LeaseError::NotSignedIn)
}
