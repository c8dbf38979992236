//! `refresh`: exchanges the refresh token now.

use std::time::Duration;

use serde_json::Value;

use super::report;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::globals::duration;
use crate::model::Session;
use crate::session::{RefreshPolicy, SessionError, SessionManager};
use crate::settings::REFRESH_TOKEN;

/// Renew the tokens now
///
/// Exchanges the refresh token and stores what comes back before anything is
/// printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer refresh
  rememberizer refresh --min-ttl 10m

Exit codes: 3 not signed in or ended by the server, 5 unavailable, 6 the secret store, 9 busy")]
pub struct Args {
    /// Do nothing while the access token lasts longer than this, such as 90s or 5m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub min_ttl: Option<Duration>,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let variables = context.token_variables()?;
    let manager = context.session();
    if let Some(refresh) = variables.refresh {
        let credential = manager.exchanged(refresh)?;
        credential.warn_if_spent();
        let mut json = report::session_json(&manager, None);
        json["access_expires_at"] = report::ends_json(credential.access_expiry());
        json.insert("source".into(), credential.variable().into());
        json.insert("renewed".into(), true.into());
        return context.confirm(Value::Object(json), "renewed");
    }
    if let Some((variable, _)) = &variables.access {
        return Err(Failure::usage(format!(
            "{variable} is set, and an access token cannot be renewed by itself"
        ))
        .hint(format!("unset it, or set {REFRESH_TOKEN} too"))
        .into());
    }
    let Some(min_ttl) = args.min_ttl else {
        let session = manager.renew(None, RefreshPolicy::Now)?;
        return print(context, &manager, &session, true);
    };
    let session = manager.load()?.ok_or(SessionError::NotSignedIn)?;
    let policy = RefreshPolicy::IfEndsWithin(min_ttl);
    if manager.is_fresh(&session, policy) {
        return print(context, &manager, &session, false);
    }
    let session = manager.renew(Some(&session), policy)?;
    print(context, &manager, &session, true)
}

fn print(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    session: &Session,
    renewed: bool,
) -> Result<(), Error> {
    let mut json = report::session_json(manager, Some(session));
    json.insert("source".into(), manager.store.as_str().into());
    json.insert("renewed".into(), renewed.into());
    let now = (manager.now)();
    let until = session.access.as_ref().map(|token| {
        let ends = report::ends(&token.expiry, now);
        format!("; the access token ends at {ends}")
    });
    let what = if renewed { "renewed" } else { "still fresh" };
    let text = format!("{what}{}", until.unwrap_or_default());
    context.confirm(Value::Object(json), &text)
}
