//! Reads the lifetime of a JSON Web Token (RFC 7519 §4.1).
//!
//! Signatures are not verified, and no other claims are read: only the server
//! interprets its tokens. The client just needs to know when to renew them.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::model::Timestamp;

/// Whether the text has the form of a signed token (RFC 7515 §7.1): three base64url
/// parts separated by dots, the first of which decodes to a JSON object.
pub(super) fn is_jwt(text: &str) -> bool {
    payload(text).is_some()
}

/// Returns the token's lifetime: `exp - iat`, or `exp - server_time` if there is no `iat`.
/// Returns `None` if the text is not a JSON Web Token or has no `exp`.
pub(super) fn lifetime_millis(text: &str, server_time: Timestamp) -> Option<i64> {
    let claims = decode_object(payload(text)?)?;
    let expires_at = numeric_date(claims.get("exp")?)?;
    let issued_at = claims.get("iat").and_then(numeric_date);
    let issued_at = issued_at.unwrap_or_else(|| server_time.millis().div_euclid(1000));
    Some(expires_at.saturating_sub(issued_at).saturating_mul(1000))
}

/// Returns the second part, still encoded, if the text has the form of a signed token.
fn payload(text: &str) -> Option<&str> {
    let mut parts = text.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let is_base64url = |part: &str| {
        let is_base64url_digit = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !part.is_empty() && part.bytes().all(is_base64url_digit)
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

/// Converts a NumericDate (RFC 7519 §2), which may have a fraction, to whole seconds.
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
        let encode = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        format!("{}.{}.c2ln", encode(r#"{"alg":"HS256"}"#), encode(claims))
    }

    #[test]
    fn lifetimes_from_claims() {
        let now = Timestamp::from_secs(900);
        for (claims, expected) in [
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
            assert_eq!(lifetime_millis(&token(claims), now), expected, "{claims}");
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
