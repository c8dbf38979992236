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

/// The text, if it can be sent back in a header as it is: RFC 6265 §4.1.1 read
/// leniently, since servers take what they gave.
pub(super) fn usable(text: &str) -> Result<&str, &'static str> {
    if text.len() > LONGEST_TOKEN {
        Err("it is too long for a token")
    } else if text.chars().any(|c| c.is_control() || c == ';') {
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
mod tests {
    use std::cell::RefCell;

    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use crate::model::{Remaining, Timestamp};

    use super::*;

    const DATE: &str = "Tue, 24 Nov 2026 02:59:05 GMT";
    /// An hour behind the server.
    const LOCAL: i64 = 1_795_489_145 - 3600;

    fn jwt(claims: &str) -> String {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        format!("{}.{}.c2ln", part(r#"{"alg":"HS256"}"#), part(claims))
    }

    /// Access and refresh: text and lifetime in seconds, -1 where it is unknown.
    fn read_at(host: &str, date: Option<&str>, headers: &[&[u8]]) -> [Option<(String, i64)>; 2] {
        let said = RefCell::new(String::new());
        let grant = Rules {
            host,
            access: "access_token",
            refresh: "refresh_token",
            receipt: Receipt::new(Timestamp::from_secs(LOCAL), date),
            log: &|line| said.borrow_mut().push_str(line),
        }
        .grant(headers.iter().copied());
        let seconds = |expiry: Expiry| match expiry.remaining(Timestamp::from_secs(LOCAL)) {
            Remaining::For(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            Remaining::Nothing => 0,
            Remaining::Unknown => -1,
        };
        let access = grant
            .access
            .map(|t| (t.value.secret().expose().to_owned(), seconds(t.expiry)));
        let refresh = grant
            .refresh
            .map(|t| (t.value.secret().expose().to_owned(), seconds(t.expiry)));
        for (text, _) in access.iter().chain(&refresh) {
            assert!(!said.borrow().contains(text.as_str()), "a value was logged");
        }
        [access, refresh]
    }

    fn read(headers: &[&str]) -> [Option<(String, i64)>; 2] {
        let headers: Vec<&[u8]> = headers.iter().map(|h| h.as_bytes()).collect();
        read_at("api.example.test", Some(DATE), &headers)
    }

    fn some(text: &str, seconds: i64) -> Option<(String, i64)> {
        Some((text.to_owned(), seconds))
    }

    #[test]
    fn both_dialects() {
        let (a, r) = (
            jwt(r#"{"exp":1300,"iat":1000}"#),
            jwt(r#"{"exp":9,"iat":1}"#),
        );
        assert_eq!(
            read(&[
                &format!(
                    "access_token={a}; expires=Tue, 24 Nov 2026 03:04:05 GMT; HttpOnly; Max-Age=300; Path=/; SameSite=Lax; Secure"
                ),
                &format!("refresh_token={r}; HttpOnly; Max-Age=86400; Path=/api/v1/auth/"),
                "csrftoken=x; Max-Age=5",
                "sessionid=y",
            ]),
            [some(&a, 300), some(&r, 86400)]
        );
        assert_eq!(
            read(&[
                &format!("access_token={a}; Path=/; HttpOnly"),
                "refresh_token=op4que+/=_value==; Max-Age=2592000; Domain=.example.test",
            ]),
            [some(&a, 300), some("op4que+/=_value==", 2_592_000)]
        );
        assert_eq!(
            read(&["refresh_token=opaque"]),
            [None, some("opaque", -1)],
            "no expiry at all"
        );
    }

    #[test]
    fn the_end_is_on_the_servers_clock() {
        for date in [
            "Tue, 24 Nov 2026 03:04:05 GMT",
            "Tue, 24-Nov-2026 03:04:05 GMT",
            "Tuesday, 24-Nov-26 03:04:05 GMT",
        ] {
            assert_eq!(
                read(&[&format!("refresh_token=x; expires={date}")]),
                [None, some("x", 300)],
                "{date}"
            );
        }
        // Without a Date the local clock, an hour behind, is all there is.
        let header: &[u8] = b"refresh_token=x; expires=Tue, 24 Nov 2026 03:04:05 GMT";
        assert_eq!(
            read_at("h", None, &[header]),
            [None, some("x", 3900)],
            "no Date"
        );
        // Max-Age goes first, in either order; a date nobody can read says nothing.
        assert_eq!(
            read(&["refresh_token=x; Max-Age=9; expires=Wed, 05-Aug-2020 13:53:05 GMT"]),
            [None, some("x", 9)]
        );
        assert_eq!(
            read(&["refresh_token=x; expires=soon"]),
            [None, some("x", -1)]
        );
    }

    #[test]
    fn what_clears() {
        for clear in [
            r#"refresh_token=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax"#,
            "refresh_token=",
            "refresh_token=; Path=/",
            r#"refresh_token="""#,
            "refresh_token=x; Max-Age=0",
            "refresh_token=x; Max-Age=-1",
            "refresh_token=x; Max-Age=-99999999999999999999",
            "refresh_token=x; expires=Wed, 05-Aug-2020 13:53:05 GMT",
            "refresh_token=x; expires=Tue, 24 Nov 2026 02:59:05 GMT",
        ] {
            assert_eq!(read(&[clear]), [None, None], "{clear}");
            assert_eq!(
                read(&["refresh_token=old", clear]),
                [None, None],
                "set, then {clear}"
            );
            assert_eq!(
                read(&[clear, "refresh_token=new"]),
                [None, some("new", -1)],
                "{clear}, then set"
            );
        }
    }

    #[test]
    fn one_pair_of_quotes_goes_the_rest_stays() {
        for (sent, kept) in [
            (r#""x""#, "x"),
            (r#"""x"""#, r#""x""#),
            (r#""x"#, r#""x"#),
            ("a b,c\\%3B", "a b,c\\%3B"),
            ("é", "é"),
        ] {
            assert_eq!(
                read(&[&format!("refresh_token={sent}")]),
                [None, some(kept, -1)],
                "{sent}"
            );
        }
    }

    #[test]
    fn an_access_token_of_another_name() {
        let (a, b) = (jwt(r#"{"exp":2,"iat":1}"#), jwt(r#"{"exp":3,"iat":1}"#));
        let app = format!("app.at={a}");
        assert_eq!(read(&[&app, "theme=dark"]), [some(&a, 1), None]);
        let refresh = format!("refresh_token={b}");
        assert_eq!(read(&[&app, &refresh]), [some(&a, 1), some(&b, 2)]);
        assert_eq!(read(&[&refresh]), [None, some(&b, 2)]);
        assert_eq!(
            read(&[&app, &format!("idt={b}")]),
            [None, None],
            "which one?"
        );
        assert_eq!(
            read(&[&format!("app.at={b}"), &app]),
            [some(&a, 1), None],
            "one name"
        );
        assert_eq!(
            read(&[&app, "app.at=; Max-Age=0"]),
            [None, None],
            "set and cleared"
        );
        assert_eq!(
            read(&[&app, "access_token="]),
            [None, None],
            "the name is there, cleared"
        );
        assert_eq!(read(&[&format!("sessionid={a}")]), [None, None]);
    }

    #[test]
    fn a_domain_must_cover_the_host() {
        for (host, domain, ours) in [
            ("api.example.test", "", true),
            ("api.example.test", "example.test", true),
            ("api.example.test", ".EXAMPLE.test", true),
            ("api.example.test", "api.example.test", true),
            ("api.example.test", "ample.test", false),
            ("api.example.test", "v1.api.example.test", false),
            ("api.example.test", "evil.test", false),
            ("é.test", "\u{a9}.test", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "0.0.1", false),
            ("[::1]", "::1", true),
            ("localhost", "localhost", true),
        ] {
            let header = format!("refresh_token=x; Domain={domain}; Secure");
            let [_, refresh] = read_at(host, Some(DATE), &[header.as_bytes()]);
            assert_eq!(refresh.is_some(), ours, "{host} {domain}");
        }
    }

    #[test]
    fn what_cannot_be_a_token() {
        let long = format!("refresh_token={}", "x".repeat(LONGEST_TOKEN + 1));
        let fits = format!("refresh_token={}", "x".repeat(LONGEST_TOKEN));
        assert_eq!(read(&[&long]), [None, None]);
        assert!(read(&[&fits])[1].is_some());
        for bad in [
            "refresh_token=a\tb",
            "refresh_token=a\u{7f}",
            "refresh_token=\u{85}",
        ] {
            assert_eq!(read(&[bad]), [None, None], "{bad:?}");
        }
        let not_text: &[u8] = b"refresh_token=\xff\xfe";
        assert_eq!(
            read_at("h", None, &[not_text, b"refresh_token=ok"]),
            [None, some("ok", -1)]
        );
    }

    #[test]
    fn names_that_may_be_logged() {
        assert_eq!(name_of(b" access_token =x; Path=/"), Some("access_token"));
        for header in ["x", "=x", "a b=x", "\u{1b}[31m=x", &"n".repeat(65)] {
            assert_eq!(name_of(header.as_bytes()), None, "{header:?}");
        }
    }

    /// Every prefix, and every byte of a real header replaced: no panic.
    #[test]
    fn mutations() {
        let whole = format!(
            r#"access_token="{}"; expires=Wed, 05-Aug-2026 13:53:05 GMT; Max-Age=300; Domain=.example.test; Path=/"#,
            jwt(r#"{"exp":1300,"iat":1000}"#)
        );
        for at in 0..whole.len() {
            let _ = read_at("api.example.test", None, &[&whole.as_bytes()[..at]]);
            for byte in [
                0, b'"', b';', b'=', b'.', b'9', b'-', b' ', 0x7f, 0xc3, 0xff,
            ] {
                let mut bytes = whole.clone().into_bytes();
                bytes[at] = byte;
                let _ = read_at("api.example.test", Some(DATE), &[&bytes]);
            }
        }
    }
}
