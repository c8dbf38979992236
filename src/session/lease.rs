//! The renewal of a session that machines share: a lease in the store comes
//! before the exchange, because a compare-and-set after it is too late. By then
//! two machines have redeemed the token.
//!
//! The holder's clock starts before the write that takes the lease, a watcher's
//! after it; so a holder that has kept to its deadline has ended before anybody
//! takes over. Wall clocks decide nothing. A write without an answer is looked
//! up, never guessed. Store, server, clocks and sleeps are parameters
//! ([`World`]), so that the tests run this code in virtual time.

mod exchange;
mod login;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
mod watch;

use std::time::Duration;

use self::watch::{Backoff, Watch};
use crate::model::{Grant, Origin, PendingExchange, RefreshToken, Session, Timestamp};
use crate::store::{
    Lease, PutOutcome, SharedEntry, StoreError, StoreErrorKind, Version, VersionedEntry,
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
    /// The server's clock minus this machine's, in milliseconds, if it is known.
    fn skew(&self) -> Option<i64>;
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
    /// Reads and parses the entry. See [`Self::read`].
    pub(super) fn look_up(
        &self,
        limit: Duration,
        timeout: Duration,
        attempts: u32,
    ) -> Result<(Version, Option<SharedEntry>), StoreError> {
        let (version, bytes) = self.read(limit, timeout, attempts)?;
        let entry = bytes.map(|bytes| self.parse(&bytes)).transpose()?;
        Ok((version, entry))
    }

    /// Reads the entry. Retries while the store does not answer, until `limit`
    /// on the watcher's clock, but at least `attempts` times.
    fn read(
        &self,
        limit: Duration,
        timeout: Duration,
        attempts: u32,
    ) -> Result<VersionedEntry, StoreError> {
        let mut backoff = Backoff::default();
        let mut made = 0;
        loop {
            made += 1;
            match self.world.get(timeout) {
                Ok(read) => return Ok(read),
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

    /// Parses an entry, with the receipts by this machine's clock.
    fn parse(&self, bytes: &[u8]) -> Result<SharedEntry, StoreError> {
        SharedEntry::from_bytes(bytes, self.world.skew())
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
        let mut lapsed: Option<Lease> = None;
        let mut has_tried = false;
        loop {
            let (version, entry) = self.look_up(limit, self.timing.request, 1)?;
            let Some(entry) = entry else {
                return Err(LeaseError::NotSignedIn);
            };
            let known = before.or(first_read.as_ref());
            let session = self.session_of(&entry, lapsed.as_ref())?;
            let is_renewed = known.is_some_and(|known| !session.has_same_tokens(known));
            if is_renewed {
                self.world
                    .log("another run or machine has renewed the session");
            }
            if is_renewed || is_fresh(session) {
                return entry.renewed_by_others();
            }
            // A failure writes another journal mark into the session.
            let has_failed = known.is_some_and(|known| known.pending != session.pending);
            if known.is_none() {
                first_read = self.reparsed(&entry)?.session;
            }
            // Late, and the tokens are still those of the start.
            if has_tried && self.world.watcher_clock() >= limit {
                return Err(LeaseError::Busy(lapsed));
            }
            if let Some(lease) = entry.sharing.lease.as_ref() {
                let length = Duration::from_millis(lease.duration).min(MAX_LEASE);
                let now = self.world.watcher_clock();
                if !watch.is_over(&version, length, now, self.timing.max_gap) {
                    if !self.timing.is_lock_timeout_given {
                        limit = limit.max(watch.began() + length + Duration::from_secs(5));
                    }
                    if now >= limit {
                        return Err(LeaseError::Busy(Some(lease.clone())));
                    }
                    if watch.began() == now {
                        self.world
                            .log(&format!("waiting for the renewal on {}", lease.host));
                    }
                    self.world.sleep(backoff.next(self.world.random()));
                    continue;
                }
                self.world
                    .log(&format!("the lease of {} has run out", lease.host));
                lapsed = Some(lease.clone());
            } else if has_failed && let Some(failed) = &entry.sharing.failed {
                return Err(LeaseError::Shared(failed.why.clone()));
            }
            if let Some(taken) = self.take(entry, &version)? {
                if let Step::Done(renewal) = self.exchange(taken, &mut lapsed)? {
                    return Ok(renewal);
                }
            } else {
                self.world
                    .sleep(Backoff::default().next(self.world.random()));
            }
            has_tried = true;
        }
    }

    /// Returns the session of an entry. It must be one of this server that has not ended.
    fn session_of<'e>(
        &self,
        entry: &'e SharedEntry,
        lapsed: Option<&Lease>,
    ) -> Outcome<&'e Session, W> {
        let session = entry.session.as_ref().ok_or(LeaseError::NotSignedIn)?;
        if session.origin != *self.origin {
            return Err(LeaseError::OtherOrigin(session.origin.clone()));
        }
        match &entry.sharing.ended {
            None => Ok(session),
            Some(ended) => Err(LeaseError::Ended {
                message: ended.message.clone(),
                lapsed: lapsed.cloned(),
                pending: session.pending,
            }),
        }
    }

    /// A second copy of an entry, whose tokens have no `Clone`.
    fn reparsed(&self, entry: &SharedEntry) -> Result<SharedEntry, StoreError> {
        self.parse(&entry.to_bytes()?)
    }
}

impl SharedEntry {
    fn renewed_by_others<E>(self) -> Result<Renewal, LeaseError<E>> {
        let session = self.session.ok_or(LeaseError::NotSignedIn)?;
        Ok(Renewal::Theirs(session))
    }
}
