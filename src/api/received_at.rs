//! The time of a response, by the local clock and by the server's.
//!
//! All dates in headers are read here.

use crate::model::Timestamp;

/// The longest wait that a `Retry-After` can ask for, in seconds: a day.
const MAX_RETRY_AFTER: u64 = 24 * 3600;

/// The two clocks when the head of a response arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceivedAt {
    pub(super) local: Timestamp,
    /// The `Date` header (RFC 9110 §6.6.1), if it can be parsed.
    pub(super) server: Option<Timestamp>,
}

impl ReceivedAt {
    pub(super) fn new(local: Timestamp, date: Option<&str>) -> Self {
        Self {
            local,
            server: date.and_then(parse_date),
        }
    }

    /// The server's time, or the local one if the response has no `Date`.
    pub(super) fn server_now(self) -> Timestamp {
        self.server.unwrap_or(self.local)
    }

    /// The server's clock minus the local one, in milliseconds.
    pub(super) fn skew(self) -> Option<i64> {
        self.server.map(|server| server.millis_since(self.local))
    }

    /// Parses a `Retry-After` (RFC 9110 §10.2.3), a number or a date on the
    /// server's clock, into seconds.
    pub(super) fn retry_after(self, header: &str) -> Option<u64> {
        let header = header.trim();
        let seconds = if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
            header.parse().unwrap_or(u64::MAX)
        } else {
            let wait = parse_date(header)?.millis_since(self.server_now());
            u64::try_from(wait).unwrap_or(0).div_ceil(1000)
        };
        Some(seconds.min(MAX_RETRY_AFTER))
    }
}

/// Parses a date in any of the three forms of RFC 9110 §5.6.7.
fn parse_date(text: &str) -> Option<Timestamp> {
    let time = httpdate::parse_http_date(text.trim()).ok()?;
    Some(Timestamp::from(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received_at(date: Option<&str>) -> ReceivedAt {
        ReceivedAt::new(Timestamp::from_secs(1_795_489_000), date)
    }

    #[test]
    fn skew_is_server_minus_local() {
        let date = Some("Tue, 24 Nov 2026 02:59:05 GMT");
        assert_eq!(received_at(date).skew(), Some(145_000));
        assert_eq!(received_at(None).skew(), None);
        for bad in ["", "yesterday", "Tue, 99 Nov 2026 02:59:05 GMT", "é"] {
            assert_eq!(received_at(Some(bad)).skew(), None, "{bad:?}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let date = Some("Tue, 24 Nov 2026 02:59:05 GMT");
        for (header, seconds) in [
            ("60", Some(60)),
            (" 0 ", Some(0)),
            ("99999999999999999999999999", Some(MAX_RETRY_AFTER)),
            ("Tue, 24 Nov 2026 03:00:05 GMT", Some(60)),
            ("Tue, 24 Nov 2020 03:00:05 GMT", Some(0)),
            ("Tue, 24 Nov 2099 03:00:05 GMT", Some(MAX_RETRY_AFTER)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(received_at(date).retry_after(header), seconds, "{header:?}");
        }
        // Without a Date, the local clock counts.
        assert_eq!(
            received_at(None).retry_after("Tue, 24 Nov 2026 02:59:05 GMT"),
            Some(145)
        );
    }
}
