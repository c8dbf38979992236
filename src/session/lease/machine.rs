//! A simulated machine: the [`Environment`] of the protocol, with the clocks of the machine.
//! Passes each operation to the scheduler. Removes a rule of the protocol by changing what
//! the protocol reads, writes or sees on the clock.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Environment, ExchangeOutcome, SharedEntry, Timing};
use crate::model::{
    AccessToken, ApiUrl, Expiry, Grant, RefreshToken, Secret, Session, Timestamp, Token,
};
use crate::store::{PutOutcome, StoreError, StoreErrorKind, Version, VersionedEntry};

/// A rule of the protocol that a test removes, to show what the rule prevents. The comments
/// describe what a machine does without the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RemovedRule {
    Nothing,
    Lease,
    CompareAndSetOfLease,
    CompareAndSetOfResult,
    CompareAndSetOfRelease,
    HolderDeadline,
    /// Measures the lease from the response to the put.
    HolderClockFromBeforePut,
    ClockAdvancesInSuspend,
    /// Decides by wall clocks whether a lease has expired.
    Watching,
    /// Uses the machine's own lease duration instead.
    DurationFromEntry,
    /// Takes an unanswered put for done, without reading the entry.
    UnansweredPutAsStored,
    /// Takes an unanswered put for not done, without reading the entry.
    UnansweredPutAsConflict,
    ReadAfterRefusal,
    /// Removes the entry instead of marking the session as ended.
    SessionEnd,
    /// Does not store a result if another run has acquired a lease meanwhile.
    OverwritingNewerLease,
    LeaseExpiry,
    /// Exchanges the token even though the lock timeout has passed.
    FailClosed,
    SharedFailures,
    SkewCorrection,
}

/// The settings of a simulation. A setting that is absent is 0.
///
/// - Counts: `machines` that renew the session at the start, and `latecomers` 20 to 120 s later.
/// - Probabilities per request: `slow_store`, `lose_store`, `slow_server`, `very_slow_server`,
///   `lose_server`.
/// - Probabilities per machine: `crash`, `pause`, `suspend`; and just after a machine has put
///   its lease: `pause_at_lease`, `suspend_at_lease`.
/// - Maximum errors of clocks: `skew` in seconds, `drift` as a fraction.
/// - Seconds: `outage_from` and `outage_to` limit how long the store is unavailable;
///   `retry_window` is how long the server accepts a used token again.
/// - Switches: `login` and `logout` during the renewals, `server_down`, and `no_family` if the
///   server does not revoke the session when a token is used twice.
#[derive(Debug, Clone, Default)]
pub(super) struct Scenario(HashMap<&'static str, f64>);

impl Scenario {
    /// Parses settings such as `machines=3 crash=0.5`.
    pub(super) fn new(settings: &'static str) -> Self {
        Self::default().with(settings)
    }

    pub(super) fn with(mut self, settings: &'static str) -> Self {
        for setting in settings.split_whitespace() {
            let (name, value) = setting.split_once('=').unwrap();
            self.0.insert(name, value.parse().unwrap());
        }
        self
    }

    pub(super) fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// A random number generator (SplitMix64), so that a seed determines a run.
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Returns a number from 0 to 1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    pub(super) fn in_range(&mut self, from: f64, to: f64) -> f64 {
        from + self.fraction() * (to - from)
    }
    /// Returns true with the given probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }
    pub(super) fn pick(&mut self, values: &[f64]) -> f64 {
        values[self.next() as usize % values.len()]
    }
}

/// What a machine writes with a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutKind {
    Lease,
    Release,
    Result,
    SessionEnd,
    LogoutMark,
    Login,
}

/// An operation that a machine waits for.
pub(super) enum Op {
    Get {
        timeout: Duration,
    },
    Put {
        /// `None` overwrites any version.
        expected: Option<String>,
        kind: PutKind,
        /// `None` removes the entry.
        content: Option<Vec<u8>>,
        timeout: Duration,
    },
    Exchange {
        token: String,
        timeout: Duration,
    },
    Revoke {
        token: String,
    },
    Sleep(Duration),
    Done,
}

/// The result of an operation.
#[derive(Clone)]
pub(super) enum Answer {
    /// The version and the content of the entry.
    Entry(String, Option<Vec<u8>>),
    Unavailable,
    Put(PutOutcome),
    Tokens(String),
    Refused,
    NoResponse,
    Revoked(bool),
    Slept,
}

/// The clocks of one machine.
pub(super) struct Clocks {
    /// The virtual time in microseconds, which all machines share.
    pub(super) now: Arc<AtomicU64>,
    /// How long the machine was suspended so far, in microseconds.
    pub(super) suspended: AtomicU64,
    /// The rate of the monotonic clocks relative to virtual time.
    pub(super) rate: f64,
    /// The wall clock minus the virtual time, in seconds.
    pub(super) wall_offset: f64,
    /// The value of the monotonic clocks at virtual time 0, in seconds.
    pub(super) start: f64,
}

pub(super) const MICROS_PER_SECOND: f64 = 1e6;

