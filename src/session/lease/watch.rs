//! How long another machine's lease has been watched, and the pauses between
//! two looks at it.

use std::time::Duration;

use crate::store::Version;

/// What was seen of a lease. It is over when one version of the entry has been
/// watched for the lease's length: no wall clock is compared.
#[derive(Debug, Default)]
pub(super) struct Watch {
    version: Option<Version>,
    began: Duration,
    watched: Duration,
    last: Duration,
}

impl Watch {
    /// Notes that the entry had `version` at `now`. A gap of more than `max_gap`
    /// counts as that: while the store is away, its lease's holder cannot write.
    pub(super) fn is_over(
        &mut self,
        version: &Version,
        length: Duration,
        now: Duration,
        max_gap: Duration,
    ) -> bool {
        if self.version.as_ref() == Some(version) {
            self.watched += now.saturating_sub(self.last).min(max_gap);
        } else {
            self.version = Some(version.clone());
            self.began = now;
            self.watched = Duration::ZERO;
        }
        self.last = now;
        self.watched >= length
    }

    /// When the version was first seen.
    pub(super) fn began(&self) -> Duration {
        self.began
    }
}

/// Growing pauses: 0.1 s, times 1.6 up to 1 s, each half as long to half as long again.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    pub(super) fn next(&mut self, random: u64) -> Duration {
        const FIRST: f64 = 0.1;
        const LONGEST: f64 = 1.0;
        let pause = (FIRST * 1.6_f64.powi(self.0.min(10).cast_signed())).min(LONGEST);
        self.0 += 1;
        // 16 bits are jitter enough, and convert without loss.
        let share = f64::from((random & 0xffff) as u16) / f64::from(u16::MAX);
        Duration::from_secs_f64(pause * (0.5 + share))
    }
}
