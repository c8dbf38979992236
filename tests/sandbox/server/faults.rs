//! Faults: responses that replace those of endpoints, connections that close early, bytes that
//! are not HTTP, and delays. A fault applies to the next `times` matching requests and is then
//! removed from the settings; a delay stays until it is removed.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::reply::{Body, Reply};
use super::settings::Settings;

/// The form of an error's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// `{"detail":"…"}`
    Json,
    /// An HTML page, as of a proxy.
    Html,
}

/// The form of `Retry-After`, in seconds from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// `Retry-After: 60`
    Seconds(u64),
    /// `Retry-After: Tue, 24 Nov 2026 02:59:05 GMT`
    Date(u64),
    /// No header.
    None,
}

/// The response that replaces the one of the endpoint.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// A status with a body that fits it.
    Status(u16, BodyKind),
    /// 429.
    Throttle(RetryAfter, BodyKind),
    /// The 403 of a CSRF check.
    Csrf,
    /// Exactly this response.
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// No response: the connection closes.
    Close,
    /// These bytes, status line included, `chunk` at a time; then the connection closes.
    Raw {
        bytes: Vec<u8>,
        chunk: usize,
        pause: Duration,
    },
}

/// A fault, and the requests that it applies to.
#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    /// The endpoint, such as `/auth/signin/`; `None` is any.
    pub at: Option<String>,
    /// The number of requests that it applies to.
    pub times: u32,
    /// Whether the endpoint does its work first, so that only its response is lost.
    pub after_work: bool,
}

impl Fault {
    fn new(kind: FaultKind) -> Self {
        Fault {
            kind,
            at: None,
            times: 1,
            after_work: false,
        }
    }

    /// Answer with this status.
    pub fn status(status: u16, body: BodyKind) -> Self {
        Self::new(FaultKind::Status(status, body))
    }

    /// Answer 429.
    pub fn throttle(retry_after: RetryAfter, body: BodyKind) -> Self {
        Self::new(FaultKind::Throttle(retry_after, body))
    }

    /// Answer with this status, these headers (besides `Date` and `Content-Length`) and this body.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        Self::new(FaultKind::Answer {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            body: body.into(),
        })
    }

    /// Answer with a redirect to this URL, with an HTML body.
    pub fn redirect(status: u16, location: &str) -> Self {
        let headers = [("Location", location), ("Content-Type", "text/html")];
        Self::answer(status, &headers, "<title>Moved</title>")
    }

    /// Answer 403 `CSRF Failed`.
    pub fn csrf() -> Self {
        Self::new(FaultKind::Csrf)
    }

    /// Close the connection without a response.
    pub fn close() -> Self {
        Self::new(FaultKind::Close)
    }

    /// Write these bytes to the socket and close the connection.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::drip(bytes, usize::MAX, Duration::ZERO)
    }

    /// Like `raw`, but `chunk` bytes at a time with a pause after each.
    pub fn drip(bytes: impl Into<Vec<u8>>, chunk: usize, pause: Duration) -> Self {
        Self::new(FaultKind::Raw {
            bytes: bytes.into(),
            chunk,
            pause,
        })
    }

    /// Apply only to requests to this endpoint.
    pub fn at(mut self, path: &str) -> Self {
        self.at = Some(path.to_owned());
        self
    }

    /// Apply to this many requests.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Do the endpoint's work first.
    pub fn after_work(mut self) -> Self {
        self.after_work = true;
        self
    }
}

impl FaultKind {
    /// Returns the response, unless the fault bypasses HTTP.
    pub fn reply(&self, settings: &Settings) -> Option<Reply> {
        match self {
            FaultKind::Status(status, kind) => Some(page(*status, reason(*status), *kind)),
            FaultKind::Throttle(retry_after, kind) => {
                Some(throttled(*retry_after, *kind, settings))
            }
            FaultKind::Answer {
                status,
                headers,
                body,
            } => {
                let mut reply = Reply::new(*status, Body::Bytes(body.clone()));
                reply.headers.clone_from(headers);
                Some(reply)
            }
            FaultKind::Csrf => Some(Reply::csrf()),
            FaultKind::Close | FaultKind::Raw { .. } => None,
        }
    }
}

fn throttled(retry_after: RetryAfter, kind: BodyKind, settings: &Settings) -> Reply {
    let (header, text) = match retry_after {
        RetryAfter::Seconds(seconds) => (
            Some(seconds.to_string()),
            format!("Request was throttled. Expected available in {seconds} seconds."),
        ),
        RetryAfter::Date(seconds) => {
            let at = UNIX_EPOCH + Duration::from_secs(settings.now() as u64 + seconds);
            (
                Some(httpdate::fmt_http_date(at)),
                "Request was throttled.".to_owned(),
            )
        }
        RetryAfter::None => (None, "Request was throttled.".to_owned()),
    };
    let reply = page(429, &text, kind);
    match header {
        Some(value) => reply.header("Retry-After", &value),
        None => reply,
    }
}

fn page(status: u16, text: &str, kind: BodyKind) -> Reply {
    match kind {
        BodyKind::Json if status >= 500 => {
            Reply::json(status, json!({ "error": format!("{text} ({status})") }))
        }
        BodyKind::Json => Reply::detail(status, text),
        BodyKind::Html => Reply::html(status, text),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        500 => "Server Error",
        _ => hyper::StatusCode::from_u16(status)
            .unwrap()
            .canonical_reason()
            .unwrap_or("Unknown"),
    }
}

