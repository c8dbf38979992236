//! What can go wrong between this program and the server, by what the caller
//! can do about it.
//!
//! Messages are the server's own, uncleaned: whoever prints them cleans them.
//! Exit codes, hints and sessions are not known here.

/// How far a request got that has no usable response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It did not reach the server: no address or no connection.
    NotSent,
    /// The TLS handshake failed, and would fail again.
    NoTls { is_unknown_issuer: bool },
    /// It was sent, at least in part, and no complete response came.
    Unknown,
    /// The response has this status, which says nothing about the request itself.
    Answered(u16),
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The server understood the request and refused it: a 4xx with a JSON
    /// body, or any 401 to an access token.
    #[error("{message}")]
    Refused {
        status: u16,
        /// A complete message, which includes the fields.
        message: String,
        /// Validation errors by field name, in the server's order. Nested names are joined by dots.
        fields: Vec<(String, Vec<String>)>,
        /// Whether a captcha response is missing or was refused.
        captcha: bool,
        /// Whether a CSRF check refused it, which often wants a `Referer` header.
        csrf: bool,
    },
    /// A 429, with any body.
    #[error("too many requests: {message}")]
    Throttled {
        message: String,
        /// Seconds to wait, if the server says so; at most a day.
        retry_after: Option<u64>,
    },
    /// A transient failure, which says nothing about the session.
    #[error("{reason}")]
    Unavailable { reason: String, delivery: Delivery },
    /// The response is not one of this API: a permanent redirect, a 404, or a
    /// success without its content.
    #[error("the server answered {status}: {message}")]
    Unexpected { status: u16, message: String },
    /// An argument or a setting cannot be used. Nothing was sent.
    #[error("{0}")]
    InvalidArgument(String),
    /// Something that no argument corrects, such as a broken stored token.
    /// Nothing was sent.
    #[error("{0}")]
    Unusable(String),
}

impl ApiError {
    pub(super) fn unavailable(reason: String, delivery: Delivery) -> Self {
        Self::Unavailable { reason, delivery }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                delivery: Delivery::NotSent | Delivery::Unknown | Delivery::Answered(502..=504),
                ..
            }
        )
    }

    /// Whether the server may have carried out the request although no usable
    /// response came: the connection broke, or a gateway answered instead.
    pub(crate) fn may_have_arrived(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                delivery: Delivery::Unknown | Delivery::Answered(500..),
                ..
            }
        )
    }

    /// Whether the server refused the credential itself: 400, 401 or 403. At an
    /// exchange this means that the session is over. A CSRF check has not
    /// looked at the credential.
    pub(crate) fn is_definitive(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 400 | 401 | 403,
                csrf: false,
                ..
            }
        )
    }
}
