//! The pages on which people sign in with a browser: `/sign-in` and `/sign-up`. They are not below
//! the API's base path. Their query has these parameters:
//!
//! - `account=LOGIN` signs in without a password and closes the window.
//! - `stay` leaves the window open after that, and `then=URL` opens the URL instead.
//! - `ask` makes the browser ask before it closes the window.
//! - `close` closes the window at once.
//! - `many` sets so many cookies that Chromium writes all cookies to disk at once, instead of after
//!   30 s.
//!
//! `/sign-in/elsewhere?URL` sets a cookie with the refresh cookie's name for the host in the
//! request, and redirects to the URL.

use super::Shared;
use super::cookies;
use super::record::RecordedRequest;
use super::reply::{Body, Reply};

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>TITLE</title>
<body style="font: 1.2em sans-serif; margin: 3em auto; max-width: 20em">
<h1>TITLE</h1>
<form method="post">
<p><label>E-mail <input name="login" autofocus></label>
<p><label>Password <input name="password" type="password"></label>
<p><button>TITLE</button>
</form>
<script>
const query = new URLSearchParams(location.search);
const blocked = event => event.preventDefault();
if (query.has('ask')) addEventListener('beforeunload', blocked);
if (query.has('close')) window.close();
if (query.has('many')) for (let n = 0; n < 512; n++) document.cookie = `c${n}=; Max-Age=600`;
if (query.has('account')) fetch(location.pathname, {
  method: 'POST',
  headers: {'Content-Type': 'application/x-www-form-urlencoded'},
  body: query,
}).then(() => {
  if (query.has('then')) location = query.get('then');
  else if (!query.has('stay')) window.close();
});
</script>
"#;

const SIGNED_IN_PAGE: &str =
    "<!doctype html><title>Signed in</title><h1>Signed in</h1><p>The window can be closed.";

/// Handles a request for one of the pages. Returns `None` for other paths.
pub fn respond(shared: &mut Shared, request: &RecordedRequest) -> Option<Reply> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let title = match path {
        "/sign-in" => "Sign in",
        "/sign-up" => "Sign up",
        "/sign-in/elsewhere" => {
            let name = &shared.settings.refresh_cookie;
            let cookie = format!("{name}=elsewhere; Path=/; Max-Age=600");
            return Some(
                Reply::empty(303)
                    .header("Location", query)
                    .cookies(vec![cookie]),
            );
        }
        _ => return None,
    };
    if request.method != "POST" {
        return Some(html(200, &PAGE.replace("TITLE", title)));
    }
    let body = String::from_utf8_lossy(&request.body);
    let field = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(body.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let account = match field("account") {
        Some(login) => shared.state.account_by_login(&login),
        None => {
            let account = shared
                .state
                .account_by_login(&field("login").unwrap_or_default());
            account.filter(|account| Some(&account.password) == field("password").as_ref())
        }
    };
    let Some(account) = account else {
        return Some(html(
            403,
            "<!doctype html><title>No</title><h1>Wrong password</h1>",
        ));
    };
    let tokens = shared.state.begin_session(account.id, &shared.settings);
    Some(html(200, SIGNED_IN_PAGE).cookies(cookies::set(&tokens, &shared.settings)))
}

fn html(status: u16, text: &str) -> Reply {
    Reply::new(status, Body::Bytes(text.as_bytes().to_vec()))
        .header("Content-Type", "text/html; charset=utf-8")
}
