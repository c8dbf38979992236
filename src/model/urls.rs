//! The URLs of a profile: the base URL of its API, and web pages.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, ParseError, Url};

/// The base URL of the default service.
const DEFAULT_API_URL: &str = "https://api.rememberizer.ai/api/v1";

/// The base URL of an API: `https`, or `http` if the host is loopback; no user name,
/// password, query or fragment. A session is sent only to URLs below this one.
///
/// The URL is normalized: the host is in lower case (RFC 3986 §6.2.2), and the default
/// port and trailing slashes are removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ApiUrl(String);

/// The URL of a web page: `https`, or `http` if the host is loopback; no user name or
/// password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct PageUrl(String);

impl ApiUrl {
    /// Returns the base URL, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// Returns the host and, if the URL has a port, `:` and the port.
    pub fn host_and_port(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }
}

impl Default for ApiUrl {
    fn default() -> Self {
        Self(DEFAULT_API_URL.to_owned())
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ApiUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for ApiUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = parse(text, "the API URL")?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the API URL must not contain a query or a fragment".to_owned());
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl PageUrl {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PageUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for PageUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text, "the page's URL").map(|url| Self(url.into()))
    }
}

/// Parses a URL to which secrets may be sent: `https`, or `http` if the host is
/// loopback; no user name or password. `name` names the URL in the error.
fn parse(text: &str, name: &str) -> Result<Url, String> {
    let scheme_required =
        || format!("{name} must start with https:// (http:// only for localhost)");
    let url = Url::parse(text.trim()).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => scheme_required(),
        error => format!("{name} is not a valid URL ({error})"),
    })?;
    let is_allowed = match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(host)) => is_loopback(&host),
        _ => false,
    };
    if !is_allowed {
        return Err(scheme_required());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{name} must not contain a user name or a password"));
    }
    Ok(url)
}

/// Whether the host is a loopback address (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3) or
/// `localhost`, the only name that always resolves to a loopback address (RFC 6761 §6.3).
fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Removes the port from a host, and the brackets of an IPv6 address.
pub fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// Whether a host is the domain or a subdomain of it (RFC 6265 §5.1.3). An IP address
/// has no parent domain, even if `domain` is a suffix of the address.
pub fn domain_matches(host: &str, domain: &str) -> bool {
    let split = host.len().checked_sub(domain.len());
    let Some((prefix, suffix)) = split.and_then(|at| host.split_at_checked(at)) else {
        return false;
    };
    let is_subdomain = || prefix.ends_with('.') && host.parse::<std::net::IpAddr>().is_err();
    !domain.is_empty()
        && suffix.eq_ignore_ascii_case(domain)
        && (prefix.is_empty() || is_subdomain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_urls_are_normalized() {
        for (text, normal) in [
            (DEFAULT_API_URL, DEFAULT_API_URL),
            (
                "https://API.example.TEST:443/v1///",
                "https://api.example.test/v1",
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/api/", "http://[::1]:8080/api"),
            ("http://localhost/api", "http://localhost/api"),
            ("https://bücher.example/", "https://xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<ApiUrl>().map(|o| o.0), Ok(normal.to_owned()));
        }
    }

    #[test]
    fn invalid_api_urls_are_refused() {
        for (text, why) in [
            ("", "must start with https://"),
            ("x", "must start with https://"),
            ("//host", "must start with https://"),
            ("https://", "not a valid URL"),
            ("api.example.test", "must start with https://"),
            ("ftp://host/", "must start with https://"),
            ("http://127.0.0.1.evil.test", "must start with https://"),
            ("http://example.test", "must start with https://"),
            ("http://localhost.evil.test", "must start with https://"),
            ("https://u@host/", "a user name or a password"),
            ("https://:p@host/", "a user name or a password"),
            ("https://host/?q=1", "a query or a fragment"),
            ("https://host/#f", "a query or a fragment"),
        ] {
            let error = text.parse::<ApiUrl>().unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn page_urls_are_https_or_loopback() {
        for (text, normal) in [
            (
                "https://h.test/sign-in?x=1#y",
                "https://h.test/sign-in?x=1#y",
            ),
            ("http://localhost:80/sign-in", "http://localhost/sign-in"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
        ] {
            assert_eq!(text.parse::<PageUrl>().map(|u| u.0), Ok(normal.to_owned()));
        }
        for (text, why) in [
            ("http://h.test/", "must start with https://"),
            ("file:///etc/passwd", "must start with https://"),
            ("javascript:alert(1)", "must start with https://"),
            ("https://u:p@h.test/", "a user name or a password"),
            ("sign-in", "must start with https://"),
        ] {
            let error = text.parse::<PageUrl>().unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn hosts_with_and_without_the_port() {
        for (url, host_and_port, host) in [
            ("http://127.0.0.1:8080/api", "127.0.0.1:8080", "127.0.0.1"),
            ("http://[::1]:8080/api", "[::1]:8080", "::1"),
            ("https://[::1]/api", "[::1]", "::1"),
            ("https://h.test", "h.test", "h.test"),
        ] {
            let api_url: ApiUrl = url.parse().unwrap();
            assert_eq!(api_url.host_and_port(), host_and_port);
            assert_eq!(without_port(host_and_port), host);
        }
        assert_eq!(without_port("::1"), "::1");
    }
}
