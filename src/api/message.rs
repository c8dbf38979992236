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
    if !is_html(content_type)
        && let Ok(value @ (Value::Object(_) | Value::Array(_) | Value::String(_))) =
            serde_json::from_slice(body)
    {
        return of_json(&value);
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
    for (element, end) in [
        ("<script", "</script"),
        ("<style", "</style"),
        ("<!--", "--"),
    ] {
        while let Some(begin) = rest.to_ascii_lowercase().find(element) {
            let after = begin + element.len();
            let length = rest
                .get(after..)
                .and_then(|tail| tail.to_ascii_lowercase().find(end));
            let stop = length.map_or(rest.len(), |length| after + length + end.len());
            rest.replace_range(begin..stop, "<");
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
mod tests;
