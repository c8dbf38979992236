//! `signup`: creates an account, and keeps the session that may come with it.

use serde_json::Value;

use super::captcha::CaptchaArgs;
use super::input::{self, Missing, PasswordArgs};
use super::{begin, report};
use crate::context::Context;
use crate::error::Error;
use crate::session::{SessionManager, Started};

/// Create an account
///
/// Keeps the session if the server hands one over, and goes on to ask for the
/// mailed code at a terminal; a blank answer there means later.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer signup
  rememberizer signup --email ann@example.com --name Ann --password-file pw.txt

Exit codes: 4 refused by the server, 5 unavailable, 6 the secret store, 7 a captcha is wanted")]
pub struct Args {
    /// The account's e-mail address
    #[arg(long, value_name = "ADDRESS", value_hint = clap::ValueHint::EmailAddress)]
    pub email: Option<String>,
    /// The account's name
    #[arg(long)]
    pub name: Option<String>,
    /// Where the password comes from.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Where the captcha response comes from.
    #[command(flatten)]
    pub captcha: CaptchaArgs,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let given = |text: &Option<String>| {
        let text = text.as_deref()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let (email, name) = (given(&args.email), given(&args.name));
    let password = args.password.given(context)?;
    let mut missing = Missing::default();
    missing.note(email.is_none(), "e-mail address", "--email ADDRESS");
    missing.note(name.is_none(), "name", "--name NAME");
    missing.note(password.is_none(), "password", &input::password_ways());
    missing.check(context)?;
    args.captcha.check(context)?;
    let manager = begin::choose_store(context)?;

    let terminal = context.terminal;
    let email = match email {
        Some(email) => email,
        None => terminal.ask_valid("E-mail address for Rememberizer", |text| {
            (!text.contains('@')).then_some("an e-mail address contains an @")
        })?,
    };
    let name = match name {
        Some(name) => name,
        None => terminal.ask("Your name at Rememberizer", None)?,
    };
    let password = match password {
        Some(password) => password,
        None => terminal.ask_secret_twice(
            "New password for Rememberizer",
            "The same Rememberizer password again",
        )?,
    };
    let started = begin::begin(
        context,
        &manager,
        &args.captcha,
        &email,
        |client, captcha| client.signup(&email, &password, &name, captcha),
    )?;
    let mut json =
        begin::started_json(&manager, started.as_ref().map(|s| &s.session), Some(&email));
    let verified = report_signup(context, &manager, started, &email)?;
    report::warn_of_variables(context, &context.token_variables()?);
    if context.settings.json {
        json.insert("verified".into(), verified.into());
        terminal.answer_json(Value::Object(json))?;
    }
    Ok(())
}

/// Reports the account, and at a terminal asks for the mailed code. Returns
/// whether the address is verified.
fn report_signup(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    started: Option<Started>,
    email: &str,
) -> Result<bool, Error> {
    let terminal = context.terminal;
    let Some(started) = started else {
        manager.record(|profile| {
            profile.api_url = Some(manager.origin.clone());
            profile.login = Some(email.to_owned());
            profile.store = Some(manager.store);
        })?;
        terminal.note(&format!(
            "{email} is signed up; a code was mailed. First {}, then {}",
            context.command_line("login"),
            context.command_line("verify")
        ));
        return Ok(false);
    };
    terminal.note(&format!(
        "{email} is signed up, and signed in (profile {})",
        manager.profile
    ));
    if terminal.can_prompt() {
        let mut credential = manager.stored(started.session);
        if begin::ask_for_code(context, manager, &mut credential, Some(email))? {
            return Ok(true);
        }
    }
    terminal.note(&format!(
        "a code was mailed: {}",
        context.command_line("verify")
    ));
    Ok(false)
}
