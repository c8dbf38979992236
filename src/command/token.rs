//! `token`: the one command that prints a secret.

use std::time::Duration;

use super::report;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::globals::duration;
use crate::session::{SessionError, SessionManager, TokenVariables};

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
pub(crate) struct Args {
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

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let variables = context.token_variables()?;
    let manager = context.session_manager();
    if args.refresh_token {
        return print_refresh_token(context, &manager, variables);
    }
    let credential = manager.credential(variables, args.min_ttl)?;
    let (key, prefix) = if args.header {
        ("header", "Authorization: Bearer ")
    } else {
        ("access_token", "")
    };
    let access = credential.access()?.secret();
    if context.settings.json {
        let expires_at = report::ends_json(credential.access_expiry());
        let others = [("expires_at", expires_at)];
        return Ok(context
            .terminal
            .answer_secret_json(key, prefix, access, &others)?);
    }
    Ok(context.terminal.answer_secret(prefix, access)?)
}

fn print_refresh_token(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    variables: TokenVariables,
) -> Result<(), Error> {
    let credential = match variables {
        TokenVariables {
            refresh: Some(refresh),
            ..
        } => manager.exchanged(refresh)?,
        TokenVariables {
            access: Some((variable, _)),
            ..
        } => {
            return Err(Failure::usage(format!(
                "{variable} is set, and there is no refresh token beside it"
            ))
            .into());
        }
        TokenVariables { .. } => manager.stored(manager.load()?.ok_or(SessionError::NotSignedIn)?),
    };
    let refresh = credential.refresh().ok_or(SessionError::NoToken {
        missing: "refresh token",
    })?;
    let secret = refresh.secret();
    if context.settings.json {
        return Ok(context
            .terminal
            .answer_secret_json("refresh_token", "", secret, &[])?);
    }
    Ok(context.terminal.answer_secret("", secret)?)
}
