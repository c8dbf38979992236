//! Reads the lifetime of a JSON Web Token (RFC 7519 §4.1).
//!
//! Signatures are not verified and no other claim is read: a token is opaque
//! to a client, except that its lifetime helps.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::model::Timestamp;

/// Whether the text has the form of a signed token: three base64url parts, of
/// which the first is a JSON object (RFC 7515 §7.1).
pub(super) fn is_jwt(text: &str) -> bool {
    payload(text).is_some()
}

/// The lifetime in milliseconds: `exp - iat`, or `exp - now` without an `iat`.
/// `None` if the text is not a token or has no `exp`.
pub(super) fn lifetime(text: &str, now: Timestamp) -> Option<i64> {
    let claims = decode_object(payload(text)?)?;
    let end = numeric_date(claims.get("exp")?)?;
    let begin = claims.get("iat").and_then(numeric_date);
    let begin = begin.unwrap_or_else(|| now.millis().div_euclid(1000));
    Some(end.saturating_sub(begin).saturating_mul(1000))
}

/// The encoded payload.
fn payload(text: &str) -> Option<&str> {
    let mut parts = text.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let is_base64url = |part: &str| {
        let is_digit = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !part.is_empty() && part.bytes().all(is_digit)
    };
    if parts.next().is_some() || !is_base64url(payload) || !is_base64url(signature) {
        return None;
    }
    decode_object(header).map(|_| payload)
}

fn decode_object(part: &str) -> Option<Map<String, Value>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Parses a NumericDate, which may have a fraction, into whole seconds.
fn numeric_date(value: &Value) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast from a float saturates, and fractions do not matter"
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
    fn recognizes_tokens() {
        assert!(is_jwt(&token("{}")));
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
            assert!(!is_jwt(text), "{text:?}");
        }
    }
}
