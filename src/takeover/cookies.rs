//! Finds one cookie in a text that a user copied from a browser, or in the DevTools
//! response of a browser (see `pipe`).
//!
//! The format is detected from the text. Only the value of the wanted cookie is copied
//! out of the text. Errors must not contain cookie values.

mod curl;
mod json;
mod lines;

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::model::{CookieNames, Secret, decode_text, domain_matches, without_port};

/// Maximum number of hosts in an error message.
const MAX_SHOWN_HOSTS: usize = 5;

/// The name and host of the cookie to find.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WantedCookie<'a> {
    pub(crate) name: &'a str,
    /// The host of the API. A port is ignored.
    pub(crate) host: &'a str,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CookieError {
    #[error("unknown cookie format (supported: cookies.txt, a Cookie: header, JSON, copy as cURL)")]
    UnknownFormat,
    #[error("the text has no cookie named {0}")]
    Missing(String),
    #[error("the text has a cookie named {name} for {}, but none for {host}", .hosts.join(", "))]
    OtherHost {
        name: String,
        host: String,
        hosts: Vec<String>,
    },
    #[error("the cookie {0} has a value that cannot be sent")]
    InvalidValue(String),
}

#[derive(Debug)]
pub(crate) struct FoundCookie {
    pub(crate) value: Secret,
    /// Set if `value` is that of a cookie with another name: the text has no cookie of the
    /// wanted name for the host, and exactly one pair of access and refresh cookies.
    pub(crate) names: Option<CookieNames>,
}

/// Finds the cookie in a text that the user provided.
pub(crate) fn find_cookie(
    text: &[u8],
    wanted: WantedCookie<'_>,
) -> Result<FoundCookie, CookieError> {
    let text = decode_text(text).ok_or(CookieError::UnknownFormat)?;
    let text = text.trim();
    search_cookies(wanted, |search| {
        if text.starts_with(['{', '[']) {
            json::read(text.as_bytes(), search)
        } else if curl::is_command(text) {
            curl::read(text, search);
            true
        } else {
            lines::read(text, search)
        }
    })
}

/// Finds the cookie in the JSON of a DevTools response.
#[cfg(unix)]
pub(crate) fn find_in_response(
    json: &[u8],
    wanted: WantedCookie<'_>,
) -> Result<FoundCookie, CookieError> {
    search_cookies(wanted, |search| json::read(json, search))
}

