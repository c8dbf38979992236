//! Parses the body of an error response into a message and validation errors.
//!
//! It supports the formats that web frameworks and proxies use, and ignores the status.
//! The texts may contain control characters: the code that prints them must clean them.

use serde_json::{Map, Value};

const MAX_MESSAGE_CHARS: usize = 500;
/// Maximum number of characters of a title, a field name or a body that is not JSON.
const MAX_EXCERPT_CHARS: usize = 200;
/// Maximum depth of nested objects and lists.
const MAX_DEPTH: usize = 8;
const MAX_FIELDS: usize = 64;

/// Keys of an error object that are never the name of an invalid field.
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
    /// Whether the body is JSON. If so, the API sent it, and not a proxy.
    pub(super) is_json: bool,
    /// The message, followed by the validation errors. `None` if the body has neither.
    pub(super) message: Option<String>,
    /// Validation errors by field name.
    pub(super) fields: Vec<(String, Vec<String>)>,
    /// Whether a field name, the code or the message contains "captcha".
    pub(super) mentions_captcha: bool,
    /// Whether a field name, the code or the message contains "csrf" or "referer".
    pub(super) mentions_csrf: bool,
}

/// Parses an error body. Never fails: a body in an unknown format yields a short excerpt.
pub(super) fn parse(content_type: Option<&str>, body: &[u8]) -> ParsedError {
    if !is_html(content_type, body)
        && let Ok(value @ (Value::Object(_) | Value::Array(_) | Value::String(_))) =
            serde_json::from_slice(body)
    {
        return from_json(&value);
    }
    let text = String::from_utf8_lossy(body);
    let text = match is_html(content_type, body) {
        true => html_title(&text).unwrap_or_default(),
        false => shorten(&text, MAX_EXCERPT_CHARS),
    };
    ParsedError {
        message: (!text.is_empty()).then_some(text),
        ..ParsedError::default()
    }
}

/// Whether the body is an HTML page, according to `Content-Type` or its first character.
pub(super) fn is_html(content_type: Option<&str>, body: &[u8]) -> bool {
    content_type.is_some_and(|t| t.to_ascii_lowercase().contains("html"))
        || body.trim_ascii_start().starts_with(b"<")
}

fn from_json(value: &Value) -> ParsedError {
    let mut collector = Collector::default();
    match value {
        Value::Object(object) => collector.add_object(object, 0),
        other => add_texts(&mut collector.texts, other, 0),
    }
    let mut parts = collector.texts;
    for (field, texts) in &collector.fields {
        parts.push(format!("{field}: {}", texts.join(" ")));
    }
    let message = shorten(&parts.join("; "), MAX_MESSAGE_CHARS);
    let fields = collector.fields.iter().map(|(field, _)| field.as_str());
    let texts: Vec<_> = (fields.chain([&*message]).chain(collector.code.as_deref()))
        .map(str::to_ascii_lowercase)
        .collect();
    let mentions = |word: &str| texts.iter().any(|text| text.contains(word));
    ParsedError {
        is_json: true,
        mentions_captcha: mentions("captcha"),
        mentions_csrf: mentions("csrf") || mentions("referer"),
        message: (!message.is_empty()).then_some(message),
        fields: collector.fields,
    }
}

/// Collects the texts and the validation errors of an error body.
#[derive(Default)]
struct Collector {
    texts: Vec<String>,
    /// The texts of each field.
    fields: Vec<(String, Vec<String>)>,
    /// The machine-readable error code.
    code: Option<String>,
}

impl Collector {
    fn add_object(&mut self, object: &Map<String, Value>, depth: usize) {
        if depth >= MAX_DEPTH {
            return;
        }
        if let Some(code) = object.get("code").and_then(Value::as_str) {
            self.code = Some(code.to_owned());
        }
        let initial_count = self.texts.len();
        for key in ["detail", "message", "error", "non_field_errors"] {
            match object.get(key) {
                // FastAPI and other frameworks put the validation errors into such an object.
                Some(Value::Object(inner)) => self.add_object(inner, depth + 1),
                Some(value) => add_texts(&mut self.texts, value, depth),
                None => {}
            }
            let has_text = self.texts.len() > initial_count;
            if key == "error"
                && has_text
                && let Some(description) = object.get("error_description")
            {
                add_texts(&mut self.texts, description, depth);
            }
            if has_text {
                break;
            }
        }
        let has_message = self.texts.len() > initial_count;
        for key in ["errors", "data"] {
            match object.get(key) {
                Some(Value::Object(inner)) => self.add_object(inner, depth + 1),
                Some(value @ (Value::Array(_) | Value::String(_))) if key == "errors" => {
                    add_texts(&mut self.texts, value, depth);
                }
                _ => {}
            }
        }
        for (key, value) in object {
            // If the object has a message, a string under another key is more likely a
            // request ID than a validation error.
            let is_unrelated = has_message && value.is_string();
            if !is_unrelated && !NOT_FIELDS.contains(&key.as_str()) {
                self.add_field(key, value, depth + 1);
            }
        }
    }

    fn add_field(&mut self, name: &str, value: &Value, depth: usize) {
        if depth >= MAX_DEPTH || self.fields.len() >= MAX_FIELDS {
            return;
        }
        match value {
            Value::Object(inner) => {
                for (key, value) in inner {
                    self.add_field(&format!("{name}.{key}"), value, depth + 1);
                }
            }
            // For a list of nested forms, Django REST framework sends a list of objects.
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (index, item) in items.iter().enumerate() {
                    self.add_field(&format!("{name}.{index}"), item, depth + 1);
                }
            }
            other => {
                let mut texts = Vec::new();
                add_texts(&mut texts, other, depth);
                if !texts.is_empty() {
                    self.fields.push((shorten(name, MAX_EXCERPT_CHARS), texts));
                }
            }
        }
    }
}

/// Adds the text of a string, the texts in a list, or the message of an object.
fn add_texts(texts: &mut Vec<String>, value: &Value, depth: usize) {
    match value {
        Value::String(text) => {
            let text = shorten(text, MAX_MESSAGE_CHARS);
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

/// Returns the text of `<title>`, in which servers and proxies put the error.
fn html_title(html: &str) -> Option<String> {
    let lower = html.to_ascii_lowercase();
    let tag_start = lower.find("<title")?;
    let start = tag_start + lower.get(tag_start..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find("</title")?;
    Some(shorten(html.get(start..end)?, MAX_EXCERPT_CHARS))
}

/// Replaces each run of whitespace by one space, and cuts the text off after `max_chars`
/// characters.
fn shorten(text: &str, max_chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
