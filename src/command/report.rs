//! The wording of a session's facts, the same in every command.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::model::{Expiry, ProfileName, Remaining, Session, Timestamp};
use crate::session::{LogoutOutcome, Revocation, SessionManager};
use crate::settings;
use crate::store::StoreKind;

/// A smaller skew, in seconds, is not reported: a response takes its time, and
/// `Date` has whole seconds.
const SMALLEST_SKEW: u64 = 5;

/// Names a store in a sentence.
pub(super) fn store_label(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Helper(address) => address.as_str(),
        StoreKind::Keyring => "the keyring",
        StoreKind::File => "a private file",
    }
}

/// Formats a time span: whole seconds, two units at most.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let coarse = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds - seconds % 60,
        _ => seconds - seconds % 3_600,
    };
    humantime::format_duration(Duration::from_secs(coarse)).to_string()
}

/// Says when a token ends.
pub(super) fn ends(expiry: &Expiry, now: Timestamp) -> String {
    match (expiry.remaining(now), expiry.ends_at()) {
        (Remaining::Time(left), Some(at)) => format!("ends {at} (in {})", span(left)),
        (Remaining::Nothing, Some(at)) => format!("ended {at}"),
        _ => "expiry unknown".to_owned(),
    }
}

/// When a token ends, in JSON: RFC 3339, or null if the server did not say.
pub(super) fn ends_json(expiry: Option<&Expiry>) -> Value {
    expiry
        .and_then(Expiry::ends_at)
        .map_or(Value::Null, |at| at.to_string().into())
}

/// The facts of a session in JSON. They are null without a session.
pub(super) fn session_json(
    manager: &SessionManager<'_>,
    session: Option<&Session>,
) -> Map<String, Value> {
    let origin = session.map_or(&manager.origin, |session| &session.origin);
    let access = session.and_then(|session| session.access.as_ref());
    Map::from_iter([
        ("profile".into(), manager.profile.as_str().into()),
        ("api_url".into(), origin.as_str().into()),
        (
            "access_expires_at".into(),
            ends_json(access.map(|token| &token.expiry)),
        ),
        (
            "refresh_expires_at".into(),
            ends_json(session.map(|session| &session.refresh.expiry)),
        ),
    ])
}

/// Compares the server's clock with ours. Returns `None` if they agree.
pub(super) fn skew(skew: Option<i64>) -> Option<String> {
    let skew = skew?;
    // `Date` has whole seconds, cut off: on average half of one is missing.
    let apart = Duration::from_millis(skew.saturating_add(500).unsigned_abs());
    (apart.as_secs() >= SMALLEST_SKEW).then(|| {
        let seconds = apart.as_secs();
        let coarse = if seconds < 600 { 1 } else { 60 };
        let apart = span(Duration::from_secs(
            (seconds + coarse / 2) / coarse * coarse,
        ));
        if skew > 0 {
            format!("{apart} behind the server's")
        } else {
            format!("{apart} ahead of the server's")
        }
    })
}

/// Says what became of a session on the server.
pub(super) fn revocation(revocation: &Revocation) -> String {
    match revocation {
        Revocation::Revoked => "revoked on the server".to_owned(),
        Revocation::AlreadyEnded => "the server had ended it already".to_owned(),
        Revocation::NotAsked => "the server was not asked".to_owned(),
        Revocation::Refused(error) => format!("the server refused to revoke it: {error}"),
        Revocation::Unreached(error) => format!("not revoked on the server: {error}"),
    }
}

/// The JSON codes of revocations, from the most harmless on.
const REVOCATIONS: [&str; 5] = [
    "not_asked",
    "already_ended",
    "revoked",
    "refused",
    "unreached",
];

/// What became of a session on the server, in JSON.
pub(super) fn revocation_code(revocation: &Revocation) -> &'static str {
    REVOCATIONS[match revocation {
        Revocation::NotAsked => 0,
        Revocation::AlreadyEnded => 1,
        Revocation::Revoked => 2,
        Revocation::Refused(_) => 3,
        Revocation::Unreached(_) => 4,
    }]
}

/// The report of an operation on one profile: what happened, and the failure if
/// a part of it failed.
pub(super) struct Report {
    pub(super) json: Value,
    pub(super) text: String,
    pub(super) failure: Option<Failure>,
}

