//! Takes over a session from a browser, from cookies or from a refresh token, for `login`
//! and `signup`.

use std::ffi::OsString;

use super::input::InputSource;
use super::sign_in;
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::model::{ApiUrl, CookieNames, PageUrl, RefreshToken};
use crate::session::SessionManager;
use crate::takeover::{self, CookieError, FoundCookie, WantedCookie};

/// The variable that names the browser to use.
#[cfg(unix)]
const BROWSER_VARIABLE: &str = "REMEMBERIZER_BROWSER";

/// Maximum size of a text with cookies. An export may have the cookies of all sites.
const MAX_COOKIES_BYTES: u64 = 4 * 1024 * 1024;

/// The source of a session to take over.
pub(super) enum Source<'a> {
    /// Sign in in a browser, given by name or path. If empty, use the first installed browser.
    Browser(OsString),
    /// A text with cookies.
    Cookies(InputSource<'a>),
    /// Cookies that the user pastes at the terminal.
    Paste,
    /// A line with a refresh token.
    RefreshToken(InputSource<'a>),
}

/// The page that the browser opens.
#[derive(Clone, Copy)]
pub(super) enum Page<'a> {
    /// The sign-in page. Holds the URL of `--sign-in-url`, if that is set.
    SignIn(Option<&'a str>),
    SignUp,
}

impl Page<'_> {
    /// Returns the URL from the flag, the profile, or the default for the default server.
    #[cfg_attr(
        not(unix),
        expect(dead_code, reason = "only the Unix code opens a browser")
    )]
    fn url(self, context: &Context<'_>) -> Result<String, Failure> {
        let profile = context.profile();
        let (flag, key, profile_url, default) = match self {
            Self::SignIn(flag) => (
                flag,
                "sign_in_url",
                profile.sign_in_url,
                "https://rememberizer.ai/sign-in",
            ),
            Self::SignUp => (
                None,
                "sign_up_url",
                profile.sign_up_url,
                "https://rememberizer.ai/sign-up",
            ),
        };
        let api_url = &context.settings.api_url;
        let default = Some(default).filter(|_| *api_url == ApiUrl::default());
        let url = flag
            .or(profile_url.as_ref().map(PageUrl::as_str))
            .or(default);
        url.map(str::to_owned).ok_or_else(|| {
            let command = context.command_line(&format!("profile set {key} URL"));
            let (page, flag_hint) = match self {
                Self::SignIn(_) => ("sign-in page", "give it with --sign-in-url URL, or "),
                Self::SignUp => ("sign-up page", ""),
            };
            Failure::usage(format!(
                "the {page} of {} is not known",
                api_url.host_and_port()
            ))
            .with_hint(format!("{flag_hint}record it: {command}"))
        })
    }
}

/// How the user wants to sign in or sign up.
pub(super) enum SignInMethod {
    TakeOver(Source<'static>),
    /// Enter the login and password, or a captcha response, at the terminal.
    EnterHere,
}

/// Asks how to sign in or sign up.
pub(super) fn ask_sign_in_method(
    context: &Context<'_>,
    page: Page<'_>,
) -> Result<SignInMethod, Error> {
    let (question, enter_here) = match page {
        Page::SignIn(_) => ("How do you want to sign in?", "with e-mail and password"),
        Page::SignUp => (
            "How do you want to sign up?",
            "here, with a captcha response",
        ),
    };
    let mut items = vec!["in a browser window", enter_here];
    if matches!(page, Page::SignIn(_)) {
        items.push("by pasting cookies");
    }
    Ok(match context.terminal.select(question, &items)? {
        0 => SignInMethod::TakeOver(Source::Browser(OsString::new())),
        1 => SignInMethod::EnterHere,
        _ => SignInMethod::TakeOver(Source::Paste),
    })
}

/// Returns whether to expect that the server requires a captcha response at login: the
/// profile records this, or nothing is recorded and the server is the default server.
pub(super) fn is_captcha_expected(context: &Context<'_>) -> bool {
    let profile = context.profile();
    let is_same_api_url = profile.api_url_or_default() == context.settings.api_url;
    let recorded = profile.captcha.filter(|_| is_same_api_url);
    recorded.unwrap_or_else(|| context.settings.api_url == ApiUrl::default())
}

/// Takes over the session from `source` and reports the login.
pub(super) fn run(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    source: &Source<'_>,
    page: Page<'_>,
) -> Result<(), Error> {
    let FoundCookie { value, names } = source.read_token(context, manager, page)?;
    let new_session = manager.take_over(RefreshToken::new(value), names)?;
    sign_in::report_replaced_sessions(context, &new_session.revocations);
    let login = new_session.session.access.as_ref().and_then(|access| {
        let _waiting = context.terminal.spin("waiting for the server");
        match manager.client.account(&access.value) {
            Ok(account) => Some(account.get("email")?.as_str()?.to_owned()),
            // Continue: the session is stored, and only its login stays unknown.
            Err(error) => {
                context
                    .terminal
                    .verbose(&format!("cannot get the account: {error}"));
                None
            }
        }
    });
    if let Some(login) = &login {
        manager.update_profile(|profile| profile.login = Some(login.clone()))?;
    }
    sign_in::print_login_confirmation(context, manager, &new_session, login.as_deref())
}

impl Source<'_> {
    /// Returns the refresh token, and the cookie names if they are known.
    fn read_token(
        &self,
        context: &Context<'_>,
        manager: &SessionManager<'_>,
        page: Page<'_>,
    ) -> Result<FoundCookie, Error> {
        let name = context.profile().refresh_cookie;
        let wanted = WantedCookie {
            name: name.as_deref().unwrap_or(CookieNames::DEFAULT_REFRESH),
            host: manager.api_url.host_and_port(),
        };
        match self {
            Self::Browser(browser) => sign_in_with_browser(context, browser, page, wanted),
            Self::Cookies(source) => {
                let text = source.read(context, "cookies", MAX_COOKIES_BYTES)?;
                Ok(takeover::find_cookie(&text, wanted).map_err(|e| map_cookie_err(context, e))?)
            }
            Self::Paste => {
                context.terminal.print_instruction(
                    "copy the cookies in the browser: as cURL, as a Cookie: header, as cookies.txt or as JSON",
                );
                let is_complete =
                    |text: &str| takeover::find_cookie(text.as_bytes(), wanted).is_ok();
                let prompt = "Paste them here, then press Enter (they are not shown)";
                let text = context.terminal.ask_paste(prompt, &is_complete)?;
                let found = takeover::find_cookie(text.as_bytes(), wanted);
                Ok(found.map_err(|e| map_cookie_err(context, e))?)
            }
            Self::RefreshToken(source) => Ok(FoundCookie {
                value: source.read_refresh_token(context)?,
                names: None,
            }),
        }
    }
}

