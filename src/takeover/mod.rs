//! Takes the session cookie out of a browser: opens the service's sign-in page in a
//! temporary browser profile, or parses cookies that a user copied from a browser.
//!
//! This module must not print, must not use the cookie, and must not read the user's
//! own browser profile.

use std::ffi::OsString;

#[cfg(unix)]
mod browser;
mod cookies;
#[cfg(unix)]
mod find;
#[cfg(unix)]
mod pipe;
#[cfg(unix)]
mod temp_profile;

#[cfg(unix)]
pub(crate) use browser::{BrowserError, Event, SignIn};
pub(crate) use cookies::{CookieError, FoundCookie, WantedCookie, find_cookie};
#[cfg(unix)]
pub(crate) use find::Browser;
#[cfg(unix)]
pub(crate) use temp_profile::remove_stale_profiles;

/// Looks up an environment variable.
type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Does nothing: this system has no `login --browser`, so no profile can be left over.
#[cfg(not(unix))]
pub(crate) fn remove_stale_profiles(_env: EnvLookup<'_>) -> usize {
    0
}
