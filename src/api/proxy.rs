//! The proxy in words, for a diagnosis or an error.
//!
//! Whether one is used is decided by the HTTP library, from the same
//! variables; here they are only described, without the credentials in them.

use url::Url;

use super::Options;

/// The variable and address of the proxy that requests go through.
pub(super) fn in_use(options: &Options) -> Option<String> {
    if !options.origin.is_https() {
        return None;
    }
    let value = |names: [&str; 2]| {
        let set = |name: &str| options.proxy_variables.iter().find(|(n, _)| n == name);
        names.into_iter().find_map(set)
    };
    let host = options.origin.host();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    if let Some((_, list)) = value(["NO_PROXY", "no_proxy"])
        && list.split(',').any(|entry| exempts(entry.trim(), host))
    {
        return None;
    }
    let (name, address) = value(["HTTPS_PROXY", "https_proxy"])
        .or_else(|| value(["ALL_PROXY", "all_proxy"]))
        .filter(|(_, address)| !address.is_empty())?;
    Some(format!("{name} ({})", redacted(address)))
}

fn exempts(entry: &str, host: &str) -> bool {
    let domain = entry.trim_start_matches('.');
    entry == "*"
        || !domain.is_empty()
            && (host == domain || host.strip_suffix(domain).is_some_and(|h| h.ends_with('.')))
}

/// The address without user and password; of a text that is no URL, nothing.
fn redacted(address: &str) -> String {
    let url = Url::parse(address)
        .ok()
        .filter(Url::has_host)
        .or_else(|| Url::parse(&format!("http://{address}")).ok());
    match url.as_ref().and_then(|url| Some((url, url.host_str()?))) {
        Some((url, host)) => {
            let port = url.port().map_or(String::new(), |port| format!(":{port}"));
            format!("{}://{host}{port}", url.scheme())
        }
        None => "not a URL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_is_shown() {
        for (address, shown) in [
            ("http://user:pass@proxy.test:3128", "http://proxy.test:3128"),
            ("user:pass@proxy.test:3128", "http://proxy.test:3128"),
            ("proxy.test:3128", "http://proxy.test:3128"),
            ("https://u@[::1]:1/x?pass", "https://[::1]:1"),
            ("::::pass", "not a URL"),
        ] {
            assert_eq!(redacted(address), shown);
        }
    }

    #[test]
    fn exemptions() {
        for (entry, host, exempt) in [
            ("*", "a.test", true),
            ("a.test", "a.test", true),
            (".a.test", "b.a.test", true),
            ("a.test", "ba.test", false),
            ("", "a.test", false),
        ] {
            assert_eq!(exempts(entry, host), exempt, "{entry} {host}");
        }
    }
}
