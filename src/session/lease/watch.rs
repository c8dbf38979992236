//! Measures the age of another machine's lease, and the pauses between two reads.

use std::time::Duration;

use crate::store::Version;

/// Measures the age of a lease: for how long this run has read the same version of the
/// entry. When the age reaches the duration in the lease, the lease has expired.
#[derive(Debug, Default)]
pub(super) struct LeaseWatch {
    version: Option<Version>,
    first_seen: Duration,
    last_seen: Duration,
    lease_age: Duration,
}

impl LeaseWatch {
    /// Records that the entry had `version` at `now`. The lease ages by the time since the
    /// last read, but by at most `max_aging`.
    pub(super) fn record_read(&mut self, version: &Version, now: Duration, max_aging: Duration) {
        if self.version.as_ref() == Some(version) {
            self.lease_age += now.saturating_sub(self.last_seen).min(max_aging);
        } else {
            self.version = Some(version.clone());
            self.first_seen = now;
            self.lease_age = Duration::ZERO;
        }
        self.last_seen = now;
    }

    pub(super) fn lease_age(&self) -> Duration {
        self.lease_age
    }

    /// Returns when the current version was first read.
    pub(super) fn first_seen(&self) -> Duration {
        self.first_seen
    }
}

/// Returns pauses that grow from 0.1 s to 1 s by a factor of 1.6, with a jitter of ±50 %.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause_count: u32,
}

impl Backoff {
    pub(super) fn next_pause(&mut self, random: u64) -> Duration {
        const FIRST_SECONDS: f64 = 0.1;
        const MAX_SECONDS: f64 = 1.0;
        let pause =
            (FIRST_SECONDS * 1.6_f64.powi(self.pause_count.min(10).cast_signed())).min(MAX_SECONDS);
        self.pause_count += 1;
        // Use 16 bits, since they convert to a float without loss.
        let jitter = f64::from((random & 0xffff) as u16) / f64::from(u16::MAX);
        Duration::from_secs_f64(pause * (0.5 + jitter))
    }
}
