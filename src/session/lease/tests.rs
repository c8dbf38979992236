//! What holds in every scenario, and what each of the protocol's rules prevents.

use std::time::Duration;

use super::Timing;
use super::machine::{Removed, Scenario};
use super::scenarios::{End, calm, renew, run, scenarios, timing};
use super::simulator::Simulation;

/// Seeds that the usual run of the tests tries per scenario.
const SEEDS: u64 = 150;

fn hold(seeds: u64) {
    for (name, scenario) in scenarios() {
        for seed in 0..seeds {
            let (broken, _, ends) = run(seed, scenario, Removed::Nothing, &[timing()]);
            assert!(
                broken.is_empty(),
                "{name}, seed {seed}: {broken:?} {ends:?}"
            );
        }
    }
}

#[test]
fn every_property_holds_in_every_scenario() {
    hold(SEEDS);
}

#[test]
#[ignore = "long"]
fn every_property_holds_in_many_runs() {
    hold(5000);
}

#[test]
fn calm_machines_exchange_once() {
    for seed in 0..SEEDS {
        let (_, exchanges, ends) = run(seed, calm(), Removed::Nothing, &[timing()]);
        assert_eq!(exchanges, 1, "seed {seed}: {ends:?}");
    }
}

fn many() -> Scenario {
    Scenario {
        machines: 64,
        ..calm()
    }
}

#[test]
fn many_machines_exchange_once() {
    let (broken, exchanges, ends) = run(1, many(), Removed::Nothing, &[timing()]);
    assert_eq!(
        (broken.len(), exchanges, ends.len()),
        (0, 1, 64),
        "{ends:?}"
    );
}

/// Whether a removed rule breaks one of `properties` within some runs of a scenario.
fn breaks(removed: Removed, name: &str, timings: &[Timing], properties: &[&str]) {
    let found = scenarios().into_iter().find(|(other, _)| *other == name);
    let (_, scenario) = found.expect("a scenario");
    let broken = (0..3000).find_map(|seed| {
        let (broken, ..) = run(seed, scenario, removed, timings);
        broken
            .into_iter()
            .find(|property| properties.contains(property))
    });
    assert!(
        broken.is_some(),
        "{removed:?} may be taken away: nothing breaks in {name}"
    );
}

#[test]
fn without_the_lease() {
    breaks(Removed::Lease, "calm", &[timing()], &["P1"]);
}

#[test]
fn without_comparing_at_the_lease() {
    breaks(Removed::CasOfLease, "calm", &[timing()], &["P1", "P2"]);
}

#[test]
fn without_comparing_at_the_result() {
    breaks(Removed::CasOfResult, "login", &[timing()], &["P5"]);
    breaks(Removed::CasOfResult, "logout", &[timing()], &["P4"]);
}

#[test]
fn without_comparing_at_the_release() {
    breaks(
        Removed::CasOfRelease,
        "suspended while taking",
        &[timing()],
        &["P1", "P2"],
    );
}

#[test]
fn without_the_holders_deadline() {
    breaks(
        Removed::HolderDeadline,
        "paused while taking",
        &[timing()],
        &["P1", "P2"],
    );
}

#[test]
fn with_a_lease_that_counts_from_the_answer() {
    breaks(
        Removed::CountingFromBeforePut,
        "paused while taking",
        &[timing()],
        &["P1", "P2"],
    );
}

#[test]
fn with_a_clock_that_stands_still_in_suspend() {
    breaks(
        Removed::ClockThatRunsInSuspend,
        "suspended while taking",
        &[timing()],
        &["P1", "P2"],
    );
}

#[test]
fn with_wall_clocks_in_place_of_watching() {
    breaks(
        Removed::Watching,
        "clocks",
        &[timing()],
        &["P1", "P2", "P3"],
    );
}

