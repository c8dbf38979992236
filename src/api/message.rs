//! Parses the bodies of errors: a message, and the validation errors of fields.
//!
//! It knows the forms that frameworks and proxies use, and no statuses. Texts
//! are the server's own, uncleaned: whoever prints them cleans them.

use serde_json::{Map, Value};

/// Maximum length of a message, in characters.
const MAX_MESSAGE: usize = 500;
/// Maximum length of a title, a field name or a body that is not JSON.
const MAX_EXCERPT: usize = 200;
/// Maximum nesting of fields.
const MAX_DEPTH: usize = 8;
/// Maximum number of fields.
const MAX_FIELDS: usize = 64;

/// Keys of an object that are not fields of a form.
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

/// A parsed error body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ParsedError {
    /// Whether it is JSON, and so from the API, rather than a proxy's page.
    pub(super) is_json: bool,
    /// A complete message, unless the body has none.
    pub(super) message: Option<String>,
    /// Validation errors by field name.
    pub(super) fields: Vec<(String, Vec<String>)>,
    /// Whether a captcha is mentioned, as a field or in the text.
    pub(super) captcha: bool,
    /// Whether a CSRF check or the `Referer` header is mentioned.
    pub(super) csrf: bool,
}

pub(super) fn parse(content_type: Option<&str>, body: &[u8]) -> ParsedError {
    if !is_html(content_type, body)
        && let Ok(value @ (Value::Object(_) | Value::Array(_) | Value::String(_))) =
            serde_json::from_slice(body)
    {
        return from_json(&value);
    }
    let text = String::from_utf8_lossy(body);
    let text = match is_html(content_type, body) {
        true => title(&text).unwrap_or_default(),
        false => shorten(&text, MAX_EXCERPT),
    };
    ParsedError {
        message: (!text.is_empty()).then_some(text),
        ..ParsedError::default()
    }
}

/// Whether the body is an HTML page, by its header or by its first character.
pub(super) fn is_html(content_type: Option<&str>, body: &[u8]) -> bool {
    content_type.is_some_and(|t| t.to_ascii_lowercase().contains("html"))
        || body.trim_ascii_start().starts_with(b"<")
}

fn from_json(value: &Value) -> ParsedError {
    let mut found = Found::default();
    match value {
        Value::Object(object) => found.object(object, 0),
        other => add_texts(&mut found.texts, other, 0),
    }
    let mut lines = found.texts;
    for (field, texts) in &found.fields {
        lines.push(format!("{field}: {}", texts.join(" ")));
    }
    let message = shorten(&lines.join("; "), MAX_MESSAGE);
    let fields = found.fields.iter().map(|(field, _)| field.as_str());
    let texts: Vec<_> = (fields.chain([&*message]).chain(found.code.as_deref()))
        .map(str::to_ascii_lowercase)
        .collect();
    let mentions = |word: &str| texts.iter().any(|text| text.contains(word));
    ParsedError {
        is_json: true,
        captcha: mentions("captcha"),
        csrf: mentions("csrf") || mentions("referer"),
        message: (!message.is_empty()).then_some(message),
        fields: found.fields,
    }
}

#[derive(Default)]
struct Found {
    texts: Vec<String>,
    fields: Vec<(String, Vec<String>)>,
    code: Option<String>,
}

impl Found {
    fn object(&mut self, object: &Map<String, Value>, depth: usize) {
        if depth >= MAX_DEPTH {
            return;
        }
        if let Some(code) = object.get("code").and_then(Value::as_str) {
            self.code = Some(code.to_owned());
        }
        let before = self.texts.len();
        for key in ["detail", "message", "error", "non_field_errors"] {
            match object.get(key) {
                // FastAPI and others put the fields under one of these keys.
                Some(Value::Object(inner)) => self.object(inner, depth + 1),
                Some(value) => add_texts(&mut self.texts, value, depth),
                None => {}
            }
            let found = self.texts.len() > before;
            if key == "error"
                && found
                && let Some(more) = object.get("error_description")
            {
                add_texts(&mut self.texts, more, depth);
            }
            if found {
                break;
            }
        }
        let has_message = self.texts.len() > before;
        for key in ["errors", "data"] {
            match object.get(key) {
                Some(Value::Object(inner)) => self.object(inner, depth + 1),
                Some(value @ (Value::Array(_) | Value::String(_))) if key == "errors" => {
                    add_texts(&mut self.texts, value, depth);
                }
                _ => {}
            }
        }
        for (key, value) in object {
            // Beside a message, a string is more likely a request's number than an error.
            let is_other = has_message && value.is_string();
            if !is_other && !NOT_FIELDS.contains(&key.as_str()) {
                self.field(key, value, depth + 1);
            }
        }
    }

    fn field(&mut self, name: &str, value: &Value, depth: usize) {
        if depth >= MAX_DEPTH || self.fields.len() >= MAX_FIELDS {
            return;
        }
        match value {
            Value::Object(inner) => {
                for (key, value) in inner {
                    self.field(&format!("{name}.{key}"), value, depth + 1);
                }
            }
            // Nested serializers give a list with an object per form.
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (index, item) in items.iter().enumerate() {
                    self.field(&format!("{name}.{index}"), item, depth + 1);
                }
            }
            other => {
                let mut texts = Vec::new();
                add_texts(&mut texts, other, depth);
                if !texts.is_empty() {
                    self.fields.push((shorten(name, MAX_EXCERPT), texts));
                }
            }
        }
    }
}

/// Adds the texts in a string, a list, or a list of `{message}` objects.
fn add_texts(texts: &mut Vec<String>, value: &Value, depth: usize) {
    match value {
        Value::String(text) => {
            let text = shorten(text, MAX_MESSAGE);
            texts.extend((!text.is_empty()).then_some(text));
        }
        Value::Array(items) if depth < MAX_DEPTH => {
            for item in items.iter().take(MAX_FIELDS) {
                add_texts(texts, item, depth + 1);
            }
        }
        Value::Object(object) if depth < MAX_DEPTH => {
            let keys = ["detail", "message", "msg", "error"];
            if let Some(value) = keys.iter().find_map(|key| object.get(*key)) {
                add_texts(texts, value, depth + 1);
            }
        }
        _ => {}
    }
}

/// The text of `<title>`, which servers and proxies use for the error.
fn title(html: &str) -> Option<String> {
    let lower = html.to_ascii_lowercase();
    let tag = lower.find("<title")?;
    let begin = tag + lower.get(tag..)?.find('>')? + 1;
    let end = begin + lower.get(begin..)?.find("</title")?;
    Some(shorten(html.get(begin..end)?, MAX_EXCERPT))
}

/// Joins the words into one line of at most `limit` characters.
fn shorten(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
