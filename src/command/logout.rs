//! `logout`: revokes the session on the server, removes it from the store, and reports
//! both results.

use serde_json::json;

use super::report::{self, Report, RevocationCode, run_for_each};
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::model::ProfileName;
use crate::session::{LogoutScope, Revocation, TokenVariables};

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
but the server could not be reached; 6 secret store failed; 9 locked by another
process")]
pub(crate) struct Args {
    /// Sign out of every profile
    #[arg(long, conflicts_with = "profile")]
    all: bool,
    /// Remove the session here without revoking it on the server; a shared session stays
    /// in its store
    #[arg(long)]
    local: bool,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let variables = context.token_variables()?;
    if variables.is_any_set() {
        return log_out_of_variables(args, context, &variables);
    }
    if args.all {
        return log_out_of_all(args, context);
    }
    print_report(
        context,
        log_out(args, context, &context.settings.profile_name)?,
    )
}

fn log_out(args: &Args, context: &Context<'_>, name: &ProfileName) -> Result<Report, Error> {
    let manager = context.session_manager_for(name)?;
    let scope = match args.local {
        true => LogoutScope::StoreOnly,
        false => LogoutScope::ServerAndStore,
    };
    let logout = manager.log_out(scope)?;
    Ok(Report::from_logout(context, &manager, logout))
}

/// Prints the report. If it has a failure, returns the failure with the JSON report as
/// its partial result.
fn print_report(context: &Context<'_>, report: Report) -> Result<(), Error> {
    match report.failure {
        None => context.print_confirmation(report.json, &report.text),
        failure => context.finish_command(&json!({"logout": report.json}), failure),
    }
}

fn log_out_of_all(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let (_, profiles) = context.settings.profiles.all()?;
    let mut names: Vec<_> = profiles.into_iter().map(|(name, _)| (name, ())).collect();
    if names.is_empty() {
        names.push((context.settings.profile_name.clone(), ()));
    }
    run_for_each(context, "logout", names, |name, ()| {
        log_out(args, context, name)
            .unwrap_or_else(|error| Report::from_error(context, name, error))
    })
}

/// Revokes the session of the refresh token in the environment. Does not change the
/// stored session.
fn log_out_of_variables(
    args: &Args,
    context: &Context<'_>,
    variables: &TokenVariables,
) -> Result<(), Error> {
    let names = variables.names().join(" and ");
    let Some((variable, refresh)) = &variables.refresh else {
        return Err(Failure::usage(format!(
            "{names} is set, and an access token cannot be revoked; the stored session is unchanged"
        ))
        .with_hint(format!("unset {names} to log out of the stored session"))
        .into());
    };
    let revocation = if args.local {
        Revocation::NotRequested
    } else {
        context.session_manager().revoke(refresh)
    };
    let text = format!(
        "the session in {variable}: {}; {names} is still set, and the stored session is unchanged",
        report::revocation_text(&revocation)
    );
    let json = json!({
        "profile": context.settings.profile_name,
        "source": variable,
        "server": RevocationCode::from(&revocation),
        "removed": false,
    });
    let failure = revocation.into_error().map(|error| Failure {
        message: text.clone(),
        ..context.to_failure(error.into())
    });
    print_report(
        context,
        Report {
            json,
            text,
            failure,
        },
    )
}
