//! The outcomes of a run, each with one exit code and one JSON code, and [`Failure`],
//! the error that is printed.

use serde_json::{Map, Value, json};

/// The outcome of a run. `OUTPUT.md` describes when each variant is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "OUTPUT.md describes the variants")]
pub enum Outcome {
    Done,
    Failed,
    Usage,
    InputRequired,
    NotSignedIn,
    SessionEnded,
    /// The session ends within `whoami --expires-within`.
    SessionEnding,
    /// The server refused what was sent.
    Rejected,
    /// The server cannot be reached or does not work.
    Unavailable,
    StoreUnavailable,
    StoreLocked,
    StoreFailed,
    CaptchaRequired,
    RateLimited,
    /// Another process or machine holds the lock or the lease.
    Busy,
    HungUp,
    Interrupted,
    Terminated,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 18] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::InputRequired,
        Self::NotSignedIn,
        Self::SessionEnded,
        Self::SessionEnding,
        Self::Rejected,
        Self::Unavailable,
        Self::StoreUnavailable,
        Self::StoreLocked,
        Self::StoreFailed,
        Self::CaptchaRequired,
        Self::RateLimited,
        Self::Busy,
        Self::HungUp,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// Returns the exit code and the JSON error code, which is empty for success.
    #[must_use]
    pub const fn codes(self) -> (u8, &'static str) {
        match self {
            Self::Done => (0, ""),
            Self::Failed => (1, "failed"),
            Self::Usage => (2, "usage"),
            Self::InputRequired => (2, "input_required"),
            Self::NotSignedIn => (3, "not_signed_in"),
            Self::SessionEnded => (3, "session_ended"),
            Self::SessionEnding => (3, "session_ending"),
            Self::Rejected => (4, "rejected"),
            Self::Unavailable => (5, "unavailable"),
            Self::StoreUnavailable => (6, "store_unavailable"),
            Self::StoreLocked => (6, "store_locked"),
            Self::StoreFailed => (6, "store_failed"),
            Self::CaptchaRequired => (7, "captcha_required"),
            Self::RateLimited => (8, "rate_limited"),
            Self::Busy => (9, "busy"),
            Self::HungUp => (129, "interrupted"),
            Self::Interrupted => (130, "interrupted"),
            Self::Terminated => (143, "interrupted"),
        }
    }

    pub(crate) fn exit_code(self) -> u8 {
        self.codes().0
    }

    pub(crate) fn json_code(self) -> &'static str {
        self.codes().1
    }

    /// Returns whether the secret store failed.
    pub(crate) fn is_store_failure(self) -> bool {
        matches!(
            self,
            Self::StoreUnavailable | Self::StoreLocked | Self::StoreFailed
        )
    }

    pub(crate) fn from_signal(signal: i32) -> Self {
        match signal {
            1 => Self::HungUp,
            15 => Self::Terminated,
            _ => Self::Interrupted,
        }
    }
}

/// An unsuccessful outcome, and what is printed about it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    /// One line that names what failed.
    pub(crate) message: String,
    /// The command to run next, or other advice.
    pub(crate) hint: Option<String>,
    /// Validation errors by field name, in the server's order.
    pub(crate) fields: Vec<(String, Vec<String>)>,
    /// Seconds to wait before a retry, if the server specified them.
    pub(crate) retry_after: Option<u64>,
    /// What was done before the failure. In JSON mode, its members are printed in the
    /// same object as the error.
    pub(crate) partial_result: Option<Value>,
    /// Exit status of the command that `exec` ran. If set, it becomes the exit code of
    /// this process, and nothing is printed.
    pub(crate) child_status: Option<i32>,
}

impl Failure {
    pub(crate) fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            outcome,
            message: message.into(),
            hint: None,
            fields: Vec::new(),
            retry_after: None,
            partial_result: None,
            child_status: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Outcome::Usage, message)
    }

    /// Creates a failure that passes on the exit status of a child process.
    pub(crate) fn from_child_status(status: i32) -> Self {
        Self {
            child_status: Some(status),
            ..Self::new(Outcome::Failed, "")
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn exit_code(&self) -> i32 {
        self.child_status
            .unwrap_or_else(|| i32::from(self.outcome.exit_code()))
    }

    /// Returns `{"error":{…}}`, extended by the members of the partial result.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({"code": self.outcome.json_code(), "message": self.message});
        if let Some(hint) = &self.hint {
            error["hint"] = json!(hint);
        }
        if !self.fields.is_empty() {
            let fields = self.fields.iter().map(|(k, v)| (k.clone(), json!(v)));
            error["fields"] = fields.collect::<Map<_, _>>().into();
        }
        if let Some(seconds) = self.retry_after {
            error["retry_after"] = json!(seconds);
        }
        let mut object = Map::from_iter([("error".to_owned(), error)]);
        if let Some(Value::Object(members)) = &self.partial_result {
            object.extend(members.clone());
        }
        Value::Object(object)
    }
}
