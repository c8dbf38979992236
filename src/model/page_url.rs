//! The URL of a sign-in or sign-up page.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

use super::origin::is_loopback;

/// The URL of a web page: `https`, or `http` on a loopback host; no user or password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PageUrl(String);

/// Why a text is not the URL of a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageUrlError {
    /// It does not parse as a URL with a host.
    #[error("the page's URL is not a valid URL ({0})")]
    Invalid(String),
    /// It has a scheme other than https, or http to another machine.
    #[error("the page's URL must start with https:// (http:// only for localhost)")]
    Scheme,
    /// It contains a user name or a password.
    #[error("the page's URL must not contain a user name or a password")]
    UserInfo,
}

impl PageUrl {
    /// The URL as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PageUrl {
    type Err = PageUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text.trim()).map_err(|e| PageUrlError::Invalid(e.to_string()))?;
        let host_is_allowed = match (url.scheme(), url.host()) {
            ("https", Some(_)) => true,
            ("http", Some(host)) => is_loopback(&host),
            _ => false,
        };
        if !host_is_allowed {
            return Err(PageUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(PageUrlError::UserInfo);
        }
        Ok(Self(url.into()))
    }
}

impl<'de> Deserialize<'de> for PageUrl {
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
    fn https_anywhere_and_http_on_loopback_only() {
        for (text, parsed) in [
            (
                "https://h.test/sign-in?x=1#y",
                "https://h.test/sign-in?x=1#y",
            ),
            ("http://localhost:80/sign-in", "http://localhost/sign-in"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
        ] {
            assert_eq!(text.parse::<PageUrl>().map(|u| u.0), Ok(parsed.to_owned()));
        }
        for (text, why) in [
            ("http://h.test/", PageUrlError::Scheme),
            ("javascript:alert(1)", PageUrlError::Scheme),
            ("file:///etc/passwd", PageUrlError::Scheme),
            ("https://u:p@h.test/", PageUrlError::UserInfo),
        ] {
            assert_eq!(text.parse::<PageUrl>(), Err(why), "{text}");
        }
        assert!(matches!(
            "h.test".parse::<PageUrl>(),
            Err(PageUrlError::Invalid(_))
        ));
    }
}
