//! What `login` and `signup` share: the ways to sign in other than with a
//! password, and the list that asks for one of them.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use zeroize::Zeroizing;

use super::{begin, input};
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::model::{CookieNames, Origin, PageUrl, RefreshToken, read_at_most};
use crate::session::SessionManager;
use crate::takeover::{self, CookieError, Found, Wanted};

/// The variable that names the browser.
#[cfg(unix)]
const BROWSER: &str = "REMEMBERIZER_BROWSER";

/// Maximum size of a text with cookies in bytes: a browser exports all that it has.
const MAX_COOKIES: u64 = 4 * 1024 * 1024;

/// A way to take over a session that exists, or that a browser begins.
pub(super) enum Source<'a> {
    /// A browser by name or path; if empty, the first one that is found.
    Browser(OsString),
    /// A file with cookies, or `-` for stdin.
    Cookies(&'a Path),
    /// Cookies that are pasted at the terminal.
    Paste,
    /// A file with a refresh token; `None` for stdin.
    RefreshToken(Option<&'a Path>),
}

/// The page that a browser opens.
#[derive(Clone, Copy)]
pub(super) enum Page<'a> {
    /// The sign-in page; this one if a flag names it.
    SignIn(Option<&'a str>),
    SignUp,
}

impl Page<'_> {
    #[cfg_attr(not(unix), expect(dead_code, reason = "no browser is opened there"))]
    fn url(self, context: &Context<'_>) -> Result<String, Failure> {
        let profile = context.profile();
        let (flag, key, recorded, default) = match self {
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
        let origin = &context.settings.origin;
        let default = Some(default).filter(|_| *origin == Origin::default());
        let known = flag.or(recorded.as_ref().map(PageUrl::as_str)).or(default);
        known.map(str::to_owned).ok_or_else(|| {
            let command = context.command_line(&format!("profile set {key} URL"));
            let (page, by_flag) = match self {
                Self::SignIn(_) => ("sign-in page", "give it with --sign-in-url URL, or "),
                Self::SignUp => ("sign-up page", ""),
            };
            Failure::usage(format!("the {page} of {} is not known", origin.host()))
                .hint(format!("{by_flag}record it: {command}"))
        })
    }
}

/// What the list offers.
pub(super) enum Choice {
    Source(Source<'static>),
    /// To go on here, with what is typed.
    Here,
}

/// Asks how to sign in. After a captcha stopped the run, going on here takes a response.
pub(super) fn choose(context: &Context<'_>, page: Page<'_>) -> Result<Choice, Error> {
    let (question, here) = match page {
        Page::SignIn(_) => ("How do you want to sign in?", "with e-mail and password"),
        Page::SignUp => (
            "How do you want to sign up?",
            "here, with a captcha response",
        ),
    };
    let mut items = vec!["in a browser window", here];
    if matches!(page, Page::SignIn(_)) {
        items.push("by pasting cookies");
    }
    Ok(match context.terminal.select(question, &items)? {
        0 => Choice::Source(Source::Browser(OsString::new())),
        1 => Choice::Here,
        _ => Choice::Source(Source::Paste),
    })
}

/// Whether the server is known to want a captcha response at login.
pub(super) fn wants_captcha(context: &Context<'_>) -> bool {
    let profile = context.profile();
    let is_same = profile.origin() == context.settings.origin;
    let recorded = profile.captcha.filter(|_| is_same);
    recorded.unwrap_or_else(|| context.settings.origin == Origin::default())
}

/// Takes over the session from its source and reports the login.
pub(super) fn run(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    source: &Source<'_>,
    page: Page<'_>,
) -> Result<(), Error> {
    let Found { value, names } = source.token(context, manager, page)?;
    let started = manager.take_over(RefreshToken::new(value), names)?;
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
    begin::confirm_login(context, manager, &started, login.as_deref())
}

impl Source<'_> {
    fn token(
        &self,
        context: &Context<'_>,
        manager: &SessionManager<'_>,
        page: Page<'_>,
    ) -> Result<Found, Error> {
        let name = context.profile().refresh_cookie;
        let wanted = Wanted {
            name: name.as_deref().unwrap_or(CookieNames::REFRESH),
            host: manager.origin.host(),
        };
        match self {
            Self::Browser(asked) => in_browser(context, asked, page, wanted),
            Self::Cookies(path) => {
                let text = read_cookies(context, path)?;
                Ok(takeover::find_cookie(&text, wanted).map_err(|e| from_cookies(context, e))?)
            }
            Self::Paste => {
                context.terminal.instruct(
                    "copy the cookies in the browser: as cURL, as a Cookie: header, as cookies.txt or as JSON",
                );
                let is_complete =
                    |text: &str| takeover::find_cookie(text.as_bytes(), wanted).is_ok();
                let prompt = "Paste them here, then press Enter (they are not shown)";
                let text = context.terminal.ask_paste(prompt, &is_complete)?;
                let found = takeover::find_cookie(text.as_bytes(), wanted);
                Ok(found.map_err(|e| from_cookies(context, e))?)
            }
            Self::RefreshToken(path) => Ok(Found {
                value: input::refresh_token(context, *path)?,
                names: None,
            }),
        }
    }
}

fn read_cookies(context: &Context<'_>, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (text, shown) = if path == Path::new("-") {
        (
            context.terminal.read_stdin(MAX_COOKIES + 1),
            "stdin".to_owned(),
        )
    } else {
        let text = File::open(path).and_then(|mut file| read_at_most(&mut file, MAX_COOKIES + 1));
        (text, path.display().to_string())
    };
    let text =
        text.map_err(|e| Failure::usage(format!("cannot read the cookies from {shown}: {e}")))?;
    if text.len() as u64 > MAX_COOKIES {
        return Err(Failure::usage(format!(
            "{shown} has more than {MAX_COOKIES} bytes"
        )));
    }
    Ok(text)
}

