//! Builds responses: the forms of bodies that the API uses, the envelope around them, and the
//! suffix that a test appends to every string.

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::settings::{Envelope, Settings};

/// A response that is not converted to HTTP yet.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

/// The body of a reply.
pub enum Body {
    /// Bytes without a content type.
    Bytes(Vec<u8>),
    Json(Value),
    /// An HTML page with this title.
    Html(String),
}

impl Reply {
    pub fn empty(status: u16) -> Self {
        Reply::new(status, Body::Bytes(Vec::new()))
    }

    pub fn new(status: u16, body: Body) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body,
        }
    }

    pub fn json(status: u16, value: Value) -> Self {
        Reply::new(status, Body::Json(value))
    }

    /// Returns a response with the body `{"detail":"…"}`.
    pub fn detail(status: u16, text: &str) -> Self {
        Reply::json(status, json!({ "detail": text }))
    }

    /// Returns a response with status 400 and the body `{"NAME":["…"]}`.
    pub fn field(name: &str, text: &str) -> Self {
        Reply::json(400, json!({ name: [text] }))
    }

    /// Returns a response with status 401 and a machine-readable code.
    pub fn unauthorized(text: &str) -> Self {
        let body = json!({ "detail": text, "code": "token_not_valid" });
        Reply::json(401, body).header("WWW-Authenticate", "Bearer realm=\"api\"")
    }

    /// Returns the response with status 403 of the framework's CSRF check.
    pub fn csrf() -> Self {
        Self::detail(403, "CSRF Failed: Referer checking failed - no Referer.")
    }

    pub fn html(status: u16, title: &str) -> Self {
        Reply::new(status, Body::Html(title.to_owned()))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn cookies(mut self, lines: Vec<String>) -> Self {
        let lines = lines
            .into_iter()
            .map(|line| ("Set-Cookie".to_owned(), line));
        self.headers.extend(lines);
        self
    }

    /// Converts the reply to HTTP. Its headers override the default headers.
    pub fn into_response(self, settings: &Settings) -> Response<Full<Bytes>> {
        let suffix = &settings.text_suffix;
        let (body, content_type) = match self.body {
            Body::Bytes(bytes) => (bytes, None),
            Body::Json(mut value) => {
                append_suffix(&mut value, suffix);
                if settings.envelope == Envelope::All
                    || (settings.envelope == Envelope::Success && self.status < 300)
                {
                    value = wrap_in_envelope(value, self.status);
                }
                let bytes = serde_json::to_vec(&value).unwrap();
                (bytes, Some("application/json"))
            }
            Body::Html(title) => {
                let title = format!("{} {title}{suffix}", self.status);
                let page = format!(
                    "<!doctype html>\n<html><head><title>{title}</title></head>\n<body><h1>{title}</h1></body></html>\n"
                );
                (page.into_bytes(), Some("text/html; charset=utf-8"))
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = hyper::StatusCode::from_u16(self.status).unwrap();
        let head = response.headers_mut();
        if let Some(content_type) = content_type {
            head.insert("content-type", HeaderValue::from_static(content_type));
        }
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(settings.now() as u64);
        let date = httpdate::fmt_http_date(now);
        head.insert("date", HeaderValue::from_str(&date).unwrap());
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            if name == "date" || name == "content-type" {
                head.insert(name, value);
            } else {
                head.append(name, value);
            }
        }
        response
    }
}

fn wrap_in_envelope(value: Value, status: u16) -> Value {
    if status < 300 {
        return json!({ "data": value, "message": "OK", "code": status });
    }
    let message = value["detail"].as_str().unwrap_or("Request failed.");
    json!({ "data": value, "message": message, "code": status })
}

/// Appends the suffix to every string except those that a client sends back.
fn append_suffix(value: &mut Value, suffix: &str) {
    match value {
        Value::String(text) => text.push_str(suffix),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| append_suffix(item, suffix)),
        Value::Object(fields) => {
            for (name, item) in fields.iter_mut() {
                let sent_back = ["access", "refresh", "access_token", "refresh_token", "code"];
                if !sent_back.contains(&name.as_str()) {
                    append_suffix(item, suffix);
                }
            }
        }
        _ => {}
    }
}
