//! `signup`: creates an account. If the server also starts a session, stores it.

use std::ffi::OsString;

use serde_json::Value;

use super::captcha::CaptchaArgs;
use super::input::{self, MissingInputs, PasswordArgs};
use super::report;
use super::sign_in::{self, MAX_ATTEMPTS, StartOutcome};
use super::takeover::{self, Page, SignInMethod, Source};
use crate::context::Context;
use crate::error::Error;
use crate::model::Secret;
use crate::session::{NewSession, SessionManager};

/// Create an account
///
/// Stores the session if the server starts one. At a terminal, asks for the mailed
/// code; leave it blank to verify later.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer signup --browser
  rememberizer signup --email ann@example.com --name Ann --password-file pw.txt

Exit codes: 4 refused by the server, 5 unavailable, 6 secret store failed,
7 captcha required, 9 locked by another process")]
pub(crate) struct Args {
    /// E-mail address of the account
    #[arg(long, value_name = "ADDRESS", value_hint = clap::ValueHint::EmailAddress)]
    email: Option<String>,
    /// Name of the account
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    captcha: CaptchaArgs,
    /// Open a browser window to sign up, with a temporary browser profile (REMEMBERIZER_BROWSER names the browser)
    #[arg(long, help_heading = "Browser", value_name = "NAME|PATH", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with_all = ["email", "name", "password_stdin", "password_file", "captcha"])]
    browser: Option<OsString>,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    if let Some(browser) = &args.browser {
        let manager = sign_in::manager_with_writable_store(context, "signup")?;
        let source = Source::Browser(browser.clone());
        return takeover::run(context, &manager, &source, Page::SignUp);
    }
    let non_blank = |text: &Option<String>| {
        let text = text.as_deref()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let (email, name) = (non_blank(&args.email), non_blank(&args.name));
    let password = args.password.read(context)?;
    let mut missing = MissingInputs::default();
    missing.add_if(email.is_none(), "e-mail address", "--email ADDRESS");
    missing.add_if(name.is_none(), "name", "--name NAME");
    missing.add_if(password.is_none(), "password", &input::password_sources());
    missing.fail_unless_can_prompt(context)?;
    args.captcha.refuse_empty()?;
    let manager = sign_in::manager_with_writable_store(context, "signup")?;
    let has_no_input =
        email.is_none() && name.is_none() && password.is_none() && !args.captcha.is_given();
    if has_no_input
        && takeover::is_captcha_expected(context)
        && let SignInMethod::TakeOver(source) = takeover::ask_sign_in_method(context, Page::SignUp)?
    {
        return takeover::run(context, &manager, &source, Page::SignUp);
    }
    let mut inputs = Inputs {
        email,
        name,
        password,
    };
    let mut captcha_response = args.captcha.response();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (email, name, password) = inputs.prompt_for_missing(context)?;
        let outcome = sign_in::start_session_with_captcha(
            context,
            &manager,
            &mut captcha_response,
            Page::SignUp,
            email,
            |client, captcha| client.signup(email, password, name, captcha),
        );
        match outcome {
            Ok(StartOutcome::Accepted(new_session)) => {
                return report_signup(context, &manager, new_session, email);
            }
            Ok(StartOutcome::UseSource(source)) => {
                return takeover::run(context, &manager, &source, Page::SignUp);
            }
            Err(error) => {
                let can_ask = attempt < MAX_ATTEMPTS && context.terminal.can_prompt();
                if !can_ask || !inputs.clear_refused(&error) {
                    return Err(error);
                }
                sign_in::print_error_before_retry(context, error);
            }
        }
    }
}

/// The inputs of a signup. Prompts fill in those that are `None`.
struct Inputs {
    email: Option<String>,
    name: Option<String>,
    password: Option<Secret>,
}

impl Inputs {
    /// Prompts for the inputs that are missing, and returns all of them.
    fn prompt_for_missing(
        &mut self,
        context: &Context<'_>,
    ) -> Result<(&str, &str, &Secret), Error> {
        let terminal = context.terminal;
        let find_problem =
            |text: &str| (!text.contains('@')).then_some("an e-mail address contains an @");
        let email = match &mut self.email {
            Some(email) => email,
            none => {
                none.insert(terminal.ask_valid("E-mail address for Rememberizer", find_problem)?)
            }
        };
        let name = match &mut self.name {
            Some(name) => name,
            none => none.insert(terminal.ask("Your name at Rememberizer", None)?),
        };
        let password = match &mut self.password {
            Some(password) => password,
            none => none.insert(terminal.ask_secret_twice(
                "New password for Rememberizer",
                "The same Rememberizer password again",
            )?),
        };
        Ok((email, name, password))
    }

    /// Clears the inputs that the server refused. Returns whether it refused any.
    fn clear_refused(&mut self, error: &Error) -> bool {
        let refused = |name| sign_in::is_field_refused(error, name);
        let (email, name, password) = (refused("email"), refused("name"), refused("password"));
        if email {
            self.email = None;
        }
        if name {
            self.name = None;
        }
        if password {
            self.password = None;
        }
        email || name || password
    }
}

/// Reports the new account. At a terminal, asks for the mailed code.
fn report_signup(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    new_session: Option<NewSession>,
    email: &str,
) -> Result<(), Error> {
    let session = new_session.as_ref().map(|new_session| &new_session.session);
    let mut json = sign_in::new_session_json(manager, session, Some(email));
    let verified = confirm_and_ask_for_code(context, manager, new_session, email)?;
    report::warn_about_token_variables(context);
    if context.settings.json {
        json.insert("verified".into(), verified.into());
        context.terminal.print_json(Value::Object(json))?;
    }
    Ok(())
}

/// Prints the confirmation. If the server started no session, records the login in the
/// profile. If it did, asks for the mailed code at a terminal. Returns whether the e-mail
/// address is verified.
fn confirm_and_ask_for_code(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    new_session: Option<NewSession>,
    email: &str,
) -> Result<bool, Error> {
    let terminal = context.terminal;
    let Some(new_session) = new_session else {
        manager.update_profile(|profile| {
            profile.api_url = Some(manager.api_url.clone());
            profile.login = Some(email.to_owned());
            profile.store = Some(manager.store);
        })?;
        terminal.note(&format!(
            "{email} is signed up; a code was mailed. First run {}, then {}",
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
        let mut credential = manager.credential_from_session(new_session.session);
        if sign_in::ask_for_code(context, manager, &mut credential, Some(email))? {
            return Ok(true);
        }
    }
    terminal.note(&format!(
        "when you have the mailed code, run: {}",
        context.command_line("verify")
    ));
    Ok(false)
}
