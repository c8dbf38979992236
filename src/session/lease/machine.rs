//! A simulated machine: the clocks, and the operations that it hands to the
//! scheduler. Protocol rules are removed here, where the program calls its environment.

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
    AccessToken, Expiry, Grant, Origin, RefreshToken, Secret, Session, Timestamp, Token,
};
use crate::store::{PutOutcome, StoreError, StoreErrorKind, Version, VersionedEntry};

/// A rule of the protocol that a test removes, to show what the rule prevents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    Nothing,
    Lease,
    CasOfLease,
    CasOfResult,
    CasOfRelease,
    HolderDeadline,
    CountingFromBeforePut,
    ClockThatRunsInSuspend,
    Watching,
    LengthOfTheEntry,
    LookingUpUnanswered,
    TakingUnansweredForUndone,
    SecondLook,
    EndedMark,
    PuttingOverATaker,
    EndOfTheLease,
    FailingClosed,
    SharingFailures,
    OwnSkew,
}

/// What happens in a run, by name: probabilities, seconds and counts. What is not
/// named does not happen.
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

/// A small generator (SplitMix64): every run has a seed.
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
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    pub(super) fn within(&mut self, from: f64, to: f64) -> f64 {
        from + self.unit() * (to - from)
    }
    pub(super) fn hits(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
    pub(super) fn choose(&mut self, of: &[f64]) -> f64 {
        of[self.next() as usize % of.len()]
    }
}

/// What a put is, judged by what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Lease,
    Release,
    Result,
    End,
    Gone,
    Login,
}

pub(super) enum Op {
    Get(Duration),
    Put(Option<String>, Kind, Option<Vec<u8>>, Duration),
    Exchange(String, Duration),
    Revoke(String),
    Sleep(Duration),
    Done,
}

#[derive(Clone)]
pub(super) enum Answer {
    Entry(String, Option<Vec<u8>>),
    Unavailable,
    Put(PutOutcome),
    Tokens(String),
    Refused,
    Silence,
    Revoked(bool),
    Slept,
}

/// The clocks of one machine.
pub(super) struct Clocks {
    pub(super) now: Arc<AtomicU64>,
    pub(super) suspended: AtomicU64,
    pub(super) rate: f64,
    pub(super) offset: f64,
    pub(super) start: f64,
}

pub(super) const MICRO: f64 = 1e6;

impl Clocks {
    pub(super) fn real(&self) -> f64 {
        self.now.load(SeqCst) as f64 / MICRO
    }
    fn watcher(&self) -> f64 {
        (self.real() - self.suspended.load(SeqCst) as f64 / MICRO) * self.rate + self.start
    }
    fn holder(&self) -> f64 {
        self.real() * self.rate + self.start
    }
}

/// A machine's side: hands each operation to the scheduler and waits.
pub(super) struct Machine {
    pub(super) id: usize,
    pub(super) ops: Sender<(usize, Op)>,
    pub(super) answers: Receiver<Answer>,
    pub(super) clocks: Arc<Clocks>,
    pub(super) random: RefCell<Random>,
    pub(super) removed: Removed,
    pub(super) timing: Timing,
    pub(super) lease_answered: Cell<Option<f64>>,
    pub(super) lease: RefCell<Option<(Vec<u8>, String)>>,
    pub(super) is_refused: Cell<bool>,
}

/// The machine has crashed: its thread unwinds.
pub(super) struct Crashed;

impl Machine {
    fn ask(&self, op: Op) -> Answer {
        if self.ops.send((self.id, op)).is_err() {
            resume_unwind(Box::new(Crashed) as Box<dyn Any + Send>);
        }
        match self.answers.recv() {
            Ok(answer) => answer,
            Err(_) => resume_unwind(Box::new(Crashed) as Box<dyn Any + Send>),
        }
    }

    fn kind(&self, entry: &SharedEntry) -> Kind {
        let sharing = &entry.sharing;
        match (&sharing.lease, sharing.ended.is_some(), sharing.gone) {
            (_, _, true) => Kind::Gone,
            (_, true, _) => Kind::End,
            (Some(_), ..) => Kind::Lease,
            _ if sharing.generation == 0 && sharing.lineage != "one" => Kind::Login,
            _ => {
                let lease = self.lease.borrow();
                let held = lease
                    .as_ref()
                    .map(|(bytes, _)| SharedEntry::from_bytes(bytes, None).unwrap());
                match held {
                    Some(held) if held.sharing.generation == sharing.generation => Kind::Release,
                    _ => Kind::Result,
                }
            }
        }
    }
}

pub(super) fn seconds(time: f64) -> Duration {
    Duration::from_secs_f64(time.max(0.0))
}

impl Environment for Machine {
    type Error = String;
    type Revocation = bool;

