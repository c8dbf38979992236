//! A session: the tokens that a server handed out, and their lifetimes.

use super::{AccessToken, CookieNames, Expiry, Origin, RefreshToken, Timestamp};

/// A token and its lifetime.
#[derive(Debug, PartialEq, Eq)]
pub struct Token<T> {
    /// The token itself.
    pub value: T,
    /// The lifetime, counted from receipt.
    pub expiry: Expiry,
}

/// A session with one server. It is moved, never cloned, so that a refresh
/// token exists once in memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Session {
    /// The server that issued it, and the only one that it may be sent to.
    pub origin: Origin,
    /// The token that an exchange sends.
    pub refresh: Token<RefreshToken>,
    /// The token that a request sends, if the server has issued one yet.
    pub access: Option<Token<AccessToken>>,
    /// The server's clock minus ours in milliseconds, by the last response with a `Date`.
    pub skew: Option<i64>,
    /// The exchange that began last, as long as its result is not known.
    pub pending: Option<PendingExchange>,
    /// Whether the refresh token must still be handed to the user's command.
    pub hand_over_pending: bool,
    /// The machine that wrote the entry, if a store helper without versions keeps it.
    pub written_on: Option<String>,
}

/// The pending marker of an exchange. It is written before the request, so that
/// the next run can tell that this one did not learn the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingExchange {
    /// When the exchange began, by the local clock.
    pub began: Timestamp,
    /// Whether the run lived on and got no usable response. If not, the run
    /// was interrupted or is still waiting.
    pub unanswered: bool,
}

/// The tokens of one response. A login brings all of them, an exchange only
/// what is new: a server that does not rotate sends no refresh token.
#[derive(Debug)]
pub struct Grant {
    /// The access token, if one came.
    pub access: Option<Token<AccessToken>>,
    /// The refresh token, if one came. It replaces the one that was sent.
    pub refresh: Option<Token<RefreshToken>>,
    /// The server's clock minus ours in milliseconds, if the response had a `Date`.
    pub skew: Option<i64>,
    /// The names of the cookies, if they are not the configured ones.
    pub cookie_names: Option<CookieNames>,
}

impl Session {
    /// Makes a session of a grant. Returns the grant if it has no refresh token.
    pub(crate) fn from_grant(origin: Origin, grant: Grant) -> Result<Self, Grant> {
        match grant.refresh {
            Some(refresh) => Ok(Self {
                origin,
                refresh,
                access: grant.access,
                skew: grant.skew,
                pending: None,
                hand_over_pending: false,
                written_on: None,
            }),
            None => Err(grant),
        }
    }

    /// Applies the grant of an exchange: keeps what was not replaced and
    /// removes the pending marker.
    pub(crate) fn renewed(self, grant: Grant) -> Self {
        Self {
            origin: self.origin,
            refresh: grant.refresh.unwrap_or(self.refresh),
            access: grant.access.or(self.access),
            skew: grant.skew.or(self.skew),
            pending: None,
            hand_over_pending: self.hand_over_pending,
            written_on: self.written_on,
        }
    }

    /// Sets the skew of this machine's clock. The receipts keep their places in
    /// the server's time.
    pub(crate) fn set_skew(&mut self, skew: Option<i64>) {
        let shift = self.skew.unwrap_or(0).saturating_sub(skew.unwrap_or(0));
        self.refresh.expiry = self.refresh.expiry.shifted(shift);
        if let Some(access) = &mut self.access {
            access.expiry = access.expiry.shifted(shift);
        }
        self.skew = skew;
    }

    /// Whether both hold the same tokens, so that neither was renewed since.
    pub fn has_same_tokens(&self, other: &Self) -> bool {
        self.refresh.value == other.refresh.value
            && self.access.as_ref().map(|t| &t.value) == other.access.as_ref().map(|t| &t.value)
    }
}
