//! Runs scenarios in the simulator and checks these properties of the protocol:
//!
//! - P1: no token is exchanged twice.
//! - P2: no session is lost.
//! - P3: every run ends, and a later run can renew the session.
//! - P4: a logout is not undone.
//! - P5: a login is not overwritten.
//!
//! Some losses cannot be prevented by any protocol. If the simulator records one of the
//! causes in [`EXCUSES`], the simulation may violate P1, P2 and P5.

use std::sync::{Arc, Mutex};

use super::machine::{Machine, RemovedRule, Scenario, origin, session, token_of};
use super::simulator::Simulation;
use super::{Environment, LeaseError, Renewal, SharedSession, Timing};
use crate::model::Session;

/// Causes of losses that no protocol can prevent.
const EXCUSES: [&str; 6] = [
    "crash of the holder",
    "long pause of the holder",
    "answer lost",
    "result later than the lease",
    "request arrived after its sender gave up",
    "gave up",
];

/// The result of one machine's operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    RenewedByThisRun(String),
    RenewedByOthers(String),
    NotSignedIn,
    Ended,
    Busy,
    NoResponse,
    OtherRunFailed,
    StoreFailed,
    Lost,
    LoggedOut(bool),
    LoggedIn,
}

type Ends = Arc<Mutex<Vec<Option<End>>>>;

/// The names and settings of the scenarios in which every property must hold.
pub(super) const SCENARIOS: [(&str, &str); 20] = [
    ("calm", ""),
    (
        "messy store",
        "slow_store=0.15 lose_store=0.08 slow_server=0.3",
    ),
    (
        "clocks",
        "skew=7200 drift=0.02 slow_store=0.05 slow_server=0.4",
    ),
    ("crashes", "STORE crash=0.5"),
    ("pauses", "STORE pause=0.6"),
    ("pauses, no family", "STORE pause=0.6 no_family=1"),
    ("suspends", "suspend=0.6 slow_store=0.05"),
    ("lost answers", "lose_server=0.1 very_slow_server=0.1"),
    (
        "lost answers, window",
        "lose_server=0.1 very_slow_server=0.1 retry_window=60",
    ),
    (
        "store unavailable 3 to 25 s",
        "STORE outage_from=3 outage_to=25 slow_server=0.4",
    ),
    (
        "store unavailable 20 to 80 s",
        "STORE outage_from=20 outage_to=80 slow_server=0.4 latecomers=2",
    ),
    ("everything", "EVERYTHING"),
    ("everything, no family", "EVERYTHING no_family=1"),
    (
        "suspended while acquiring the lease",
        "suspend_at_lease=0.5 slow_server=0.3",
    ),
    (
        "paused while acquiring the lease",
        "pause_at_lease=0.5 slow_server=0.3",
    ),
    ("logout", "STORE logout=1 lose_store=0.03"),
    ("logout, pauses", "STORE logout=1 pause=0.4 crash=0.1"),
    ("login", "STORE login=1 lose_store=0.03"),
    ("login, pauses", "STORE login=1 pause=0.4 crash=0.1"),
    ("latecomers", "STORE crash=0.5 latecomers=3"),
];

pub(super) fn calm() -> Scenario {
    Scenario::new("machines=3 slow_server=0.1")
}

/// Adds settings to the scenario [`calm`].
pub(super) fn scenario(settings: &'static str) -> Scenario {
    settings.split_whitespace().fold(calm(), |scenario, word| {
        scenario.with(match word {
            "STORE" => "slow_store=0.05 lose_store=0.02 slow_server=0.3",
            "EVERYTHING" => {
                "skew=3600 drift=0.02 crash=0.3 pause=0.3 suspend=0.2 slow_store=0.1 \
                 lose_store=0.05 lose_server=0.03 very_slow_server=0.03 slow_server=0.3"
            }
            word => word,
        })
    })
}

