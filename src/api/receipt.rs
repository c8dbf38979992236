//! When an answer arrived, by our clock and by the server's.
//!
//! The one reader of dates in headers. It knows neither tokens nor what an
//! answer means.

use std::time::SystemTime;

use crate::model::Timestamp;

/// The longest wait passed on from a `Retry-After`, in seconds: a day.
const LONGEST_WAIT: u64 = 24 * 3600;

/// The two clocks as an answer's head came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    /// The local clock.
    pub(super) at: Timestamp,
    /// The answer's `Date` (RFC 9110 §6.6.1), where it has one that can be read.
    pub(super) date: Option<Timestamp>,
}

impl Receipt {
    /// The receipt of an answer with this `Date` header.
    pub(super) fn new(at: Timestamp, date: Option<&str>) -> Self {
        Self {
            at,
            date: date.and_then(read_date),
        }
    }

    /// The server's "now", or ours where it did not say.
    pub(super) fn server_now(self) -> Timestamp {
        self.date.unwrap_or(self.at)
    }

    /// Milliseconds by which the server's clock is ahead of ours.
    pub(super) fn skew(self) -> Option<i64> {
        self.date.map(|date| date.millis_since(self.at))
    }

    /// `Retry-After` (RFC 9110 §10.2.3) in seconds: a number, or a date on the server's clock.
    pub(super) fn retry_after(self, header: &str) -> Option<u64> {
        let header = header.trim();
        let seconds = if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
            header.parse().unwrap_or(u64::MAX)
        } else {
            let wait = read_date(header)?.millis_since(self.server_now());
            u64::try_from(wait).unwrap_or(0).div_ceil(1000)
        };
        Some(seconds.min(LONGEST_WAIT))
    }
}

/// A date in one of the three forms of RFC 9110 §5.6.7.
fn read_date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text.trim())
        .ok()
        .map(|time: SystemTime| Timestamp::from(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(date: Option<&str>) -> Receipt {
        Receipt::new(Timestamp::from_secs(1_795_489_000), date)
    }

    #[test]
    fn skew_is_server_minus_local() {
        let date = Some("Tue, 24 Nov 2026 02:59:05 GMT");
        assert_eq!(receipt(date).skew(), Some(145_000));
        assert_eq!(receipt(None).skew(), None);
        for bad in ["", "yesterday", "Tue, 99 Nov 2026 02:59:05 GMT", "é"] {
            assert_eq!(receipt(Some(bad)).skew(), None, "{bad:?}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let date = Some("Tue, 24 Nov 2026 02:59:05 GMT");
        for (header, seconds) in [
            ("60", Some(60)),
            (" 0 ", Some(0)),
            ("99999999999999999999999999", Some(LONGEST_WAIT)),
            ("Tue, 24 Nov 2026 03:00:05 GMT", Some(60)),
            ("Tue, 24 Nov 2020 03:00:05 GMT", Some(0)),
            ("Tue, 24 Nov 2099 03:00:05 GMT", Some(LONGEST_WAIT)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(receipt(date).retry_after(header), seconds, "{header:?}");
        }
        // Without a Date, the local clock is all there is.
        assert_eq!(
            receipt(None).retry_after("Tue, 24 Nov 2026 02:59:05 GMT"),
            Some(145)
        );
    }
}
