//! The errors of API calls, with one variant for each way in which callers must react.
//!
//! The server's messages may contain control characters: the code that prints them
//! must clean them. This module does not know exit codes, hints or sessions.

/// How far a request without a usable response got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureStage {
    /// The request was not sent: the host name did not resolve, or no connection was made.
    NotSent,
    /// The request was not sent: the TLS handshake failed. A retry would fail too.
    TlsHandshakeFailed { is_unknown_issuer: bool },
    /// At least part of the request was sent, and no complete response was received.
    NoCompleteResponse,
    /// A response with this status was received, but it does not show what the API did
    /// with the request: it may come from a gateway, or report a failure of the server.
    UnusableResponse(u16),
}

impl FailureStage {
    /// Whether an idempotent request should be retried at once.
    pub(super) fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::NotSent | Self::NoCompleteResponse | Self::UnusableResponse(502..=504)
        )
    }
}

/// Why an API call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The API refused the request: a 4xx response with a JSON body, or any 401 response
    /// to a request with an access token.
    #[error("{message}")]
    Refused {
        status: u16,
        /// The server's message, followed by the validation errors.
        message: String,
        /// Validation errors by field name, in the server's order. The names of nested
        /// fields are joined by dots.
        fields: Vec<(String, Vec<String>)>,
        /// Whether the server requires a captcha response, or refused the one that was sent.
        captcha_required: bool,
        /// Whether the body is JSON. If not, a proxy may have sent the response.
        is_json: bool,
        /// Whether a CSRF check failed. Such checks often require a `Referer` header.
        csrf_failed: bool,
    },
    /// The server limits the request rate: status 429, with any body.
    #[error("too many requests: {message}")]
    RateLimited {
        message: String,
        /// Seconds to wait before a retry, if the server stated them; at most a day.
        retry_after: Option<u64>,
    },
    /// The server could not be reached, or its response is unusable. The session may
    /// still be valid.
    #[error("{message}")]
    Unavailable {
        message: String,
        stage: FailureStage,
    },
    /// The configured URL is probably not that of the API: the response is a permanent
    /// redirect, a 404, or a 2xx without the expected content.
    #[error("the server answered {status}: {message}")]
    WrongApiUrl { status: u16, message: String },
    /// An argument or a setting is invalid. Nothing was sent.
    #[error("{0}")]
    InvalidArgument(String),
    /// The request could not be prepared, for a reason that other arguments would not
    /// change, such as an invalid stored token. Nothing was sent.
    #[error("{0}")]
    SetupFailed(String),
}

impl ApiError {
    pub(super) fn unavailable(message: String, stage: FailureStage) -> Self {
        Self::Unavailable { message, stage }
    }

    /// Whether an idempotent request should be retried at once.
    pub(super) fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { stage, .. } if stage.is_retryable())
    }

    /// Whether the server may have processed the request although the response is missing
    /// or unusable: the connection broke, or a gateway responded instead of the API.
    pub(crate) fn request_may_have_been_processed(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                stage: FailureStage::NoCompleteResponse | FailureStage::UnusableResponse(500..),
                ..
            }
        )
    }

    /// Whether the server refused the credential: status 400, 401 or 403. After an
    /// exchange this means that the session has ended. A failed CSRF check does not count,
    /// because it comes before the check of the credential.
    pub(crate) fn refuses_credential(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 400 | 401 | 403,
                csrf_failed: false,
                ..
            }
        )
    }
}
