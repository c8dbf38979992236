//! The text of an error's body: what to tell a person, and which field each
//! complaint is about.
//!
//! It knows the shapes in which frameworks and proxies complain, and nothing
//! of statuses. The texts stay raw; whoever shows them cleans them.

use serde_json::{Map, Value};

/// The longest text made of a body, in characters.
const LONGEST: usize = 500;
/// The longest excerpt of a body that is not JSON.
const EXCERPT: usize = 200;
/// How deep the fields of an error may nest.
const DEEPEST: usize = 8;
/// The most fields told of.
const MOST_FIELDS: usize = 64;

/// Keys of an object that are no field of a form.
const NOT_FIELDS: [&str; 13] = [
    "detail",
    "message",
    "messages",
    "error",
    "error_description",
    "error_uri",
    "errors",
    "non_field_errors",
    "data",
    "code",
    "status",
    "status_code",
    "success",
];

/// What a body says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Whether it is the API that speaks: JSON, rather than the page of a proxy.
    pub(super) json: bool,
    /// One text, complete by itself; `None` where the body says nothing.
    pub(super) message: Option<String>,
    /// The complaints a field.
    pub(super) fields: Vec<(String, Vec<String>)>,
    /// Whether a captcha is mentioned, as a field or in the text.
    pub(super) captcha: bool,
}

/// Reads the body of an error.
pub(super) fn read(content_type: Option<&str>, body: &[u8]) -> Said {
    if !is_html(content_type) {
        match serde_json::from_slice(body) {
            Ok(value @ (Value::Object(_) | Value::Array(_) | Value::String(_))) => {
                return of_json(&value);
            }
            _ => {}
        }
    }
    let text = String::from_utf8_lossy(body);
    let text = title(&text).unwrap_or_else(|| excerpt(&text));
    Said {
        message: (!text.is_empty()).then_some(text),
        ..Said::default()
    }
}

/// Whether the header says HTML.
pub(super) fn is_html(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|t| t.to_ascii_lowercase().contains("html"))
}

fn of_json(value: &Value) -> Said {
    let mut found = Found::default();
    match value {
        Value::Object(object) => found.object(object, 0),
        other => found.texts.extend(strings(other, 0)),
    }
    let mut lines = found.texts;
    for (field, texts) in &found.fields {
        lines.push(format!("{field}: {}", texts.join(" ")));
    }
    let message = shorten(&lines.join("; "), LONGEST);
    let mentions = |text: &str| text.to_ascii_lowercase().contains("captcha");
    Said {
        json: true,
        captcha: mentions(&message)
            || found.code.as_deref().is_some_and(mentions)
            || found.fields.iter().any(|(field, _)| mentions(field)),
        message: (!message.is_empty()).then_some(message),
        fields: found.fields,
    }
}

/// What has been found on the way through a body.
#[derive(Default)]
struct Found {
    texts: Vec<String>,
    fields: Vec<(String, Vec<String>)>,
    code: Option<String>,
}

impl Found {
    fn object(&mut self, object: &Map<String, Value>, depth: usize) {
        if depth >= DEEPEST {
            return;
        }
        if let Some(code) = object.get("code").and_then(Value::as_str) {
            self.code = Some(code.to_owned());
        }
        let before = self.texts.len();
        for key in ["detail", "message", "error", "non_field_errors"] {
            match object.get(key) {
                // FastAPI and others put the fields themselves under one of these names.
                Some(Value::Object(inner)) => self.object(inner, depth + 1),
                Some(value) => self.texts.extend(strings(value, depth)),
                None => {}
            }
            let found = self.texts.len() > before;
            if key == "error" && found {
                let more = object.get("error_description");
                self.texts
                    .extend(more.into_iter().flat_map(|v| strings(v, depth)));
            }
            if found {
                break;
            }
        }
        let said = self.texts.len() > before;
        for key in ["errors", "data"] {
            match object.get(key) {
                Some(Value::Object(inner)) => self.object(inner, depth + 1),
                Some(value @ (Value::Array(_) | Value::String(_))) if key == "errors" => {
                    self.texts.extend(strings(value, depth));
                }
                _ => {}
            }
        }
        for (key, value) in object {
            if NOT_FIELDS.contains(&key.as_str()) {
                continue;
            }
            // Beside a message, a lone string is more likely a request's number than a complaint.
            if !(said && value.is_string()) {
                self.field(key, value, depth + 1);
            }
        }
    }

