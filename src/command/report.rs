//! Text and JSON that several commands print: details of a session, logouts, and the
//! results per profile.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::model::{Expiry, ProfileName, Remaining, Session, Timestamp};
use crate::session::{Revocation, SessionManager, StoreLogout};
use crate::settings;
use crate::store::StoreKind;

/// Minimum clock skew to report. Smaller values are within the error of the
/// measurement: the response is delayed, and `Date` has whole seconds.
const MIN_REPORTED_SKEW: Duration = Duration::from_secs(5);

/// Returns the name of a store as it appears in a sentence.
pub(super) fn store_label(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Helper(address) => address.as_str(),
        StoreKind::Keyring => "the keyring",
        StoreKind::File => "a private file",
    }
}

/// Formats a duration. Rounds it down to seconds below one hour, to minutes below
/// one day, and to hours from one day on.
fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let rounded = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds - seconds % 60,
        _ => seconds - seconds % 3_600,
    };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

/// Returns "expires TIME (in DURATION)", "expired TIME" or "expiry unknown".
pub(super) fn expiry_text(expiry: &Expiry, now: Timestamp) -> String {
    match (expiry.remaining(now), expiry.expires_at()) {
        (Remaining::Time(remaining), Some(at)) => {
            format!("expires {at} (in {})", duration_text(remaining))
        }
        (Remaining::Expired, Some(at)) => format!("expired {at}"),
        _ => "expiry unknown".to_owned(),
    }
}

/// Returns the expiry as an RFC 3339 string, or null if it is unknown.
pub(super) fn expiry_json(expiry: Option<&Expiry>) -> Value {
    expiry
        .and_then(Expiry::expires_at)
        .map_or(Value::Null, |at| at.to_string().into())
}

/// Returns the profile, the API URL and the expiries of the session as a JSON object.
/// Without a session, the expiries are null.
pub(super) fn session_json(
    manager: &SessionManager<'_>,
    session: Option<&Session>,
) -> Map<String, Value> {
    let api_url = session.map_or(&manager.api_url, |session| &session.api_url);
    let access = session.and_then(|session| session.access.as_ref());
    Map::from_iter([
        ("profile".into(), manager.profile.as_str().into()),
        ("api_url".into(), api_url.as_str().into()),
        (
            "access_expires_at".into(),
            expiry_json(access.map(|token| &token.expiry)),
        ),
        (
            "refresh_expires_at".into(),
            expiry_json(session.map(|session| &session.refresh.expiry)),
        ),
    ])
}

/// Describes how far the local clock is from the server's clock, such as "1h behind
/// the server's". `skew_millis` is the server's time minus the local time. Returns
/// `None` if the difference is less than [`MIN_REPORTED_SKEW`].
pub(super) fn clock_skew_text(skew_millis: i64) -> Option<String> {
    // `Date` is rounded down to whole seconds: add the half second that is lost on average.
    let difference = Duration::from_millis(skew_millis.saturating_add(500).unsigned_abs());
    if difference < MIN_REPORTED_SKEW {
        return None;
    }
    let seconds = difference.as_secs();
    let unit = if seconds < 600 { 1 } else { 60 };
    let rounded = (seconds + unit / 2) / unit * unit;
    let difference = duration_text(Duration::from_secs(rounded));
    let direction = if skew_millis > 0 {
        "behind"
    } else {
        "ahead of"
    };
    Some(format!("{difference} {direction} the server's"))
}

/// Describes the result of revoking a session on the server.
pub(super) fn revocation_text(revocation: &Revocation) -> String {
    match revocation {
        Revocation::Revoked => "revoked on the server".to_owned(),
        Revocation::AlreadyEnded => "already ended on the server".to_owned(),
        Revocation::NotRequested => "not revoked on the server (--local)".to_owned(),
        Revocation::Refused(error) => format!("the server refused to revoke the session: {error}"),
        Revocation::Failed(error) => format!("not revoked on the server: {error}"),
    }
}

/// The JSON code of a [`Revocation`]. A logout that revokes several sessions reports the one
/// that is last in this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RevocationCode {
    #[serde(rename = "not_asked")]
    NotRequested,
    AlreadyEnded,
    Revoked,
    Refused,
    #[serde(rename = "unreached")]
    Failed,
}

impl From<&Revocation> for RevocationCode {
    fn from(revocation: &Revocation) -> Self {
        match revocation {
            Revocation::NotRequested => Self::NotRequested,
            Revocation::AlreadyEnded => Self::AlreadyEnded,
            Revocation::Revoked => Self::Revoked,
            Revocation::Refused(_) => Self::Refused,
            Revocation::Failed(_) => Self::Failed,
        }
    }
}

/// The result of an operation on one profile, as JSON and as text, and the failure
/// if any part of the operation failed.
pub(super) struct Report {
    pub(super) json: Value,
    pub(super) text: String,
    pub(super) failure: Option<Failure>,
}

impl Report {
    /// Reports an operation that failed as a whole.
    pub(super) fn from_error(context: &Context<'_>, profile: &ProfileName, error: Error) -> Self {
        let failure = context.to_failure_for(profile, error);
        let code = failure.outcome.json_code();
        Self {
            json: json!({"profile": profile, "error": code, "message": failure.message}),
            text: format!("profile {profile}: {failure}"),
            failure: Some(failure),
        }
    }

