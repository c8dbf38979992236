//! Sends a request, reads the response body up to a size limit and a deadline, and maps
//! failures to an [`ApiError`].
//!
//! This module does not know the endpoints, nor what a response means.

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
use super::tls::{self, TrustedRoots};
use super::{ApiError, FailureStage, Options, proxy};

/// Maximum size of a response body.
const MAX_BODY_BYTES: u64 = 1024 * 1024;
/// Maximum number of response headers. Hyper's default of 100 leaves little room: behind some
/// proxies, responses have nearly as many.
const MAX_HEADERS: usize = 512;
/// Initial capacity of a request body. It is large because each reallocation would leave
/// a copy of the password in freed memory.
const BODY_CAPACITY: usize = 16 * 1024;

const USER_AGENT: &str = concat!("rememberizer-cli/", env!("CARGO_PKG_VERSION"));

/// Sends requests to the server. The HTTP client is built at the first request.
pub(super) struct Http {
    pub(super) options: Options,
    /// Never dropped: dropping waits for reqwest's thread, and a name lookup may block that
    /// thread for far longer than the timeout.
    client: OnceLock<ManuallyDrop<blocking::Client>>,
}

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    /// `Zeroizing` wipes the body when it is dropped, because it may contain a password.
    body: Zeroizing<Vec<u8>>,
}

/// A response whose body has not been read yet. Reading the body fails after the deadline.
#[derive(Debug)]
pub(crate) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) received_at: ReceivedAt,
    /// The time from sending the request to the headers of the response.
    pub(super) elapsed: Duration,
    body: blocking::Response,
    deadline: Instant,
}

/// The body of a response, in memory.
#[derive(Default)]
pub(super) struct Body {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// False if the body is larger than `MAX_BODY_BYTES` and was cut off.
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

    /// Sets the body, and JSON as its `Content-Type`.
    pub(super) fn with_json_bytes(mut self, body: Vec<u8>) -> Self {
        self.body = Zeroizing::new(body);
        let json = HeaderValue::from_static("application/json");
        self.headers.insert(CONTENT_TYPE, json);
        self
    }

    pub(super) fn with_json(self, body: &impl serde::Serialize) -> Result<Self, ApiError> {
        let mut bytes = Vec::with_capacity(BODY_CAPACITY);
        serde_json::to_writer(&mut bytes, body).map_err(|error| {
            ApiError::SetupFailed(format!("cannot encode the request as JSON: {error}"))
        })?;
        Ok(self.with_json_bytes(bytes))
    }

    /// Adds a header that contains a secret. `description` names the secret in the error.
    pub(super) fn with_secret_header(
        mut self,
        name: HeaderName,
        text: &str,
        description: &str,
    ) -> Result<Self, ApiError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            ApiError::SetupFailed(format!(
                "the {description} has a character that cannot be sent in a header"
            ))
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn has_access_token(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION)
    }
}

impl Response {
    pub(crate) fn status_code(&self) -> u16 {
        self.status.as_u16()
    }

