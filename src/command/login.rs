//! `login`: begins a session, with a password or from a refresh token.

use std::path::PathBuf;

use super::begin;
use super::captcha::CaptchaArgs;
use super::input::{self, Missing, PasswordArgs};
use crate::context::Context;
use crate::error::Error;
use crate::model::RefreshToken;
use crate::session::SessionError;

/// Start a session
///
/// Asks for the login and the password, or takes a session over from a refresh
/// token, and keeps it in the OS keyring.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer login ann@example.com
  rememberizer login --profile ci --refresh-token-stdin < token.txt

Exit codes: 4 refused by the server, 5 unavailable, 6 the secret store, 7 a captcha is wanted")]
pub struct Args {
    /// E-mail address or user name
    #[arg(value_name = "LOGIN", conflicts_with_all = ["refresh_token_stdin", "refresh_token_file"])]
    pub login: Option<String>,
    /// Where the password comes from.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Where the captcha response comes from.
    #[command(flatten)]
    pub captcha: CaptchaArgs,
    /// Take over the session of the refresh token on stdin
    #[arg(long, help_heading = "Refresh token", conflicts_with_all = ["password_stdin", "password_file", "captcha", "captcha_browser"])]
    pub refresh_token_stdin: bool,
    /// Take over the session of the refresh token in a file
    #[arg(long, help_heading = "Refresh token", value_name = "PATH", conflicts_with_all = ["refresh_token_stdin", "password_stdin", "password_file", "captcha", "captcha_browser"], value_hint = clap::ValueHint::FilePath)]
    pub refresh_token_file: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    if args.refresh_token_stdin || args.refresh_token_file.is_some() {
        return take_over(args, context);
    }
    let password = args.password.given(context)?;
    let login = args.login.clone().filter(|login| !login.trim().is_empty());
    let mut missing = Missing::default();
    missing.note(login.is_none(), "login", "LOGIN as an argument");
    missing.note(password.is_none(), "password", &input::password_ways());
    missing.check(context)?;
    args.captcha.check(context)?;
    let manager = begin::choose_store(context)?;

    let offered = context.profile().login;
    let login = match login {
        Some(login) => login.trim().to_owned(),
        None => context.terminal.ask(
            "Rememberizer login (e-mail or user name)",
            offered.as_deref(),
        )?,
    };
    let password = match password {
        Some(password) => password,
        None => context
            .terminal
            .ask_secret(&format!("Rememberizer password for {login}"))?,
    };
    let started = begin::begin(
        context,
        &manager,
        &args.captcha,
        &login,
        |client, captcha| client.signin(&login, &password, captcha),
    )?
    .ok_or(SessionError::NoToken {
        missing: "refresh token",
    })?;
    begin::confirm_login(context, &manager, &started, Some(&login))
}

/// Takes over the session of a refresh token.
fn take_over(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let manager = begin::choose_store(context)?;
    let refresh = match &args.refresh_token_file {
        Some(path) => input::from_file(path, "refresh token")?,
        None => input::from_stdin(context, "refresh token")?,
    };
    let started = manager.take_over(RefreshToken::new(refresh))?;
    begin::report_replaced(context, &started.replaced);
    let login = started.session.access.as_ref().and_then(|access| {
        let _waiting = context.terminal.spin("waiting for the server");
        match manager.client.account(&access.value) {
            Ok(account) => Some(account.get("email")?.as_str()?.to_owned()),
            // The session is good all the same.
            Err(error) => {
                context
                    .terminal
                    .verbose(&format!("the account could not be asked for: {error}"));
                None
            }
        }
    });
    if let Some(login) = &login {
        manager.record(|profile| profile.login = Some(login.clone()))?;
    }
    begin::confirm_login(context, &manager, &started, login.as_deref())
}
