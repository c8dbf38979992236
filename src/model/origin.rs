//! The base URL of the API, to which a profile is pinned, in a normal form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::{Host, Url};

/// The base URL of the default service.
const DEFAULT_API_URL: &str = "https://api.rememberizer.ai/api/v1";

/// A base URL to which a session may be sent: `https`, or `http` on a loopback
/// host only, without a user, a query or a fragment.
///
/// The host is in lower case (RFC 3986 §6.2.2). A default port and trailing
/// slashes are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// Why a text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// It does not parse as a URL with a host.
    #[error("the API URL is not a valid URL ({0})")]
    Invalid(String),
    /// It has a scheme other than https, or http to another machine.
    #[error("the API URL must start with https:// (http:// only for localhost)")]
    Scheme,
    /// It contains a user name or a password.
    #[error("the API URL must not contain a user name or a password")]
    UserInfo,
    /// It contains a query or a fragment.
    #[error("the API URL must not contain a query or a fragment")]
    Query,
}

impl Origin {
    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// The host and port, as the URL has them.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self(DEFAULT_API_URL.to_owned())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The one URL of nearly every run is in its normal form already.
        if text == DEFAULT_API_URL {
            return Ok(Self::default());
        }
        let url = Url::parse(text.trim()).map_err(|e| OriginError::Invalid(e.to_string()))?;
        let is_allowed = match (url.scheme(), url.host()) {
            ("https", Some(_)) => true,
            ("http", Some(host)) => is_loopback(&host),
            _ => false,
        };
        if !is_allowed {
            return Err(OriginError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OriginError::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(OriginError::Query);
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

/// Whether the host is loopback, by its address (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3) or by the one
/// name that resolves to it everywhere (RFC 6761 §6.3).
pub(super) fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Whether a host is the domain or below it (RFC 6265 §5.1.3). A suffix of an
/// IP address is not a domain above it.
#[must_use]
pub fn domain_matches(host: &str, domain: &str) -> bool {
    let split = host.len().checked_sub(domain.len());
    let Some((above, suffix)) = split.and_then(|at| host.split_at_checked(at)) else {
        return false;
    };
    let is_below = || above.ends_with('.') && host.parse::<std::net::IpAddr>().is_err();
    !domain.is_empty() && suffix.eq_ignore_ascii_case(domain) && (above.is_empty() || is_below())
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form() {
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
            assert_eq!(text.parse::<Origin>().map(|o| o.0), Ok(normal.to_owned()));
        }
    }

    #[test]
    fn what_is_refused() {
        for text in ["", "x", "//host", "https://", "api.example.test"] {
            assert!(
                matches!(text.parse::<Origin>(), Err(OriginError::Invalid(_))),
                "{text:?}"
            );
        }
        for (text, why) in [
            ("ftp://host/", OriginError::Scheme),
            ("http://127.0.0.1.evil.test", OriginError::Scheme),
            ("http://example.test", OriginError::Scheme),
            ("http://localhost.evil.test", OriginError::Scheme),
            ("https://u@host/", OriginError::UserInfo),
            ("https://:p@host/", OriginError::UserInfo),
            ("https://host/?q=1", OriginError::Query),
            ("https://host/#f", OriginError::Query),
        ] {
            assert_eq!(text.parse::<Origin>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn host_with_its_port() {
        let origin: Origin = "http://127.0.0.1:8080/api".parse().unwrap_or_default();
        assert_eq!(origin.host(), "127.0.0.1:8080");
    }
}
