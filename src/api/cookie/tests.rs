//! Cookies of the two kinds of servers, cleared cookies, domains, and hostile headers.

use std::cell::RefCell;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::model::{Remaining, Timestamp};

use super::*;

const DATE: &str = "Tue, 24 Nov 2026 02:59:05 GMT";
/// The local clock in seconds, an hour behind [`DATE`].
const LOCAL: i64 = 1_795_489_145 - 3600;

fn jwt(claims: &str) -> String {
    let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
    format!("{}.{}.c2ln", part(r#"{"alg":"HS256"}"#), part(claims))
}

/// Returns the text and the lifetime in seconds (-1 if unknown) of the access token and
/// the refresh token.
fn read_at(host: &str, date: Option<&str>, headers: &[&[u8]]) -> [Option<(String, i64)>; 2] {
    let logged = RefCell::new(String::new());
    let grant = CookieReader {
        host,
        names: &CookieNames::default(),
        received_at: ReceivedAt::new(Timestamp::from_secs(LOCAL), date, Duration::ZERO),
        log: &|line| logged.borrow_mut().push_str(line),
    }
    .read_grant(headers.iter().copied());
    let seconds = |expiry: Expiry| match expiry.remaining(Timestamp::from_secs(LOCAL)) {
        Remaining::Time(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Remaining::Expired => 0,
        Remaining::Unknown => -1,
    };
    let access = grant
        .access
        .map(|t| (t.value.secret().expose().to_owned(), seconds(t.expiry)));
    let refresh = grant
        .refresh
        .map(|t| (t.value.secret().expose().to_owned(), seconds(t.expiry)));
    for (text, _) in access.iter().chain(&refresh) {
        assert!(
            !logged.borrow().contains(text.as_str()),
            "a value was logged"
        );
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
fn rotating_and_opaque_tokens() {
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
fn expires_is_a_time_by_the_servers_clock() {
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
    // Without a `Date`, the local clock is used, which is an hour behind.
    let header: &[u8] = b"refresh_token=x; expires=Tue, 24 Nov 2026 03:04:05 GMT";
    assert_eq!(
        read_at("h", None, &[header]),
        [None, some("x", 3900)],
        "no Date"
    );
    // `Max-Age` takes precedence in either order; an invalid date is ignored.
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
fn cleared_cookies() {
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
fn one_pair_of_quotes_is_removed() {
    for (sent, expected) in [
        (r#""x""#, "x"),
        (r#"""x"""#, r#""x""#),
        (r#""x"#, r#""x"#),
        ("a b,c\\%3B", "a b,c\\%3B"),
    ] {
        assert_eq!(
            read(&[&format!("refresh_token={sent}")]),
            [None, some(expected, -1)],
            "{sent}"
        );
    }
    // A token must be printable ASCII.
    for sent in ["é", "a\u{202e}b", "a\u{9b}2Jb"] {
        assert_eq!(read(&[&format!("refresh_token={sent}")]), [None, None]);
    }
}

#[test]
fn an_access_token_under_another_name() {
    let (a, b) = (jwt(r#"{"exp":2,"iat":1}"#), jwt(r#"{"exp":3,"iat":1}"#));
    let app = format!("app.at={a}");
    assert_eq!(read(&[&app, "theme=dark"]), [some(&a, 1), None]);
    let refresh = format!("refresh_token={b}");
    assert_eq!(read(&[&app, &refresh]), [some(&a, 1), some(&b, 2)]);
    assert_eq!(read(&[&refresh]), [None, some(&b, 2)]);
    assert_eq!(
        read(&[&app, &format!("idt={b}")]),
        [None, None],
        "two candidates"
    );
    assert_eq!(
        read(&[&format!("app.at={b}"), &app]),
        [some(&a, 1), None],
        "the last value of a name counts"
    );
    assert_eq!(
        read(&[&app, "app.at=; Max-Age=0"]),
        [None, None],
        "set and cleared"
    );
    assert_eq!(
        read(&[&app, "access_token="]),
        [None, None],
        "the configured cookie is cleared"
    );
    assert_eq!(read(&[&format!("sessionid={a}")]), [None, None]);
}

#[test]
fn both_tokens_under_other_names() {
    let some_pair = [some("AAA", -1), some("RRR", -1)];
    let (access, refresh) = ("__Host-Access=AAA", "app_refresh=RRR");
    assert_eq!(read(&[access, refresh, "theme=dark"]), some_pair);
    for more in [
        "access2=XXX",
        "xrefresh=XXX",
        "access_token=XXX",
        "refresh_token=",
    ] {
        assert_ne!(read(&[access, refresh, more]), some_pair, "{more}");
    }
    assert_eq!(read(&[access]), [None, None]);
    assert_eq!(read(&[access, "app_refresh="]), [None, None]);
    assert_eq!(read(&["access_refresh=XXX", refresh]), [None, None]);
}

#[test]
fn the_domain_must_include_the_host() {
    for (host, domain, expected) in [
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
        ("::1", "::1", true),
        ("::1", "[::1]", true),
        ("localhost", "localhost", true),
    ] {
        let header = format!("refresh_token=x; Domain={domain}; Secure");
        let [_, refresh] = read_at(host, Some(DATE), &[header.as_bytes()]);
        assert_eq!(refresh.is_some(), expected, "{host} {domain}");
    }
}

#[test]
fn invalid_tokens_are_ignored() {
    let long = format!("refresh_token={}", "x".repeat(16 * 1024 + 1));
    let fits = format!("refresh_token={}", "x".repeat(16 * 1024));
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
        read_at("h", None, &[not_text, b"refresh_token=fine"]),
        [None, some("fine", -1)]
    );
}

#[test]
fn names_that_may_be_logged() {
    assert_eq!(
        loggable_name(b" access_token =x; Path=/"),
        Some("access_token")
    );
    for header in ["x", "=x", "a b=x", "\u{1b}[31m=x", &"n".repeat(65)] {
        assert_eq!(loggable_name(header.as_bytes()), None, "{header:?}");
    }
}

/// Parses every prefix of a real header, and the header with each byte replaced.
#[test]
fn mutated_headers_do_not_panic() {
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
