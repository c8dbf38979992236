//! Captchas: the error names the alternatives, and a captcha response is sent only once.

use crate::sandbox::Settings;
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("captcha::script_is_not_prompted", script_is_not_prompted),
        test("captcha::response_in_a_flag", response_in_a_flag),
        test(
            "captcha::a_refused_login_keeps_its_store",
            a_refused_login_keeps_its_store,
        ),
    ]
}

fn captcha_world() -> World {
    let settings = Settings {
        captcha: vec!["solved".into()],
        ..Settings::default()
    };
    World::with_settings(Store::File, settings)
}

fn login(world: &World, more: &[&str]) -> Output {
    let url = world.api.base_url();
    let args = ["login", EMAIL, "--store=file", "--api-url", &url];
    world.run_env(
        &[("REMEMBERIZER_PASSWORD", PASSWORD)],
        &[&args, more].concat(),
    )
}

fn script_is_not_prompted() {
    let world = captcha_world();
    let output = login(&world, &[]).expect(7);
    assert!(
        output
            .stderr
            .starts_with("error: the server requires a captcha response"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("login --browser; or")
            && output.stderr.contains("login --cookies FILE"),
        "{output:?}"
    );
    let url = world.api.base_url();
    let signup = [
        "signup",
        "--email=new@example.com",
        "--name",
        "New",
        "--api-url",
        &url,
        "--store=file",
    ];
    let output = world.run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], &signup);
    assert!(
        output
            .expect(7)
            .stderr
            .contains("hint: use a browser window: rememberizer signup --browser;"),
    );
    assert_eq!(
        login(&world, &["--json"]).expect(7).error_code(),
        "captcha_required"
    );
    assert_eq!(world.profiles()["profiles"]["default"]["captcha"], true);
    // Scripts are never prompted. The server may not require a captcha any more.
    world.api.set(|settings| settings.captcha.clear());
    assert_eq!(world.entry(), None);
    login(&world, &[]).expect(0);
}

fn response_in_a_flag() {
    let world = captcha_world();
    login(&world, &["--captcha", "wrong"]).expect(7);
    login(&world, &["--captcha", "solved"]).expect(0);
    let sent: Vec<_> = world
        .api
        .requests()
        .iter()
        .filter(|seen| seen.path == "/auth/signin/")
        .map(|seen| seen.json()["captcha"].clone())
        .collect();
    assert_eq!(sent, ["wrong", "solved"], "each was sent once");
    login(&world, &["--captcha", ""]).expect(2);
}

/// The next login uses the store of a login that was refused. A store that may hold a
/// session stays in the profile.
fn a_refused_login_keeps_its_store() {
    let world = captcha_world();
    let store = || world.profiles()["profiles"]["work"]["store"].clone();
    login(&world, &["-p", "work"]).expect(7);
    assert_eq!(store(), "file");
    let args = ["login", EMAIL, "-p", "work", "--captcha", "solved"];
    let mut command = world.command(&args);
    command
        .env("REMEMBERIZER_PASSWORD", PASSWORD)
        .env_remove("REMEMBERIZER_STORE");
    Output::from_process(command.output().unwrap()).expect(0);
    assert!(world.entry_of("work").is_some());
    let url = world.api.base_url();
    let login_elsewhere = |code| {
        world
            .run_env(
                &[("REMEMBERIZER_PASSWORD", PASSWORD)],
                &[
                    "login",
                    EMAIL,
                    "-p",
                    "work",
                    "--api-url",
                    &url,
                    "--store",
                    "helper:cat",
                ],
            )
            .expect(code)
    };
    login_elsewhere(6);
    assert_eq!(store(), "file");
}
