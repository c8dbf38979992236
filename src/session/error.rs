//! How an operation on a session can fail.

use std::time::Duration;

use crate::api::ApiError;
use crate::model::{Origin, PendingExchange, Timestamp};
use crate::store::{LockError, ProfilesError, StoreError};

/// What most likely spent a refresh token that the server refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LikelyCause {
    /// A run was interrupted during an exchange that began then.
    InterruptedRun(Timestamp),
    /// An exchange that began then got no usable response.
    LostResponse(Timestamp),
    /// A run on another machine began an exchange then, and did not finish.
    LapsedLease { host: String, began: Timestamp },
}

impl From<PendingExchange> for LikelyCause {
    fn from(pending: PendingExchange) -> Self {
        if pending.unanswered {
            Self::LostResponse(pending.began)
        } else {
            Self::InterruptedRun(pending.began)
        }
    }
}

/// Why an operation on a session failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("not signed in")]
    NotSignedIn,
    /// The stored session may only be sent to another server.
    #[error("the stored session belongs to {stored}, another server than the profile's")]
    OtherOrigin { stored: Origin },
    /// The server has definitively ended the session.
    #[error("the server has ended the session: {message}")]
    Ended {
        message: String,
        cause: Option<LikelyCause>,
    },
    /// The server refuses a token that came from a variable.
    #[error("the server rejected the token in {variable}: {message}")]
    VariableRejected {
        variable: &'static str,
        message: String,
    },
    /// The access token has come from a variable, and nothing can renew it.
    #[error("the token in {variable} cannot be renewed again")]
    NotRenewable { variable: &'static str },
    /// The server did not do what was asked. The session is untouched.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Another process held the lock for the whole timeout.
    #[error("another process has held this profile for {} s", .0.as_secs_f32())]
    Busy(Duration),
    /// Another machine held the session's lease for the whole timeout.
    #[error("a run on {host} has been renewing the session since {since}")]
    BusyElsewhere { host: String, since: Timestamp },
    /// The run that this one waited for got no usable response.
    #[error("another run could not renew the session: {0}")]
    SharedFailure(String),
    /// The secret store failed before anything was spent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The profiles file failed.
    #[error(transparent)]
    Profiles(#[from] ProfilesError),
    /// The session is stored, but the profile's record of it is not.
    #[error("the session is stored, but the profile was not recorded: {0}")]
    NotRecorded(#[source] ProfilesError),
    /// The server issued tokens that the store then did not take.
    #[error("the server renewed the session, but it could not be stored: {0}")]
    Lost(#[source] StoreError),
    /// A successful response without the token that it is for.
    #[error("the server's answer holds no {missing}")]
    NoToken {
        /// `access token` or `refresh token`.
        missing: &'static str,
    },
    /// The check that must succeed before a refresh token is spent has failed.
    #[error("the check before the refresh token is spent has failed: {command}: {reason}")]
    RotationCheck { command: String, reason: String },
    /// The new refresh token is stored, but the command did not take it.
    #[error(
        "the session is stored, but its new refresh token was not handed over: {command}: {reason}"
    )]
    HandOver { command: String, reason: String },
    /// A command did not take the new refresh token, which no store has.
    #[error(
        "the new refresh token was not handed over, and nothing here keeps it: {command}: {reason}"
    )]
    HandOverLost { command: String, reason: String },
    /// The store is shared by machines, and the profile has a command to run at a rotation.
    #[error("{name} does not work with a store that machines share")]
    RotationOfShared { name: String },
    /// The other store, to which the session was to be moved, holds one already.
    #[error("the {store} store already holds a session of profile {profile}, on {origin}")]
    Occupied {
        store: String,
        profile: String,
        origin: Origin,
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

/// Whether a failed exchange means that the session is over: 400, 401 or 403
/// with a JSON body (RFC 6749 §5.2). After any other failure the session may
/// still be valid.
pub(super) fn ends_session(error: &ApiError) -> bool {
    error.is_definitive()
}
