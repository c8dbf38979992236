//! Tests that the protocol's properties hold in every scenario, and that removing a
//! rule of the protocol violates one of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::machine::{PutKind, RemovedRule, Scenario, session, token_of};
use super::scenarios::{
    MachineResult, Property, SCENARIOS, calm, renew, renew_after, run, scenario, with_shared,
};
use super::simulator::Simulation;
use super::{Environment, ReadRetries, Timing};
use crate::model::{Session, Timestamp};
use crate::store::SessionEnd;

/// Number of simulations per scenario in a usual test run.
const SEEDS: u64 = 150;
/// Number of simulations per scenario in a long test run.
const LONG_SEEDS: u64 = 1500;

fn assert_properties_hold(seeds: u64) {
    for (name, settings) in SCENARIOS {
        for seed in 0..seeds {
            let (violated, _, results) = run(
                seed,
                &scenario(settings),
                RemovedRule::Nothing,
                Timing::DEFAULT,
            );
            assert!(
                violated.is_empty(),
                "{name}, seed {seed}: {violated:?} {results:?}"
            );
        }
    }
}

#[test]
fn every_property_holds_in_every_scenario() {
    assert_properties_hold(SEEDS);
}

#[test]
#[ignore = "long"]
fn every_property_holds_in_many_simulations() {
    assert_properties_hold(LONG_SEEDS);
}

#[test]
fn calm_machines_exchange_once() {
    for seed in 0..SEEDS {
        let (_, exchanges, results) = run(seed, &calm(), RemovedRule::Nothing, Timing::DEFAULT);
        assert_eq!(exchanges, 1, "seed {seed}: {results:?}");
    }
}

fn many_machines() -> Scenario {
    calm().with("machines=64")
}

#[test]
fn many_machines_exchange_once() {
    let (violated, exchanges, results) =
        run(1, &many_machines(), RemovedRule::Nothing, Timing::DEFAULT);
    assert_eq!(
        (violated.len(), exchanges, results.len()),
        (0, 1, 64),
        "{results:?}"
    );
}

fn scenario_named(name: &str) -> Scenario {
    let found = SCENARIOS.into_iter().find(|(other, _)| *other == name);
    scenario(found.expect("a scenario").1)
}

/// Asserts that some simulation of the scenario `name` violates one of `properties` if a rule
/// is removed.
fn assert_violates(removed: RemovedRule, name: &str, properties: &[Property]) {
    assert_violates_with(Timing::DEFAULT, removed, name, properties);
}

fn assert_violates_with(timing: Timing, removed: RemovedRule, name: &str, properties: &[Property]) {
    let scenario = scenario_named(name);
    let is_violated = (0..3000).any(|seed| {
        let (violated, ..) = run(seed, &scenario, removed, timing);
        violated
            .iter()
            .any(|property| properties.contains(property))
    });
    assert!(
        is_violated,
        "{removed:?} can be removed without violating {properties:?} in {name}"
    );
}

#[test]
fn without_the_lease() {
    assert_violates(RemovedRule::Lease, "calm", &[Property::NoDoubleExchange]);
}

#[test]
fn without_compare_and_set_of_the_lease() {
    assert_violates(
        RemovedRule::CompareAndSetOfLease,
        "calm",
        &[Property::NoDoubleExchange, Property::SessionSurvives],
    );
}

#[test]
fn without_compare_and_set_of_the_result() {
    assert_violates(
        RemovedRule::CompareAndSetOfResult,
        "login",
        &[Property::LoginIsFinal],
    );
    assert_violates(
        RemovedRule::CompareAndSetOfResult,
        "logout",
        &[Property::LogoutIsFinal],
    );
}

#[test]
fn without_compare_and_set_of_the_release() {
    assert_violates(
        RemovedRule::CompareAndSetOfRelease,
        "suspended while acquiring the lease",
        &[Property::NoDoubleExchange, Property::SessionSurvives],
    );
}

