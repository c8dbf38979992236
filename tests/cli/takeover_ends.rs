//! How the browser window is closed, or the run ends. No browser and no temporary profile
//! remains.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Output, Part, Screen, Store, Test, World, test};
use crate::takeover::{
    CHROMIUM, chromium, command_lines, directories, expect_gone, login, login_output, run,
    send_signal, sign_in_url, start, wait_until_signed_in, write_script,
};

pub fn tests() -> Vec<Test> {
    let tmux = Part::Command("tmux");
    vec![
        test("takeover_ends::crashed", crashed).needs(&[CHROMIUM]),
        test("takeover_ends::signal", signal).needs(&[CHROMIUM]),
        test(
            "takeover_ends::profile_of_a_killed_run_is_removed",
            profile_of_a_killed_run_is_removed,
        )
        .needs(&[CHROMIUM]),
        test("takeover_ends::at_a_terminal", at_a_terminal).needs(&[CHROMIUM, tmux]),
        test(
            "takeover_ends::page_asks_before_closing",
            page_asks_before_closing,
        )
        .needs(&[tmux]),
        test("takeover_ends::panic", panic).needs(&[Part::Command("cc")]),
        test("takeover_ends::time_limit", time_limit).needs(&[Part::Command("faketime")]),
    ]
}

fn crashed() {
    let world = World::new(Store::File);
    let text =
        "case $* in *pipe*) exec chromium --headless=new --no-sandbox \"$@\" ;; esac; kill -9 $$";
    let output = run(
        &world,
        &write_script(&world, "browser", text),
        "https://a.test/",
    );
    // Without a display, the error names the display as the likely reason. With a display, it
    // reports the crash.
    assert!(
        output.clone().expect(1).stderr.contains("no display"),
        "{output:?}"
    );
    let mut command = login(&world, &world.home().join("browser"), "https://a.test/");
    let output = Output::from_process(command.env("DISPLAY", ":9").output().unwrap()).expect(3);
    assert!(output.stderr.contains("crashed (signal: 9"), "{output:?}");
    expect_gone(&world);
}

fn signal() {
    let world = World::new(Store::File);
    let browser = chromium(&world, "");
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let started = login(&world, &browser, &sign_in_url(&world, "&stay"))
            .spawn()
            .unwrap();
        let signed_in = wait_until_signed_in(&world);
        assert_eq!(directories(&world).len(), 1);
        send_signal(signal, &started);
        let sent = Instant::now();
        let output = Output::from_process(started.wait_with_output().unwrap()).expect(code);
        assert!(
            sent.elapsed() < Duration::from_secs(3),
            "{:?}",
            sent.elapsed()
        );
        assert!(
            output.stderr.ends_with("error: interrupted\n"),
            "{output:?}"
        );
        assert!(!output.stderr.contains(&signed_in));
        expect_gone(&world);
        world.api.revoke_all();
    }
    assert_eq!(world.entry(), None);
}

/// The next login, or `doctor`, removes the browser profile of a run that was killed with `kill
/// -9`.
fn profile_of_a_killed_run_is_removed() {
    let world = World::new(Store::File);
    let browser = chromium(&world, "");
    let leave = || {
        let mut killed = login(&world, &browser, &sign_in_url(&world, "&stay"))
            .spawn()
            .unwrap();
        wait_until_signed_in(&world);
        killed.kill().unwrap();
        killed.wait().unwrap();
        world.api.revoke_all();
        assert_eq!(directories(&world).len(), 1);
        assert!(!command_lines(&world).is_empty(), "the browser lives on");
    };
    leave();
    let output = world.run(&["doctor"]);
    assert!(
        output.stdout.contains("removed 1 browser profile"),
        "{output:?}"
    );
    expect_gone(&world);
    leave();
    run(&world, &browser, &sign_in_url(&world, "")).expect(0);
    expect_gone(&world);
    // The profile of a run that is still alive stays.
    world.api.revoke_all();
    let open = login(&world, &browser, &sign_in_url(&world, "&stay"))
        .spawn()
        .unwrap();
    wait_until_signed_in(&world);
    world.run(&["doctor"]);
    assert_eq!(directories(&world).len(), 1);
    send_signal("TERM", &open);
    drop(open.wait_with_output());
    expect_gone(&world);
}

