//! Starts a session: stores the new tokens, records the session in the profile, and
//! then revokes the sessions that it replaces. The user's command `on_rotate_check` runs before
//! the request, and `on_rotate` once the tokens are stored.

use super::{Revocation, SessionError, SessionManager, TokenKind};
use crate::api::{ApiError, Client};
use crate::model::{CookieNames, Expiry, Grant, RefreshToken, Session, Token};
use crate::store::ProfileLock;

/// A session that was started and stored.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) session: Session,
    /// The results of revoking the sessions that it replaced.
    pub(crate) revocations: Vec<Revocation>,
}

/// What a test of the store has shown.
#[derive(Debug)]
pub(crate) enum StoreProof {
    /// The store can be read. Nothing was written, because that could open a dialog.
    Readable,
    /// The store returned what was written to it.
    Writable,
    /// The store can be written, and refuses a write with an old version.
    ComparesVersions,
    /// The store can be read. Nothing was written, because another machine holds the
    /// lease.
    LeaseHeld { host: String },
}

/// The result of the request that starts a session.
struct Issued {
    grant: Grant,
    /// The refresh token that was exchanged for `grant`, if the server replaced it.
    used_token: Option<RefreshToken>,
}

impl SessionManager<'_> {
    /// Tests the store as [`Self::test_store_under_lock`] does.
    pub(crate) fn test_store(&self) -> Result<(), SessionError> {
        let lock = self.lock()?;
        self.test_store_under_lock(&lock).map(|_| ())
    }

    /// Tests the store, and fails if it cannot be used. Writes only if that opens no dialog
    /// and no other machine holds the lease. A store that machines share must also refuse a
    /// write with an old version.
    pub(crate) fn test_store_under_lock(
        &self,
        lock: &ProfileLock,
    ) -> Result<StoreProof, SessionError> {
        let _waiting = self.terminal.spin("waiting for the secret store");
        if let Some(proof) = self.test_store_if_shared()? {
            return Ok(proof);
        }
        // Nothing is written if removing the test entry could open a dialog.
        let is_write_tested = self.entry().prove_writable(lock)?;
        Ok(match is_write_tested {
            true => StoreProof::Writable,
            false => StoreProof::Readable,
        })
    }

    /// Calls `request`, and stores the session that the server issues. Records it in
    /// the profile, with `login`. Returns `None` if the server accepts the request
    /// without issuing tokens, as some servers do at signup.
    pub(crate) fn start_session(
        &self,
        login: Option<&str>,
        request: impl FnOnce(&Client) -> Result<Grant, ApiError>,
    ) -> Result<Option<NewSession>, SessionError> {
        self.start_session_with(login, |client| {
            request(client).map(|grant| Issued {
                grant,
                used_token: None,
            })
        })
    }

    /// Starts a session from the refresh token of another program, and exchanges that
    /// token at once. If the server does not rotate tokens, the token remains valid and
    /// is stored. `cookie_names` are the names of the cookies that the token came from,
    /// if they are not the configured names.
    pub(crate) fn take_over(
        &self,
        refresh: RefreshToken,
        cookie_names: Option<CookieNames>,
    ) -> Result<NewSession, SessionError> {
        let unknown_expiry = Expiry::new((self.now)(), None);
        if let Some(names) = &cookie_names {
            self.client.use_cookie_names(names);
        }
        let new_session = self.start_session_with(None, |client| {
            let mut grant = client.exchange(&refresh)?;
            grant.cookie_names = grant.cookie_names.or(cookie_names);
            let used_token = match (&grant.refresh, &grant.access) {
                (None, Some(_)) => {
                    grant.refresh = Some(Token {
                        value: refresh,
                        expiry: unknown_expiry,
                    });
                    None
                }
                _ => Some(refresh),
            };
            Ok(Issued { grant, used_token })
        })?;
        new_session.ok_or(SessionError::NoToken(TokenKind::Access))
    }

    /// Like [`Self::start_session`], for a `request` that may itself have exchanged a token.
    fn start_session_with(
        &self,
        login: Option<&str>,
        request: impl FnOnce(&Client) -> Result<Issued, ApiError>,
    ) -> Result<Option<NewSession>, SessionError> {
        let lock = self.lock()?;
        let old_session = self.read_old_session()?;
        self.refuse_rotation_commands_if_shared()?;
        self.rotation_commands.run_on_rotate_check()?;
        let is_shared = self.is_shared()?;
        // Defer signals: until they are stored, new tokens exist only in memory.
        let signal_deferral = self.interrupts.defer();
        let stored = self.request_and_store(&lock, login, old_session, is_shared, request);
        let Some((session, replaced)) = signal_deferral.finish(stored)? else {
            return Ok(None);
        };
        let session = self.run_on_rotate_if_pending(&lock, session)?;
        let revocations = replaced.iter().map(|session| self.revoke_session(session));
        Ok(Some(NewSession {
            revocations: revocations.collect(),
            session,
        }))
    }

    /// Calls `request`, and stores and records the new session. Returns it with the
    /// replaced sessions, which are still to be revoked.
    fn request_and_store(
        &self,
        lock: &ProfileLock,
        login: Option<&str>,
        old_session: Option<Session>,
        is_shared: bool,
        request: impl FnOnce(&Client) -> Result<Issued, ApiError>,
    ) -> Result<Option<(Session, Vec<Session>)>, SessionError> {
        let Issued { grant, used_token } = {
            let _waiting = self.terminal.spin("waiting for the server");
            request(&self.client)?
        };
        if grant.access.is_none() && grant.refresh.is_none() {
            return Ok(None);
        }
        let cookie_names = grant.cookie_names.clone();
        let mut session = Session::from_grant(self.api_url.clone(), grant)
            .map_err(|_| SessionError::NoToken(TokenKind::Refresh))?;
        session.on_rotate_pending = self.rotation_commands.has_on_rotate();
        let mut old_session = old_session;
        if is_shared {
            // Another machine may have changed the entry since `old_session` was read.
            (session, old_session) = self.store_shared_login(session)?;
        } else {
            self.save_with_retries(lock, &session)?;
        }
        self.update_profile(|profile| {
            profile.api_url = Some(self.api_url.clone());
            profile.store = Some(self.store);
            profile.signed_in = Some(true);
            if is_shared {
                // A shared entry contains times by the server's clock.
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
            SessionError::Profiles(error) => SessionError::ProfileNotRecorded(error),
            other => other,
        })?;
        if let Some(names) = &cookie_names {
            self.terminal.note(&format!(
                "the server's cookies are named {} and {}; the profile now contains these names",
                names.access, names.refresh
            ));
        }
        let mut replaced: Vec<Session> = old_session.into_iter().collect();
        for kind in self.other_stores() {
            let entry = self.entry_in(kind);
            // A session that other users can read must be revoked, too.
            replaced.extend(entry.read_even_if_others_can_read().ok().flatten());
            if let Err(error) = entry.delete(lock) {
                self.terminal.verbose(&format!(
                    "an older session in the {kind} store was not removed: {error}"
                ));
            }
        }
        // Revoking a session by the token that was just exchanged might end the new
        // session.
        let new_token = &session.refresh.value;
        replaced.retain(|session| {
            session.refresh.value != *new_token
                && Some(&session.refresh.value) != used_token.as_ref()
        });
        Ok(Some((session, replaced)))
    }

    /// Reads the session that is about to be replaced. Ignores an entry that cannot be
    /// read. Fails if the store cannot be used.
    fn read_old_session(&self) -> Result<Option<Session>, SessionError> {
        Ok(self.read_own_entry()?.unwrap_or_else(|error| {
            self.terminal
                .verbose(&format!("the old session cannot be read: {error}"));
            None
        }))
    }
}
