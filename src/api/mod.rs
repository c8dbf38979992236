//! The server's language: a method an endpoint, and an answer or an
//! [`ApiError`] that says what may be done about it.
//!
//! The only user of the HTTP library. Each endpoint is sent only what it
//! needs: there is no cookie jar and no shared header, since a stale
//! credential sent along makes some endpoints refuse. Nothing here knows where
//! a session is kept, who is asked for a password, or what is printed.

mod answer;
mod cookie;
mod error;
mod http;
mod jwt;
mod message;
mod proxy;
mod receipt;
mod request;
mod tls;
mod wire;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};
use reqwest::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::model::{AccessToken, Grant, Origin, RefreshToken, Secret, Timestamp};

pub use error::{ApiError, Sent};
pub use http::Body;
pub use request::{Answer, Request};

use answer::is_page;
use http::{Fault, Http, Outgoing};

/// The longest pause before a read is tried again.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// What a client needs to know of the world around it.
pub struct Options {
    /// The server: no request goes anywhere else.
    pub origin: Origin,
    /// How long a call may take, its body and all its tries included.
    pub timeout: Duration,
    /// PEM roots that are trusted beside the others.
    pub ca_cert: Option<PathBuf>,
    /// PEM roots that are trusted in place of the platform's.
    pub ssl_cert_file: Option<PathBuf>,
    /// The name of the access token's cookie.
    pub access_cookie: String,
    /// The name of the refresh token's cookie.
    pub refresh_cookie: String,
    /// The proxy variables that are set (`HTTPS_PROXY`, `no_proxy`, …), to be described;
    /// the HTTP library reads them by itself.
    pub proxy_variables: Vec<(String, String)>,
    /// Gets a line a request, an answer and a decision; never a secret.
    pub log: Box<dyn Fn(&str) + Send + Sync>,
    /// The local clock.
    pub clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

/// What a bare request told of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The status of the answer; which one does not matter.
    pub status: u16,
    /// How long the head of the answer took, connection included.
    pub elapsed: Duration,
    /// The server's clock, where the answer had a `Date`.
    pub date: Option<Timestamp>,
    /// The server's clock minus ours, in milliseconds.
    pub skew: Option<i64>,
}

/// A client of one server.
pub struct Client {
    http: Http,
}

