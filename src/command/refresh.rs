//! `refresh`: exchanges the refresh token now.

use std::time::Duration;

use serde_json::Value;

use super::report::{self, Report, run_for_each};
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::globals::parse_duration;
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
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
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
        let credential = manager.credential_from_variable(refresh)?;
        credential.warn_if_token_replaced();
        let mut json = report::session_json(&manager, None);
        json["access_expires_at"] = report::expiry_json(credential.access_expiry());
        json.insert("source".into(), credential.variable().into());
        json.insert("renewed".into(), true.into());
        return context.print_confirmation(Value::Object(json), "renewed");
    }
    if let Some((variable, _)) = &variables.access {
        return Err(Failure::usage(format!(
            "{variable} is set, and an access token cannot be renewed by itself"
        ))
        .with_hint(format!("unset it, or set {REFRESH_TOKEN} too"))
        .into());
    }
    let loaded = match args.min_ttl {
        Some(_) => Some(
            manager
                .load_with_local_times()?
                .ok_or(SessionError::NotSignedIn)?,
        ),
        None => None,
    };
    let (json, text) = refresh(args, &manager, loaded)?;
    context.print_confirmation(json, &text)
}

/// Renews the tokens of every profile that is recorded as signed in. Loads all sessions
/// first: if another process then renews a session, this run does not renew it again.
fn refresh_all(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let (_, profiles) = context.settings.profiles.all()?;
    let mut signed_in = Vec::new();
    for (name, profile) in profiles {
        if profile.is_recorded_signed_in() {
            let manager = context.session_manager_for(&name)?;
            let loaded = manager.load_with_local_times();
            signed_in.push((name, (manager, loaded)));
        }
    }
    run_for_each(context, "refresh", signed_in, |name, (manager, loaded)| {
        let refreshed = loaded
            .and_then(|session| session.ok_or(SessionError::NotSignedIn))
            .and_then(|session| refresh(args, &manager, Some(session)));
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

/// Renews the tokens of one session, unless the access token is valid for longer than
/// `--min-ttl`. `loaded` is the session if the caller has loaded it. Returns the report as
/// JSON and as text.
fn refresh(
    args: &Args,
    manager: &SessionManager<'_>,
    loaded: Option<Session>,
) -> Result<(Value, String), SessionError> {
    let policy = match args.min_ttl {
        Some(min_ttl) => RefreshPolicy::IfExpiresWithin(min_ttl),
        None => RefreshPolicy::Now,
    };
    if let Some(session) = &loaded {
        manager.rerun_failed_on_rotate(session)?;
    }
    let (session, renewed) = match loaded {
        Some(session) if manager.is_fresh(&session, policy) => (session, false),
        loaded => (manager.renew(loaded.as_ref(), policy)?, true),
    };
    let session = &session;
    let mut json = report::session_json(manager, Some(session));
    json.insert("source".into(), manager.store.as_str().into());
    json.insert("renewed".into(), renewed.into());
    let now = (manager.now)();
    let expiry = session.access.as_ref().map(|token| {
        let expiry = report::expiry_text(&token.expiry, now);
        format!("; the access token {expiry}")
    });
    let result = if renewed { "renewed" } else { "still fresh" };
    let text = format!("{result}{}", expiry.unwrap_or_default());
    Ok((Value::Object(json), text))
}
