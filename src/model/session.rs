//! A session: the tokens a server handed out, and what is known of their lives.

use super::{AccessToken, Expiry, Origin, RefreshToken, Timestamp};

/// A token and when it ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Token<T> {
    /// The token itself.
    pub value: T,
    /// Its life, from receipt.
    pub expiry: Expiry,
}

/// A signed-in session with one server. There is one copy of it: it is moved,
/// never cloned.
#[derive(Debug, PartialEq, Eq)]
pub struct Session {
    /// The server that handed it out, and the only one it may be sent to.
    pub origin: Origin,
    /// What an exchange needs.
    pub refresh: Token<RefreshToken>,
    /// What a request needs; absent where the server gave none yet.
    pub access: Option<Token<AccessToken>>,
    /// Milliseconds by which the server's clock is ahead of ours, as of the last
    /// answer with a `Date`.
    pub skew: Option<i64>,
    /// Set while an exchange is under way.
    pub mark: Option<Mark>,
}

/// "An exchange of this refresh token began": written before the request, so
/// that a run that was killed in between can be told from one that was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The local clock at that moment.
    pub began: Timestamp,
}

/// What an answer brought: all of it at a login, what is new at an exchange. A server that does not rotate sends no refresh token.
#[derive(Debug)]
pub struct Grant {
    /// The access token, where one came.
    pub access: Option<Token<AccessToken>>,
    /// The refresh token, where one came: at an exchange it replaces the one sent.
    pub refresh: Option<Token<RefreshToken>>,
    /// The server's clock minus ours, in milliseconds, where the answer had a `Date`.
    pub skew: Option<i64>,
}

impl Session {
    /// A session that begins with `grant`, or the grant again where it holds no refresh token.
    pub fn begin(origin: Origin, grant: Grant) -> Result<Self, Grant> {
        match grant.refresh {
            Some(refresh) => Ok(Self {
                origin,
                refresh,
                access: grant.access,
                skew: grant.skew,
                mark: None,
            }),
            None => Err(grant),
        }
    }

    /// The session after `grant`: what was not replaced is kept, the mark is gone.
    #[must_use]
    pub fn renewed(self, grant: Grant) -> Self {
        Self {
            origin: self.origin,
            refresh: grant.refresh.unwrap_or(self.refresh),
            access: grant.access.or(self.access),
            skew: grant.skew.or(self.skew),
            mark: None,
        }
    }

    /// Whether both hold the same tokens: nobody has renewed one of them since.
    #[must_use]
    pub fn same_tokens(&self, other: &Self) -> bool {
        self.refresh.value == other.refresh.value
            && self.access.as_ref().map(|t| &t.value) == other.access.as_ref().map(|t| &t.value)
    }
}