fn map_cookie_err(context: &Context<'_>, error: CookieError) -> Failure {
    let hint = match &error {
        CookieError::UnknownFormat => {
            "copy a request to the API as cURL; for a refresh token, use --refresh-token-stdin"
                .to_owned()
        }
        CookieError::Missing(_) | CookieError::InvalidValue(_) => format!(
            "sign in before you copy the cookies; if the cookie has another name, run: {}",
            context.command_line("profile set refresh_cookie NAME")
        ),
        CookieError::OtherHost { .. } => {
            "copy a request that the browser sent to the API".to_owned()
        }
    };
    let outcome = match &error {
        CookieError::InvalidValue(_) => Outcome::Usage,
        _ => Outcome::InputRequired,
    };
    Failure::new(outcome, error.to_string()).with_hint(hint)
}

#[cfg(unix)]
fn sign_in_with_browser(
    context: &Context<'_>,
    browser: &OsString,
    page: Page<'_>,
    cookie: WantedCookie<'_>,
) -> Result<FoundCookie, Error> {
    use crate::settings::SECRET_VARIABLES;
    use takeover::{Browser, Event, SignIn};

    let url = page.url(context)?;
    let env = &*context.host.read_variable;
    let flag = Some(browser.clone()).filter(|browser| !browser.is_empty());
    let requested = flag.or_else(|| env(BROWSER_VARIABLE).filter(|value| !value.is_empty()));
    let terminal = context.terminal;
    let run = || {
        let browser = Browser::find(requested.as_deref(), env)?;
        SignIn {
            browser: &browser,
            url: &url,
            cookie,
            env,
            secret_variables: &SECRET_VARIABLES,
            on_event: &|event| match event {
                Event::Opening => {
                    terminal.print_instruction(&format!("a browser window opens: {url}"));
                    let or_enter = if terminal.can_prompt() {
                        ", or press Enter here"
                    } else {
                        ""
                    };
                    terminal.print_instruction(&format!(
                        "sign in there, then close the window{or_enter}"
                    ));
                }
                Event::SignedIn => {
                    terminal.print_instruction("you are signed in: close the window now")
                }
                Event::StillOpen => terminal.print_instruction(
                    "the browser is still open: a page may ask whether to leave it",
                ),
            },
            wait_for_enter: &|timeout| terminal.wait_for_enter(timeout),
            on_shutdown: &|action| context.interrupts.on_shutdown(action),
        }
        .run()
    };
    Ok(run().map_err(|error| map_browser_err(context, &error))?)
}

fn cookies_hint(context: &Context<'_>) -> String {
    format!(
        "sign in in any browser, save its cookies to a file and run: {}",
        context.command_line("login --cookies FILE")
    )
}

#[cfg(unix)]
fn map_browser_err(context: &Context<'_>, error: &takeover::BrowserError) -> Failure {
    use takeover::BrowserError;

    let use_cookies = cookies_hint(context);
    let (outcome, hint) = match error {
        BrowserError::NotFound(_) | BrowserError::Unsupported(_) => {
            let choose_browser = "choose another browser with --browser=NAME or --browser=PATH";
            (
                Outcome::Failed,
                format!("{choose_browser}; or {use_cookies}"),
            )
        }
        BrowserError::NoDisplay | BrowserError::TempProfile(_) | BrowserError::Unusable { .. } => {
            (Outcome::Failed, use_cookies)
        }
        BrowserError::Crashed(_) | BrowserError::ClosedEarly | BrowserError::TimedOut => {
            let retry = context.command_line("login --browser");
            (Outcome::NotSignedIn, format!("{retry}; or {use_cookies}"))
        }
        BrowserError::Cookie(error) => {
            let set_name = context.command_line("profile set refresh_cookie NAME");
            let hint = match error {
                CookieError::OtherHost { .. } => format!(
                    "check the API URL: {}",
                    context.command_line("profile show")
                ),
                _ => format!("if the cookie has another name, run: {set_name}"),
            };
            (Outcome::Failed, hint)
        }
    };
    Failure::new(outcome, error.to_string()).with_hint(hint)
}

#[cfg(not(unix))]
fn sign_in_with_browser(
    context: &Context<'_>,
    _browser: &OsString,
    _page: Page<'_>,
    _cookie: WantedCookie<'_>,
) -> Result<FoundCookie, Error> {
    let text = "signing in in a browser window is not supported on this system";
    Err(Failure::new(Outcome::Failed, text)
        .with_hint(cookies_hint(context))
        .into())
}
