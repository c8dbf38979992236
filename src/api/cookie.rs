//! Reads tokens from `Set-Cookie` headers: which cookie is which, whether it is
//! set or cleared, and its lifetime.
//!
//! There is no cookie jar: a cookie that is not one of the two tokens is ignored.
//! Names are compared with their prefixes, such as `__Host-`, since a cookie is
//! sent back under the name that it came with. `Path` and `Secure` tell
//! a browser where to send a cookie; here every endpoint is known beforehand.

use cookie::Cookie;

use crate::model::{
    AccessToken, CookieNames, Expiry, Grant, RefreshToken, Secret, Token, domain_matches,
    validate_token_text,
};

use super::jwt;
use super::received_at::ReceivedAt;

/// Cookies of the web framework, which are never tokens.
const FOREIGN: [&str; 2] = ["sessionid", "csrftoken"];

/// What is needed to read the cookies of one response.
pub(super) struct CookieReader<'a> {
    /// The host of the request, without its port.
    pub(super) host: &'a str,
    pub(super) names: &'a CookieNames,
    pub(super) received_at: ReceivedAt,
    /// Logs a decision, never a value.
    pub(super) log: &'a dyn Fn(&str),
}

/// The text of a token and its lifetime in milliseconds. `None` if it was cleared.
type Value = Option<(Secret, Option<i64>)>;

impl CookieReader<'_> {
    /// Reads the tokens in the `Set-Cookie` headers of one response.
    pub(super) fn grant<'h>(&self, headers: impl Iterator<Item = &'h [u8]>) -> Grant {
        let mut cookies: Vec<(String, Value)> = Vec::new();
        for header in headers {
            // A header that cannot be parsed must not cost the tokens in the others.
            let cookie = std::str::from_utf8(header).ok();
            let Some(cookie) = cookie.and_then(|text| Cookie::parse(text).ok()) else {
                (self.log)("ignoring a cookie that cannot be parsed");
                continue;
            };
            let name = cookie.name();
            if !self.is_for_us(&cookie) {
                (self.log)(&format!(
                    "ignoring cookie {name}, which is for another host"
                ));
            } else if !FOREIGN.contains(&name) {
                // The last cookie of a name wins, as in a browser.
                cookies.retain(|(other, _)| other != name);
                cookies.push((name.to_owned(), self.read(&cookie)));
            }
        }
        let mut access = take(&mut cookies, &self.names.access);
        let mut refresh = take(&mut cookies, &self.names.refresh);
        let cookie_names = match (&access, &refresh) {
            (None, None) => {
                let set = cookies.iter().filter(|(_, value)| value.is_some());
                CookieNames::find_pair(set.map(|(name, _)| name.as_str()))
            }
            _ => None,
        };
        if let Some(names) = &cookie_names {
            let (a, r) = (&names.access, &names.refresh);
            (self.log)(&format!("taking the tokens from cookies {a} and {r}"));
            access = take(&mut cookies, a);
            refresh = take(&mut cookies, r);
        }
        let access = access.unwrap_or_else(|| self.only_jwt(cookies));
        Grant {
            access: access.map(|(text, lifetime)| self.token(AccessToken::new(text), lifetime)),
            refresh: refresh
                .flatten()
                .map(|(text, lifetime)| self.token(RefreshToken::new(text), lifetime)),
            skew: self.received_at.skew(),
            cookie_names,
        }
    }

    /// Takes the only cookie with the form of an access token.
    fn only_jwt(&self, mut cookies: Vec<(String, Value)>) -> Value {
        let is_jwt = |value: &Value| {
            value
                .as_ref()
                .is_some_and(|(text, _)| jwt::is_jwt(text.expose()))
        };
        cookies.retain(|(_, value)| is_jwt(value));
        let (name, value) = cookies.pop()?;
        if !cookies.is_empty() {
            (self.log)("several cookies may be the access token; ignoring them");
            return None;
        }
        (self.log)(&format!("taking the access token from cookie {name}"));
        value
    }

    /// Whether the cookie's `Domain` covers the host (RFC 6265 §5.3, step 6).
    fn is_for_us(&self, cookie: &Cookie<'_>) -> bool {
        let Some(domain) = cookie.domain().filter(|domain| !domain.is_empty()) else {
            return true;
        };
        let bare = |host| str::trim_matches(host, ['[', ']']);
        domain_matches(bare(self.host), bare(domain))
    }

    fn read(&self, cookie: &Cookie<'_>) -> Value {
        // Django clears a cookie with the two characters `""` as its value.
        let value = cookie.value_trimmed();
        let now = self.received_at.server_now();
        // Max-Age overrides Expires (RFC 6265 §4.1.2.2), which is on the server's clock.
        let stated = match (cookie.max_age(), cookie.expires_datetime()) {
            (Some(age), _) => Some(age.whole_seconds().saturating_mul(1000)),
            (None, Some(end)) => Some(
                end.unix_timestamp()
                    .saturating_mul(1000)
                    .saturating_sub(now.millis()),
            ),
            (None, None) => None,
        };
        if value.is_empty() || stated.is_some_and(|lifetime| lifetime <= 0) {
            return None;
        }
        let text = validate_token_text(value)
            .inspect_err(|why| {
                (self.log)(&format!("ignoring cookie {}, which {why}", cookie.name()))
            })
            .ok()?;
        let lifetime = stated.or_else(|| jwt::lifetime(text, now));
        Some((Secret::new(text.to_owned()), lifetime))
    }

    pub(super) fn token<T>(&self, value: T, lifetime: Option<i64>) -> Token<T> {
        Token {
            value,
            expiry: Expiry::new(self.received_at.local, lifetime),
        }
    }
}

fn take(cookies: &mut Vec<(String, Value)>, name: &str) -> Option<Value> {
    let at = cookies.iter().position(|(other, _)| other == name)?;
    Some(cookies.swap_remove(at).1)
}

/// The name of a cookie, if it can be logged.
pub(super) fn loggable_name(header: &[u8]) -> Option<&str> {
    let end = header.iter().position(|b| *b == b'=')?;
    let name = std::str::from_utf8(header.get(..end)?).ok()?.trim();
    let is_plain = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    is_plain.then_some(name)
}

#[cfg(test)]
mod tests;
