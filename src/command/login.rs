//! `login`: starts a session with a password, or takes over an existing session.

use std::ffi::OsString;
use std::path::PathBuf;

use super::captcha::CaptchaArgs;
use super::input::{self, InputSource, MissingInputs, PasswordArgs};
use super::sign_in::{self, MAX_ATTEMPTS, StartOutcome};
use super::takeover::{self, Page, SignInMethod, Source};
use crate::context::Context;
use crate::error::Error;
use crate::model::{PageUrl, Secret};
use crate::session::{SessionError, SessionManager, TokenKind};

/// Sign in
///
/// At a terminal, prompts for the missing inputs. If the server is known to require a
/// captcha, asks first how to sign in. Stores the session in the OS keyring, or in the
/// store that --store names.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer login --browser
  rememberizer login --profile ci --refresh-token-stdin < token.txt

Exit codes: 3 the browser was closed without signing in, 4 refused by the
server, 5 unavailable, 6 secret store failed, 7 captcha required, 9 locked by
another process")]
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

/// The source of a session to take over.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Browser")]
struct SourceArgs {
    /// Open a browser window to sign in, with a temporary browser profile (REMEMBERIZER_BROWSER names the browser)
    #[arg(long, value_name = "NAME|PATH", num_args = 0..=1, require_equals = true, default_missing_value = "", group = "source", conflicts_with_all = PASSWORD_LOGIN_FLAGS)]
    browser: Option<OsString>,
    /// Page to open in the browser [default: the profile's sign_in_url]
    #[arg(long, value_name = "URL", conflicts_with_all = ["cookies", "refresh_token_stdin", "refresh_token_file"])]
    sign_in_url: Option<PageUrl>,
    /// Take over a browser's session: read its cookies from a file, or from stdin (-)
    #[arg(long, value_name = "FILE|-", group = "source", conflicts_with_all = PASSWORD_LOGIN_FLAGS, value_hint = clap::ValueHint::FilePath)]
    cookies: Option<PathBuf>,
    /// Take over a session: read its refresh token from stdin
    #[arg(long, help_heading = "Refresh token", group = "source", conflicts_with_all = PASSWORD_LOGIN_FLAGS)]
    refresh_token_stdin: bool,
    /// Take over a session: read its refresh token from a file
    #[arg(long, help_heading = "Refresh token", value_name = "PATH", group = "source", conflicts_with_all = PASSWORD_LOGIN_FLAGS, value_hint = clap::ValueHint::FilePath)]
    refresh_token_file: Option<PathBuf>,
}

/// Flags of a login with a password.
const PASSWORD_LOGIN_FLAGS: [&str; 3] = ["password_stdin", "password_file", "captcha"];

impl SourceArgs {
    fn source(&self) -> Option<Source<'_>> {
        if let Some(browser) = &self.browser {
            Some(Source::Browser(browser.clone()))
        } else if let Some(path) = &self.cookies {
            Some(Source::Cookies(InputSource::from_arg(path)))
        } else if let Some(path) = &self.refresh_token_file {
            Some(Source::RefreshToken(InputSource::File(path)))
        } else if self.refresh_token_stdin {
            Some(Source::RefreshToken(InputSource::Stdin))
        } else {
            None
        }
    }
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let page = Page::SignIn(args.source.sign_in_url.as_ref().map(PageUrl::as_str));
    if let Some(source) = args.source.source() {
        let manager = sign_in::manager_with_writable_store(context, "login")?;
        return takeover::run(context, &manager, &source, page);
    }
    let password = args.password.read(context)?;
    let login = args.login.as_deref().map(str::trim);
    let login = login.filter(|login| !login.is_empty());
    let mut missing = MissingInputs::default();
    missing.add_if(login.is_none(), "login", "LOGIN as an argument");
    missing.add_if(password.is_none(), "password", &input::password_sources());
    missing.fail_unless_can_prompt(context)?;
    args.captcha.refuse_empty()?;
    let manager = sign_in::manager_with_writable_store(context, "login")?;
    if password.is_none()
        && !args.captcha.is_given()
        && takeover::is_captcha_expected(context)
        && let SignInMethod::TakeOver(source) = takeover::ask_sign_in_method(context, page)?
    {
        return takeover::run(context, &manager, &source, page);
    }
    log_in_with_password(
        context,
        &manager,
        page,
        login.map(str::to_owned),
        password,
        args.captcha.response(),
    )
}

/// Logs in with login and password. Prompts for the inputs that are missing. If the server
/// refuses a password that was entered at a prompt, prompts again.
fn log_in_with_password(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    page: Page<'_>,
    mut given_login: Option<String>,
    mut given_password: Option<Secret>,
    mut captcha_response: Option<Secret>,
) -> Result<(), Error> {
    let terminal = context.terminal;
    let mut suggested_login = context.profile().login;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let is_password_prompted = given_password.is_none();
        let login = match given_login.take() {
            Some(login) => login,
            None => terminal.ask(
                "Rememberizer login (e-mail or user name)",
                suggested_login.as_deref(),
            )?,
        };
        let password = match given_password.take() {
            Some(password) => password,
            None => terminal.ask_secret(&format!("Rememberizer password for {login}"))?,
        };
        let outcome = sign_in::start_session_with_captcha(
            context,
            manager,
            &mut captcha_response,
            page,
            &login,
            |client, captcha| client.signin(&login, &password, captcha),
        );
        match outcome {
            Ok(StartOutcome::Accepted(new_session)) => {
                let new_session = new_session.ok_or(SessionError::NoToken(TokenKind::Refresh))?;
                return sign_in::print_login_confirmation(
                    context,
                    manager,
                    &new_session,
                    Some(&login),
                );
            }
            Ok(StartOutcome::UseSource(source)) => {
                return takeover::run(context, manager, &source, page);
            }
            Err(error)
                if is_password_prompted
                    && attempt < MAX_ATTEMPTS
                    && sign_in::is_input_refused(&error) =>
            {
                sign_in::print_error_before_retry(context, error);
                suggested_login = Some(login);
            }
            Err(error) => return Err(error),
        }
    }
}
