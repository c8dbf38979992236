//! The settings of the server. Each field is also a flag of the example, whose attribute holds the
//! default. A running server reads the settings at each request, except `tls`, which it reads only
//! at the start.

use std::time::SystemTime;

use clap::{Args, Parser, ValueEnum};

use super::faults::{Delay, Fault};

/// The server software that is imitated, which determines the form of cookies and refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Both tokens are JWTs, in cookies with an expiry. Dates have the form
    /// `Tue, 24 Nov 2026 02:59:05 GMT`.
    #[value(alias = "a")]
    SimpleJwt,
    /// The refresh token is opaque, and the access cookie is a session cookie. Dates have the form
    /// `Wed, 05-Aug-2020 13:53:05 GMT`.
    #[value(alias = "b")]
    FusionAuth,
}

/// What an exchange does with the refresh token in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RotationPolicy {
    /// Keeps it valid, and sends only a new access token.
    Off,
    /// Sends a new one, and keeps the old one valid.
    Rotate,
    /// Sends a new one, and refuses the old one from then on.
    Blacklist,
    /// Sends a new one, and ends the session if the old one is used again.
    RevokeFamily,
}

/// How the response to a signup contains the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SignupTokens {
    /// In cookies, with a `detail` in the body.
    Cookies,
    /// In the body, as `access` and `refresh`.
    Body,
    /// In the body, as `access_token` and `refresh_token`.
    BodyLong,
    /// Not at all: the response is 201 with a `detail`.
    None,
    /// Not at all: the response is 204 without a body.
    NoContent,
}

/// Which JSON bodies are wrapped in an envelope `{data, message, code}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Envelope {
    /// None.
    Bare,
    /// The bodies of successful responses.
    Success,
    /// All bodies.
    All,
}

/// Which attributes of a cookie state its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CookieExpiry {
    /// `Expires` and `Max-Age`.
    Both,
    /// Only `Max-Age`.
    MaxAge,
    /// Only `Expires`.
    Expires,
    /// Neither: a session cookie.
    None,
}

/// The form of the link from a page of `/list/` to the next page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NextLink {
    /// `http://127.0.0.1:8080/api/v1/list/?page=2`
    Absolute,
    /// `/api/v1/list/?page=2`
    Path,
    /// `?page=2`
    Query,
}

/// The certificate of an https server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsKind {
    /// Valid for `localhost`, `127.0.0.1`, `::1` and `api.sandbox.test`, signed by the temporary CA.
    Good,
    /// Signed by the CA, but for another host.
    WrongName,
    /// Signed by the CA, but expired.
    Expired,
}

/// How the server behaves.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Form of cookies and refresh tokens
    #[arg(long, value_enum, default_value_t = Dialect::SimpleJwt)]
    pub dialect: Dialect,
    /// What to do with the old refresh token at an exchange
    #[arg(long, value_enum, default_value_t = RotationPolicy::RevokeFamily)]
    pub rotation: RotationPolicy,
    /// Where to put the tokens in the response to a signup
    #[arg(long, value_enum, default_value_t = SignupTokens::Cookies)]
    pub signup_tokens: SignupTokens,
    /// Require a captcha and accept this response once; repeatable
    #[arg(long, value_name = "RESPONSE")]
    pub captcha: Vec<String>,
    /// Lifetime of an access token in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        allow_negative_numbers = true
    )]
    pub access_lifetime: i64,
    /// Lifetime of a refresh token in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 86_400,
        allow_negative_numbers = true
    )]
    pub refresh_lifetime: i64,
    /// Minimum length of a JWT in characters
    #[arg(long, value_name = "CHARACTERS", default_value_t = 0)]
    pub token_length: usize,
    /// Seconds by which the server's clock is ahead
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub clock_offset: i64,
    /// Status of the response to a wrong password, 400 or 401
    #[arg(long, value_name = "STATUS", default_value_t = 400)]
    pub wrong_password_status: u16,
    /// Refuse signin until the address is verified
    #[arg(long)]
    pub signin_needs_verified: bool,
    /// Respond to a logout without a refresh cookie with 204 instead of 401
    #[arg(long)]
    pub logout_without_cookie: bool,
    /// Keep the session after a logout; clear only the cookies
    #[arg(long)]
    pub logout_keeps_session: bool,
    /// Send only a refresh cookie in the response to an exchange
    #[arg(long)]
    pub exchange_without_access: bool,
    /// Respond to a POST without this `Referer` with 403 `CSRF Failed`
    #[arg(long, value_name = "URL")]
    pub required_referer: Option<String>,
    /// Number of pages of `/list/`
    #[arg(long, value_name = "PAGES", default_value_t = 3)]
    pub list_pages: u32,
    /// How a page of `/list/` links to the next one
    #[arg(long, value_enum, default_value_t = NextLink::Absolute)]
    pub next_link: NextLink,
    /// JSON envelope of responses
    #[arg(long, value_enum, default_value_t = Envelope::Bare)]
    pub envelope: Envelope,
    /// Write account ids as numbers instead of strings
    #[arg(long)]
    pub numeric_id: bool,
    /// Name of the access cookie
    #[arg(long, value_name = "NAME", default_value = "access_token")]
    pub access_cookie: String,
    /// Name of the refresh cookie
    #[arg(long, value_name = "NAME", default_value = "refresh_token")]
    pub refresh_cookie: String,
    /// Attributes that state the lifetime of cookies
    #[arg(long, value_enum, default_value_t = CookieExpiry::Both)]
    pub cookie_expiry: CookieExpiry,
    /// `Domain` of the cookies
    #[arg(long, value_name = "DOMAIN")]
    pub cookie_domain: Option<String>,
    /// `Path` of the cookies
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub cookie_path: String,
    /// Mark the cookies `Secure`
    #[arg(long)]
    pub cookie_secure: bool,
    /// Send `csrftoken` and `sessionid` cookies together with the tokens
    #[arg(long)]
    pub foreign_cookies: bool,
    /// Text to append to every string in JSON and HTML bodies, except tokens
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub text_suffix: String,
    /// Serve https with a certificate of this kind, from a temporary CA
    #[arg(long, value_enum, value_name = "KIND")]
    pub tls: Option<TlsKind>,
    /// Wait before and after processing a request, in milliseconds, for example
    /// `before=200,after=50,at=/auth/signin/`; repeatable
    #[arg(long = "delay", value_name = "SPEC")]
    pub delays: Vec<Delay>,
    /// Respond to the next requests with a fault, for example `status=503,body=html,times=2,at=/account/`;
    /// repeatable.
    ///
    /// SPEC must have one of `status=CODE`, `throttle=SECONDS` (with `retry=seconds|date|none`), `redirect=CODE` (with `to=URL`),
    /// `csrf`, `close` and `raw=FILE` (with `drip=MILLISECONDS` between two bytes). It may also have `body=json|html`, `times=N`,
    /// `at=PATH` and `after-work` (process the request, but lose the response).
    #[arg(long = "fault", value_name = "SPEC")]
    pub faults: Vec<Fault>,
}

impl Default for Settings {
    fn default() -> Self {
        #[derive(Parser)]
        #[command(no_binary_name = true)]
        struct NoFlags {
            #[command(flatten)]
            settings: Settings,
        }
        NoFlags::parse_from(std::iter::empty::<&str>()).settings
    }
}

impl Settings {
    /// Returns the server's time in seconds since 1970.
    pub fn now(&self) -> i64 {
        let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        elapsed.unwrap().as_secs() as i64 + self.clock_offset
    }
}
