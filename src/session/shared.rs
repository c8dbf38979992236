//! Login, renewal and logout of a session that machines share, with the
//! environment in which the lease protocol runs outside of tests.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::end::EndedSession;
use super::error::ends_session;
use super::interrupts::Deferral;
use super::lease::{Environment, ExchangeOutcome, LeaseError, Renewal, SharedSession, Timing};
use super::{LikelyCause, RefreshPolicy, Revocation, SessionError, SessionManager, StoreProof};
use crate::api::ApiError;
use crate::model::{MAX_SKEW_ERROR_MILLIS, RefreshToken, Session, Timestamp};
use crate::store::{
    PutOutcome, StoreError, StoreErrorKind, StoreKind, Version, VersionedEntry, VersionedStore,
    host_name,
};

/// The lock timeout unless the user sets another one.
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout for the request that compares this machine's clock with the server's.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a read is retried while the store is unavailable.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// The profile's store, the server and this machine's clocks.
pub(super) struct RealEnvironment<'m> {
    manager: &'m SessionManager<'m>,
    store: &'m dyn VersionedStore,
    /// The watcher's clock counts from here.
    started: Instant,
    skew: Option<i64>,
    /// Set at the first exchange: defers signals until the result is stored.
    deferral: RefCell<Option<Deferral<'m>>>,
}

