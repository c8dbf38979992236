//! `refresh`: the refresh token is exchanged now.

use std::time::Duration;

use serde_json::Value;

use super::report;
use crate::context::Context;
use crate::globals::duration;
use crate::session::{Need, SessionError};

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

/// Renews the session.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), anyhow::Error> {
    let variables = context.variables()?;
    let keeper = context.keeper();
    let now = || (keeper.now)();
    if variables.refresh.is_some() {
        let credential = keeper.exchange_variable(&variables)?;
        report::warn_if_spent(context, &credential);
        let mut json = report::session_json(context, None);
        json.insert("source".into(), credential.variable().into());
        json.insert("renewed".into(), true.into());
        return context.confirm(Value::Object(json), "renewed");
    }
    if let Some((variable, _)) = &variables.access {
        return Err(crate::exit::Failure::usage(format!(
            "{variable} is set, and an access token cannot be renewed by itself"
        ))
        .hint(format!(
            "unset it, or set {} too",
            crate::settings::REFRESH_TOKEN
        ))
        .into());
    }
    if let Some(wanted) = args.min_ttl {
        let session = keeper.load()?.ok_or(SessionError::NotSignedIn)?;
        let need = Need::Lasting(wanted);
        let fresh = keeper.is_fresh(&session, need);
        let session = if fresh {
            session
        } else {
            keeper.renew(Some(session), need)?
        };
        return tell(context, &session, !fresh, now());
    }
    let session = keeper.renew(None, Need::Now)?;
    tell(context, &session, true, now())
}

fn tell(
    context: &Context<'_>,
    session: &crate::model::Session,
    renewed: bool,
    now: crate::model::Timestamp,
) -> Result<(), anyhow::Error> {
    let mut json = report::session_json(context, Some(session));
    json.insert("source".into(), context.settings.store.as_str().into());
    json.insert("renewed".into(), renewed.into());
    let until = session
        .access
        .as_ref()
        .map(|t| {
            format!(
                "; the access token ends at {}",
                report::ends(&t.expiry, now)
            )
        })
        .unwrap_or_default();
    let what = if renewed { "renewed" } else { "still fresh" };
    context.confirm(Value::Object(json), &format!("{what}{until}"))
}
