//! The credential of a run: the access token that its requests send. After status 401,
//! renews the credential once and repeats the request.

use std::time::Duration;

use super::error::ends_session;
use super::{RefreshPolicy, SessionError, SessionManager, TokenKind};
use crate::api::ApiError;
use crate::model::{AccessToken, Expiry, Grant, RefreshToken, Session};

/// The tokens in environment variables, which are used instead of the stored session.
/// Each token is paired with the name of its variable.
#[derive(Debug, Default)]
pub(crate) struct TokenVariables {
    pub(crate) access: Option<(&'static str, AccessToken)>,
    pub(crate) refresh: Option<(&'static str, RefreshToken)>,
}

impl TokenVariables {
    /// Whether a token is set. If so, the run uses no store.
    pub(crate) fn is_any_set(&self) -> bool {
        self.access.is_some() || self.refresh.is_some()
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        let access = self.access.as_ref().map(|(name, _)| *name);
        let refresh = self.refresh.as_ref().map(|(name, _)| *name);
        access.into_iter().chain(refresh).collect()
    }
}

/// The access token of a run, and what is needed to renew it. All requests of the run
/// share one credential.
pub(crate) struct Credential<'m> {
    manager: &'m SessionManager<'m>,
    source: Source,
}

enum Source {
    Stored(Session),
    /// An access token in `variable`, and a refresh token with its own variable, if set.
    AccessVariable {
        variable: &'static str,
        access: AccessToken,
        refresh: Option<(&'static str, RefreshToken)>,
    },
    /// The result of exchanging the refresh token in `variable`.
    Exchanged {
        variable: &'static str,
        /// The refresh token that the server issued last. If the server has issued none,
        /// the token in the variable.
        refresh: RefreshToken,
        refresh_expiry: Option<Expiry>,
        /// Whether the last exchange returned a new refresh token.
        is_refresh_token_replaced: bool,
        grant: Grant,
    },
}

impl<'m> SessionManager<'m> {
    /// Returns a credential from `variables`, or from the stored session if no variable
    /// is set. Renews the stored session first if its access token expires within
    /// `min_ttl`.
    pub(crate) fn credential(
        &'m self,
        variables: TokenVariables,
        min_ttl: Duration,
    ) -> Result<Credential<'m>, SessionError> {
        let source = match variables {
            TokenVariables {
                access: Some((variable, access)),
                refresh,
            } => {
                self.terminal
                    .verbose(&format!("using the access token in {variable}"));
                Source::AccessVariable {
                    variable,
                    access,
                    refresh,
                }
            }
            TokenVariables {
                access: None,
                refresh: Some((variable, refresh)),
            } => self.exchange_token_in_variable(variable, refresh)?,
            TokenVariables { .. } => Source::Stored(self.fresh_session(min_ttl)?),
        };
        let credential = Credential {
            manager: self,
            source,
        };
        credential.warn_if_token_replaced();
        Ok(credential)
    }

    /// Exchanges the refresh token in a variable. The caller then calls
    /// [`Credential::warn_if_token_replaced`], unless it prints the new token.
    pub(crate) fn credential_from_variable(
        &'m self,
        (variable, refresh): (&'static str, RefreshToken),
    ) -> Result<Credential<'m>, SessionError> {
        Ok(Credential {
            manager: self,
            source: self.exchange_token_in_variable(variable, refresh)?,
        })
    }

