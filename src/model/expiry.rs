//! When a token ends, judged by how long it lasts from its receipt.
//!
//! A server's idea of "now" and ours may differ by hours; the time that passes
//! between two readings of the same clock does not. So a token is kept with
//! the local moment it came in and its lifetime, never with an end in the
//! server's time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The longest lifetime kept, in milliseconds: a hundred years.
const LONGEST: i64 = 100 * 366 * 24 * 3600 * 1000;

/// A lifetime that began when the token was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// The local clock when the answer that carried the token arrived.
    #[serde(rename = "received_at")]
    received_at: Timestamp,
    /// Milliseconds from receipt to the end; `None` when the server did not say.
    #[serde(rename = "lifetime", default, skip_serializing_if = "Option::is_none")]
    lifetime: Option<i64>,
}

/// What is left of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remaining {
    /// This long.
    For(Duration),
    /// Nothing: it has ended, or the clock has been set back since its receipt.
    Nothing,
    /// Nobody said when it ends: use it until it is refused.
    Unknown,
}

impl Expiry {
    /// A lifetime of `lifetime` milliseconds from `received_at`; `None` when unknown.
    #[must_use]
    pub fn new(received_at: Timestamp, lifetime: Option<i64>) -> Self {
        Self {
            received_at,
            lifetime: lifetime.map(|l| l.clamp(0, LONGEST)),
        }
    }

    /// The local clock at receipt.
    #[must_use]
    pub fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// The end on the local clock, where known.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.lifetime.map(|l| self.received_at.offset(l))
    }

    /// What is left at `now`, on the clock that read `received_at`.
    ///
    /// A `now` before the receipt means the clock was set back: the time that
    /// has passed is unknown, and the token counts as ended. One exchange then
    /// gives a receipt on the new clock.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Remaining {
        let Some(lifetime) = self.lifetime else {
            return Remaining::Unknown;
        };
        let passed = now.millis_since(self.received_at);
        if passed < 0 {
            return Remaining::Nothing;
        }
        match u64::try_from(lifetime.saturating_sub(passed)) {
            Ok(left) if left > 0 => Remaining::For(Duration::from_millis(left)),
            _ => Remaining::Nothing,
        }
    }

    /// Whether the token is good for longer than `wanted` at `now`. Unknown counts as good.
    #[must_use]
    pub fn outlasts(&self, wanted: Duration, now: Timestamp) -> bool {
        match self.remaining(now) {
            Remaining::For(left) => left > wanted,
            Remaining::Nothing => false,
            Remaining::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn a_lifetime_counts_from_receipt() {
        let expiry = Expiry::new(at(1000), Some(300_000));
        assert_eq!(
            expiry.remaining(at(1100)),
            Remaining::For(Duration::from_secs(200))
        );
        assert_eq!(expiry.remaining(at(1300)), Remaining::Nothing);
        assert!(expiry.outlasts(Duration::from_secs(30), at(1269)));
        assert!(!expiry.outlasts(Duration::from_secs(30), at(1270)));
    }

    #[test]
    fn a_clock_set_back_ends_it() {
        let expiry = Expiry::new(at(1000), Some(300_000));
        assert_eq!(expiry.remaining(at(999)), Remaining::Nothing);
    }

    #[test]
    fn hostile_numbers_neither_wrap_nor_panic() {
        let expiry = Expiry::new(Timestamp::from_millis(i64::MAX), Some(i64::MAX));
        assert_eq!(
            expiry.remaining(Timestamp::from_millis(i64::MIN)),
            Remaining::Nothing
        );
        assert_eq!(
            Expiry::new(at(0), Some(-5)).remaining(at(0)),
            Remaining::Nothing
        );
        assert_eq!(
            Expiry::new(at(0), None).remaining(at(1)),
            Remaining::Unknown
        );
    }
}