impl Report {
    /// Reports an operation that failed as a whole.
    pub(super) fn from_error(context: &Context<'_>, profile: &ProfileName, error: Error) -> Self {
        let failure = context.explain_for(profile, error);
        let code = failure.outcome.json_code();
        Self {
            json: json!({"profile": profile, "error": code, "message": failure.message}),
            text: format!("profile {profile}: {failure}"),
            failure: Some(failure),
        }
    }

    /// Describes what became of the sessions of `manager`'s profile.
    pub(super) fn from_logout(
        context: &Context<'_>,
        manager: &SessionManager<'_>,
        outcome: LogoutOutcome,
    ) -> Self {
        let name = &manager.profile;
        let (mut texts, mut sessions) = (Vec::new(), Vec::new());
        let (mut codes, mut is_removed, mut is_kept) = (Vec::new(), false, false);
        let mut error = None;
        for ended in outcome.sessions {
            let label = store_label(ended.store);
            let code = ended.revocation.as_ref().map(revocation_code);
            let server = match (&ended.revocation, &ended.unreadable) {
                (Some(server), _) => revocation(server),
                (None, Some(error)) => format!("not revoked, since it could not be read ({error})"),
                (None, None) => "a copy".to_owned(),
            };
            texts.push(match &ended.removed {
                Ok(false) if code == Some("not_asked") => format!("{server}; still in {label}"),
                Ok(false) if ended.unreadable.is_some() => {
                    format!("{server}; nothing was removed from {label}")
                }
                Ok(_) => format!("{server}; removed from {label}"),
                Err(error) => format!("{server}; not removed from {label}: {error}"),
            });
            let removed = matches!(ended.removed, Ok(true));
            sessions.push(json!({"store": ended.store, "server": code, "removed": removed}));
            codes.extend(code);
            is_removed |= removed;
            is_kept |= ended.removed.is_err();
            let next = match ended.removed {
                Err(error) => Some(Error::Store(error)),
                Ok(_) => ended
                    .revocation
                    .and_then(Revocation::error)
                    .map(Error::from),
            };
            error = error.or(next);
        }
        let worst = REVOCATIONS.iter().rfind(|code| codes.contains(code));
        let text = match texts.join("; also: ") {
            none if none.is_empty() => format!("profile {name} was not signed in"),
            texts if is_kept => format!("profile {name}: {texts}"),
            texts => format!("signed out of profile {name}: {texts}"),
        };
        Self {
            failure: error.map(|error| not_ended(context.explain_for(name, error), &text)),
            json: json!({
                "profile": name,
                "server": worst,
                "removed": is_removed,
                "sessions": sessions,
            }),
            text,
        }
    }
}

/// The failure of a logout: all that happened is its message.
fn not_ended(failure: Failure, text: &str) -> Failure {
    let gone = "the access token stays valid until it ends; the refresh token is gone from here";
    Failure {
        message: text.to_owned(),
        hint: match failure.outcome.is_store() {
            true => failure.hint,
            false => Some(gone.to_owned()),
        },
        ..failure
    }
}

/// Runs an operation on one profile after another, until a signal arrives. Prints each
/// report's text; ends with one JSON object that has all reports under `key`, and with
/// the failure of the highest exit code.
pub(super) fn report_each<T>(
    context: &Context<'_>,
    key: &str,
    items: Vec<T>,
    operation: impl Fn(T) -> Report,
) -> Result<(), Error> {
    let exit_code = |failure: &Option<Failure>| failure.as_ref().map_or(0, Failure::exit_code);
    let mut all = Vec::new();
    let mut worst = None;
    for item in items {
        let report = operation(item);
        match report.failure {
            _ if context.settings.json => {}
            Some(_) => context.terminal.warn(&report.text),
            None => context.terminal.note(&report.text),
        }
        all.push(report.json);
        if exit_code(&report.failure) > exit_code(&worst) {
            worst = report.failure;
        }
        if context.interrupts.is_interrupted() {
            worst = Some(Failure::new(Outcome::Interrupted, "interrupted"));
            break;
        }
    }
    context.conclude(json!({ key: all }), worst)
}

/// Names the variables that stay in force after a command has changed what is stored.
pub(super) fn warn_of_variables(context: &Context<'_>) {
    for name in settings::token_variable_names(context.host) {
        context.terminal.warn(&format!(
            "{name} is set: other commands use it, not the stored session, until it is unset"
        ));
    }
}