    /// Uses the access token of `session` without renewing it first.
    pub(crate) fn credential_from_session(&'m self, session: Session) -> Credential<'m> {
        Credential {
            manager: self,
            source: Source::Stored(session),
        }
    }

    fn fresh_session(&self, min_ttl: Duration) -> Result<Session, SessionError> {
        let session = self
            .load_with_local_times()?
            .ok_or(SessionError::NotSignedIn)?;
        self.rerun_failed_on_rotate(&session)?;
        let policy = RefreshPolicy::IfExpiresWithin(min_ttl);
        self.warn_before_expiry(&session);
        if self.is_fresh(&session, policy) {
            return Ok(session);
        }
        self.terminal.verbose(match session.access {
            Some(_) => "the access token has expired or is about to expire: renewing",
            None => "there is no access token yet: renewing",
        });
        self.renew(Some(&session), policy)
    }

    fn exchange_token_in_variable(
        &self,
        variable: &'static str,
        refresh: RefreshToken,
    ) -> Result<Source, SessionError> {
        let mut grant = self.exchange_and_run_on_rotate(variable, &refresh)?;
        let issued = grant.refresh.take();
        let refresh_expiry = issued.as_ref().map(|token| token.expiry);
        let issued = issued.map(|token| token.value);
        let is_refresh_token_replaced = issued.as_ref().is_some_and(|issued| *issued != refresh);
        Ok(Source::Exchanged {
            variable,
            refresh: issued.unwrap_or(refresh),
            refresh_expiry,
            is_refresh_token_replaced,
            grant,
        })
    }

    /// Exchanges the refresh token in a variable, and passes a new refresh token to the
    /// user's `on_rotate` command. Acquires no lock, because the result is not stored and
    /// so cannot be shared with other runs.
    fn exchange_and_run_on_rotate(
        &self,
        variable: &'static str,
        refresh: &RefreshToken,
    ) -> Result<Grant, SessionError> {
        self.terminal
            .verbose(&format!("exchanging the refresh token in {variable}"));
        self.env_rotation_commands.run_on_rotate_check()?;
        let deferral = self.interrupts.defer();
        let exchanged = {
            let _waiting = self.terminal.spin("waiting for the server");
            self.client.exchange(refresh)
        };
        let grant = exchanged.map_err(|error| match ends_session(&error) {
            true => SessionError::VariableRejected {
                variable,
                message: error.to_string(),
            },
            false => error.into(),
        })?;
        if let Some(issued) = &grant.refresh
            && issued.value != *refresh
        {
            let result = self.env_rotation_commands.run_on_rotate(&issued.value);
            deferral.finish(result.map_err(|reason| {
                SessionError::OnRotateFailedForUnstoredToken {
                    command: self.env_rotation_commands.on_rotate.join(" "),
                    reason,
                }
            }))?;
        }
        Ok(grant)
    }
}

impl Credential<'_> {
    pub(crate) fn access_token(&self) -> Result<&AccessToken, SessionError> {
        let access = match &self.source {
            Source::Stored(session) => session.access.as_ref().map(|token| &token.value),
            Source::AccessVariable { access, .. } => Some(access),
            Source::Exchanged { grant, .. } => grant.access.as_ref().map(|token| &token.value),
        };
        access.ok_or(SessionError::NoToken(TokenKind::Access))
    }

    pub(crate) fn refresh_token(&self) -> Option<&RefreshToken> {
        match &self.source {
            Source::Stored(session) => Some(&session.refresh.value),
            Source::AccessVariable { refresh, .. } => refresh.as_ref().map(|(_, token)| token),
            Source::Exchanged { refresh, .. } => Some(refresh),
        }
    }

    /// Returns the environment variable that the credential came from.
    pub(crate) fn variable(&self) -> Option<&'static str> {
        match &self.source {
            Source::Stored(_) => None,
            Source::AccessVariable { variable, .. } | Source::Exchanged { variable, .. } => {
                Some(variable)
            }
        }
    }

    pub(crate) fn refresh_expiry(&self) -> Option<&Expiry> {
        match &self.source {
            Source::Stored(session) => Some(&session.refresh.expiry),
            Source::AccessVariable { .. } => None,
            Source::Exchanged { refresh_expiry, .. } => refresh_expiry.as_ref(),
        }
    }

    pub(crate) fn access_expiry(&self) -> Option<&Expiry> {
        match &self.source {
            Source::Stored(session) => session.access.as_ref().map(|token| &token.expiry),
            Source::AccessVariable { .. } => None,
            Source::Exchanged { grant, .. } => grant.access.as_ref().map(|token| &token.expiry),
        }
    }

    /// Returns the server's clock minus the local clock in milliseconds, if known.
    pub(crate) fn clock_skew_millis(&self) -> Option<i64> {
        match &self.source {
            Source::Stored(session) => session.clock_skew_millis,
            Source::AccessVariable { .. } => None,
            Source::Exchanged { grant, .. } => grant.clock_skew_millis,
        }
    }