impl Environment for RealEnvironment<'_> {
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
        self.store.put(
            self.manager.profile.as_str(),
            expected,
            Some(entry),
            timeout,
        )
    }

    fn exchange(&self, refresh: &RefreshToken, timeout: Duration) -> ExchangeOutcome<ApiError> {
        let mut deferral = self.deferral.borrow_mut();
        if deferral.is_none() {
            *deferral = Some(self.manager.interrupts.defer());
        }
        let _waiting = self.manager.terminal.spin("waiting for the server");
        match self.manager.client.exchange_with_timeout(refresh, timeout) {
            Ok(grant) => ExchangeOutcome::Granted(grant),
            Err(error) if ends_session(&error) => ExchangeOutcome::Refused(error),
            Err(error) => ExchangeOutcome::NoResponse(error),
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

    fn sleep(&self, duration: Duration) {
        self.manager.interrupts.watch();
        let _waiting = self.manager.terminal.spin("waiting for the shared session");
        std::thread::sleep(duration);
    }

    fn random(&self) -> u64 {
        // If the system has no random numbers, use the process ID to tell runs apart.
        getrandom::u64().unwrap_or_else(|_| std::process::id().into())
    }

    fn host(&self) -> String {
        host_name()
    }

    fn skew(&self) -> Option<i64> {
        self.skew
    }

    fn is_abandoned(&self) -> bool {
        self.manager.interrupts.is_repeated()
    }

    fn log(&self, text: &str) {
        self.manager.terminal.verbose(text);
    }
}

/// Returns the time of a clock that advances while the machine is suspended.
/// `Instant` does not, neither on Linux nor on macOS.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn holder_clock(_: Instant) -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(target_os = "macos")]
    const CLOCK: ClockId = ClockId::Monotonic;
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn holder_clock(started: Instant) -> Duration {
    started.elapsed()
}

impl SessionManager<'_> {
    /// Returns the profile's store for conditional writes, if it has versions.
    pub(super) fn as_versioned(&self) -> Result<Option<&dyn VersionedStore>, StoreError> {
        self.stores.get(self.store).as_versioned()
    }

    /// Whether the profile's store has versions, so that machines can share its session.
    pub(crate) fn is_shared(&self) -> Result<bool, StoreError> {
        Ok(self.as_versioned()?.is_some())
    }

    /// Returns how long to wait for a lock or lease. The default for a store helper
    /// is longer than a lease.
    pub(super) fn effective_lock_timeout(&self) -> Duration {
        match self.store {
            StoreKind::Helper(_) if self.lock_timeout == DEFAULT_LOCK_TIMEOUT => {
                Timing::DEFAULT.lock_timeout
            }
            _ => self.lock_timeout,
        }
    }

    fn timing(&self) -> Timing {
        Timing {
            exchange_timeout: self.client.timeout().min(Timing::DEFAULT.exchange_timeout),
            lock_timeout: self.effective_lock_timeout(),
            is_lock_timeout_given: self.lock_timeout != DEFAULT_LOCK_TIMEOUT,
            ..Timing::DEFAULT
        }
    }

    /// Runs an operation of the lease protocol on the profile's entry. Returns `None`
    /// if the store has no versions.
    fn with_shared<T>(
        &self,
        operation: impl FnOnce(
            &SharedSession<'_, RealEnvironment<'_>>,
        ) -> Result<T, LeaseError<ApiError>>,
    ) -> Result<Option<T>, SessionError> {
        let Some(store) = self.as_versioned()? else {
            return Ok(None);
        };
        let timing = self.timing();
        let environment = RealEnvironment {
            manager: self,
            store,
            started: Instant::now(),
            skew: self.recorded_skew(),
            deferral: RefCell::new(None),
        };
        let shared = SharedSession {
            environment: &environment,
            timing: &timing,
            origin: &self.origin,
        };
        let result = operation(&shared).map_err(|error| self.map_lease_err(error));
        match environment.deferral.take() {
            Some(deferral) => deferral.finish(result),
            None => result,
        }
        .map(Some)
    }

    fn map_lease_err(&self, error: LeaseError<ApiError>) -> SessionError {
        match error {
            LeaseError::NotSignedIn => SessionError::NotSignedIn,
            LeaseError::OtherOrigin(stored) => SessionError::OtherOrigin { stored },
            LeaseError::Ended {
                message,
                expired_lease,
                pending,
            } => SessionError::Ended {
                message,
                cause: match expired_lease {
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
            LeaseError::Busy(None) => SessionError::Busy(self.effective_lock_timeout()),
            LeaseError::Request(error) => SessionError::Api(error),
            LeaseError::OtherRunFailed(why) => SessionError::SharedFailure(why),
            LeaseError::NoAccessToken => SessionError::NoToken {
                missing: "access token",
            },
            LeaseError::Store(error) => SessionError::Store(error),
            LeaseError::Lost(error) => SessionError::NotSaved(error),
        }
    }

    /// Reads the shared session. The outer `None` means that the store has no
    /// versions, the inner `None` that it has no session.
    pub(super) fn load_shared(&self) -> Result<Option<Option<Session>>, SessionError> {
        self.with_shared(|shared| {
            let deadline = shared.deadline_in(READ_TIMEOUT);
            let (_, entry) = shared.read_entry(deadline, shared.timing.request_timeout, 1)?;
            let ended = entry.as_ref().and_then(|entry| entry.sharing.ended.clone());
            match ended {
                Some(ended) => Err(LeaseError::Ended {
                    message: ended.message,
                    expired_lease: None,
                    pending: None,
                }),
                None => Ok(entry.and_then(|entry| entry.session)),
            }
        })
    }

    /// Renews a shared session under a lease. Returns `None` if the store has no
    /// versions. The caller holds the profile's lock, so only one process per
    /// machine competes for the lease.
    pub(super) fn renew_shared(
        &self,
        last_read: Option<&Session>,
        policy: RefreshPolicy,
    ) -> Result<Option<Session>, SessionError> {
        self.refuse_rotation_commands()?;
        let is_fresh = |session: &Session| self.is_fresh(session, policy);
        let renewed = self.with_shared(|shared| shared.renew(last_read, &is_fresh))?;
        if let Some(Renewal::ByThisRun(session)) = &renewed {
            self.record_skew(session);
        }
        Ok(renewed.map(Renewal::into_session))
    }

    /// Stores the session of a login. Returns it with the session that it replaced.
    pub(super) fn log_in_shared(
        &self,
        session: Session,
    ) -> Result<(Session, Option<Session>), SessionError> {
        self.with_shared(|shared| shared.log_in(session))?
            .ok_or_else(|| {
                StoreError::failed("the restarted helper reports a store without versions").into()
            })
    }

    /// Tests that the shared store can be written and compares versions. Returns
    /// `None` if the store has no versions.
    pub(super) fn test_shared(&self) -> Result<Option<StoreProof>, SessionError> {
        self.refuse_rotation_commands()?;
        self.with_shared(|shared| shared.test_store())
    }

    /// Fails if the session is shared and the profile has commands to run after a
    /// rotation. Other machines renew the session too, and do not run the commands
    /// of this one.
    pub(crate) fn refuse_rotation_commands(&self) -> Result<(), SessionError> {
        if let Some(name) = self.rotation_commands.first_key()
            && self.is_shared()?
        {
            let name = name.to_owned();
            return Err(SessionError::RotationOfShared { name });
        }
        Ok(())
    }

    /// Reads the stored session, to use or renew it.
    ///
    /// A shared entry has its times by the server's clock. Sends a request to
    /// compare the clocks if no skew is recorded, or if the recorded skew would
    /// mean that the token was received in the future.
    pub(crate) fn load_to_use(&self) -> Result<Option<Session>, SessionError> {
        let Some(mut session) = self.load()? else {
            return Ok(None);
        };
        if !self.is_shared()? {
            self.warn_if_stored_by_other_host(&session);
            return Ok(Some(session));
        }
        if session.clock_skew_millis.is_none() || is_from_future(&session, (self.now)()) {
            self.interrupts.watch();
            let _waiting = self.terminal.spin("waiting for the server");
            match self.client.ping(CLOCK_TIMEOUT) {
                Ok(pong) => {
                    // If the response has no `Date`, assume that the clocks agree.
                    session.set_clock_skew(Some(pong.clock_skew_millis.unwrap_or(0)));
                    self.record_skew(&session);
                }
                Err(error) => self
                    .terminal
                    .verbose(&format!("comparing the clocks failed: {error}")),
            }
        }
        Ok(Some(session))
    }

    fn recorded_skew(&self) -> Option<i64> {
        let selected = self.profiles.select(Some(&self.profile)).ok()?;
        selected.profile?.clock_skew
    }

    /// Records the skew of this machine's clock in an existing profile. Waits for no
    /// lock, since the record only saves a later request.
    fn record_skew(&self, session: &Session) {
        let selected = self.profiles.select(Some(&self.profile));
        let Some(profile) = selected.ok().and_then(|selected| selected.profile) else {
            return;
        };
        let is_close = |a: i64, b: i64| a.abs_diff(b) <= MAX_SKEW_ERROR_MILLIS.unsigned_abs();
        if let Some(skew) = session.clock_skew_millis
            && (profile.clock_skew).is_none_or(|recorded| !is_close(recorded, skew))
            && let Err(error) = self
                .profiles
                .update(&self.profile, Duration::ZERO, |profile| {
                    profile.clock_skew = Some(skew);
                })
        {
            self.terminal
                .verbose(&format!("recording the clock skew failed: {error}"));
        }
    }

    /// Prints a warning if another machine wrote the session of a store without
    /// versions. Such a store cannot keep two machines from renewing at once.
    pub(super) fn warn_if_stored_by_other_host(&self, session: &Session) {
        if let Some(host) = &session.written_by_host
            && *host != host_name()
        {
            self.terminal.warn(&format!(
                "{host} wrote the session in {} last; use this store on one machine only, because \
                 two machines that renew at once lose the session",
                self.store
            ));
        }
    }

    /// Removes a shared store from the profile, and keeps the session in the store
    /// for the other machines. Returns `None` if the store is not shared.
    pub(super) fn leave_shared(&self) -> Result<Option<EndedSession>, SessionError> {
        if !matches!(self.store, StoreKind::Helper(_)) {
            return Ok(None);
        }
        // Leaving must also work while the store is unavailable.
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
        let logout = self.with_shared(|shared| shared.log_out())?;
        if logout.as_ref().is_some_and(|logout| logout.existed) {
            self.terminal
                .note("this ends the session for all machines that share it");
        }
        Ok(logout.map(|logout| EndedSession {
            store: self.store,
            revocation: logout.revocations.into_iter().next_back(),
            unreadable: None,
            removed: Ok(logout.existed),
        }))
    }
}

/// Whether the access token, or else the refresh token, was received in the future.
fn is_from_future(session: &Session, now: Timestamp) -> bool {
    let access = session.access.as_ref().map(|access| access.expiry);
    let expiry = access.unwrap_or(session.refresh.expiry);
    expiry.received_at().millis_since(now) > MAX_SKEW_ERROR_MILLIS
}