    fn get(&self, timeout: Duration) -> Result<VersionedEntry, StoreError> {
        if self.removed == Removed::SecondLook && self.is_refused.get() {
            let (bytes, _) = self.lease.borrow().clone().unwrap();
            return Ok((Version("blind".into()), Some(Zeroizing::new(bytes))));
        }
        let Answer::Entry(version, bytes) = self.ask(Op::Get(timeout)) else {
            return Err(StoreError {
                kind: StoreErrorKind::Unavailable,
                message: "away".into(),
                hint: None,
            });
        };
        let bytes = bytes.map(|bytes| {
            let mut entry = SharedEntry::from_bytes(&bytes, None).unwrap();
            if let Some(lease) = &mut entry.sharing.lease {
                let began = lease.began.millis() as f64 / 1000.0;
                match self.removed {
                    Removed::Watching => {
                        let until = began + lease.duration_millis as f64 / 1000.0;
                        let is_over = self.clocks.real() + self.clocks.offset >= until;
                        lease.duration_millis = if is_over { 0 } else { 1_000_000 };
                    }
                    Removed::LengthOfTheEntry => {
                        lease.duration_millis = self.timing.lease_duration.as_millis() as u64;
                    }
                    Removed::EndOfTheLease => lease.duration_millis = u64::MAX / 4,
                    _ => {}
                }
            }
            if self.removed == Removed::SharingFailures {
                entry.sharing.failed = None;
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
        let kind = self.kind(&entry);
        let mut condition = Some(expected.0.clone());
        let mut content = Some(bytes.to_vec());
        match (self.removed, kind) {
            (Removed::Lease, Kind::Lease) => {
                *self.lease.borrow_mut() = Some((bytes.to_vec(), expected.0.clone()));
                return Ok(PutOutcome::Stored(expected.clone()));
            }
            (Removed::Lease, Kind::Release) => return Ok(PutOutcome::Conflict),
            (Removed::CasOfLease, Kind::Lease)
            | (Removed::CasOfResult, Kind::Result)
            | (Removed::CasOfRelease, Kind::Release)
            | (Removed::SecondLook, Kind::End) => condition = None,
            (Removed::EndedMark, Kind::End) => content = None,
            (Removed::PuttingOverATaker, Kind::Result) => {
                let held = self
                    .lease
                    .borrow()
                    .as_ref()
                    .map(|(_, version)| version.clone());
                if held.is_some_and(|held| held != expected.0) {
                    return Ok(PutOutcome::Conflict);
                }
            }
            _ => {}
        }
        let Answer::Put(mut outcome) = self.ask(Op::Put(condition, kind, content, timeout)) else {
            unreachable!()
        };
        if outcome == PutOutcome::Unknown {
            outcome = match self.removed {
                Removed::LookingUpUnanswered => PutOutcome::Stored(Version("guessed".into())),
                Removed::TakingUnansweredForUndone => PutOutcome::Conflict,
                _ => outcome,
            };
        }
        if kind == Kind::Lease {
            self.lease_answered
                .set((outcome != PutOutcome::Conflict).then(|| self.clocks.holder()));
            if let PutOutcome::Stored(version) = &outcome {
                *self.lease.borrow_mut() = Some((bytes.to_vec(), version.0.clone()));
            } else {
                *self.lease.borrow_mut() = Some((bytes.to_vec(), String::new()));
            }
        }
        Ok(outcome)
    }

    fn exchange(&self, refresh: &RefreshToken, timeout: Duration) -> ExchangeOutcome<String> {
        match self.ask(Op::Exchange(refresh.secret().expose().to_owned(), timeout)) {
            Answer::Tokens(new) => {
                self.is_refused.set(false);
                ExchangeOutcome::Granted(grant(&new, self.now(), self.skew()))
            }
            Answer::Refused => {
                self.is_refused.set(true);
                ExchangeOutcome::Refused("refused".into())
            }
            _ => ExchangeOutcome::NoAnswer("no answer".into()),
        }
    }

    fn revoke(&self, session: &Session) -> bool {
        let token = session.refresh.value.secret().expose().to_owned();
        matches!(self.ask(Op::Revoke(token)), Answer::Revoked(true))
    }

    fn holder_clock(&self) -> Duration {
        seconds(match self.removed {
            Removed::HolderDeadline => 0.0,
            Removed::ClockThatRunsInSuspend => self.clocks.watcher(),
            // The second reading is compared with the first one.
            Removed::CountingFromBeforePut => match self.lease_answered.take() {
                Some(answered) => self.clocks.holder() - answered,
                None => 0.0,
            },
            _ => self.clocks.holder(),
        })
    }
    fn watcher_clock(&self) -> Duration {
        seconds(self.clocks.watcher())
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(((self.clocks.real() + self.clocks.offset) * 1000.0) as i64)
    }
    fn sleep(&self, time: Duration) {
        self.ask(Op::Sleep(time));
    }
    fn random(&self) -> u64 {
        self.random.borrow_mut().next()
    }
    fn host(&self) -> String {
        format!("m{}", self.id)
    }
    fn skew(&self) -> Option<i64> {
        let skew = (self.clocks.offset * -1000.0) as i64;
        (self.removed != Removed::OwnSkew).then_some(skew)
    }
    fn is_abandoned(&self) -> bool {
        false
    }
    fn log(&self, _: &str) {}
}

pub(super) fn origin() -> Origin {
    "https://api.example.test/v1".parse().unwrap()
}

/// How long an access token lives, in milliseconds.
const LIFETIME: i64 = 300_000;

fn grant(token: &str, received_at: Timestamp, skew: Option<i64>) -> Grant {
    let expiry = Expiry::new(received_at, Some(LIFETIME));
    let secret = |text: String| Secret::new(text);
    Grant {
        access: Some(Token {
            value: AccessToken::new(secret(format!("access-{token}"))),
            expiry,
        }),
        refresh: Some(Token {
            value: RefreshToken::new(secret(token.to_owned())),
            expiry,
        }),
        skew,
        cookie_names: None,
    }
}

pub(super) fn session(token: &str) -> Session {
    Session::from_grant(origin(), grant(token, Timestamp::from_millis(0), None)).unwrap()
}

pub(super) fn token_of(session: &Session) -> String {
    session.refresh.value.secret().expose().to_owned()
}
