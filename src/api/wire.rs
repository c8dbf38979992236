//! The JSON of the API: the bodies of requests, and the tokens and envelopes in
//! the bodies of responses.
//!
//! It does not know how anything is sent, nor the form of errors.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::{AccessToken, Grant, RefreshToken, Secret, validate_token_text};

use super::cookie::CookieReader;
use super::jwt;

/// `POST auth/signup/`.
#[derive(Serialize)]
pub(super) struct Signup<'a> {
    pub(super) email: &'a str,
    pub(super) password: &'a str,
    pub(super) name: &'a str,
    /// Left out for a deployment that asks for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) captcha: Option<&'a str>,
}

/// `POST auth/signin/`.
#[derive(Serialize)]
pub(super) struct Signin<'a> {
    pub(super) login: &'a str,
    pub(super) password: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) captcha: Option<&'a str>,
}

/// `POST auth/verify-email/`.
#[derive(Serialize)]
pub(super) struct Verify<'a> {
    pub(super) verification_code: &'a str,
}

/// The names of the tokens in a body.
const ACCESS: [&str; 3] = ["access", "access_token", "token"];
const REFRESH: [&str; 2] = ["refresh", "refresh_token"];

/// Adds the tokens in the body that did not come as cookies.
pub(super) fn add_tokens(grant: &mut Grant, body: &Value, reader: &CookieReader<'_>) {
    let access = find(body, &ACCESS);
    if let (None, Some(text)) = (&grant.access, access) {
        let (secret, lifetime) = token(text, reader);
        grant.access = Some(reader.token(AccessToken::new(secret), lifetime));
        (reader.log)("the access token is taken from the body");
    }
    let refresh = find(body, &REFRESH);
    if let (None, Some(text)) = (&grant.refresh, refresh) {
        let (secret, lifetime) = token(text, reader);
        grant.refresh = Some(reader.token(RefreshToken::new(secret), lifetime));
        (reader.log)("the refresh token is taken from the body");
    }
}

fn find<'v>(body: &'v Value, names: &[&str]) -> Option<&'v str> {
    [Some(body), body.get("data")]
        .into_iter()
        .flatten()
        .flat_map(|object| names.iter().filter_map(|name| object.get(name)?.as_str()))
        .find(|text| !text.is_empty() && validate_token_text(text).is_ok())
}

fn token(text: &str, reader: &CookieReader<'_>) -> (Secret, Option<i64>) {
    let lifetime = jwt::lifetime(text, reader.received_at.server_now());
    (Secret::new(text.to_owned()), lifetime)
}

/// Unwraps `{data, message, code}`, and returns other objects as they are.
pub(super) fn unwrap_envelope(body: Value) -> Option<Map<String, Value>> {
    let Value::Object(mut object) = body else {
        return None;
    };
    let wrapped = object.contains_key("data")
        && object
            .keys()
            .all(|key| matches!(&**key, "data" | "message" | "code" | "status" | "success"));
    if !wrapped {
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
            received_at: ReceivedAt::new(Timestamp::from_secs(0), None),
            log: &|_| (),
        };
        let mut grant = reader.grant(cookies.iter().map(|c| c.as_bytes()));
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
    fn a_cookie_goes_before_the_body() {
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
