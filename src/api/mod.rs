//! The API client, with one method per endpoint.
//!
//! Only this module uses the HTTP library. There is no cookie jar and no default
//! credential: each method adds the credential that its endpoint needs, because some
//! endpoints refuse any expired credential, even one that they do not need. This module
//! does not know stores, prompts or output.

mod classify;
mod cookie;
mod error;
mod error_body;
mod http;
mod jwt;
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
    AccessToken, ApiUrl, CookieNames, Grant, RefreshToken, Secret, Timestamp, validate_token_text,
    without_port,
};

pub(crate) use error::{ApiError, FailureStage};
pub(crate) use http::Response;
pub(crate) use raw::RawRequest;

use http::{Http, Request};

/// Maximum pause before a retry.
const MAX_RETRY_PAUSE: Duration = Duration::from_millis(800);

pub(crate) struct Options {
    /// The base URL. No request is sent to another server.
    pub(crate) api_url: ApiUrl,
    /// The time limit for each call, including its retries and reading the body.
    pub(crate) timeout: Duration,
    /// A PEM file of root certificates to trust in addition to the other roots.
    pub(crate) ca_cert: Option<PathBuf>,
    /// A PEM file of root certificates to trust instead of the platform's.
    pub(crate) ssl_cert_file: Option<PathBuf>,
    pub(crate) cookie_names: CookieNames,
    /// The `Referer` of all requests except `GET` and `HEAD`, for servers that check it.
    pub(crate) referer: Option<String>,
    /// The proxy variables that are set (`HTTPS_PROXY`, `no_proxy`, …), used to describe
    /// the proxy in messages. The HTTP library reads the environment itself.
    pub(crate) proxy_variables: Vec<(String, String)>,
    /// Logs a line about a request, a response or a decision, never with a secret.
    pub(crate) log: Box<dyn Fn(&str) + Send + Sync>,
    /// Returns the time by the local clock.
    pub(crate) clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The result of a ping.
pub(crate) struct Pong {
    pub(crate) status: u16,
    /// The time until the headers of the response arrived, including the connection.
    pub(crate) elapsed: Duration,
    /// The server's clock minus the local clock, if the response has a `Date` header.
    pub(crate) clock_skew_millis: Option<i64>,
}

pub(crate) struct Client {
    http: Http,
    /// The cookie names found in a response, or in the browser whose session is taken over.
    /// They override the configured names.
    detected_names: OnceLock<CookieNames>,
}

impl Client {
    /// Reads no file and opens no connection: the first request does.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            http: Http::new(options),
            detected_names: OnceLock::new(),
        }
    }

    /// Creates an account. The grant is empty if the server requires a separate login.
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

    /// Verifies the account's e-mail address with the code that was mailed to it.
    pub(crate) fn verify(&self, access: &AccessToken, code: &str) -> Result<(), ApiError> {
        let body = wire::Verify {
            verification_code: code,
        };
        let request = self.post("auth/verify-email/")?.with_json(&body)?;
        self.expect_success(&with_bearer(request, access)?)
    }

    /// Exchanges the refresh token for an access token. A server that rotates refresh
    /// tokens returns a new refresh token too.
    ///
    /// The request is never retried: a server that rotates refresh tokens may treat a
    /// second use of the same token as theft (RFC 9700 §4.14).
    pub(crate) fn exchange(&self, refresh: &RefreshToken) -> Result<Grant, ApiError> {
        self.exchange_with_timeout(refresh, self.timeout())
    }

    /// Like [`exchange`](Self::exchange), with a shorter timeout.
    pub(crate) fn exchange_with_timeout(
        &self,
        refresh: &RefreshToken,
        timeout: Duration,
    ) -> Result<Grant, ApiError> {
        let request = self.post_with_cookie("auth/custom-refresh/", refresh)?;
        self.send_for_grant(&request, self.deadline_in(timeout))
    }

    /// Returns the time limit for each call.
    pub(crate) fn timeout(&self) -> Duration {
        self.http.options.timeout
    }

    /// Ends the session on the server.
    pub(crate) fn revoke(&self, refresh: &RefreshToken) -> Result<(), ApiError> {
        self.expect_success(&self.post_with_cookie("auth/custom-logout/", refresh)?)
    }

    /// Returns the account's `id`, `email` and `name`.
    pub(crate) fn account(&self, access: &AccessToken) -> Result<Map<String, Value>, ApiError> {
        self.get_object(&with_bearer(self.get("account/"), access)?)
    }

    /// Returns all members of the account, including `email_verified`.
    pub(crate) fn me(&self, access: &AccessToken) -> Result<Map<String, Value>, ApiError> {
        self.get_object(&with_bearer(self.get("me/"), access)?)
    }

    /// Sends a request without a credential. A response of any status is `Ok`.
    pub(crate) fn ping(&self, timeout: Duration) -> Result<Pong, ApiError> {
        let response = self
            .http
            .send(&self.get("account/"), self.deadline_in(timeout))?;
        Ok(Pong {
            status: response.status_code(),
            elapsed: response.elapsed,
            clock_skew_millis: response.received_at.clock_skew_millis(),
        })
    }

    /// Describes the root certificates that the server's certificate is checked against.
    pub(crate) fn describe_roots(&self) -> String {
        tls::describe_roots(&self.http.options)
    }

    /// Describes the proxy that requests use, without its credentials.
    pub(crate) fn describe_proxy(&self) -> Option<String> {
        proxy::find(&self.http.options).map(|proxy| proxy.description)
    }

    /// Sets the names of the cookies, unless they have been detected already.
    pub(crate) fn use_cookie_names(&self, names: &CookieNames) {
        self.detected_names.get_or_init(|| names.clone());
    }

    fn cookie_names(&self) -> &CookieNames {
        let configured = &self.http.options.cookie_names;
        self.detected_names.get().unwrap_or(configured)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.http.options.api_url)
    }

    /// Returns a request with the configured `Referer`, unless the method is `GET` or `HEAD`.
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
        self.deadline_in(Duration::MAX)
    }

    /// Returns the deadline of a call that starts now and may take at most `timeout`, or
    /// the configured time limit if that is shorter.
    fn deadline_in(&self, timeout: Duration) -> Instant {
        let now = Instant::now();
        // If the deadline is beyond the range of `Instant`, use one day.
        now.checked_add(self.http.options.timeout.min(timeout))
            .unwrap_or_else(|| now + Duration::from_secs(24 * 3600))
    }

    /// Returns a POST request without a body, with the refresh token as its cookie.
    fn post_with_cookie(&self, path: &str, refresh: &RefreshToken) -> Result<Request, ApiError> {
        let text = refresh.secret().expose();
        validate_token_text(text)
            .map_err(|problem| ApiError::SetupFailed(format!("the refresh token {problem}")))?;
        let name = &self.cookie_names().refresh;
        let pair = Zeroizing::new(format!("{name}={text}"));
        self.post(path)?
            .with_secret_header(COOKIE, &pair, "refresh token")
    }

    /// Sends the request once, and reads the tokens in the response.
    fn send_for_grant(&self, request: &Request, deadline: Instant) -> Result<Grant, ApiError> {
        let response = self.send_checked(request, deadline)?;
        let options = &self.http.options;
        let reader = cookie::CookieReader {
            host: without_port(options.api_url.host_and_port()),
            names: self.cookie_names(),
            received_at: response.received_at,
            log: &options.log,
        };
        let cookies = response.headers.get_all(SET_COOKIE).iter();
        let mut grant = reader.read_grant(cookies.map(|header| header.as_bytes()));
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
            // The tokens in the cookies are valid whatever the body contains.
            Err(error) => (options.log)(&format!("ignoring the body: {error}")),
        }
        Ok(grant)
    }

    /// Sends the request once. Succeeds if the status is 2xx and the body is not HTML.
    fn expect_success(&self, request: &Request) -> Result<(), ApiError> {
        let response = self.send_checked(request, self.deadline())?;
        let unread_body = b"";
        if error_body::is_html(response.content_type(), unread_body) {
            // Fails, because the body is HTML.
            self.read_json(response)?;
        }
        Ok(())
    }

    /// Sends the request, with retries, and returns the JSON object in the response.
    fn get_object(&self, request: &Request) -> Result<Map<String, Value>, ApiError> {
        self.with_retries(|deadline| {
            let response = self.send_checked(request, deadline)?;
            let status = response.status_code();
            let body = self.read_json(response)?;
            body.and_then(wire::unwrap_envelope)
                .ok_or_else(|| ApiError::WrongApiUrl {
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
        let backoff = ExponentialBuilder::new()
            // The factor doubles the second pause, and the jitter at most doubles each.
            .with_min_delay(MAX_RETRY_PAUSE / 4)
            .with_factor(2.0)
            .with_jitter()
            // Without a seed, all machines would use the same pauses.
            .with_jitter_seed(RandomState::new().build_hasher().finish())
            .with_max_times(2);
        let attempt = || attempt(deadline);
        attempt
            .retry(backoff)
            .when(|error| {
                let remaining = deadline.saturating_duration_since(Instant::now());
                error.is_retryable() && remaining > MAX_RETRY_PAUSE
            })
            .notify(|_, pause| {
                (self.http.options.log)(&format!("retrying in {} ms", pause.as_millis()));
            })
            .call()
    }
}

fn with_bearer(request: Request, access: &AccessToken) -> Result<Request, ApiError> {
    let text = Zeroizing::new(format!("Bearer {}", access.secret().expose()));
    request.with_secret_header(AUTHORIZATION, &text, "access token")
}
