//! What holds in every scenario, and what each of the protocol's rules prevents.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::machine::{Kind, Removed, Scenario, session, token_of};
use super::scenarios::{End, SCENARIOS, calm, renew, run, scenario, timing, with_shared};
use super::simulator::Simulation;
use super::{Environment, Timing};
use crate::model::{Session, Timestamp};
use crate::store::EndedMark;

/// Seeds that the usual run of the tests tries per scenario.
const SEEDS: u64 = 150;

fn hold(seeds: u64) {
    for (name, settings) in SCENARIOS {
        for seed in 0..seeds {
            let (broken, _, ends) = run(seed, &scenario(settings), Removed::Nothing, &[timing()]);
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
        let (_, exchanges, ends) = run(seed, &calm(), Removed::Nothing, &[timing()]);
        assert_eq!(exchanges, 1, "seed {seed}: {ends:?}");
    }
}

fn many() -> Scenario {
    calm().with("machines=64")
}

#[test]
fn many_machines_exchange_once() {
    let (broken, exchanges, ends) = run(1, &many(), Removed::Nothing, &[timing()]);
    assert_eq!(
        (broken.len(), exchanges, ends.len()),
        (0, 1, 64),
        "{ends:?}"
    );
}

fn named(name: &str) -> Scenario {
    let found = SCENARIOS.into_iter().find(|(other, _)| *other == name);
    scenario(found.expect("a scenario").1)
}

/// Whether a removed rule breaks one of `properties` within some runs of a scenario.
fn breaks(removed: Removed, name: &str, timings: &[Timing], properties: &[&str]) {
    let scenario = named(name);
    let broken = (0..3000).find_map(|seed| {
        let (broken, ..) = run(seed, &scenario, removed, timings);
        broken
            .into_iter()
            .find(|property| properties.contains(property))
    });
    assert!(
        broken.is_some(),
        "{removed:?} can be removed without breaking anything in {name}"
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
        lease_duration: Duration::from_secs(12),
        exchange_timeout: Duration::from_millis(3500),
        margin: Duration::from_secs(2),
        ..timing()
    };
    let first_exchange = |removed| {
        let mut sim = Simulation::new(1, calm());
        sim.lease_to_nobody(Duration::from_secs(30));
        sim.add(0.0, removed, short, move |machine| {
            renew(machine, short, removed, &session("t1"));
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

/// The lease is put, and no answer comes. Its holder must not wait for itself.
#[test]
fn taking_an_unanswered_put_for_undone() {
    let first_exchange = |removed| {
        let mut sim = Simulation::new(1, calm());
        // Of the put: only the get begins at the start.
        sim.lose_answers(0.0, 1);
        sim.add(0.0, removed, timing(), move |machine| {
            renew(machine, timing(), removed, &session("t1"));
        });
        sim.run_until(100.0);
        sim.finish();
        (sim.first_exchange, sim.puts)
    };
    let (looked_up, puts) = first_exchange(Removed::Nothing);
    let (guessed, _) = first_exchange(Removed::TakingUnansweredForUndone);
    assert!(looked_up.is_some_and(|at| at < 15.0), "{looked_up:?}");
    assert!(guessed.is_none_or(|at| at > 30.0), "{guessed:?}");
    // After 10 s what is left of the lease is too short for an exchange and its body.
    assert_eq!(
        puts,
        [Kind::Lease, Kind::Release, Kind::Lease, Kind::Result]
    );
}

/// How long after its return a store that was away for 20 to 30 s gets the result, at most.
fn longest_delay(timing: Timing) -> f64 {
    let delay = |seed: u32| {
        let back = 20.0 + f64::from(seed % 10);
        let scenario = Scenario::default();
        let mut sim = Simulation::new(seed.into(), scenario);
        // The lease is there after 90 ms. The result may be, in a fast run.
        sim.set_outage(0.1, back);
        sim.add(0.0, Removed::Nothing, timing, move |machine| {
            renew(machine, timing, Removed::Nothing, &session("t1"));
        });
        sim.run_until(100.0);
        sim.finish();
        sim.stored_at["t2"] - back
    };
    (0..50).map(delay).fold(0.0, f64::max)
}

#[test]
fn long_attempts_to_save_come_late() {
    assert!(longest_delay(timing()) < 5.0);
    let long = Timing {
        save_attempt_timeout: Duration::from_secs(10),
        ..timing()
    };
    assert!(longest_delay(long) > 6.0);
}

/// Machines whose clocks are hours off use a token while it lasts by the server's
/// clock. Returns how many exchanges there were, when the first one was, and
/// when the ended token was last used.
fn read_by_many(seed: u64, removed: Removed) -> (u32, f64, f64) {
    let scenario = calm().with("skew=7200");
    let mut sim = Simulation::new(seed, scenario);
    let used = Arc::new(Mutex::new(0.0));
    for _ in 0..6 {
        let start = sim.random.within(200.0, 500.0);
        let used = Arc::clone(&used);
        sim.add(start, removed, timing(), move |machine| {
            let is_fresh = |session: &Session| {
                let access = session.access.as_ref().expect("an access token");
                access
                    .expiry
                    .outlasts(Duration::from_secs(30), machine.now())
            };
            let deadline = machine.watcher_clock() + Duration::from_secs(15);
            let timeout = timing().request_timeout;
            let read = with_shared(machine, timing(), |shared| {
                let (_, entry) = shared.read_entry(deadline, timeout, 1).expect("an entry");
                let read = entry.and_then(|entry| entry.session).expect("a session");
                if !is_fresh(&read) {
                    shared.renew(Some(&read), &is_fresh).expect("a renewal");
                }
                read
            });
            if is_fresh(&read) && token_of(&read) == "t1" {
                *used.lock().unwrap() = machine.clocks.real();
            }
        });
    }
    sim.run_until(900.0);
    sim.finish();
    let used = *used.lock().unwrap();
    (
        sim.exchanges,
        sim.first_exchange.expect("an exchange"),
        used,
    )
}

#[test]
fn without_the_readers_own_skew() {
    let is_right = |(exchanges, first, used): (u32, f64, f64)| {
        exchanges == 1 && first >= 270.0 && used < 300.0
    };
    let all = |removed| (0..20).all(|seed| is_right(read_by_many(seed, removed)));
    assert!(all(Removed::Nothing));
    assert!(!all(Removed::OwnSkew));
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

/// One machine whose exchange takes some seconds, and what `meanwhile` does to it.
fn slow_exchange(meanwhile: impl FnOnce(&mut Simulation)) -> Simulation {
    let scenario = Scenario::new("slow_server=1");
    let mut sim = Simulation::new(1, scenario);
    sim.add(0.0, Removed::Nothing, timing(), |machine| {
        renew(machine, timing(), Removed::Nothing, &session("t1"));
    });
    sim.run_until(0.5);
    assert!(sim.stored().expect("an entry").sharing.lease.is_some());
    meanwhile(&mut sim);
    sim.run_until(15.0);
    sim.finish();
    sim
}

/// The holder of the new tokens puts them over a lease on the spent one, or over a
/// mark that it ended.
#[test]
fn a_result_replaces_what_others_made_of_the_spent_token() {
    let held = slow_exchange(|sim| sim.lease_to_nobody(Duration::from_secs(30)));
    assert!(held.stored_at.contains_key("t2"));
    let ended = slow_exchange(|sim| {
        sim.edit(|sharing| {
            sharing.lease = None;
            sharing.ended = Some(EndedMark {
                message: "spent".into(),
                at: Timestamp::from_millis(0),
            });
        });
    });
    assert!(ended.stored_at.contains_key("t2"));
}

/// The holder was paused for longer than it tries to save, and the store does not
/// answer at first.
#[test]
fn a_run_that_was_paused_has_some_attempts_left() {
    let scenario = Scenario::new("slow_server=1");
    let mut sim = Simulation::new(1, scenario);
    let end = Arc::new(Mutex::new(None));
    let ended = Arc::clone(&end);
    let id = sim.add(0.0, Removed::Nothing, timing(), move |machine| {
        let end = renew(machine, timing(), Removed::Nothing, &session("t1"));
        *ended.lock().unwrap() = Some(end);
    });
    // The answers are those to a get, the lease, the exchange, and the result.
    sim.pause(id, 4, 700.0);
    sim.lose_answers(0.5, 2);
    sim.run_until(900.0);
    sim.finish();
    assert_eq!(
        *end.lock().unwrap(),
        Some(End::RenewedByThisRun("t2".to_owned()))
    );
}

/// What the server issues for a session that is no longer there is ended as well.
#[test]
fn new_tokens_of_a_session_that_is_gone_are_revoked() {
    let gone = slow_exchange(|sim| sim.edit(|sharing| sharing.gone = true));
    assert!(gone.exchanges == 1 && gone.revoked.contains(&1));
    let replaced = slow_exchange(|sim| sim.edit(|sharing| sharing.lineage = "two".into()));
    assert!(replaced.exchanges == 1 && replaced.revoked.contains(&1));
}

/// A run that began before another one failed takes that for its answer, also if it
/// never saw that one's lease.
#[test]
fn a_failure_is_shared_with_those_who_did_not_watch_it() {
    let scenario = Scenario::new("server_down=1");
    let mut sim = Simulation::new(1, scenario);
    let ends = Arc::new(Mutex::new(Vec::new()));
    for start in [0.0, 20.0] {
        let ends = Arc::clone(&ends);
        sim.add(start, Removed::Nothing, timing(), move |machine| {
            let end = renew(machine, timing(), Removed::Nothing, &session("t1"));
            ends.lock().unwrap().push(end);
        });
    }
    sim.run_until(100.0);
    sim.finish();
    assert_eq!(*ends.lock().unwrap(), [End::NoAnswer, End::OtherRunFailed]);
}

/// The outcome of another run that holds the lease counts, not the refusal of this one.
#[test]
fn a_refusal_under_the_lease_of_another_is_not_the_end() {
    let refused = slow_exchange(|sim| {
        sim.revoked.insert(1);
        sim.lease_to_nobody(Duration::from_secs(30));
    });
    let entry = refused.stored().expect("an entry");
    assert!(entry.sharing.ended.is_none() && entry.sharing.lease.is_some());
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
    let scenario = named(name);
    (0..400)
        .filter(|seed| {
            let (_, _, ends) = run(*seed, &scenario, Removed::Nothing, &[timing]);
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
    let scenario = many().with("server_down=1");
    let asked = |removed| {
        let (_, _, ends) = run(1, &scenario, removed, &[timing()]);
        assert_eq!(ends.len(), 64);
        ends.iter().filter(|end| **end == End::NoAnswer).count()
    };
    assert_eq!(asked(Removed::Nothing), 1);
    assert!(asked(Removed::SharingFailures) > 1);
}