    fn field(&mut self, name: &str, value: &Value, depth: usize) {
        if depth >= DEEPEST || self.fields.len() >= MOST_FIELDS {
            return;
        }
        match value {
            Value::Object(inner) => {
                for (key, value) in inner {
                    self.field(&format!("{name}.{key}"), value, depth + 1);
                }
            }
            // A list of forms, as of nested serializers, has an object a form.
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (index, item) in items.iter().enumerate() {
                    self.field(&format!("{name}.{index}"), item, depth + 1);
                }
            }
            other => {
                let texts: Vec<_> = strings(other, depth).collect();
                if !texts.is_empty() {
                    self.fields.push((shorten(name, EXCERPT), texts));
                }
            }
        }
    }
}

/// The texts in a string, a list, or a list of `{message}` objects.
fn strings(value: &Value, depth: usize) -> Box<dyn Iterator<Item = String> + '_> {
    match value {
        Value::String(text) => {
            let text = shorten(text, LONGEST);
            Box::new((!text.is_empty()).then_some(text).into_iter())
        }
        Value::Array(items) if depth < DEEPEST => Box::new(
            items
                .iter()
                .take(MOST_FIELDS)
                .flat_map(move |item| strings(item, depth + 1)),
        ),
        Value::Object(object) if depth < DEEPEST => {
            let text = ["detail", "message", "msg", "error"]
                .iter()
                .find_map(|key| object.get(*key));
            Box::new(
                text.into_iter()
                    .flat_map(move |text| strings(text, depth + 1)),
            )
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// The text of `<title>`, which is where servers and proxies say what happened.
fn title(html: &str) -> Option<String> {
    let lower = html.to_ascii_lowercase();
    let tag = lower.find("<title")?;
    let begin = tag + lower.get(tag..)?.find('>')? + 1;
    let end = begin + lower.get(begin..)?.find("</title")?;
    let text = shorten(&decode(html.get(begin..end)?), EXCERPT);
    (!text.is_empty()).then_some(text)
}

/// The beginning of a body that is not JSON, without tags.
fn excerpt(text: &str) -> String {
    // No page needs more than this for its first words.
    let mut rest: String = text.chars().take(16 * 1024).collect();
    for element in ["<script", "<style", "<!--"] {
        let end = if element == "<!--" { "-->" } else { "</" };
        while let Some(begin) = rest.to_ascii_lowercase().find(element) {
            let after = begin + element.len();
            let length = rest.get(after..).and_then(|tail| tail.find(end));
            let stop = length.map_or(rest.len(), |length| after + length + end.len());
            rest.replace_range(begin..stop, "<>");
        }
    }
    let mut shown = String::new();
    let mut inside = false;
    for c in rest.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                shown.push(' ');
            }
            c if !inside => shown.push(c),
            _ => {}
        }
    }
    shorten(&decode(&shown), EXCERPT)
}

/// The five entities that a text needs, with `&amp;` last so that nothing is decoded twice.
fn decode(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&#x27;", "'")
        .replace("&nbsp;", " ")
        .replace("&amp;", "&")
}

