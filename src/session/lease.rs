//! The lease protocol: renews a session that several machines share.
//!
//! A refresh token can be exchanged only once, so two machines must not send the same
//! token. To notice this only when the result is stored would be too late: the token has been
//! used by then. Therefore a machine acquires a lease before it exchanges the token: it writes its name into the session's
//! entry, on the condition that no other machine has changed the entry.
//!
//! The machine with the lease is its holder. The other machines are watchers: they read the
//! entry until it changes. If the holder crashes, a watcher takes over once it has seen the
//! same lease for the duration in the lease. The holder starts to measure before it writes the
//! lease, and a watcher starts only after it has read the lease. So the lease expires for the
//! holder first. The holder sends the token only if the rest of its lease is long enough to
//! receive the response. No decision compares the
//! wall clocks of two machines.
//!
//! If there is no response to a write, the entry is read to find out whether the write was
//! done. The protocol calls the store, the server and the clocks through [`Environment`],
//! which tests replace to run the protocol in virtual time.

mod exchange;
mod login;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulated_server;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
mod watch;

use std::time::Duration;

use self::watch::{Backoff, LeaseWatch};
use crate::model::{ApiUrl, Grant, PendingExchange, RefreshToken, Session, Timestamp};
use crate::store::{
    Lease, PutOutcome, SharedEntry, StoreError, StoreErrorKind, Version, VersionedEntry,
};

/// The outcome of an exchange of the refresh token.
pub(super) enum ExchangeOutcome<E> {
    Granted(Grant),
    /// The server refused the token: the session has ended.
    Refused(E),
    /// There was no usable response. The server may have accepted the token.
    NoResponse(E),
}

/// What the protocol uses of its surroundings. Tests replace it.
pub(super) trait Environment {
    /// Describes a failed request.
    type Error: std::fmt::Display;
    /// The outcome of a revocation.
    type Revocation;

    fn get(&self, timeout: Duration) -> Result<VersionedEntry, StoreError>;
    fn put(
        &self,
        expected: &Version,
        entry: &[u8],
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError>;
    fn exchange(&self, refresh: &RefreshToken, timeout: Duration) -> ExchangeOutcome<Self::Error>;
    fn revoke(&self, session: &Session) -> Self::Revocation;
    /// Returns the time of a clock that advances while the machine is suspended.
    fn holder_clock(&self) -> Duration;
    /// Returns the time of a clock that stops while the machine is suspended, or of any
    /// monotonic clock if the platform has none that stops.
    fn watcher_clock(&self) -> Duration;
    fn now(&self) -> Timestamp;
    fn sleep(&self, duration: Duration);
    fn random(&self) -> u64;
    fn host(&self) -> String;
    /// Returns the server's clock minus this machine's, in milliseconds, if it is known.
    fn clock_skew_millis(&self) -> Option<i64>;
    /// Whether the user has interrupted the run twice. The run must then stop trying to
    /// store a result.
    fn is_abandoned(&self) -> bool;
    fn log(&self, text: &str);
}

/// The durations and timeouts of the protocol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) lease_duration: Duration,
    /// Timeout for the response head, and again for the response body. An exchange
    /// takes at most twice this time.
    pub(super) exchange_timeout: Duration,
    /// Part of the lease reserved for differing clock rates and network delays.
    pub(super) margin: Duration,
    /// How long a run waits for the lease of another machine.
    pub(super) lock_timeout: Duration,
    /// Whether the user set `lock_timeout`. If not, it is extended to outlast the
    /// lease of another machine.
    pub(super) is_lock_timeout_given: bool,
    /// Timeout for a get, and for a put before the exchange or after a refusal.
    pub(super) request_timeout: Duration,
    /// Timeout for one attempt to store a result or to release the lease.
    pub(super) save_attempt_timeout: Duration,
    /// How long storing a result is retried.
    pub(super) save_timeout: Duration,
    /// Upper bound for the time between two reads that counts towards the age of a lease.
    /// While this run cannot reach the store, the holder may be unable to store its result,
    /// so a long gap must not make the lease expire.
    pub(super) max_aging_per_read: Duration,
}

impl Timing {
    pub(super) const DEFAULT: Self = Self {
        lease_duration: Duration::from_secs(30),
        exchange_timeout: Duration::from_secs(10),
        margin: Duration::from_secs(5),
        lock_timeout: Duration::from_secs(45),
        is_lock_timeout_given: false,
        request_timeout: Duration::from_secs(10),
        save_attempt_timeout: Duration::from_millis(2500),
        save_timeout: Duration::from_secs(600),
        max_aging_per_read: Duration::from_secs(3),
    };
}

/// Maximum duration of a lease. A longer duration in an entry counts as this one.
const MAX_LEASE: Duration = Duration::from_secs(600);
/// How far the default lock timeout is extended past the expiry of another machine's lease,
/// so that this run can take over.
const TAKEOVER_MARGIN: Duration = Duration::from_secs(5);
/// Minimum number of attempts to store a result, even after the deadline: a process
/// that was stopped (SIGSTOP) may reach its deadline before its first attempt.
const MIN_SAVE_ATTEMPTS: u32 = 5;

