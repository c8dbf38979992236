//! What can go wrong between this program and the server, sorted by what the
//! caller may do about it.
//!
//! The texts are the server's where it gave one, raw: whoever shows them to a
//! person cleans them. Nothing here knows of exit codes, hints or sessions.

/// How far a request got that has no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It certainly did not reach the server: no name, no connection, no handshake.
    Never,
    /// It was sent, wholly or in part, and no complete answer came.
    Perhaps,
    /// An answer with this status, which says nothing about the request itself.
    Answered(u16),
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server understood and said no: a 4xx with a JSON body.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// One text that says it all, the fields included.
        message: String,
        /// The texts a field, in the server's order; nested names are joined by dots.
        fields: Vec<(String, Vec<String>)>,
        /// Whether it is the captcha that was refused or missed.
        captcha: bool,
    },
    /// Too many requests: a 429, whatever its body.
    #[error("too many requests: {message}")]
    Throttled {
        /// The server's text, or one in its place.
        message: String,
        /// Seconds to wait, where the server said how many; a day at most.
        retry_after: Option<u64>,
    },
    /// A passing fault: nothing was learned about the request or the session.
    #[error("{reason}")]
    Unavailable {
        /// What happened, in one line.
        reason: String,
        /// How far the request got.
        sent: Sent,
    },
    /// An answer that does not fit the API: 404 as JSON, or a success without what it should hold.
    #[error("the server answered {status}: {message}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        message: String,
    },
    /// The request could not be built from what was given; nothing was sent.
    #[error("{0}")]
    Config(String),
}

impl ApiError {
    /// Whether the request may have been carried out although no proper answer
    /// came: it was sent and cut off, or something in between answered.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                sent: Sent::Perhaps | Sent::Answered(500..),
                ..
            }
        )
    }

    /// Whether the server refused the credential itself: 400, 401 or 403 as JSON.
    /// At an exchange this is the end of the session; every other error leaves it alone.
    #[must_use]
    pub fn is_definitive(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 400 | 401 | 403,
                ..
            }
        )
    }
}