/// One line of at most `most` characters.
fn shorten(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        for c in (!line.is_empty())
            .then_some(' ')
            .into_iter()
            .chain(word.chars())
        {
            if length == most {
                line.push('…');
                return line;
            }
            line.push(c);
            length += 1;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &str) -> Said {
        let said = read(Some("application/json"), body.as_bytes());
        assert!(said.json, "{body}");
        said
    }

    #[test]
    fn one_text() {
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
            let said = json(body);
            assert_eq!(said.message.as_deref(), Some(text), "{body}");
            assert_eq!(said.fields, [], "{body}");
            assert!(!said.captcha, "{body}");
        }
        for silent in ["{}", "[]", "\"\"", r#"{"detail":null}"#, "[{}]"] {
            assert_eq!(json(silent).message, None, "{silent}");
        }
    }

    fn fields(said: &Said) -> Vec<(&str, Vec<&str>)> {
        said.fields
            .iter()
            .map(|(field, texts)| (&**field, texts.iter().map(String::as_str).collect()))
            .collect()
    }

    #[test]
    fn fields_and_their_text() {
        let said =
            json(r#"{"email":["Enter a valid email address."],"password":["short","common"]}"#);
        assert_eq!(
            said.message.as_deref(),
            Some("email: Enter a valid email address.; password: short common")
        );
        assert_eq!(
            fields(&said),
            [
                ("email", vec!["Enter a valid email address."]),
                ("password", vec!["short", "common"])
            ]
        );
        let said = json(
            r#"{"data":{"email":["taken"]},"message":"Invalid","code":400,"profile":{"name":["empty"],"tags":[{},{"x":["bad"]}]}}"#,
        );
        assert_eq!(
            fields(&said),
            [
                ("email", vec!["taken"]),
                ("profile.name", vec!["empty"]),
                ("profile.tags.1.x", vec!["bad"])
            ]
        );
        assert_eq!(
            said.message.as_deref(),
            Some("Invalid; email: taken; profile.name: empty; profile.tags.1.x: bad")
        );
        let said = json(r#"{"message":"no","errors":{"name":"a string"}}"#);
        assert_eq!(fields(&said), [("name", vec!["a string"])]);
    }

    #[test]
    fn captcha() {
        for body in [
            r#"{"captcha":["This field is required."]}"#,
            r#"{"detail":"Invalid reCAPTCHA."}"#,
            r#"{"message":"no","code":"captcha_failed"}"#,
            r#"{"errors":{"g-recaptcha-response":["x"]}}"#,
        ] {
            assert!(json(body).captcha, "{body}");
        }
    }

    #[test]
    fn pages() {
        for (content_type, body, text) in [
            (
                Some("text/html; charset=utf-8"),
                "<!doctype html><html><head><TITLE lang=en>\n 502 Bad&amp;lt; Gateway\n</TITLE></head><body>x</body>",
                Some("502 Bad&lt; Gateway"),
            ),
            (
                Some("text/html"),
                "<html><script>var a = 1 < 2;</script><body><h1>Too&nbsp;many</h1><p>requests</p>",
                Some("Too many requests"),
            ),
            (None, "<h1>Not Found</h1>", Some("Not Found")),
            (
                Some("text/plain"),
                "upstream timed out",
                Some("upstream timed out"),
            ),
            (Some("text/html"), "<title></title>", None),
            (Some("text/html"), "<title>cut", Some("cut")),
            (
                Some("text/html"),
                r#"{"detail":"not ours"}"#,
                Some(r#"{"detail":"not ours"}"#),
            ),
            (Some("application/json"), "", None),
            (Some("application/json"), "null", Some("null")),
            (None, r#"{"detail":"cut o"#, Some(r#"{"detail":"cut o"#)),
        ] {
            let said = read(content_type, body.as_bytes());
            assert_eq!(said.message.as_deref(), text, "{body}");
            assert!(!said.json, "{body}");
        }
    }

    #[test]
    fn hostile_bodies() {
        let long = json(&format!(r#"{{"detail":"{}"}}"#, "é".repeat(100_000)));
        assert_eq!(long.message.map(|m| m.chars().count()), Some(LONGEST + 1));
        let many: Vec<_> = (0..1000).map(|i| format!(r#""f{i}":["x"]"#)).collect();
        assert_eq!(
            json(&format!("{{{}}}", many.join(","))).fields.len(),
            MOST_FIELDS
        );
        for (open, close) in [(r#"{"a":"#, "}"), ("[", "]"), (r#"{"error":"#, "}")] {
            for depth in [7, 20, 100] {
                json(
                    &format!("{}{}", open.repeat(depth), close.repeat(depth)).replace(":}", ":{}}"),
                );
            }
            // Deeper than the parser goes: no longer JSON to us.
            let _ = read(None, open.repeat(200_000).as_bytes());
        }
        let _ = read(None, "<script".repeat(100_000).as_bytes());
        let _ = read(None, "<title>é</TITLE".repeat(9).as_bytes());
        let _ = read(None, &[0xff, 0x00, 0x1b, b'<']);
    }
}