impl Clocks {
    pub(super) fn virtual_seconds(&self) -> f64 {
        self.now.load(SeqCst) as f64 / MICROS_PER_SECOND
    }
    fn watcher_seconds(&self) -> f64 {
        (self.virtual_seconds() - self.suspended.load(SeqCst) as f64 / MICROS_PER_SECOND)
            * self.rate
            + self.start
    }
    fn holder_seconds(&self) -> f64 {
        self.virtual_seconds() * self.rate + self.start
    }
}

/// The environment of a machine's run. Passes each operation to the scheduler and
/// waits for the answer.
pub(super) struct Machine {
    pub(super) id: usize,
    pub(super) op_sender: Sender<(usize, Op)>,
    pub(super) answer_receiver: Receiver<Answer>,
    pub(super) clocks: Arc<Clocks>,
    pub(super) random: RefCell<Random>,
    pub(super) removed_rule: RemovedRule,
    pub(super) timing: Timing,
    /// The holder's clock at the response to the last put of a lease.
    pub(super) lease_response_at: Cell<Option<f64>>,
    /// The entry that was last written with a lease, and its version.
    pub(super) last_lease: RefCell<Option<(Vec<u8>, String)>>,
    pub(super) was_last_exchange_refused: Cell<bool>,
}

/// The panic payload that unwinds the thread of a machine that has crashed.
pub(super) struct Crashed;

impl Machine {
    /// Waits for the result of an operation.
    fn run_op(&self, op: Op) -> Answer {
        if self.op_sender.send((self.id, op)).is_err() {
            resume_unwind(Box::new(Crashed) as Box<dyn Any + Send>);
        }
        match self.answer_receiver.recv() {
            Ok(answer) => answer,
            Err(_) => resume_unwind(Box::new(Crashed) as Box<dyn Any + Send>),
        }
    }

    fn put_kind(&self, entry: &SharedEntry) -> PutKind {
        let coordination = &entry.coordination;
        match (
            &coordination.lease,
            coordination.ended.is_some(),
            coordination.is_logged_out,
        ) {
            (_, _, true) => PutKind::LogoutMark,
            (_, true, _) => PutKind::SessionEnd,
            (Some(_), ..) => PutKind::Lease,
            _ if coordination.renewal_count == 0 && coordination.login_id != "one" => {
                PutKind::Login
            }
            _ => {
                let last_lease = self.last_lease.borrow();
                let leased_entry = last_lease
                    .as_ref()
                    .map(|(bytes, _)| SharedEntry::from_bytes(bytes, None).unwrap());
                match leased_entry {
                    Some(leased)
                        if leased.coordination.renewal_count == coordination.renewal_count =>
                    {
                        PutKind::Release
                    }
                    _ => PutKind::Result,
                }
            }
        }
    }
}

pub(super) fn to_duration(time: f64) -> Duration {
    Duration::from_secs_f64(time.max(0.0))
}

impl Environment for Machine {
    type Error = String;
    type Revocation = bool;

    fn get(&self, timeout: Duration) -> Result<VersionedEntry, StoreError> {
        if self.removed_rule == RemovedRule::ReadAfterRefusal
            && self.was_last_exchange_refused.get()
        {
            let (bytes, _) = self.last_lease.borrow().clone().unwrap();
            return Ok((Version("blind".into()), Some(Zeroizing::new(bytes))));
        }
        let Answer::Entry(version, bytes) = self.run_op(Op::Get { timeout }) else {
            return Err(StoreError {
                kind: StoreErrorKind::Unavailable,
                message: "store unavailable".into(),
                hint: None,
            });
        };
        let bytes = bytes.map(|bytes| {
            let mut entry = SharedEntry::from_bytes(&bytes, None).unwrap();
            if let Some(lease) = &mut entry.coordination.lease {
                let began = lease.acquired_at.millis() as f64 / 1000.0;
                match self.removed_rule {
                    RemovedRule::Watching => {
                        let ends_at = began + lease.duration_millis as f64 / 1000.0;
                        let is_over =
                            self.clocks.virtual_seconds() + self.clocks.wall_offset >= ends_at;
                        lease.duration_millis = if is_over { 0 } else { 1_000_000 };
                    }
                    RemovedRule::DurationFromEntry => {
                        lease.duration_millis = self.timing.lease_duration.as_millis() as u64;
                    }
                    RemovedRule::LeaseExpiry => lease.duration_millis = u64::MAX / 4,
                    _ => {}
                }
            }
            if self.removed_rule == RemovedRule::SharedFailures {
                entry.coordination.failed_attempt = None;
            }
            entry.to_bytes().unwrap()
        });
        Ok((Version(version), bytes))
    }

