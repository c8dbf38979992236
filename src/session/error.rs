//! How an operation on a session can fail, by what the person does next.

use std::time::Duration;

use crate::api::ApiError;
use crate::model::{Origin, Timestamp};
use crate::store::{LockError, StoreError};

/// What spent a refresh token without bringing another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// A run was killed during an exchange that began then.
    Killed(Timestamp),
    /// An exchange that began then got no proper answer.
    Unanswered(Timestamp),
}

/// Why an operation on a session failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no session.
    #[error("not signed in")]
    NotSignedIn,
    /// The stored session is another server's, to which alone it may be sent.
    #[error("the stored session belongs to {stored}, another server than the profile's")]
    OtherOrigin {
        /// Whose it is.
        stored: Origin,
    },
    /// The server has definitively ended the session.
    #[error("the server has ended the session: {message}")]
    Ended {
        /// What the server said.
        message: String,
        /// What most likely spent the token, where that is known.
        spent: Option<Spent>,
    },
    /// The server refuses a credential that came from a variable.
    #[error("the server rejected the token in {variable}: {message}")]
    VariableRejected {
        /// The variable that holds it.
        variable: &'static str,
        /// What the server said.
        message: String,
    },
    /// The server did not do what was asked; the session is untouched.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Another process held the lock all the time.
    #[error("another process has held this profile for {} s", .0.as_secs())]
    Busy(Duration),
    /// The secret store failed, and nothing had been sent that it should have kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server has handed out a session that the store then did not take.
    #[error("the server renewed the session, but it could not be stored: {0}")]
    Lost(#[source] StoreError),
    /// A successful answer without the tokens that it is for.
    #[error("the server's answer holds no {missing}")]
    NoToken {
        /// `access token`, `refresh token`.
        missing: &'static str,
    },
}

impl From<LockError> for SessionError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Busy(time) => Self::Busy(time),
            LockError::Store(error) => Self::Store(error),
        }
    }
}

/// What a failed exchange says of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The session is over: 400, 401 or 403 with a JSON body (RFC 6749 §5.2).
    Definitive,
    /// Nothing is said: the session may well be alive.
    Passing,
}

impl Verdict {
    /// The verdict of an exchange's failure.
    #[must_use]
    pub fn of(error: &ApiError) -> Self {
        match error {
            ApiError::Refused {
                status: 400 | 401 | 403,
                ..
            } => Self::Definitive,
            _ => Self::Passing,
        }
    }
}
