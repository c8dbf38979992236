//! Login, renewal and logout of a session that machines share, with the lease protocol.

use std::time::Duration;

use super::lease::{LeaseError, ReadRetries, Renewal, SharedSession, Timing};
use super::lease_environment::RealEnvironment;
use super::logout::StoreLogout;
use super::{
    LikelyCause, ReadEntry, RefreshPolicy, Revocation, SessionError, SessionManager, StoreProof,
    TokenKind,
};
use crate::api::ApiError;
use crate::model::{MAX_SKEW_ERROR_MILLIS, Session, Timestamp};
use crate::store::{StoreError, StoreErrorKind, StoreKind, VersionedStore, host_name};

/// Timeout for the request that compares this machine's clock with the server's.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a read is retried while the store is unavailable.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

impl SessionManager<'_> {
    /// Returns the profile's store, if it has versions and so allows conditional writes.
    fn versioned_store(&self) -> Result<Option<&dyn VersionedStore>, StoreError> {
        self.stores.get(self.store).as_versioned()
    }

    /// Whether machines share the session: whether the profile's store has versions.
    pub(crate) fn is_shared(&self) -> Result<bool, StoreError> {
        Ok(self.versioned_store()?.is_some())
    }

    /// Returns how long to wait for a lock or lease.
    pub(crate) fn lock_timeout(&self) -> Duration {
        effective_lock_timeout(self.requested_lock_timeout, self.store)
    }

    fn timing(&self) -> Timing {
        Timing {
            exchange_timeout: self.client.timeout().min(Timing::DEFAULT.exchange_timeout),
            lock_timeout: self.lock_timeout(),
            is_lock_timeout_given: self.requested_lock_timeout.is_some(),
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
        let Some(store) = self.versioned_store()? else {
            return Ok(None);
        };
        let timing = self.timing();
        let environment = RealEnvironment::new(self, store, self.recorded_clock_skew_millis());
        let shared = SharedSession {
            environment: &environment,
            timing: &timing,
            api_url: &self.api_url,
        };
        let result = operation(&shared).map_err(|error| self.map_lease_err(error));
        environment.end_deferral(result).map(Some)
    }

    fn map_lease_err(&self, error: LeaseError<ApiError>) -> SessionError {
        match error {
            LeaseError::NotSignedIn => SessionError::NotSignedIn,
            LeaseError::OtherServer(stored) => SessionError::OtherServer { stored },
            LeaseError::Ended {
                message,
                expired_lease,
                pending,
            } => SessionError::Ended {
                message,
                cause: match expired_lease {
                    Some(lease) => Some(LikelyCause::ExpiredLease {
                        host: lease.host,
                        began: lease.acquired_at,
                    }),
                    None => pending.map(LikelyCause::from),
                },
            },
            LeaseError::Busy(Some(lease)) => SessionError::BusyOnOtherMachine {
                host: lease.host,
                since: lease.acquired_at,
            },
            LeaseError::Busy(None) => SessionError::Busy(self.lock_timeout()),
            LeaseError::Request(error) => SessionError::Api(error),
            LeaseError::OtherRunFailed(reason) => SessionError::OtherRunFailed(reason),
            LeaseError::NoAccessToken => SessionError::NoToken(TokenKind::Access),
            LeaseError::Store(error) => SessionError::Store(error),
            LeaseError::Lost(error) => SessionError::TokensNotStored(error),
        }
    }

    /// Reads the entry of a shared session. Returns `None` if the store has no versions.
    pub(super) fn read_entry_if_shared(&self) -> Result<Option<ReadEntry>, SessionError> {
        self.with_shared(|shared| {
            let deadline = shared.deadline_in(READ_TIMEOUT);
            let (_, entry) = shared.read_entry(
                deadline,
                shared.timing.request_timeout,
                ReadRetries::WhileUnavailable,
            )?;
            let Some(entry) = entry else {
                return Ok(ReadEntry::default());
            };
            match entry.coordination.ended {
                Some(ended) => Err(LeaseError::Ended {
                    message: ended.message,
                    expired_lease: None,
                    pending: None,
                }),
                None => Ok(ReadEntry {
                    session: entry.session,
                    failed_attempt_id: entry.coordination.failed_attempt_id(),
                }),
            }
        })
    }

    /// Renews a shared session under a lease. Returns `None` if the store has no versions.
    /// The caller must hold the profile's lock, so that only one process per machine
    /// competes for the lease. For the parameters, see [`SharedSession::renew`].
    pub(super) fn renew_if_shared(
        &self,
        last_read: Option<&Session>,
        failed_attempt_before_wait: Option<Option<String>>,
        policy: RefreshPolicy,
    ) -> Result<Option<Session>, SessionError> {
        self.refuse_rotation_commands_if_shared()?;
        let is_fresh = |session: &Session| self.is_fresh(session, policy);
        let renewed = self
            .with_shared(|shared| shared.renew(last_read, failed_attempt_before_wait, &is_fresh))?;
        if let Some(Renewal::ByThisRun(session)) = &renewed {
            self.record_clock_skew(session);
        }
        Ok(renewed.map(Renewal::into_session))
    }

    /// Stores the session of a login in the shared store. Returns it with the session that
    /// it replaced.
    pub(super) fn store_shared_login(
        &self,
        session: Session,
    ) -> Result<(Session, Option<Session>), SessionError> {
        self.with_shared(|shared| shared.log_in(session))?
            .ok_or_else(|| {
                StoreError::failed(
                    "the store helper was restarted, and its store no longer has versions",
                )
                .into()
            })
    }

    /// Tests that the shared store can be written and refuses a write with an old version.
    /// Returns `None` if the store has no versions.
    pub(super) fn test_store_if_shared(&self) -> Result<Option<StoreProof>, SessionError> {
        self.refuse_rotation_commands_if_shared()?;
        self.with_shared(|shared| shared.test_store())
    }

    /// Fails if the session is shared and the profile has commands to run after a
    /// rotation. Other machines renew the session too, and do not run the commands
    /// of this one.
    pub(crate) fn refuse_rotation_commands_if_shared(&self) -> Result<(), SessionError> {
        if let Some(name) = self.rotation_commands.first_configured_key()
            && self.is_shared()?
        {
            let name = name.to_owned();
            return Err(SessionError::RotationCommandsWithSharedStore { name });
        }
        Ok(())
    }

    /// Reads the stored session, so that its expiry can be compared with the local clock.
    ///
    /// A shared entry holds times by the server's clock. Sends a request to measure the clock
    /// skew if none is recorded, or if the recorded one puts the receipt of the token in the
    /// future.
    pub(crate) fn load_with_local_times(&self) -> Result<Option<Session>, SessionError> {
        let Some(mut session) = self.load()? else {
            return Ok(None);
        };
        if !self.is_shared()? {
            self.warn_if_stored_by_other_host(&session);
            return Ok(Some(session));
        }
        if session.clock_skew_millis.is_none() || is_from_future(&session, (self.now)()) {
            self.interrupts.start_handling_signals();
            let _waiting = self.terminal.spin("waiting for the server");
            match self.client.ping(CLOCK_TIMEOUT) {
                Ok(pong) => {
                    // If the response has no `Date`, assume that the clocks agree.
                    session.set_clock_skew(Some(pong.clock_skew_millis.unwrap_or(0)));
                    self.record_clock_skew(&session);
                }
                Err(error) => self
                    .terminal
                    .verbose(&format!("comparing the clocks failed: {error}")),
            }
        }
        Ok(Some(session))
    }

    fn recorded_clock_skew_millis(&self) -> Option<i64> {
        let selected = self.profiles.select(Some(&self.profile)).ok()?;
        selected.profile?.clock_skew
    }

    /// Records the session's clock skew in the profile, so that later runs need not
    /// measure it. Does nothing if the profiles file is locked or has no such profile.
    fn record_clock_skew(&self, session: &Session) {
        let selected = self.profiles.select(Some(&self.profile));
        let Some(profile) = selected.ok().and_then(|selected| selected.profile) else {
            return;
        };
        let is_close = |a: i64, b: i64| a.abs_diff(b) <= MAX_SKEW_ERROR_MILLIS.unsigned_abs();
        if let Some(skew) = session.clock_skew_millis
            && profile
                .clock_skew
                .is_none_or(|recorded| !is_close(recorded, skew))
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

    /// Warns if another machine wrote the session of a store without versions, because
    /// such a store cannot prevent two machines from renewing the session at once.
    pub(super) fn warn_if_stored_by_other_host(&self, session: &Session) {
        if let Some(host) = &session.written_by_host
            && *host != host_name()
        {
            self.terminal.warn(&format!(
                "the session in {} was last written by {host}; use this store on one machine only, \
                 because two machines that renew at once lose the session",
                self.store
            ));
        }
    }

    /// Removes the shared store from the profile. The session stays in the store for the
    /// other machines. Returns `None` if machines do not share the store.
    pub(super) fn detach_from_store_if_shared(&self) -> Result<Option<StoreLogout>, SessionError> {
        if !matches!(self.store, StoreKind::Helper(_)) {
            return Ok(None);
        }
        // This must also work while the store is unavailable.
        let read_error = match self.is_shared() {
            Ok(false) => return Ok(None),
            Ok(true) => None,
            Err(error) if error.kind == StoreErrorKind::Unavailable => Some(error),
            Err(error) => return Err(error.into()),
        };
        self.update_profile(|profile| profile.store = None)?;
        Ok(Some(StoreLogout {
            store: self.store,
            revocation: read_error.is_none().then_some(Revocation::NotRequested),
            read_error,
            removed: Ok(false),
        }))
    }

    /// Logs out of the shared session for all machines. Returns `None` if the store has no
    /// versions.
    pub(super) fn log_out_if_shared(&self) -> Result<Option<StoreLogout>, SessionError> {
        let logout = self.with_shared(|shared| shared.log_out())?;
        if logout.as_ref().is_some_and(|logout| logout.session_existed) {
            self.terminal
                .note("this ends the session for all machines that share it");
        }
        Ok(logout.map(|logout| StoreLogout {
            store: self.store,
            revocation: logout.revocations.into_iter().next_back(),
            read_error: None,
            removed: Ok(logout.session_existed),
        }))
    }
}

/// Returns the lock timeout that the user set, or else the default of the store. The default
/// for a store helper is longer than a lease.
fn effective_lock_timeout(requested: Option<Duration>, store: StoreKind) -> Duration {
    requested.unwrap_or(match store {
        StoreKind::Helper(_) => Timing::DEFAULT.lock_timeout,
        StoreKind::Keyring | StoreKind::File => Duration::from_secs(30),
    })
}

/// Whether the access token, or else the refresh token, was received in the future.
fn is_from_future(session: &Session, now: Timestamp) -> bool {
    let access = session.access.as_ref().map(|access| access.expiry);
    let expiry = access.unwrap_or(session.refresh.expiry);
    expiry.received_at().millis_since(now) > MAX_SKEW_ERROR_MILLIS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_lock_timeout_counts_even_if_it_equals_a_default() {
        let helper: StoreKind = "helper:etcd:team".parse().unwrap();
        for (requested, store, seconds) in [
            (None, StoreKind::Keyring, 30),
            (None, StoreKind::File, 30),
            (None, helper, 45),
            (Some(30), helper, 30),
            (Some(45), StoreKind::File, 45),
        ] {
            let timeout = effective_lock_timeout(requested.map(Duration::from_secs), store);
            assert_eq!(
                timeout,
                Duration::from_secs(seconds),
                "{requested:?} {store}"
            );
        }
    }
}