#[test]
fn with_ones_own_length_in_place_of_the_entrys() {
    let short = Timing {
        lease: Duration::from_secs(12),
        exchange: Duration::from_millis(3500),
        margin: Duration::from_secs(2),
        ..timing()
    };
    let first_exchange = |removed| {
        let mut sim = Simulation::new(1, calm());
        sim.lease_to_nobody(Duration::from_secs(30));
        sim.add(0.0, removed, short, move |machine| {
            renew(machine, short, removed, "t1");
        });
        sim.run_until(100.0);
        sim.finish();
        sim.first_exchange.expect("an exchange")
    };
    assert!(first_exchange(Removed::Nothing) >= 30.0);
    assert!(first_exchange(Removed::LengthOfTheEntry) < 30.0);
}

#[test]
fn without_looking_up_an_unanswered_put() {
    breaks(
        Removed::LookingUpUnanswered,
        "store away 3 to 25 s",
        &[timing()],
        &["P1", "P2"],
    );
}

#[test]
fn without_a_second_look_after_a_refusal() {
    breaks(Removed::SecondLook, "login", &[timing()], &["P5"]);
}

#[test]
fn without_the_mark_of_the_end() {
    breaks(
        Removed::EndedMark,
        "pauses, no family",
        &[timing()],
        &["P2"],
    );
}

#[test]
fn without_putting_over_a_taker() {
    breaks(
        Removed::PuttingOverATaker,
        "pauses, no family",
        &[timing()],
        &["P2"],
    );
}

#[test]
fn without_an_end_of_the_lease() {
    let timing = Timing {
        is_lock_timeout_given: true,
        ..timing()
    };
    breaks(Removed::EndOfTheLease, "crashes", &[timing], &["P3"]);
}

#[test]
fn without_failing_closed() {
    let timing = Timing {
        lock_timeout: Duration::from_secs(5),
        is_lock_timeout_given: true,
        ..timing()
    };
    breaks(
        Removed::FailingClosed,
        "paused while taking",
        &[timing],
        &["P1", "P2"],
    );
}

#[test]
fn with_a_lock_timeout_below_the_lease() {
    let timing = Timing {
        lock_timeout: Duration::from_secs(20),
        is_lock_timeout_given: true,
        ..timing()
    };
    breaks(Removed::Nothing, "crashes", &[timing], &["P3"]);
}

/// How many of some runs end with a session that nobody can use.
fn lost(name: &str, timing: Timing) -> usize {
    let found = scenarios().into_iter().find(|(other, _)| *other == name);
    let (_, scenario) = found.expect("a scenario");
    (0..400)
        .filter(|seed| {
            let (_, _, ends) = run(*seed, scenario, Removed::Nothing, &[timing]);
            ends.iter().any(|end| matches!(end, End::Lost | End::Ended))
        })
        .count()
}

#[test]
fn with_few_or_long_attempts_to_save_sessions_are_lost() {
    let name = "store away 3 to 25 s";
    let now = lost(name, timing());
    let eight = lost(
        name,
        Timing {
            save_timeout: Duration::from_secs(8),
            ..timing()
        },
    );
    assert!(eight > now + 8, "{eight} with 8 s, {now} with 10 min");
    let name = "store away 20 to 80 s";
    let now = lost(name, timing());
    let counted = lost(
        name,
        Timing {
            max_gap: Duration::from_secs(10_000),
            ..timing()
        },
    );
    assert!(
        counted > now,
        "{counted} where an outage ages the lease, {now} else"
    );
}

#[test]
fn a_failure_is_shared() {
    let scenario = Scenario {
        server_down: true,
        ..many()
    };
    let asked = |removed| {
        let (_, _, ends) = run(1, scenario, removed, &[timing()]);
        assert_eq!(ends.len(), 64);
        ends.iter().filter(|end| **end == End::NoAnswer).count()
    };
    assert_eq!(asked(Removed::Nothing), 1);
    assert!(asked(Removed::SharingFailures) > 1);
}
