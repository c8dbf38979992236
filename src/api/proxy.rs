//! Finds the proxy that requests use, to describe it in `doctor` and in errors.
//!
//! The HTTP library chooses the proxy itself. This module reaches the same result,
//! because it uses the same variables and the same matcher.

use hyper_util::client::proxy::matcher::Matcher;

use super::Options;

pub(super) struct Proxy {
    pub(super) host: String,
    /// The variable's name and the proxy's URL without credentials.
    pub(super) description: String,
}

/// Finds the proxy for requests to the API URL. Plain http never uses a proxy.
pub(super) fn find(options: &Options) -> Option<Proxy> {
    if !options.api_url.is_https() {
        return None;
    }
    // Returns the first variable of these names that is set.
    let first_set = |names: [&str; 2]| {
        let lookup = |name: &str| options.proxy_variables.iter().find(|(n, _)| n == name);
        names.into_iter().find_map(lookup)
    };
    let no_proxy = first_set(["NO_PROXY", "no_proxy"]).map_or("", |(_, list)| list);
    let url = options.api_url.as_str().parse().ok()?;
    [["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]]
        .into_iter()
        .find_map(|names| {
            let (name, address) = first_set(names)?;
            let matcher = Matcher::builder().https(&**address).no(no_proxy).build();
            let proxy = matcher.intercept(&url)?;
            let proxy_url = proxy.uri().to_string();
            Some(Proxy {
                host: proxy.uri().host()?.to_owned(),
                description: format!("{name} ({})", proxy_url.trim_end_matches('/')),
            })
        })
}

#[cfg(test)]
mod tests {
    use crate::model::{CookieNames, Timestamp};

    use super::*;

    #[test]
    fn descriptions_have_no_credentials() {
        for (address, no_proxy, shown) in [
            (
                "http://user:pass@proxy.test:3128",
                "",
                Some("http://proxy.test:3128"),
            ),
            (
                "user:pass@proxy.test:3128",
                "other.test",
                Some("http://proxy.test:3128"),
            ),
            ("https://u@[::1]:1/x?pass", "", Some("https://[::1]:1")),
            ("proxy.test:3128", "api.test", None),
            ("proxy.test:3128", ".test", None),
            ("::::pass", "", None),
        ] {
            let options = Options {
                api_url: "https://api.test/v1".parse().unwrap(),
                timeout: std::time::Duration::ZERO,
                ca_cert: None,
                ssl_cert_file: None,
                cookie_names: CookieNames::default(),
                referer: None,
                proxy_variables: vec![
                    ("https_proxy".to_owned(), address.to_owned()),
                    ("NO_PROXY".to_owned(), no_proxy.to_owned()),
                ],
                log: Box::new(|_| ()),
                clock: Box::new(|| Timestamp::from_secs(0)),
            };
            let found = find(&options).map(|proxy| proxy.description);
            let shown = shown.map(|shown| format!("https_proxy ({shown})"));
            assert_eq!(found, shown, "{address} {no_proxy}");
        }
    }
}