fn from_cookies(context: &Context<'_>, error: CookieError) -> Failure {
    let hint = match &error {
        CookieError::UnknownForm => {
            "copy a request to the API as cURL; a refresh token alone goes into --refresh-token-stdin".to_owned()
        }
        CookieError::Missing(_) | CookieError::Unusable(_) => format!(
            "sign in first, then copy; the cookie may have another name: {}",
            context.command_line("profile set refresh_cookie NAME")
        ),
        CookieError::Elsewhere { .. } => "copy a request that goes to the API itself".to_owned(),
    };
    let outcome = match &error {
        CookieError::Unusable(_) => Outcome::Usage,
        _ => Outcome::InputRequired,
    };
    Failure::new(outcome, error.to_string()).hint(hint)
}

#[cfg(unix)]
fn in_browser(
    context: &Context<'_>,
    asked: &OsString,
    page: Page<'_>,
    cookie: Wanted<'_>,
) -> Result<Found, Error> {
    use crate::settings::SECRET_VARIABLES;
    use takeover::{Browser, Event, SignIn};

    let url = page.url(context)?;
    let variable = &*context.host.variable;
    let asked = Some(asked.clone()).filter(|asked| !asked.is_empty());
    let asked = asked.or_else(|| variable(BROWSER).filter(|value| !value.is_empty()));
    let terminal = context.terminal;
    let find = || {
        let browser = Browser::find(asked.as_deref(), variable)?;
        SignIn {
            browser: &browser,
            url: &url,
            cookie,
            variable,
            private: &SECRET_VARIABLES,
            tell: &|event| match event {
                Event::Opening => {
                    terminal.instruct(&format!("a browser window opens: {url}"));
                    let enter = if terminal.can_prompt() {
                        ", or press Enter here"
                    } else {
                        ""
                    };
                    terminal.instruct(&format!("sign in there, then close the window{enter}"));
                }
                Event::SignedIn => terminal.instruct("you are signed in: close the window now"),
                Event::StillOpen => terminal
                    .instruct("the browser is still open: a page may ask whether to leave it"),
            },
            wait: &|timeout| terminal.wait_for_enter(timeout),
            on_end: &|act| context.interrupts.on_shutdown(act),
        }
        .run()
    };
    Ok(find().map_err(|error| from_browser(context, &error))?)
}

#[cfg(unix)]
fn from_browser(context: &Context<'_>, error: &takeover::BrowserError) -> Failure {
    use takeover::BrowserError as Error;
    let cookies = format!(
        "sign in in any browser and hand its cookies over: {}",
        context.command_line("login --cookies FILE")
    );
    let (outcome, hint) = match error {
        Error::NotFound(_) | Error::Unsupported(_) => {
            let choose = "choose another one with --browser=NAME or --browser=PATH";
            (Outcome::Failed, format!("{choose}, or {cookies}"))
        }
        Error::NoDisplay | Error::Directory(_) | Error::Unusable { .. } => {
            (Outcome::Failed, cookies)
        }
        Error::Crashed(_) | Error::ClosedEarly | Error::TimedOut => {
            let again = context.command_line("login --browser");
            (Outcome::NotSignedIn, format!("{again}; or {cookies}"))
        }
        Error::Cookie(error) => {
            let names = context.command_line("profile set refresh_cookie NAME");
            let hint = match error {
                CookieError::Elsewhere { .. } => format!(
                    "is the API URL right? {}",
                    context.command_line("profile show")
                ),
                _ => format!("the cookie may have another name: {names}"),
            };
            (Outcome::Failed, hint)
        }
    };
    Failure::new(outcome, error.to_string()).hint(hint)
}

#[cfg(not(unix))]
fn in_browser(
    context: &Context<'_>,
    _asked: &OsString,
    _page: Page<'_>,
    _cookie: Wanted<'_>,
) -> Result<Found, Error> {
    let text = "signing in in a browser window is not supported on this system";
    Err(Failure::new(Outcome::Failed, text)
        .hint(format!(
            "sign in in any browser and hand its cookies over: {}",
            context.command_line("login --cookies FILE")
        ))
        .into())
}
