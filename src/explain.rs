//! Converts errors of the lower layers to a [`Failure`]: outcome, message and hint.

use crate::api::{ApiError, FailureStage};
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::session::{LikelyCause, SessionError, TokenKind};
use crate::store::{LockError, ProfilesError, StoreError, StoreErrorKind};
use crate::terminal::PromptError;

/// Returns the command line that runs a command, for a hint. For `login`, it is for example
/// `rememberizer login --profile work`.
pub(crate) type CommandLineFn<'a> = &'a dyn Fn(&str) -> String;

/// Converts any error to a failure. `command_line` formats the commands in its hint.
pub(crate) fn to_failure(error: Error, command_line: CommandLineFn<'_>) -> Failure {
    match error {
        Error::Failure(failure) => failure,
        Error::Session(error) => from_session(error, command_line),
        Error::Store(error) => from_store(error),
        Error::Profiles(error) => from_profiles(error),
        Error::Prompt(error) => from_prompt(&error),
        Error::Io(error) => Failure::new(Outcome::Failed, error.to_string()),
        Error::Other(error) => Failure::new(Outcome::Failed, format!("{error:#}")),
    }
}

/// Returns the hint for a login or signup that needs a captcha response.
fn captcha_hint(command_line: CommandLineFn<'_>) -> String {
    format!(
        "use a browser window: {}; or give a captcha response with --captcha RESPONSE; or use a browser's cookies: {}",
        command_line("login --browser"),
        command_line("login --cookies FILE")
    )
}

/// Returns the hint for a response that may not come from the API.
fn api_url_hint(command_line: CommandLineFn<'_>) -> String {
    format!("check the API URL: {}", command_line("profile show"))
}

fn from_session(error: SessionError, command_line: CommandLineFn<'_>) -> Failure {
    let message = error.to_string();
    let login = || command_line("login");
    match error {
        SessionError::NotSignedIn
        | SessionError::OtherServer { .. }
        | SessionError::NotRenewable { .. } => {
            Failure::new(Outcome::NotSignedIn, message).with_hint(login())
        }
        SessionError::Ended { cause, .. } => {
            let message = match cause {
                None => message,
                Some(LikelyCause::InterruptedRun(began)) => format!(
                    "{message}; most likely, a run that began to renew it at {began} used up the refresh token and was interrupted"
                ),
                Some(LikelyCause::LostResponse(began)) => format!(
                    "{message}; most likely, a renewal at {began} used up the refresh token, but its response was lost"
                ),
                Some(LikelyCause::ExpiredLease { host, began }) => format!(
                    "{message}; most likely, {host} used up the refresh token in a renewal that began at {began} and did not finish"
                ),
            };
            Failure::new(Outcome::SessionEnded, message).with_hint(login())
        }
        SessionError::VariableRejected { variable, .. } => {
            Failure::new(Outcome::SessionEnded, message).with_hint(format!(
                "set {variable} to a valid token, or unset it to use the stored session"
            ))
        }
        SessionError::Api(error) => from_api(error, command_line),
        SessionError::OtherRunFailed(_) => {
            Failure::new(Outcome::Unavailable, message).with_hint("try again")
        }
        SessionError::BusyOnOtherMachine { .. } | SessionError::Busy(_) => {
            Failure::new(Outcome::Busy, message)
                .with_hint("try again, or wait longer with --lock-timeout SECONDS")
        }
        SessionError::Store(error) => from_store(error),
        SessionError::Profiles(error) => from_profiles(error),
        SessionError::ProfileNotRecorded(source) => {
            Failure::new(from_profiles(source).outcome, message)
                .with_hint(format!("fix the profiles file, then run: {}", login()))
        }
        SessionError::TokensNotStored(source) => Failure::new(from_store(source).outcome, message)
            .with_hint(format!(
                "the stored refresh token may have been used: fix the store, then run: {}",
                login()
            )),
        SessionError::NoToken(token) => Failure::new(Outcome::Failed, message).with_hint(format!(
            "the cookie may have another name: {}",
            command_line(match token {
                TokenKind::Access => "profile set access_cookie NAME",
                TokenKind::Refresh => "profile set refresh_cookie NAME",
            })
        )),
        // The commands store the token elsewhere, so their failure counts as one of a store.
        SessionError::OnRotateCheckFailed { .. } => Failure::new(Outcome::StoreFailed, message)
            .with_hint("no token was used: fix the command, then try again"),
        SessionError::OnRotateFailed { .. } => Failure::new(Outcome::StoreFailed, message)
            .with_hint("fix the command: the next run executes it again before using the session"),
        SessionError::OnRotateFailedForUnstoredToken { .. } => Failure::new(Outcome::StoreFailed, message)
            .with_hint(format!("start a new session: {}", login())),
        SessionError::RotationCommandsWithSharedStore { name } => Failure::usage(message).with_hint(format!(
            "other machines also renew this session, and do not run this command; to remove it, run: {}",
            command_line(&format!("profile set {name} ''"))
        )),
        SessionError::TargetStoreOccupied { .. } => Failure::usage(message).with_hint(format!(
            "log out first, which ends the sessions in both stores: {}",
            command_line("logout")
        )),
    }
}

