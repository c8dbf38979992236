//! Connects the lease protocol to a profile's store, its server and this machine's clocks.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::error::ends_session;
use super::interrupts::Deferral;
use super::lease::{Environment, ExchangeOutcome};
use super::{Revocation, SessionError, SessionManager};
use crate::api::ApiError;
use crate::model::{RefreshToken, Session, Timestamp};
use crate::store::{PutOutcome, StoreError, Version, VersionedEntry, VersionedStore, host_name};

/// The environment of the lease protocol outside of tests.
pub(super) struct RealEnvironment<'m> {
    manager: &'m SessionManager<'m>,
    store: &'m dyn VersionedStore,
    /// When the watcher's clock was zero.
    started: Instant,
    clock_skew_millis: Option<i64>,
    /// Set at the first exchange, to defer signals until the result is stored.
    deferral: RefCell<Option<Deferral<'m>>>,
}

impl<'m> RealEnvironment<'m> {
    pub(super) fn new(
        manager: &'m SessionManager<'m>,
        store: &'m dyn VersionedStore,
        clock_skew_millis: Option<i64>,
    ) -> Self {
        Self {
            manager,
            store,
            started: Instant::now(),
            clock_skew_millis,
            deferral: RefCell::new(None),
        }
    }

    /// Returns the result of an operation. If signals were deferred for it, handles them.
    pub(super) fn end_deferral<T>(
        self,
        result: Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        match self.deferral.into_inner() {
            Some(deferral) => deferral.finish(result),
            None => result,
        }
    }
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
        self.manager.interrupts.start_handling_signals();
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

    fn clock_skew_millis(&self) -> Option<i64> {
        self.clock_skew_millis
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
