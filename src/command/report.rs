//! How the facts of a session are told: the same words in every command.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::context::Context;
use crate::model::{Expiry, Remaining, Session, Timestamp};
use crate::session::{Credential, Revocation, Variables};
use crate::store::StoreKind;

/// Below this the two clocks agree: an answer takes its time, and `Date` has whole seconds.
const SKEW: u64 = 5;

/// A store in a sentence.
pub(super) fn place(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Keyring => "the keyring",
        StoreKind::File => "a private file",
    }
}

/// A span of time in a sentence: whole seconds, two units at most.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let coarse = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds - seconds % 60,
        _ => seconds - seconds % 3_600,
    };
    humantime::format_duration(Duration::from_secs(coarse)).to_string()
}

/// When a token ends, in a sentence.
pub(super) fn ends(expiry: &Expiry, now: Timestamp) -> String {
    match (expiry.remaining(now), expiry.ends_at()) {
        (Remaining::For(left), Some(at)) => format!("{at} (in {})", span(left)),
        (Remaining::Nothing, Some(at)) => format!("{at} (over)"),
        _ => "the server has not said when".to_owned(),
    }
}

/// When a token ends, in JSON: RFC 3339, or null where nobody said.
pub(super) fn ends_json(expiry: Option<&Expiry>) -> Value {
    expiry
        .and_then(Expiry::ends_at)
        .map_or(Value::Null, |at| at.to_string().into())
}

/// The facts of a stored session in JSON, null where there is none.
pub(super) fn session_json(context: &Context<'_>, session: Option<&Session>) -> Map<String, Value> {
    let origin = session.map_or(&context.settings.origin, |session| &session.origin);
    let access = session.and_then(|session| session.access.as_ref());
    Map::from_iter([
        ("profile".into(), context.settings.name.as_str().into()),
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

/// The server's clock against ours, where they differ.
pub(super) fn skew(skew: Option<i64>) -> Option<String> {
    let skew = skew?;
    // `Date` has whole seconds, cut off: on average half of one is missing.
    let apart = Duration::from_millis(skew.saturating_add(500).unsigned_abs());
    (apart.as_secs() >= SKEW).then(|| {
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

/// What became of a session on the server, in a sentence.
pub(super) fn revocation(revocation: &Revocation) -> String {
    match revocation {
        Revocation::Done => "revoked on the server".to_owned(),
        Revocation::Already(_) => "the server had ended it already".to_owned(),
        Revocation::NotAsked => "the server was not asked".to_owned(),
        Revocation::OtherOrigin(origin) => {
            format!("not revoked: it belongs to {origin}, not to the profile's server")
        }
        Revocation::Failed(error) => format!("not revoked on the server: {error}"),
    }
}

/// What became of a session on the server, in JSON.
pub(super) fn revocation_json(revocation: Option<&Revocation>) -> Value {
    match revocation {
        None => Value::Null,
        Some(Revocation::Done) => "revoked".into(),
        Some(Revocation::Already(_)) => "already_ended".into(),
        Some(Revocation::NotAsked) => "not_asked".into(),
        Some(Revocation::OtherOrigin(_)) => "other_server".into(),
        Some(Revocation::Failed(_)) => "failed".into(),
    }
}

/// Says so when a refresh token in a variable has been spent.
pub(super) fn warn_if_spent(context: &Context<'_>, credential: &Credential<'_>) {
    if let Some(variable) = credential.spent() {
        context.terminal.warn(&format!(
            "the value in {variable} is spent: the server has replaced it, and nothing here keeps the new one. \
             Next time, start with `rememberizer login --refresh-token-stdin` and hand the session on with \
             `rememberizer token --refresh-token`"
        ));
    }
}

/// Says which variables stay in force when a command has changed what is stored.
pub(super) fn warn_of_variables(context: &Context<'_>, variables: &Variables) {
    for name in variables.names() {
        context.terminal.warn(&format!(
            "{name} is set: other commands use it, not the stored session, until it is unset"
        ));
    }
}