fn from_api(error: ApiError, command_line: CommandLineFn<'_>) -> Failure {
    let message = error.to_string();
    match error {
        ApiError::Refused {
            captcha_required: true,
            fields,
            ..
        } => Failure {
            fields,
            ..Failure::new(
                Outcome::CaptchaRequired,
                format!("the server requires a captcha response: {message}"),
            )
        }
        .with_hint(captcha_hint(command_line)),
        ApiError::Refused {
            fields,
            csrf_failed,
            is_json,
            ..
        } => {
            let failure = Failure {
                fields,
                ..Failure::new(Outcome::Rejected, message)
            };
            match (is_json, csrf_failed) {
                (false, _) => failure.with_hint(api_url_hint(command_line)),
                (true, true) => failure.with_hint(format!(
                    "the server may want a Referer header: {}",
                    command_line("profile set referer URL")
                )),
                (true, false) => failure,
            }
        }
        ApiError::RateLimited { retry_after, .. } => {
            let failure = Failure {
                retry_after,
                ..Failure::new(Outcome::RateLimited, message)
            };
            match retry_after {
                Some(seconds) => failure.with_hint(format!("try again in {seconds} s")),
                None => failure.with_hint("try again later"),
            }
        }
        ApiError::Unavailable {
            stage:
                FailureStage::TlsHandshakeFailed {
                    is_unknown_issuer: true,
                },
            ..
        } => Failure::new(Outcome::Unavailable, message).with_hint(
            "if you trust the CA of the server, pass its certificate with --ca-cert FILE",
        ),
        ApiError::Unavailable { .. } => Failure::new(Outcome::Unavailable, message)
            .with_hint(format!("try again, or run: {}", command_line("doctor"))),
        ApiError::WrongApiUrl { .. } => {
            Failure::new(Outcome::Failed, message).with_hint(api_url_hint(command_line))
        }
        ApiError::InvalidArgument(_) => Failure::usage(message),
        ApiError::SetupFailed(_) => Failure::new(Outcome::Failed, message),
    }
}

fn from_store(error: StoreError) -> Failure {
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

fn from_profiles(error: ProfilesError) -> Failure {
    match error {
        ProfilesError::Lock(LockError::Store(error)) => from_store(error),
        ProfilesError::Lock(LockError::Busy(_)) => Failure::new(
            Outcome::Busy,
            "another process is writing the profiles file",
        )
        .with_hint("try again"),
        ProfilesError::Malformed {
            error: ref cause, ..
        } => {
            let hint = match cause.newer_version {
                Some(_) => "use the newer version of rememberizer that wrote it",
                None => "fix the file or move it away",
            };
            Failure::new(Outcome::Failed, error.to_string()).with_hint(hint)
        }
        ProfilesError::InvalidName(_) => {
            Failure::usage(error.to_string()).with_hint("choose another name")
        }
        ProfilesError::Io { .. } => Failure::new(Outcome::Failed, error.to_string())
            .with_hint("choose another directory with --config-dir DIR"),
    }
}

fn from_prompt(error: &PromptError) -> Failure {
    match error {
        PromptError::Interrupted => Failure::new(Outcome::Interrupted, "interrupted"),
        PromptError::Closed => Failure::new(Outcome::Interrupted, error.to_string()),
        PromptError::Io(e) => Failure::new(Outcome::Failed, format!("cannot prompt: {e}")),
    }
}
