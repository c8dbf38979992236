//! The stored form of a session: one JSON object.
//!
//! ```json
//! {"version":1,"api_url":"https://…","refresh_token":"…","refresh":{"received_at":1795489145000,"lifetime":86400000},
//!  "access_token":"…","access":{"received_at":1795489145000,"lifetime":300000},"skew":-120,"exchange_began":1795489145000}
//! ```
//! Times are milliseconds since the epoch by the local clock; lifetimes and the
//! skew are milliseconds. `version`, `api_url` and `refresh_token` are required.
//! `exchange_began` is the pending marker of an exchange whose result is not known;
//! `"exchange_unanswered":true` beside it means that no usable response came.
//! `"hand_over_pending":true` means that the profile's `on_rotate` command has
//! not received the refresh token yet. `"host":"…"` names the machine that wrote the
//! entry; only entries behind a store helper have it.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::StoreError;
use crate::model::{
    AccessToken, Expiry, Origin, PendingExchange, RefreshToken, Secret, Session, Timestamp, Token,
};

/// The version that is written, and the newest one that is understood.
pub(super) const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    api_url: &'a Origin,
    refresh_token: &'a str,
    refresh: Expiry,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<Expiry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skew: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_began: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    exchange_unanswered: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hand_over_pending: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
}

#[derive(Deserialize)]
struct Read {
    version: u32,
    api_url: Origin,
    refresh_token: String,
    refresh: Option<Expiry>,
    access_token: Option<String>,
    access: Option<Expiry>,
    skew: Option<i64>,
    exchange_began: Option<Timestamp>,
    #[serde(default)]
    exchange_unanswered: bool,
    #[serde(default)]
    hand_over_pending: bool,
    host: Option<String>,
}

/// Serialises a session. `host` is the machine that writes it, if that is to be recorded.
pub(super) fn to_bytes(
    session: &Session,
    host: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    write(session, Some(VERSION), session.skew, 0, host)
}

/// Serialises the fields of a session for an entry of another version, with
/// times of receipt by the server's clock.
pub(super) fn to_bytes_in_server_time(session: &Session) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    write(session, None, None, session.skew.unwrap_or(0), None)
}

fn write(
    session: &Session,
    version: Option<u32>,
    skew: Option<i64>,
    shift: i64,
    host: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    // Large enough that the buffer never moves: a former place would not be wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    let written = Written {
        version,
        api_url: &session.origin,
        refresh_token: session.refresh.value.secret().expose(),
        refresh: session.refresh.expiry.shifted(shift),
        access_token: session.access.as_ref().map(|t| t.value.secret().expose()),
        access: session.access.as_ref().map(|t| t.expiry.shifted(shift)),
        skew,
        exchange_began: session.pending.map(|pending| pending.began),
        exchange_unanswered: session.pending.is_some_and(|pending| pending.unanswered),
        hand_over_pending: session.hand_over_pending,
        host,
    };
    serde_json::to_writer(&mut *bytes, &written)
        .map_err(|_| StoreError::failed("the session cannot be written as JSON"))?;
    Ok(bytes)
}

/// Parses a session. No error quotes the input, which may hold a secret.
pub(super) fn from_bytes(bytes: &[u8]) -> Result<Session, StoreError> {
    from_bytes_up_to(VERSION, bytes)
}

/// Parses a session of a version up to `newest`.
pub(super) fn from_bytes_up_to(newest: u32, bytes: &[u8]) -> Result<Session, StoreError> {
    let read: Read = serde_json::from_slice(bytes).map_err(|e| not_a_session(bytes, &e))?;
    if read.version > newest {
        return Err(newer());
    }
    if read.refresh_token.is_empty() {
        return Err(StoreError::failed("the stored session has no refresh token").hint(REMOVE));
    }
    // Somebody wrote an entry without lifetimes by hand: they are unknown.
    let unknown = Expiry::new(Timestamp::from_millis(0), None);
    Ok(Session {
        origin: read.api_url,
        refresh: Token {
            value: RefreshToken::new(Secret::new(read.refresh_token)),
            expiry: read.refresh.unwrap_or(unknown),
        },
        access: read
            .access_token
            .filter(|token| !token.is_empty())
            .map(|token| Token {
                value: AccessToken::new(Secret::new(token)),
                expiry: read.access.unwrap_or(unknown),
            }),
        skew: read.skew,
        pending: read.exchange_began.map(|began| PendingExchange {
            began,
            unanswered: read.exchange_unanswered,
        }),
        hand_over_pending: read.hand_over_pending,
        written_on: read.host,
    })
}

pub(super) const REMOVE: &str = "`rememberizer logout --local` removes it";

fn newer() -> StoreError {
    StoreError::failed("the stored session was written by a newer version of rememberizer")
        .hint("use that version, or log out with it first")
}

fn not_a_session(bytes: &[u8], error: &serde_json::Error) -> StoreError {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    if serde_json::from_slice::<Version>(bytes).is_ok_and(|v| v.version > VERSION) {
        return newer();
    }
    StoreError::failed(format!(
        "the stored entry is not a session (line {}, column {})",
        error.line(),
        error.column()
    ))
    .hint(REMOVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_form_is_the_documented_one_and_comes_back() {
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
    fn the_least_that_is_a_session() {
        let text = r#"{"version":1,"api_url":"https://h.test","refresh_token":"R"}"#;
        let session = from_bytes(text.as_bytes()).expect("a session");
        assert!(session.access.is_none() && session.pending.is_none());
        assert_eq!(session.refresh.expiry.ends_at(), None);
    }

    #[test]
    fn errors_quote_nothing() {
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
    fn a_newer_version_is_named_as_such() {
        for text in [
            r#"{"version":2,"api_url":"https://h.test","refresh_token":"R"}"#,
            r#"{"version":2,"something":"else"}"#,
        ] {
            let error = from_bytes(text.as_bytes()).expect_err("newer");
            assert!(error.to_string().contains("newer version"), "{error}");
        }
    }
}
