//! Parses words of the command line: durations, profile names and API URLs.

use std::time::Duration;

use rememberizer_cli::globals::parse_duration;
use rememberizer_cli::model::{ApiUrl, ProfileName};

/// Panics if the property does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(duration) = parse_duration(text) {
        assert!(duration <= Duration::from_secs(10 * 366 * 24 * 3600));
    }
    if let Ok(name) = text.parse::<ProfileName>() {
        assert_eq!(name.as_str(), text);
        assert!((1..=64).contains(&text.len()));
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }
    if let Ok(api_url) = text.parse::<ApiUrl>() {
        let shown = api_url.to_string();
        assert_eq!(
            shown.parse().as_ref(),
            Ok(&api_url),
            "the URL is normalized: {shown}"
        );
        assert!(!shown.contains(['?', '#', '\\', ' ', '\n']), "{shown}");
        assert!(!api_url.host_and_port().contains('@'), "{shown}");
        assert!(!shown.ends_with('/'), "{shown}");
        if !api_url.is_https() {
            let host = api_url.host_and_port();
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            assert!(
                host.starts_with("127.") || name == "localhost" || host.starts_with("[::1]"),
                "http to {host}"
            );
        }
    }
}
