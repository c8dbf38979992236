//! Runs the protocol of several machines in virtual time: messages are delayed
//! and lost, machines crash, pause and are suspended, clocks are wrong and run
//! at other rates, the store is away for a while.
//!
//! Each machine is a thread that runs the program's own code. One of them runs
//! at a time, until it waits for an answer; the scheduler chooses which is next.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::machine::{
    Answer, Clocks, Crashed, Kind, MICRO, Machine, Op, Random, Removed, Scenario, session, token_of,
};
use super::{SharedEntry, Timing};
use crate::model::Timestamp;
use crate::store::{Lease, PutOutcome, Sharing, Version};

enum Event {
    Answer(usize, u64, Answer),
    AtStore(usize, u64, Op, Option<f64>),
    AtServer(usize, u64, Op, bool),
    Start(usize),
}

struct Seat {
    answers: Option<Sender<Answer>>,
    clocks: Arc<Clocks>,
    op: u64,
    steps: u32,
    crash_at: Option<u32>,
    pauses: HashMap<u32, (bool, f64)>,
    last: Option<Kind>,
    has_paused_at_taking: bool,
    is_holding: bool,
    took_at: f64,
    has_unsaved: bool,
    is_exchanging: bool,
    is_done: bool,
}

/// The store, the server and the scheduler of one run.
pub(super) struct Simulation {
    scenario: Scenario,
    pub(super) random: Random,
    now: Arc<AtomicU64>,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    seats: Vec<Seat>,
    op_sender: Sender<(usize, Op)>,
    op_receiver: Receiver<(usize, Op)>,
    threads: Vec<std::thread::JoinHandle<()>>,
    version: u64,
    entry: Option<Vec<u8>>,
    down: Option<(f64, f64)>,
    next_token: u32,
    in_force: HashMap<u32, String>,
    lineage: HashMap<String, u32>,
    spent: HashMap<String, f64>,
    successor: HashMap<String, String>,
    pub(super) revoked: HashSet<u32>,
    pub(super) exchanges: u32,
    pub(super) first_exchange: Option<f64>,
    pub(super) doubles: u32,
    pub(super) was_family_revoked: bool,
    /// When each refresh token was stored.
    pub(super) stored_at: HashMap<String, f64>,
    lost_answers: (f64, u32),
    /// What was put, in order.
    pub(super) puts: Vec<Kind>,
    /// What happened that no protocol can make good.
    pub(super) causes: HashSet<&'static str>,
}

