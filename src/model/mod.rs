//! Plain values: what a session, a token, a profile's name and an origin are.
//!
//! No file or connection is opened here, no clock is read, and nothing of the
//! rest of the crate is imported.

mod cookie_names;
mod expiry;
mod origin;
mod page_url;
mod profile_name;
mod read;
mod secret;
mod session;
mod timestamp;

pub use cookie_names::CookieNames;
pub use expiry::{Expiry, Remaining};
pub use origin::{Origin, OriginError, domain_matches};
pub use page_url::{PageUrl, PageUrlError};
pub use profile_name::{ProfileName, ProfileNameError};

pub(crate) use read::read_at_most;
pub use secret::{AccessToken, RefreshToken, Secret, validate_token_text};
pub use session::{Grant, PendingExchange, Session, Token};
pub use timestamp::Timestamp;
