//! The renewal of a session that machines share: a lease in the store comes
//! before the exchange, because a compare-and-set after it is too late. By then
//! two machines have redeemed the token.
//!
//! The holder's clock starts before the write that takes the lease, a watcher's
//! after it; so a holder that has kept to its deadline has ended before anybody
//! takes over. Wall clocks decide nothing. A write without an answer is looked
//! up, never guessed. Store, server, clocks and sleeps are parameters
//! ([`World`]), so that the tests run this code in virtual time.

#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
mod watch;

use std::time::Duration;

use self::watch::{Backoff, Watch};
use crate::model::{Grant, Origin, PendingExchange, RefreshToken, Session, Timestamp};
use crate::store::{
    EndedMark, Failure, Lease, PutOutcome, SharedEntry, StoreError, StoreErrorKind, Version,
    VersionedEntry,
};

/// The outcome of an exchange.
pub(super) enum Exchanged<E> {
    Granted(Grant),
    /// The server has ended the session.
    Refused(E),
    /// Nothing usable came back. The token may be spent.
    NoAnswer(E),
}

/// What a run of the protocol needs of the world.
pub(super) trait World {
    /// A failed request.
    type Error: std::fmt::Display;
    /// What became of a revocation.
    type Revocation;

    fn get(&self, timeout: Duration) -> Result<VersionedEntry, StoreError>;
    fn put(
        &self,
        expected: &Version,
        entry: &[u8],
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError>;
    fn exchange(&self, refresh: &RefreshToken) -> Exchanged<Self::Error>;
    fn revoke(&self, session: &Session) -> Self::Revocation;
    /// A clock that runs on while the machine is suspended.
    fn holder_clock(&self) -> Duration;
    /// A monotonic clock. One that stands still in a suspend is the safer one.
    fn watcher_clock(&self) -> Duration;
    fn now(&self) -> Timestamp;
    fn sleep(&self, time: Duration);
    fn random(&self) -> u64;
    fn host(&self) -> String;
    fn pid(&self) -> u32;
    /// Whether the person has given up on saving a result.
    fn is_abandoned(&self) -> bool;
    fn log(&self, text: &str);
}

/// The protocol's times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) lease: Duration,
    /// The longest that one phase of an exchange takes. It has two: head and body.
    pub(super) exchange: Duration,
    /// Kept free at the end of the lease: rates of clocks, the way to the server.
    pub(super) margin: Duration,
    pub(super) lock_timeout: Duration,
    /// Whether a person chose `lock_timeout`; else it grows with the lease watched.
    pub(super) is_lock_timeout_given: bool,
    /// A get, and a put that can be repeated from the start.
    pub(super) request: Duration,
    /// One attempt to put the result.
    pub(super) attempt: Duration,
    pub(super) save_timeout: Duration,
    /// The most that a gap between two answers of the store adds to what was watched.
    pub(super) max_gap: Duration,
}

impl Timing {
    pub(super) const DEFAULT: Self = Self {
        lease: Duration::from_secs(30),
        exchange: Duration::from_secs(10),
        margin: Duration::from_secs(5),
        lock_timeout: Duration::from_secs(45),
        is_lock_timeout_given: false,
        request: Duration::from_secs(10),
        attempt: Duration::from_millis(2500),
        save_timeout: Duration::from_secs(600),
        max_gap: Duration::from_secs(3),
    };
}

/// No lease lasts longer, whatever an entry says.
const MAX_LEASE: Duration = Duration::from_secs(600);
/// Attempts to put a result, however late it is: a run that was paused has some left.
const MIN_ATTEMPTS: u32 = 5;

/// A successful renewal.
#[derive(Debug)]
pub(super) enum Renewal {
    Own(Session),
    /// Another run or machine has renewed the session.
    Theirs(Session),
}

impl Renewal {
    pub(super) fn session(self) -> Session {
        match self {
            Self::Own(session) | Self::Theirs(session) => session,
        }
    }
}

