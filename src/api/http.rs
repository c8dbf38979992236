//! One request and its answer: building the client, sending, reading a bounded
//! body before a deadline, and putting a failure into words.
//!
//! It does not know the endpoints, nor what an answer means.

use std::error::Error as _;
use std::io::{self, Read};
use std::mem::ManuallyDrop;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::blocking;
use reqwest::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
};
use reqwest::{Method, StatusCode};

use super::cookie::name_of;
use super::receipt::Receipt;
use super::tls::{self, Trust};
use super::{ApiError, Options, Sent, proxy};

/// The most of a body that is read.
const LARGEST_BODY: u64 = 1024 * 1024;
/// The most headers an answer may have; hyper's own limit of 100 is in reach of a proxy.
const MOST_HEADERS: usize = 512;

const USER_AGENT: &str = concat!("rememberizer-cli/", env!("CARGO_PKG_VERSION"));

/// The way to the server. Nothing is built before the first request.
pub(super) struct Http {
    pub(super) options: Options,
    /// Never dropped: that would wait for a thread which may be stuck in a name
    /// lookup for far longer than the timeout. The process's end does not.
    client: OnceLock<ManuallyDrop<blocking::Client>>,
}

/// A request, ready to be sent.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// The head of an answer, and its body still to be read.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) receipt: Receipt,
    pub(super) elapsed: Duration,
    body: blocking::Response,
}

/// A failure, and whether the same request may fare better in a moment.
pub(super) struct Fault {
    pub(super) error: ApiError,
    pub(super) again: bool,
}