/// A delay before and after an endpoint's work.
#[derive(Clone, Debug, Default)]
pub struct Delay {
    /// The endpoint; `None` is any.
    pub at: Option<String>,
    pub before: Duration,
    pub after: Duration,
}

impl Delay {
    /// Wait before the work.
    pub fn before(wait: Duration) -> Self {
        Delay {
            before: wait,
            ..Delay::default()
        }
    }

    /// Wait after the work, before the response.
    pub fn after(wait: Duration) -> Self {
        Delay {
            after: wait,
            ..Delay::default()
        }
    }

    /// Apply only to requests to this endpoint.
    pub fn at(mut self, path: &str) -> Self {
        self.at = Some(path.to_owned());
        self
    }
}

impl Settings {
    /// Returns the delays before and after the work of a request to `path`.
    pub fn waits(&self, path: &str) -> (Duration, Duration) {
        let due = self.delays.iter().filter(|delay| applies(&delay.at, path));
        due.fold(
            (Duration::ZERO, Duration::ZERO),
            |(before, after), delay| (before + delay.before, after + delay.after),
        )
    }

    /// Takes the first fault that applies to a request to `path`.
    pub fn take_fault(&mut self, path: &str) -> Option<Fault> {
        self.faults.retain(|fault| fault.times > 0);
        let fault = self
            .faults
            .iter_mut()
            .find(|fault| applies(&fault.at, path))?;
        fault.times -= 1;
        Some(fault.clone())
    }
}

fn applies(at: &Option<String>, path: &str) -> bool {
    at.as_deref().is_none_or(|at| at == path)
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(spec: &str) -> Result<Self, String> {
        let mut delay = Delay::default();
        for (key, value) in pairs(spec) {
            match key {
                "before" => delay.before = Duration::from_millis(number(key, value)?),
                "after" => delay.after = Duration::from_millis(number(key, value)?),
                "at" => delay.at = Some(value.to_owned()),
                _ => return Err(format!("unknown key `{key}`")),
            }
        }
        Ok(delay)
    }
}

/// The keys that choose the kind of a fault. Exactly one is needed.
const FAULTS: [&str; 6] = ["status", "throttle", "redirect", "csrf", "close", "raw"];

impl FromStr for Fault {
    type Err = String;

    fn from_str(spec: &str) -> Result<Self, String> {
        let (mut kind, mut retry, mut drip) = (BodyKind::Json, "seconds", None);
        let mut fault = Fault::new(FaultKind::Close);
        let (mut found, mut seconds, mut location) = (false, 0, "/api/v1/");
        for (key, value) in pairs(spec) {
            match key {
                "status" => fault.kind = FaultKind::Status(number(key, value)?, kind),
                "throttle" => {
                    seconds = number(key, value)?;
                    fault.kind = FaultKind::Throttle(RetryAfter::None, kind);
                }
                "redirect" => {
                    let status = number(key, value)?;
                    fault.kind = Fault::redirect(status, location).kind;
                }
                "to" => location = value,
                "csrf" => fault.kind = FaultKind::Csrf,
                "close" => fault.kind = FaultKind::Close,
                "raw" => {
                    let bytes =
                        std::fs::read(value).map_err(|error| format!("{value}: {error}"))?;
                    fault.kind = Fault::raw(bytes).kind;
                }
                "body" if value == "html" => kind = BodyKind::Html,
                "body" if value == "json" => kind = BodyKind::Json,
                "retry" if ["seconds", "date", "none"].contains(&value) => retry = value,
                "drip" => drip = Some(Duration::from_millis(number(key, value)?)),
                "times" => fault.times = number(key, value)?,
                "at" => fault.at = Some(value.to_owned()),
                "after-work" => fault.after_work = true,
                _ => return Err(format!("cannot use `{key}={value}`")),
            }
            found |= FAULTS.contains(&key);
        }
        match &mut fault.kind {
            FaultKind::Status(status, body) => {
                hyper::StatusCode::from_u16(*status).map_err(|error| error.to_string())?;
                *body = kind;
            }
            FaultKind::Answer { headers, .. } => headers[0].1 = location.to_owned(),
            FaultKind::Throttle(retry_after, body) => {
                *body = kind;
                *retry_after = match retry {
                    "seconds" => RetryAfter::Seconds(seconds),
                    "date" => RetryAfter::Date(seconds),
                    _ => RetryAfter::None,
                };
            }
            FaultKind::Raw { chunk, pause, .. } => {
                if let Some(wait) = drip {
                    (*chunk, *pause) = (1, wait);
                }
            }
            _ => {}
        }
        if found {
            Ok(fault)
        } else {
            Err(format!("must have one of {}", FAULTS.join(", ")))
        }
    }
}

fn pairs(spec: &str) -> impl Iterator<Item = (&str, &str)> {
    spec.split(',')
        .map(|part| part.split_once('=').unwrap_or((part, "")))
}

fn number<N: FromStr>(key: &str, value: &str) -> Result<N, String> {
    value
        .parse()
        .map_err(|_| format!("`{value}` is not a number for `{key}`"))
}
