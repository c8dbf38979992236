//! `signup`: an account, and the session that the server may hand over with it.

use serde_json::Value;

use super::captcha::CaptchaArgs;
use super::input::{self, Missing, PasswordArgs};
use super::login::{Place, with_captcha};
use super::{report, verify};
use crate::context::Context;
use crate::session::Begun;

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

/// Creates an account.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), anyhow::Error> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let (email, name) = (given(&args.email), given(&args.name));
    let password = args.password.given(context)?;
    let mut missing = Missing::default();
    missing.note(email.is_none(), "e-mail address", "--email ADDRESS");
    missing.note(name.is_none(), "name", "--name NAME");
    missing.note(password.is_none(), "password", &input::password_ways());
    missing.check(context)?;
    args.captcha.check(context)?;
    let place = Place::find(context)?;

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
    let begun = with_captcha(context, &args.captcha, |captcha| {
        place.begin(context, |client| {
            client.signup(&email, &password, &name, captcha)
        })
    })?;
    context.record(|profile| {
        profile.api_url = Some(context.settings.origin.clone());
        profile.login = Some(email.clone());
        profile.store = Some(place.kind());
    })?;

    let mut verified = false;
    match &begun {
        Some(_) => {
            terminal.note(&format!(
                "{email} is signed up, and signed in (profile {})",
                context.settings.name
            ));
            if terminal.can_prompt() {
                verified = verify::ask(context, Some(&email))?;
            }
            if !verified {
                terminal.note(&format!("a code was mailed: {}", context.say("verify")));
            }
        }
        None => terminal.note(&format!(
            "{email} is signed up; a code was mailed. First {}, then {}",
            context.say("login"),
            context.say("verify")
        )),
    }
    report::warn_of_variables(context, &context.variables()?);
    if context.settings.json {
        terminal.answer_json(answer(context, &place, begun.as_ref(), &email, verified))?;
    }
    Ok(())
}

fn answer(
    context: &Context<'_>,
    place: &Place,
    begun: Option<&Begun>,
    email: &str,
    verified: bool,
) -> Value {
    let mut json = report::session_json(context, begun.map(|begun| &begun.session));
    json.insert("login".into(), email.into());
    json.insert("store".into(), place.kind().as_str().into());
    json.insert("signed_in".into(), begun.is_some().into());
    json.insert("verified".into(), verified.into());
    Value::Object(json)
}
