//! Sends one request: builds the client, reads a bounded body before a
//! deadline, and describes failures.
//!
//! It does not know the endpoints, nor what a response means.

use std::error::Error as _;
use std::io::{self, Read};
use std::mem::ManuallyDrop;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::blocking;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, SET_COOKIE,
};
use reqwest::{Method, StatusCode};
use zeroize::Zeroizing;

use crate::model::read_at_most;

use super::cookie::loggable_name;
use super::received_at::ReceivedAt;
use super::tls::{self, Trust};
use super::{ApiError, Delivery, Options, proxy};

/// Maximum size of a body that is read into memory.
const MAX_BODY: u64 = 1024 * 1024;
/// Maximum number of headers. Proxies come near hyper's own limit of 100.
const MAX_HEADERS: usize = 512;
/// Room for a body of ours, so that no piece of it stays behind when it grows.
const BODY_CAPACITY: usize = 16 * 1024;

const USER_AGENT: &str = concat!("rememberizer-cli/", env!("CARGO_PKG_VERSION"));

/// The connection to the server. Nothing is built before the first request.
pub(super) struct Http {
    pub(super) options: Options,
    /// Never dropped: that would wait for a thread which may be stuck in a name
    /// lookup for far longer than the timeout.
    client: OnceLock<ManuallyDrop<blocking::Client>>,
}

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    /// Wiped when dropped, since it may hold a password.
    body: Zeroizing<Vec<u8>>,
}

/// A response whose body is read as it arrives.
#[derive(Debug)]
pub(crate) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) received_at: ReceivedAt,
    pub(super) elapsed: Duration,
    body: blocking::Response,
    deadline: Instant,
}

#[derive(Default)]
pub(super) struct WholeBody {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Whether it is no larger than `MAX_BODY`.
    pub(super) is_complete: bool,
}

impl Request {
    pub(super) fn new(method: Method, url: String) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Self {
            method,
            url,
            headers,
            body: Zeroizing::default(),
        }
    }

    pub(super) fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = Zeroizing::new(body);
        let json = HeaderValue::from_static("application/json");
        self.headers.insert(CONTENT_TYPE, json);
        self
    }

    pub(super) fn with_json(self, body: &impl serde::Serialize) -> Result<Self, ApiError> {
        let mut bytes = Vec::with_capacity(BODY_CAPACITY);
        serde_json::to_writer(&mut bytes, body)
            .map_err(|error| ApiError::Unusable(format!("cannot write the request: {error}")))?;
        Ok(self.with_body(bytes))
    }

    /// Adds a header that holds a secret. `what` names it in the error.
    pub(super) fn with_secret(
        mut self,
        name: HeaderName,
        text: &str,
        what: &str,
    ) -> Result<Self, ApiError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            ApiError::Unusable(format!(
                "the {what} has a character that cannot be sent in a header"
            ))
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION)
    }
}

impl Response {
    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The seconds of `Retry-After`, at most a day.
    pub(super) fn retry_after(&self) -> Option<u64> {
        let header = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        self.received_at.retry_after(header)
    }

    /// The headers in their order, except `Set-Cookie`, which may hold a token.
    pub(super) fn header_lines(&self) -> Vec<(String, String)> {
        let headers = self.headers.iter().filter(|(name, _)| *name != SET_COOKIE);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect()
    }

    pub(super) fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }
}