    /// Returns the seconds that `Retry-After` states, at most a day.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let header = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        self.received_at.parse_retry_after(header)
    }

    /// Returns the headers in the order received, without `Set-Cookie`, which may hold a
    /// token.
    pub(crate) fn header_lines(&self) -> Vec<(String, String)> {
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
        check_free_descriptors().map_err(|e| out_of_resources(&e.to_string()))?;
        let timeout = self.options.timeout;
        let builder = blocking::Client::builder()
            .user_agent(USER_AGENT)
            .timeout(timeout)
            // Shorter than the whole timeout, so that a connection that takes too long fails as
            // a connect error, which proves that nothing was sent. It also leaves time for the
            // response.
            .connect_timeout(connect_timeout(timeout))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // Use each connection once: if a reused connection turns out to be closed, hyper
            // sends the request a second time.
            .pool_max_idle_per_host(0)
            .http1_only()
            .http1_max_headers(MAX_HEADERS)
            // Ignore invalid headers from proxies: the other headers may contain tokens.
            .http1_ignore_invalid_headers_in_responses(true)
            .referer(false);
        // Plain http is allowed only to this machine. A proxy would send it elsewhere.
        let builder = match self.options.api_url.is_https() {
            true => builder,
            false => builder.no_proxy(),
        };
        let builder = match TrustedRoots::new(&self.options)? {
            TrustedRoots::OnlyConfigured(config) => builder.tls_backend_preconfigured(*config),
            TrustedRoots::PlatformAnd(extra) if extra.is_empty() => builder,
            TrustedRoots::PlatformAnd(extra) => builder.tls_certs_merge(extra),
        };
        let client = builder.build().map_err(|error| {
            let cause = describe_cause(&error);
            if root_cause(&error).is::<io::Error>() {
                return out_of_resources(&cause);
            }
            let roots = tls::describe_roots(&self.options);
            ApiError::SetupFailed(format!("cannot set up TLS: {cause}; roots in use: {roots}"))
        })?;
        Ok(self.client.get_or_init(|| ManuallyDrop::new(client)))
    }

    /// Sends the request once and waits for the headers of the response. `deadline` also
    /// limits reading the body later.
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
        let local_now = (self.options.clock)();
        let elapsed = start.elapsed();
        let millis = elapsed.as_millis();
        let response = result.map_err(|error| {
            let error = self.classify_failure(&error);
            log(&format!("{error} (after {millis} ms)"));
            error
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let cookie_names: Vec<_> = headers
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|header| loggable_name(header.as_bytes()))
            .collect();
        let cookies_set = match cookie_names.len() {
            0 => String::new(),
            _ => format!(", cookies set: {}", cookie_names.join(", ")),
        };
        log(&format!("{} in {millis} ms{cookies_set}", status.as_u16()));
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        Ok(Response {
            received_at: ReceivedAt::new(local_now, date, elapsed),
            status,
            elapsed,
            headers,
            body: response,
            deadline,
        })
    }

    fn classify_failure(&self, error: &reqwest::Error) -> ApiError {
        let host = self.options.api_url.host_and_port();
        let cause = describe_cause(error);
        if error.is_builder() {
            let message = format!("cannot build the request: {cause}");
            return ApiError::SetupFailed(message);
        }
        // A TLS error while connecting is a failed handshake, so nothing was sent. A later one
        // does not show whether the request was processed: see below.
        if error.is_connect()
            && let Some(tls_error) = rustls_error(error)
        {
            return tls::handshake_error(tls_error, host, &self.options);
        }
        // With a proxy, this machine resolves only the name of the proxy.
        let (target, resolved_host) = match proxy::find(&self.options) {
            Some(proxy) => (
                format!("{host} through the proxy from {}", proxy.description),
                format!("{}, the proxy from {}", proxy.host, proxy.description),
            ),
            None => (host.to_owned(), host.to_owned()),
        };
        let timeout = self.options.timeout;
        let (message, stage) = if error.is_dns() {
            (
                format!("cannot resolve {resolved_host}"),
                FailureStage::NotSent,
            )
        } else if error.is_connect() && error.is_timeout() {
            let limit = humantime::format_duration(connect_timeout(timeout));
            let message = format!("no connection to {target} within {limit}");
            (message, FailureStage::NotSent)
        } else if error.is_connect() {
            let message = format!("cannot connect to {target}: {cause}");
            (message, FailureStage::NotSent)
        } else if error.is_timeout() {
            let limit = humantime::format_duration(timeout);
            let message = format!("no response from {host} within {limit}");
            (message, FailureStage::NoCompleteResponse)
        } else {
            let message = format!("no complete response from {host}: {cause}");
            (message, FailureStage::NoCompleteResponse)
        };
        ApiError::unavailable(message, stage)
    }

    /// Reads the body into memory, cut off after `MAX_BODY_BYTES` + 1 bytes.
    pub(super) fn read_body(&self, mut response: Response) -> Result<Body, ApiError> {
        let error = match read_at_most(&mut response, MAX_BODY_BYTES + 1) {
            Ok(bytes) => {
                let is_complete = bytes.len() as u64 <= MAX_BODY_BYTES;
                return Ok(Body { bytes, is_complete });
            }
            Err(error) => error,
        };
        let host = self.options.api_url.host_and_port();
        let message = match error.kind() {
            io::ErrorKind::TimedOut => format!("no complete response from {host} in time"),
            _ => format!("no complete response from {host}: the connection was interrupted"),
        };
        (self.options.log)(&message);
        Err(ApiError::unavailable(
            message,
            FailureStage::NoCompleteResponse,
        ))
    }
}

/// Reads the body. Fails with `TimedOut` at the deadline. The check is needed because
/// reqwest's own timeout starts again with each blocking read.
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

fn connect_timeout(timeout: Duration) -> Duration {
    timeout - timeout / 4
}

/// Finds the TLS library's error in the chain of sources. The source of an `io::Error` skips
/// the error that it wraps, so this function gets that error with `get_ref`.
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

/// Returns the error for a system that has no file descriptors or threads left.
fn out_of_resources(cause: &str) -> ApiError {
    let message = format!("cannot open a connection: {cause}");
    ApiError::unavailable(message, FailureStage::NotSent)
}

/// Fails if too few file descriptors are left, because reqwest's runtime would then panic.
fn check_free_descriptors() -> io::Result<()> {
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

/// Describes the root cause, with a shorter text than the system's for common errors.
fn describe_cause(error: &reqwest::Error) -> String {
    let last = root_cause(error);
    match last.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        _ => last.to_string(),
    }
}