/// Why a shared session was not renewed.
#[derive(Debug)]
pub(super) enum LeaseError<E> {
    NotSignedIn,
    OtherOrigin(Origin),
    Ended {
        message: String,
        /// The lease that ran out before, whose holder most likely spent the token.
        lapsed: Option<Lease>,
        /// An exchange of that token that got no usable response.
        pending: Option<PendingExchange>,
    },
    Busy(Option<Lease>),
    /// The exchange got no usable response.
    Request(E),
    /// The run that this one waited for got no usable response.
    Shared(String),
    NoAccess,
    Store(StoreError),
    /// The server issued tokens that the store did not take.
    Lost(StoreError),
}

impl<E> From<StoreError> for LeaseError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a logout found and did.
#[derive(Debug)]
pub(super) struct LoggedOut<R> {
    pub(super) was_there: bool,
    pub(super) revocations: Vec<R>,
}

/// Runs the protocol on one entry.
pub(super) struct SharedSession<'a, W> {
    pub(super) world: &'a W,
    pub(super) timing: &'a Timing,
    pub(super) origin: &'a Origin,
}

/// What to do after a step.
enum Step {
    Done(Renewal),
    Again,
}

type Outcome<T, W> = Result<T, LeaseError<<W as World>::Error>>;

impl<W: World> SharedSession<'_, W> {
    /// Reads the entry. Retries while the store does not answer, until `limit`
    /// on the watcher's clock, but at least `attempts` times.
    pub(super) fn look_up(
        &self,
        limit: Duration,
        timeout: Duration,
        attempts: u32,
    ) -> Result<(Version, Option<SharedEntry>), StoreError> {
        let mut backoff = Backoff::default();
        let mut made = 0;
        loop {
            made += 1;
            match self.world.get(timeout) {
                Ok((version, None)) => return Ok((version, None)),
                Ok((version, Some(bytes))) => {
                    return Ok((version, Some(SharedEntry::from_bytes(&bytes)?)));
                }
                Err(error) => {
                    // While a result waits, whatever the store says is tried again.
                    let is_final = error.kind != StoreErrorKind::Unavailable && attempts < 2;
                    let is_late = self.world.watcher_clock() >= limit && made >= attempts;
                    if is_final || is_late || self.world.is_abandoned() {
                        return Err(error);
                    }
                    self.world.log(&format!("asking the store again: {error}"));
                }
            }
            self.world.sleep(backoff.next(self.world.random()));
        }
    }

    fn after(&self, time: Duration) -> Duration {
        self.world.watcher_clock() + time
    }

    /// Renews the session, or takes what another one has renewed. `before` is
    /// the session as this run has read it, if it has. One that `is_fresh` is
    /// returned as it is.
    pub(super) fn renew(
        &self,
        before: Option<&Session>,
        is_fresh: &dyn Fn(&Session) -> bool,
    ) -> Outcome<Renewal, W> {
        let mut limit = self.after(self.timing.lock_timeout);
        // The tokens that this run began with, if nobody has read them before.
        let mut first_read: Option<Session> = None;
        let mut watch = Watch::default();
        let mut backoff = Backoff::default();
        // Attempts that this run has waited for, or that had failed when it began.
        let mut waited_for: Vec<String> = Vec::new();
        let mut failed_before: Option<Option<String>> = None;
        let mut lapsed: Option<Lease> = None;
        loop {
            let (version, entry) = self.look_up(limit, self.timing.request, 1)?;
            let Some(entry) = entry else {
                return Err(LeaseError::NotSignedIn);
            };
            let failed = entry.sharing.failed.clone();
            let failed_before = failed_before
                .get_or_insert_with(|| failed.as_ref().map(|failed| failed.by.clone()))
                .clone();
            let known = before.or(first_read.as_ref());
            if self.usable(&entry, known, lapsed.as_ref())?.is_some() {
                self.world
                    .log("another run or machine has renewed the session");
                return self.theirs(entry);
            }
            if known.is_none() {
                first_read = reparsed(&entry)?.session;
            }
            if entry.session.as_ref().is_some_and(is_fresh) {
                return self.theirs(entry);
            }
            if let Some(lease) = entry.lease() {
                let length = Duration::from_millis(lease.duration).min(MAX_LEASE);
                let now = self.world.watcher_clock();
                if !watch.is_over(&version, length, now, self.timing.max_gap) {
                    if !self.timing.is_lock_timeout_given {
                        limit = limit.max(watch.began() + length + Duration::from_secs(5));
                    }
                    if now >= limit {
                        return Err(LeaseError::Busy(Some(lease.clone())));
                    }
                    if !waited_for.contains(&lease.by) {
                        self.world
                            .log(&format!("waiting for the renewal on {}", lease.host));
                        waited_for.push(lease.by.clone());
                    }
                    self.world.sleep(backoff.next(self.world.random()));
                    continue;
                }
                self.world
                    .log(&format!("the lease of {} has run out", lease.host));
                lapsed = Some(lease.clone());
            } else if let Some(failed) = failed
                && (waited_for.contains(&failed.by) || failed_before.as_ref() != Some(&failed.by))
            {
                return Err(LeaseError::Shared(failed.why));
            }
            if let Some(taken) = self.take(entry, &version)? {
                if let Step::Done(renewal) = self.exchange(taken, &mut lapsed)? {
                    return Ok(renewal);
                }
            } else {
                self.world
                    .sleep(Backoff::default().next(self.world.random()));
            }
            if self.world.watcher_clock() >= limit {
                return Err(LeaseError::Busy(lapsed));
            }
        }
    }

    /// Checks that the entry holds a session of this server. `Theirs` if its
    /// tokens are not those of `before`.
    fn usable(
        &self,
        entry: &SharedEntry,
        before: Option<&Session>,
        lapsed: Option<&Lease>,
    ) -> Outcome<Option<Renewal>, W> {
        let Some(session) = &entry.session else {
            return Err(LeaseError::NotSignedIn);
        };
        if session.origin != *self.origin {
            return Err(LeaseError::OtherOrigin(session.origin.clone()));
        }
        let is_other = before.is_some_and(|before| !session.has_same_tokens(before));
        if let Some(ended) = &entry.sharing.ended {
            return Err(LeaseError::Ended {
                message: ended.message.clone(),
                lapsed: lapsed.cloned(),
                pending: session.pending,
            });
        }
        Ok(match is_other {
            true => reparsed(entry)?.session.map(Renewal::Theirs),
            false => None,
        })
    }

    fn theirs(&self, entry: SharedEntry) -> Outcome<Renewal, W> {
        entry
            .session
            .map(Renewal::Theirs)
            .ok_or(LeaseError::NotSignedIn)
    }

    /// Puts the lease. `None` if another one was faster.
    fn take(&self, entry: SharedEntry, version: &Version) -> Outcome<Option<Taken>, W> {
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
                    .and_then(SharedEntry::lease)
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
    fn exchange(&self, taken: Taken, lapsed: &mut Option<Lease>) -> Outcome<Step, W> {
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
        entry.sharing.failed = why.map(|why| Failure { by, why });
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
        let after = renewed(taken, grant)?;
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
            if let Some(theirs) =
                self.usable(&entry, taken.entry.session.as_ref(), lapsed.as_ref())?
            {
                self.world
                    .log("the refused token is not the stored one any more");
                return Ok(Step::Done(theirs));
            }
            if entry.lease().is_some_and(|lease| lease.by != taken.by) {
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

    /// Stores the session of a login: it wins over whatever is there. Returns
    /// the session that it replaced.
    pub(super) fn log_in(&self, session: Session) -> Outcome<(Session, Option<Session>), W> {
        let new = SharedEntry {
            session: Some(session),
            sharing: crate::store::Sharing {
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
            let found = self.world_entry(limit);
            let (version, entry) = found.map_err(LeaseError::Lost)?;
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

    /// The entry, for one who replaces it: what cannot be parsed is none.
    fn world_entry(&self, limit: Duration) -> Result<(Version, Option<SharedEntry>), StoreError> {
        let mut backoff = Backoff::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.world.get(self.timing.attempt) {
                Ok((version, bytes)) => {
                    let entry = bytes.and_then(|bytes| SharedEntry::from_bytes(&bytes).ok());
                    return Ok((version, entry));
                }
                Err(error)
                    if self.world.is_abandoned()
                        || (self.world.watcher_clock() >= limit && attempts >= MIN_ATTEMPTS) =>
                {
                    return Err(error);
                }
                Err(_) => self.world.sleep(backoff.next(self.world.random())),
            }
        }
    }

    /// Ends the session for all machines: revokes it, then marks the entry. It
    /// waits for no lease; a renewal under way revokes what it gets.
    pub(super) fn log_out(&self) -> Outcome<LoggedOut<W::Revocation>, W> {
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

    /// Proves that the store keeps what is written and refuses a former version.
    /// Nothing is written while another machine renews.
    pub(super) fn test_store(&self) -> Outcome<(), W> {
        let (version, bytes) = self.world.get(self.timing.request)?;
        if let Some(bytes) = &bytes
            && SharedEntry::from_bytes(bytes).is_ok_and(|entry| entry.lease().is_some())
        {
            return Ok(());
        }
        let gone = SharedEntry {
            session: None,
            sharing: crate::store::Sharing {
                gone: true,
                ..Default::default()
            },
        };
        let bytes = bytes.map_or_else(|| gone.to_bytes(), Ok)?;
        match self.world.put(&version, &bytes, self.timing.request)? {
            PutOutcome::Stored(_) => {}
            // Another machine has written: the store compares.
            PutOutcome::Conflict => return Ok(()),
            PutOutcome::Unknown => {
                return Err(LeaseError::Store(StoreError {
                    kind: StoreErrorKind::Unavailable,
                    message: "the store did not say whether it wrote".to_owned(),
                    hint: None,
                }));
            }
        }
        match self.world.put(&version, &bytes, self.timing.request)? {
            PutOutcome::Conflict => Ok(()),
            PutOutcome::Unknown => Err(LeaseError::Store(StoreError {
                kind: StoreErrorKind::Unavailable,
                message: "the store did not say whether it wrote".to_owned(),
                hint: None,
            })),
            PutOutcome::Stored(_) => Err(LeaseError::Store(StoreError::failed(
                "the store claims to compare versions, and overwrote",
            ))),
        }
    }
}

/// A lease that this run holds.
struct Taken {
    /// The entry as it was put.
    entry: SharedEntry,
    version: Version,
    /// The holder's clock before that put.
    began: Duration,
    by: String,
}

/// The entry after a renewal under the lease.
fn renewed(taken: &Taken, grant: Grant) -> Result<SharedEntry, StoreError> {
    let SharedEntry {
        session,
        mut sharing,
    } = reparsed(&taken.entry)?;
    let mut session =
        session.ok_or_else(|| StoreError::failed("the shared entry holds no session"))?;
    if let Some(skew) = grant.skew {
        // What the server did not replace was received in its time.
        session.refresh.expiry = session.refresh.expiry.shifted(-skew);
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

fn own<E>(entry: SharedEntry) -> Result<Renewal, LeaseError<E>> {
    entry
        .session
        .map(Renewal::Own)
        .ok_or(LeaseError::NotSignedIn)
}

/// A second copy of an entry, whose tokens have no `Clone`.
fn reparsed(entry: &SharedEntry) -> Result<SharedEntry, StoreError> {
    SharedEntry::from_bytes(&entry.to_bytes()?)
}
