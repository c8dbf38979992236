//! The stored form of a session that machines share: version 2 of the entry. It has the
//! fields of version 1, and fields that coordinate the machines, such as the lease.
//!
//! ```json
//! {"version":2,"lineage":"…","generation":3,"lease":{"by":"…","host":"ci-7","pid":42,"began":1795489145000,"for":30000},
//!  "api_url":"https://…","refresh_token":"…", …}
//! ```
//! Here `received_at` is in the server's time, since the clocks of two machines may differ
//! by hours. Each reader subtracts the skew of its own clock.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::StoreError;
use super::entry::{self, StoredSession};
use crate::model::{Session, Timestamp};

const VERSION: u32 = 2;

/// An entry that machines share. `session` is `None` after a logout.
#[derive(Debug)]
pub(crate) struct SharedEntry {
    pub(crate) session: Option<Session>,
    pub(crate) coordination: Coordination,
}

/// The fields of an entry that coordinate the machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Coordination {
    /// A random id of the login that created the session.
    #[serde(rename = "lineage")]
    pub(crate) login_id: String,
    /// Number of renewals since the login.
    #[serde(rename = "generation")]
    pub(crate) renewal_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Lease>,
    /// Set if the last run that held the lease got no usable response.
    #[serde(rename = "failed", skip_serializing_if = "Option::is_none")]
    pub(crate) failed_attempt: Option<FailedAttempt>,
    /// Set if the server has ended the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<SessionEnd>,
    /// Whether the session was logged out.
    #[serde(rename = "gone", skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_logged_out: bool,
}

/// The right to exchange the refresh token of the entry that contains the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// A random id of the attempt to renew the session.
    #[serde(rename = "by")]
    pub(crate) attempt_id: String,
    pub(crate) host: String,
    pub(crate) pid: u32,
    /// By the holder's wall clock. Used only in messages.
    #[serde(rename = "began")]
    pub(crate) acquired_at: Timestamp,
    /// How long another machine must have seen this lease before it may take over, in
    /// milliseconds.
    #[serde(rename = "for")]
    pub(crate) duration_millis: u64,
}

/// An attempt to renew the session that got no usable response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedAttempt {
    /// The random id of the attempt, as in [`Lease::attempt_id`].
    #[serde(rename = "by")]
    pub(crate) attempt_id: String,
    #[serde(rename = "why")]
    pub(crate) reason: String,
}

/// The server's response that the session has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionEnd {
    pub(crate) message: String,
    /// When the response was recorded, by the clock of the machine that recorded it.
    pub(crate) at: Timestamp,
}

impl Coordination {
    /// Returns the id of the failed attempt, if there is one.
    pub(crate) fn failed_attempt_id(&self) -> Option<String> {
        self.failed_attempt
            .as_ref()
            .map(|failed| failed.attempt_id.clone())
    }
}

impl SharedEntry {
    pub(crate) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        #[derive(Serialize)]
        struct Entry<'a> {
            version: u32,
            #[serde(flatten)]
            coordination: &'a Coordination,
            #[serde(flatten)]
            session: Option<StoredSession<'a>>,
        }
        let session = self.session.as_ref().map(StoredSession::from);
        entry::to_json(&Entry {
            version: VERSION,
            coordination: &self.coordination,
            session: session.map(StoredSession::in_server_time),
        })
    }

    /// Parses an entry of version 1 or 2. One of version 1 has the default [`Coordination`].
    /// `skew` is the server's clock minus ours in milliseconds, if it is known. Errors never
    /// quote the input.
    pub(crate) fn from_bytes(bytes: &[u8], skew: Option<i64>) -> Result<Self, StoreError> {
        let Ok(coordination) = serde_json::from_slice::<Coordination>(bytes) else {
            return Err(StoreError::failed("the shared entry is not a session")
                .with_hint(entry::REMOVAL_HINT));
        };
        if coordination.is_logged_out {
            return Ok(Self {
                session: None,
                coordination,
            });
        }
        let mut session = entry::from_bytes_up_to(VERSION, bytes)?;
        session.set_clock_skew(skew);
        Ok(Self {
            session: Some(session),
            coordination,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = concat!(
        r#"{"version":2,"lineage":"L","generation":3,"lease":{"by":"N","host":"ci-7","pid":42,"began":5,"for":30000},"#,
        r#""api_url":"https://api.example.test/v1","refresh_token":"R","#,
        r#""refresh":{"received_at":1000,"lifetime":86400000},"access_token":"A","#,
        r#""access":{"received_at":1000,"lifetime":300000}}"#
    );

    #[test]
    fn writing_a_parsed_entry_restores_its_text() {
        let entry = SharedEntry::from_bytes(TEXT.as_bytes(), None).expect("an entry");
        assert_eq!(
            entry
                .coordination
                .lease
                .as_ref()
                .map(|lease| lease.duration_millis),
            Some(30_000)
        );
        let bytes = entry.to_bytes().expect("bytes");
        assert_eq!(String::from_utf8_lossy(&bytes), TEXT);
    }

    #[test]
    fn times_of_receipt_are_in_server_time() {
        let entry = SharedEntry::from_bytes(TEXT.as_bytes(), Some(-400)).expect("an entry");
        let session = entry.session.as_ref().expect("a session");
        let received_at = session.refresh.expiry.received_at();
        assert_eq!(received_at, Timestamp::from_millis(1400));
        let bytes = entry.to_bytes().expect("bytes");
        assert_eq!(String::from_utf8_lossy(&bytes), TEXT);
    }

    #[test]
    fn a_logged_out_entry_has_no_tokens() {
        let text = r#"{"version":2,"lineage":"L","generation":3,"gone":true}"#;
        let entry = SharedEntry::from_bytes(text.as_bytes(), None).expect("an entry");
        assert!(entry.session.is_none());
        assert_eq!(*entry.to_bytes().expect("bytes"), *text.as_bytes());
    }

    #[test]
    fn errors_never_quote_the_input() {
        for text in [
            r#"{"version":2,"lease":"hunter2"}"#,
            "hunter2",
            r#"{"version":3}"#,
        ] {
            let error = SharedEntry::from_bytes(text.as_bytes(), None).expect_err("not an entry");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
