//! The server's language: a method an endpoint, and an answer or an
//! [`ApiError`] that says what may be done about it.
//!
//! The only user of the HTTP library. Each endpoint is sent only what it
//! needs: there is no cookie jar and no shared header, since a stale
//! credential sent along makes some endpoints refuse. Nothing here knows where
//! a session is kept, who is asked for a password, or what is printed.

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

use std::path::PathBuf;
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, RETRY_AFTER, SET_COOKIE,
};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value};
use url::Url;

use crate::model::{AccessToken, Grant, Origin, RefreshToken, Secret, Timestamp};

pub use error::{ApiError, Sent};
pub use http::Body;
pub use request::{Answer, Request};

use http::{Fault, Http, Outgoing, Reply};

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
        if message::is_html(content_type(&reply.headers)) {
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

    /// Sends once; a success with its body still to be read, or what else it is.
    fn judged(&self, request: &Outgoing, deadline: Instant) -> Result<Reply, Fault> {
        let reply = self.http.send(request, deadline)?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(self.refusal(reply, deadline))
    }

    /// What an answer other than a success is.
    fn refusal(&self, reply: Reply, deadline: Instant) -> Fault {
        let (code, headers, receipt) = (reply.status, reply.headers.clone(), reply.receipt);
        let status = code.as_u16();
        let passing = |reason: String| Fault {
            error: ApiError::Unavailable {
                reason,
                sent: Sent::Answered(status),
            },
            again: matches!(status, 502..=504),
        };
        if !code.is_client_error() && !code.is_server_error() {
            return passing(match self.redirect(&headers) {
                Some(place) => format!("the server redirects to {place}; not followed"),
                None => format!("the server answered {code}, which means nothing here"),
            });
        }
        // An answer cut short is judged by its status, as one that said nothing.
        let body = self.http.body(reply, deadline).map(|(body, _)| body);
        let said = message::read(content_type(&headers), &body.unwrap_or_default());
        let name = code.canonical_reason().unwrap_or("no reason given");
        let message = || said.message.clone().unwrap_or_else(|| name.to_lowercase());
        match status {
            429 => {
                let wait = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
                return Fault::last(ApiError::Throttled {
                    message: message(),
                    retry_after: wait.and_then(|wait| receipt.retry_after(wait)),
                });
            }
            400..=499 if said.json && status != 408 => {}
            _ => {
                return passing(match &said.message {
                    Some(text) => format!("the server answered {code}: {text}"),
                    None => format!("the server answered {code}"),
                });
            }
        }
        Fault::last(match status {
            404 | 405 | 406 | 410 | 415 => ApiError::Unexpected {
                status,
                message: message(),
            },
            _ => ApiError::Refused {
                status,
                message: message(),
                captcha: said.captcha && matches!(status, 400 | 403 | 422),
                fields: said.fields,
            },
        })
    }

    /// Where an answer points to: host and path, without what else an address may hold.
    fn redirect(&self, headers: &HeaderMap) -> Option<String> {
        let place = headers.get(LOCATION)?.to_str().ok()?;
        let base = Url::parse(&self.url("")).ok()?;
        let url = base.join(place).ok()?;
        Some(format!("{}{}", url.host_str()?, url.path()))
    }

    /// The body of a success: JSON, or nothing where there is none. A page is some proxy's.
    fn json(&self, reply: Reply, deadline: Instant) -> Result<Option<Value>, Fault> {
        let (code, headers) = (reply.status, reply.headers.clone());
        let (body, whole) = self.http.body(reply, deadline)?;
        let status = code.as_u16();
        let page = message::is_html(content_type(&headers));
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if page || body.trim_ascii_start().starts_with(b"<") {
            let said = message::read(content_type(&headers), &body).message;
            let text = said.unwrap_or_default();
            return Err(Fault::last(ApiError::Unavailable {
                reason: format!("the server answered {code} with a page: {text}"),
                sent: Sent::Answered(status),
            }));
        }
        if !whole {
            return Err(Fault::last(ApiError::Unexpected {
                status,
                message: "the answer is too large".to_owned(),
            }));
        }
        Ok(serde_json::from_slice(&body).ok())
    }
}

fn bearer(request: Outgoing, access: &AccessToken) -> Result<Outgoing, ApiError> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", access.secret().expose()));
    request.secret(AUTHORIZATION, &text, "access token")
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}
