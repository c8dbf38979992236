//! The stored form of a session: one JSON object.
//!
//! ```json
//! {"version":1,"api_url":"https://…","refresh_token":"…","refresh":{"received_at":1795489145000,"lifetime":86400000},
//!  "access_token":"…","access":{"received_at":1795489145000,"lifetime":300000},"skew":-120,"exchange_began":1795489145000}
//! ```
//! Times are milliseconds since the Unix epoch by the local clock. Lifetimes and `skew`
//! are milliseconds. Only `version`, `api_url` and `refresh_token` are required.
//!
//! - `exchange_began` is the pending marker: an exchange began, and its result is not known.
//! - `"exchange_unanswered":true` means that this exchange got no usable response.
//! - `"hand_over_pending":true` means that the profile's `on_rotate` command has not
//!   received the refresh token yet.
//! - `host` names the machine that wrote the entry. Only entries in a helper's store have it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::StoreError;
use crate::model::{
    AccessToken, ApiUrl, Expiry, PendingExchange, RefreshToken, Secret, Session, Timestamp, Token,
};

/// The version that is written, and the newest version that can be read.
pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct StoredSession<'a> {
    api_url: Cow<'a, ApiUrl>,
    refresh_token: Cow<'a, str>,
    refresh: Option<Expiry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<Expiry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skew: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_began: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    exchange_unanswered: bool,
    #[serde(
        rename = "hand_over_pending",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    on_rotate_pending: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Session> for StoredSession<'a> {
    fn from(session: &'a Session) -> Self {
        let access = session.access.as_ref();
        Self {
            api_url: Cow::Borrowed(&session.api_url),
            refresh_token: session.refresh.value.secret().expose().into(),
            refresh: Some(session.refresh.expiry),
            access_token: access.map(|token| token.value.secret().expose().into()),
            access: access.map(|token| token.expiry),
            skew: session.clock_skew_millis,
            exchange_began: session.pending.map(|pending| pending.began_at),
            exchange_unanswered: session
                .pending
                .is_some_and(|pending| pending.got_no_response),
            on_rotate_pending: session.on_rotate_pending,
            host: None,
        }
    }
}

impl StoredSession<'_> {
    /// Converts the times of receipt to the server's clock, and drops the skew of this
    /// machine's clock.
    pub(super) fn in_server_time(mut self) -> Self {
        let skew = self.skew.take().unwrap_or(0);
        self.refresh = self.refresh.map(|expiry| expiry.shifted_by_millis(skew));
        self.access = self.access.map(|expiry| expiry.shifted_by_millis(skew));
        self
    }
}

impl From<StoredSession<'_>> for Session {
    fn from(stored: StoredSession<'_>) -> Self {
        // An entry that a user wrote by hand may have no lifetimes.
        let unknown = Expiry::new(Timestamp::from_millis(0), None);
        let access_token = stored.access_token.filter(|token| !token.is_empty());
        Self {
            api_url: stored.api_url.into_owned(),
            refresh: Token {
                value: RefreshToken::new(Secret::new(stored.refresh_token.into_owned())),
                expiry: stored.refresh.unwrap_or(unknown),
            },
            access: access_token.map(|token| Token {
                value: AccessToken::new(Secret::new(token.into_owned())),
                expiry: stored.access.unwrap_or(unknown),
            }),
            clock_skew_millis: stored.skew,
            pending: stored.exchange_began.map(|began_at| PendingExchange {
                began_at,
                got_no_response: stored.exchange_unanswered,
            }),
            on_rotate_pending: stored.on_rotate_pending,
            written_by_host: stored.host.map(Cow::into_owned),
        }
    }
}

/// Serializes a session. `host` is recorded as the machine that wrote the entry.
pub(super) fn to_bytes(
    session: &Session,
    host: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    #[derive(Serialize)]
    struct Entry<'a> {
        version: u32,
        #[serde(flatten)]
        session: StoredSession<'a>,
    }
    to_json(&Entry {
        version: VERSION,
        session: StoredSession {
            host: host.map(Cow::Borrowed),
            ..session.into()
        },
    })
}

pub(super) fn to_json(entry: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    // The buffer is large enough to never be reallocated: the old allocation would not
    // be zeroized.
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    serde_json::to_writer(&mut *bytes, entry)
        .map_err(|_| StoreError::failed("the session cannot be written as JSON"))?;
    Ok(bytes)
}

/// Parses a session. Errors never quote the input, which may contain a secret.
pub(super) fn from_bytes(bytes: &[u8]) -> Result<Session, StoreError> {
    from_bytes_up_to(VERSION, bytes)
}

/// Parses a session of a version up to `newest`.
pub(super) fn from_bytes_up_to(newest: u32, bytes: &[u8]) -> Result<Session, StoreError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = parse(bytes)?;
    if version > newest {
        return Err(StoreError::failed(
            "the stored session was written by a newer version of rememberizer",
        )
        .with_hint("use that version, or log out with it first"));
    }
    let stored: StoredSession<'_> = parse(bytes)?;
    if stored.refresh_token.is_empty() {
        return Err(
            StoreError::failed("the stored session has no refresh token").with_hint(REMOVAL_HINT),
        );
    }
    Ok(stored.into())
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| {
        StoreError::failed(format!(
            "the stored entry is not a session (line {}, column {})",
            error.line(),
            error.column()
        ))
        .with_hint(REMOVAL_HINT)
    })
}

pub(super) const REMOVAL_HINT: &str = "`rememberizer logout --local` removes it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_documented_form_and_reads_it_back() {
        let text = concat!(
            r#"{"version":1,"api_url":"https://api.example.test/v1","refresh_token":"R","#,
            r#""refresh":{"received_at":1000,"lifetime":86400000},"access_token":"A","#,
            r#""access":{"received_at":1000,"lifetime":300000},"skew":-120,"exchange_began":2000}"#
        );
        let session = from_bytes(text.as_bytes()).expect("a session");
        let bytes = to_bytes(&session, None).expect("bytes");
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    #[test]
    fn reads_an_entry_with_only_the_required_fields() {
        let text = r#"{"version":1,"api_url":"https://h.test","refresh_token":"R"}"#;
        let session = from_bytes(text.as_bytes()).expect("a session");
        assert!(session.access.is_none() && session.pending.is_none());
        assert_eq!(session.refresh.expiry.expires_at(), None);
    }

    #[test]
    fn errors_never_quote_the_input() {
        for text in [
            r#"{"version":1,"api_url":"hunter2","refresh_token":"hunter2"}"#,
            r#"{"version":1,"api_url":"https://h.test","refresh_token":{"x":"hunter2"}}"#,
            r#""hunter2""#,
            "hunter2",
        ] {
            let error = from_bytes(text.as_bytes()).expect_err("not a session");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn reports_a_newer_version() {
        for text in [
            r#"{"version":2,"api_url":"https://h.test","refresh_token":"R"}"#,
            r#"{"version":2,"something":"else"}"#,
        ] {
            let error = from_bytes(text.as_bytes()).expect_err("newer");
            assert!(error.to_string().contains("newer version"), "{error}");
        }
    }
}
