//! `verify`: confirms the e-mail address with the mailed code.

use std::time::Duration;

use serde_json::json;

use super::input::{InputSource, MissingInputs};
use super::sign_in;
use crate::context::Context;
use crate::error::Error;

/// Confirm the e-mail address
///
/// Sends the code that was mailed at signup. At a terminal, asks for it; leave it
/// blank to verify later.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer verify 123456
  rememberizer verify --code-stdin < code.txt

Exit codes: 3 not signed in, 4 wrong code, 5 unavailable, 6 secret store failed,
9 locked by another process")]
pub(crate) struct Args {
    /// Code from the e-mail
    #[arg(value_name = "CODE", conflicts_with = "code_stdin")]
    code: Option<String>,
    /// Read the code from stdin
    #[arg(long)]
    code_stdin: bool,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let code = match &args.code {
        Some(code) => Some(code.clone()),
        None if args.code_stdin => Some(InputSource::Stdin.read_line(context, "code")?),
        None => None,
    };
    let code = code
        .map(|code| code.trim().to_owned())
        .filter(|code| !code.is_empty());
    let mut missing = MissingInputs::default();
    missing.add_if(
        code.is_none(),
        "code",
        "CODE as an argument, or --code-stdin",
    );
    missing.fail_unless_can_prompt(context)?;
    let manager = context.session_manager();
    let mut credential = manager.credential(context.token_variables()?, Duration::ZERO)?;
    let verified = match code {
        Some(code) => {
            credential.send(|access| manager.client.verify(access, &code))?;
            context.terminal.note("the e-mail address is verified");
            true
        }
        None => {
            let login = context.profile().login;
            let verified =
                sign_in::ask_for_code(context, &manager, &mut credential, login.as_deref())?;
            if !verified {
                context.terminal.note(&format!(
                    "when you have the code, run: {}",
                    context.command_line("verify")
                ));
            }
            verified
        }
    };
    if context.settings.json {
        context
            .terminal
            .print_json(json!({"profile": manager.profile, "verified": verified}))?;
    }
    Ok(())
}
