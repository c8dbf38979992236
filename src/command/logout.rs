//! `logout`: ends the session on the server, then here, and reports each.

use serde_json::json;

use super::report::{self, Report, report_each};
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::model::ProfileName;
use crate::session::{Revocation, TokenVariables};

/// Sign out
///
/// Revokes the session on the server, removes it from the store, and prints which of
/// the two succeeded.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer logout
  rememberizer logout --all --local

Exit codes: 4 removed here, but the server refused to revoke it; 5 removed here,
but the server could not be reached; 6 secret store failed")]
pub(crate) struct Args {
    /// Sign out of every profile
    #[arg(long, conflicts_with = "profile")]
    all: bool,
    /// Remove the session here without revoking it on the server
    #[arg(long)]
    local: bool,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let variables = context.token_variables()?;
    if variables.is_any_set() {
        return end_variables(args, context, &variables);
    }
    if args.all {
        return end_all(args, context);
    }
    conclude(context, end(args, context, &context.settings.name)?)
}

fn end(args: &Args, context: &Context<'_>, name: &ProfileName) -> Result<Report, Error> {
    let manager = context.session_manager_of(name)?;
    let outcome = manager.end(args.local)?;
    Ok(Report::from_logout(context, &manager, outcome))
}

/// Reports a logout. With a failure, what happened stands beside the error.
fn conclude(context: &Context<'_>, report: Report) -> Result<(), Error> {
    match report.failure {
        None => context.print_confirmation(report.json, &report.text),
        failure => context.conclude(json!({"logout": report.json}), failure),
    }
}

fn end_all(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let (_, profiles) = context.settings.profiles.all()?;
    let mut names: Vec<_> = profiles.into_iter().map(|(name, _)| name).collect();
    if names.is_empty() {
        names.push(context.settings.name.clone());
    }
    report_each(context, "logout", names, |name| {
        end(args, context, &name).unwrap_or_else(|error| Report::from_error(context, &name, error))
    })
}

/// Ends the session of the refresh token in the environment. What is stored
/// stays.
fn end_variables(
    args: &Args,
    context: &Context<'_>,
    variables: &TokenVariables,
) -> Result<(), Error> {
    let names = variables.names().join(" and ");
    let Some((variable, refresh)) = &variables.refresh else {
        return Err(Failure::usage(format!(
            "{names} is set, and an access token cannot be revoked; the stored session was not touched"
        ))
        .hint(format!("unset {names} to log out of the stored session"))
        .into());
    };
    let server = if args.local {
        Revocation::NotAsked
    } else {
        context.session_manager().revoke(refresh)
    };
    let text = format!(
        "the session in {variable}: {}; {names} stays set, and the stored session was not touched",
        report::revocation(&server)
    );
    let json = json!({
        "profile": context.settings.name,
        "source": variable,
        "server": report::revocation_code(&server),
        "removed": false,
    });
    let failure = server.error().map(|error| Failure {
        message: text.clone(),
        ..context.explain(error.into())
    });
    conclude(
        context,
        Report {
            json,
            text,
            failure,
        },
    )
}
