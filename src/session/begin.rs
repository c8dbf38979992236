//! The beginning of a session: what the server hands out is stored before
//! anything else happens, and the session it takes the place of is revoked after.

use super::{Keeper, SessionError};
use crate::api::{ApiError, Client};
use crate::model::{Expiry, Grant, RefreshToken, Session, Token};
use crate::store::{ProfileLock, StoreErrorKind};

/// A session that has begun and is stored.
#[derive(Debug)]
pub struct Begun {
    /// The new session.
    pub session: Session,
    /// The one it replaced, no longer stored anywhere.
    pub replaced: Option<Session>,
}

impl Keeper<'_> {
    /// Runs `request` and stores the session that it brings. `None` where the
    /// server accepts and hands over no tokens at all, as at some signups.
    pub fn begin(
        &self,
        lock: &ProfileLock,
        request: impl FnOnce(&Client) -> Result<Grant, ApiError>,
    ) -> Result<Option<Begun>, SessionError> {
        let replaced = self.former()?;
        self.store.prove_writable(lock)?;
        let deferral = self.interrupts.defer();
        let begun = self.request_and_store(lock, request, replaced);
        deferral.end(begun)
    }

    fn request_and_store(
        &self,
        lock: &ProfileLock,
        request: impl FnOnce(&Client) -> Result<Grant, ApiError>,
        replaced: Option<Session>,
    ) -> Result<Option<Begun>, SessionError> {
        let grant = {
            let _waiting = self.terminal.spin("waiting for the server");
            request(self.client)?
        };
        if grant.access.is_none() && grant.refresh.is_none() {
            return Ok(None);
        }
        let session =
            Session::begin(self.origin.clone(), grant).map_err(|_| SessionError::NoToken {
                missing: "refresh token",
            })?;
        self.persist(lock, &session)?;
        Ok(Some(Begun { session, replaced }))
    }

    /// Takes a session over from its refresh token, which an exchange proves.
    /// A server that does not rotate leaves the token in force.
    pub fn take_over(
        &self,
        lock: &ProfileLock,
        refresh: RefreshToken,
    ) -> Result<Begun, SessionError> {
        let unknown = Expiry::new((self.now)(), None);
        let begun = self.begin(lock, |client| {
            let mut grant = client.exchange(&refresh)?;
            if grant.access.is_some() {
                grant.refresh.get_or_insert(Token {
                    value: refresh,
                    expiry: unknown,
                });
            }
            Ok(grant)
        })?;
        begun.ok_or(SessionError::NoToken {
            missing: "access token",
        })
    }

    /// Whether `replaced` is still to be revoked, now that `begun` is in force.
    /// Taking over the token that was stored already replaces nothing.
    #[must_use]
    pub fn is_replaced(begun: &Session, replaced: &Session) -> bool {
        replaced.refresh.value != begun.refresh.value
    }

    /// The session that is about to be replaced. One that cannot be understood
    /// is no reason not to log in; a store that cannot be used is.
    fn former(&self) -> Result<Option<Session>, SessionError> {
        match self.store.read() {
            Ok(former) => Ok(former),
            Err(error) if error.kind == StoreErrorKind::Failed => {
                self.terminal
                    .verbose(&format!("the former session cannot be read: {error}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