    fn put(
        &self,
        expected: &Version,
        bytes: &[u8],
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError> {
        let entry = SharedEntry::from_bytes(bytes, None).unwrap();
        let kind = self.put_kind(&entry);
        let mut expected_version = Some(expected.0.clone());
        let mut content = Some(bytes.to_vec());
        match (self.removed_rule, kind) {
            (RemovedRule::Lease, PutKind::Lease) => {
                *self.last_lease.borrow_mut() = Some((bytes.to_vec(), expected.0.clone()));
                return Ok(PutOutcome::Stored(expected.clone()));
            }
            (RemovedRule::Lease, PutKind::Release) => return Ok(PutOutcome::Conflict),
            (RemovedRule::CompareAndSetOfLease, PutKind::Lease)
            | (RemovedRule::CompareAndSetOfResult, PutKind::Result)
            | (RemovedRule::CompareAndSetOfRelease, PutKind::Release)
            | (RemovedRule::ReadAfterRefusal, PutKind::SessionEnd) => expected_version = None,
            (RemovedRule::SessionEnd, PutKind::SessionEnd) => content = None,
            (RemovedRule::OverwritingNewerLease, PutKind::Result) => {
                let lease_version = self
                    .last_lease
                    .borrow()
                    .as_ref()
                    .map(|(_, version)| version.clone());
                if lease_version.is_some_and(|version| version != expected.0) {
                    return Ok(PutOutcome::Conflict);
                }
            }
            _ => {}
        }
        let Answer::Put(mut outcome) = self.run_op(Op::Put {
            expected: expected_version,
            kind,
            content,
            timeout,
        }) else {
            unreachable!()
        };
        if outcome == PutOutcome::Unknown {
            outcome = match self.removed_rule {
                RemovedRule::UnansweredPutAsStored => PutOutcome::Stored(Version("guessed".into())),
                RemovedRule::UnansweredPutAsConflict => PutOutcome::Conflict,
                _ => outcome,
            };
        }
        if kind == PutKind::Lease {
            self.lease_response_at
                .set((outcome != PutOutcome::Conflict).then(|| self.clocks.holder_seconds()));
            if let PutOutcome::Stored(version) = &outcome {
                *self.last_lease.borrow_mut() = Some((bytes.to_vec(), version.0.clone()));
            } else {
                *self.last_lease.borrow_mut() = Some((bytes.to_vec(), String::new()));
            }
        }
        Ok(outcome)
    }

    fn exchange(&self, refresh: &RefreshToken, timeout: Duration) -> ExchangeOutcome<String> {
        let token = refresh.secret().expose().to_owned();
        match self.run_op(Op::Exchange { token, timeout }) {
            Answer::Tokens(token) => {
                self.was_last_exchange_refused.set(false);
                ExchangeOutcome::Granted(grant(&token, self.now(), self.clock_skew_millis()))
            }
            Answer::Refused => {
                self.was_last_exchange_refused.set(true);
                ExchangeOutcome::Refused("refused".into())
            }
            _ => ExchangeOutcome::NoResponse("no answer".into()),
        }
    }

    fn revoke(&self, session: &Session) -> bool {
        let token = session.refresh.value.secret().expose().to_owned();
        matches!(self.run_op(Op::Revoke { token }), Answer::Revoked(true))
    }

    fn holder_clock(&self) -> Duration {
        to_duration(match self.removed_rule {
            RemovedRule::HolderDeadline => 0.0,
            RemovedRule::ClockAdvancesInSuspend => self.clocks.watcher_seconds(),
            // The protocol subtracts the time before the put, here 0, from the time before
            // the exchange.
            RemovedRule::HolderClockFromBeforePut => match self.lease_response_at.take() {
                Some(answered) => self.clocks.holder_seconds() - answered,
                None => 0.0,
            },
            _ => self.clocks.holder_seconds(),
        })
    }
    fn watcher_clock(&self) -> Duration {
        to_duration(self.clocks.watcher_seconds())
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(
            ((self.clocks.virtual_seconds() + self.clocks.wall_offset) * 1000.0) as i64,
        )
    }
    fn sleep(&self, time: Duration) {
        self.run_op(Op::Sleep(time));
    }
    fn random(&self) -> u64 {
        self.random.borrow_mut().next()
    }
    fn host(&self) -> String {
        format!("m{}", self.id)
    }
    fn clock_skew_millis(&self) -> Option<i64> {
        let skew = (self.clocks.wall_offset * -1000.0) as i64;
        (self.removed_rule != RemovedRule::SkewCorrection).then_some(skew)
    }
    fn is_abandoned(&self) -> bool {
        false
    }
    fn log(&self, _: &str) {}
}

pub(super) fn api_url() -> ApiUrl {
    "https://api.example.test/v1".parse().unwrap()
}

/// The lifetime of tokens, in milliseconds.
const LIFETIME: i64 = 300_000;

fn grant(token: &str, received_at: Timestamp, skew: Option<i64>) -> Grant {
    let expiry = Expiry::new(received_at, Some(LIFETIME));
    Grant {
        access: Some(Token {
            value: AccessToken::new(Secret::new(format!("access-{token}"))),
            expiry,
        }),
        refresh: Some(Token {
            value: RefreshToken::new(Secret::new(token.to_owned())),
            expiry,
        }),
        clock_skew_millis: skew,
        cookie_names: None,
    }
}

pub(super) fn session(token: &str) -> Session {
    Session::from_grant(api_url(), grant(token, Timestamp::from_millis(0), None)).unwrap()
}

pub(super) fn token_of(session: &Session) -> String {
    session.refresh.value.secret().expose().to_owned()
}
