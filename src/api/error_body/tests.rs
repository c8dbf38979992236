//! Error bodies of common frameworks and proxies, and hostile bodies.

use super::*;

fn json(body: &str) -> ParsedError {
    let parsed = parse(Some("application/json"), body.as_bytes());
    assert!(parsed.is_json, "{body}");
    parsed
}

#[test]
fn messages_without_fields() {
    for (body, text) in [
        (r#"{"detail":"Not found."}"#, "Not found."),
        (
            r#"{"detail":"JSON parse error - Expecting value: line 1"}"#,
            "JSON parse error - Expecting value: line 1",
        ),
        (
            r#"{"detail":"Given token not valid for any token type","code":"token_not_valid","messages":[{"token_class":"AccessToken","token_type":"access","message":"Token is expired"}]}"#,
            "Given token not valid for any token type",
        ),
        (
            r#"{"detail":"User is inactive","code":"user_inactive"}"#,
            "User is inactive",
        ),
        (
            r#"{"error":"invalid_grant","error_description":"The refresh token is spent"}"#,
            "invalid_grant; The refresh token is spent",
        ),
        (r#"{"error":"Server Error (500)"}"#, "Server Error (500)"),
        (r#"{"error":{"message":"no","code":7}}"#, "no"),
        (
            r#"{"non_field_errors":["Unable to log in with provided credentials."]}"#,
            "Unable to log in with provided credentials.",
        ),
        (r#"["message"]"#, "message"),
        (r#"["a",["b"],null,3,{"message":"c"}]"#, "a; b; c"),
        (r#""just text""#, "just text"),
        (r#"{"data":null,"message":"Denied","code":403}"#, "Denied"),
        (
            r#"{"detail":[{"loc":["body","x"],"msg":"field required"}]}"#,
            "field required",
        ),
        (
            r#"{"detail":"Gone","request_id":"4f2a","status":410}"#,
            "Gone",
        ),
        (r#"{"detail":"","message":"used instead"}"#, "used instead"),
        (r#"{"detail":" two\n lines "}"#, "two lines"),
    ] {
        let parsed = json(body);
        assert_eq!(parsed.message.as_deref(), Some(text), "{body}");
        assert_eq!(parsed.fields, [], "{body}");
        assert!(!parsed.mentions_captcha, "{body}");
    }
    for without_message in ["{}", "[]", "\"\"", r#"{"detail":null}"#, "[{}]"] {
        assert_eq!(json(without_message).message, None, "{without_message}");
    }
}

fn fields(parsed: &ParsedError) -> Vec<(&str, Vec<&str>)> {
    parsed
        .fields
        .iter()
        .map(|(field, texts)| (&**field, texts.iter().map(String::as_str).collect()))
        .collect()
}

#[test]
fn validation_errors() {
    let parsed =
        json(r#"{"email":["Enter a valid email address."],"password":["short","common"]}"#);
    assert_eq!(
        parsed.message.as_deref(),
        Some("email: Enter a valid email address.; password: short common")
    );
    assert_eq!(
        fields(&parsed),
        [
            ("email", vec!["Enter a valid email address."]),
            ("password", vec!["short", "common"])
        ]
    );
    let parsed = json(
        r#"{"data":{"email":["taken"]},"message":"Invalid","code":400,"profile":{"name":["empty"],"tags":[{},{"x":["bad"]}]}}"#,
    );
    assert_eq!(
        fields(&parsed),
        [
            ("email", vec!["taken"]),
            ("profile.name", vec!["empty"]),
            ("profile.tags.1.x", vec!["bad"])
        ]
    );
    assert_eq!(
        parsed.message.as_deref(),
        Some("Invalid; email: taken; profile.name: empty; profile.tags.1.x: bad")
    );
    let parsed = json(r#"{"message":"no","errors":{"name":"a string"}}"#);
    assert_eq!(fields(&parsed), [("name", vec!["a string"])]);
}

#[test]
fn captcha_is_mentioned() {
    for body in [
        r#"{"captcha":["This field is required."]}"#,
        r#"{"detail":"Invalid reCAPTCHA."}"#,
        r#"{"message":"no","code":"captcha_required"}"#,
        r#"{"errors":{"g-recaptcha-response":["x"]}}"#,
    ] {
        assert!(json(body).mentions_captcha, "{body}");
    }
}

#[test]
fn html_pages_and_plain_text() {
    for (content_type, body, text) in [
        (
            Some("text/html; charset=utf-8"),
            "<!doctype html><html><head><TITLE lang=en>\n 502 Bad&amp;lt; Gateway\n</TITLE></head><body>x</body>",
            Some("502 Bad&amp;lt; Gateway"),
        ),
        (
            Some("text/html"),
            "<html><script>var a = 1 < 2;</script><body><h1>Too&nbsp;many</h1><p>requests</p>",
            None,
        ),
        (None, "<h1>Not Found</h1>", None),
        (
            Some("text/plain"),
            "upstream timed out",
            Some("upstream timed out"),
        ),
        (Some("text/html"), "<title></title>", None),
        (Some("text/html"), "<title>cut", None),
        (Some("text/html"), r#"{"detail":"not ours"}"#, None),
        (Some("application/json"), "", None),
        (Some("application/json"), "null", Some("null")),
        (None, r#"{"detail":"cut o"#, Some(r#"{"detail":"cut o"#)),
    ] {
        let parsed = parse(content_type, body.as_bytes());
        assert_eq!(parsed.message.as_deref(), text, "{body}");
        assert!(!parsed.is_json, "{body}");
    }
}

#[test]
fn hostile_bodies() {
    let long = json(&format!(r#"{{"detail":"{}"}}"#, "é".repeat(100_000)));
    assert_eq!(
        long.message.map(|m| m.chars().count()),
        Some(MAX_MESSAGE_CHARS + 1)
    );
    let many: Vec<_> = (0..1000).map(|i| format!(r#""f{i}":["x"]"#)).collect();
    assert_eq!(
        json(&format!("{{{}}}", many.join(","))).fields.len(),
        MAX_FIELDS
    );
    for (open, close) in [(r#"{"a":"#, "}"), ("[", "]"), (r#"{"error":"#, "}")] {
        for depth in [7, 20, 100] {
            json(&format!("{}{}", open.repeat(depth), close.repeat(depth)).replace(":}", ":{}}"));
        }
        // Deeper than serde_json's limit: parsed as plain text.
        let _ = parse(None, open.repeat(200_000).as_bytes());
    }
    let _ = parse(None, "<script".repeat(100_000).as_bytes());
    let _ = parse(None, "<title>é</TITLE".repeat(9).as_bytes());
    let _ = parse(None, &[0xff, 0x00, 0x1b, b'<']);
}