/// Enter interrupts the browser once, and it saves its cookies. After Ctrl-C, nothing remains.
fn at_a_terminal() {
    let world = World::new(Store::File);
    let browser = chromium(&world, "");
    let screen = Screen::new(&world);
    screen.run(&format!(
        "export REMEMBERIZER_BROWSER={}",
        browser.display()
    ));
    let command = format!(
        "rememberizer login --browser --sign-in-url '{}'",
        sign_in_url(&world, "&stay")
    );
    screen.start(&command);
    screen.wait_for("or press Enter here");
    wait_until_signed_in(&world);
    screen.press("Enter");
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("signed in as ann@example.com"), "{shown}");
    expect_gone(&world);
    screen.clear();
    world.api.revoke_all();
    screen.start(&command);
    wait_until_signed_in(&world);
    screen.press("C-c");
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 130, "{shown}");
    expect_gone(&world);
    screen.assert_terminal_is_restored();
}

/// Writes a simulated browser with two processes that ignores SIGINT, has no cookies, and exits
/// when the file `close` exists.
fn write_fake_browser(world: &World) -> PathBuf {
    let close = world.home().join("close").display().to_string();
    let text = format!(
        "unset LD_PRELOAD; case $* in *pipe*) printf '{{\"id\":1,\"result\":{{\"cookies\":[]}}}}\\0' >&4; cat <&3 >/dev/null; exit ;; esac\n\
         trap '' INT; until [ -e {close} ]; do sleep 0.1; done &\n\
         until [ -e {close} ]; do sleep 0.1; done"
    );
    write_script(world, "fake", &text)
}

/// If a page asks whether to leave it, the browser is interrupted only once, and the user is
/// told that it is still open.
fn page_asks_before_closing() {
    let world = World::new(Store::File);
    let screen = Screen::new(&world);
    screen.start(&format!(
        "rememberizer login --browser={} --sign-in-url https://a.test/",
        write_fake_browser(&world).display()
    ));
    screen.wait_for("or press Enter here");
    screen.press("Enter");
    screen.wait_for("the browser is still open: a page may ask whether to leave it");
    screen.press("Enter");
    std::fs::write(world.home().join("close"), "").unwrap();
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 3, "{shown}");
    assert_eq!(shown.matches("is still open").count(), 1, "{shown}");
    expect_gone(&world);
}

/// The clock cannot be read, so the standard library panics.
fn panic() {
    let world = World::new(Store::File);
    let (source, library) = (world.home().join("clock.c"), world.home().join("clock.so"));
    let text = r#"#define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <stdlib.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t clock, struct timespec *now) {
            int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
            if (unlink(getenv("BREAK_CLOCK")) != 0) return real(clock, now);
            errno = EPERM;
            return -1;
        }"#;
    std::fs::write(&source, text).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    assert!(built.unwrap().success());
    let file = world.home().join("break");
    let mut command = login(&world, &write_fake_browser(&world), "https://a.test/");
    command.env("LD_PRELOAD", library).env("BREAK_CLOCK", &file);
    let mut child = start(&world, &mut command, "sign in there");
    assert_eq!(directories(&world).len(), 1);
    std::fs::write(&file, "").unwrap();
    let status = child.wait().unwrap();
    assert!(!matches!(status.code(), Some(..=100)), "{status}");
    assert!(
        login_output(&world).contains("panicked at"),
        "{}",
        login_output(&world)
    );
    expect_gone(&world);
}

/// The user has ten minutes to sign in.
fn time_limit() {
    let world = World::new(Store::File);
    let clock = world.home().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    let login = login(&world, &write_fake_browser(&world), "https://a.test/");
    let mut command = Command::new("faketime");
    command
        .args(["-f", "+0", "env", "-u", "FAKETIME", "FAKETIME_NO_CACHE=1"])
        .arg(login.get_program())
        .args(login.get_args())
        .env_clear()
        .envs(
            login
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("FAKETIME_TIMESTAMP_FILE", &clock);
    let mut child = start(&world, &mut command, "sign in there");
    for (passed, is_over) in [("+590s", false), ("+601s", true)] {
        // Replace the file atomically, since an empty file would be read as another time.
        std::fs::write(world.home().join("next"), passed).unwrap();
        std::fs::rename(world.home().join("next"), &clock).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert!(is_over || child.try_wait().unwrap().is_none(), "too early");
    }
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let text =
        "error: you did not sign in within 10 minutes\nhint: rememberizer login --browser; or ";
    assert!(
        login_output(&world).contains(text),
        "{}",
        login_output(&world)
    );
    expect_gone(&world);
}
