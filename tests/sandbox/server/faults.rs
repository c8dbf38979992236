//! Faults: responses that replace those of endpoints, connections that close early, bytes that
//! are not HTTP, and delays. A fault applies to the next `times` matching requests, and is then
//! removed from the settings. A delay applies until the test removes it.

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
    /// A status, with the reason phrase in the body.
    Status(u16, BodyKind),
    /// A response with status 429.
    Throttle(RetryAfter, BodyKind),
    /// The response with status 403 of a failed CSRF check.
    Csrf,
    /// This response.
    Response {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// No response: the connection closes.
    Close,
    /// These bytes, which include the status line, written `chunk` bytes at a time. Then the
    /// connection closes.
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
    /// The endpoint, such as `/auth/signin/`. `None` means any path.
    pub at: Option<String>,
    /// The number of requests that the fault still applies to.
    pub times: u32,
    /// Whether the endpoint processes the request first, so that only its response is lost.
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

    /// Responds with this status.
    pub fn status(status: u16, body: BodyKind) -> Self {
        Self::new(FaultKind::Status(status, body))
    }

    /// Responds with status 429.
    pub fn throttle(retry_after: RetryAfter, body: BodyKind) -> Self {
        Self::new(FaultKind::Throttle(retry_after, body))
    }

    /// Responds with this status, these headers (besides `Date` and `Content-Length`) and this body.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        Self::new(FaultKind::Response {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            body: body.into(),
        })
    }

    /// Responds with a redirect to this URL, with an HTML body.
    pub fn redirect(status: u16, location: &str) -> Self {
        let headers = [("Location", location), ("Content-Type", "text/html")];
        Self::answer(status, &headers, "<title>Moved</title>")
    }

    /// Responds with status 403 and `CSRF Failed`.
    pub fn csrf() -> Self {
        Self::new(FaultKind::Csrf)
    }

    /// Closes the connection without a response.
    pub fn close() -> Self {
        Self::new(FaultKind::Close)
    }

    /// Writes these bytes to the socket and closes the connection.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::drip(bytes, usize::MAX, Duration::ZERO)
    }

    /// Like `raw`, but writes `chunk` bytes at a time, with a pause after each chunk.
    pub fn drip(bytes: impl Into<Vec<u8>>, chunk: usize, pause: Duration) -> Self {
        Self::new(FaultKind::Raw {
            bytes: bytes.into(),
            chunk,
            pause,
        })
    }

    /// Limits this to requests to one endpoint.
    pub fn at(mut self, path: &str) -> Self {
        self.at = Some(path.to_owned());
        self
    }

    /// Sets the number of requests that the fault applies to.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Lets the endpoint process the request first.
    pub fn after_work(mut self) -> Self {
        self.after_work = true;
        self
    }
}

impl FaultKind {
    /// Returns the response, or `None` if the fault does not send HTTP.
    pub fn reply(&self, settings: &Settings) -> Option<Reply> {
        match self {
            FaultKind::Status(status, kind) => Some(error_page(*status, reason(*status), *kind)),
            FaultKind::Throttle(retry_after, kind) => {
                Some(throttled(*retry_after, *kind, settings))
            }
            FaultKind::Response {
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
            let date = UNIX_EPOCH + Duration::from_secs(settings.now() as u64 + seconds);
            (
                Some(httpdate::fmt_http_date(date)),
                "Request was throttled.".to_owned(),
            )
        }
        RetryAfter::None => (None, "Request was throttled.".to_owned()),
    };
    let reply = error_page(429, &text, kind);
    match header {
        Some(value) => reply.header("Retry-After", &value),
        None => reply,
    }
}

fn error_page(status: u16, text: &str, kind: BodyKind) -> Reply {
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

/// Delays before and after an endpoint processes a request.
#[derive(Clone, Debug, Default)]
pub struct Delay {
    /// The endpoint. `None` means any path.
    pub at: Option<String>,
    pub before: Duration,
    pub after: Duration,
}

impl Delay {
    /// Waits before the endpoint processes the request.
    pub fn before(wait: Duration) -> Self {
        Delay {
            before: wait,
            ..Delay::default()
        }
    }

    /// Waits after the endpoint has processed the request, before the response.
    pub fn after(wait: Duration) -> Self {
        Delay {
            after: wait,
            ..Delay::default()
        }
    }

    /// Limits this to requests to one endpoint.
    pub fn at(mut self, path: &str) -> Self {
        self.at = Some(path.to_owned());
        self
    }
}

impl Settings {
    /// Returns the sums of the delays, before and after the processing of a request to `path`.
    pub fn delays_for(&self, path: &str) -> (Duration, Duration) {
        let delays = self.delays.iter().filter(|delay| applies(&delay.at, path));
        delays.fold(
            (Duration::ZERO, Duration::ZERO),
            |(before, after), delay| (before + delay.before, after + delay.after),
        )
    }

    /// Returns the first fault that applies to a request to `path`, and counts the request.
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
        for (key, value) in parse_pairs(spec) {
            match key {
                "before" => delay.before = Duration::from_millis(parse_number(key, value)?),
                "after" => delay.after = Duration::from_millis(parse_number(key, value)?),
                "at" => delay.at = Some(value.to_owned()),
                _ => return Err(format!("unknown key `{key}`")),
            }
        }
        Ok(delay)
    }
}

/// The keys that determine the kind of a fault. A fault must have one of them.
const KIND_KEYS: [&str; 6] = ["status", "throttle", "redirect", "csrf", "close", "raw"];

impl FromStr for Fault {
    type Err = String;

    fn from_str(spec: &str) -> Result<Self, String> {
        let (mut kind, mut retry, mut drip) = (BodyKind::Json, "seconds", None);
        let mut fault = Fault::new(FaultKind::Close);
        let (mut has_kind, mut seconds, mut location) = (false, 0, "/api/v1/");
        for (key, value) in parse_pairs(spec) {
            match key {
                "status" => fault.kind = FaultKind::Status(parse_number(key, value)?, kind),
                "throttle" => {
                    seconds = parse_number(key, value)?;
                    fault.kind = FaultKind::Throttle(RetryAfter::None, kind);
                }
                "redirect" => {
                    let status = parse_number(key, value)?;
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
                "drip" => drip = Some(Duration::from_millis(parse_number(key, value)?)),
                "times" => fault.times = parse_number(key, value)?,
                "at" => fault.at = Some(value.to_owned()),
                "after-work" => fault.after_work = true,
                _ => return Err(format!("cannot use `{key}={value}`")),
            }
            has_kind |= KIND_KEYS.contains(&key);
        }
        match &mut fault.kind {
            FaultKind::Status(status, body) => {
                hyper::StatusCode::from_u16(*status).map_err(|error| error.to_string())?;
                *body = kind;
            }
            FaultKind::Response { headers, .. } => headers[0].1 = location.to_owned(),
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
        if has_kind {
            Ok(fault)
        } else {
            Err(format!("must have one of {}", KIND_KEYS.join(", ")))
        }
    }
}

fn parse_pairs(spec: &str) -> impl Iterator<Item = (&str, &str)> {
    spec.split(',')
        .map(|part| part.split_once('=').unwrap_or((part, "")))
}

fn parse_number<N: FromStr>(key: &str, value: &str) -> Result<N, String> {
    value
        .parse()
        .map_err(|_| format!("`{value}` is not a number for `{key}`"))
}
