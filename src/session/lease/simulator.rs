//! Simulates the protocol on several machines in virtual time. Messages are delayed
//! or lost, machines crash, pause or are suspended, clocks are wrong or run at
//! different rates, and the store is unavailable for a while.
//!
//! Each machine is a thread that runs the program's own code. Only one thread runs
//! at a time, until it waits for an answer. Then the scheduler resumes the machine
//! of the next event.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::machine::{
    Answer, Clocks, Crashed, MICROS_PER_SECOND, Machine, Op, PutKind, Random, RemovedRule,
    Scenario, session, token_of,
};
use super::simulated_server::Server;
use super::{SharedEntry, Timing};
use crate::model::Timestamp;
use crate::store::{Coordination, Lease, PutOutcome, Version};

enum Event {
    /// The machine starts.
    Start { machine: usize },
    /// The answer to an operation reaches the machine. After a timeout, it is
    /// the answer for a missing response.
    Answer(OpId, Answer),
    /// The request of an operation reaches the store. The response takes `response_delay`
    /// seconds, or is lost.
    AtStore {
        id: OpId,
        op: Op,
        response_delay: Option<f64>,
    },
    /// The request of an operation reaches the server.
    AtServer {
        id: OpId,
        op: Op,
        is_response_lost: bool,
    },
}

/// Identifies an operation.
#[derive(Clone, Copy)]
struct OpId {
    machine: usize,
    /// The number of the operation on its machine.
    number: u64,
}

/// The state of one machine in the scheduler.
struct MachineState {
    /// `None` after a crash.
    answer_sender: Option<Sender<Answer>>,
    clocks: Arc<Clocks>,
    /// The number of the current operation. Answers to earlier operations are ignored.
    op_number: u64,
    answer_count: u32,
    /// The machine crashes instead of receiving the answer of this number.
    crash_at: Option<u32>,
    /// The pauses by the number of the answer before which they happen.
    pauses: HashMap<u32, Pause>,
    /// The kind of the put that the machine waits for.
    awaited_put: Option<PutKind>,
    /// Whether the machine has put a lease, so that it cannot pause at its lease any more.
    has_passed_lease_pause: bool,
    is_holding_lease: bool,
    lease_put_at: f64,
    /// Whether the machine has received new tokens and not stored them yet.
    has_unsaved_tokens: bool,
    is_exchanging: bool,
    is_done: bool,
}

struct Pause {
    seconds: f64,
    /// Whether the machine is suspended, so that its watcher's clock stops.
    is_suspend: bool,
}

/// The scheduler, the store and the server of one simulation.
pub(super) struct Simulation {
    scenario: Scenario,
    pub(super) random: Random,
    /// The virtual time in microseconds.
    now: Arc<AtomicU64>,
    /// Events by virtual time and order of scheduling.
    events: BTreeMap<(u64, u64), Event>,
    event_count: u64,
    machines: Vec<MachineState>,
    op_sender: Sender<(usize, Op)>,
    op_receiver: Receiver<(usize, Op)>,
    threads: Vec<std::thread::JoinHandle<()>>,
    version: u64,
    entry: Option<Vec<u8>>,
    /// The start and the end of the store's outage.
    outage: Option<(f64, f64)>,
    pub(super) server: Server,
    /// When each refresh token was stored.
    pub(super) stored_at: HashMap<String, f64>,
    /// The number of answers that the store still loses, to operations that start after
    /// `lose_answers_after`.
    answers_to_lose: u32,
    lose_answers_after: f64,
    /// The puts that were done, in order.
    pub(super) puts: Vec<PutKind>,
    /// The kinds of events that have happened from which no protocol can recover.
    pub(super) unrecoverable: HashSet<&'static str>,
}

