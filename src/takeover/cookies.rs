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

use crate::model::{CookieNames, Secret, decode_text, domain_matches};

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
        "unknown form of cookies (supported: cookies.txt, a Cookie: header, JSON, copy as cURL)"
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

/// The cookie that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) value: Secret,
    /// The names of the only pair of cookies that there is, if it was found by
    /// those: there is none of the wanted name.
    pub(crate) names: Option<CookieNames>,
}

/// Finds the wanted cookie in a pasted text.
pub(crate) fn find_cookie(text: &[u8], wanted: Wanted<'_>) -> Result<Found, CookieError> {
    let text = decode_text(text).ok_or(CookieError::UnknownForm)?;
    let text = text.trim();
    search(wanted, |search| {
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

/// Finds the wanted cookie in the JSON of a browser's answer.
#[cfg(unix)]
pub(crate) fn find_in_answer(json: &[u8], wanted: Wanted<'_>) -> Result<Found, CookieError> {
    search(wanted, |search| json::read(json, search))
}

/// Searches what `read` offers. `read` returns whether it knows the form.
fn search(
    wanted: Wanted<'_>,
    read: impl Fn(&mut Search<'_>) -> bool,
) -> Result<Found, CookieError> {
    let mut by_name = Search::new(wanted);
    if !read(&mut by_name) {
        return Err(CookieError::UnknownForm);
    }
    let pair = CookieNames::find_pair(by_name.names.iter().map(String::as_str));
    let (error, names) = match (by_name.finish(), pair) {
        (Err(error @ (CookieError::Missing(_) | CookieError::Elsewhere { .. })), Some(names)) => {
            (error, names)
        }
        (found, _) => return found.map(|value| Found { value, names: None }),
    };
    let mut by_pair = Search::new(Wanted {
        name: &names.refresh,
        ..wanted
    });
    read(&mut by_pair);
    // An error does not show the names of a pair: in a damaged text, they can be
    // parts of values.
    let value = by_pair.finish().map_err(|_| error)?;
    let names = Some(names);
    Ok(Found { value, names })
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

/// The best match so far, and what is known of the other cookies.
struct Search<'a> {
    wanted: Wanted<'a>,
    best: Option<(usize, Secret)>,
    /// The other hosts that have a cookie of the wanted name.
    elsewhere: BTreeSet<String>,
    /// The names of all cookies for the wanted host.
    names: BTreeSet<String>,
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
            names: BTreeSet::new(),
            unusable: false,
        }
    }

    /// Takes the cookie if it has the wanted name and fits better than the best
    /// so far. The value of another one is not read.
    fn offer(&mut self, name: &str, scope: Scope<'_>, value: impl FnOnce() -> Option<Secret>) {
        let rank = self.rank(scope);
        if rank.is_some() && !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
        if name != self.wanted.name {
            return;
        }
        let Some(rank) = rank else {
            if let Scope::SentTo(host) | Scope::Domain { domain: host, .. } = scope {
                self.elsewhere.extend(shown_host(host));
            }
            return;
        };
        // An empty value is a cookie that was cleared.
        let Some(value) = value().filter(|value| !value.is_empty()) else {
            return;
        };
        // A value with a space was damaged on its way here.
        if value.validate_as_token().is_err() || value.contains(' ') {
            self.unusable = true;
        } else if self.best.as_ref().is_none_or(|(best, _)| *best < rank) {
            self.best = Some((rank, value));
        }
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
        let pairs = header.split(';').filter_map(|pair| pair.split_once('='));
        for (name, value) in pairs {
            self.offer(name.trim(), scope, || {
                Some(Secret::new(value.trim().to_owned()))
            });
        }
    }
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
