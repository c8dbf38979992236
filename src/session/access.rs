//! An access token for a request, and the request itself: one refresh on a
//! 401, one repeat, then the truth.

use std::time::Duration;

use super::{Keeper, Need, SessionError, Verdict};
use crate::api::ApiError;
use crate::model::{AccessToken, Grant, RefreshToken, Session};

/// Tokens from the environment, which stand in for the stored session.
#[derive(Debug, Default)]
pub struct Variables {
    /// The variable of the access token and its value.
    pub access: Option<(&'static str, AccessToken)>,
    /// The variable of the refresh token and its value.
    pub refresh: Option<(&'static str, RefreshToken)>,
}

impl Variables {
    /// Whether one of them is set, so that no store is touched.
    #[must_use]
    pub fn in_force(&self) -> bool {
        self.access.is_some() || self.refresh.is_some()
    }

    /// The names of those that are set.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let access = self.access.as_ref().map(|(name, _)| *name);
        let refresh = self.refresh.as_ref().map(|(name, _)| *name);
        access.into_iter().chain(refresh).collect()
    }
}

/// Where the access token in use came from.
#[derive(Debug)]
pub enum Credential<'v> {
    /// The stored session, which has an access token.
    Stored(Session),
    /// A variable that holds an access token.
    Access(&'static str, &'v AccessToken),
    /// An exchange of a refresh token in a variable.
    Exchanged {
        /// The variable.
        variable: &'static str,
        /// The token in it.
        refresh: &'v RefreshToken,
        /// What the exchange brought.
        grant: Grant,
    },
}

impl Credential<'_> {
    /// The access token.
    pub fn access(&self) -> Result<&AccessToken, SessionError> {
        let missing = SessionError::NoToken {
            missing: "access token",
        };
        match self {
            Self::Stored(session) => session.access.as_ref().map(|t| &t.value).ok_or(missing),
            Self::Access(_, access) => Ok(access),
            Self::Exchanged { grant, .. } => grant.access.as_ref().map(|t| &t.value).ok_or(missing),
        }
    }

    /// The refresh token that is in force after this.
    #[must_use]
    pub fn refresh(&self) -> Option<&RefreshToken> {
        match self {
            Self::Stored(session) => Some(&session.refresh.value),
            Self::Access(..) => None,
            Self::Exchanged { refresh, grant, .. } => {
                Some(grant.refresh.as_ref().map_or(*refresh, |t| &t.value))
            }
        }
    }

    /// The variable that it came from.
    #[must_use]
    pub fn variable(&self) -> Option<&'static str> {
        match self {
            Self::Stored(_) => None,
            Self::Access(variable, _) | Self::Exchanged { variable, .. } => Some(variable),
        }
    }

    /// Whether a refresh token in a variable has been spent, for a new one that no store keeps.
    #[must_use]
    pub fn spent(&self) -> Option<&'static str> {
        match self {
            Self::Exchanged {
                variable,
                refresh,
                grant,
            } => grant
                .refresh
                .as_ref()
                .filter(|new| new.value != **refresh)
                .map(|_| *variable),
            _ => None,
        }
    }
}

impl Keeper<'_> {
    /// An access token that lasts longer than `min_ttl`, from the variables
    /// where one is set, else from the stored session, renewed where needed.
    pub fn credential<'v>(
        &self,
        variables: &'v Variables,
        min_ttl: Duration,
    ) -> Result<Credential<'v>, SessionError> {
        if let Some((name, access)) = &variables.access {
            self.terminal
                .verbose(&format!("using the access token in {name}"));
            return Ok(Credential::Access(name, access));
        }
        if variables.refresh.is_some() {
            return self.exchange_variable(variables);
        }
        let session = self.load()?.ok_or(SessionError::NotSignedIn)?;
        let need = Need::Lasting(min_ttl);
        if self.is_fresh(&session, need) {
            return Ok(Credential::Stored(session));
        }
        self.terminal.verbose(match session.access {
            Some(_) => "the access token has ended or is about to: renewing",
            None => "there is no access token yet: renewing",
        });
        self.renew(Some(session), need).map(Credential::Stored)
    }

    /// Runs `request` with an access token; a 401 is answered by one renewal
    /// and one repeat, whose answer stands.
    pub fn authenticated<'v, T>(
        &self,
        variables: &'v Variables,
        min_ttl: Duration,
        request: impl Fn(&AccessToken) -> Result<T, ApiError>,
    ) -> Result<(T, Credential<'v>), SessionError> {
        let attempt = |credential: &Credential<'_>| -> Result<Result<T, ApiError>, SessionError> {
            let access = credential.access()?;
            self.interrupts.watch();
            let _waiting = self.terminal.spin("waiting for the server");
            Ok(request(access))
        };
        let mut credential = self.credential(variables, min_ttl)?;
        let mut answer = attempt(&credential)?;
        if let Err(ApiError::Refused { status: 401, .. }) = &answer
            && !matches!(credential, Credential::Exchanged { .. })
            && (credential.variable().is_none() || variables.refresh.is_some())
        {
            self.terminal
                .verbose("the server refused the access token: renewing once");
            credential = match credential {
                Credential::Stored(session) => {
                    Credential::Stored(self.renew(Some(session), Need::Now)?)
                }
                _ => self.exchange_variable(variables)?,
            };
            answer = attempt(&credential)?;
        }
        match (answer, credential.variable()) {
            (Ok(value), _) => Ok((value, credential)),
            (
                Err(ApiError::Refused {
                    status: 401,
                    message,
                    ..
                }),
                Some(variable),
            ) => Err(SessionError::VariableRejected { variable, message }),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Exchanges the refresh token in a variable. There is no lock and no store:
    /// nobody else can be asked what became of it.
    pub fn exchange_variable<'v>(
        &self,
        variables: &'v Variables,
    ) -> Result<Credential<'v>, SessionError> {
        let Some((variable, refresh)) = &variables.refresh else {
            return Err(SessionError::NotSignedIn);
        };
        self.terminal
            .verbose(&format!("exchanging the refresh token in {variable}"));
        self.interrupts.watch();
        let _waiting = self.terminal.spin("waiting for the server");
        match self.client.exchange(refresh) {
            Ok(grant) => Ok(Credential::Exchanged {
                variable,
                refresh,
                grant,
            }),
            Err(error) if Verdict::of(&error) == Verdict::Definitive => {
                Err(SessionError::VariableRejected {
                    variable,
                    message: error.to_string(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}
