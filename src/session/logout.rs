//! Logout: revokes the session on the server, then removes it from the store. Each of
//! the two results is reported separately.

use super::{SessionError, SessionManager};
use crate::api::{ApiError, Client};
use crate::model::{RefreshToken, Session};
use crate::store::{ProfileLock, StoreError, StoreErrorKind, StoreKind};

/// The result of revoking a session on the server.
#[derive(Debug)]
pub(crate) enum Revocation {
    /// The server has ended the session.
    Revoked,
    /// The server had ended the session before (status 401).
    AlreadyEnded,
    /// No request was sent.
    NotRequested,
    /// The server refused to end the session.
    Refused(ApiError),
    /// There was no response, or the server failed.
    Failed(ApiError),
}

impl Revocation {
    pub(crate) fn into_error(self) -> Option<ApiError> {
        match self {
            Self::Refused(error) | Self::Failed(error) => Some(error),
            Self::Revoked | Self::AlreadyEnded | Self::NotRequested => None,
        }
    }
}

/// What a logout found and did in one store.
#[derive(Debug)]
pub(crate) struct StoreLogout {
    pub(crate) store: StoreKind,
    /// `None` if there was no session, or if it is a copy of one that another store held.
    pub(crate) revocation: Option<Revocation>,
    /// Why the entry could not be read, so that no session was revoked.
    pub(crate) read_error: Option<StoreError>,
    /// Whether an entry was removed.
    pub(crate) removed: Result<bool, StoreError>,
}

impl StoreLogout {
    fn is_empty(&self) -> bool {
        self.revocation.is_none() && self.read_error.is_none() && matches!(self.removed, Ok(false))
    }
}

/// Whether a logout revokes the session, or only removes it from this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogoutScope {
    ServerAndStore,
    StoreOnly,
}

impl SessionManager<'_> {
    /// Logs out of the profile's session in every store: revokes the session if `scope`
    /// includes the server, then removes the entry, whatever the server's response. Returns
    /// only the stores in which it found an entry.
    pub(crate) fn log_out(&self, scope: LogoutScope) -> Result<Vec<StoreLogout>, SessionError> {
        let lock = self.lock()?;
        // If several machines share the session, a logout of only this machine removes the
        // store from the profile, and the session stays in the store.
        let detached = match scope {
            LogoutScope::StoreOnly => self.detach_from_store_if_shared()?,
            LogoutScope::ServerAndStore => None,
        };
        // Reading may open a dialog to unlock the store, so signals are not deferred yet.
        let read = match detached {
            // The session is neither revoked nor deleted.
            Some(_) => Ok(None),
            None => self.read_own_entry()?,
        };
        let deferral = self.interrupts.defer();
        let mut seen_tokens = Vec::new();
        let own_logout = match detached {
            Some(logout) => logout,
            // This ends a shared session for all machines.
            None => match self.log_out_if_shared()? {
                Some(logout) => logout,
                None => self.revoke_and_delete(&lock, self.store, read, scope, &mut seen_tokens),
            },
        };
        let mut logouts = vec![own_logout];
        for kind in self.other_stores() {
            match self.entry_in(kind).read_even_if_others_can_read() {
                // `Failed` means that the entry cannot be read, but the store can be used.
                Err(error) if error.kind != StoreErrorKind::Failed => {
                    let text = format!("the {kind} store was not searched: {error}");
                    match error.kind {
                        StoreErrorKind::Locked => self.terminal.warn(&text),
                        _ => self.terminal.verbose(&text),
                    }
                }
                read => {
                    logouts.push(self.revoke_and_delete(&lock, kind, read, scope, &mut seen_tokens))
                }
            }
        }
        logouts.retain(|logout| !logout.is_empty());
        if logouts.iter().all(|logout| logout.removed.is_ok()) {
            self.record_signed_out();
        } else {
            // A deferred signal must not end the process before the failure is reported.
            deferral.cancel_exit();
        }
        Ok(logouts)
    }

    /// Reads the entry in the profile's store. The outer error means that the store
    /// cannot be used, the inner error that the entry cannot be read.
    pub(super) fn read_own_entry(
        &self,
    ) -> Result<Result<Option<Session>, StoreError>, SessionError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        match self.entry().read_even_if_others_can_read() {
            Err(error) if error.kind != StoreErrorKind::Failed => Err(error.into()),
            read => Ok(read),
        }
    }

    /// Revokes the session that was `read` from the store `kind`, if `scope` includes the
    /// server, and removes the entry. Adds the session's token to `seen_tokens`. Skips the
    /// revocation if it is already there: two stores may hold copies of the same session.
    fn revoke_and_delete(
        &self,
        lock: &ProfileLock,
        kind: StoreKind,
        read: Result<Option<Session>, StoreError>,
        scope: LogoutScope,
        seen_tokens: &mut Vec<RefreshToken>,
    ) -> StoreLogout {
        let (session, read_error) = match read {
            Ok(session) => (session, None),
            Err(error) => (None, Some(error)),
        };
        let revocation = session.and_then(|session| {
            if seen_tokens.contains(&session.refresh.value) {
                return None;
            }
            let revocation = match scope {
                LogoutScope::ServerAndStore => self.revoke_session(&session),
                LogoutScope::StoreOnly => Revocation::NotRequested,
            };
            seen_tokens.push(session.refresh.value);
            Some(revocation)
        });
        // Delete even if there was no session, because an interrupted write may have left
        // parts of an entry.
        StoreLogout {
            store: kind,
            revocation,
            read_error,
            removed: self.entry_in(kind).delete(lock),
        }
    }

    /// Revokes `session` on the server that issued it.
    pub(super) fn revoke_session(&self, session: &Session) -> Revocation {
        if session.api_url == self.api_url {
            return self.revoke(&session.refresh.value);
        }
        let client = (self.new_client)(session.api_url.clone());
        self.revoke_at(&client, &session.refresh.value)
    }

    /// Revokes a session on the profile's server.
    pub(crate) fn revoke(&self, refresh: &RefreshToken) -> Revocation {
        self.revoke_at(&self.client, refresh)
    }

    fn revoke_at(&self, client: &Client, refresh: &RefreshToken) -> Revocation {
        self.interrupts.start_handling_signals();
        let _waiting = self.terminal.spin("waiting for the server");
        match client.revoke(refresh) {
            Ok(()) => Revocation::Revoked,
            Err(ApiError::Refused { status: 401, .. }) => Revocation::AlreadyEnded,
            Err(error @ ApiError::Refused { .. }) => Revocation::Refused(error),
            Err(error) => Revocation::Failed(error),
        }
    }
}