    /// Reports the logout of `manager`'s profile: what happened to each session, on the
    /// server and in its store.
    pub(super) fn from_logout(
        context: &Context<'_>,
        manager: &SessionManager<'_>,
        logout: Vec<StoreLogout>,
    ) -> Self {
        let name = &manager.profile;
        let (mut texts, mut sessions, mut codes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut any_removed, mut any_removal_failed) = (false, false);
        let mut first_error = None;
        for store_logout in logout {
            texts.push(store_logout_text(&store_logout));
            let StoreLogout {
                store,
                revocation,
                removed,
                ..
            } = store_logout;
            let code = revocation.as_ref().map(RevocationCode::from);
            let is_removed = matches!(removed, Ok(true));
            sessions.push(json!({"store": store, "server": code, "removed": is_removed}));
            codes.extend(code);
            any_removed |= is_removed;
            any_removal_failed |= removed.is_err();
            let error = match removed {
                Err(error) => Some(Error::Store(error)),
                Ok(_) => revocation.and_then(Revocation::into_error).map(Error::from),
            };
            first_error = first_error.or(error);
        }
        let text = match texts.join("; also: ") {
            texts if texts.is_empty() => format!("profile {name} was not signed in"),
            texts if any_removal_failed => format!("profile {name}: {texts}"),
            texts => format!("signed out of profile {name}: {texts}"),
        };
        Self {
            failure: first_error
                .map(|error| logout_failure(context.to_failure_for(name, error), &text)),
            json: json!({
                "profile": name,
                "server": codes.into_iter().max(),
                "removed": any_removed,
                "sessions": sessions,
            }),
            text,
        }
    }
}

/// Describes what a logout did to the session in one store, such as "revoked on the server;
/// removed from the keyring".
fn store_logout_text(logout: &StoreLogout) -> String {
    let store = store_label(logout.store);
    let server_text = match (&logout.revocation, &logout.read_error) {
        (Some(revocation), _) => revocation_text(revocation),
        (None, Some(error)) => {
            format!("not revoked, since the session could not be read ({error})")
        }
        (None, None) => "a copy of this session".to_owned(),
    };
    let store_text = match (&logout.removed, &logout.revocation) {
        (Ok(false), Some(Revocation::NotRequested)) => format!("still in {store}"),
        (Ok(false), _) if logout.read_error.is_some() => {
            format!("nothing was removed from {store}")
        }
        (Ok(_), _) => format!("removed from {store}"),
        (Err(error), _) => format!("not removed from {store}: {error}"),
    };
    format!("{server_text}; {store_text}")
}

/// Returns the failure of a logout. Its message is `text`, which also describes what
/// succeeded.
fn logout_failure(failure: Failure, text: &str) -> Failure {
    let not_revoked_hint = "the access token stays valid until it expires; the refresh token was removed from this machine";
    Failure {
        message: text.to_owned(),
        hint: match failure.outcome.is_store_failure() {
            true => failure.hint,
            false => Some(not_revoked_hint.to_owned()),
        },
        ..failure
    }
}

/// Calls `operation` for each profile with its item, until a signal arrives. Prints the
/// text of each report, or in JSON mode one object with all reports under `command`.
/// Returns the failure with the highest exit code; its message names all failed profiles.
pub(super) fn run_for_each<T>(
    context: &Context<'_>,
    command: &str,
    items: Vec<(ProfileName, T)>,
    operation: impl Fn(&ProfileName, T) -> Report,
) -> Result<(), Error> {
    let exit_code = |failure: &Option<Failure>| failure.as_ref().map_or(0, Failure::exit_code);
    let profile_count = items.len();
    let mut reports = Vec::new();
    let mut failed_profiles = Vec::new();
    let mut worst_failure = None;
    for (profile, item) in items {
        let report = operation(&profile, item);
        match report.failure {
            _ if context.settings.json => {}
            Some(_) => context.terminal.warn(&report.text),
            None => context.terminal.note(&report.text),
        }
        reports.push(report.json);
        if report.failure.is_some() {
            failed_profiles.push(profile.to_string());
        }
        if exit_code(&report.failure) > exit_code(&worst_failure) {
            worst_failure = report.failure;
        }
        if context.interrupts.is_interrupted() {
            worst_failure = Some(Failure::new(Outcome::Interrupted, "interrupted"));
            break;
        }
    }
    if let Some(failure) = &mut worst_failure
        && failure.outcome != Outcome::Interrupted
    {
        failure.message = format!(
            "{command} failed for {} of {profile_count} profiles: {}",
            failed_profiles.len(),
            failed_profiles.join(", ")
        );
    }
    context.finish_command(&json!({ command: reports }), worst_failure)
}

/// Warns about each token variable that is set, since other commands use its token
/// instead of the session that was just stored.
pub(super) fn warn_about_token_variables(context: &Context<'_>) {
    for name in settings::token_variable_names(context.host) {
        context.terminal.warn(&format!(
            "{name} is set: other commands use it, not the stored session, until it is unset"
        ));
    }
}