/// Searches the cookies that `read` offers for the wanted name. If there is none, and exactly one
/// pair of access and refresh cookies, takes the refresh cookie of that pair. `read` returns false
/// if it does not know the format.
fn search_cookies(
    wanted: WantedCookie<'_>,
    read: impl Fn(&mut Search<'_>) -> bool,
) -> Result<FoundCookie, CookieError> {
    let mut name_search = Search::new(wanted);
    if !read(&mut name_search) {
        return Err(CookieError::UnknownFormat);
    }
    let pair = CookieNames::find_pair(name_search.names_for_host.iter().map(String::as_str));
    let (error, names) = match (name_search.into_result(), pair) {
        (Err(error @ (CookieError::Missing(_) | CookieError::OtherHost { .. })), Some(names)) => {
            (error, names)
        }
        (found, _) => return found.map(|value| FoundCookie { value, names: None }),
    };
    let mut pair_search = Search::new(WantedCookie {
        name: &names.refresh,
        ..wanted
    });
    read(&mut pair_search);
    // Return the first error, since it does not contain the names of the pair: in a damaged
    // text, these can be parts of values.
    let value = pair_search.into_result().map_err(|_| error)?;
    let names = Some(names);
    Ok(FoundCookie { value, names })
}

/// The hosts that a cookie belongs to, as far as the text shows.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// The text names no host; assume the wanted host.
    Unknown,
    /// The cookie was sent to this host, so its domain is this host or a parent domain.
    RequestHost(&'a str),
    /// The cookie has this domain (RFC 6265 §5.3). It also covers the hosts below the domain,
    /// unless the cookie is host-only.
    Domain { domain: &'a str, host_only: bool },
}

/// Maximum length of a name in a pair of token cookies. A longer text may be part of a value.
const MAX_PAIR_NAME_BYTES: usize = 64;

/// State of a search. The parsers call `offer` for each cookie in the text.
struct Search<'a> {
    wanted: WantedCookie<'a>,
    /// The rank and the value of the best match.
    best_match: Option<(usize, Secret)>,
    /// Other hosts for which the text has a cookie of the wanted name.
    other_hosts: BTreeSet<String>,
    /// Names of all cookies for the wanted host.
    names_for_host: BTreeSet<String>,
    has_invalid_value: bool,
}

impl<'a> Search<'a> {
    fn new(wanted: WantedCookie<'a>) -> Self {
        Self {
            wanted: WantedCookie {
                host: without_port(wanted.host),
                ..wanted
            },
            best_match: None,
            other_hosts: BTreeSet::new(),
            names_for_host: BTreeSet::new(),
            has_invalid_value: false,
        }
    }

    /// Keeps the cookie if it has the wanted name and a higher rank than the best match so
    /// far. Calls `value` only for a cookie of the wanted name and host.
    fn offer(&mut self, name: &str, scope: Scope<'_>, value: impl FnOnce() -> Option<Secret>) {
        let rank = self.rank(scope);
        // In a damaged text, the text before a `=` may be part of a value.
        let may_be_name = name.len() <= MAX_PAIR_NAME_BYTES && CookieNames::is_valid(name);
        if rank.is_some() && may_be_name && !self.names_for_host.contains(name) {
            self.names_for_host.insert(name.to_owned());
        }
        if name != self.wanted.name {
            return;
        }
        let Some(rank) = rank else {
            if let Scope::RequestHost(host) | Scope::Domain { domain: host, .. } = scope {
                self.other_hosts.extend(displayable_host(host));
            }
            return;
        };
        // A server clears a cookie by setting an empty value.
        let Some(value) = value().filter(|value| !value.is_empty()) else {
            return;
        };
        // A space in the value means that the text was damaged when it was copied.
        if value.validate_as_token().is_err() || value.contains(' ') {
            self.has_invalid_value = true;
        } else if self
            .best_match
            .as_ref()
            .is_none_or(|(best, _)| *best < rank)
        {
            self.best_match = Some((rank, value));
        }
    }

    /// Returns the length of the domain as the rank, so that the most specific domain wins.
    /// Returns `None` if the cookie is not for the wanted host.
    fn rank(&self, scope: Scope<'_>) -> Option<usize> {
        let host = self.wanted.host;
        match scope {
            Scope::Unknown => Some(host.len()),
            Scope::RequestHost(request_host) => {
                let request_host = without_port(request_host);
                domain_matches(host, request_host).then_some(request_host.len())
            }
            Scope::Domain { domain, host_only } => {
                let domain = without_port(domain.strip_prefix('.').unwrap_or(domain));
                let covers_host = if host_only {
                    host.eq_ignore_ascii_case(domain)
                } else {
                    domain_matches(host, domain)
                };
                covers_host.then_some(domain.len())
            }
        }
    }

    fn into_result(self) -> Result<Secret, CookieError> {
        let name = self.wanted.name.to_owned();
        match self.best_match {
            Some((_, value)) => Ok(value),
            None if self.has_invalid_value => Err(CookieError::InvalidValue(name)),
            None if self.other_hosts.is_empty() => Err(CookieError::Missing(name)),
            None => Err(CookieError::OtherHost {
                name,
                host: self.wanted.host.to_owned(),
                hosts: self.other_hosts.into_iter().take(MAX_SHOWN_HOSTS).collect(),
            }),
        }
    }

    /// Offers the cookies in the value of a `Cookie` header (RFC 6265 §4.2.1). Browsers send
    /// the cookie with the longest path first, so of several cookies with one name the
    /// first is kept.
    fn offer_header(&mut self, header: &str, scope: Scope<'_>) {
        let pairs = header.split(';').filter_map(|pair| pair.split_once('='));
        let mut names = BTreeSet::new();
        for (name, value) in pairs {
            let name = name.trim();
            if names.insert(name) {
                self.offer(name, scope, || Some(Secret::new(value.trim().to_owned())));
            }
        }
    }
}

/// Returns the value if the line is `name: value`. Ignores the case of the name.
fn header_value<'t>(line: &'t str, name: &str) -> Option<&'t str> {
    let (line_name, value) = line.split_at_checked(name.len())?;
    line_name
        .eq_ignore_ascii_case(name)
        .then(|| value.strip_prefix(':').map(str::trim))?
}

/// Returns the host in lower case if it is a valid host name or IP address. A damaged text
/// can have a secret in place of the host, which an error must not show.
fn displayable_host(host: &str) -> Option<String> {
    let host = without_port(host.strip_prefix('.').unwrap_or(host));
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_valid = host.parse::<std::net::IpAddr>().is_ok()
        || host.len() <= 253 && host.contains('.') && host.split('.').all(is_label);
    (is_valid || host == "localhost").then(|| host.to_ascii_lowercase())
}

/// Creates a string that is zeroed when dropped. `capacity` must cover the whole content,
/// because a string that grows leaves unzeroed copies in memory.
fn zeroizing_buffer(capacity: usize) -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(capacity))
}

#[cfg(test)]
mod tests;
