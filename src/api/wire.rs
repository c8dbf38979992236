//! The JSON bodies of the API: builds request bodies, and reads tokens and data from the
//! bodies of successful responses.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::{AccessToken, Grant, RefreshToken, Secret, validate_token_text};

use super::cookie::CookieReader;
use super::jwt;

/// The body of `POST auth/signup/`.
#[derive(Serialize)]
pub(super) struct Signup<'a> {
    pub(super) email: &'a str,
    pub(super) password: &'a str,
    pub(super) name: &'a str,
    /// Omitted if the server requires no captcha.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) captcha: Option<&'a str>,
}

/// The body of `POST auth/signin/`.
#[derive(Serialize)]
pub(super) struct Signin<'a> {
    pub(super) login: &'a str,
    pub(super) password: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) captcha: Option<&'a str>,
}

/// The body of `POST auth/verify-email/`.
#[derive(Serialize)]
pub(super) struct Verify<'a> {
    pub(super) verification_code: &'a str,
}

/// The members of a body that may hold the tokens, in order of preference.
const ACCESS_KEYS: [&str; 3] = ["access", "access_token", "token"];
const REFRESH_KEYS: [&str; 2] = ["refresh", "refresh_token"];

/// Adds the tokens in the body to the grant. A token from a cookie takes precedence.
pub(super) fn add_tokens(grant: &mut Grant, body: &Value, reader: &CookieReader<'_>) {
    let access = find_token_text(body, &ACCESS_KEYS);
    if let (None, Some(text)) = (&grant.access, access) {
        let (secret, lifetime_millis) = secret_and_lifetime(text, reader);
        grant.access = Some(reader.new_token(AccessToken::new(secret), lifetime_millis));
        (reader.log)("taking the access token from the body");
    }
    let refresh = find_token_text(body, &REFRESH_KEYS);
    if let (None, Some(text)) = (&grant.refresh, refresh) {
        let (secret, lifetime_millis) = secret_and_lifetime(text, reader);
        grant.refresh = Some(reader.new_token(RefreshToken::new(secret), lifetime_millis));
        (reader.log)("taking the refresh token from the body");
    }
}

/// Returns the first valid token under one of the keys, in the body or in its `data`.
fn find_token_text<'v>(body: &'v Value, keys: &[&str]) -> Option<&'v str> {
    [Some(body), body.get("data")]
        .into_iter()
        .flatten()
        .flat_map(|object| keys.iter().filter_map(|key| object.get(key)?.as_str()))
        .find(|text| !text.is_empty() && validate_token_text(text).is_ok())
}

fn secret_and_lifetime(text: &str, reader: &CookieReader<'_>) -> (Secret, Option<i64>) {
    let lifetime_millis = jwt::lifetime_millis(text, reader.received_at.server_time());
    (Secret::new(text.to_owned()), lifetime_millis)
}

/// Returns `data` if the body is an envelope such as `{data, message, code}`, else the whole
/// body. Returns `None` if the value to return is not an object.
pub(super) fn unwrap_envelope(body: Value) -> Option<Map<String, Value>> {
    let Value::Object(mut object) = body else {
        return None;
    };
    let is_envelope = object.contains_key("data")
        && object
            .keys()
            .all(|key| matches!(&**key, "data" | "message" | "code" | "status" | "success"));
    if !is_envelope {
        return Some(object);
    }
    match object.remove("data") {
        Some(Value::Object(data)) => Some(data),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::received_at::ReceivedAt;
    use crate::model::{CookieNames, Timestamp};

    use super::*;

    fn tokens(cookies: &[&str], body: &Value) -> [Option<String>; 2] {
        let reader = CookieReader {
            host: "h",
            names: &CookieNames::default(),
            received_at: ReceivedAt::new(Timestamp::from_secs(0), None, std::time::Duration::ZERO),
            log: &|_| (),
        };
        let mut grant = reader.read_grant(cookies.iter().map(|c| c.as_bytes()));
        add_tokens(&mut grant, body, &reader);
        [
            grant.access.map(|t| t.value.secret().expose().to_owned()),
            grant.refresh.map(|t| t.value.secret().expose().to_owned()),
        ]
    }

    #[test]
    fn tokens_in_bodies() {
        let both = [Some("a".to_owned()), Some("r".to_owned())];
        for body in [
            json!({"access": "a", "refresh": "r"}),
            json!({"access_token": "a", "refresh_token": "r", "user": {}}),
            json!({"data": {"token": "a", "refresh": "r"}, "message": "", "code": 0}),
            json!({"access": "", "token": "a", "refresh": 7, "refresh_token": "r"}),
        ] {
            assert_eq!(tokens(&[], &body), both, "{body}");
        }
        for body in [
            json!({"detail": "Verification e-mail sent."}),
            json!([{"access": "a"}]),
            json!("a"),
            json!({"data": null}),
            json!({"access": "a;b", "refresh": "a\nb"}),
        ] {
            assert_eq!(tokens(&[], &body), [None, None], "{body}");
        }
    }

    #[test]
    fn a_cookie_takes_precedence_over_the_body() {
        assert_eq!(
            tokens(&["access_token=c"], &json!({"access": "a", "refresh": "r"})),
            [Some("c".to_owned()), Some("r".to_owned())]
        );
    }

    #[test]
    fn envelopes() {
        for (body, id) in [
            (json!({"id": 1}), Some(json!(1))),
            (json!({"data": {"id": 1}}), Some(json!(1))),
            (
                json!({"data": {"id": 1}, "message": "ok", "code": 200}),
                Some(json!(1)),
            ),
            (json!({"id": 1, "data": {"id": 2}}), Some(json!(1))),
            (json!({"data": null, "message": "no"}), None),
            (json!([]), None),
            (json!("x"), None),
        ] {
            let object = unwrap_envelope(body.clone());
            assert_eq!(object.and_then(|o| o.get("id").cloned()), id, "{body}");
        }
    }
}
