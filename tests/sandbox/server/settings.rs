//! The settings of the server: one struct, each field of which is also a flag of the example. The
//! attributes of the flags hold the defaults. A running server reads the settings for each
//! request, so a change applies from the next request on; only `tls` is read once, at the start.

use std::time::SystemTime;

use clap::{Args, Parser, ValueEnum};

use super::faults::{Delay, Fault};

/// The form of cookies and refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Both tokens are JWTs in dated cookies, dates written `Tue, 24 Nov 2026 02:59:05 GMT`.
    #[value(alias = "a")]
    SimpleJwt,
    /// The refresh token is opaque, the access cookie a session cookie, dates written
    /// `Wed, 05-Aug-2020 13:53:05 GMT`.
    #[value(alias = "b")]
    FusionAuth,
}

/// What an exchange does to the refresh token that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RotationPolicy {
    /// Keep it, and send only a new access token.
    Off,
    /// Send a new one, and keep accepting the old one.
    Rotate,
    /// Send a new one, and refuse the old one from then on.
    Blacklist,
    /// Send a new one, and end the whole session if the old one is used again.
    RevokeFamily,
}

/// Where the response to a signup has the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SignupTokens {
    /// In cookies, beside a `detail`.
    Cookies,
    /// In the body, as `access` and `refresh`.
    Body,
    /// In the body, as `access_token` and `refresh_token`.
    BodyLong,
    /// Send none: 201 with a `detail`.
    None,
    /// Send none: 204 without a body.
    NoContent,
}

/// Which of the two JSON envelopes is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Envelope {
    /// Bare objects.
    Bare,
    /// `{data, message, code}` around successes; errors are bare.
    Success,
    /// `{data, message, code}` around everything.
    All,
}

/// Which lifetimes a dated cookie states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CookieExpiry {
    /// `Expires` and `Max-Age`.
    Both,
    /// `Max-Age` alone.
    MaxAge,
    /// `Expires` alone.
    Expires,
    /// Neither: a session cookie.
    None,
}

/// How a page of `/list/` names the one after it.
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
    /// Valid for `localhost`, `127.0.0.1`, `::1` and `api.sandbox.test`, signed by the throw-away CA.
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
    /// Status that answers a wrong password, 400 or 401
    #[arg(long, value_name = "STATUS", default_value_t = 400)]
    pub wrong_password_status: u16,
    /// Refuse signin until the address is verified
    #[arg(long)]
    pub signin_needs_verified: bool,
    /// Answer a logout without a refresh cookie with 204 instead of 401
    #[arg(long)]
    pub logout_without_cookie: bool,
    /// Keep the session after a logout; clear only the cookies
    #[arg(long)]
    pub logout_keeps_session: bool,
    /// Send only a refresh cookie in the response to an exchange
    #[arg(long)]
    pub exchange_without_access: bool,
    /// Answer a POST without this `Referer` with 403 `CSRF Failed`
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
    /// Send `csrftoken` and `sessionid` cookies along with the tokens
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
    /// Wait before and after the work, in milliseconds, as in `before=200,after=50,at=/auth/signin/`; repeatable
    #[arg(long = "delay", value_name = "SPEC")]
    pub delays: Vec<Delay>,
    /// Answer the next requests with a fault, as in `status=503,body=html,times=2,at=/account/`; repeatable.
    ///
    /// One of `status=CODE`, `throttle=SECONDS` (with `retry=seconds|date|none`), `redirect=CODE` (with `to=URL`), `csrf`, `close`,
    /// `raw=FILE` (with `drip=MILLISECONDS` between two bytes); with `body=json|html`, `times=N`, `at=PATH` and `after-work` (the work
    /// is done, the response is lost).
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
    /// The server's time, in seconds since 1970.
    pub fn now(&self) -> i64 {
        let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        elapsed.unwrap().as_secs() as i64 + self.clock_offset
    }
}
