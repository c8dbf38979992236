//! The expiry of a token: its lifetime, and when, by the local clock, it was received.
//!
//! The server's clock and the local clock may differ, but a duration is the same on
//! both. Therefore an expiry time by the server's clock is never stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Maximum lifetime: a hundred years.
const MAX_LIFETIME_MILLIS: i64 = 100 * 366 * 24 * 3600 * 1000;

/// Maximum difference between two measurements of the same clock skew: a `Date` header
/// has whole seconds, and responses take different times to arrive.
pub(crate) const MAX_SKEW_ERROR_MILLIS: i64 = 3000;

/// A lifetime that starts when the token is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// When the response with the token arrived, by the local clock.
    received_at: Timestamp,
    /// Milliseconds from receipt to expiry; `None` if the server did not state it.
    #[serde(rename = "lifetime", default, skip_serializing_if = "Option::is_none")]
    lifetime_millis: Option<i64>,
    /// The time from sending the request to receiving the response. It is not stored.
    #[serde(skip)]
    round_trip_millis: u32,
}

/// The remaining lifetime of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remaining {
    /// The token expires after this time.
    Time(Duration),
    /// The token has expired, or the local clock was set back since the token was received.
    Expired,
    /// The server did not state the lifetime: use the token until the server refuses it.
    Unknown,
}

impl Expiry {
    /// Pass `None` as `lifetime_millis` if the server did not state a lifetime.
    pub fn new(received_at: Timestamp, lifetime_millis: Option<i64>) -> Self {
        Self {
            received_at,
            lifetime_millis: lifetime_millis.map(|millis| millis.clamp(0, MAX_LIFETIME_MILLIS)),
            round_trip_millis: 0,
        }
    }

    /// Returns the same expiry with the time between the request and the response.
    pub fn with_round_trip(self, round_trip: Duration) -> Self {
        Self {
            round_trip_millis: u32::try_from(round_trip.as_millis()).unwrap_or(u32::MAX),
            ..self
        }
    }

    /// Returns the time between request and response of the token. Zero if the token was
    /// read from a store, even if this process had stored it.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_millis(self.round_trip_millis.into())
    }

    /// Returns an expiry with the same lifetime and a time of receipt `milliseconds` later.
    pub(crate) fn shifted_by_millis(self, milliseconds: i64) -> Self {
        Self {
            received_at: self.received_at.plus_millis(milliseconds),
            ..self
        }
    }

    pub(crate) fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// Returns the time of expiry by the local clock, if the lifetime is known.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.lifetime_millis
            .map(|millis| self.received_at.plus_millis(millis))
    }

    /// Returns the remaining lifetime at `now`. `now` must come from the clock that
    /// set `received_at`.
    ///
    /// If `now` is well before the time of receipt, the clock was set back, and nobody
    /// knows how much time has passed. The token then counts as expired: the exchange
    /// that follows returns a token with a time of receipt by the corrected clock.
    pub fn remaining(&self, now: Timestamp) -> Remaining {
        let Some(lifetime) = self.lifetime_millis else {
            return Remaining::Unknown;
        };
        let elapsed = now.millis_since(self.received_at);
        // A time of receipt that was converted from the server's time may be this much too late.
        if elapsed < -MAX_SKEW_ERROR_MILLIS {
            return Remaining::Expired;
        }
        match u64::try_from(lifetime.saturating_sub(elapsed.max(0))) {
            Ok(millis) if millis > 0 => Remaining::Time(Duration::from_millis(millis)),
            _ => Remaining::Expired,
        }
    }

    /// Whether the token, at `now`, is valid for longer than `duration`. True if the
    /// lifetime is unknown.
    pub(crate) fn outlasts(&self, duration: Duration, now: Timestamp) -> bool {
        match self.remaining(now) {
            Remaining::Time(remaining) => remaining > duration,
            Remaining::Expired => false,
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
        assert_eq!(expiry.remaining(at(1300)), Remaining::Expired);
        assert!(expiry.outlasts(Duration::from_secs(30), at(1269)));
        assert!(!expiry.outlasts(Duration::from_secs(30), at(1270)));
    }

    #[test]
    fn a_token_counts_as_expired_if_the_clock_was_set_back() {
        let expiry = Expiry::new(at(1000), Some(300_000));
        assert_eq!(expiry.remaining(at(996)), Remaining::Expired);
        let full_lifetime = Remaining::Time(Duration::from_secs(300));
        assert_eq!(
            expiry.remaining(at(997)),
            full_lifetime,
            "within the error of the clock skew"
        );
    }

    #[test]
    fn extreme_numbers_neither_wrap_nor_panic() {
        let expiry = Expiry::new(Timestamp::from_millis(i64::MAX), Some(i64::MAX));
        assert_eq!(
            expiry.remaining(Timestamp::from_millis(i64::MIN)),
            Remaining::Expired
        );
        assert_eq!(
            Expiry::new(at(0), Some(-5)).remaining(at(0)),
            Remaining::Expired
        );
        assert_eq!(
            Expiry::new(at(0), None).remaining(at(1)),
            Remaining::Unknown
        );
    }
}
