//! Forms of lines: Netscape's `cookies.txt`, and headers with a `Cookie` among them.

use super::{Scope, Search, header_value};
use crate::model::Secret;

/// A line of a `cookies.txt` begins so if scripts of a page cannot read the cookie.
const HTTP_ONLY: &str = "#HttpOnly_";

/// Offers the cookies of the wanted name. Returns whether the text has such a form.
pub(super) fn read(text: &str, search: &mut Search<'_>) -> bool {
    let mut known =
        text.starts_with("# Netscape HTTP Cookie File") || text.starts_with("# HTTP Cookie File");
    let sent_to = text
        .lines()
        .find_map(|line| header_value(line, "host").or_else(|| header_value(line, ":authority")))
        .map_or(Scope::Unknown, Scope::SentTo);
    for line in text.lines() {
        if let Some(cookie) = Netscape::from_line(line) {
            known = true;
            search.offer(cookie.name, cookie.scope, || {
                Some(Secret::new(cookie.value.to_owned()))
            });
        } else if let Some(header) = header_value(line, "cookie") {
            known = true;
            search.offer_header(header, sent_to);
        }
    }
    // The value of the header alone, as the developer tools copy it.
    let alone = !known && text.lines().count() == 1 && text.contains('=');
    if alone {
        search.offer_header(text, Scope::Unknown);
    }
    known || alone
}

struct Netscape<'t> {
    name: &'t str,
    value: &'t str,
    scope: Scope<'t>,
}

impl<'t> Netscape<'t> {
    /// Domain, subdomains, path, secure, expiry, name, value; between them are
    /// tabs, or blanks where a terminal has replaced them.
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