#[test]
fn without_the_holders_deadline() {
    assert_violates(
        RemovedRule::HolderDeadline,
        "paused while acquiring the lease",
        &[Property::NoDoubleExchange, Property::SessionSurvives],
    );
}

#[test]
fn with_a_lease_measured_from_the_response() {
    assert_violates(
        RemovedRule::HolderClockFromBeforePut,
        "paused while acquiring the lease",
        &[Property::NoDoubleExchange, Property::SessionSurvives],
    );
}

#[test]
fn with_a_holder_clock_that_stops_in_suspend() {
    assert_violates(
        RemovedRule::ClockAdvancesInSuspend,
        "suspended while acquiring the lease",
        &[Property::NoDoubleExchange, Property::SessionSurvives],
    );
}

#[test]
fn with_wall_clocks_instead_of_watching() {
    assert_violates(
        RemovedRule::Watching,
        "clocks",
        &[
            Property::NoDoubleExchange,
            Property::SessionSurvives,
            Property::EveryRunEnds,
        ],
    );
}

#[test]
fn with_own_lease_duration_instead_of_the_entrys() {
    let short = Timing {
        lease_duration: Duration::from_secs(12),
        exchange_timeout: Duration::from_millis(3500),
        margin: Duration::from_secs(2),
        ..Timing::DEFAULT
    };
    let first_exchange = |removed| {
        let mut sim = Simulation::new(1, calm());
        sim.put_abandoned_lease(Duration::from_secs(30));
        sim.add_machine(0.0, removed, short, move |machine| {
            renew(machine, short, removed);
        });
        sim.run_until(100.0);
        sim.finish();
        sim.server.first_exchange.expect("an exchange")
    };
    assert!(first_exchange(RemovedRule::Nothing) >= 30.0);
    assert!(first_exchange(RemovedRule::DurationFromEntry) < 30.0);
}

#[test]
fn without_reading_after_an_unanswered_put() {
    assert_violates(
        RemovedRule::UnansweredPutAsStored,
        "store unavailable 3 to 25 s",
        &[Property::NoDoubleExchange, Property::SessionSurvives],
    );
}

/// The lease is written, but the response is lost. The run must not wait for the
/// expiry of its own lease.
#[test]
fn an_unanswered_lease_put_is_looked_up() {
    let first_exchange = |removed| {
        let mut sim = Simulation::new(1, calm());
        // This loses the answer to the put. The get starts at 0.0, which is not later.
        sim.lose_answers(0.0, 1);
        sim.add_machine(0.0, removed, Timing::DEFAULT, move |machine| {
            renew(machine, Timing::DEFAULT, removed);
        });
        sim.run_until(100.0);
        sim.finish();
        (sim.server.first_exchange, sim.puts)
    };
    let (protocol, puts) = first_exchange(RemovedRule::Nothing);
    let (without_rule, _) = first_exchange(RemovedRule::UnansweredPutAsConflict);
    assert!(protocol.is_some_and(|at| at < 15.0), "{protocol:?}");
    assert!(without_rule.is_none_or(|at| at > 30.0), "{without_rule:?}");
    // After the timeout of 10 s, the rest of the first lease is too short for an exchange.
    assert_eq!(
        puts,
        [
            PutKind::Lease,
            PutKind::Release,
            PutKind::Lease,
            PutKind::Result
        ]
    );
}

/// Returns the longest time from the end of an outage of 20 to 30 s until the result is
/// stored, in 50 runs.
fn longest_delay(timing: Timing) -> f64 {
    let delay = |seed: u32| {
        let outage_end = 20.0 + f64::from(seed % 10);
        let scenario = Scenario::default();
        let mut sim = Simulation::new(seed.into(), scenario);
        // The outage starts just after the lease is written. A fast run has stored the
        // result by then.
        sim.set_outage(0.1, outage_end);
        sim.add_machine(0.0, RemovedRule::Nothing, timing, move |machine| {
            renew(machine, timing, RemovedRule::Nothing);
        });
        sim.run_until(100.0);
        sim.finish();
        sim.stored_at["t2"] - outage_end
    };
    (0..50).map(delay).fold(0.0, f64::max)
}

