//! One cookie out of a text that a person copied from a browser.
//!
//! The forms are told apart by their looks. Only the cookie of the wanted name
//! is copied out of the text, whatever else the text holds, and no error shows
//! a value. The browser's own answer (see `pipe`) is read here as well.

mod curl;
mod json;
mod lines;

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::model::{Secret, domain_matches, validate_token_text};

/// The most hosts that an error names.
const MOST_HOSTS: usize = 5;

/// The cookie that is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    /// The API's host; a port is ignored.
    pub(crate) host: &'a str,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CookieError {
    #[error(
        "not a form of cookies that is known (cookies.txt, a Cookie: header, JSON, copy as cURL)"
    )]
    UnknownForm,
    #[error("the text has no cookie named {0}")]
    Missing(String),
    #[error("the text has a cookie named {name} for {}, and none for {host}", .hosts.join(", "))]
    Elsewhere {
        name: String,
        host: String,
        hosts: Vec<String>,
    },
    #[error("the cookie {0} has a value that cannot be sent")]
    Unusable(String),
}

/// Finds the wanted cookie in a pasted text.
pub(crate) fn find_cookie(text: &[u8], wanted: Wanted<'_>) -> Result<Secret, CookieError> {
    let text = decode(text).ok_or(CookieError::UnknownForm)?;
    let text = text.trim();
    let mut search = Search::new(wanted);
    let known = if text.starts_with(['{', '[']) {
        json::read(text.as_bytes(), &mut search)
    } else if curl::is_command(text) {
        curl::read(text, &mut search);
        true
    } else {
        lines::read(text, &mut search)
    };
    if known {
        search.finish()
    } else {
        Err(CookieError::UnknownForm)
    }
}

/// Finds the wanted cookie in the JSON of a browser's answer.
#[cfg(unix)]
pub(crate) fn find_in_answer(json: &[u8], wanted: Wanted<'_>) -> Result<Secret, CookieError> {
    let mut search = Search::new(wanted);
    if json::read(json, &mut search) {
        search.finish()
    } else {
        Err(CookieError::UnknownForm)
    }
}

/// UTF-8, or UTF-16 with a byte order mark, as PowerShell writes it.
fn decode(text: &[u8]) -> Option<Zeroizing<String>> {
    let mut decoded = buffer(text.len() * 3 / 2);
    if let Some(units) = text.strip_prefix(b"\xff\xfe") {
        let units = units
            .chunks_exact(2)
            .map(|u| u16::from_le_bytes([u[0], u[1]]));
        for character in char::decode_utf16(units) {
            decoded.push(character.ok()?);
        }
    } else {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        decoded.push_str(std::str::from_utf8(text).ok()?);
    }
    Some(decoded)
}

/// What a text says about where a cookie belongs.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// Nothing: it counts for the wanted host.
    Unknown,
    /// It was sent to this host, so its domain is this one or a parent.
    SentTo(&'a str),
    /// It has this domain (RFC 6265 §5.3), which covers hosts below it unless it is host-only.
    Domain { domain: &'a str, host_only: bool },
}

/// The best match so far, and the hosts of the others of the same name.
struct Search<'a> {
    wanted: Wanted<'a>,
    best: Option<(usize, Secret)>,
    elsewhere: BTreeSet<String>,
    unusable: bool,
}

impl<'a> Search<'a> {
    fn new(wanted: Wanted<'a>) -> Self {
        Self {
            wanted: Wanted {
                host: without_port(wanted.host),
                ..wanted
            },
            best: None,
            elsewhere: BTreeSet::new(),
            unusable: false,
        }
    }

    fn wants(&self, name: &str) -> bool {
        name == self.wanted.name
    }

    /// Takes a cookie of the wanted name if it fits better than the best so far.
    fn offer(&mut self, value: &str, scope: Scope<'_>) {
        let Some(rank) = self.rank(scope) else {
            if let Scope::SentTo(host) | Scope::Domain { domain: host, .. } = scope {
                self.elsewhere.extend(shown_host(host));
            }
            return;
        };
        // An empty value is a cookie that was cleared.
        if value.is_empty() || self.best.as_ref().is_some_and(|(best, _)| *best >= rank) {
            return;
        }
        // A value with a space was damaged on its way here.
        if validate_token_text(value).is_err() || value.contains(' ') {
            self.unusable = true;
            return;
        }
        self.best = Some((rank, Secret::new(value.to_owned())));
    }

    /// How well a cookie of this scope fits, if it does: the longest domain is the best.
    fn rank(&self, scope: Scope<'_>) -> Option<usize> {
        let host = self.wanted.host;
        match scope {
            Scope::Unknown => Some(host.len()),
            Scope::SentTo(sent_to) => {
                let sent_to = without_port(sent_to);
                domain_matches(host, sent_to).then_some(sent_to.len())
            }
            Scope::Domain { domain, host_only } => {
                let bare = without_port(domain.strip_prefix('.').unwrap_or(domain));
                let covers = if host_only {
                    host.eq_ignore_ascii_case(bare)
                } else {
                    domain_matches(host, bare)
                };
                covers.then_some(bare.len())
            }
        }
    }

    fn finish(self) -> Result<Secret, CookieError> {
        let name = self.wanted.name.to_owned();
        match self.best {
            Some((_, value)) => Ok(value),
            None if self.unusable => Err(CookieError::Unusable(name)),
            None if self.elsewhere.is_empty() => Err(CookieError::Missing(name)),
            None => Err(CookieError::Elsewhere {
                name,
                host: self.wanted.host.to_owned(),
                hosts: self.elsewhere.into_iter().take(MOST_HOSTS).collect(),
            }),
        }
    }

    /// Reads the value of a `Cookie` header (RFC 6265 §4.2.1). A browser sends
    /// the cookie with the longest path first, so the first one of a name counts.
    fn offer_header(&mut self, header: &str, scope: Scope<'_>) {
        if let Some(value) = value_in_header(header, self.wanted.name) {
            self.offer(value, scope);
        }
    }
}

fn value_in_header<'t>(header: &'t str, name: &str) -> Option<&'t str> {
    let mut pairs = header.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(found, _)| found.trim() == name)?;
    Some(value.trim())
}

/// The value of a header line `name: value`, if it is that header.
fn header_value<'t>(line: &'t str, name: &str) -> Option<&'t str> {
    let (head, value) = line.split_at_checked(name.len())?;
    head.eq_ignore_ascii_case(name)
        .then(|| value.strip_prefix(':').map(str::trim))?
}

/// A host without its port and without the brackets of an IPv6 address.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// The host as an error may show it: only what can be a host name, since a
/// damaged text can have anything in the place of one.
fn shown_host(host: &str) -> Option<String> {
    let host = without_port(host.strip_prefix('.').unwrap_or(host));
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let shown = host.parse::<std::net::IpAddr>().is_ok()
        || host.len() <= 253 && host.contains('.') && host.split('.').all(label);
    (shown || host == "localhost").then(|| host.to_ascii_lowercase())
}

/// A buffer that holds `capacity` bytes without leaving copies behind when it grows.
fn buffer(capacity: usize) -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(capacity))
}

#[cfg(test)]
mod tests;