impl Simulation {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let (op_sender, op_receiver) = channel();
        let mut random = Random(seed);
        let down = scenario.has("outage_to").then(|| {
            let start = random.within(0.0, 2.0);
            let (from, to) = (scenario.get("outage_from"), scenario.get("outage_to"));
            (start, start + random.within(from, to))
        });
        let entry = SharedEntry {
            session: Some(session("t1")),
            sharing: Sharing {
                lineage: "one".into(),
                ..Default::default()
            },
        };
        Self {
            scenario,
            random,
            now: Arc::default(),
            events: BTreeMap::new(),
            count: 0,
            seats: Vec::new(),
            op_sender,
            op_receiver,
            threads: Vec::new(),
            version: 1,
            entry: Some(entry.to_bytes().unwrap().to_vec()),
            down,
            next_token: 2,
            in_force: HashMap::from([(1, "t1".to_owned()), (2, "login".to_owned())]),
            lineage: HashMap::from([("t1".to_owned(), 1), ("login".to_owned(), 2)]),
            spent: HashMap::new(),
            successor: HashMap::new(),
            revoked: HashSet::new(),
            exchanges: 0,
            first_exchange: None,
            doubles: 0,
            was_family_revoked: false,
            stored_at: HashMap::new(),
            lost_answers: (0.0, 0),
            puts: Vec::new(),
            causes: HashSet::new(),
        }
    }

    fn time(&self) -> f64 {
        self.now.load(SeqCst) as f64 / MICRO
    }

    fn at(&mut self, time: f64, event: Event) {
        self.count += 1;
        self.events
            .insert(((time.max(0.0) * MICRO) as u64, self.count), event);
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn calm_down(&mut self) {
        self.down = None;
        self.scenario = match self.scenario.has("no_family") {
            true => Scenario::new("no_family=1"),
            false => Scenario::default(),
        };
    }

    /// Takes the store away from `from` to `to`.
    pub(super) fn set_outage(&mut self, from: f64, to: f64) {
        self.down = Some((from, to));
    }

    /// Pauses a machine after its answer number `step`.
    pub(super) fn pause(&mut self, id: usize, step: u32, seconds: f64) {
        self.seats[id].pauses.insert(step, (false, seconds));
    }

    /// Loses the next answers of the store to what begins after `time`.
    pub(super) fn lose_answers(&mut self, time: f64, count: u32) {
        self.lost_answers = (time, count);
    }

    /// Puts a lease whose holder is never heard of again.
    pub(super) fn lease_to_nobody(&mut self, duration: Duration) {
        self.edit(|sharing| {
            sharing.ended = None;
            sharing.lease = Some(Lease {
                attempt_id: "nobody".into(),
                host: "nowhere".into(),
                pid: 1,
                began: Timestamp::from_millis(0),
                duration_millis: u64::try_from(duration.as_millis()).unwrap(),
            });
        });
    }

    /// Changes the marks of the entry, as another machine does.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Sharing)) {
        let mut entry = self.stored().unwrap();
        edit(&mut entry.sharing);
        self.entry = Some(entry.to_bytes().unwrap().to_vec());
        self.version += 1;
    }

    pub(super) fn stored(&self) -> Option<SharedEntry> {
        self.entry
            .as_ref()
            .map(|bytes| SharedEntry::from_bytes(bytes, None).unwrap())
    }

    /// Adds a machine that begins `run` at `start`.
    pub(super) fn add(
        &mut self,
        start: f64,
        removed: Removed,
        timing: Timing,
        run: impl FnOnce(&Machine) + Send + 'static,
    ) -> usize {
        let id = self.seats.len();
        let (answers, received) = channel();
        let r = &mut self.random;
        let clocks = Arc::new(Clocks {
            now: Arc::clone(&self.now),
            suspended: AtomicU64::new(0),
            rate: 1.0 + r.within(-1.0, 1.0) * self.scenario.get("drift"),
            offset: r.within(-1.0, 1.0) * self.scenario.get("skew"),
            start: r.within(0.0, 1e5),
        });
        let mut pauses = HashMap::new();
        if r.hits(self.scenario.get("pause")) {
            let step = 1 + (r.next() % 10) as u32;
            pauses.insert(step, (false, r.choose(&[0.5, 2.0, 8.0, 20.0, 40.0, 90.0])));
        }
        if r.hits(self.scenario.get("suspend")) {
            let step = 1 + (r.next() % 10) as u32;
            pauses.insert(step, (true, r.choose(&[20.0, 60.0, 600.0])));
        }
        let crash_at = r
            .hits(self.scenario.get("crash"))
            .then(|| 1 + (r.next() % 10) as u32);
        let machine = Machine {
            id,
            ops: self.op_sender.clone(),
            answers: received,
            clocks: Arc::clone(&clocks),
            random: RefCell::new(Random(r.next())),
            removed,
            timing,
            lease_answered: Cell::new(None),
            lease: RefCell::new(None),
            is_refused: Cell::new(false),
        };
        self.threads.push(std::thread::spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                // The scheduler says when it starts.
                if machine.answers.recv().is_ok() {
                    run(&machine);
                    drop(machine.ops.send((machine.id, Op::Done)));
                }
            }));
            if let Err(panic) = ended
                && !panic.is::<Crashed>()
            {
                drop(machine.ops.send((machine.id, Op::Done)));
                resume_unwind(panic);
            }
        }));
        self.seats.push(Seat {
            answers: Some(answers),
            clocks,
            op: 0,
            steps: 0,
            crash_at,
            pauses,
            last: None,
            has_paused_at_taking: false,
            is_holding: false,
            took_at: 0.0,
            has_unsaved: false,
            is_exchanging: false,
            is_done: false,
        });
        self.at(start, Event::Start(id));
        id
    }

    pub(super) fn is_stuck(&self, id: usize) -> bool {
        self.seats[id].answers.is_some() && !self.seats[id].is_done
    }

    pub(super) fn run_until(&mut self, end: f64) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 as f64 / MICRO > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now.store(time, SeqCst);
            match event {
                Event::Start(id) => self.resume(id, Answer::Slept),
                Event::Answer(id, op, answer) => self.answer(id, op, answer),
                Event::AtStore(id, op, what, back) => self.at_store(id, op, what, back),
                Event::AtServer(id, op, what, is_lost) => self.at_server(id, op, what, is_lost),
            }
        }
        self.now.store((end * MICRO) as u64, SeqCst);
    }

    /// Ends all threads. A panic of one is a panic of the run.
    pub(super) fn finish(&mut self) {
        for seat in &mut self.seats {
            seat.answers = None;
        }
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    }

    fn answer(&mut self, id: usize, op: u64, answer: Answer) {
        let time = self.time();
        let seat = &mut self.seats[id];
        if seat.op != op || seat.answers.is_none() {
            return; // Its time is over, or the machine is.
        }
        seat.steps += 1;
        if seat.crash_at == Some(seat.steps) {
            seat.answers = None;
            if seat.is_holding {
                self.causes.insert("crash of the holder");
            }
            if seat.has_unsaved || seat.is_exchanging {
                self.causes.insert("answer lost");
            }
            return;
        }
        let mut pause = seat.pauses.remove(&seat.steps);
        if seat.last == Some(Kind::Lease) && !seat.has_paused_at_taking && pause.is_none() {
            let is_suspend = self.scenario.get("suspend_at_taking") > 0.0;
            if self.random.hits(
                self.scenario
                    .get("pause_at_taking")
                    .max(self.scenario.get("suspend_at_taking")),
            ) {
                let time = self.random.choose(&[10.0, 20.0, 40.0, 90.0, 600.0]);
                pause = Some((is_suspend, time));
            }
            self.seats[id].has_paused_at_taking = true;
        } else if let Some((_, long)) = pause
            && seat.is_holding
            && long >= 5.0
        {
            self.causes.insert("long pause of the holder");
        }
        let seat = &mut self.seats[id];
        if let Some((is_suspend, long)) = pause {
            if is_suspend {
                seat.clocks
                    .suspended
                    .fetch_add((long * MICRO) as u64, SeqCst);
            }
            seat.steps -= 1;
            // It has its answer: the timeout does not count any more.
            seat.op += 1;
            let op = seat.op;
            self.at(time + long, Event::Answer(id, op, answer));
            return;
        }
        let is_conflict = matches!(answer, Answer::Put(PutOutcome::Conflict));
        if matches!(seat.last, Some(Kind::Release | Kind::End | Kind::Result))
            || (seat.last == Some(Kind::Lease) && is_conflict)
        {
            seat.is_holding = false;
        }
        seat.last = None;
        seat.is_exchanging = false;
        self.resume(id, answer);
    }

    /// Lets a machine run until its next operation.
    fn resume(&mut self, id: usize, answer: Answer) {
        let Some(answers) = &self.seats[id].answers else {
            return;
        };
        if answers.send(answer).is_err() {
            return;
        }
        let (from, op) = self.op_receiver.recv().unwrap();
        assert_eq!(from, id, "two machines ran at once");
        self.begin(id, op);
    }

    fn store_delay(&mut self) -> f64 {
        let slow = self.scenario.get("slow_store");
        match self.random.hits(slow) {
            true => self.random.within(1.0, 14.0),
            false => self.random.within(0.001, 0.03),
        }
    }

    fn begin(&mut self, id: usize, op: Op) {
        let time = self.time();
        self.seats[id].op += 1;
        let number = self.seats[id].op;
        match op {
            Op::Done => self.seats[id].is_done = true,
            Op::Sleep(long) => {
                let long = long.as_secs_f64() / self.seats[id].clocks.rate;
                self.at(time + long, Event::Answer(id, number, Answer::Slept));
            }
            Op::Get(_) | Op::Put(..) => {
                let (there, back) = (self.store_delay(), self.store_delay());
                let mut back = (!self.random.hits(self.scenario.get("lose_store"))).then_some(back);
                if self.lost_answers.1 > 0 && time > self.lost_answers.0 {
                    self.lost_answers.1 -= 1;
                    back = None;
                }
                let (timeout, late) = match &op {
                    Op::Put(_, kind, _, timeout) => {
                        self.seats[id].last = Some(*kind);
                        if *kind == Kind::Lease {
                            self.seats[id].is_holding = true;
                            self.seats[id].took_at = time;
                        }
                        (*timeout, Answer::Put(PutOutcome::Unknown))
                    }
                    Op::Get(timeout) => (*timeout, Answer::Unavailable),
                    _ => unreachable!(),
                };
                self.at(
                    time + timeout.as_secs_f64(),
                    Event::Answer(id, number, late),
                );
                if !self.random.hits(self.scenario.get("lose_store")) {
                    self.at(time + there, Event::AtStore(id, number, op, back));
                }
            }
            Op::Exchange(..) | Op::Revoke(_) => {
                let timeout = match &op {
                    Op::Exchange(_, timeout) => timeout.as_secs_f64(),
                    _ => 10.0,
                };
                let is_exchange = matches!(op, Op::Exchange(..));
                let mut slow = match self.random.hits(self.scenario.get("slow_server")) {
                    true => self.random.within(1.0, 9.0),
                    false => self.random.within(0.02, 0.4),
                };
                if self.random.hits(self.scenario.get("very_slow_server")) {
                    slow = self.random.within(10.0, 40.0);
                }
                let is_lost = self.random.hits(self.scenario.get("lose_server"));
                let late = if is_exchange {
                    Answer::Silence
                } else {
                    Answer::Revoked(false)
                };
                self.seats[id].is_exchanging = is_exchange;
                self.at(time + timeout, Event::Answer(id, number, late));
                if !self.random.hits(self.scenario.get("lose_server"))
                    && !self.scenario.has("server_down")
                {
                    self.at(time + slow, Event::AtServer(id, number, op, is_lost));
                }
            }
        }
    }

    fn at_store(&mut self, id: usize, number: u64, op: Op, back: Option<f64>) {
        let time = self.time();
        if self
            .down
            .is_some_and(|(from, to)| (from..to).contains(&time))
        {
            return;
        }
        let answer = match op {
            Op::Get(_) => Answer::Entry(self.version.to_string(), self.entry.clone()),
            Op::Put(expected, kind, content, _) => {
                let is_expected =
                    expected.is_none_or(|version| version == self.version.to_string());
                if !is_expected {
                    Answer::Put(PutOutcome::Conflict)
                } else {
                    self.version += 1;
                    self.puts.push(kind);
                    self.entry = content;
                    if let Some(session) = self.stored().and_then(|entry| entry.session) {
                        self.stored_at.entry(token_of(&session)).or_insert(time);
                    }
                    if kind == Kind::Result {
                        self.seats[id].has_unsaved = false;
                        if time - self.seats[id].took_at > 30.0 {
                            self.causes.insert("result later than the lease");
                        }
                    }
                    Answer::Put(PutOutcome::Stored(Version(self.version.to_string())))
                }
            }
            _ => unreachable!(),
        };
        if let Some(back) = back {
            self.at(time + back, Event::Answer(id, number, answer));
        }
    }

    fn at_server(&mut self, id: usize, number: u64, op: Op, is_lost: bool) {
        let is_waiting = self.seats[id].op == number;
        let answer = match op {
            Op::Exchange(token, _) => {
                if !is_waiting {
                    self.causes
                        .insert("request arrived after its sender gave up");
                }
                let answer = self.exchange(&token);
                if matches!(answer, Answer::Tokens(_)) {
                    if self.seats[id].answers.is_none() || is_lost || !is_waiting {
                        self.causes.insert("answer lost");
                    } else {
                        self.seats[id].has_unsaved = true;
                    }
                }
                answer
            }
            Op::Revoke(token) => {
                if let Some(lineage) = self.lineage.get(&token)
                    && (!self.scenario.has("no_family")
                        || self.in_force.get(lineage) == Some(&token))
                {
                    self.revoked.insert(*lineage);
                }
                Answer::Revoked(true)
            }
            _ => unreachable!(),
        };
        if !is_lost {
            self.answer(id, number, answer);
        }
    }

    fn exchange(&mut self, token: &str) -> Answer {
        let time = self.time();
        let Some(lineage) = self.lineage.get(token).copied() else {
            return Answer::Refused;
        };
        if self.revoked.contains(&lineage) {
            return Answer::Refused;
        }
        self.exchanges += 1;
        self.first_exchange.get_or_insert(time);
        if let Some(spent) = self.spent.get(token) {
            self.doubles += 1;
            let is_retry = time - spent <= self.scenario.get("retry_window")
                && self.successor.get(token) == self.in_force.get(&lineage);
            if is_retry && self.scenario.get("retry_window") > 0.0 {
                return Answer::Tokens(self.in_force[&lineage].clone());
            }
            if !self.scenario.has("no_family") {
                self.revoked.insert(lineage);
                self.was_family_revoked = true;
            }
            return Answer::Refused;
        }
        let new = format!("t{}", self.next_token);
        self.next_token += 1;
        self.spent.insert(token.to_owned(), time);
        self.successor.insert(token.to_owned(), new.clone());
        self.lineage.insert(new.clone(), lineage);
        self.in_force.insert(lineage, new.clone());
        Answer::Tokens(new)
    }
}