    /// Renews the credential if its access token expires within `ttl`. Reads a stored
    /// session again first, because another process may have renewed it.
    pub(crate) fn renew_if_expires_within(&mut self, ttl: Duration) -> Result<(), SessionError> {
        let manager = self.manager;
        let now = (manager.now)();
        if let Source::Stored(session) = &mut self.source {
            *session = manager.fresh_session(ttl)?;
            return Ok(());
        }
        let is_fresh = self
            .access_expiry()
            .is_none_or(|expiry| expiry.outlasts(ttl, now));
        match (is_fresh, self.can_renew()) {
            (true, _) => Ok(()),
            (false, true) => self.renew(),
            (false, false) => Err(SessionError::NotRenewable {
                variable: self.variable().unwrap_or_default(),
            }),
        }
    }

    /// Warns if the server has replaced the refresh token of a variable, and no
    /// `on_rotate` command receives the new one.
    pub(crate) fn warn_if_token_replaced(&self) {
        if let Source::Exchanged {
            variable,
            is_refresh_token_replaced: true,
            ..
        } = &self.source
            && !self.manager.env_rotation_commands.has_on_rotate()
        {
            self.manager.terminal.warn(&format!(
                "the value in {variable} is no longer valid: the server has replaced it, and the new value is not stored. \
                 Next time, run `rememberizer login --refresh-token-stdin`, and pass the session on with \
                 `rememberizer token --refresh-token`"
            ));
        }
    }

    /// Calls `request` with the access token. After a 401, renews the credential and
    /// calls `request` once more, and returns the second result.
    pub(crate) fn send<T>(
        &mut self,
        request: impl Fn(&AccessToken) -> Result<T, ApiError>,
    ) -> Result<T, SessionError> {
        let mut result = self.send_once(&request)?;
        if is_unauthorized(&result) && self.can_renew() {
            self.manager
                .terminal
                .verbose("the server refused the access token: renewing once");
            self.renew()?;
            result = self.send_once(&request)?;
        }
        result.map_err(|error| match (error, self.variable()) {
            (error @ ApiError::Refused { status: 401, .. }, Some(variable)) => {
                SessionError::VariableRejected {
                    variable,
                    message: error.to_string(),
                }
            }
            (error, _) => error.into(),
        })
    }

    fn send_once<T>(
        &self,
        request: impl Fn(&AccessToken) -> Result<T, ApiError>,
    ) -> Result<Result<T, ApiError>, SessionError> {
        let access = self.access_token()?;
        self.manager.interrupts.start_handling_signals();
        let _waiting = self.manager.terminal.spin("waiting for the server");
        Ok(request(access))
    }

    /// Whether the credential can be renewed. The refresh token in a variable is exchanged
    /// at most once per run. If the server replaced it, its successor can be exchanged.
    fn can_renew(&self) -> bool {
        match &self.source {
            Source::Stored(_) => true,
            Source::AccessVariable { refresh, .. } => refresh.is_some(),
            Source::Exchanged {
                is_refresh_token_replaced,
                ..
            } => *is_refresh_token_replaced,
        }
    }

    fn renew(&mut self) -> Result<(), SessionError> {
        let manager = self.manager;
        match &mut self.source {
            Source::Stored(session) => {
                *session = manager.renew(Some(session), RefreshPolicy::Now)?;
            }
            Source::AccessVariable { refresh, .. } => {
                if let Some((variable, refresh)) = refresh.take() {
                    self.source = manager.exchange_token_in_variable(variable, refresh)?;
                    self.warn_if_token_replaced();
                }
            }
            Source::Exchanged {
                variable,
                refresh,
                refresh_expiry,
                is_refresh_token_replaced,
                grant,
            } => {
                *grant = manager.exchange_and_run_on_rotate(variable, refresh)?;
                let issued = grant.refresh.take();
                *is_refresh_token_replaced = issued
                    .as_ref()
                    .is_some_and(|issued| issued.value != *refresh);
                if let Some(issued) = issued {
                    *refresh = issued.value;
                    *refresh_expiry = Some(issued.expiry);
                }
            }
        }
        Ok(())
    }
}

fn is_unauthorized<T>(result: &Result<T, ApiError>) -> bool {
    matches!(result, Err(ApiError::Refused { status: 401, .. }))
}