#[test]
fn long_save_attempts_store_the_result_late() {
    assert!(longest_delay(Timing::DEFAULT) < 5.0);
    let long = Timing {
        save_attempt_timeout: Duration::from_secs(10),
        ..Timing::DEFAULT
    };
    assert!(longest_delay(long) > 6.0);
}

/// Machines with clocks that are wrong by hours read the session, and renew it if the
/// access token has expired by the server's clock. Returns the number of exchanges,
/// the time of the first one, and the last time at which the first token was used.
fn read_with_wrong_clocks(seed: u64, removed: RemovedRule) -> (u32, f64, f64) {
    let scenario = calm().with("skew=7200");
    let mut sim = Simulation::new(seed, scenario);
    let used = Arc::new(Mutex::new(0.0));
    for _ in 0..6 {
        let start = sim.random.in_range(200.0, 500.0);
        let used = Arc::clone(&used);
        sim.add_machine(start, removed, Timing::DEFAULT, move |machine| {
            let is_fresh = |session: &Session| {
                let access = session.access.as_ref().expect("an access token");
                access
                    .expiry
                    .outlasts(Duration::from_secs(30), machine.now())
            };
            let deadline = machine.watcher_clock() + Duration::from_secs(15);
            let timeout = Timing::DEFAULT.request_timeout;
            let read = with_shared(machine, Timing::DEFAULT, |shared| {
                let (_, entry) = shared
                    .read_entry(deadline, timeout, ReadRetries::WhileUnavailable)
                    .expect("an entry");
                let read = entry.and_then(|entry| entry.session).expect("a session");
                if !is_fresh(&read) {
                    shared
                        .renew(Some(&read), None, &is_fresh)
                        .expect("a renewal");
                }
                read
            });
            if is_fresh(&read) && token_of(&read) == "t1" {
                *used.lock().unwrap() = machine.clocks.virtual_seconds();
            }
        });
    }
    sim.run_until(900.0);
    sim.finish();
    let used = *used.lock().unwrap();
    (
        sim.server.exchanges,
        sim.server.first_exchange.expect("an exchange"),
        used,
    )
}

#[test]
fn without_skew_correction_by_the_reader() {
    let is_right = |(exchanges, first, used): (u32, f64, f64)| {
        exchanges == 1 && first >= 270.0 && used < 300.0
    };
    let all = |removed| (0..20).all(|seed| is_right(read_with_wrong_clocks(seed, removed)));
    assert!(all(RemovedRule::Nothing));
    assert!(!all(RemovedRule::SkewCorrection));
}

#[test]
fn without_reading_again_after_a_refusal() {
    assert_violates(
        RemovedRule::ReadAfterRefusal,
        "login",
        &[Property::LoginIsFinal],
    );
}

#[test]
fn without_the_ended_mark() {
    assert_violates(
        RemovedRule::SessionEnd,
        "pauses, no family",
        &[Property::SessionSurvives],
    );
}

#[test]
fn without_overwriting_a_newer_lease() {
    assert_violates(
        RemovedRule::OverwritingNewerLease,
        "pauses, no family",
        &[Property::SessionSurvives],
    );
}

/// Runs one machine whose exchange takes some seconds, and calls `during_exchange`
/// while it waits for the server.
fn slow_exchange(during_exchange: impl FnOnce(&mut Simulation)) -> Simulation {
    let scenario = Scenario::new("slow_server=1");
    let mut sim = Simulation::new(1, scenario);
    sim.add_machine(0.0, RemovedRule::Nothing, Timing::DEFAULT, |machine| {
        renew(machine, Timing::DEFAULT, RemovedRule::Nothing);
    });
    sim.run_until(0.5);
    assert!(
        sim.stored_entry()
            .expect("an entry")
            .coordination
            .lease
            .is_some()
    );
    during_exchange(&mut sim);
    sim.run_until(15.0);
    sim.finish();
    sim
}

