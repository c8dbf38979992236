//! `token`: the one command that prints a secret.

use std::time::Duration;

use serde_json::json;

use super::report;
use crate::context::Context;
use crate::globals::duration;
use crate::model::Secret;
use crate::session::{Credential, SessionError};

/// Print the access token, renewed first where it is about to end
///
/// Prints the token alone on stdout. One that lasts is printed without any
/// request or write.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer token --header | curl -H @- \"$URL/account/\"
  token=$(rememberizer token --min-ttl 4m) || exit

Exit codes: 3 not signed in or ended by the server, 5 unavailable, 6 the secret store, 9 busy")]
pub struct Args {
    /// Renew it first if it ends within this time, such as 90s or 5m
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s", hide_default_value = false)]
    pub min_ttl: Duration,
    /// Print the refresh token instead, to hand the session on
    #[arg(long, conflicts_with = "header")]
    pub refresh_token: bool,
    /// Print `Authorization: Bearer` and the token
    #[arg(long)]
    pub header: bool,
}

/// Prints a token.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), anyhow::Error> {
    let variables = context.variables()?;
    let keeper = context.keeper();
    if args.refresh_token {
        let credential = if variables.refresh.is_some() {
            keeper.exchange_variable(&variables)?
        } else if variables.in_force() {
            keeper.credential(&variables, Duration::ZERO)?
        } else {
            Credential::Stored(keeper.load()?.ok_or(SessionError::NotSignedIn)?)
        };
        let refresh = credential.refresh().ok_or(SessionError::NoToken {
            missing: "refresh token",
        });
        let refresh = match (refresh, credential.variable()) {
            (Ok(refresh), _) => refresh,
            (Err(_), Some(variable)) => {
                return Err(crate::exit::Failure::usage(format!(
                    "{variable} is set, and there is no refresh token beside it"
                ))
                .into());
            }
            (Err(error), None) => return Err(error.into()),
        };
        return print(context, "refresh_token", "", refresh.secret(), None);
    }
    let credential = keeper.credential(&variables, args.min_ttl)?;
    report::warn_if_spent(context, &credential);
    let expiry = match &credential {
        Credential::Stored(session) => session.access.as_ref().map(|t| t.expiry),
        Credential::Access(..) => None,
        Credential::Exchanged { grant, .. } => grant.access.as_ref().map(|t| t.expiry),
    };
    let access = credential.access()?.secret();
    let (key, prefix) = if args.header {
        ("header", "Authorization: Bearer ")
    } else {
        ("access_token", "")
    };
    let expires_at = report::ends_json(expiry.as_ref());
    print(context, key, prefix, access, Some(expires_at))
}

fn print(
    context: &Context<'_>,
    key: &str,
    prefix: &str,
    secret: &Secret,
    expires_at: Option<serde_json::Value>,
) -> Result<(), anyhow::Error> {
    if !context.settings.json {
        return Ok(context.terminal.answer_secret(prefix, secret)?);
    }
    let mut json = json!({ key: format!("{prefix}{}", secret.expose()) });
    if let Some(expires_at) = expires_at {
        json["expires_at"] = expires_at;
    }
    Ok(context.terminal.answer_json(json)?)
}
