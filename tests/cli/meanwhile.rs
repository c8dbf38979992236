//! Other programs write at the same time: another version of this program, or an editor in the
//! profiles file. Their changes are not lost.

use std::time::Duration;

use crate::sandbox::{Delay, RotationPolicy};
use crate::support::world::set_mode;
use crate::support::{Output, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test(
            "meanwhile::another_version_wrote_the_entry",
            another_version_wrote_the_entry,
        ),
        test("meanwhile::another_version_renews", another_version_renews),
        test("meanwhile::profiles_file_replaced", profiles_file_replaced),
    ]
}

fn another_version_wrote_the_entry() {
    let world = World::new(Store::File);
    world.login();
    world.edit_entry(|entry| entry["version"] = 2.into());
    let before = world.entry();
    let output = world.run(&["refresh"]).expect(6);
    assert_eq!(
        output.stderr,
        "error: the stored session was written by a newer version of rememberizer\n\
         hint: use that version, or log out with it first\n"
    );
    assert_eq!(world.entry(), before);
    assert!(world.api.requests().is_empty());
}

/// A version of the program without locks stores another session while our token is being
/// exchanged, and the server then refuses our token.
fn another_version_renews() {
    let world = World::new(Store::File);
    world.login();
    let slow = Delay::before(Duration::from_millis(1_500));
    world.api.set(|s| {
        s.delays = vec![slow.at("/auth/custom-refresh/")];
        s.rotation = RotationPolicy::Blacklist;
    });
    let first = world.entry_json();
    let ours = world.spawn(&["refresh"]);
    let started = std::time::Instant::now();
    while !world.entry_json()["exchange_began"].is_number() {
        assert!(started.elapsed() < Duration::from_secs(10), "under way");
        std::thread::sleep(Duration::from_millis(10));
    }
    let spent = first["refresh_token"].as_str().unwrap();
    let renewed = world.api.exchange(spent).unwrap();
    let mut theirs = first.clone();
    theirs["refresh_token"] = renewed.refresh.unwrap().into();
    theirs["access_token"] = renewed.access.into();
    world.set_entry(&theirs.to_string());
    let output = Output::from_process(ours.wait_with_output().unwrap()).expect(0);
    assert_eq!(world.api.count("/auth/custom-refresh/"), 1, "{output:?}");
    assert_eq!(world.entry_json(), theirs, "theirs is not dropped");
    world.api.set(|s| s.delays.clear());
    world.run(&["refresh"]).expect(0);
}

/// Another program writes the profiles file while ours waits for the server. Its change stays.
fn profiles_file_replaced() {
    let world = World::new(Store::File);
    world.login();
    let file = world.config_dir().join("profiles.json");
    for (args, path, code) in [
        (&["refresh"][..], "/auth/custom-refresh/", 0),
        (&["logout"], "/auth/custom-logout/", 0),
    ] {
        let slow = Delay::before(Duration::from_millis(500));
        world.api.set(|s| s.delays = vec![slow.at(path)]);
        let run = world.spawn_until_request(args, path);
        let mut profiles = world.profiles();
        profiles["profiles"]["other"] = serde_json::json!({"login": "bob", "colour": "red"});
        std::fs::write(file.with_extension("new"), profiles.to_string()).unwrap();
        set_mode(&file.with_extension("new"), 0o600);
        std::fs::rename(file.with_extension("new"), &file).unwrap();
        Output::from_process(run.wait_with_output().unwrap()).expect(code);
        let now = world.profiles();
        assert_eq!(now["profiles"]["other"], profiles["profiles"]["other"]);
        world.api.set(|s| s.delays.clear());
    }
    assert_eq!(world.profiles()["profiles"]["default"]["signed_in"], false);
    // An incomplete profiles file is an error that names the file. The file is not changed.
    let half = "{\"version\": 1, \"profiles\": {\"default\"";
    std::fs::write(&file, half).unwrap();
    let output = world.run(&["refresh"]).expect(1);
    assert!(output.stderr.contains("profiles.json:1:"), "{output:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), half);
}