/// A run with new tokens stores them even if another run has acquired a lease on the
/// used token or has marked it as ended.
#[test]
fn a_result_overwrites_changes_to_the_used_token() {
    let leased = slow_exchange(|sim| sim.put_abandoned_lease(Duration::from_secs(30)));
    assert!(leased.stored_at.contains_key("t2"));
    let ended = slow_exchange(|sim| {
        sim.edit_entry(|coordination| {
            coordination.lease = None;
            coordination.ended = Some(SessionEnd {
                message: "token used".into(),
                at: Timestamp::from_millis(0),
            });
        });
    });
    assert!(ended.stored_at.contains_key("t2"));
}

/// The holder was paused for longer than `save_timeout`, and the store does not answer
/// at first.
#[test]
fn a_paused_run_still_makes_the_minimum_of_save_attempts() {
    let scenario = Scenario::new("slow_server=1");
    let mut sim = Simulation::new(1, scenario);
    let end = Arc::new(Mutex::new(None));
    let ended = Arc::clone(&end);
    let id = sim.add_machine(0.0, RemovedRule::Nothing, Timing::DEFAULT, move |machine| {
        let end = renew(machine, Timing::DEFAULT, RemovedRule::Nothing);
        *ended.lock().unwrap() = Some(end);
    });
    // Answer 4 is for the put of the result, after a get, the lease and the exchange.
    sim.pause(id, 4, 700.0);
    sim.lose_answers(0.5, 2);
    sim.run_until(900.0);
    sim.finish();
    assert_eq!(
        *end.lock().unwrap(),
        Some(MachineResult::RenewedByThisRun("t2".to_owned()))
    );
}

/// If the session was logged out or replaced during the exchange, the new tokens are
/// revoked.
#[test]
fn new_tokens_of_a_session_that_is_gone_are_revoked() {
    let logged_out =
        slow_exchange(|sim| sim.edit_entry(|coordination| coordination.is_logged_out = true));
    assert!(logged_out.server.exchanges == 1 && logged_out.server.revoked.contains(&1));
    let replaced =
        slow_exchange(|sim| sim.edit_entry(|coordination| coordination.login_id = "two".into()));
    assert!(replaced.server.exchanges == 1 && replaced.server.revoked.contains(&1));
}

/// A run that started before another run failed reports that failure too, even if it
/// never saw the lease of the other run.
#[test]
fn a_failure_is_shared_with_runs_that_did_not_watch_the_lease() {
    let scenario = Scenario::new("server_down=1");
    let mut sim = Simulation::new(1, scenario);
    let results = Arc::new(Mutex::new(Vec::new()));
    for start in [0.0, 20.0] {
        let results = Arc::clone(&results);
        sim.add_machine(
            start,
            RemovedRule::Nothing,
            Timing::DEFAULT,
            move |machine| {
                let end = renew(machine, Timing::DEFAULT, RemovedRule::Nothing);
                results.lock().unwrap().push(end);
            },
        );
    }
    sim.run_until(100.0);
    sim.finish();
    assert_eq!(
        *results.lock().unwrap(),
        [MachineResult::NoResponse, MachineResult::OtherRunFailed]
    );
}

/// A run that did not wait for the failed run sends a request itself: the cause of the
/// failure may be gone.
#[test]
fn an_earlier_failure_is_not_reported_by_a_run_that_did_not_wait() {
    let mut sim = Simulation::new(1, Scenario::new("server_down=1"));
    let results = Arc::new(Mutex::new(Vec::new()));
    for (start, failed_before_wait) in [(0.0, Some(None)), (60.0, None)] {
        let results = Arc::clone(&results);
        sim.add_machine(
            start,
            RemovedRule::Nothing,
            Timing::DEFAULT,
            move |machine| {
                let last_read = session("t1");
                let end = renew_after(
                    machine,
                    Timing::DEFAULT,
                    RemovedRule::Nothing,
                    &last_read,
                    failed_before_wait,
                );
                results.lock().unwrap().push(end);
            },
        );
    }
    sim.run_until(100.0);
    sim.finish();
    assert_eq!(
        *results.lock().unwrap(),
        [MachineResult::NoResponse, MachineResult::NoResponse]
    );
}

