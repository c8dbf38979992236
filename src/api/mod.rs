//! The client of the API: one method per endpoint, and an [`ApiError`] that
//! tells what can be done about a failure.
//!
//! The only user of the HTTP library. Each endpoint is sent only what it
//! needs: there is no cookie jar and no shared header, since some endpoints
//! refuse a request with a stale credential. Stores, prompts and output are
//! not known here.

mod classify;
mod cookie;
mod error;
mod http;
mod jwt;
mod message;
mod proxy;
mod raw;
mod received_at;
mod tls;
mod wire;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderValue, REFERER, SET_COOKIE};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::model::{
    AccessToken, CookieNames, Grant, Origin, RefreshToken, Secret, Timestamp, validate_token_text,
};

pub(crate) use error::{ApiError, Delivery};
pub(crate) use raw::{RawRequest, RawResponse};

use http::{Http, Request};

/// The longest pause before a retry.
const MAX_PAUSE: Duration = Duration::from_millis(800);

/// The settings of a client.
pub(crate) struct Options {
    /// The server. No request goes anywhere else.
    pub(crate) origin: Origin,
    /// The limit of a call, its body and its retries included.
    pub(crate) timeout: Duration,
    /// PEM roots that are trusted in addition.
    pub(crate) ca_cert: Option<PathBuf>,
    /// PEM roots that are trusted instead of the platform's.
    pub(crate) ssl_cert_file: Option<PathBuf>,
    pub(crate) cookie_names: CookieNames,
    /// The `Referer` of all requests but reads, for a server that checks it.
    pub(crate) referer: Option<String>,
    /// The proxy variables that are set (`HTTPS_PROXY`, `no_proxy`, …), to be described.
    /// The HTTP library reads them itself.
    pub(crate) proxy_variables: Vec<(String, String)>,
    /// Logs requests, responses and decisions, never a secret.
    pub(crate) log: Box<dyn Fn(&str) + Send + Sync>,
    /// The local clock.
    pub(crate) clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The result of a ping.
pub(crate) struct Pong {
    pub(crate) status: u16,
    /// The time to the head of the response, connection included.
    pub(crate) elapsed: Duration,
    /// The server's clock minus ours in milliseconds, if the response had a `Date`.
    pub(crate) skew: Option<i64>,
}

/// A client of one server.
pub(crate) struct Client {
    http: Http,
    /// The cookie names that a response or a browser showed, which replace the configured ones.
    found_names: OnceLock<CookieNames>,
}

impl Client {
    /// Makes a client. Nothing is read or connected before the first request.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            http: Http::new(options),
            found_names: OnceLock::new(),
        }
    }

    /// Creates an account. The grant is empty if the server wants a login first.
    pub(crate) fn signup(
        &self,
        email: &str,
        password: &Secret,
        name: &str,
        captcha: Option<&Secret>,
    ) -> Result<Grant, ApiError> {
        let body = wire::Signup {
            email,
            password: password.expose(),
            name,
            captcha: captcha.map(Secret::expose),
        };
        let request = self.post("auth/signup/")?.with_json(&body)?;
        self.send_for_grant(&request, self.deadline())
    }

    /// Logs in. The caller checks whether the grant has a refresh token.
    pub(crate) fn signin(
        &self,
        login: &str,
        password: &Secret,
        captcha: Option<&Secret>,
    ) -> Result<Grant, ApiError> {
        let body = wire::Signin {
            login,
            password: password.expose(),
            captcha: captcha.map(Secret::expose),
        };
        let request = self.post("auth/signin/")?.with_json(&body)?;
        self.send_for_grant(&request, self.deadline())
    }

    /// Confirms the account's e-mail address with the mailed code.
    pub(crate) fn verify(&self, access: &AccessToken, code: &str) -> Result<(), ApiError> {
        let body = wire::Verify {
            verification_code: code,
        };
        let request = self.post("auth/verify-email/")?.with_json(&body)?;
        self.expect_success(&with_bearer(request, access)?)
    }

    /// Exchanges the refresh token for an access token, and on a rotating
    /// server for another refresh token.
    ///
    /// Never retried: a rotating server may take a second use for theft (RFC 9700 §4.14).
    pub(crate) fn exchange(&self, refresh: &RefreshToken) -> Result<Grant, ApiError> {
        self.exchange_within(refresh, self.timeout())
    }

    /// The same, within a shorter time.
    pub(crate) fn exchange_within(
        &self,
        refresh: &RefreshToken,
        timeout: Duration,
    ) -> Result<Grant, ApiError> {
        let request = self.post_with_cookie("auth/custom-refresh/", refresh)?;
        self.send_for_grant(&request, self.deadline_within(timeout))
    }

    /// The limit of a call.
    pub(crate) fn timeout(&self) -> Duration {
        self.http.options.timeout
    }

    /// Ends the session on the server.
    pub(crate) fn revoke(&self, refresh: &RefreshToken) -> Result<(), ApiError> {
        self.expect_success(&self.post_with_cookie("auth/custom-logout/", refresh)?)
    }

    /// The account's `id`, `email` and `name`.
    pub(crate) fn account(&self, access: &AccessToken) -> Result<Map<String, Value>, ApiError> {
        self.get_object(&with_bearer(self.get("account/"), access)?)
    }

    /// The whole account, with `email_verified`.
    pub(crate) fn me(&self, access: &AccessToken) -> Result<Map<String, Value>, ApiError> {
        self.get_object(&with_bearer(self.get("me/"), access)?)
    }

    /// Sends a request without a credential. Any HTTP response is a success.
    pub(crate) fn ping(&self, timeout: Duration) -> Result<Pong, ApiError> {
        let response = self
            .http
            .send(&self.get("account/"), self.deadline_within(timeout))?;
        Ok(Pong {
            status: response.status(),
            elapsed: response.elapsed,
            skew: response.received_at.skew(),
        })
    }

    /// Describes the roots that the server's certificate is checked against.
    pub(crate) fn roots_in_use(&self) -> String {
        tls::roots_in_use(&self.http.options)
    }

    /// Describes the proxy that requests go through, without its credentials.
    pub(crate) fn proxy_in_use(&self) -> Option<String> {
        proxy::in_use(&self.http.options).map(|proxy| proxy.description)
    }

    /// Sets the names of the cookies, if no response has shown them yet.
    pub(crate) fn use_cookie_names(&self, names: &CookieNames) {
        self.found_names.get_or_init(|| names.clone());
    }

    fn cookie_names(&self) -> &CookieNames {
        let configured = &self.http.options.cookie_names;
        self.found_names.get().unwrap_or(configured)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.http.options.origin)
    }

    /// Makes a request. All but reads carry the configured `Referer`.
    fn new_request(&self, method: Method, url: String) -> Result<Request, ApiError> {
        let mut request = Request::new(method, url);
        if let Some(referer) = &self.http.options.referer
            && !matches!(request.method, Method::GET | Method::HEAD)
        {
            let value = HeaderValue::from_str(referer).map_err(|_| {
                ApiError::InvalidArgument("the referer has an invalid character".to_owned())
            })?;
            request.headers.insert(REFERER, value);
        }
        Ok(request)
    }

    fn post(&self, path: &str) -> Result<Request, ApiError> {
        self.new_request(Method::POST, self.url(path))
    }

    fn get(&self, path: &str) -> Request {
        Request::new(Method::GET, self.url(path))
    }

    fn deadline(&self) -> Instant {
        self.deadline_within(Duration::MAX)
    }

    /// The limit of a call, or a shorter one.
    fn deadline_within(&self, timeout: Duration) -> Instant {
        let now = Instant::now();
        // A timeout beyond the range of the clock is as good as a day.
        now.checked_add(self.http.options.timeout.min(timeout))
            .unwrap_or_else(|| now + Duration::from_secs(24 * 3600))
    }

    /// A POST without a body, with the refresh token as its cookie.
    fn post_with_cookie(&self, path: &str, refresh: &RefreshToken) -> Result<Request, ApiError> {
        let text = refresh.secret().expose();
        validate_token_text(text)
            .map_err(|why| ApiError::Unusable(format!("the refresh token {why}")))?;
        let name = &self.cookie_names().refresh;
        let pair = Zeroizing::new(format!("{name}={text}"));
        self.post(path)?.with_secret(COOKIE, &pair, "refresh token")
    }

    /// Sends the request once, and reads the tokens in the response.
    fn send_for_grant(&self, request: &Request, deadline: Instant) -> Result<Grant, ApiError> {
        let response = self.send_checked(request, deadline)?;
        let options = &self.http.options;
        let host = options.origin.host();
        let reader = cookie::CookieReader {
            // An IPv6 address has colons of its own, within brackets.
            host: match host.rsplit_once(':') {
                Some((name, port)) if !port.ends_with(']') => name,
                _ => host,
            },
            names: self.cookie_names(),
            received_at: response.received_at,
            log: &options.log,
        };
        let cookies = response.headers.get_all(SET_COOKIE).iter();
        let mut grant = reader.grant(cookies.map(|header| header.as_bytes()));
        if let Some(names) = &grant.cookie_names {
            self.use_cookie_names(names);
        }
        let is_empty = grant.access.is_none() && grant.refresh.is_none();
        let is_complete = grant.access.is_some() && grant.refresh.is_some();
        if is_complete || response.status == StatusCode::NO_CONTENT {
            return Ok(grant);
        }
        match self.read_json(response) {
            Ok(Some(body)) => wire::add_tokens(&mut grant, &body, &reader),
            Ok(None) => {}
            Err(error) if is_empty => return Err(error),
            // The tokens in the head are valid whatever the body is.
            Err(error) => (options.log)(&format!("ignoring the body: {error}")),
        }
        Ok(grant)
    }

    /// Sends the request once. Any 2xx response is a success, except an HTML page.
    fn expect_success(&self, request: &Request) -> Result<(), ApiError> {
        let response = self.send_checked(request, self.deadline())?;
        if message::is_html(response.content_type(), b"") {
            self.read_json(response)?;
        }
        Ok(())
    }

    /// Reads a JSON object, with retries.
    fn get_object(&self, request: &Request) -> Result<Map<String, Value>, ApiError> {
        self.with_retries(|deadline| {
            let response = self.send_checked(request, deadline)?;
            let status = response.status();
            let body = self.read_json(response)?;
            body.and_then(wire::unwrap_envelope)
                .ok_or_else(|| ApiError::Unexpected {
                    status,
                    message: "the response is not a JSON object".to_owned(),
                })
        })
    }

    /// Makes up to three attempts within the timeout, for idempotent requests.
    fn with_retries<T>(
        &self,
        mut attempt: impl FnMut(Instant) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let deadline = self.deadline();
        let pauses = ExponentialBuilder::new()
            .with_min_delay(MAX_PAUSE / 4)
            .with_factor(2.0)
            .with_jitter()
            // Without a seed, the pauses of all machines would be the same.
            .with_jitter_seed(RandomState::new().build_hasher().finish())
            .with_max_times(2);
        let attempt = || attempt(deadline);
        attempt
            .retry(pauses)
            .when(|error| {
                let left = deadline.saturating_duration_since(Instant::now());
                error.is_retryable() && left > MAX_PAUSE
            })
            .notify(|_, pause| {
                (self.http.options.log)(&format!("retrying in {} ms", pause.as_millis()));
            })
            .call()
    }
}

fn with_bearer(request: Request, access: &AccessToken) -> Result<Request, ApiError> {
    let text = Zeroizing::new(format!("Bearer {}", access.secret().expose()));
    request.with_secret(AUTHORIZATION, &text, "access token")
}
