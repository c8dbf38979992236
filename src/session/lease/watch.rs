//! Watching another machine's lease: for how long, and the pauses between reads.

use std::time::Duration;

use crate::store::Version;

/// Measures for how long one version of an entry has been watched. The lease in
/// that version has expired after its own duration, whatever wall clocks show.
#[derive(Debug, Default)]
pub(super) struct LeaseWatch {
    version: Option<Version>,
    first_seen: Duration,
    last_seen: Duration,
    watched: Duration,
}

impl LeaseWatch {
    /// Records that the entry had `version` at `now`. Of the time since the last
    /// call, at most `max_gap` counts as watched.
    pub(super) fn record(&mut self, version: &Version, now: Duration, max_gap: Duration) {
        if self.version.as_ref() == Some(version) {
            self.watched += now.saturating_sub(self.last_seen).min(max_gap);
        } else {
            self.version = Some(version.clone());
            self.first_seen = now;
            self.watched = Duration::ZERO;
        }
        self.last_seen = now;
    }

    /// Returns for how long the current version has been watched.
    pub(super) fn watched(&self) -> Duration {
        self.watched
    }

    /// Returns when the current version was first seen.
    pub(super) fn first_seen(&self) -> Duration {
        self.first_seen
    }
}

/// Pauses that grow from 0.1 s to 1 s by a factor of 1.6, with a jitter of ±50 %.
/// Contains the number of pauses so far.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    pub(super) fn next_pause(&mut self, random: u64) -> Duration {
        const FIRST_SECONDS: f64 = 0.1;
        const MAX_SECONDS: f64 = 1.0;
        let pause = (FIRST_SECONDS * 1.6_f64.powi(self.0.min(10).cast_signed())).min(MAX_SECONDS);
        self.0 += 1;
        // Use 16 bits, since they convert to a float without loss.
        let jitter = f64::from((random & 0xffff) as u16) / f64::from(u16::MAX);
        Duration::from_secs_f64(pause * (0.5 + jitter))
    }
}
