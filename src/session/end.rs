//! The end of a session: revoked on the server, then forgotten here, and each
//! of the two reported for itself.

use super::{Keeper, SessionError, Verdict};
use crate::api::ApiError;
use crate::model::{Origin, RefreshToken};
use crate::store::{ProfileLock, StoreErrorKind};

/// What became of a session on the server.
#[derive(Debug)]
pub enum Revocation {
    /// The server has ended it.
    Done,
    /// The server said that it was over already.
    Already(String),
    /// Nobody asked the server.
    NotAsked,
    /// It is the session of another server, and was not sent to this one.
    OtherOrigin(Origin),
    /// The server did not answer, or could not do it.
    Failed(ApiError),
}

/// What a logout did.
#[derive(Debug)]
pub struct Ended {
    /// On the server; `None` where there was no session to revoke.
    pub server: Option<Revocation>,
    /// Whether there was a stored session here.
    pub removed: bool,
}

impl Keeper<'_> {
    /// Ends the session: on the server unless `local`, then here, whatever the
    /// server said.
    pub fn end(&self, lock: &ProfileLock, local: bool) -> Result<Ended, SessionError> {
        let session = match self.load() {
            Ok(session) => session,
            // It cannot be sent anywhere, and it is to be forgotten.
            Err(SessionError::OtherOrigin { stored }) => {
                return Ok(Ended {
                    server: Some(Revocation::OtherOrigin(stored)),
                    removed: self.store.delete(lock)?,
                });
            }
            Err(SessionError::Store(error)) if error.kind == StoreErrorKind::Failed => {
                self.terminal.warn(&error.to_string());
                return Ok(Ended {
                    server: None,
                    removed: self.store.delete(lock)?,
                });
            }
            Err(error) => return Err(error),
        };
        let deferral = self.interrupts.defer();
        let server = session.map(|session| {
            if local {
                Revocation::NotAsked
            } else {
                self.revoke(&session.refresh.value)
            }
        });
        // Without a session there may still be remains of one, such as what a
        // killed write left.
        let removed = self.store.delete(lock).map_err(SessionError::from);
        deferral.end(removed.map(|removed| Ended { server, removed }))
    }

    /// Asks the server to end a session.
    #[must_use]
    pub fn revoke(&self, refresh: &RefreshToken) -> Revocation {
        self.interrupts.watch();
        let _waiting = self.terminal.spin("waiting for the server");
        match self.client.revoke(refresh) {
            Ok(()) => Revocation::Done,
            Err(error) if Verdict::of(&error) == Verdict::Definitive => {
                Revocation::Already(error.to_string())
            }
            Err(error) => Revocation::Failed(error),
        }
    }
}
