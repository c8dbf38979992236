//! Login, logout and the test of a shared store. None of them waits for a lease.

use super::watch::Backoff;
use super::{LeaseError, LoggedOut, MIN_ATTEMPTS, Outcome, SharedSession, World};
use crate::model::Session;
use crate::session::StoreProof;
use crate::store::{PutOutcome, SharedEntry, Sharing, StoreError};

impl<W: World> SharedSession<'_, W> {
    /// Stores the session of a login: it wins over whatever is there. Returns
    /// the session that it replaced.
    pub(in crate::session) fn log_in(
        &self,
        session: Session,
    ) -> Outcome<(Session, Option<Session>), W> {
        let new = SharedEntry {
            session: Some(session),
            sharing: Sharing {
                lineage: format!("{:016x}{:016x}", self.world.random(), self.world.random()),
                ..Default::default()
            },
        };
        let bytes = new.to_bytes()?;
        let limit = self.after(self.timing.save_timeout);
        let mut backoff = Backoff::default();
        let mut former = None;
        let mut failed = None;
        loop {
            let read = self.read(limit, self.timing.attempt, MIN_ATTEMPTS);
            let (version, found) = read.map_err(LeaseError::Lost)?;
            // An entry that cannot be parsed is replaced as well.
            let entry = found.and_then(|bytes| self.parse(&bytes).ok());
            let is_mine = entry
                .as_ref()
                .is_some_and(|entry| entry.sharing.lineage == new.sharing.lineage);
            // A put of ours that came through late is not what we replace.
            if !is_mine {
                former =
                    entry.and_then(|entry| entry.session.filter(|_| entry.sharing.ended.is_none()));
            }
            let is_stored = is_mine
                || match self.world.put(&version, &bytes, self.timing.attempt) {
                    Ok(PutOutcome::Stored(_)) => true,
                    Ok(PutOutcome::Conflict | PutOutcome::Unknown) => false,
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                };
            if is_stored {
                let session = new.session.ok_or(LeaseError::NotSignedIn)?;
                return Ok((session, former));
            }
            if self.world.watcher_clock() >= limit || self.world.is_abandoned() {
                return Err(LeaseError::Lost(failed.unwrap_or_else(|| {
                    StoreError::failed("the store did not take the session")
                })));
            }
            self.world.sleep(backoff.next(self.world.random()));
        }
    }

    /// Ends the session for all machines: revokes it, then marks the entry. It
    /// waits for no lease; a renewal under way revokes what it gets.
    pub(in crate::session) fn log_out(&self) -> Outcome<LoggedOut<W::Revocation>, W> {
        let limit = self.after(self.timing.lock_timeout);
        let mut backoff = Backoff::default();
        let mut revocations = Vec::new();
        let mut revoked: Option<Session> = None;
        let mut was_there = false;
        loop {
            let (version, entry) = self.look_up(limit, self.timing.request, 1)?;
            let Some(mut entry) = entry.filter(|entry| !entry.sharing.gone) else {
                return Ok(LoggedOut {
                    was_there,
                    revocations,
                });
            };
            was_there = true;
            if let Some(session) = entry.session.take()
                && revoked
                    .as_ref()
                    .is_none_or(|former| former.refresh.value != session.refresh.value)
            {
                if entry.sharing.ended.is_none() {
                    revocations.push(self.world.revoke(&session));
                }
                revoked = Some(session);
            }
            entry.sharing.gone = true;
            entry.sharing.lease = None;
            entry.sharing.failed = None;
            entry.sharing.ended = None;
            let put = self
                .world
                .put(&version, &entry.to_bytes()?, self.timing.request)?;
            if matches!(put, PutOutcome::Stored(_)) {
                return Ok(LoggedOut {
                    was_there,
                    revocations,
                });
            }
            if self.world.watcher_clock() >= limit {
                return Err(LeaseError::Busy(None));
            }
            self.world.sleep(backoff.next(self.world.random()));
        }
    }

    /// Proves that the store can be written, and refuses a former version.
    /// Nothing is written while another machine renews.
    pub(in crate::session) fn test_store(&self) -> Outcome<StoreProof, W> {
        for _ in 0..MIN_ATTEMPTS {
            let (version, bytes) = self.world.get(self.timing.request)?;
            let entry = bytes.as_ref().map(|bytes| self.parse(bytes));
            if let Some(Ok(entry)) = entry
                && let Some(lease) = entry.sharing.lease
            {
                return Ok(StoreProof::Leased { host: lease.host });
            }
            let gone = SharedEntry {
                session: None,
                sharing: Sharing {
                    gone: true,
                    ..Default::default()
                },
            };
            let bytes = bytes.map_or_else(|| gone.to_bytes(), Ok)?;
            let put = || self.world.put(&version, &bytes, self.timing.request);
            match put()? {
                PutOutcome::Stored(_) => {}
                // Another machine has written meanwhile.
                PutOutcome::Conflict => continue,
                PutOutcome::Unknown => return Err(unknown().into()),
            }
            return match put()? {
                PutOutcome::Conflict => Ok(StoreProof::Compared),
                PutOutcome::Unknown => Err(unknown().into()),
                PutOutcome::Stored(_) => Err(StoreError::failed(
                    "the store claims to compare versions, and overwrote",
                )
                .into()),
            };
        }
        Err(LeaseError::Busy(None))
    }
}

fn unknown() -> StoreError {
    StoreError::unavailable("the store did not say whether it wrote")
}
