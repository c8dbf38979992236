//! Runs scenarios in the simulator and checks the properties of the protocol.

use std::sync::{Arc, Mutex};

use super::machine::{Machine, RemovedRule, Scenario, api_url, session, token_of};
use super::simulator::Simulation;
use super::{Environment, ExchangeOutcome, LeaseError, Renewal, SharedSession, Timing};
use crate::model::Session;

/// A property of the protocol. After an event that no protocol can recover from
/// ([`Simulation::unrecoverable`]), a token may be exchanged twice, and a session lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property {
    /// No token is exchanged twice.
    NoDoubleExchange,
    /// The session is not lost.
    SessionSurvives,
    /// Every run ends, and a later run can renew the session.
    EveryRunEnds,
    /// No other run undoes a logout.
    LogoutIsFinal,
    /// No other run overwrites the session of a login.
    LoginIsFinal,
}

/// The result of one machine's operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MachineResult {
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

/// The results by machine. `None` if the machine has crashed or is stuck.
type SharedResults = Arc<Mutex<Vec<Option<MachineResult>>>>;

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
        api_url: &api_url(),
    })
}

/// Renews the session. The machine has read the session `t1` before it waits, when no attempt
/// had failed.
pub(super) fn renew(machine: &Machine, timing: Timing, removed: RemovedRule) -> MachineResult {
    renew_after(machine, timing, removed, &session("t1"), Some(None))
}

/// Renews the session. For the last two parameters, see [`SharedSession::renew`].
pub(super) fn renew_after(
    machine: &Machine,
    timing: Timing,
    removed: RemovedRule,
    last_read: &Session,
    failed_before_wait: Option<Option<String>>,
) -> MachineResult {
    match with_shared(machine, timing, |shared| {
        shared.renew(Some(last_read), failed_before_wait, &|_| false)
    }) {
        Ok(Renewal::ByThisRun(session)) => MachineResult::RenewedByThisRun(token_of(&session)),
        Ok(Renewal::ByOthers(session)) => MachineResult::RenewedByOthers(token_of(&session)),
        Err(LeaseError::NotSignedIn) => MachineResult::NotSignedIn,
        Err(LeaseError::Ended { .. }) => MachineResult::Ended,
        Err(LeaseError::Busy(_)) if removed == RemovedRule::FailClosed => {
            match machine.exchange(&last_read.refresh.value, timing.exchange_timeout) {
                ExchangeOutcome::Granted(_) => MachineResult::RenewedByThisRun(String::new()),
                _ => MachineResult::Ended,
            }
        }
        Err(LeaseError::Busy(_)) => MachineResult::Busy,
        Err(LeaseError::Request(_)) => MachineResult::NoResponse,
        Err(LeaseError::OtherRunFailed(_)) => MachineResult::OtherRunFailed,
        Err(LeaseError::Store(_)) => MachineResult::StoreFailed,
        Err(LeaseError::Lost(_)) => MachineResult::Lost,
        Err(error) => panic!("{error:?}"),
    }
}

fn log_out(machine: &Machine, timing: Timing) -> MachineResult {
    match with_shared(machine, timing, |shared| shared.log_out()) {
        Ok(logout) => MachineResult::LoggedOut(logout.revocations.iter().all(|revoked| *revoked)),
        Err(LeaseError::Store(_)) => MachineResult::StoreFailed,
        Err(_) => MachineResult::Busy,
    }
}

fn log_in(machine: &Machine, timing: Timing) -> MachineResult {
    match with_shared(machine, timing, |shared| shared.log_in(session("login"))) {
        Ok((_, replaced)) => {
            if let Some(replaced) = replaced {
                machine.revoke(&replaced);
            }
            MachineResult::LoggedIn
        }
        Err(_) => MachineResult::Lost,
    }
}

/// Runs a scenario, and long afterwards a last renewal without faults. Returns the violated
/// properties, the number of exchanges before the last renewal, and the results of the
/// machines that did not crash.
pub(super) fn run(
    seed: u64,
    scenario: &Scenario,
    removed: RemovedRule,
    timing: Timing,
) -> (Vec<Property>, u32, Vec<MachineResult>) {
    let mut sim = Simulation::new(seed, scenario.clone());
    let results = SharedResults::default();
    let add = |sim: &mut Simulation,
               start: f64,
               operation: Box<dyn FnOnce(&Machine) -> MachineResult + Send>| {
        let results = Arc::clone(&results);
        let slot = {
            let mut results = results.lock().unwrap();
            results.push(None);
            results.len() - 1
        };
        sim.add_machine(start, removed, timing, move |machine| {
            let result = operation(machine);
            results.lock().unwrap()[slot] = Some(result);
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
    let count = results.lock().unwrap().len();
    let is_stuck = (0..count).any(|id| sim.is_stuck(id));
    let exchanges = sim.server.exchanges;
    let double_exchanges = sim.server.double_exchanges;

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

    let results = Arc::try_unwrap(results).unwrap().into_inner().unwrap();
    let (last_renewal, others) = results.split_last().unwrap();
    if others
        .iter()
        .flatten()
        .any(|result| *result == MachineResult::Lost)
    {
        sim.unrecoverable.insert("gave up");
    }
    let is_unrecoverable = !sim.unrecoverable.is_empty();
    let is_alive = matches!(
        last_renewal,
        Some(MachineResult::RenewedByThisRun(_) | MachineResult::RenewedByOthers(_))
    );
    let mut violated = Vec::new();
    if is_stuck {
        violated.push(Property::EveryRunEnds);
    }
    // The login or logout of the scenario was added last.
    let login_or_logout = others.last().cloned().flatten();
    if scenario.has("logout") {
        if let Some(MachineResult::LoggedOut(was_revoked)) = login_or_logout {
            if *last_renewal != Some(MachineResult::NotSignedIn) {
                violated.push(Property::LogoutIsFinal);
            }
            if was_revoked && !sim.server.revoked.contains(&1) && !is_unrecoverable {
                violated.push(Property::LogoutIsFinal);
            }
        }
        if double_exchanges > 0 && !is_unrecoverable {
            violated.push(Property::NoDoubleExchange);
        }
    } else if scenario.has("login") {
        if login_or_logout == Some(MachineResult::LoggedIn) {
            let login_id = sim.stored_entry().map(|entry| entry.coordination.login_id);
            let is_overwritten = login_id.is_none_or(|login_id| login_id == "one");
            if is_overwritten || (!is_alive && !is_unrecoverable) {
                violated.push(Property::LoginIsFinal);
            }
            if !sim.server.revoked.contains(&1) && !is_unrecoverable {
                violated.push(Property::LoginIsFinal);
            }
        }
    } else {
        if double_exchanges > 0 && !is_unrecoverable {
            violated.push(Property::NoDoubleExchange);
        }
        if matches!(
            last_renewal,
            Some(MachineResult::Busy | MachineResult::StoreFailed)
        ) {
            violated.push(Property::EveryRunEnds);
        } else if !(is_alive
            || sim.unrecoverable.contains("answer lost")
            || sim.server.was_token_reuse_punished && is_unrecoverable)
        {
            violated.push(Property::SessionSurvives);
        }
    }
    (
        violated,
        exchanges,
        others.iter().flatten().cloned().collect(),
    )
}
