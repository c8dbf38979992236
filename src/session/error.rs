//! How an operation on a session can fail.

use std::time::Duration;

use crate::api::ApiError;
use crate::model::{ApiUrl, PendingExchange, Timestamp};
use crate::store::{LockError, ProfilesError, StoreError};

/// The earlier exchange that most likely used the refresh token that the server now
/// refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LikelyCause {
    /// An exchange that began at this time, by a run that was interrupted.
    InterruptedRun(Timestamp),
    /// An exchange that began at this time and got no usable response.
    LostResponse(Timestamp),
    /// An exchange on another machine, whose lease expired before there was a result.
    ExpiredLease { host: String, began: Timestamp },
}

impl From<PendingExchange> for LikelyCause {
    fn from(pending: PendingExchange) -> Self {
        if pending.got_no_response {
            Self::LostResponse(pending.began_at)
        } else {
            Self::InterruptedRun(pending.began_at)
        }
    }
}

/// The two tokens of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TokenKind {
    Access,
    Refresh,
}

impl std::fmt::Display for TokenKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Access => "access token",
            Self::Refresh => "refresh token",
        })
    }
}

/// Why an operation on a session failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("not signed in")]
    NotSignedIn,
    /// The stored session was issued by another server, so the profile's server must not
    /// receive its tokens.
    #[error("the stored session belongs to {stored}, another server than the profile's")]
    OtherServer { stored: ApiUrl },
    /// The server has definitively ended the session.
    #[error("the server has ended the session: {message}")]
    Ended {
        message: String,
        cause: Option<LikelyCause>,
    },
    /// The server refused a token from an environment variable.
    #[error("the server rejected the token in {variable}: {message}")]
    VariableRejected {
        variable: &'static str,
        message: String,
    },
    /// The access token came from an environment variable, and there is no
    /// refresh token for another exchange.
    #[error("the token in {variable} cannot be renewed again")]
    NotRenewable { variable: &'static str },
    /// The request failed. The stored session is unchanged.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Another process held the lock for the whole timeout.
    #[error("another process has held this profile for {} s", .0.as_secs_f32())]
    Busy(Duration),
    /// Another machine held the session's lease for the whole timeout.
    #[error("a run on {host} has been renewing the session since {since}")]
    BusyOnOtherMachine { host: String, since: Timestamp },
    /// Another run exchanged the token while this run waited, and got no usable response.
    #[error("another run could not renew the session: {0}")]
    OtherRunFailed(String),
    /// The secret store failed before a token was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The profiles file could not be read or written.
    #[error(transparent)]
    Profiles(#[from] ProfilesError),
    /// The session was stored, but not recorded in the profiles file.
    #[error("the session is stored, but the profile was not recorded: {0}")]
    ProfileNotRecorded(#[source] ProfilesError),
    /// The server issued tokens, and the store then failed to save them.
    #[error("the server renewed the session, but it could not be stored: {0}")]
    TokensNotStored(#[source] StoreError),
    /// A successful response did not contain the expected token.
    #[error("the server's response contains no {0}")]
    NoToken(TokenKind),
    /// The `on_rotate_check` command failed, so the refresh token was not sent.
    #[error("the command of on_rotate_check failed: {command}: {reason}")]
    OnRotateCheckFailed { command: String, reason: String },
    /// The new refresh token is stored, but the `on_rotate` command failed.
    #[error("the session is stored, but the command of on_rotate failed: {command}: {reason}")]
    OnRotateFailed { command: String, reason: String },
    /// The `on_rotate` command failed for a token that is not stored: the exchanged token
    /// came from an environment variable.
    #[error(
        "the new refresh token is not stored, and the command of on_rotate failed: {command}: {reason}"
    )]
    OnRotateFailedForUnstoredToken { command: String, reason: String },
    /// Machines share the store, and the profile has the setting `name`: the command
    /// `on_rotate` or `on_rotate_check`.
    #[error("{name} does not work with a store that machines share")]
    RotationCommandsWithSharedStore { name: String },
    /// The store to which the session was to be moved already holds a session.
    #[error("the {store} store already holds a session of profile {profile}, on {api_url}")]
    TargetStoreOccupied {
        store: String,
        profile: String,
        api_url: ApiUrl,
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

/// Whether a failed exchange means that the session has ended: status 400, 401 or 403 with
/// a JSON body (RFC 6749 §5.2). After any other failure, the session may still be valid.
pub(super) fn ends_session(error: &ApiError) -> bool {
    error.refuses_credential()
}
