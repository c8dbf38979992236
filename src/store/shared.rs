//! The stored form of a session that machines share: version 2 of the entry,
//! which has the lease and the marks of other machines beside the tokens.
//!
//! ```json
//! {"version":2,"lineage":"…","generation":3,"lease":{"by":"…","host":"ci-7","pid":42,"began":1795489145000,"for":30000},
//!  "api_url":"https://…","refresh_token":"…", …}
//! ```
//! `received_at` is in the server's time here: the clocks of two machines may
//! differ by hours. Each reader subtracts its own skew.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{StoreError, entry};
use crate::model::{Session, Timestamp};

const VERSION: u32 = 2;

/// A shared entry. A session that was logged out leaves its marks alone.
#[derive(Debug)]
pub(crate) struct SharedEntry {
    pub(crate) session: Option<Session>,
    pub(crate) sharing: Sharing,
}

/// What machines tell each other in the entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sharing {
    /// A random id of the login.
    pub(crate) lineage: String,
    /// How often the session was renewed.
    pub(crate) generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Lease>,
    /// The last holder of a lease, if it got no usable response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<Failure>,
    /// The server has ended the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<EndedMark>,
    /// The session was logged out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) gone: bool,
}

/// The right to exchange the refresh token of the entry that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// A random id of the attempt.
    pub(crate) by: String,
    pub(crate) host: String,
    pub(crate) pid: u32,
    /// By the holder's wall clock. For texts only: it decides nothing.
    pub(crate) began: Timestamp,
    /// How long the others must have watched it, in milliseconds.
    #[serde(rename = "for")]
    pub(crate) duration: u64,
}

/// A renewal that got no usable response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The id of the attempt.
    pub(crate) by: String,
    pub(crate) why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndedMark {
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

impl SharedEntry {
    /// Serialises the entry.
    pub(crate) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        #[derive(Serialize)]
        struct Head<'a> {
            version: u32,
            #[serde(flatten)]
            sharing: &'a Sharing,
        }
        let head = Head {
            version: VERSION,
            sharing: &self.sharing,
        };
        let head = serde_json::to_vec(&head)
            .map_err(|_| StoreError::failed("the shared entry cannot be written as JSON"))?;
        let Some(session) = &self.session else {
            return Ok(Zeroizing::new(head));
        };
        let session = entry::to_bytes_in_server_time(session)?;
        // Both are objects: the fields of the session follow those of the head.
        let (Some(head), Some(fields)) = (head.strip_suffix(b"}"), session.strip_prefix(b"{"))
        else {
            return Err(StoreError::failed("the shared entry cannot be joined"));
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + 1 + fields.len()));
        bytes.extend_from_slice(head);
        bytes.push(b',');
        bytes.extend_from_slice(fields);
        Ok(bytes)
    }

    /// Parses an entry. One of version 1 has no marks. `skew` is the server's
    /// clock minus ours in milliseconds, if it is known. No error quotes the input.
    pub(crate) fn from_bytes(bytes: &[u8], skew: Option<i64>) -> Result<Self, StoreError> {
        let Ok(sharing) = serde_json::from_slice::<Sharing>(bytes) else {
            return Err(StoreError::failed("the shared entry is not a session").hint(entry::REMOVE));
        };
        if sharing.gone {
            return Ok(Self {
                session: None,
                sharing,
            });
        }
        let mut session = entry::from_bytes_up_to(VERSION, bytes)?;
        session.skew = None;
        session.set_skew(skew);
        Ok(Self {
            session: Some(session),
            sharing,
        })
    }

    /// The lease, if there is one and it may still decide something.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.sharing.lease.as_ref()
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
    fn the_written_form_comes_back() {
        let entry = SharedEntry::from_bytes(TEXT.as_bytes(), None).expect("an entry");
        assert_eq!(entry.lease().map(|lease| lease.duration), Some(30_000));
        let bytes = entry.to_bytes().expect("bytes");
        assert_eq!(String::from_utf8_lossy(&bytes), TEXT);
    }

    #[test]
    fn receipts_are_in_server_time() {
        let entry = SharedEntry::from_bytes(TEXT.as_bytes(), Some(-400)).expect("an entry");
        let session = entry.session.as_ref().expect("a session");
        let here = session.refresh.expiry.received_at();
        assert_eq!(here, Timestamp::from_millis(1400));
        let bytes = entry.to_bytes().expect("bytes");
        assert_eq!(String::from_utf8_lossy(&bytes), TEXT);
    }

    #[test]
    fn what_was_logged_out_has_no_tokens() {
        let text = r#"{"version":2,"lineage":"L","generation":3,"gone":true}"#;
        let entry = SharedEntry::from_bytes(text.as_bytes(), None).expect("an entry");
        assert!(entry.session.is_none());
        assert_eq!(*entry.to_bytes().expect("bytes"), *text.as_bytes());
    }

    #[test]
    fn errors_quote_nothing() {
        for text in [
            r#"{"version":2,"lease":"hunter2"}"#,
            "hunter2",
            r#"{"version":3}"#,
        ] {
            let error = SharedEntry::from_bytes(text.as_bytes(), None).expect_err("none");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
