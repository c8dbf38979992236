//! `token`: prints the access token or the refresh token. No other command prints a secret.

use std::time::Duration;

use super::report;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::globals::parse_duration;
use crate::session::{Credential, SessionError, SessionManager, TokenKind, TokenVariables};

/// Print the access token, renewing it if it is about to expire
///
/// Prints the token alone on stdout. Sends no request if the stored token is valid
/// for long enough.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer token --header | curl -H @- \"$REMEMBERIZER_API_URL/account/\"
  token=$(rememberizer token --min-ttl 4m) || exit

Exit codes: 3 not signed in, or session ended by the server; 5 unavailable;
6 secret store failed; 9 locked by another process")]
pub(crate) struct Args {
    /// Renew the token first if it expires within this time, such as 90s or 5m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    min_ttl: Duration,
    /// Print the refresh token instead, to move the session to another machine
    #[arg(long, conflicts_with = "header")]
    refresh_token: bool,
    /// Print the header `Authorization: Bearer TOKEN` instead
    #[arg(long)]
    header: bool,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let variables = context.token_variables()?;
    let manager = context.session_manager();
    let credential = match args.refresh_token {
        true => credential_with_refresh_token(&manager, variables)?,
        false => manager.credential(variables, args.min_ttl)?,
    };
    let (key, prefix, secret) = match (args.refresh_token, args.header) {
        (true, _) => {
            let refresh = credential.refresh_token();
            let refresh = refresh.ok_or(SessionError::NoToken(TokenKind::Refresh))?;
            ("refresh_token", "", refresh.secret())
        }
        (false, true) => (
            "header",
            "Authorization: Bearer ",
            credential.access_token()?.secret(),
        ),
        (false, false) => ("access_token", "", credential.access_token()?.secret()),
    };
    if !context.settings.json {
        return Ok(context.terminal.print_secret(prefix, secret)?);
    }
    let expires_at = report::expiry_json(credential.access_expiry());
    let expires_at = (!args.refresh_token).then_some(expires_at);
    let terminal = context.terminal;
    Ok(terminal.print_secret_json(key, prefix, secret, expires_at)?)
}

fn credential_with_refresh_token<'m>(
    manager: &'m SessionManager<'_>,
    variables: TokenVariables,
) -> Result<Credential<'m>, Error> {
    match (variables.refresh, variables.access) {
        (Some(refresh), _) => Ok(manager.credential_from_variable(refresh)?),
        (None, Some((variable, _))) => Err(Failure::usage(format!(
            "{variable} is set, but no variable holds a refresh token"
        ))
        .into()),
        (None, None) => {
            Ok(manager.credential_from_session(manager.load()?.ok_or(SessionError::NotSignedIn)?))
        }
    }
}