/// If another run holds the lease, a refusal does not mark the session as ended: the
/// outcome of the other run decides.
#[test]
fn a_refusal_under_another_lease_does_not_end_the_session() {
    let refused = slow_exchange(|sim| {
        sim.server.revoked.insert(1);
        sim.put_abandoned_lease(Duration::from_secs(30));
    });
    let entry = refused.stored_entry().expect("an entry");
    assert!(entry.coordination.ended.is_none() && entry.coordination.lease.is_some());
}

#[test]
fn without_lease_expiry() {
    let timing = Timing {
        is_lock_timeout_given: true,
        ..Timing::DEFAULT
    };
    assert_violates_with(
        timing,
        RemovedRule::LeaseExpiry,
        "crashes",
        &[Property::EveryRunEnds],
    );
}

#[test]
fn without_failing_closed() {
    let timing = Timing {
        lock_timeout: Duration::from_secs(5),
        is_lock_timeout_given: true,
        ..Timing::DEFAULT
    };
    assert_violates_with(
        timing,
        RemovedRule::FailClosed,
        "paused while acquiring the lease",
        &[Property::NoDoubleExchange, Property::SessionSurvives],
    );
}

#[test]
fn with_a_lock_timeout_below_the_lease() {
    let timing = Timing {
        lock_timeout: Duration::from_secs(20),
        is_lock_timeout_given: true,
        ..Timing::DEFAULT
    };
    assert_violates_with(
        timing,
        RemovedRule::Nothing,
        "crashes",
        &[Property::EveryRunEnds],
    );
}

/// Counts the runs out of 400 that lose the session.
fn count_lost_sessions(name: &str, timing: Timing) -> usize {
    let scenario = scenario_named(name);
    (0..400)
        .filter(|seed| {
            let (_, _, results) = run(*seed, &scenario, RemovedRule::Nothing, timing);
            results
                .iter()
                .any(|end| matches!(end, MachineResult::Lost | MachineResult::Ended))
        })
        .count()
}

#[test]
fn short_save_timeouts_and_counted_outages_lose_sessions() {
    let name = "store unavailable 3 to 25 s";
    let usual = count_lost_sessions(name, Timing::DEFAULT);
    let short = count_lost_sessions(
        name,
        Timing {
            save_timeout: Duration::from_secs(8),
            ..Timing::DEFAULT
        },
    );
    assert!(short > usual + 8, "{short} with 8 s, {usual} with 10 min");
    let name = "store unavailable 20 to 80 s";
    let usual = count_lost_sessions(name, Timing::DEFAULT);
    let without_aging_limit = count_lost_sessions(
        name,
        Timing {
            max_aging_per_read: Duration::from_secs(10_000),
            ..Timing::DEFAULT
        },
    );
    assert!(
        without_aging_limit > usual,
        "{without_aging_limit} if an outage ages the lease, {usual} otherwise"
    );
}

#[test]
fn a_failure_is_shared() {
    let scenario = many_machines().with("server_down=1");
    let count_requests = |removed| {
        let (_, _, results) = run(1, &scenario, removed, Timing::DEFAULT);
        assert_eq!(results.len(), 64);
        results
            .iter()
            .filter(|end| **end == MachineResult::NoResponse)
            .count()
    };
    assert_eq!(count_requests(RemovedRule::Nothing), 1);
    assert!(count_requests(RemovedRule::SharedFailures) > 1);
}
