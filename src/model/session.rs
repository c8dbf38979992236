//! A session: the tokens that a server issued, and their lifetimes.

use super::{AccessToken, ApiUrl, CookieNames, Expiry, RefreshToken, Timestamp};

/// A token and its lifetime.
#[derive(Debug, PartialEq, Eq)]
pub struct Token<T> {
    /// An [`AccessToken`] or a [`RefreshToken`].
    pub value: T,
    /// When the token was received, and how long it is valid from then on.
    pub expiry: Expiry,
}

/// A session with one server. It cannot be cloned, so that there is only one copy of
/// the refresh token in memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Session {
    /// The server that issued the tokens. They must not be sent to any other server.
    pub api_url: ApiUrl,
    /// The token that is exchanged for new tokens.
    pub refresh: Token<RefreshToken>,
    /// The token that API requests send, if the server has issued an access token yet.
    pub access: Option<Token<AccessToken>>,
    /// The server's clock minus the local clock, measured at the last response that had
    /// a `Date` header.
    pub clock_skew_millis: Option<i64>,
    /// The last exchange, if its result is not known yet.
    pub pending: Option<PendingExchange>,
    /// Whether the user's `on_rotate` command must still be run with the refresh token.
    pub on_rotate_pending: bool,
    /// The name of the machine that wrote the stored entry, if the store is behind a
    /// helper program and has no versions.
    pub written_by_host: Option<String>,
}

/// The pending marker of an exchange. It is stored before the request is sent and
/// removed once the result is stored. A run that finds the marker knows that
/// another run has not stored the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingExchange {
    /// When the request was sent, by the local clock.
    pub began_at: Timestamp,
    /// True if the run that sent the request got no usable response. False if that run
    /// was interrupted, or is still waiting for the response.
    pub got_no_response: bool,
}

/// The tokens in one response. A login returns both tokens. An exchange may return
/// only an access token: a server that does not rotate refresh tokens sends no new one.
#[derive(Debug)]
pub struct Grant {
    /// The access token, if the response has one.
    pub access: Option<Token<AccessToken>>,
    /// The refresh token, if the response has one. It replaces the previous refresh token.
    pub refresh: Option<Token<RefreshToken>>,
    /// The server's clock minus the local clock, if the response has a `Date` header.
    pub clock_skew_millis: Option<i64>,
    /// The names of the cookies, if the server does not use the configured names.
    pub cookie_names: Option<CookieNames>,
}

impl Session {
    /// Returns the grant as the error if it has no refresh token.
    pub(crate) fn from_grant(api_url: ApiUrl, grant: Grant) -> Result<Self, Grant> {
        match grant.refresh {
            Some(refresh) => Ok(Self {
                api_url,
                refresh,
                access: grant.access,
                clock_skew_millis: grant.clock_skew_millis,
                pending: None,
                on_rotate_pending: false,
                written_by_host: None,
            }),
            None => Err(grant),
        }
    }

    /// Returns the session after an exchange: the tokens in `grant` replace the previous
    /// ones, and the pending marker is removed. Without a new access token, the session has
    /// none, because the previous one would be taken for a new one.
    pub(crate) fn with_grant(self, grant: Grant) -> Self {
        Self {
            api_url: self.api_url,
            refresh: grant.refresh.unwrap_or(self.refresh),
            access: grant.access,
            clock_skew_millis: grant.clock_skew_millis.or(self.clock_skew_millis),
            pending: None,
            on_rotate_pending: self.on_rotate_pending,
            written_by_host: self.written_by_host,
        }
    }

    /// Replaces the recorded clock skew: the server's clock minus the local clock, or `None`
    /// if it is not known. Also shifts the local times of receipt, so that by the server's
    /// clock they stay the same.
    pub(crate) fn set_clock_skew(&mut self, clock_skew_millis: Option<i64>) {
        let previous = self.clock_skew_millis.unwrap_or(0);
        let shift = previous.saturating_sub(clock_skew_millis.unwrap_or(0));
        self.refresh.expiry = self.refresh.expiry.shifted_by_millis(shift);
        if let Some(access) = &mut self.access {
            access.expiry = access.expiry.shifted_by_millis(shift);
        }
        self.clock_skew_millis = clock_skew_millis;
    }

    /// Whether both sessions have the same access token and the same refresh token.
    pub fn has_same_tokens(&self, other: &Self) -> bool {
        self.refresh.value == other.refresh.value
            && self.access.as_ref().map(|t| &t.value) == other.access.as_ref().map(|t| &t.value)
    }
}
