//! The `Set-Cookie` headers that set or clear the two token cookies, exactly as the framework of
//! each dialect writes them.

use std::time::{Duration, UNIX_EPOCH};

use super::settings::{CookieExpiry, Dialect, Settings};
use super::state::Tokens;

/// Returns the headers of a response to an exchange.
pub fn set_renewed(tokens: &Tokens, settings: &Settings) -> Vec<String> {
    let mut lines = set(tokens, settings);
    if settings.exchange_without_access {
        let access = format!("{}=", settings.access_cookie);
        lines.retain(|line| !line.starts_with(&access));
    }
    lines
}

/// Returns the headers that set the tokens.
pub fn set(tokens: &Tokens, settings: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    if settings.foreign_cookies {
        lines.push(
            "csrftoken=wq2Sd0kKsN6RtyJ3; expires=Fri, 31 Dec 2100 00:00:00 GMT; Max-Age=31449600; Path=/; SameSite=Lax"
                .to_owned(),
        );
    }
    let access_expiry = match settings.dialect {
        Dialect::SimpleJwt => settings.cookie_expiry,
        Dialect::FusionAuth => CookieExpiry::None,
    };
    lines.push(cookie(
        (&settings.access_cookie, &tokens.access),
        settings.access_lifetime,
        access_expiry,
        settings,
    ));
    if let Some(refresh) = &tokens.refresh {
        lines.push(cookie(
            (&settings.refresh_cookie, refresh),
            settings.refresh_lifetime,
            settings.cookie_expiry,
            settings,
        ));
    }
    if settings.foreign_cookies {
        lines.push("sessionid=s8d7f6g5h4j3k2l1; HttpOnly; Path=/; SameSite=Lax".to_owned());
    }
    lines
}

/// Returns the headers that clear both cookies.
pub fn clear(settings: &Settings) -> Vec<String> {
    let domain = domain_attribute(settings);
    let path = &settings.cookie_path;
    let names = [&settings.access_cookie, &settings.refresh_cookie];
    let line = |name: &String| match settings.dialect {
        Dialect::SimpleJwt => format!(
            "{name}=\"\"{domain}; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path={path}; SameSite=Lax"
        ),
        Dialect::FusionAuth => format!(
            "{name}={domain}; Expires=Thu, 01-Jan-1970 00:00:10 GMT; Max-Age=0; Path={path}"
        ),
    };
    names.map(line).to_vec()
}

fn cookie(
    (name, value): (&str, &str),
    lifetime: i64,
    expiry: CookieExpiry,
    settings: &Settings,
) -> String {
    let expires_at = UNIX_EPOCH + Duration::from_secs((settings.now() + lifetime).max(0) as u64);
    let mut date = httpdate::fmt_http_date(expires_at);
    if settings.dialect == Dialect::FusionAuth {
        date.replace_range(7..8, "-");
        date.replace_range(11..12, "-");
    }
    let mut line = format!("{name}={value}{}", domain_attribute(settings));
    if matches!(expiry, CookieExpiry::Both | CookieExpiry::Expires) {
        line += &format!("; expires={date}");
    }
    line += "; HttpOnly";
    if matches!(expiry, CookieExpiry::Both | CookieExpiry::MaxAge) {
        line += &format!("; Max-Age={lifetime}");
    }
    line += &format!("; Path={}; SameSite=Lax", settings.cookie_path);
    if settings.cookie_secure {
        line += "; Secure";
    }
    line
}

fn domain_attribute(settings: &Settings) -> String {
    let domain = settings.cookie_domain.as_ref();
    domain.map_or_else(String::new, |domain| format!("; Domain={domain}"))
}
