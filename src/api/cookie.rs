//! `Set-Cookie` headers to tokens: which cookie is which, whether it is set or
//! cleared, and how long it lives.
//!
//! There is no jar: a cookie that is not one of the two tokens is forgotten.
//! Names are compared as they are, prefixes such as `__Host-` included, since
//! a cookie is sent back under the name it came with. `Path` and `Secure` say
//! where a browser may send a cookie; here every endpoint is known beforehand.

use cookie::Cookie;

use crate::model::{AccessToken, Expiry, Grant, RefreshToken, Secret, Token};

use super::jwt;
use super::receipt::Receipt;

/// The longest token taken, in bytes: servers commonly refuse headers above half of it.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Cookies of the web framework, which are never a token.
const FOREIGN: [&str; 2] = ["sessionid", "csrftoken"];

/// How to read the cookies of one answer.
pub(super) struct Rules<'a> {
    /// The host of the request, without its port.
    pub(super) host: &'a str,
    /// The name of the access token's cookie.
    pub(super) access: &'a str,
    /// The name of the refresh token's cookie.
    pub(super) refresh: &'a str,
    /// When the answer came.
    pub(super) receipt: Receipt,
    /// Where decisions are told. Never a value.
    pub(super) log: &'a dyn Fn(&str),
}

/// A token's text and its lifetime in milliseconds, or nothing where it was cleared.
type Found = Option<(Secret, Option<i64>)>;

impl Rules<'_> {
    /// The tokens that the `Set-Cookie` headers of one answer bring.
    pub(super) fn grant<'h>(&self, headers: impl Iterator<Item = &'h [u8]>) -> Grant {
        let mut access: Option<Found> = None;
        let mut refresh: Option<Found> = None;
        let mut others: Vec<(String, Found)> = Vec::new();
        for header in headers {
            // A header that cannot be read is not a token, and no reason to lose the others.
            let Some(cookie) = std::str::from_utf8(header)
                .ok()
                .and_then(|text| Cookie::parse(text).ok())
            else {
                (self.log)("a cookie that cannot be read is ignored");
                continue;
            };
            let name = cookie.name();
            if !self.is_for_us(&cookie) {
                (self.log)(&format!("cookie {name} is ignored: it is for another host"));
                continue;
            }
            // The last of a name wins, as it would in a browser.
            if name == self.refresh {
                refresh = Some(self.read(&cookie));
            } else if name == self.access {
                access = Some(self.read(&cookie));
            } else if !FOREIGN.contains(&name) {
                let found = self.read(&cookie);
                others.retain(|(other, _)| other != name);
                others.push((name.to_owned(), found));
            }
        }
        Grant {
            access: access
                .unwrap_or_else(|| self.only_jwt(others))
                .map(|(text, lifetime)| self.token(AccessToken::new(text), lifetime)),
            refresh: refresh
                .flatten()
                .map(|(text, lifetime)| self.token(RefreshToken::new(text), lifetime)),
            skew: self.receipt.skew(),
        }
    }

    /// The access token under a name we were not told: the one cookie that can be one.
    fn only_jwt(&self, mut others: Vec<(String, Found)>) -> Found {
        others.retain(|(_, found)| {
            found
                .as_ref()
                .is_some_and(|(text, _)| jwt::has_form(text.expose()))
        });
        let (name, found) = others.pop()?;
        if !others.is_empty() {
            (self.log)("several cookies could be the access token; none is taken");
            return None;
        }
        (self.log)(&format!("the access token is taken from cookie {name}"));
        found
    }

    /// Whether the cookie's `Domain` covers the host (RFC 6265 §5.3, step 6).
    fn is_for_us(&self, cookie: &Cookie<'_>) -> bool {
        let Some(domain) = cookie.domain().filter(|domain| !domain.is_empty()) else {
            return true;
        };
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let domain = domain.trim_start_matches('[').trim_end_matches(']');
        if host.eq_ignore_ascii_case(domain) {
            return true;
        }
        // A suffix of an address is not a domain above it.
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let split = host.len().checked_sub(domain.len());
        let (above, suffix) = match split.and_then(|at| host.split_at_checked(at)) {
            Some(parts) if !is_address => parts,
            _ => return false,
        };
        above.ends_with('.') && suffix.eq_ignore_ascii_case(domain)
    }

    fn read(&self, cookie: &Cookie<'_>) -> Found {
        // Django clears a cookie with the two characters `""` as its value.
        let value = cookie.value_trimmed();
        let now = self.receipt.server_now();
        // Max-Age goes before Expires (RFC 6265 §4.1.2.2); the end is on the server's clock.
        let said = match (cookie.max_age(), cookie.expires_datetime()) {
            (Some(age), _) => Some(age.whole_seconds().saturating_mul(1000)),
            (None, Some(end)) => Some(
                end.unix_timestamp()
                    .saturating_mul(1000)
                    .saturating_sub(now.millis()),
            ),
            (None, None) => None,
        };
        if value.is_empty() || said.is_some_and(|lifetime| lifetime <= 0) {
            return None;
        }
        let text = usable(value)
            .inspect_err(|why| (self.log)(&format!("cookie {} is ignored: {why}", cookie.name())))
            .ok()?;
        let lifetime = said.or_else(|| jwt::lifetime(text, now));
        Some((Secret::new(text.to_owned()), lifetime))
    }

    /// A token that came with this answer.
    pub(super) fn token<T>(&self, value: T, lifetime: Option<i64>) -> Token<T> {
        Token {
            value,
            expiry: Expiry::new(self.receipt.at, lifetime),
        }
    }
}

/// The text, if it can be sent back in a header as it is, and printed as it is:
/// ASCII that can be seen, RFC 6265 §4.1.1 read leniently in all else, since
/// servers take what they gave.
pub(super) fn usable(text: &str) -> Result<&str, &'static str> {
    if text.len() > LONGEST_TOKEN {
        Err("it is too long for a token")
    } else if !text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b';') {
        Err("it holds a character that cannot be sent back")
    } else {
        Ok(text)
    }
}

/// The name of a cookie as far as a log may show it: what stands before `=`.
pub(super) fn name_of(header: &[u8]) -> Option<&str> {
    let end = header.iter().position(|b| *b == b'=')?;
    let name = std::str::from_utf8(header.get(..end)?).ok()?.trim();
    let shown = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    shown.then_some(name)
}

#[cfg(test)]
mod tests;
