//! `refresh`: exchanges the refresh token now.

use std::time::Duration;

use serde_json::Value;

use super::report::{self, Report, report_each};
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::globals::duration;
use crate::model::Session;
use crate::session::{RefreshPolicy, SessionError, SessionManager};
use crate::settings::REFRESH_TOKEN;

/// Renew the tokens now
///
/// Exchanges the refresh token, and stores the new tokens before anything is
/// printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer refresh
  rememberizer refresh --min-ttl 10m
  rememberizer refresh --all --quiet

Exit codes: 3 not signed in, or session ended by the server; 5 unavailable;
6 secret store failed; 9 locked by another process")]
pub(crate) struct Args {
    /// Do nothing if the access token is valid for longer than this, such as 90s or 5m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    min_ttl: Option<Duration>,
    /// Renew the tokens of every signed-in profile
    #[arg(long, conflicts_with = "profile")]
    all: bool,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    if args.all {
        return refresh_all(args, context);
    }
    let variables = context.token_variables()?;
    let manager = context.session_manager();
    if let Some(refresh) = variables.refresh {
        let credential = manager.exchanged(refresh)?;
        credential.warn_if_spent();
        let mut json = report::session_json(&manager, None);
        json["access_expires_at"] = report::ends_json(credential.access_expiry());
        json.insert("source".into(), credential.variable().into());
        json.insert("renewed".into(), true.into());
        return context.print_confirmation(Value::Object(json), "renewed");
    }
    if let Some((variable, _)) = &variables.access {
        return Err(Failure::usage(format!(
            "{variable} is set, and an access token cannot be renewed by itself"
        ))
        .hint(format!("unset it, or set {REFRESH_TOKEN} too"))
        .into());
    }
    let before = match args.min_ttl {
        Some(_) => Some(manager.load_to_use()?.ok_or(SessionError::NotSignedIn)?),
        None => None,
    };
    let (json, text) = refresh(args, &manager, before)?;
    context.print_confirmation(json, &text)
}

/// Renews every profile that is recorded as signed in. All sessions are read
/// first: what another process renews from then on is not renewed again.
fn refresh_all(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let (_, profiles) = context.settings.profiles.all()?;
    let mut sessions = Vec::new();
    for (name, profile) in profiles {
        if profile.signed_in == Some(true) {
            let manager = context.session_manager_of(&name)?;
            let before = manager.load_to_use();
            sessions.push((manager, before));
        }
    }
    report_each(context, "refresh", sessions, |(manager, before)| {
        let refreshed = before
            .and_then(|before| before.ok_or(SessionError::NotSignedIn))
            .and_then(|before| refresh(args, &manager, Some(before)));
        let name = &manager.profile;
        match refreshed {
            Ok((json, text)) => Report {
                json,
                text: format!("profile {name}: {text}"),
                failure: None,
            },
            Err(error) => Report::from_error(context, name, error.into()),
        }
    })
}

/// Renews one session. `before` is the session as it was read, if it was.
/// Returns the report as JSON and as text.
fn refresh(
    args: &Args,
    manager: &SessionManager<'_>,
    before: Option<Session>,
) -> Result<(Value, String), SessionError> {
    let policy = match args.min_ttl {
        Some(min_ttl) => RefreshPolicy::IfEndsWithin(min_ttl),
        None => RefreshPolicy::Now,
    };
    let (session, renewed) = match before {
        Some(before) if manager.is_fresh(&before, policy) => (before, false),
        before => (manager.renew(before.as_ref(), policy)?, true),
    };
    let session = &session;
    let mut json = report::session_json(manager, Some(session));
    json.insert("source".into(), manager.store.as_str().into());
    json.insert("renewed".into(), renewed.into());
    let now = (manager.now)();
    let until = session.access.as_ref().map(|token| {
        let ends = report::ends(&token.expiry, now);
        format!("; the access token {ends}")
    });
    let what = if renewed { "renewed" } else { "still fresh" };
    let text = format!("{what}{}", until.unwrap_or_default());
    Ok((Value::Object(json), text))
}
