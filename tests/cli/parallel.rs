//! Many runs at the same time: what one profile does must not fail because of
//! what another profile does.

use std::process::Child;

use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Test, World, on_both_stores};

pub fn tests() -> Vec<Test> {
    on_both_stores("parallel::logins_of_50_profiles", logins_of_50_profiles)
        .into_iter()
        .chain(on_both_stores("parallel::doctors", doctors))
        .collect()
}

fn all_succeed(runs: Vec<Child>) {
    let outputs: Vec<_> = runs
        .into_iter()
        .map(|run| Output::from_process(run.wait_with_output().unwrap()))
        .collect();
    let failed: Vec<_> = outputs.iter().filter(|output| output.code != 0).collect();
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
}

fn logins_of_50_profiles(world: &World) {
    let password = world.home().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let password = password.to_str().unwrap();
    let url = world.api.base_url();
    let profiles: Vec<_> = (0..50).map(|i| format!("p{i}")).collect();
    let login = |profile: &String| {
        world.spawn(&[
            "login",
            EMAIL,
            "--password-file",
            password,
            "--api-url",
            &url,
            world.store_flag(),
            "--profile",
            profile,
        ])
    };
    all_succeed(profiles.iter().map(login).collect());
    let recorded = &world.profiles()["profiles"];
    assert_eq!(recorded.as_object().unwrap().len(), 50, "{recorded}");
    let mut sessions: Vec<_> = profiles
        .iter()
        .map(|profile| world.entry_of(profile).expect("a session"))
        .collect();
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 50, "each profile has a session of its own");
    for profile in &profiles {
        assert_eq!(world.entry_of(&format!("{profile}.probe")), None);
    }
}

fn doctors(world: &World) {
    world.login();
    world.login_as("other");
    let profile = |i: usize| ["default", "other"][i % 2];
    let runs = (0..24).map(|i| world.spawn(&["doctor", "--profile", profile(i)]));
    all_succeed(runs.collect());
}
