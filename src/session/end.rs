//! The end of a session: revokes it on the server, then removes it from the
//! store. Each of the two results is reported separately.

use super::{SessionError, SessionManager};
use crate::api::ApiError;
use crate::model::{RefreshToken, Session};
use crate::store::{ProfileLock, StoreError, StoreErrorKind, StoreKind};

/// The result of revoking a session on the server.
#[derive(Debug)]
pub(crate) enum Revocation {
    /// The server has ended it.
    Revoked,
    /// The server does not know the session any more (status 401).
    AlreadyEnded,
    /// The server was not asked.
    NotAsked,
    /// The server refused to end it.
    Refused(ApiError),
    /// The server did not answer, or could not do it.
    Unreached(ApiError),
}

impl Revocation {
    pub(crate) fn error(self) -> Option<ApiError> {
        match self {
            Self::Refused(error) | Self::Unreached(error) => Some(error),
            Self::Revoked | Self::AlreadyEnded | Self::NotAsked => None,
        }
    }
}

/// What a logout found and did in one store.
#[derive(Debug)]
pub(crate) struct EndedSession {
    pub(crate) store: StoreKind,
    /// The result on the server. `None` if there was no session to revoke.
    pub(crate) revocation: Option<Revocation>,
    /// Why the entry could not be read. Its session was then not revoked.
    pub(crate) unreadable: Option<StoreError>,
    /// Whether an entry was removed.
    pub(crate) removed: Result<bool, StoreError>,
}

impl EndedSession {
    fn is_empty(&self) -> bool {
        self.revocation.is_none() && self.unreadable.is_none() && matches!(self.removed, Ok(false))
    }
}

/// What a logout did: one item per store in which something was found.
#[derive(Debug)]
pub(crate) struct LogoutOutcome {
    pub(crate) sessions: Vec<EndedSession>,
}

impl SessionManager<'_> {
    /// Ends the profile's session in every store: revokes it on the server unless
    /// `local`, then removes it from the store, whatever the server's response.
    pub(crate) fn end(&self, local: bool) -> Result<LogoutOutcome, SessionError> {
        let lock = self.lock()?;
        self.end_under(&lock, local)
    }

    pub(crate) fn end_under(
        &self,
        lock: &ProfileLock,
        local: bool,
    ) -> Result<LogoutOutcome, SessionError> {
        let left = match local {
            true => self.leave_shared()?,
            false => None,
        };
        // Reading may open a dialog to unlock the store, so signals are not deferred yet.
        let read = match left {
            Some(_) => Ok(None),
            None => self.read_own_entry()?,
        };
        let deferral = self.interrupts.defer();
        let mut sent = Vec::new();
        let own = match left {
            Some(left) => left,
            None => match self.end_shared()? {
                Some(ended) => ended,
                None => self.end_entry(lock, self.store, read, local, &mut sent),
            },
        };
        let mut sessions = vec![own];
        for kind in self.other_stores() {
            match self.entry_in(kind).read_despite_exposure() {
                Err(error) if error.kind != StoreErrorKind::Failed => {
                    let text = format!("the {kind} store was not searched: {error}");
                    match error.kind {
                        StoreErrorKind::Locked => self.terminal.warn(&text),
                        _ => self.terminal.verbose(&text),
                    }
                }
                read => sessions.push(self.end_entry(lock, kind, read, local, &mut sent)),
            }
        }
        sessions.retain(|session| !session.is_empty());
        if sessions.iter().all(|session| session.removed.is_ok()) {
            self.record_signed_out();
        } else {
            deferral.remember_signal();
        }
        Ok(LogoutOutcome { sessions })
    }

    /// Reads the entry in the profile's store. Fails if the store cannot be used; the
    /// inner error means that the entry cannot be parsed.
    fn read_own_entry(&self) -> Result<Result<Option<Session>, StoreError>, SessionError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        match self.entry().read_despite_exposure() {
            Err(error) if error.kind != StoreErrorKind::Failed => Err(error.into()),
            read => Ok(read),
        }
    }

    /// Ends the session that was `read` in the store `kind`. `sent` holds the
    /// tokens that were already revoked; a copy of such a token is not sent again.
    fn end_entry(
        &self,
        lock: &ProfileLock,
        kind: StoreKind,
        read: Result<Option<Session>, StoreError>,
        local: bool,
        sent: &mut Vec<RefreshToken>,
    ) -> EndedSession {
        let (session, unreadable) = match read {
            Ok(session) => (session, None),
            Err(error) => (None, Some(error)),
        };
        let revocation = session.and_then(|session| {
            if sent.contains(&session.refresh.value) {
                return None;
            }
            let result = if local {
                Revocation::NotAsked
            } else {
                self.revoke_session(&session)
            };
            sent.push(session.refresh.value);
            Some(result)
        });
        // Delete even if there was no session: an interrupted write may have
        // left parts of an entry.
        EndedSession {
            store: kind,
            revocation,
            unreadable,
            removed: self.entry_in(kind).delete(lock),
        }
    }

    /// Asks the server that issued `session` to end it.
    pub(super) fn revoke_session(&self, session: &Session) -> Revocation {
        if session.origin == self.origin {
            return self.revoke(&session.refresh.value);
        }
        let client = (self.new_client)(session.origin.clone());
        self.revoke_at(&client, &session.refresh.value)
    }

    /// Asks the profile's server to end a session.
    pub(crate) fn revoke(&self, refresh: &RefreshToken) -> Revocation {
        self.revoke_at(&self.client, refresh)
    }

    fn revoke_at(&self, client: &crate::api::Client, refresh: &RefreshToken) -> Revocation {
        self.interrupts.watch();
        let _waiting = self.terminal.spin("waiting for the server");
        match client.revoke(refresh) {
            Ok(()) => Revocation::Revoked,
            Err(ApiError::Refused { status: 401, .. }) => Revocation::AlreadyEnded,
            Err(error @ ApiError::Refused { .. }) => Revocation::Refused(error),
            Err(error) => Revocation::Unreached(error),
        }
    }
}
