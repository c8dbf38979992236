//! Outcomes: each has one exit code and one JSON code, the same in text and in
//! JSON mode. A [`Failure`] is the report of a run that did not succeed.

use std::fmt;

use serde_json::{Map, Value, json};

/// How a run can end. [`Outcome::TABLE`] says when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table says when each happens")]
pub enum Outcome {
    Done,
    Failed,
    Usage,
    InputRequired,
    NotSignedIn,
    SessionEnded,
    SessionEnding,
    Rejected,
    Unavailable,
    StoreUnavailable,
    StoreLocked,
    StoreFailed,
    CaptchaRequired,
    RateLimited,
    Busy,
    Interrupted,
    Terminated,
    HungUp,
}

/// One row of the table of outcomes.
pub struct Row {
    /// The outcome of the row.
    pub outcome: Outcome,
    /// The exit code of the process.
    pub exit: u8,
    /// The `code` of the JSON error, empty for success.
    pub code: &'static str,
    /// When it happens.
    pub when: &'static str,
}

impl Outcome {
    /// Every outcome.
    pub const TABLE: [Row; 18] = [
        Self::Done.row(),
        Self::Failed.row(),
        Self::Usage.row(),
        Self::InputRequired.row(),
        Self::NotSignedIn.row(),
        Self::SessionEnded.row(),
        Self::SessionEnding.row(),
        Self::Rejected.row(),
        Self::Unavailable.row(),
        Self::StoreUnavailable.row(),
        Self::StoreLocked.row(),
        Self::StoreFailed.row(),
        Self::CaptchaRequired.row(),
        Self::RateLimited.row(),
        Self::Busy.row(),
        Self::HungUp.row(),
        Self::Interrupted.row(),
        Self::Terminated.row(),
    ];

    const fn row(self) -> Row {
        let (exit, code, when) = match self {
            Self::Done => (0, "", "done"),
            Self::Failed => (1, "failed", "anything else"),
            Self::Usage => (2, "usage", "bad flags"),
            Self::InputRequired => (
                2,
                "input_required",
                "an input is missing and nobody can be asked",
            ),
            Self::NotSignedIn => (3, "not_signed_in", "there is no session"),
            Self::SessionEnded => (3, "session_ended", "the server has ended the session"),
            Self::SessionEnding => (
                3,
                "session_ending",
                "the session ends sooner than was asked for",
            ),
            Self::Rejected => (4, "rejected", "the server refused what was sent"),
            Self::Unavailable => (
                5,
                "unavailable",
                "network, TLS, timeout, 5xx: nothing is lost, try again",
            ),
            Self::StoreUnavailable => (
                6,
                "store_unavailable",
                "the secret store is not there or does not answer",
            ),
            Self::StoreLocked => (6, "store_locked", "the secret store is locked"),
            Self::StoreFailed => (
                6,
                "store_failed",
                "the secret store could not do what was asked",
            ),
            Self::CaptchaRequired => (7, "captcha_required", "the server wants a captcha response"),
            Self::RateLimited => (8, "rate_limited", "too many requests"),
            Self::Busy => (9, "busy", "another process held the profile's lock"),
            Self::HungUp => (129, "interrupted", "SIGHUP"),
            Self::Interrupted => (130, "interrupted", "Ctrl-C"),
            Self::Terminated => (143, "interrupted", "SIGTERM"),
        };
        Row {
            outcome: self,
            exit,
            code,
            when,
        }
    }

    pub(crate) fn exit_code(self) -> u8 {
        self.row().exit
    }

    pub(crate) fn json_code(self) -> &'static str {
        self.row().code
    }

    /// Whether it is a failure of the secret store.
    pub(crate) fn is_store(self) -> bool {
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

/// The report of a run that did not succeed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    /// One line that names the thing.
    pub(crate) message: String,
    /// The next command, or another advice.
    pub(crate) hint: Option<String>,
    /// Validation errors by field name, in the server's order.
    pub(crate) fields: Vec<(String, Vec<String>)>,
    /// Seconds to wait before a retry, if the server said how many.
    pub(crate) retry_after: Option<u64>,
    /// What was done before the failure. In JSON it stands beside the error.
    pub(crate) partial_result: Option<Value>,
    /// Exit code of a child process; nothing is printed.
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

    /// Passes on the exit status of a child process.
    pub(crate) fn from_child(status: i32) -> Self {
        Self {
            child_status: Some(status),
            ..Self::new(Outcome::Failed, "")
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn exit_code(&self) -> i32 {
        self.child_status
            .unwrap_or_else(|| i32::from(self.outcome.exit_code()))
    }

    /// The JSON form: `{"error":{…}}` and the members of the partial result.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = Map::new();
        error.insert("code".into(), self.outcome.json_code().into());
        error.insert("message".into(), self.message.as_str().into());
        if let Some(hint) = &self.hint {
            error.insert("hint".into(), hint.as_str().into());
        }
        if !self.fields.is_empty() {
            let fields = self.fields.iter().map(|(k, v)| (k.clone(), json!(v)));
            error.insert("fields".into(), Value::Object(fields.collect()));
        }
        if let Some(seconds) = self.retry_after {
            error.insert("retry_after".into(), seconds.into());
        }
        let mut object = Map::new();
        object.insert("error".into(), Value::Object(error));
        if let Some(Value::Object(members)) = &self.partial_result {
            object.extend(members.clone());
        }
        Value::Object(object)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
