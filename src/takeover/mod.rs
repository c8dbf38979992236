//! A session that a browser has: signing in on the service's own page in a
//! throw-away profile, and the forms in which people copy cookies.
//!
//! Nothing here prints, knows what the cookie is good for, or reads the user's
//! own browser profile.

#[cfg(unix)]
mod browser;
mod cookies;
#[cfg(unix)]
mod directory;
#[cfg(unix)]
mod find;
#[cfg(unix)]
mod pipe;

#[cfg(unix)]
pub(crate) use browser::{BrowserError, Event, SignIn};
pub(crate) use cookies::{CookieError, Found, Wanted, find_cookie};
#[cfg(unix)]
pub(crate) use directory::sweep;
#[cfg(unix)]
pub(crate) use find::Browser;

/// Where no browser can be used, none leaves anything.
#[cfg(not(unix))]
pub(crate) fn sweep(_variable: &dyn Fn(&str) -> Option<std::ffi::OsString>) -> usize {
    0
}