impl Client {
    /// A client; nothing is read, built or connected before the first request.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            http: Http::new(options),
        }
    }

    /// Makes an account. The grant is empty where the server wants a login first.
    pub fn signup(
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
        self.grant(&self.post("auth/signup/").json(&body)?)
    }

    /// Logs in. An answer without a refresh token is the caller's to judge.
    pub fn signin(
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
        self.grant(&self.post("auth/signin/").json(&body)?)
    }

    /// Confirms the account's e-mail address with the code that was sent there.
    pub fn verify(&self, access: &AccessToken, code: &str) -> Result<(), ApiError> {
        let body = wire::Verify {
            verification_code: code,
        };
        let request = self.post("auth/verify-email/").json(&body)?;
        self.done(&bearer(request, access)?)
    }

    /// Exchanges the refresh token for an access token, and perhaps for its successor.
    ///
    /// Sent once at most: a rotating server may take a second use for theft (RFC 9700 §4.14).
    pub fn exchange(&self, refresh: &RefreshToken) -> Result<Grant, ApiError> {
        self.grant(&self.with_cookie(self.post("auth/custom-refresh/"), refresh)?)
    }

    /// Ends the session at the server.
    pub fn revoke(&self, refresh: &RefreshToken) -> Result<(), ApiError> {
        self.done(&self.with_cookie(self.post("auth/custom-logout/"), refresh)?)
    }

    /// The account in short: `id`, `email`, `name`.
    pub fn account(&self, access: &AccessToken) -> Result<Map<String, Value>, ApiError> {
        self.object(&bearer(self.get("account/"), access)?)
    }

    /// The account in full, `email_verified` among it.
    pub fn me(&self, access: &AccessToken) -> Result<Map<String, Value>, ApiError> {
        self.object(&bearer(self.get("me/"), access)?)
    }

    /// Asks for nothing in particular, without a credential: any HTTP answer is a success.
    pub fn reach(&self) -> Result<Reached, ApiError> {
        let reply = self
            .http
            .send(&self.get("account/"), self.deadline())
            .map_err(|fault| fault.error)?;
        Ok(Reached {
            status: reply.status.as_u16(),
            elapsed: reply.elapsed,
            date: reply.receipt.date,
            skew: reply.receipt.skew(),
        })
    }

    /// The roots that the server's certificate is checked against, in words.
    #[must_use]
    pub fn roots_in_use(&self) -> String {
        tls::roots_in_use(&self.http.options)
    }

    /// The proxy that requests go through, in words and without its credentials.
    #[must_use]
    pub fn proxy_in_use(&self) -> Option<String> {
        proxy::in_use(&self.http.options)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.http.options.origin)
    }

    fn post(&self, path: &str) -> Outgoing {
        Outgoing::new(Method::POST, self.url(path))
    }

    fn get(&self, path: &str) -> Outgoing {
        Outgoing::new(Method::GET, self.url(path))
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        // A timeout beyond what the clock can count is as good as a day.
        now.checked_add(self.http.options.timeout)
            .unwrap_or_else(|| now + Duration::from_secs(24 * 3600))
    }

    fn with_cookie(&self, request: Outgoing, refresh: &RefreshToken) -> Result<Outgoing, ApiError> {
        let text = refresh.secret().expose();
        cookie::usable(text)
            .map_err(|why| ApiError::Config(format!("the refresh token cannot be sent: {why}")))?;
        let pair = zeroize::Zeroizing::new(format!("{}={text}", self.http.options.refresh_cookie));
        request.secret(COOKIE, &pair, "refresh token")
    }

    /// Sends once, and takes the tokens out of the answer.
    fn grant(&self, request: &Outgoing) -> Result<Grant, ApiError> {
        let deadline = self.deadline();
        let reply = self
            .judged(request, deadline)
            .map_err(|fault| fault.error)?;
        let options = &self.http.options;
        let host = options.origin.host();
        let rules = cookie::Rules {
            // An IPv6 address has colons of its own, within brackets.
            host: match host.rsplit_once(':') {
                Some((name, port)) if !port.ends_with(']') => name,
                _ => host,
            },
            access: &options.access_cookie,
            refresh: &options.refresh_cookie,
            receipt: reply.receipt,
            log: &options.log,
        };
        let cookies = reply.headers.get_all(SET_COOKIE).iter();
        let mut grant = rules.grant(cookies.map(|header| header.as_bytes()));
        let found = grant.access.is_some() || grant.refresh.is_some();
        let complete = grant.access.is_some() && grant.refresh.is_some();
        if complete || reply.status == StatusCode::NO_CONTENT {
            return Ok(grant);
        }
        match self.json(reply, deadline) {
            Ok(Some(body)) => wire::add_tokens(&mut grant, &body, &rules),
            Ok(None) => {}
            // Tokens that came in the head are good whatever became of the body.
            Err(fault) if found => {
                (options.log)(&format!("the body is left alone: {}", fault.error));
            }
            Err(fault) => return Err(fault.error),
        }
        Ok(grant)
    }

    /// Sends once; any success will do.
    fn done(&self, request: &Outgoing) -> Result<(), ApiError> {
        let deadline = self.deadline();
        let reply = self
            .judged(request, deadline)
            .map_err(|fault| fault.error)?;
        if is_page(&reply) {
            self.json(reply, deadline).map_err(|fault| fault.error)?;
        }
        Ok(())
    }

    /// Reads an object, again where that may help.
    fn object(&self, request: &Outgoing) -> Result<Map<String, Value>, ApiError> {
        self.patiently(|deadline| {
            let reply = self.judged(request, deadline)?;
            let status = reply.status.as_u16();
            let body = self.json(reply, deadline)?;
            body.and_then(wire::unwrap_envelope).ok_or_else(|| {
                Fault::last(ApiError::Unexpected {
                    status,
                    message: "the answer holds no JSON object".to_owned(),
                })
            })
        })
    }

    /// Tries up to three times within the timeout, for requests that may be repeated.
    fn patiently<T>(
        &self,
        mut attempt: impl FnMut(Instant) -> Result<T, Fault>,
    ) -> Result<T, ApiError> {
        let deadline = self.deadline();
        let pauses = ExponentialBuilder::new()
            .with_min_delay(LONGEST_PAUSE / 4)
            .with_factor(2.0)
            .with_jitter()
            // Without a seed, the pauses of all machines would be the same.
            .with_jitter_seed(RandomState::new().build_hasher().finish())
            .with_max_times(2);
        let tried = || attempt(deadline);
        tried
            .retry(pauses)
            .when(|fault| {
                let left = deadline.saturating_duration_since(Instant::now());
                fault.again && left > LONGEST_PAUSE
            })
            .notify(|_, pause| {
                (self.http.options.log)(&format!("trying again in {} ms", pause.as_millis()));
            })
            .call()
            .map_err(|fault| fault.error)
    }
}

fn bearer(request: Outgoing, access: &AccessToken) -> Result<Outgoing, ApiError> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", access.secret().expose()));
    request.secret(AUTHORIZATION, &text, "access token")
}
