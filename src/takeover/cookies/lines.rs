//! Parses the `cookies.txt` format of Netscape, and HTTP request headers with a `Cookie` header.

use super::{Scope, Search, header_value};
use crate::model::Secret;

/// Prefix of a line in `cookies.txt` for a cookie with the `HttpOnly` attribute.
const HTTP_ONLY: &str = "#HttpOnly_";

/// Offers all cookies to `search`. Returns false if the text has another format.
pub(super) fn read(text: &str, search: &mut Search<'_>) -> bool {
    let mut is_known_format =
        text.starts_with("# Netscape HTTP Cookie File") || text.starts_with("# HTTP Cookie File");
    let scope = text
        .lines()
        .find_map(|line| header_value(line, "host").or_else(|| header_value(line, ":authority")))
        .map_or(Scope::Unknown, Scope::RequestHost);
    for line in text.lines() {
        if let Some(cookie) = NetscapeCookie::from_line(line) {
            is_known_format = true;
            search.offer(cookie.name, cookie.scope, || {
                Some(Secret::new(cookie.value.to_owned()))
            });
        } else if let Some(header) = header_value(line, "cookie") {
            is_known_format = true;
            search.offer_header(header, scope);
        }
    }
    // The developer tools of browsers copy only the value of the `Cookie` header.
    let is_bare_value = !is_known_format && text.lines().count() == 1 && text.contains('=');
    if is_bare_value {
        search.offer_header(text, Scope::Unknown);
    }
    is_known_format || is_bare_value
}

/// One line of `cookies.txt`.
struct NetscapeCookie<'t> {
    name: &'t str,
    value: &'t str,
    scope: Scope<'t>,
}

impl<'t> NetscapeCookie<'t> {
    /// Parses the fields domain, subdomains, path, secure, expiry, name and value. The
    /// separators are tabs, or spaces if a terminal has replaced the tabs.
    fn from_line(line: &'t str) -> Option<Self> {
        let line = line.strip_prefix(HTTP_ONLY).unwrap_or(line);
        let fields: Vec<&str> = if line.contains('\t') {
            line.split('\t').collect()
        } else {
            line.split_whitespace().collect()
        };
        let [domain, subdomains, _, secure, _, name, value] = fields[..] else {
            return None;
        };
        let is_flag = |text: &str| {
            ["TRUE", "FALSE"]
                .iter()
                .any(|f| text.eq_ignore_ascii_case(f))
        };
        (is_flag(subdomains) && is_flag(secure) && !domain.starts_with('#')).then(|| Self {
            name,
            value: value.trim_end(),
            scope: Scope::Domain {
                domain,
                host_only: subdomains.eq_ignore_ascii_case("FALSE") && !domain.starts_with('.'),
            },
        })
    }
}
