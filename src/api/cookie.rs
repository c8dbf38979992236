//! Reads the access token and the refresh token from `Set-Cookie` headers.
//!
//! There is no cookie jar: all other cookies are ignored. Prefixes such as `__Host-` are
//! part of a cookie's name. `Path` and `Secure` are ignored: they tell a browser to which
//! URLs it may send a cookie, and this client sends the tokens only to fixed endpoints.

use cookie::Cookie;

use crate::model::{
    AccessToken, CookieNames, Expiry, Grant, RefreshToken, Secret, Token, domain_matches,
    validate_token_text,
};

use super::jwt;
use super::received_at::ReceivedAt;

/// Names of the cookies of Django, the server's web framework. They are never tokens.
const NEVER_TOKENS: [&str; 2] = ["sessionid", "csrftoken"];

/// Reads the cookies of one response.
pub(super) struct CookieReader<'a> {
    /// The host of the request, without the port and the brackets of an IPv6 address.
    pub(super) host: &'a str,
    pub(super) names: &'a CookieNames,
    pub(super) received_at: ReceivedAt,
    /// Logs a decision, never the value of a cookie.
    pub(super) log: &'a dyn Fn(&str),
}

/// A cookie's value and its lifetime in milliseconds, if known. `None` if the response
/// clears the cookie or its value cannot be a token.
type CookieValue = Option<(Secret, Option<i64>)>;

impl CookieReader<'_> {
    /// Reads the tokens in the `Set-Cookie` headers of one response.
    pub(super) fn read_grant<'h>(&self, headers: impl Iterator<Item = &'h [u8]>) -> Grant {
        let mut cookies: Vec<(String, CookieValue)> = Vec::new();
        for header in headers {
            // Ignore a header that cannot be parsed: the others may contain tokens.
            let cookie = std::str::from_utf8(header).ok();
            let Some(cookie) = cookie.and_then(|text| Cookie::parse(text).ok()) else {
                (self.log)("ignoring a cookie that cannot be parsed");
                continue;
            };
            let name = cookie.name();
            if !self.is_for_this_host(&cookie) {
                (self.log)(&format!(
                    "ignoring cookie {name}, which is for another host"
                ));
            } else if !NEVER_TOKENS.contains(&name) {
                // If a name occurs several times, the last cookie counts, as in a browser.
                cookies.retain(|(other, _)| other != name);
                cookies.push((name.to_owned(), self.read_value(&cookie)));
            }
        }
        let mut access = remove_cookie(&mut cookies, &self.names.access);
        let mut refresh = remove_cookie(&mut cookies, &self.names.refresh);
        let cookie_names = match (&access, &refresh) {
            (None, None) => {
                let with_value = cookies.iter().filter(|(_, value)| value.is_some());
                CookieNames::find_pair(with_value.map(|(name, _)| name.as_str()))
            }
            _ => None,
        };
        if let Some(names) = &cookie_names {
            let (access_name, refresh_name) = (&names.access, &names.refresh);
            (self.log)(&format!(
                "taking the tokens from cookies {access_name} and {refresh_name}"
            ));
            access = remove_cookie(&mut cookies, access_name);
            refresh = remove_cookie(&mut cookies, refresh_name);
        }
        // If the response clears the access cookie, no other cookie is taken for it.
        let access = access.unwrap_or_else(|| self.take_only_jwt(cookies));
        Grant {
            access: access.map(|(text, lifetime)| self.new_token(AccessToken::new(text), lifetime)),
            refresh: refresh
                .flatten()
                .map(|(text, lifetime)| self.new_token(RefreshToken::new(text), lifetime)),
            clock_skew_millis: self.received_at.clock_skew_millis(),
            cookie_names,
        }
    }

    /// Returns the value of the only cookie that is a JSON Web Token. It is taken for the
    /// access token. Returns `None` if no cookie or several cookies are JSON Web Tokens.
    fn take_only_jwt(&self, mut cookies: Vec<(String, CookieValue)>) -> CookieValue {
        let is_jwt = |value: &CookieValue| {
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

    /// Whether the cookie's `Domain` includes the host (RFC 6265 §5.3, step 6).
    fn is_for_this_host(&self, cookie: &Cookie<'_>) -> bool {
        let Some(domain) = cookie.domain().filter(|domain| !domain.is_empty()) else {
            return true;
        };
        domain_matches(self.host, domain.trim_matches(['[', ']']))
    }

    fn read_value(&self, cookie: &Cookie<'_>) -> CookieValue {
        // Django clears a cookie with the two characters `""` as its value.
        let value = cookie.value_trimmed();
        let server_time = self.received_at.server_time();
        // `Max-Age` overrides `Expires` (RFC 6265 §4.1.2.2). `Expires` is a time by the
        // server's clock.
        let stated_millis = match (cookie.max_age(), cookie.expires_datetime()) {
            (Some(age), _) => Some(age.whole_seconds().saturating_mul(1000)),
            (None, Some(expires)) => Some(
                expires
                    .unix_timestamp()
                    .saturating_mul(1000)
                    .saturating_sub(server_time.millis()),
            ),
            (None, None) => None,
        };
        if value.is_empty() || stated_millis.is_some_and(|lifetime| lifetime <= 0) {
            return None;
        }
        let text = validate_token_text(value)
            .inspect_err(|problem| {
                (self.log)(&format!(
                    "ignoring cookie {}, which {problem}",
                    cookie.name()
                ))
            })
            .ok()?;
        let lifetime_millis = stated_millis.or_else(|| jwt::lifetime_millis(text, server_time));
        Some((Secret::new(text.to_owned()), lifetime_millis))
    }

    pub(super) fn new_token<T>(&self, value: T, lifetime_millis: Option<i64>) -> Token<T> {
        Token {
            value,
            expiry: Expiry::new(self.received_at.local, lifetime_millis)
                .with_round_trip(self.received_at.round_trip),
        }
    }
}

fn remove_cookie(cookies: &mut Vec<(String, CookieValue)>, name: &str) -> Option<CookieValue> {
    let index = cookies.iter().position(|(other, _)| other == name)?;
    Some(cookies.swap_remove(index).1)
}

/// Returns the name of the cookie in a `Set-Cookie` header, if the name is short and
/// printable enough to be logged.
pub(super) fn loggable_name(header: &[u8]) -> Option<&str> {
    let end = header.iter().position(|b| *b == b'=')?;
    let name = std::str::from_utf8(header.get(..end)?).ok()?.trim();
    let is_loggable = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    is_loggable.then_some(name)
}

#[cfg(test)]
mod tests;
