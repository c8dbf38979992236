//! `login`: begins a session with a password, or takes one over.

use std::ffi::OsString;
use std::path::PathBuf;

use super::begin::{self, ATTEMPTS, Begun};
use super::captcha::CaptchaArgs;
use super::input::{self, Missing, PasswordArgs};
use super::takeover::{self, Choice, Page, Source};
use crate::context::Context;
use crate::error::Error;
use crate::model::{PageUrl, Secret};
use crate::session::{SessionError, SessionManager};

/// Sign in
///
/// At a terminal, asks how to sign in if the server is known to require a captcha,
/// otherwise for login and password. Stores the session in the OS keyring.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer login --browser
  rememberizer login --profile ci --refresh-token-stdin < token.txt

Exit codes: 3 the browser was closed without signing in, 4 refused by the
server, 5 unavailable, 6 secret store failed, 7 captcha required")]
pub(crate) struct Args {
    /// E-mail address or user name
    #[arg(value_name = "LOGIN", conflicts_with = "source")]
    login: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    captcha: CaptchaArgs,
    #[command(flatten)]
    source: SourceArgs,
}

/// Where a session to take over comes from.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Browser")]
struct SourceArgs {
    /// Open a browser window to sign in, with a temporary browser profile (REMEMBERIZER_BROWSER names the browser)
    #[arg(long, value_name = "NAME|PATH", num_args = 0..=1, require_equals = true, default_missing_value = "", group = "source", conflicts_with_all = WITH_PASSWORD)]
    browser: Option<OsString>,
    /// Page to open in the browser [default: the profile's sign_in_url]
    #[arg(long, value_name = "URL", conflicts_with_all = ["cookies", "refresh_token_stdin", "refresh_token_file"])]
    sign_in_url: Option<PageUrl>,
    /// Take over a browser's session: read its cookies from a file, or from stdin (-)
    #[arg(long, value_name = "FILE|-", group = "source", conflicts_with_all = WITH_PASSWORD, value_hint = clap::ValueHint::FilePath)]
    cookies: Option<PathBuf>,
    /// Take over a session: read its refresh token from stdin
    #[arg(long, help_heading = "Refresh token", group = "source", conflicts_with_all = WITH_PASSWORD)]
    refresh_token_stdin: bool,
    /// Take over a session: read its refresh token from a file
    #[arg(long, help_heading = "Refresh token", value_name = "PATH", group = "source", conflicts_with_all = WITH_PASSWORD, value_hint = clap::ValueHint::FilePath)]
    refresh_token_file: Option<PathBuf>,
}

/// What belongs to a login with a password.
const WITH_PASSWORD: [&str; 3] = ["password_stdin", "password_file", "captcha"];

impl SourceArgs {
    fn source(&self) -> Option<Source<'_>> {
        match self {
            Self {
                browser: Some(browser),
                ..
            } => Some(Source::Browser(browser.clone())),
            Self {
                cookies: Some(path),
                ..
            } => Some(Source::Cookies(path)),
            Self {
                refresh_token_file: Some(path),
                ..
            } => Some(Source::RefreshToken(Some(path))),
            Self {
                refresh_token_stdin: true,
                ..
            } => Some(Source::RefreshToken(None)),
            _ => None,
        }
    }
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let page = Page::SignIn(args.source.sign_in_url.as_ref().map(PageUrl::as_str));
    if let Some(source) = args.source.source() {
        let manager = begin::choose_store(context)?;
        return takeover::run(context, &manager, &source, page);
    }
    let password = args.password.given(context)?;
    let login = args.login.clone().filter(|login| !login.trim().is_empty());
    let mut missing = Missing::default();
    missing.note(login.is_none(), "login", "LOGIN as an argument");
    missing.note(password.is_none(), "password", &input::password_ways());
    missing.check(context)?;
    args.captcha.check()?;
    let manager = begin::choose_store(context)?;
    if password.is_none()
        && args.captcha.captcha.is_none()
        && takeover::wants_captcha(context)
        && let Choice::Source(source) = takeover::choose(context, page)?
    {
        return takeover::run(context, &manager, &source, page);
    }
    with_password(args, context, &manager, page, password)
}

/// Asks for what is missing, and again for what the server refuses.
fn with_password(
    args: &Args,
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    page: Page<'_>,
    mut given: Option<Secret>,
) -> Result<(), Error> {
    let terminal = context.terminal;
    let mut response = args.captcha.response();
    let mut login = args
        .login
        .as_deref()
        .map(str::trim)
        .filter(|login| !login.is_empty())
        .map(str::to_owned);
    let mut offered = context.profile().login;
    for attempt in 1.. {
        let asked = given.is_none();
        let name = match login.take() {
            Some(login) => login,
            None => terminal.ask(
                "Rememberizer login (e-mail or user name)",
                offered.as_deref(),
            )?,
        };
        let password = match given.take() {
            Some(password) => password,
            None => terminal.ask_secret(&format!("Rememberizer password for {name}"))?,
        };
        let begun = begin::begin(
            context,
            manager,
            &mut response,
            page,
            &name,
            |client, captcha| client.signin(&name, &password, captcha),
        );
        match begun {
            Ok(Begun::Accepted(started)) => {
                let missing = "refresh token";
                let started = started.ok_or(SessionError::NoToken { missing })?;
                return begin::confirm_login(context, manager, &started, Some(&name));
            }
            Ok(Begun::Instead(source)) => return takeover::run(context, manager, &source, page),
            Err(error) if asked && attempt < ATTEMPTS && begin::is_refused(&error) => {
                begin::report_refused(context, error);
                offered = Some(name);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
