//! The beginning of a session: the new tokens are stored and recorded before
//! anything else happens; the sessions that they replace are revoked after that.

use super::{Revocation, SessionError, SessionManager};
use crate::api::{ApiError, Client};
use crate::model::{CookieNames, Expiry, Grant, RefreshToken, Session, Token};
use crate::store::{ProfileLock, StoreErrorKind};

/// A session that has begun, and is stored and recorded.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) session: Session,
    /// What became of the sessions that it replaced.
    pub(crate) replaced: Vec<Revocation>,
}

/// What a test of the store has shown.
#[derive(Debug)]
pub(crate) enum StoreProof {
    /// It can be read. Writing could open a dialog.
    Read,
    /// It returns what is written to it.
    Written,
    /// It can be written, and refuses a former version.
    Compared,
    /// It can be read. Another machine holds the lease, so nothing was written.
    Leased { host: String },
}

/// The result of the request that begins a session.
struct Issued {
    grant: Grant,
    /// The refresh token that was exchanged for it, if the server replaced that.
    spent: Option<RefreshToken>,
}

impl SessionManager<'_> {
    /// Proves that the store takes an entry of this profile.
    pub(crate) fn prove_writable(&self) -> Result<(), SessionError> {
        let lock = self.lock()?;
        self.prove_writable_under(&lock).map(|_| ())
    }

    /// The same with the profile's lock held. A shared store must compare versions as well.
    pub(crate) fn prove_writable_under(
        &self,
        lock: &ProfileLock,
    ) -> Result<StoreProof, SessionError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        if let Some(proof) = self.test_shared()? {
            return Ok(proof);
        }
        Ok(match self.entry().prove_writable(lock)? {
            true => StoreProof::Written,
            false => StoreProof::Read,
        })
    }

    /// Runs `request`, and stores and records the session that it brings.
    /// Returns `None` if the server accepts and issues no tokens, as at some
    /// signups. `login` is recorded with the session.
    pub(crate) fn begin(
        &self,
        login: Option<&str>,
        request: impl FnOnce(&Client) -> Result<Grant, ApiError>,
    ) -> Result<Option<Started>, SessionError> {
        self.begin_with(login, |client| {
            request(client).map(|grant| Issued { grant, spent: None })
        })
    }

    /// Takes a session over by its refresh token, which is exchanged at once.
    /// A server that does not rotate leaves that token in force. `found` are the
    /// names of the cookies that it came with, if they are not the configured ones.
    pub(crate) fn take_over(
        &self,
        refresh: RefreshToken,
        found: Option<CookieNames>,
    ) -> Result<Started, SessionError> {
        let unknown = Expiry::new((self.now)(), None);
        if let Some(names) = &found {
            self.client.use_cookie_names(names);
        }
        let started = self.begin_with(None, |client| {
            let mut grant = client.exchange(&refresh)?;
            grant.cookie_names = grant.cookie_names.or(found);
            let spent = match (&grant.refresh, &grant.access) {
                (None, Some(_)) => {
                    grant.refresh = Some(Token {
                        value: refresh,
                        expiry: unknown,
                    });
                    None
                }
                _ => Some(refresh),
            };
            Ok(Issued { grant, spent })
        })?;
        started.ok_or(SessionError::NoToken {
            missing: "access token",
        })
    }

    fn begin_with(
        &self,
        login: Option<&str>,
        request: impl FnOnce(&Client) -> Result<Issued, ApiError>,
    ) -> Result<Option<Started>, SessionError> {
        let lock = self.lock()?;
        let former = self.former()?;
        self.rotation.check()?;
        let deferral = self.interrupts.defer();
        let stored = self.request_and_store(&lock, login, former, request);
        let Some((session, replaced)) = deferral.end(stored)? else {
            return Ok(None);
        };
        let session = self.hand_over(&lock, session)?;
        let replaced = replaced.iter().map(|former| self.revoke_session(former));
        Ok(Some(Started {
            replaced: replaced.collect(),
            session,
        }))
    }

    /// Returns the new session, and those that are to be revoked now.
    fn request_and_store(
        &self,
        lock: &ProfileLock,
        login: Option<&str>,
        former: Option<Session>,
        request: impl FnOnce(&Client) -> Result<Issued, ApiError>,
    ) -> Result<Option<(Session, Vec<Session>)>, SessionError> {
        let Issued { grant, spent } = {
            let _waiting = self.terminal.spin("waiting for the server");
            request(&self.client)?
        };
        if grant.access.is_none() && grant.refresh.is_none() {
            return Ok(None);
        }
        let cookie_names = grant.cookie_names.clone();
        let mut session =
            Session::from_grant(self.origin.clone(), grant).map_err(|_| SessionError::NoToken {
                missing: "refresh token",
            })?;
        session.hand_over_pending = self.rotation.is_set();
        let mut former = former;
        if self.is_shared()? {
            (session, former) = self.log_in_shared(session)?;
        } else {
            self.persist(lock, &session)?;
        }
        self.record(|profile| {
            profile.api_url = Some(self.origin.clone());
            profile.store = Some(self.store);
            profile.signed_in = Some(true);
            if let Some(login) = login {
                profile.login = Some(login.to_owned());
            }
            if let Some(names) = &cookie_names {
                profile.access_cookie = Some(names.access.clone());
                profile.refresh_cookie = Some(names.refresh.clone());
            }
        })
        .map_err(|error| match error {
            SessionError::Profiles(error) => SessionError::NotRecorded(error),
            other => other,
        })?;
        if let Some(names) = &cookie_names {
            self.terminal.note(&format!(
                "the server's cookies are {} and {}; the profile now says so",
                names.access, names.refresh
            ));
        }
        let mut replaced: Vec<Session> = former.into_iter().collect();
        for kind in self.other_stores() {
            let entry = self.entry_in(kind);
            replaced.extend(entry.read_exposed().ok().flatten());
            if let Err(error) = entry.delete(lock) {
                self.terminal
                    .verbose(&format!("the {kind} store was not searched: {error}"));
            }
        }
        // Sending a token that was just exchanged away might end the new session.
        replaced.retain(|former| {
            former.refresh.value != session.refresh.value
                && Some(&former.refresh.value) != spent.as_ref()
        });
        Ok(Some((session, replaced)))
    }

    /// The session that is about to be replaced. One that cannot be parsed must
    /// not prevent a login; a store that cannot be used must.
    fn former(&self) -> Result<Option<Session>, SessionError> {
        match self.entry().read_exposed() {
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
