//! The two dates in a JSON Web Token (RFC 7519 §4.1), and whether a text has
//! the form of one.
//!
//! Nothing is verified and nothing else is read: a token is the server's own
//! note to itself, and only its lifetime matters here.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::model::Timestamp;

/// Whether the text has the form of a signed token: three base64url parts, the
/// first of them a JSON object (RFC 7515 §7.1).
pub(super) fn has_form(text: &str) -> bool {
    parts(text).is_some()
}

/// The lifetime in milliseconds: `exp - iat`, or `exp - now` where there is no
/// `iat`; `None` where the text is no token or names no end.
pub(super) fn lifetime(text: &str, now: Timestamp) -> Option<i64> {
    let claims = object(parts(text)?)?;
    let end = seconds(claims.get("exp")?)?;
    let begin = claims.get("iat").and_then(seconds);
    let begin = begin.unwrap_or_else(|| now.millis().div_euclid(1000));
    Some(end.saturating_sub(begin).saturating_mul(1000))
}

/// The payload, still encoded.
fn parts(text: &str) -> Option<&str> {
    let mut parts = text.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let encoded = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if parts.next().is_some() || !encoded(payload) || !encoded(signature) {
        return None;
    }
    object(header).map(|_| payload)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// A NumericDate: whole seconds, though the RFC allows a fraction.
fn seconds(value: &Value) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast from a float saturates, and a fraction of a second is no matter"
    )]
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|seconds| seconds as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        format!("{}.{}.c2ln", part(r#"{"alg":"HS256"}"#), part(claims))
    }

    #[test]
    fn lifetimes() {
        let now = Timestamp::from_secs(900);
        for (claims, lifetime_ms) in [
            (r#"{"exp":1300,"iat":1000}"#, Some(300_000)),
            (r#"{"exp":1300.9,"iat":1000.2}"#, Some(300_000)),
            (r#"{"exp":1300}"#, Some(400_000)),
            (r#"{"exp":1300,"iat":"x"}"#, Some(400_000)),
            (r#"{"exp":100}"#, Some(-800_000)),
            (r#"{"iat":1000}"#, None),
            (r#"{"exp":null}"#, None),
            (r#"{"exp":"1300"}"#, None),
            ("[]", None),
            ("", None),
            (
                r#"{"exp":9223372036854775807,"iat":-9223372036854775808}"#,
                Some(i64::MAX),
            ),
            (r#"{"exp":-9e300,"iat":9e300}"#, Some(i64::MIN)),
        ] {
            assert_eq!(lifetime(&token(claims), now), lifetime_ms, "{claims}");
        }
    }

    #[test]
    fn form() {
        assert!(has_form(&token("{}")));
        for text in [
            "",
            "a.b",
            "a.b.c",
            "..",
            "e30.e30.",
            "e30..c2ln",
            "e30.e30.c2ln.x",
            "W10.e30.c2ln",
            "e30.e 0.c2ln",
            "é.e30.c2ln",
        ] {
            assert!(!has_form(text), "{text:?}");
        }
    }
}