impl Simulation {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let (op_sender, op_receiver) = channel();
        let mut random = Random(seed);
        let outage = scenario.has("outage_to").then(|| {
            let start = random.in_range(0.0, 2.0);
            let (from, to) = (scenario.get("outage_from"), scenario.get("outage_to"));
            (start, start + random.in_range(from, to))
        });
        let entry = SharedEntry {
            session: Some(session("t1")),
            coordination: Coordination {
                login_id: "one".into(),
                ..Default::default()
            },
        };
        Self {
            server: Server::new(&scenario),
            scenario,
            random,
            now: Arc::default(),
            events: BTreeMap::new(),
            event_count: 0,
            machines: Vec::new(),
            op_sender,
            op_receiver,
            threads: Vec::new(),
            version: 1,
            entry: Some(entry.to_bytes().unwrap().to_vec()),
            outage,
            stored_at: HashMap::new(),
            answers_to_lose: 0,
            lose_answers_after: 0.0,
            puts: Vec::new(),
            unrecoverable: HashSet::new(),
        }
    }

    fn time(&self) -> f64 {
        self.now.load(SeqCst) as f64 / MICROS_PER_SECOND
    }

    fn schedule(&mut self, time: f64, event: Event) {
        self.event_count += 1;
        self.events.insert(
            ((time.max(0.0) * MICROS_PER_SECOND) as u64, self.event_count),
            event,
        );
    }

    /// Removes all faults of the scenario from now on.
    pub(super) fn stop_faults(&mut self) {
        self.outage = None;
        self.scenario = Scenario::default();
        self.server.retry_window = 0.0;
    }

    /// Makes the store unavailable from `from` to `to`.
    pub(super) fn set_outage(&mut self, from: f64, to: f64) {
        self.outage = Some((from, to));
    }

    /// Pauses a machine before it receives the answer of number `answer_number`.
    pub(super) fn pause(&mut self, id: usize, answer_number: u32, seconds: f64) {
        let pause = Pause {
            seconds,
            is_suspend: false,
        };
        self.machines[id].pauses.insert(answer_number, pause);
    }

    /// Loses the store's next `count` answers to operations that start after `time`.
    pub(super) fn lose_answers(&mut self, time: f64, count: u32) {
        self.lose_answers_after = time;
        self.answers_to_lose = count;
    }

    /// Writes a lease whose holder never does anything again.
    pub(super) fn put_abandoned_lease(&mut self, duration: Duration) {
        self.edit_entry(|coordination| {
            coordination.ended = None;
            coordination.lease = Some(Lease {
                attempt_id: "nobody".into(),
                host: "nowhere".into(),
                pid: 1,
                acquired_at: Timestamp::from_millis(0),
                duration_millis: u64::try_from(duration.as_millis()).unwrap(),
            });
        });
    }

    /// Changes the entry, as another machine would.
    pub(super) fn edit_entry(&mut self, edit: impl FnOnce(&mut Coordination)) {
        let mut entry = self.stored_entry().unwrap();
        edit(&mut entry.coordination);
        self.entry = Some(entry.to_bytes().unwrap().to_vec());
        self.version += 1;
    }

    pub(super) fn stored_entry(&self) -> Option<SharedEntry> {
        self.entry
            .as_ref()
            .map(|bytes| SharedEntry::from_bytes(bytes, None).unwrap())
    }

    /// Adds a machine that calls `run` at the virtual time `start`.
    pub(super) fn add_machine(
        &mut self,
        start: f64,
        removed: RemovedRule,
        timing: Timing,
        run: impl FnOnce(&Machine) + Send + 'static,
    ) -> usize {
        let id = self.machines.len();
        let (answer_sender, answer_receiver) = channel();
        let random = &mut self.random;
        let clocks = Arc::new(Clocks {
            now: Arc::clone(&self.now),
            suspended: AtomicU64::new(0),
            rate: 1.0 + random.in_range(-1.0, 1.0) * self.scenario.get("drift"),
            wall_offset: random.in_range(-1.0, 1.0) * self.scenario.get("skew"),
            start: random.in_range(0.0, 1e5),
        });
        let mut pauses = HashMap::new();
        if random.chance(self.scenario.get("pause")) {
            let answer_number = 1 + (random.next() % 10) as u32;
            let pause = Pause {
                seconds: random.pick(&[0.5, 2.0, 8.0, 20.0, 40.0, 90.0]),
                is_suspend: false,
            };
            pauses.insert(answer_number, pause);
        }
        if random.chance(self.scenario.get("suspend")) {
            let answer_number = 1 + (random.next() % 10) as u32;
            let pause = Pause {
                seconds: random.pick(&[20.0, 60.0, 600.0]),
                is_suspend: true,
            };
            pauses.insert(answer_number, pause);
        }
        let crash_at = random
            .chance(self.scenario.get("crash"))
            .then(|| 1 + (random.next() % 10) as u32);
        let machine = Machine {
            id,
            op_sender: self.op_sender.clone(),
            answer_receiver,
            clocks: Arc::clone(&clocks),
            random: RefCell::new(Random(random.next())),
            removed_rule: removed,
            timing,
            lease_response_at: Cell::new(None),
            last_lease: RefCell::new(None),
            was_last_exchange_refused: Cell::new(false),
        };
        self.threads.push(std::thread::spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                // Wait until the scheduler starts this machine.
                if machine.answer_receiver.recv().is_ok() {
                    run(&machine);
                    drop(machine.op_sender.send((machine.id, Op::Done)));
                }
            }));
            if let Err(panic) = ended
                && !panic.is::<Crashed>()
            {
                drop(machine.op_sender.send((machine.id, Op::Done)));
                resume_unwind(panic);
            }
        }));
        self.machines.push(MachineState {
            answer_sender: Some(answer_sender),
            clocks,
            op_number: 0,
            answer_count: 0,
            crash_at,
            pauses,
            awaited_put: None,
            has_passed_lease_pause: false,
            is_holding_lease: false,
            lease_put_at: 0.0,
            has_unsaved_tokens: false,
            is_exchanging: false,
            is_done: false,
        });
        self.schedule(start, Event::Start { machine: id });
        id
    }

    /// Whether the machine has neither finished nor crashed.
    pub(super) fn is_stuck(&self, id: usize) -> bool {
        self.machines[id].answer_sender.is_some() && !self.machines[id].is_done
    }

    /// Handles the events up to the virtual time `end`.
    pub(super) fn run_until(&mut self, end: f64) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 as f64 / MICROS_PER_SECOND > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now.store(time, SeqCst);
            match event {
                Event::Start { machine } => self.resume(machine, Answer::Slept),
                Event::Answer(id, answer) => self.deliver_answer(id, answer),
                Event::AtStore {
                    id,
                    op,
                    response_delay,
                } => self.at_store(id, op, response_delay),
                Event::AtServer {
                    id,
                    op,
                    is_response_lost,
                } => self.at_server(id, op, is_response_lost),
            }
        }
        self.now.store((end * MICROS_PER_SECOND) as u64, SeqCst);
    }

    /// Joins all threads. Panics if one of them has panicked.
    pub(super) fn finish(&mut self) {
        for machine in &mut self.machines {
            machine.answer_sender = None;
        }
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    }

    /// Passes the answer to an operation to its machine, which may crash or pause instead.
    fn deliver_answer(&mut self, id: OpId, answer: Answer) {
        let time = self.time();
        let machine = &mut self.machines[id.machine];
        if machine.op_number != id.number || machine.answer_sender.is_none() {
            return; // The operation has timed out, or the machine has crashed.
        }
        machine.answer_count += 1;
        if machine.crash_at == Some(machine.answer_count) {
            machine.answer_sender = None;
            if machine.is_holding_lease {
                self.unrecoverable.insert("crash of the holder");
            }
            if machine.has_unsaved_tokens || machine.is_exchanging {
                self.unrecoverable.insert("answer lost");
            }
            return;
        }
        let mut pause = machine.pauses.remove(&machine.answer_count);
        if machine.awaited_put == Some(PutKind::Lease)
            && !machine.has_passed_lease_pause
            && pause.is_none()
        {
            machine.has_passed_lease_pause = true;
            let suspend_chance = self.scenario.get("suspend_at_lease");
            let pause_chance = self.scenario.get("pause_at_lease");
            if self.random.chance(pause_chance.max(suspend_chance)) {
                pause = Some(Pause {
                    seconds: self.random.pick(&[10.0, 20.0, 40.0, 90.0, 600.0]),
                    is_suspend: suspend_chance > 0.0,
                });
            }
        } else if machine.is_holding_lease
            && pause.as_ref().is_some_and(|pause| pause.seconds >= 5.0)
        {
            self.unrecoverable.insert("long pause of the holder");
        }
        if let Some(pause) = pause {
            if pause.is_suspend {
                machine
                    .clocks
                    .suspended
                    .fetch_add((pause.seconds * MICROS_PER_SECOND) as u64, SeqCst);
            }
            machine.answer_count -= 1;
            // The answer has arrived, so ignore the timeout of the operation.
            machine.op_number += 1;
            let id = OpId {
                number: machine.op_number,
                ..id
            };
            self.schedule(time + pause.seconds, Event::Answer(id, answer));
            return;
        }
        let is_conflict = matches!(answer, Answer::Put(PutOutcome::Conflict));
        if matches!(
            machine.awaited_put,
            Some(PutKind::Release | PutKind::SessionEnd | PutKind::Result)
        ) || (machine.awaited_put == Some(PutKind::Lease) && is_conflict)
        {
            machine.is_holding_lease = false;
        }
        machine.awaited_put = None;
        machine.is_exchanging = false;
        self.resume(id.machine, answer);
    }

    /// Lets a machine run until its next operation.
    fn resume(&mut self, machine: usize, answer: Answer) {
        let Some(answer_sender) = &self.machines[machine].answer_sender else {
            return;
        };
        if answer_sender.send(answer).is_err() {
            return;
        }
        let (from, op) = self.op_receiver.recv().unwrap();
        assert_eq!(from, machine, "two machines ran at once");
        self.start_op(machine, op);
    }

    /// Returns a random delay for one direction between a machine and the store.
    fn store_delay(&mut self) -> f64 {
        let slow = self.scenario.get("slow_store");
        match self.random.chance(slow) {
            true => self.random.in_range(1.0, 14.0),
            false => self.random.in_range(0.001, 0.03),
        }
    }

    /// Schedules the events of an operation: the timeout, and the arrival of the request
    /// unless it is lost.
    fn start_op(&mut self, machine_index: usize, op: Op) {
        let time = self.time();
        let machine = &mut self.machines[machine_index];
        machine.op_number += 1;
        let id = OpId {
            machine: machine_index,
            number: machine.op_number,
        };
        match op {
            Op::Done => machine.is_done = true,
            Op::Sleep(duration) => {
                let seconds = duration.as_secs_f64() / machine.clocks.rate;
                self.schedule(time + seconds, Event::Answer(id, Answer::Slept));
            }
            Op::Get { .. } | Op::Put { .. } => {
                let (request_delay, delay) = (self.store_delay(), self.store_delay());
                let mut response_delay =
                    (!self.random.chance(self.scenario.get("lose_store"))).then_some(delay);
                if self.answers_to_lose > 0 && time > self.lose_answers_after {
                    self.answers_to_lose -= 1;
                    response_delay = None;
                }
                let (timeout, timeout_answer) = match &op {
                    Op::Put { kind, timeout, .. } => {
                        let machine = &mut self.machines[machine_index];
                        machine.awaited_put = Some(*kind);
                        if *kind == PutKind::Lease {
                            machine.is_holding_lease = true;
                            machine.lease_put_at = time;
                        }
                        (*timeout, Answer::Put(PutOutcome::Unknown))
                    }
                    Op::Get { timeout } => (*timeout, Answer::Unavailable),
                    _ => unreachable!(),
                };
                self.schedule(
                    time + timeout.as_secs_f64(),
                    Event::Answer(id, timeout_answer),
                );
                if !self.random.chance(self.scenario.get("lose_store")) {
                    self.schedule(
                        time + request_delay,
                        Event::AtStore {
                            id,
                            op,
                            response_delay,
                        },
                    );
                }
            }
            Op::Exchange { .. } | Op::Revoke { .. } => {
                let (timeout, timeout_answer) = match &op {
                    Op::Exchange { timeout, .. } => (timeout.as_secs_f64(), Answer::NoResponse),
                    _ => (10.0, Answer::Revoked(false)),
                };
                machine.is_exchanging = matches!(op, Op::Exchange { .. });
                let mut delay = match self.random.chance(self.scenario.get("slow_server")) {
                    true => self.random.in_range(1.0, 9.0),
                    false => self.random.in_range(0.02, 0.4),
                };
                if self.random.chance(self.scenario.get("very_slow_server")) {
                    delay = self.random.in_range(10.0, 40.0);
                }
                let is_response_lost = self.random.chance(self.scenario.get("lose_server"));
                self.schedule(time + timeout, Event::Answer(id, timeout_answer));
                if !self.random.chance(self.scenario.get("lose_server"))
                    && !self.scenario.has("server_down")
                {
                    self.schedule(
                        time + delay,
                        Event::AtServer {
                            id,
                            op,
                            is_response_lost,
                        },
                    );
                }
            }
        }
    }

    /// Handles a request at the store.
    fn at_store(&mut self, id: OpId, op: Op, response_delay: Option<f64>) {
        let time = self.time();
        if self
            .outage
            .is_some_and(|(from, to)| (from..to).contains(&time))
        {
            return;
        }
        let answer = match op {
            Op::Get { .. } => Answer::Entry(self.version.to_string(), self.entry.clone()),
            Op::Put {
                expected,
                kind,
                content,
                ..
            } => {
                let is_expected =
                    expected.is_none_or(|version| version == self.version.to_string());
                if !is_expected {
                    Answer::Put(PutOutcome::Conflict)
                } else {
                    self.version += 1;
                    self.puts.push(kind);
                    self.entry = content;
                    if let Some(session) = self.stored_entry().and_then(|entry| entry.session) {
                        self.stored_at.entry(token_of(&session)).or_insert(time);
                    }
                    if kind == PutKind::Result {
                        let machine = &mut self.machines[id.machine];
                        machine.has_unsaved_tokens = false;
                        if time - machine.lease_put_at > 30.0 {
                            self.unrecoverable.insert("result later than the lease");
                        }
                    }
                    Answer::Put(PutOutcome::Stored(Version(self.version.to_string())))
                }
            }
            _ => unreachable!(),
        };
        if let Some(delay) = response_delay {
            self.schedule(time + delay, Event::Answer(id, answer));
        }
    }

    /// Handles a request at the server.
    fn at_server(&mut self, id: OpId, op: Op, is_response_lost: bool) {
        let time = self.time();
        let machine = &mut self.machines[id.machine];
        let is_waiting = machine.op_number == id.number;
        let answer = match op {
            Op::Exchange { token, .. } => {
                if !is_waiting {
                    self.unrecoverable
                        .insert("request arrived after its sender gave up");
                }
                let answer = self.server.exchange(&token, time);
                if matches!(answer, Answer::Tokens(_)) {
                    if machine.answer_sender.is_none() || is_response_lost || !is_waiting {
                        self.unrecoverable.insert("answer lost");
                    } else {
                        machine.has_unsaved_tokens = true;
                    }
                }
                answer
            }
            Op::Revoke { token } => {
                self.server.revoke(&token);
                Answer::Revoked(true)
            }
            _ => unreachable!(),
        };
        if !is_response_lost {
            self.deliver_answer(id, answer);
        }
    }
}
