//! `verify`: the mailed code confirms the e-mail address.

use std::time::Duration;

use serde_json::json;

use super::input::{self, Missing};
use super::report;
use crate::api::ApiError;
use crate::context::Context;
use crate::exit::Failure;
use crate::session::SessionError;

/// Confirm the e-mail address
///
/// Takes the code that was mailed at signup. At a terminal it is asked for, and
/// a blank answer means later and costs no try.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer verify 123456
  rememberizer verify --code-stdin < code.txt

Exit codes: 3 not signed in, 4 the code is wrong, 5 unavailable")]
pub struct Args {
    /// The mailed code
    #[arg(value_name = "CODE", conflicts_with = "code_stdin")]
    pub code: Option<String>,
    /// Read the code from stdin
    #[arg(long)]
    pub code_stdin: bool,
}

/// Verifies the address.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), anyhow::Error> {
    let code = match &args.code {
        Some(code) => Some(code.clone()),
        None if args.code_stdin => Some(input::from_stdin(context, "code")?.expose().to_owned()),
        None => None,
    };
    let code = code
        .map(|code| code.trim().to_owned())
        .filter(|code| !code.is_empty());
    let mut missing = Missing::default();
    missing.note(
        code.is_none(),
        "code",
        "CODE as an argument, or --code-stdin",
    );
    missing.check(context)?;
    let verified = match code {
        Some(code) => {
            send(context, &code)?;
            context.terminal.note("the e-mail address is verified");
            true
        }
        None => {
            if !context.variables()?.in_force() && context.keeper().load()?.is_none() {
                return Err(super::login::first(context).into());
            }
            let verified = ask(context, context.profile().login.as_deref())?;
            if !verified {
                context
                    .terminal
                    .note(&format!("later, then: {}", context.say("verify")));
            }
            verified
        }
    };
    if context.settings.json {
        context
            .terminal
            .answer_json(json!({"profile": context.settings.name, "verified": verified}))?;
    }
    Ok(())
}

/// Asks for the code until it is right or left for later; whether it was right.
pub(super) fn ask(context: &Context<'_>, login: Option<&str>) -> Result<bool, anyhow::Error> {
    let to = login
        .map(|login| format!(" to {login}"))
        .unwrap_or_default();
    let prompt = format!("Rememberizer code mailed{to} (blank: later)");
    while let Some(code) = context.terminal.ask_optional(&prompt)? {
        match send(context, &code) {
            Ok(()) => {
                context.terminal.note("the e-mail address is verified");
                return Ok(true);
            }
            Err(error) => {
                let wrong = matches!(
                    error.downcast_ref(),
                    Some(SessionError::Api(ApiError::Refused {
                        status: 400 | 404 | 409 | 410 | 422,
                        ..
                    }))
                );
                if !wrong {
                    return Err(error);
                }
                let failure: Failure =
                    crate::explain::explain(error, &|command| context.say(command));
                context.terminal.error(&failure.message, None);
            }
        }
    }
    Ok(false)
}

fn send(context: &Context<'_>, code: &str) -> Result<(), anyhow::Error> {
    let variables = context.variables()?;
    let keeper = context.keeper();
    let ((), credential) = keeper.authenticated(&variables, Duration::ZERO, |access| {
        keeper.client.verify(access, code)
    })?;
    report::warn_if_spent(context, &credential);
    Ok(())
}