/// A successful renewal.
#[derive(Debug)]
pub(super) enum Renewal {
    ByThisRun(Session),
    /// Another run, here or on another machine, has stored a session that needs no exchange.
    ByOthers(Session),
}

impl Renewal {
    pub(super) fn into_session(self) -> Session {
        match self {
            Self::ByThisRun(session) | Self::ByOthers(session) => session,
        }
    }
}

/// Why a shared session was not renewed.
#[derive(Debug)]
pub(super) enum LeaseError<E> {
    NotSignedIn,
    OtherServer(ApiUrl),
    Ended {
        message: String,
        /// The lease that expired while this run waited. Its holder most likely used the
        /// token.
        expired_lease: Option<Lease>,
        /// An earlier exchange of the token that got no usable response.
        pending: Option<PendingExchange>,
    },
    /// The lock timeout has passed. Contains the lease that this run waited for, if any.
    Busy(Option<Lease>),
    /// The exchange got no usable response.
    Request(E),
    /// Another run exchanged the token while this run waited, and got no usable response.
    /// Contains the reason.
    OtherRunFailed(String),
    /// The server's response contained no access token.
    NoAccessToken,
    Store(StoreError),
    /// The server issued tokens, and storing them failed.
    Lost(StoreError),
}

impl<E> From<StoreError> for LeaseError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The result of a logout.
#[derive(Debug)]
pub(super) struct LoggedOut<R> {
    pub(super) session_existed: bool,
    /// The outcome of each revocation. If another run renews the session during the
    /// logout, there are two or more.
    pub(super) revocations: Vec<R>,
}

/// Which errors of a read are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadRetries {
    /// Retries while the store is unavailable.
    WhileUnavailable,
    /// Retries every error, and makes at least [`MIN_SAVE_ATTEMPTS`] attempts. For a run that
    /// has new tokens to store.
    EveryError,
}

/// Runs the protocol on the entry of one profile.
pub(super) struct SharedSession<'a, E> {
    pub(super) environment: &'a E,
    pub(super) timing: &'a Timing,
    pub(super) api_url: &'a ApiUrl,
}

type LeaseResult<T, Env> = Result<T, LeaseError<<Env as Environment>::Error>>;

