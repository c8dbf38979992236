//! The operations on a session that machines share: the lease's world as it is
//! outside of tests, and what login, renewal and logout do with it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::end::EndedSession;
use super::error::ends_session;
use super::interrupts::Deferral;
use super::lease::{Exchanged, LeaseError, Renewal, SharedSession, Timing, World};
use super::{LikelyCause, RefreshPolicy, Revocation, SessionError, SessionManager, StoreProof};
use crate::api::ApiError;
use crate::model::{MAX_ROUNDING_MILLIS, RefreshToken, Session, Timestamp};
use crate::store::{
    PutOutcome, StoreError, StoreErrorKind, StoreKind, Version, Versioned, VersionedEntry,
    host_name,
};

/// The lock timeout that a person did not choose.
const USUAL_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the request may take that compares the clocks.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a read is retried while the store does not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// The world of the protocol: the store, the server and this machine's clocks.
pub(super) struct SharedWorld<'m> {
    manager: &'m SessionManager<'m>,
    store: &'m dyn Versioned,
    started: Instant,
    exchange_timeout: Duration,
    skew: Option<i64>,
    /// From the exchange on, signals wait for the result to be stored.
    deferral: RefCell<Option<Deferral<'m>>>,
}

impl World for SharedWorld<'_> {
    type Error = ApiError;
    type Revocation = Revocation;

    fn get(&self, timeout: Duration) -> Result<VersionedEntry, StoreError> {
        self.store.get(self.manager.profile.as_str(), timeout)
    }

    fn put(
        &self,
        expected: &Version,
        entry: &[u8],
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError> {
        let account = self.manager.profile.as_str();
        self.store.put(account, expected, Some(entry), timeout)
    }

    fn exchange(&self, refresh: &RefreshToken) -> Exchanged<ApiError> {
        let mut deferral = self.deferral.borrow_mut();
        if deferral.is_none() {
            *deferral = Some(self.manager.interrupts.defer());
        }
        let _waiting = self.manager.terminal.spin("waiting for the server");
        let client = &self.manager.client;
        match client.exchange_within(refresh, self.exchange_timeout) {
            Ok(grant) => Exchanged::Granted(grant),
            Err(error) if ends_session(&error) => Exchanged::Refused(error),
            Err(error) => Exchanged::NoAnswer(error),
        }
    }

    fn revoke(&self, session: &Session) -> Revocation {
        self.manager.revoke_session(session)
    }

    fn holder_clock(&self) -> Duration {
        holder_clock(self.started)
    }

    fn watcher_clock(&self) -> Duration {
        self.started.elapsed()
    }

    fn now(&self) -> Timestamp {
        (self.manager.now)()
    }

    fn sleep(&self, time: Duration) {
        self.manager.interrupts.watch();
        let _waiting = self.manager.terminal.spin("waiting for the shared session");
        std::thread::sleep(time);
    }

    fn random(&self) -> u64 {
        // Without randomness the process number still tells runs apart.
        getrandom::u64().unwrap_or_else(|_| std::process::id().into())
    }

    fn host(&self) -> String {
        host_name()
    }

    fn skew(&self) -> Option<i64> {
        self.skew
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn is_abandoned(&self) -> bool {
        self.manager.interrupts.is_repeated()
    }

    fn log(&self, text: &str) {
        self.manager.terminal.verbose(text);
    }
}

/// A clock that runs on in a suspend, where the system has one.
#[cfg(target_os = "linux")]
fn holder_clock(_: Instant) -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

/// There, `CLOCK_MONOTONIC` runs on in a suspend, and `Instant` does not.
#[cfg(target_os = "macos")]
fn holder_clock(_: Instant) -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn holder_clock(started: Instant) -> Duration {
    started.elapsed()
}

impl SessionManager<'_> {
    /// The conditional reads and writes of the profile's store, if it has them.
    pub(super) fn versioned(&self) -> Result<Option<&dyn Versioned>, StoreError> {
        self.stores.get(self.store).versioned()
    }

    /// Whether machines share the profile's session.
    pub(crate) fn is_shared(&self) -> Result<bool, StoreError> {
        Ok(self.versioned()?.is_some())
    }

    /// How long to wait for a lock. A lease of another machine lasts longer
    /// than the usual timeout.
    pub(super) fn patience(&self) -> Duration {
        match self.store {
            StoreKind::Helper(_) if self.lock_timeout == USUAL_LOCK_TIMEOUT => {
                Timing::DEFAULT.lock_timeout
            }
            _ => self.lock_timeout,
        }
    }

    fn timing(&self) -> Timing {
        Timing {
            exchange: self.client.timeout().min(Timing::DEFAULT.exchange),
            lock_timeout: self.patience(),
            is_lock_timeout_given: self.lock_timeout != USUAL_LOCK_TIMEOUT,
            ..Timing::DEFAULT
        }
    }

    /// Runs `operation` of the protocol on the shared entry. Returns `None` if
    /// the profile's store has no versions.
    fn with_shared<T>(
        &self,
        operation: impl FnOnce(&SharedSession<'_, SharedWorld<'_>>) -> Result<T, LeaseError<ApiError>>,
    ) -> Result<Option<T>, SessionError> {
        let Some(store) = self.versioned()? else {
            return Ok(None);
        };
        let timing = self.timing();
        let world = SharedWorld {
            manager: self,
            store,
            started: Instant::now(),
            exchange_timeout: timing.exchange,
            skew: self.recorded_skew(),
            deferral: RefCell::new(None),
        };
        let shared = SharedSession {
            world: &world,
            timing: &timing,
            origin: &self.origin,
        };
        let result = operation(&shared).map_err(|error| self.lease_error(error));
        match world.deferral.take() {
            Some(deferral) => deferral.end_with(result),
            None => result,
        }
        .map(Some)
    }

    fn lease_error(&self, error: LeaseError<ApiError>) -> SessionError {
        match error {
            LeaseError::NotSignedIn => SessionError::NotSignedIn,
            LeaseError::OtherOrigin(stored) => SessionError::OtherOrigin { stored },
            LeaseError::Ended {
                message,
                lapsed,
                pending,
            } => SessionError::Ended {
                message,
                cause: match lapsed {
                    Some(lease) => Some(LikelyCause::LapsedLease {
                        host: lease.host,
                        began: lease.began,
                    }),
                    None => pending.map(LikelyCause::from),
                },
            },
            LeaseError::Busy(Some(lease)) => SessionError::BusyElsewhere {
                host: lease.host,
                since: lease.began,
            },
            LeaseError::Busy(None) => SessionError::Busy(self.patience()),
            LeaseError::Request(error) => SessionError::Api(error),
            LeaseError::Shared(why) => SessionError::SharedFailure(why),
            LeaseError::NoAccess => SessionError::NoToken {
                missing: "access token",
            },
            LeaseError::Store(error) => SessionError::Store(error),
            LeaseError::Lost(error) => SessionError::Lost(error),
        }
    }

    /// Reads the shared session. `None` outside if the store has no versions.
    pub(super) fn load_shared(&self) -> Result<Option<Option<Session>>, SessionError> {
        let read = self.with_shared(|shared| {
            let limit = shared.world.watcher_clock() + READ_TIMEOUT;
            Ok(shared.look_up(limit, shared.timing.request, 1)?)
        })?;
        let entry = match read {
            None => return Ok(None),
            Some((_, None)) => return Ok(Some(None)),
            Some((_, Some(entry))) => entry,
        };
        if let Some(ended) = entry.sharing.ended {
            return Err(SessionError::Ended {
                message: ended.message,
                cause: None,
            });
        }
        Ok(Some(entry.session))
    }

    /// Renews a shared session under its lease. The profile's lock is held, so
    /// one process per machine contends.
    pub(super) fn renew_shared(
        &self,
        before: Option<&Session>,
        policy: RefreshPolicy,
    ) -> Result<Option<Session>, SessionError> {
        if self.is_shared()? {
            self.refuse_rotation_commands()?;
        }
        let renewed = self.with_shared(|shared| {
            shared.renew(before, &|session| self.is_fresh(session, policy))
        })?;
        if let Some(Renewal::Own(Session {
            skew: Some(skew), ..
        })) = &renewed
        {
            self.record_skew(*skew);
        }
        Ok(renewed.map(Renewal::session))
    }

    /// Stores the session of a login. Returns it with the one that it replaced.
    pub(super) fn log_in_shared(
        &self,
        session: Session,
    ) -> Result<(Session, Option<Session>), SessionError> {
        if let Some(skew) = session.skew {
            self.record_skew(skew);
        }
        self.with_shared(|shared| shared.log_in(session))?
            .ok_or_else(|| StoreError::failed("the store has no versions any more").into())
    }

    /// Proves that the shared store writes, and compares versions.
    pub(super) fn test_shared(&self) -> Result<Option<StoreProof>, SessionError> {
        if self.is_shared()? {
            self.refuse_rotation_commands()?;
        }
        self.with_shared(|shared| shared.test_store())
    }

    /// Refuses the commands that follow a rotation. Every machine that shares a
    /// session renews it, and the others would not run the commands of this one.
    pub(crate) fn refuse_rotation_commands(&self) -> Result<(), SessionError> {
        match self.rotation_commands.first_key() {
            Some(name) => Err(SessionError::RotationOfShared {
                name: name.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Reads the stored session, to use or renew it. The entry of a shared one is
    /// in the server's time: if this machine's clock was never compared with the
    /// server's, or the entry contradicts what is recorded, one request compares them.
    pub(crate) fn load_to_use(&self) -> Result<Option<Session>, SessionError> {
        let Some(mut session) = self.load()? else {
            return Ok(None);
        };
        if !self.is_shared()? {
            self.warn_of_other_writer(&session);
            return Ok(Some(session));
        }
        if session.skew.is_none() || is_from_future(&session, (self.now)()) {
            match self.client.ping(CLOCK_TIMEOUT) {
                Ok(pong) => {
                    // Without a `Date` there is nothing to compare: the clocks count as equal.
                    let skew = pong.skew.unwrap_or(0);
                    self.record_skew(skew);
                    session.set_skew(Some(skew));
                }
                Err(error) => self
                    .terminal
                    .verbose(&format!("the clock was not compared: {error}")),
            }
        }
        Ok(Some(session))
    }

    fn recorded_skew(&self) -> Option<i64> {
        let selected = self.profiles.select(Some(&self.profile)).ok()?;
        selected.profile?.clock_skew
    }

    fn record_skew(&self, skew: i64) {
        let recorded = self.recorded_skew();
        if recorded
            .is_some_and(|recorded| recorded.abs_diff(skew) <= MAX_ROUNDING_MILLIS.unsigned_abs())
        {
            return;
        }
        if let Err(error) = self.record(|profile| profile.clock_skew = Some(skew)) {
            self.terminal
                .verbose(&format!("the clock's skew was not recorded: {error}"));
        }
    }

    /// Prints a warning if another machine wrote the session of a store without
    /// versions, where nothing keeps two machines from renewing at once.
    pub(super) fn warn_of_other_writer(&self, session: &Session) {
        if let Some(host) = &session.written_on
            && *host != host_name()
        {
            self.terminal.warn(&format!(
                "{host} wrote the session in {} last; this store is for one machine only, and two \
                 that renew at once lose the session",
                self.store
            ));
        }
    }

    /// Makes the profile forget a shared store, and leaves the session there to the
    /// other machines. Returns `None` if the store is this machine's own.
    pub(super) fn leave_shared(&self) -> Result<Option<EndedSession>, SessionError> {
        if !matches!(self.store, StoreKind::Helper(_)) {
            return Ok(None);
        }
        // A store that does not answer must not keep the profile.
        let unreadable = match self.is_shared() {
            Ok(false) => return Ok(None),
            Ok(true) => None,
            Err(error) if error.kind == StoreErrorKind::Unavailable => Some(error),
            Err(error) => return Err(error.into()),
        };
        self.record(|profile| profile.store = None)?;
        Ok(Some(EndedSession {
            store: self.store,
            revocation: unreadable.is_none().then_some(Revocation::NotAsked),
            unreadable,
            removed: Ok(false),
        }))
    }

    /// Ends the shared session for all machines. Returns `None` if the store has
    /// no versions.
    pub(super) fn end_shared(&self) -> Result<Option<EndedSession>, SessionError> {
        let Some(ended) = self.with_shared(|shared| shared.log_out())? else {
            return Ok(None);
        };
        if ended.was_there {
            self.terminal
                .note("this ends the session for all machines that share it");
        }
        let mut revocations = ended.revocations;
        Ok(Some(EndedSession {
            store: self.store,
            revocation: revocations.pop(),
            unreadable: None,
            removed: Ok(ended.was_there),
        }))
    }
}

/// Whether the newest token was received in the future.
fn is_from_future(session: &Session, now: Timestamp) -> bool {
    let access = session.access.as_ref().map(|access| access.expiry);
    let expiry = access.unwrap_or(session.refresh.expiry);
    expiry.received_at().millis_since(now) > MAX_ROUNDING_MILLIS
}