impl Outgoing {
    /// A request without credentials or body.
    pub(super) fn new(method: Method, url: String) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Self {
            method,
            url,
            headers,
            body: Vec::new(),
        }
    }

    /// With a JSON body.
    pub(super) fn json(mut self, body: &impl serde::Serialize) -> Result<Self, ApiError> {
        self.body = serde_json::to_vec(body)
            .map_err(|error| ApiError::Config(format!("the request cannot be written: {error}")))?;
        let json = HeaderValue::from_static("application/json");
        self.headers.insert(CONTENT_TYPE, json);
        Ok(self)
    }

    /// With a header that nobody else may see; `what` names it in the error.
    pub(super) fn secret(
        mut self,
        name: HeaderName,
        text: &str,
        what: &str,
    ) -> Result<Self, ApiError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            ApiError::Config(format!(
                "the {what} holds a character that cannot be sent in a header"
            ))
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
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
        spare_descriptors().map_err(|e| cannot_open(&e.to_string()))?;
        let timeout = self.options.timeout;
        let builder = blocking::Client::builder()
            .user_agent(USER_AGENT)
            .timeout(timeout)
            // Shorter than the whole: a connection that never comes up is then known to have
            // carried nothing, and no request goes out when there is no time left for its answer.
            .connect_timeout(timeout - timeout / 4)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A connection is used once: hyper repeats a request on a reused one that was closed.
            .pool_max_idle_per_host(0)
            .http1_only()
            .http1_max_headers(MOST_HEADERS)
            // One bad line of a proxy is no reason to lose the tokens in the others.
            .http1_ignore_invalid_headers_in_responses(true)
            .referer(false);
        // http is for this machine alone: through a proxy it would leave it, in the clear.
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
            let why = innermost(&error);
            if lowest(&error).is::<io::Error>() {
                return cannot_open(&why);
            }
            let roots = tls::roots_in_use(&self.options);
            ApiError::Config(format!(
                "TLS cannot be set up: {why}; roots in use: {roots}"
            ))
        })?;
        Ok(self.client.get_or_init(|| ManuallyDrop::new(client)))
    }

    /// Sends once and waits for the head of the answer. Everything, the body included, ends
    /// at `deadline`.
    pub(super) fn send(&self, request: &Outgoing, deadline: Instant) -> Result<Reply, Fault> {
        let client = self.client().map_err(Fault::last)?;
        let shown = request.url.split('?').next().unwrap_or_default();
        (self.options.log)(&format!("{} {shown}", request.method));
        let mut headers = request.headers.clone();
        let mut builder = client
            .request(request.method.clone(), &request.url)
            .timeout(deadline.saturating_duration_since(Instant::now()));
        if !request.body.is_empty() {
            builder = builder.body(request.body.clone());
        } else if !matches!(request.method, Method::GET | Method::HEAD) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let start = Instant::now();
        let answer = builder.headers(headers).send();
        let at = (self.options.clock)();
        let elapsed = start.elapsed();
        let response = answer.map_err(|error| {
            let fault = self.fault(&error);
            (self.options.log)(&format!(
                "{} (after {} ms)",
                fault.error,
                elapsed.as_millis()
            ));
            fault
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let cookies: Vec<_> = headers
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|header| name_of(header.as_bytes()))
            .collect();
        let cookies = match cookies.len() {
            0 => String::new(),
            _ => format!(", cookies set: {}", cookies.join(", ")),
        };
        let millis = elapsed.as_millis();
        (self.options.log)(&format!("{} in {millis} ms{cookies}", status.as_u16()));
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        Ok(Reply {
            receipt: Receipt::new(at, date),
            status,
            elapsed,
            headers,
            body: response,
        })
    }

    fn fault(&self, error: &reqwest::Error) -> Fault {
        let host = self.options.origin.host();
        let tls = rustls_error(error);
        if error.is_builder() {
            return Fault::last(ApiError::Config(format!(
                "the request cannot be built: {}",
                innermost(error)
            )));
        }
        let sent = if error.is_connect() {
            Sent::Never
        } else {
            Sent::Perhaps
        };
        let limit = self.options.timeout;
        let reason = if let Some(tls) = tls {
            tls::reason(tls, host, &self.options)
        } else if error.is_dns() {
            format!("cannot resolve {}", self.connected_to())
        } else if error.is_timeout() {
            match sent {
                Sent::Never => format!(
                    "no connection to {} within {}",
                    self.connected_to(),
                    humantime::format_duration(limit - limit / 4)
                ),
                _ => no_answer(host, limit),
            }
        } else if sent == Sent::Never {
            format!(
                "cannot connect to {}: {}",
                self.connected_to(),
                innermost(error)
            )
        } else {
            format!("no complete answer from {host}: {}", innermost(error))
        };
        Fault {
            error: ApiError::Unavailable { reason, sent },
            // A certificate does not change between two tries.
            again: tls.is_none(),
        }
    }

    /// The host, with the proxy where the connection is in fact to that.
    fn connected_to(&self) -> String {
        let host = self.options.origin.host();
        match proxy::in_use(&self.options) {
            Some(proxy) => format!("{host} through the proxy of {proxy}"),
            None => host.to_owned(),
        }
    }

    /// Reads the body to its end, or to the limit: then the second value is false.
    pub(super) fn body(&self, reply: Reply, deadline: Instant) -> Result<(Vec<u8>, bool), Fault> {
        let mut reader = self.reader(reply, deadline);
        let mut body = Vec::new();
        match reader
            .by_ref()
            .take(LARGEST_BODY + 1)
            .read_to_end(&mut body)
        {
            Ok(_) => {
                let whole = body.len() as u64 <= LARGEST_BODY;
                Ok((body, whole))
            }
            Err(error) => {
                let host = self.options.origin.host();
                let reason = match error.kind() {
                    io::ErrorKind::TimedOut => no_answer(host, self.options.timeout),
                    _ => format!("no complete answer from {host}: the connection broke off"),
                };
                (self.options.log)(&reason);
                let sent = Sent::Perhaps;
                Err(Fault {
                    error: ApiError::Unavailable { reason, sent },
                    again: true,
                })
            }
        }
    }

    /// The body as it comes, until the deadline.
    pub(super) fn reader(&self, reply: Reply, deadline: Instant) -> Body {
        Body {
            inner: reply.body,
            deadline,
        }
    }
}

/// The body of an answer, read as it comes.
pub struct Body {
    inner: blocking::Response,
    deadline: Instant,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

/// Reading ends with `TimedOut` at the deadline, however little each piece brings:
/// reqwest's own limit in a blocking read begins anew with each of them.
impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.inner.read(buffer).map_err(|error| {
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

impl Fault {
    /// A failure that no second try would mend.
    pub(super) fn last(error: ApiError) -> Self {
        Self {
            error,
            again: false,
        }
    }
}

fn no_answer(host: &str, limit: Duration) -> String {
    format!(
        "no answer from {host} within {}",
        humantime::format_duration(limit)
    )
}

/// The error of the TLS library, which `io::Error` hides from `source`.
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
    ApiError::Unavailable {
        reason: format!("no connection can be opened: {why}"),
        sent: Sent::Never,
    }
}

/// Fails where a runtime could not have the descriptors that it panics without.
fn spare_descriptors() -> io::Result<()> {
    drop((io::pipe()?, io::pipe()?, io::pipe()?));
    Ok(())
}

/// The last cause in the chain.
fn lowest(error: &reqwest::Error) -> &(dyn std::error::Error + 'static) {
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last
}

/// The last cause in words, of our own where those of the system are long.
fn innermost(error: &reqwest::Error) -> String {
    let last = lowest(error);
    match last.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        _ => last.to_string(),
    }
}
