//! The start of a session: stores and records the new tokens first, and then
//! revokes the sessions that they replace.

use super::{Revocation, SessionError, SessionManager};
use crate::api::{ApiError, Client};
use crate::model::{CookieNames, Expiry, Grant, RefreshToken, Session, Token};
use crate::store::{ProfileLock, StoreErrorKind};

/// A new session that is stored and recorded.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) session: Session,
    /// The results of revoking the sessions that it replaced.
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

/// The result of the request that starts a session.
struct Issued {
    grant: Grant,
    /// The refresh token that was exchanged for `grant`, if the server replaced it.
    exchanged: Option<RefreshToken>,
}

impl SessionManager<'_> {
    /// Proves that the store takes an entry of this profile.
    pub(crate) fn prove_writable(&self) -> Result<(), SessionError> {
        let lock = self.lock()?;
        self.prove_writable_under(&lock).map(|_| ())
    }

    /// Proves that the store takes an entry of this profile, whose lock is held.
    /// A store with versions must also refuse a write with an old version.
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

    /// Runs `request`, and stores and records the session that the server issues.
    /// Returns `None` if the server accepts the request and issues no tokens, as
    /// some servers do at signup. `login` is recorded with the session.
    pub(crate) fn begin(
        &self,
        login: Option<&str>,
        request: impl FnOnce(&Client) -> Result<Grant, ApiError>,
    ) -> Result<Option<Started>, SessionError> {
        self.begin_with(login, |client| {
            request(client).map(|grant| Issued {
                grant,
                exchanged: None,
            })
        })
    }

    /// Takes a session over by its refresh token, which is exchanged at once. If
    /// the server does not rotate tokens, that token remains valid and is stored.
    /// `found` holds the names of the cookies that the token came from, if they
    /// are not the configured names.
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
            let exchanged = match (&grant.refresh, &grant.access) {
                (None, Some(_)) => {
                    grant.refresh = Some(Token {
                        value: refresh,
                        expiry: unknown,
                    });
                    None
                }
                _ => Some(refresh),
            };
            Ok(Issued { grant, exchanged })
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
        let old_session = self.read_old_session()?;
        self.refuse_rotation_commands()?;
        self.rotation_commands.run_check()?;
        let is_shared = self.is_shared()?;
        let deferral = self.interrupts.defer();
        let stored = self.request_and_store(&lock, login, old_session, is_shared, request);
        let Some((session, replaced)) = deferral.finish(stored)? else {
            return Ok(None);
        };
        let session = self.run_pending_on_rotate(&lock, session)?;
        let replaced = replaced.iter().map(|session| self.revoke_session(session));
        Ok(Some(Started {
            replaced: replaced.collect(),
            session,
        }))
    }

    /// Returns the new session, and the replaced sessions that are to be revoked.
    fn request_and_store(
        &self,
        lock: &ProfileLock,
        login: Option<&str>,
        old_session: Option<Session>,
        is_shared: bool,
        request: impl FnOnce(&Client) -> Result<Issued, ApiError>,
    ) -> Result<Option<(Session, Vec<Session>)>, SessionError> {
        let Issued { grant, exchanged } = {
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
        session.hand_over_pending = self.rotation_commands.has_on_rotate();
        let mut old_session = old_session;
        if is_shared {
            (session, old_session) = self.log_in_shared(session)?;
        } else {
            self.persist(lock, &session)?;
        }
        self.record(|profile| {
            profile.api_url = Some(self.origin.clone());
            profile.store = Some(self.store);
            profile.signed_in = Some(true);
            if is_shared {
                profile.clock_skew = session.clock_skew_millis;
            }
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
                "the server's cookies are {} and {}; recorded in the profile",
                names.access, names.refresh
            ));
        }
        let mut replaced: Vec<Session> = old_session.into_iter().collect();
        for kind in self.other_stores() {
            let entry = self.entry_in(kind);
            replaced.extend(entry.read_despite_exposure().ok().flatten());
            if let Err(error) = entry.delete(lock) {
                self.terminal
                    .verbose(&format!("the {kind} store was not searched: {error}"));
            }
        }
        // Sending the token that was just exchanged might end the new session.
        let new_refresh = &session.refresh.value;
        replaced.retain(|session| {
            session.refresh.value != *new_refresh
                && Some(&session.refresh.value) != exchanged.as_ref()
        });
        Ok(Some((session, replaced)))
    }

    /// Reads the session that is about to be replaced. An entry that cannot be
    /// parsed must not prevent a login; a store that cannot be used must.
    fn read_old_session(&self) -> Result<Option<Session>, SessionError> {
        match self.entry().read_despite_exposure() {
            Ok(session) => Ok(session),
            Err(error) if error.kind == StoreErrorKind::Failed => {
                self.terminal
                    .verbose(&format!("the old session cannot be read: {error}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
