//! Every failure of a lower layer turned into what the person is told: outcome,
//! line and hint. Here and nowhere else.

use crate::api::ApiError;
use crate::exit::{Failure, Outcome};
use crate::session::{SessionError, Spent};
use crate::store::{LockError, ProfilesError, StoreError, StoreErrorKind};
use crate::terminal::PromptError;

/// How a command names another command in a hint: `rememberizer login --profile work`.
pub type Say<'a> = &'a dyn Fn(&str) -> String;

/// The one conversion of every error that a command can return.
pub fn explain(error: anyhow::Error, say: Say<'_>) -> Failure {
    let whole = format!("{error:#}");
    let error = match error.downcast::<Failure>() {
        Ok(failure) => return failure,
        Err(error) => error,
    };
    let error = match error.downcast::<SessionError>() {
        Ok(known) => return of_session(known, say),
        Err(error) => error,
    };
    let error = match error.downcast::<ApiError>() {
        Ok(known) => return of_api(known, say),
        Err(error) => error,
    };
    let error = match error.downcast::<StoreError>() {
        Ok(known) => return of_store(known),
        Err(error) => error,
    };
    let error = match error.downcast::<ProfilesError>() {
        Ok(known) => return of_profiles(known),
        Err(error) => error,
    };
    let error = match error.downcast::<PromptError>() {
        Ok(known) => return of_prompt(&known),
        Err(error) => error,
    };
    drop(error);
    Failure::new(Outcome::Failed, whole)
}

fn of_session(error: SessionError, say: Say<'_>) -> Failure {
    let message = error.to_string();
    let login = || say("login");
    match error {
        SessionError::NotSignedIn => Failure::new(Outcome::NotSignedIn, message).hint(login()),
        SessionError::OtherOrigin { .. } => {
            Failure::new(Outcome::NotSignedIn, message).hint(login())
        }
        SessionError::Ended { spent, .. } => {
            let message = match spent {
                None => message,
                Some(Spent::Killed(began)) => format!(
                    "{message}; a run was killed during an exchange that began at {began}, which most likely spent the refresh token"
                ),
                Some(Spent::Unanswered(began)) => format!(
                    "{message}; an exchange that began at {began} got no proper answer, and most likely spent the refresh token"
                ),
            };
            Failure::new(Outcome::SessionEnded, message).hint(login())
        }
        SessionError::VariableRejected { variable, .. } => {
            Failure::new(Outcome::SessionEnded, message).hint(format!(
                "set {variable} to a token that is in force, or unset it to use the stored session"
            ))
        }
        SessionError::Api(error) => of_api(error, say),
        SessionError::Busy(_) => Failure::new(Outcome::Busy, message)
            .hint("try again, or wait longer with --lock-timeout SECONDS"),
        SessionError::Store(error) => of_store(error),
        SessionError::Lost(source) => Failure {
            outcome: of_store(source).outcome,
            ..Failure::new(Outcome::StoreFailed, message)
        }
        .hint(format!(
            "the stored refresh token may be spent: mend the store, then {}",
            login()
        )),
        SessionError::NoToken { missing } => Failure::new(Outcome::Failed, message).hint(format!(
            "the cookie may have another name: {}",
            say(if missing.starts_with("refresh") {
                "profile set refresh_cookie NAME"
            } else {
                "profile set access_cookie NAME"
            })
        )),
    }
}

fn of_api(error: ApiError, say: Say<'_>) -> Failure {
    let message = error.to_string();
    match error {
        ApiError::Refused {
            captcha: true,
            fields,
            ..
        } => Failure {
            fields,
            ..Failure::new(
                Outcome::CaptchaRequired,
                format!("the server wants a captcha response: {message}"),
            )
        }
        .hint(crate::command::captcha::ways_in(say)),
        ApiError::Refused { fields, .. } => Failure {
            fields,
            ..Failure::new(Outcome::Rejected, message)
        },
        ApiError::Throttled { retry_after, .. } => {
            let failure = Failure {
                retry_after,
                ..Failure::new(Outcome::RateLimited, message)
            };
            match retry_after {
                Some(seconds) => failure.hint(format!("try again in {seconds} s")),
                None => failure.hint("try again later"),
            }
        }
        ApiError::Unavailable { .. } => Failure::new(Outcome::Unavailable, message).hint(format!(
            "nothing is lost: try again, or see {}",
            say("doctor")
        )),
        ApiError::Unexpected { .. } => Failure::new(Outcome::Failed, message)
            .hint(format!("is the API URL right? {}", say("profile show"))),
        ApiError::Config(_) => Failure::usage(message),
    }
}

fn of_store(error: StoreError) -> Failure {
    let outcome = match error.kind {
        StoreErrorKind::Unavailable => Outcome::StoreUnavailable,
        StoreErrorKind::Locked => Outcome::StoreLocked,
        StoreErrorKind::Failed => Outcome::StoreFailed,
    };
    Failure {
        hint: error.hint,
        ..Failure::new(outcome, error.message)
    }
}

fn of_profiles(error: ProfilesError) -> Failure {
    match error {
        ProfilesError::Lock(LockError::Store(error)) => of_store(error),
        ProfilesError::Lock(LockError::Busy(_)) => Failure::new(
            Outcome::Busy,
            "another process is writing the profiles file",
        )
        .hint("try again"),
        ProfilesError::Malformed { .. } => {
            Failure::new(Outcome::Failed, error.to_string()).hint("mend the file or move it away")
        }
        ProfilesError::Newer { .. } => Failure::new(Outcome::Failed, error.to_string())
            .hint("use the newer version of rememberizer that wrote it"),
        ProfilesError::Io { .. } => Failure::new(Outcome::Failed, error.to_string())
            .hint("choose another directory with --config-dir DIR"),
    }
}

fn of_prompt(error: &PromptError) -> Failure {
    match error {
        PromptError::Interrupted => Failure::new(Outcome::Interrupted, "interrupted"),
        PromptError::Closed => Failure::new(Outcome::Interrupted, error.to_string()),
        PromptError::Io(e) => Failure::new(Outcome::Failed, format!("cannot ask: {e}")),
    }
}
