//! Outcomes: one meaning, one exit code, one JSON code, the same in text and
//! in JSON. The table is [`Outcome::TABLE`]; a [`Failure`] is what the person and
//! the script are told.

use std::fmt;

use serde_json::{Map, Value, json};

/// How a run can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Anything that has no outcome of its own.
    Failed,
    /// Bad flags.
    Usage,
    /// An input is missing and nobody can be asked.
    InputRequired,
    /// There is no session.
    NotSignedIn,
    /// The server has ended the session.
    SessionEnded,
    /// The session ends sooner than was asked for.
    SessionEnding,
    /// The server refused what was sent.
    Rejected,
    /// Network, TLS, time-out, 5xx: nothing is lost.
    Unavailable,
    /// The secret store is not there or does not answer.
    StoreUnavailable,
    /// The secret store is locked.
    StoreLocked,
    /// The secret store could not do what was asked.
    StoreFailed,
    /// The server wants a captcha response.
    CaptchaRequired,
    /// Too many requests.
    RateLimited,
    /// Another process held the profile's lock.
    Busy,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// SIGHUP.
    HungUp,
}

/// One row of the table of outcomes.
pub struct Row {
    /// The outcome.
    pub outcome: Outcome,
    /// The exit code of the process.
    pub exit: u8,
    /// The `code` of the JSON error; empty where there is none.
    pub code: &'static str,
    /// When it happens.
    pub when: &'static str,
}

const fn row(outcome: Outcome, exit: u8, code: &'static str, when: &'static str) -> Row {
    Row {
        outcome,
        exit,
        code,
        when,
    }
}

impl Outcome {
    /// Every outcome.
    pub const TABLE: [Row; 18] = [
        row(Self::Done, 0, "", "done"),
        row(Self::Failed, 1, "failed", "anything else"),
        row(Self::Usage, 2, "usage", "bad flags"),
        row(
            Self::InputRequired,
            2,
            "input_required",
            "an input is missing and nobody can be asked",
        ),
        row(Self::NotSignedIn, 3, "not_signed_in", "there is no session"),
        row(
            Self::SessionEnded,
            3,
            "session_ended",
            "the server has ended the session",
        ),
        row(
            Self::SessionEnding,
            3,
            "session_ending",
            "the session ends sooner than was asked for",
        ),
        row(
            Self::Rejected,
            4,
            "rejected",
            "the server refused what was sent",
        ),
        row(
            Self::Unavailable,
            5,
            "unavailable",
            "network, TLS, time-out, 5xx: nothing is lost, try again",
        ),
        row(
            Self::StoreUnavailable,
            6,
            "store_unavailable",
            "the secret store is not there or does not answer",
        ),
        row(
            Self::StoreLocked,
            6,
            "store_locked",
            "the secret store is locked",
        ),
        row(
            Self::StoreFailed,
            6,
            "store_failed",
            "the secret store could not do what was asked",
        ),
        row(
            Self::CaptchaRequired,
            7,
            "captcha_required",
            "the server wants a captcha response",
        ),
        row(Self::RateLimited, 8, "rate_limited", "too many requests"),
        row(
            Self::Busy,
            9,
            "busy",
            "another process held the profile's lock",
        ),
        row(Self::HungUp, 129, "interrupted", "SIGHUP"),
        row(Self::Interrupted, 130, "interrupted", "Ctrl-C"),
        row(Self::Terminated, 143, "interrupted", "SIGTERM"),
    ];

    fn row(self) -> &'static Row {
        const TABLE: &[Row] = &Outcome::TABLE;
        TABLE
            .iter()
            .find(|row| row.outcome == self)
            .unwrap_or(&TABLE[1])
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        self.row().exit
    }

    /// The JSON code.
    #[must_use]
    pub fn json_code(self) -> &'static str {
        self.row().code
    }

    /// Whether it is a failure of the secret store.
    pub(crate) fn is_store(self) -> bool {
        matches!(
            self,
            Self::StoreUnavailable | Self::StoreLocked | Self::StoreFailed
        )
    }

    /// The outcome of a signal.
    #[must_use]
    pub fn of_signal(signal: i32) -> Self {
        match signal {
            1 => Self::HungUp,
            15 => Self::Terminated,
            _ => Self::Interrupted,
        }
    }
}

/// A run that did not end well: what the person and the script are told.
#[derive(Debug)]
pub struct Failure {
    /// How it ends.
    pub outcome: Outcome,
    /// One line that names the thing.
    pub message: String,
    /// The next command.
    pub hint: Option<String>,
    /// What the server refused, a field each.
    pub fields: Vec<(String, Vec<String>)>,
    /// Seconds after which to try again, when the server says.
    pub retry_after: Option<u64>,
    /// What was done all the same: shown in JSON beside the error.
    pub done: Option<Value>,
    /// Exit code of a child process; nothing is printed.
    pub silent: Option<i32>,
}

impl Failure {
    /// A failure with nothing but a message.
    pub fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            outcome,
            message: message.into(),
            hint: None,
            fields: Vec::new(),
            retry_after: None,
            done: None,
            silent: None,
        }
    }

    /// A usage error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Outcome::Usage, message)
    }

    /// Passes on a child process's exit status; nothing is printed.
    #[must_use]
    pub fn status(code: i32) -> Self {
        Self {
            silent: Some(code),
            ..Self::new(Outcome::Failed, "")
        }
    }

    /// The same failure with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        self.silent
            .unwrap_or_else(|| i32::from(self.outcome.exit_code()))
    }

    /// The JSON form: `{"error":{…}}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
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
        if let Some(Value::Object(done)) = &self.done {
            object.extend(done.clone());
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
