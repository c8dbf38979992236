//! The expiry of a token, counted from its receipt on the local clock.
//!
//! The clocks of the server and of this machine may differ, but a duration is
//! the same on both. An end in the server's time is therefore never stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A hundred years.
const MAX_LIFETIME_MILLIS: i64 = 100 * 366 * 24 * 3600 * 1000;

/// The most that two comparisons with one clock differ: a `Date` has whole seconds,
/// and a response takes its time.
pub(crate) const MAX_ROUNDING_MILLIS: i64 = 3000;

/// A lifetime that starts when the token is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// The local clock when the response with the token arrived.
    #[serde(rename = "received_at")]
    received_at: Timestamp,
    /// Milliseconds from receipt to the end; `None` when the server did not say.
    #[serde(rename = "lifetime", default, skip_serializing_if = "Option::is_none")]
    lifetime: Option<i64>,
}

/// The remaining lifetime of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remaining {
    /// The token expires after this time.
    Time(Duration),
    /// The token has expired, or the clock was set back since receipt.
    Nothing,
    /// The server did not say: use the token until it is refused.
    Unknown,
}

impl Expiry {
    /// Makes an expiry of a lifetime in milliseconds, if it is known.
    pub fn new(received_at: Timestamp, lifetime: Option<i64>) -> Self {
        Self {
            received_at,
            lifetime: lifetime.map(|l| l.clamp(0, MAX_LIFETIME_MILLIS)),
        }
    }

    /// The same lifetime, counted from a receipt `milliseconds` later.
    pub(crate) fn shifted(self, milliseconds: i64) -> Self {
        Self {
            received_at: self.received_at.offset(milliseconds),
            ..self
        }
    }

    /// The local clock at receipt.
    pub(crate) fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// Returns the end on the local clock, if it is known.
    pub(crate) fn ends_at(&self) -> Option<Timestamp> {
        self.lifetime.map(|l| self.received_at.offset(l))
    }

    /// Returns the remaining lifetime at `now`, on the clock that read `received_at`.
    ///
    /// A `now` well before receipt means that the clock was set back. The time that
    /// has passed is then unknown, and the token counts as expired; one exchange
    /// brings a token that was received on the new clock.
    pub fn remaining(&self, now: Timestamp) -> Remaining {
        let Some(lifetime) = self.lifetime else {
            return Remaining::Unknown;
        };
        let passed = now.millis_since(self.received_at);
        if passed < -MAX_ROUNDING_MILLIS {
            return Remaining::Nothing;
        }
        match u64::try_from(lifetime.saturating_sub(passed.max(0))) {
            Ok(left) if left > 0 => Remaining::Time(Duration::from_millis(left)),
            _ => Remaining::Nothing,
        }
    }

    /// Whether the token lasts longer than `wanted` at `now`, or its lifetime is unknown.
    pub(crate) fn outlasts(&self, wanted: Duration, now: Timestamp) -> bool {
        match self.remaining(now) {
            Remaining::Time(left) => left > wanted,
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
            Remaining::Time(Duration::from_secs(200))
        );
        assert_eq!(expiry.remaining(at(1300)), Remaining::Nothing);
        assert!(expiry.outlasts(Duration::from_secs(30), at(1269)));
        assert!(!expiry.outlasts(Duration::from_secs(30), at(1270)));
    }

    #[test]
    fn a_clock_set_back_ends_it() {
        let expiry = Expiry::new(at(1000), Some(300_000));
        assert_eq!(expiry.remaining(at(996)), Remaining::Nothing);
        let whole = Remaining::Time(Duration::from_secs(300));
        assert_eq!(expiry.remaining(at(997)), whole, "rounding");
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