/// Calls an operation of the protocol on a machine.
pub(super) fn with_shared<T>(
    machine: &Machine,
    timing: Timing,
    run: impl FnOnce(&SharedSession<'_, Machine>) -> T,
) -> T {
    run(&SharedSession {
        environment: machine,
        timing: &timing,
        origin: &origin(),
    })
}

/// Renews the session. The machine has read the session `t1` before it waits, when no attempt
/// had failed.
pub(super) fn renew(machine: &Machine, timing: Timing, removed: RemovedRule) -> End {
    renew_after(machine, timing, removed, &session("t1"), Some(None))
}

/// Renews the session. For the last two parameters, see [`SharedSession::renew`].
pub(super) fn renew_after(
    machine: &Machine,
    timing: Timing,
    removed: RemovedRule,
    last_read: &Session,
    failed_before_wait: Option<Option<String>>,
) -> End {
    match with_shared(machine, timing, |shared| {
        shared.renew(Some(last_read), failed_before_wait, &|_| false)
    }) {
        Ok(Renewal::ByThisRun(session)) => End::RenewedByThisRun(token_of(&session)),
        Ok(Renewal::ByOthers(session)) => End::RenewedByOthers(token_of(&session)),
        Err(LeaseError::NotSignedIn) => End::NotSignedIn,
        Err(LeaseError::Ended { .. }) => End::Ended,
        Err(LeaseError::Busy(_)) if removed == RemovedRule::FailClosed => {
            match machine.exchange(&last_read.refresh.value, timing.exchange_timeout) {
                super::ExchangeOutcome::Granted(_) => End::RenewedByThisRun(String::new()),
                _ => End::Ended,
            }
        }
        Err(LeaseError::Busy(_)) => End::Busy,
        Err(LeaseError::Request(_)) => End::NoResponse,
        Err(LeaseError::OtherRunFailed(_)) => End::OtherRunFailed,
        Err(LeaseError::Store(_)) => End::StoreFailed,
        Err(LeaseError::Lost(_)) => End::Lost,
        Err(error) => panic!("{error:?}"),
    }
}

fn log_out(machine: &Machine, timing: Timing) -> End {
    match with_shared(machine, timing, |shared| shared.log_out()) {
        Ok(logout) => End::LoggedOut(logout.revocations.iter().all(|revoked| *revoked)),
        Err(LeaseError::Store(_)) => End::StoreFailed,
        Err(_) => End::Busy,
    }
}

fn log_in(machine: &Machine, timing: Timing) -> End {
    match with_shared(machine, timing, |shared| shared.log_in(session("login"))) {
        Ok((_, replaced)) => {
            if let Some(replaced) = replaced {
                machine.revoke(&replaced);
            }
            End::LoggedIn
        }
        Err(_) => End::Lost,
    }
}

/// Runs a scenario, then a last renewal long afterwards. Returns the violated
/// properties, the number of exchanges, and how each machine's run ended.
pub(super) fn run(
    seed: u64,
    scenario: &Scenario,
    removed: RemovedRule,
    timing: Timing,
) -> (Vec<&'static str>, u32, Vec<End>) {
    let mut sim = Simulation::new(seed, scenario.clone());
    let ends: Ends = Ends::default();
    let add =
        |sim: &mut Simulation, start: f64, operation: Box<dyn FnOnce(&Machine) -> End + Send>| {
            let ends = Arc::clone(&ends);
            let slot = {
                let mut ends = ends.lock().unwrap();
                ends.push(None);
                ends.len() - 1
            };
            sim.add(start, removed, timing, move |machine| {
                let end = operation(machine);
                ends.lock().unwrap()[slot] = Some(end);
            })
        };
    let machines = scenario.get("machines") as usize;
    for index in 0..machines + scenario.get("latecomers") as usize {
        let start = match index < machines {
            true => sim.random.in_range(0.0, 0.5),
            false => sim.random.in_range(20.0, 120.0),
        };
        add(
            &mut sim,
            start,
            Box::new(move |machine| renew(machine, timing, removed)),
        );
    }
    if scenario.has("logout") {
        let start = sim.random.in_range(0.0, 1.5);
        add(
            &mut sim,
            start,
            Box::new(move |machine| log_out(machine, timing)),
        );
    }
    if scenario.has("login") {
        let start = sim.random.in_range(0.0, 1.5);
        add(
            &mut sim,
            start,
            Box::new(move |machine| log_in(machine, timing)),
        );
    }
    sim.run_until(900.0);
    let count = ends.lock().unwrap().len();
    let is_stuck = (0..count).any(|id| sim.is_stuck(id));
    let exchanges = sim.exchanges;
    let double_exchanges = sim.double_exchanges;

    sim.stop_faults();
    let last_read = sim.stored_entry().and_then(|entry| entry.session);
    let last_read = last_read.unwrap_or_else(|| session("t1"));
    add(
        &mut sim,
        900.0,
        Box::new(move |machine| renew_after(machine, timing, removed, &last_read, None)),
    );
    sim.run_until(1200.0);
    sim.finish();

    let ends = Arc::try_unwrap(ends).unwrap().into_inner().unwrap();
    let (last_renewal, others) = ends.split_last().unwrap();
    if others.iter().flatten().any(|end| *end == End::Lost) {
        sim.causes.insert("gave up");
    }
    let is_excused = EXCUSES.iter().any(|cause| sim.causes.contains(cause));
    let is_alive = matches!(
        last_renewal,
        Some(End::RenewedByThisRun(_) | End::RenewedByOthers(_))
    );
    let mut violated = Vec::new();
    if is_stuck {
        violated.push("P3");
    }
    let last_end = others.last().cloned().flatten();
    if scenario.has("logout") {
        if let Some(End::LoggedOut(was_revoked)) = last_end {
            if *last_renewal != Some(End::NotSignedIn) {
                violated.push("P4");
            }
            if was_revoked && !sim.revoked.contains(&1) && !is_excused {
                violated.push("P4");
            }
        }
        if double_exchanges > 0 && !is_excused {
            violated.push("P1");
        }
    } else if scenario.has("login") {
        if last_end == Some(End::LoggedIn) {
            let login_id = sim.stored_entry().map(|entry| entry.coordination.login_id);
            let is_overwritten = login_id.is_none_or(|login_id| login_id == "one");
            if is_overwritten || (!is_alive && !is_excused) {
                violated.push("P5");
            }
            if !sim.revoked.contains(&1) && !is_excused {
                violated.push("P5");
            }
        }
    } else {
        if double_exchanges > 0 && !is_excused {
            violated.push("P1");
        }
        if matches!(last_renewal, Some(End::Busy | End::StoreFailed)) {
            violated.push("P3");
        } else if !(is_alive
            || sim.causes.contains("answer lost")
            || sim.was_family_revoked && is_excused)
        {
            violated.push("P2");
        }
    }
    (
        violated,
        exchanges,
        others.iter().flatten().cloned().collect(),
    )
}
