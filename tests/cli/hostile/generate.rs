//! Generates hostile responses: statuses, headers, cookies with both sets of names and
//! mutations of them, and bodies of all kinds.

use proptest::prelude::*;

pub fn date() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Tue, 24 Nov 2026 02:59:05 GMT".to_owned()),
        Just("Wed, 05-Aug-2020 13:53:05 GMT".to_owned()),
        Just("Wednesday, 05-Aug-20 13:53:05 GMT".to_owned()),
        Just("Wed Aug  5 13:53:05 2020".to_owned()),
        Just("2026-11-24T02:59:05Z".to_owned()),
        Just("Thu, 01 Jan 1970 00:00:00 GMT".to_owned()),
        Just("Fri, 31 Dec 99999 99:99:99 GMT".to_owned()),
        "[ -~]{0,30}",
    ]
}

pub fn cookie() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => Just("access_token".to_owned()),
        4 => Just("refresh_token".to_owned()),
        1 => Just("__Host-refresh_token".to_owned()),
        1 => Just("__Secure-access_token".to_owned()),
        1 => Just(String::new()),
        1 => "[!-~]{0,12}",
    ];
    let value = prop_oneof![
        Just("\"\"".to_owned()),
        Just(String::new()),
        Just("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjk5OTk5OTk5OTk5OTk5OTk5OTk5fQ.x".to_owned()),
        Just("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOi0xLCJpYXQiOjF9.x".to_owned()),
        Just("a.b.c".to_owned()),
        "[ -~]{0,40}",
        "[a-z]{1,8}".prop_map(|text| text.repeat(3000)),
    ];
    let attribute = prop_oneof![
        date().prop_map(|date| format!("expires={date}")),
        any::<i64>().prop_map(|age| format!("Max-Age={age}")),
        Just("Max-Age=99999999999999999999999".to_owned()),
        Just("Max-Age=".to_owned()),
        Just("Domain=evil.test".to_owned()),
        Just("Domain=".to_owned()),
        Just("Path=/elsewhere".to_owned()),
        Just("Secure; HttpOnly; SameSite=Lax".to_owned()),
        "[ -~]{0,20}",
    ];
    let raw = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        6 => (name, value, prop::collection::vec(attribute, 0..4)).prop_map(|(name, value, attributes)| {
            let mut line = format!("{name}={value}");
            for attribute in attributes {
                line += &format!("; {attribute}");
            }
            line.into_bytes()
        }),
        1 => raw,
    ]
}

pub fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,20}".prop_map(Into::into),
        Just(serde_json::json!("\u{1b}]52;c;ZXZpbA==\u{7}\u{202e}x")),
    ];
    let key = prop_oneof![
        Just("detail".to_owned()),
        Just("message".to_owned()),
        Just("error".to_owned()),
        Just("error_description".to_owned()),
        Just("non_field_errors".to_owned()),
        Just("captcha".to_owned()),
        Just("data".to_owned()),
        Just("code".to_owned()),
        Just("access".to_owned()),
        Just("refresh".to_owned()),
        Just("token".to_owned()),
        Just("refresh_token".to_owned()),
        Just("email".to_owned()),
        "[a-z]{0,6}",
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
    .prop_map(|value| value.to_string())
}

/// `{"detail":"packed","access":"a.b.c"}` in gzip (RFC 1952).
const PACKED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x4a\x49\x2d\x49\xcc\xcc\x51\xb2\x52\x2a\x48\x4c\xce\x4e\x4d\x51\xd2\x51\x4a\x4c\x4e\x4e\x2d\x2e\x06\x8a\x24\xea\x25\xe9\x25\x2b\xd5\x02\x00\xf0\x42\x9c\x51\x24\x00\x00\x00";

pub fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => json().prop_map(String::into_bytes),
        2 => json().prop_map(|text| text.as_bytes()[..text.len() / 2].to_vec()),
        1 => Just("[".repeat(100_000).into_bytes()),
        1 => Just("{\"a\":".repeat(20_000).into_bytes()),
        1 => Just(vec![b' '; 3_000_000]),
        1 => Just(format!("{{\"detail\":\"{}\"}}", "x".repeat(2_000_000)).into_bytes()),
        2 => Just(b"<html><title>Bad \x1b[31m gateway &lt;b&gt;</title><p>x</html>".to_vec()),
        1 => Just(b"\x1f\x8b\x08\x00garbage".to_vec()),
        1 => Just(PACKED.to_vec()),
        1 => Just(vec![b'x'; 10 * 1024 * 1024]),
        1 => Just(b"5\r\n{\"a\":\r\nFFFFFFFFFFFFFFFFF\r\n1}\r\n0\r\n\r\n".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..200),
        1 => Just(Vec::new()),
    ]
}

/// A response, and whether it ends the session if it is the response to an exchange.
pub fn answer() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        1 => prop_oneof![Just(301_u16), Just(302), Just(307), Just(308)],
        4 => prop_oneof![Just(200_u16), Just(204), Just(400), Just(401), Just(403), Just(429), Just(500), Just(502)],
        1 => 100_u16..600,
        1 => Just(999),
    ];
    let kind = prop_oneof![
        4 => Just("application/json".to_owned()),
        1 => Just("text/html; charset=utf-8".to_owned()),
        1 => Just("application/json; charset=utf-16".to_owned()),
        1 => "[ -~]{0,30}",
    ];
    let extra = prop_oneof![
        5 => Just(String::new()),
        1 => Just("Retry-After: 99999999999999999999\r\n".to_owned()),
        1 => date().prop_map(|date| format!("Retry-After: {date}\r\n")),
        1 => date().prop_map(|date| format!("Date: {date}\r\n")),
        1 => Just("Location: http://169.254.169.254/latest\r\n".to_owned()),
        1 => Just("Location: //evil.test/\r\n".to_owned()),
        1 => Just("Content-Encoding: gzip\r\n".to_owned()),
        1 => Just("Transfer-Encoding: chunked\r\n".to_owned()),
        1 => Just("Content-Length: 99999\r\n".to_owned()),
        1 => Just("X-Many: y\r\n".repeat(2000)),
    ];
    let cookies = prop_oneof![
        8 => prop::collection::vec(cookie(), 0..4),
        1 => prop::collection::vec(cookie(), 300..320),
        1 => cookie().prop_map(|cookie| {
            let short = cookie[..cookie.len().min(60)].to_vec();
            vec![short; 4000]
        }),
    ];
    let parts = (status, kind, extra, cookies, body());
    let whole = parts.prop_map(|(status, kind, extra, cookies, body)| {
        let mut bytes =
            format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{extra}").into_bytes();
        for cookie in cookies {
            bytes.extend_from_slice(b"Set-Cookie: ");
            bytes.extend(cookie.iter().filter(|byte| !b"\r\n".contains(byte)));
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"Connection: close\r\n\r\n");
        bytes.extend(body);
        bytes
    });
    prop_oneof![
        12 => whole,
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        1 => Just(b"HTTP/9.9 200 OK\r\n\r\n".to_vec()),
    ]
}
