//! The time of a response, by the local clock and by the server's clock.
//!
//! This module parses the `Date` and `Retry-After` headers.

use std::time::Duration;

use crate::model::Timestamp;

/// Maximum value of `Retry-After`: a day.
const MAX_RETRY_AFTER_SECONDS: u64 = 24 * 3600;

/// When the headers of a response arrived, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceivedAt {
    pub(super) local: Timestamp,
    /// The `Date` header (RFC 9110 §6.6.1); `None` if it is missing or invalid.
    pub(super) server: Option<Timestamp>,
    /// The time since the request was sent.
    pub(super) round_trip: Duration,
}

impl ReceivedAt {
    pub(super) fn new(local: Timestamp, date: Option<&str>, round_trip: Duration) -> Self {
        Self {
            local,
            server: date.and_then(parse_date),
            round_trip,
        }
    }

    /// Returns the server's time, or the local time if the server's is not known.
    pub(super) fn server_time(self) -> Timestamp {
        self.server.unwrap_or(self.local)
    }

    /// Returns the server's clock minus the local clock.
    pub(super) fn clock_skew_millis(self) -> Option<i64> {
        self.server.map(|server| server.millis_since(self.local))
    }

    /// Parses `Retry-After` (RFC 9110 §10.2.3) into seconds. The header holds seconds or a
    /// date by the server's clock.
    pub(super) fn parse_retry_after(self, header: &str) -> Option<u64> {
        let header = header.trim();
        let seconds = if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
            header.parse().unwrap_or(u64::MAX)
        } else {
            let wait = parse_date(header)?.millis_since(self.server_time());
            u64::try_from(wait).unwrap_or(0).div_ceil(1000)
        };
        Some(seconds.min(MAX_RETRY_AFTER_SECONDS))
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
        ReceivedAt::new(Timestamp::from_secs(1_795_489_000), date, Duration::ZERO)
    }

    #[test]
    fn skew_is_server_minus_local() {
        let date = Some("Tue, 24 Nov 2026 02:59:05 GMT");
        assert_eq!(received_at(date).clock_skew_millis(), Some(145_000));
        assert_eq!(received_at(None).clock_skew_millis(), None);
        for bad in ["", "yesterday", "Tue, 99 Nov 2026 02:59:05 GMT", "é"] {
            assert_eq!(received_at(Some(bad)).clock_skew_millis(), None, "{bad:?}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let date = Some("Tue, 24 Nov 2026 02:59:05 GMT");
        for (header, seconds) in [
            ("60", Some(60)),
            (" 0 ", Some(0)),
            ("99999999999999999999999999", Some(MAX_RETRY_AFTER_SECONDS)),
            ("Tue, 24 Nov 2026 03:00:05 GMT", Some(60)),
            ("Tue, 24 Nov 2020 03:00:05 GMT", Some(0)),
            (
                "Tue, 24 Nov 2099 03:00:05 GMT",
                Some(MAX_RETRY_AFTER_SECONDS),
            ),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                received_at(date).parse_retry_after(header),
                seconds,
                "{header:?}"
            );
        }
        // Without a `Date`, the local clock is used.
        assert_eq!(
            received_at(None).parse_retry_after("Tue, 24 Nov 2026 02:59:05 GMT"),
            Some(145)
        );
    }
}
