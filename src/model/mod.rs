//! The value types: sessions, tokens, profile names, API URLs and times.
//!
//! This module opens no file or connection, does not read the clock, and imports
//! nothing from the rest of the crate.

mod cookie_names;
mod expiry;
mod profile_name;
mod read;
mod secret;
mod session;
mod timestamp;
mod urls;

pub use cookie_names::CookieNames;
pub(crate) use expiry::MAX_SKEW_ERROR_MILLIS;
pub use expiry::{Expiry, Remaining};
pub use profile_name::ProfileName;
pub use read::decode_text;
pub(crate) use read::read_at_most;
pub use secret::{AccessToken, RefreshToken, Secret, validate_token_text};
pub use session::{Grant, PendingExchange, Session, Token};
pub use timestamp::Timestamp;
pub use urls::{ApiUrl, PageUrl, domain_matches, without_port};