impl Http {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            client: OnceLock::new(),
        }
    }

    fn client(&self) -> Result<&blocking::Client, ApiError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        check_descriptors().map_err(|e| cannot_open(&e.to_string()))?;
        let timeout = self.options.timeout;
        let builder = blocking::Client::builder()
            .user_agent(USER_AGENT)
            .timeout(timeout)
            // Shorter than the whole: a connection that is never established is then known to
            // have carried nothing, and no request goes out without time for its response.
            .connect_timeout(timeout - timeout / 4)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A connection is used once: hyper repeats a request on a reused one that was closed.
            .pool_max_idle_per_host(0)
            .http1_only()
            .http1_max_headers(MAX_HEADERS)
            // An invalid header from a proxy must not cost the tokens in the others.
            .http1_ignore_invalid_headers_in_responses(true)
            .referer(false);
        // Plain http is for this machine only. Through a proxy it would leave it.
        let builder = match self.options.origin.is_https() {
            true => builder,
            false => builder.no_proxy(),
        };
        let builder = match Trust::new(&self.options)? {
            Trust::Only(config) => builder.tls_backend_preconfigured(*config),
            Trust::Platform(extra) if extra.is_empty() => builder,
            Trust::Platform(extra) => builder.tls_certs_merge(extra),
        };
        let client = builder.build().map_err(|error| {
            let why = describe_cause(&error);
            if root_cause(&error).is::<io::Error>() {
                return cannot_open(&why);
            }
            let roots = tls::roots_in_use(&self.options);
            ApiError::Unusable(format!("cannot set up TLS: {why}; roots in use: {roots}"))
        })?;
        Ok(self.client.get_or_init(|| ManuallyDrop::new(client)))
    }

    /// Sends the request once and waits for the head of the response. Reading
    /// the body ends at `deadline` too.
    pub(super) fn send(&self, request: &Request, deadline: Instant) -> Result<Response, ApiError> {
        let client = self.client()?;
        let log = &self.options.log;
        let url = request.url.split('?').next().unwrap_or_default();
        log(&format!("{} {url}", request.method));
        let mut headers = request.headers.clone();
        let mut builder = client
            .request(request.method.clone(), &request.url)
            .timeout(deadline.saturating_duration_since(Instant::now()));
        if !request.body.is_empty() {
            builder = builder.body(Bytes::from_owner(request.body.clone()));
        } else if !matches!(request.method, Method::GET | Method::HEAD) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let start = Instant::now();
        let result = builder.headers(headers).send();
        let now = (self.options.clock)();
        let elapsed = start.elapsed();
        let millis = elapsed.as_millis();
        let body = result.map_err(|error| {
            let error = self.describe_failure(&error);
            log(&format!("{error} (after {millis} ms)"));
            error
        })?;
        let (status, headers) = (body.status(), body.headers().clone());
        let cookies = headers.get_all(SET_COOKIE).iter();
        let cookies: Vec<_> = cookies
            .filter_map(|header| loggable_name(header.as_bytes()))
            .collect();
        let cookies = match cookies.len() {
            0 => String::new(),
            _ => format!(", cookies set: {}", cookies.join(", ")),
        };
        log(&format!("{} in {millis} ms{cookies}", status.as_u16()));
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        Ok(Response {
            received_at: ReceivedAt::new(now, date),
            status,
            elapsed,
            headers,
            body,
            deadline,
        })
    }

    fn describe_failure(&self, error: &reqwest::Error) -> ApiError {
        let host = self.options.origin.host();
        let cause = describe_cause(error);
        if error.is_builder() {
            let message = format!("cannot build the request: {cause}");
            return ApiError::Unusable(message);
        }
        if let Some(tls_error) = rustls_error(error) {
            return tls::classify(tls_error, host, &self.options);
        }
        let proxy = proxy::in_use(&self.options);
        let (target, resolved) = match proxy {
            Some(proxy) => (
                format!("{host} through the proxy of {}", proxy.description),
                format!("{}, the proxy of {}", proxy.host, proxy.description),
            ),
            None => (host.to_owned(), host.to_owned()),
        };
        let limit = self.options.timeout;
        let (reason, delivery) = if error.is_dns() {
            (format!("cannot resolve {resolved}"), Delivery::NotSent)
        } else if error.is_connect() && error.is_timeout() {
            let limit = humantime::format_duration(limit - limit / 4);
            let reason = format!("no connection to {target} within {limit}");
            (reason, Delivery::NotSent)
        } else if error.is_connect() {
            let reason = format!("cannot connect to {target}: {cause}");
            (reason, Delivery::NotSent)
        } else if error.is_timeout() {
            (timed_out(host, limit), Delivery::Unknown)
        } else {
            let reason = format!("no complete response from {host}: {cause}");
            (reason, Delivery::Unknown)
        };
        ApiError::unavailable(reason, delivery)
    }

    /// Reads the body up to `MAX_BODY`.
    pub(super) fn read_body(&self, mut response: Response) -> Result<WholeBody, ApiError> {
        let error = match read_at_most(&mut response, MAX_BODY + 1) {
            Ok(bytes) => {
                let is_complete = bytes.len() as u64 <= MAX_BODY;
                return Ok(WholeBody { bytes, is_complete });
            }
            Err(error) => error,
        };
        let host = self.options.origin.host();
        let reason = match error.kind() {
            io::ErrorKind::TimedOut => timed_out(host, self.options.timeout),
            _ => format!("no complete response from {host}: the connection broke off"),
        };
        (self.options.log)(&reason);
        Err(ApiError::unavailable(reason, Delivery::Unknown))
    }
}

/// Reads the body. Fails with `TimedOut` at the deadline, however little each
/// piece brings: reqwest's own limit begins anew with each blocking read.
impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.body.read(buffer).map_err(|error| {
            let inner = error
                .get_ref()
                .and_then(|e| e.downcast_ref::<reqwest::Error>());
            match inner.is_some_and(reqwest::Error::is_timeout) {
                true => io::ErrorKind::TimedOut.into(),
                false => error,
            }
        })
    }
}

fn timed_out(host: &str, limit: Duration) -> String {
    let limit = humantime::format_duration(limit);
    format!("no response from {host} within {limit}")
}

/// Finds the error of the TLS library, which `io::Error` hides from `source`.
fn rustls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The system has no descriptors or threads left for a connection.
fn cannot_open(why: &str) -> ApiError {
    let reason = format!("no connection can be opened: {why}");
    ApiError::unavailable(reason, Delivery::NotSent)
}

/// Fails if too few descriptors are left for a runtime, which would panic.
fn check_descriptors() -> io::Result<()> {
    drop((io::pipe()?, io::pipe()?, io::pipe()?));
    Ok(())
}

fn root_cause(error: &reqwest::Error) -> &(dyn std::error::Error + 'static) {
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last
}

/// The root cause, in fewer words than the system's.
fn describe_cause(error: &reqwest::Error) -> String {
    let last = root_cause(error);
    match last.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        _ => last.to_string(),
    }
}
