//! The operations on a session that machines share: the lease's world as it is
//! outside of tests, and what login, renewal and logout do with it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::end::EndedSession;
use super::error::ends_session;
use super::interrupts::Deferral;
use super::lease::{Exchanged, LeaseError, SharedSession, Timing, World};
use super::{LikelyCause, RefreshPolicy, Revocation, SessionError, SessionManager};
use crate::api::ApiError;
use crate::model::{RefreshToken, Session, Timestamp};
use crate::store::{PutOutcome, StoreError, StoreKind, Version, Versioned, VersionedEntry};

/// The lock timeout that a person did not choose.
const USUAL_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a read is retried while the store does not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// The world of the protocol: the store, the server and this machine's clocks.
pub(super) struct SharedWorld<'m> {
    manager: &'m SessionManager<'m>,
    store: &'m dyn Versioned,
    started: Instant,
    exchange_timeout: Duration,
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

/// The machine's name, for texts that a person reads.
fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    let name = String::new();
    let plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let name: String = name.chars().filter(plain).take(64).collect();
    match name.is_empty() {
        true => "another machine".to_owned(),
        false => name,
    }
}

impl SessionManager<'_> {
    /// The conditional reads and writes of the profile's store, if it has them.
    pub(super) fn versioned(&self) -> Result<Option<&dyn Versioned>, StoreError> {
        self.stores.get(self.store, true).versioned()
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
        if self.rotation.is_set() {
            return Err(StoreError::failed(
                "a session that machines share is not handed to a rotation command",
            )
            .hint("remove on_rotate from the profile, or use another store")
            .into());
        }
        let timing = self.timing();
        let world = SharedWorld {
            manager: self,
            store,
            started: Instant::now(),
            exchange_timeout: timing.exchange,
            deferral: RefCell::new(None),
        };
        let shared = SharedSession {
            world: &world,
            timing: &timing,
            origin: &self.origin,
        };
        let result = operation(&shared).map_err(|error| self.lease_error(error));
        match world.deferral.take() {
            Some(deferral) => deferral.end(result),
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
        let now = (self.now)();
        Ok(Some(entry.session.map(|session| received_by(session, now))))
    }

    /// Renews a shared session under its lease. The profile's lock is held, so
    /// one process per machine contends.
    pub(super) fn renew_shared(
        &self,
        before: Option<&Session>,
        policy: RefreshPolicy,
    ) -> Result<Option<Session>, SessionError> {
        let renewed = self.with_shared(|shared| {
            shared.renew(before, &|session| self.is_fresh(session, policy))
        })?;
        let now = (self.now)();
        Ok(renewed.map(|renewal| received_by(renewal.session(), now)))
    }

    /// Stores the session of a login. Returns it with the one that it replaced.
    pub(super) fn log_in_shared(
        &self,
        session: Session,
    ) -> Result<(Session, Option<Session>), SessionError> {
        self.with_shared(|shared| shared.log_in(session))?
            .ok_or_else(|| StoreError::failed("the store has no versions any more").into())
    }

    /// Proves that the shared store writes, and compares versions.
    pub(super) fn test_shared(&self) -> Result<Option<()>, SessionError> {
        self.with_shared(|shared| shared.test_store())
    }

    /// Ends the shared session for all machines, or if `local`, makes this
    /// machine's profile forget where it is.
    pub(super) fn end_shared(&self, local: bool) -> Result<Option<EndedSession>, SessionError> {
        if local {
            if self.versioned()?.is_none() {
                return Ok(None);
            }
            self.record(|profile| profile.store = None)?;
            self.terminal
                .note("the shared session stays; this profile does not use it any more");
            return Ok(Some(EndedSession {
                store: self.store,
                server: Some(Revocation::NotAsked),
                unreadable: None,
                removed: Ok(false),
            }));
        }
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
            server: revocations.pop(),
            unreadable: None,
            removed: Ok(ended.was_there),
        }))
    }
}

/// The session with its receipts not in the future: a clock that is behind the
/// server's would count its tokens as ended.
fn received_by(session: Session, now: Timestamp) -> Session {
    let mut session = session;
    let clamp = |expiry: &mut crate::model::Expiry| {
        let ahead = expiry.received_at().millis_since(now);
        if ahead > 0 {
            *expiry = expiry.shifted(-ahead);
        }
    };
    clamp(&mut session.refresh.expiry);
    if let Some(access) = &mut session.access {
        clamp(&mut access.expiry);
    }
    session
}