impl<E: Environment> SharedSession<'_, E> {
    /// Reads and parses the entry. Until `deadline` on the watcher's clock,
    /// retries errors as `retries` says. `timeout` applies to each attempt.
    pub(super) fn read_entry(
        &self,
        deadline: Duration,
        timeout: Duration,
        retries: ReadRetries,
    ) -> Result<(Version, Option<SharedEntry>), StoreError> {
        let (version, bytes) = self.read_bytes(deadline, timeout, retries)?;
        let entry = bytes.map(|bytes| self.parse(&bytes)).transpose()?;
        Ok((version, entry))
    }

    /// Reads the entry. Retries errors until `deadline` on the watcher's clock.
    fn read_bytes(
        &self,
        deadline: Duration,
        timeout: Duration,
        retries: ReadRetries,
    ) -> Result<VersionedEntry, StoreError> {
        let min_attempts = match retries {
            ReadRetries::WhileUnavailable => 1,
            ReadRetries::EveryError => MIN_SAVE_ATTEMPTS,
        };
        let mut backoff = Backoff::default();
        let mut attempts_made = 0;
        loop {
            attempts_made += 1;
            match self.environment.get(timeout) {
                Ok(read) => return Ok(read),
                Err(error) => {
                    let is_permanent = error.kind != StoreErrorKind::Unavailable
                        && retries == ReadRetries::WhileUnavailable;
                    let has_timed_out = self.has_passed(deadline) && attempts_made >= min_attempts;
                    if is_permanent || has_timed_out || self.environment.is_abandoned() {
                        return Err(error);
                    }
                    self.environment
                        .log(&format!("store error, retrying: {error}"));
                }
            }
            self.pause(&mut backoff);
        }
    }

    /// Parses an entry, and converts its times from the server's clock to this machine's.
    fn parse(&self, bytes: &[u8]) -> Result<SharedEntry, StoreError> {
        SharedEntry::from_bytes(bytes, self.environment.clock_skew_millis())
    }

    /// Returns the time of the watcher's clock at which `timeout` has passed.
    pub(super) fn deadline_in(&self, timeout: Duration) -> Duration {
        self.environment.watcher_clock() + timeout
    }

    fn has_passed(&self, deadline: Duration) -> bool {
        self.environment.watcher_clock() >= deadline
    }

    /// Sleeps for the next pause of `backoff`.
    fn pause(&self, backoff: &mut Backoff) {
        self.environment
            .sleep(backoff.next_pause(self.environment.random()));
    }

    fn random_id(&self) -> String {
        let random = || self.environment.random();
        format!("{:016x}{:016x}", random(), random())
    }

    /// Renews the session, or returns the session that another run has renewed.
    ///
    /// `last_read` is the session that the caller has read. If it is `None`, the session
    /// that is read first here takes its place. If the stored session has other tokens, or
    /// `is_fresh` returns true for it, it is returned without an exchange.
    ///
    /// If another run fails to renew the session while this run waits, this run reports
    /// that failure instead of sending the token too. `failed_attempt_before_wait` is the
    /// failure to ignore, because it is older than the wait: `None` if this run did not wait
    /// for the profile's lock, `Some(None)` if no failed attempt was stored before the wait, and
    /// `Some(Some(id))` if the failed attempt `id` was.
    pub(super) fn renew(
        &self,
        last_read: Option<&Session>,
        mut failed_attempt_before_wait: Option<Option<String>>,
        is_fresh: &dyn Fn(&Session) -> bool,
    ) -> LeaseResult<Renewal, E> {
        let mut deadline = self.deadline_in(self.timing.lock_timeout);
        let mut first_read: Option<Session> = None;
        let mut watch = LeaseWatch::default();
        let mut backoff = Backoff::default();
        let mut expired_lease: Option<Lease> = None;
        let mut has_tried_to_acquire = false;
        loop {
            let (version, entry) = self.read_entry(
                deadline,
                self.timing.request_timeout,
                ReadRetries::WhileUnavailable,
            )?;
            let Some(entry) = entry else {
                return Err(LeaseError::NotSignedIn);
            };
            let baseline = last_read.or(first_read.as_ref());
            let session = self.current_session(&entry, expired_lease.as_ref())?;
            let is_renewed = baseline.is_some_and(|baseline| !session.has_same_tokens(baseline));
            if is_renewed {
                self.environment.log("another run has renewed the session");
            }
            if is_renewed || is_fresh(session) {
                return entry.into_renewal_by_others();
            }
            let failed_attempt_before_wait = failed_attempt_before_wait
                .get_or_insert_with(|| entry.coordination.failed_attempt_id());
            if baseline.is_none() {
                first_read = self.copy_entry(&entry)?.session;
            }
            if has_tried_to_acquire && self.has_passed(deadline) {
                return Err(LeaseError::Busy(expired_lease));
            }
            if let Some(lease) = entry.coordination.lease.as_ref() {
                let lease_duration = Duration::from_millis(lease.duration_millis).min(MAX_LEASE);
                let now = self.environment.watcher_clock();
                watch.record_read(&version, now, self.timing.max_aging_per_read);
                if watch.lease_age() < lease_duration {
                    if !self.timing.is_lock_timeout_given {
                        deadline =
                            deadline.max(watch.first_seen() + lease_duration + TAKEOVER_MARGIN);
                    }
                    if now >= deadline {
                        return Err(LeaseError::Busy(Some(lease.clone())));
                    }
                    // Log only at the first read of this lease.
                    if watch.first_seen() == now {
                        self.environment
                            .log(&format!("waiting for the renewal on {}", lease.host));
                    }
                    self.pause(&mut backoff);
                    continue;
                }
                self.environment
                    .log(&format!("the lease of {} has expired", lease.host));
                expired_lease = Some(lease.clone());
            } else if let Some(failed) = &entry.coordination.failed_attempt
                && failed_attempt_before_wait.as_ref() != Some(&failed.attempt_id)
            {
                return Err(LeaseError::OtherRunFailed(failed.reason.clone()));
            }
            if let Some(held) = self.acquire_lease(entry, &version)? {
                let renewal = self.exchange_under_lease(held, expired_lease.as_ref())?;
                if let Some(renewal) = renewal {
                    return Ok(renewal);
                }
            } else {
                // Another run has changed the entry. Read it again.
                self.pause(&mut Backoff::default());
            }
            has_tried_to_acquire = true;
        }
    }

    /// Returns the session of `entry`. Fails if the session has ended or belongs to
    /// another server.
    fn current_session<'e>(
        &self,
        entry: &'e SharedEntry,
        expired_lease: Option<&Lease>,
    ) -> LeaseResult<&'e Session, E> {
        let session = entry.session.as_ref().ok_or(LeaseError::NotSignedIn)?;
        if session.api_url != *self.api_url {
            return Err(LeaseError::OtherServer(session.api_url.clone()));
        }
        match &entry.coordination.ended {
            None => Ok(session),
            Some(ended) => Err(LeaseError::Ended {
                message: ended.message.clone(),
                expired_lease: expired_lease.cloned(),
                pending: session.pending,
            }),
        }
    }

    /// Copies an entry through its stored form, because tokens do not implement `Clone`.
    fn copy_entry(&self, entry: &SharedEntry) -> Result<SharedEntry, StoreError> {
        self.parse(&entry.to_bytes()?)
    }
}

impl SharedEntry {
    fn into_renewal_by_others<E>(self) -> Result<Renewal, LeaseError<E>> {
        self.session
            .map(Renewal::ByOthers)
            .ok_or(LeaseError::NotSignedIn)
    }
}
