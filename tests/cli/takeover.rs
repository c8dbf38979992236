//! Signing in with Debian's Chromium on the sandbox's page. A script starts the browser without
//! a display. See also `takeover_ends` (how the window is closed), `takeover_pipe` (a browser
//! that misbehaves) and `takeover_cookies` (copied cookies).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{CookieExpiry, Settings, TlsKind};
use crate::support::world::{EMAIL, PASSWORD, set_mode};
use crate::support::{Output, Part, Screen, Store, Test, World, test};
use crate::takeover_cookies::expect_names;

pub const CHROMIUM: Part = Part::Command("chromium");

pub fn tests() -> Vec<Test> {
    let with_chromium = [
        test("takeover::max_age", || signs_in(CookieExpiry::Both)),
        test("takeover::session_cookie", || signs_in(CookieExpiry::None)),
        test("takeover::pair_of_other_names", pair_of_other_names),
        test("takeover::domain", domain),
        test("takeover::cookie_of_another_host", cookie_of_another_host),
        test("takeover::closed_without_a_cookie", closed_without_a_cookie),
        test("takeover::no_display", no_display),
        test(
            "takeover::files_of_the_user_are_unchanged",
            files_of_the_user_are_unchanged,
        ),
        test("takeover::hint_after_sign_in", hint_after_sign_in),
    ];
    let mut tests: Vec<_> = with_chromium
        .into_iter()
        .map(|test| test.needs(&[CHROMIUM]))
        .collect();
    let root = [CHROMIUM, Part::Root];
    tests.extend([
        test("takeover::no_sandbox_for_root", no_sandbox_for_root).needs(&root),
        test("takeover::policy", policy).needs(&root),
        test("takeover::no_browser", no_browser),
        test("takeover::unknown_page", unknown_page),
    ]);
    tests
}

/// Writes a program into the world's home.
pub fn write_script(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.home().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    set_mode(&path, 0o755);
    path
}

pub fn chromium(world: &World, flags: &str) -> PathBuf {
    write_script(
        world,
        "browser",
        &format!("exec chromium --headless=new --no-sandbox {flags} \"$@\""),
    )
}

/// Returns the URL of the sign-in page, which signs in by itself, with `more` added to its
/// query.
pub fn sign_in_url(world: &World, more: &str) -> String {
    format!("{}/sign-in?account={EMAIL}{more}", world.api.origin())
}

/// Returns the command for a login in the browser on the page `url`.
pub fn login(world: &World, browser: &Path, page: &str) -> Command {
    login_at(world, &world.api.base_url(), browser, page)
}

fn login_at(world: &World, api_url: &str, browser: &Path, page: &str) -> Command {
    let mut command = Command::new("env");
    world.set_environment(&mut command);
    command
        .arg("--default-signal=INT,TERM,HUP")
        .arg(World::program())
        .args(["login", "--browser", "-v", world.store_flag()])
        .args(["--api-url", api_url, "--sign-in-url", page])
        .env("REMEMBERIZER_BROWSER", browser)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn run(world: &World, browser: &Path, page: &str) -> Output {
    Output::from_process(login(world, browser, page).output().unwrap())
}

/// Returns the directories of temporary browser profiles.
pub fn directories(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.home().join(".cache"))
        .into_iter()
        .flatten();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("rememberizer-browser-"))
        .collect()
}

/// Returns the command lines of all processes that contain the path of the home directory.
pub fn command_lines(world: &World) -> Vec<String> {
    let home = world.home().display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&home))
        .collect()
}

/// Asserts that no browser and no temporary profile remains, after a short wait.
#[track_caller]
pub fn expect_gone(world: &World) {
    assert_eq!(directories(world), Vec::<PathBuf>::new());
    let wait = Instant::now();
    let browsers = || {
        let mut lines = command_lines(world);
        lines.retain(|line| line.contains("user-data-dir"));
        lines
    };
    while !browsers().is_empty() {
        assert!(wait.elapsed() < Duration::from_secs(2), "{:#?}", browsers());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the page has signed in.
pub fn wait_until_signed_in(world: &World) -> String {
    wait_for("the sign-in", || world.api.current_refresh(EMAIL))
}

/// Starts a login, and waits until it has printed this.
pub fn start(world: &World, login: &mut Command, text: &str) -> Child {
    let stderr = std::fs::File::create(world.home().join("stderr")).unwrap();
    let mut child = login.stderr(stderr).spawn().unwrap();
    wait_for(text, || {
        let has_ended = child.try_wait().unwrap().is_some();
        let printed = login_output(world);
        assert!(!has_ended || printed.contains(text), "{printed}");
        printed.contains(text).then_some(())
    });
    child
}

/// Returns the output of the login.
pub fn login_output(world: &World) -> String {
    std::fs::read_to_string(world.home().join("stderr")).unwrap()
}

fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let wait = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(wait.elapsed() < Duration::from_secs(40), "no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn send_signal(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill")
        .args([&format!("-{signal}"), &pid])
        .status();
    assert!(sent.unwrap().success());
}

fn signs_in(expiry: CookieExpiry) {
    let world = World::with_settings(
        Store::File,
        Settings {
            cookie_expiry: expiry,
            foreign_cookies: true,
            ..Settings::default()
        },
    );
    let output = run(&world, &chromium(&world, ""), &sign_in_url(&world, "")).expect(0);
    assert!(
        output.stderr.contains("signed in as ann@example.com"),
        "{output:?}"
    );
    expect_gone(&world);
    world.run(&["whoami"]).expect(0);
    assert_eq!(world.api.count("/auth/signin/"), 0);
    assert_eq!(world.api.exchanges(), 1, "exchanged at once, and once");
}

fn pair_of_other_names() {
    let world = World::with_cookie_names("app.access", "app.refresh");
    world.api.set(|s| s.foreign_cookies = true);
    let output = run(&world, &chromium(&world, ""), &sign_in_url(&world, "")).expect(0);
    expect_names(&world, &output);
    expect_gone(&world);
    world.run(&["refresh"]).expect(0);
}

/// Starts a proxy that connects to the sandbox for every host.
fn proxy_to(world: &World) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, to) = (listener.local_addr().unwrap(), world.api.address());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if !matches!(client.read(&mut byte), Ok(1)) {
                        return;
                    }
                    head.extend(byte);
                }
                let mut server = TcpStream::connect(to).unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut from, mut back) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || drop(std::io::copy(&mut back, &mut client)));
                drop(std::io::copy(&mut from, &mut server));
            });
        }
    });
    format!("http://{address}")
}

/// A cookie of a parent domain is used, and a cookie of the same name for a sibling domain is
/// not.
fn domain() {
    let world = World::with_settings(
        Store::File,
        Settings {
            tls: Some(TlsKind::Good),
            cookie_domain: Some("sandbox.test".into()),
            cookie_secure: true,
            ..Settings::default()
        },
    );
    let ca = world.home().join("ca.pem");
    std::fs::write(&ca, world.api.ca_pem().unwrap()).unwrap();
    let proxy = proxy_to(&world);
    let browser = chromium(
        &world,
        &format!("--ignore-certificate-errors --proxy-server={proxy}"),
    );
    let page = sign_in_url(&world, "").replace(&world.api.origin(), "https://api.sandbox.test");
    let page = format!("https://other.sandbox.test/sign-in/elsewhere?{page}");
    let mut command = login_at(&world, "https://api.sandbox.test/api/v1", &browser, &page);
    command.arg("--ca-cert").arg(ca).env("HTTPS_PROXY", &proxy);
    let output = Output::from_process(command.output().unwrap()).expect(0);
    assert!(output.stderr.contains("on api.sandbox.test"), "{output:?}");
    expect_gone(&world);
}

/// A cookie of the wanted name for another host is not used. The error names that host.
fn cookie_of_another_host() {
    let world = World::new(Store::File);
    let browser = chromium(&world, "");
    let elsewhere = format!(
        "http://localhost:{}/sign-in/elsewhere",
        world.api.address().port()
    );
    let both = format!("{elsewhere}?{}", sign_in_url(&world, ""));
    run(&world, &browser, &both).expect(0);
    let world = World::new(Store::File);
    let closing = format!("{}/sign-in?close", world.api.origin());
    let elsewhere = format!(
        "http://localhost:{}/sign-in/elsewhere",
        world.api.address().port()
    );
    let output = run(
        &world,
        &chromium(&world, ""),
        &format!("{elsewhere}?{closing}"),
    )
    .expect(1);
    assert!(
        output
            .stderr
            .contains("refresh_token for localhost, but none for 127.0.0.1"),
        "{output:?}"
    );
    assert!(!output.stderr.contains("=elsewhere"));
    assert_eq!(world.api.exchanges(), 0);
    expect_gone(&world);
}

fn closed_without_a_cookie() {
    let world = World::new(Store::File);
    let closing = format!("{}/sign-in?close", world.api.origin());
    let output = run(&world, &chromium(&world, ""), &closing).expect(3);
    assert!(
        output
            .stderr
            .contains("error: the browser was closed before you were signed in\n")
            && output.stderr.contains("--cookies"),
        "{output:?}"
    );
    expect_gone(&world);
    assert_eq!(world.entry(), None);
}

fn no_display() {
    let world = World::new(Store::File);
    let output = world
        .run(&["login", "--browser=chromium", "--store=file"])
        .expect(1);
    assert!(output.stderr.contains("no display") && output.stderr.contains("--cookies"));
    assert_eq!(directories(&world), Vec::<PathBuf>::new());
}

fn no_sandbox_for_root() {
    let world = World::new(Store::File);
    let chromium = write_script(&world, "browser", "exec chromium \"$@\"");
    let output = run(&world, &chromium, &sign_in_url(&world, "")).expect(1);
    assert!(
        output.stderr.contains("no-sandbox"),
        "the browser's own reason: {output:?}"
    );
    assert!(
        !output.stderr.contains("a browser window opens"),
        "nobody is sent off"
    );
    expect_gone(&world);
}

/// A policy on this machine forbids remote control.
fn policy() {
    let world = World::new(Store::File);
    let managed = world.home().join("chromium/policies/managed");
    std::fs::create_dir_all(&managed).unwrap();
    std::fs::write(
        managed.join("a.json"),
        r#"{"RemoteDebuggingAllowed": false}"#,
    )
    .unwrap();
    let text = r#"exec unshare -m sh -c '
        mount --bind "$HOME/chromium" /etc/chromium && exec chromium --headless=new --no-sandbox "$@"
    ' sh "$@""#;
    let output = run(
        &world,
        &write_script(&world, "browser", text),
        &sign_in_url(&world, ""),
    )
    .expect(1);
    let message =
        "it exited without a response: DevTools remote debugging is disallowed by the system admin";
    assert!(output.stderr.contains(message), "{output:?}");
    assert!(output.stderr.contains("login --cookies FILE"), "{output:?}");
    assert!(!output.stderr.contains("a browser window opens"));
    expect_gone(&world);
}

fn no_browser() {
    let world = World::new(Store::File);
    let empty = world.home().join("empty");
    let path = [("PATH", empty.to_str().unwrap()), ("DISPLAY", ":9")];
    for (flag, message) in [
        ("--browser", "no browser of the Chromium family was found"),
        ("--browser=chrome", "browser not found: chrome"),
        ("--browser=firefox", "signing in does not work with firefox"),
        ("--browser=/nowhere", "browser not found: /nowhere"),
    ] {
        let output = world
            .run_env(&path, &["login", flag, "--store=file"])
            .expect(1);
        assert!(output.stderr.contains(message), "{output:?}");
        assert!(output.stderr.contains("login --cookies FILE"), "{output:?}");
    }
}

fn unknown_page() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    let at = ["--store=file", "--api-url", &url];
    for (command, key) in [("login", "sign_in_url"), ("signup", "sign_up_url")] {
        let output = world
            .run(&[&[command, "--browser=/bin/true"], &at[..]].concat())
            .expect(2);
        assert!(
            output.stderr.contains(&format!("profile set {key} URL")),
            "{output:?}"
        );
    }
    for bad in [
        "http://a.test/",
        "file:///etc/passwd",
        "javascript:1",
        "--proxy-server=x",
    ] {
        let flag = format!("--sign-in-url={bad}");
        world
            .run(&["login", "--browser=/bin/true", &flag])
            .expect(2);
    }
}

/// Returns the names and modification times of the files in a directory.
fn list_files(dir: &Path) -> Vec<String> {
    let output = Command::new("find")
        .arg(dir)
        .args(["-printf", "%p %s %T@ %C@\n"])
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// During and after the sign-in, only the private directory contains the token, and the user's
/// own files are unchanged.
fn files_of_the_user_are_unchanged() {
    let world = World::new(Store::Keyring);
    let own = world.home().join(".config/chromium");
    std::fs::create_dir_all(own.join("Default")).unwrap();
    std::fs::write(own.join("Default/Cookies"), "the user's own").unwrap();
    std::fs::write(own.join("Local State"), "{}").unwrap();
    let before = list_files(&own);
    let browser = chromium(&world, "");
    let text = format!(
        "env >> \"$HOME/browser-env\"\n{}",
        std::fs::read_to_string(&browser).unwrap()
    );
    let browser = write_script(&world, "browser", &text);
    let mut command = login(&world, &browser, &sign_in_url(&world, "&stay"));
    let login = command
        .env("REMEMBERIZER_PASSWORD", "hunter2")
        .spawn()
        .unwrap();
    let token = wait_until_signed_in(&world);
    let [dir] = &directories(&world)[..] else {
        panic!("one directory");
    };
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let lines = command_lines(&world);
    assert!(lines.iter().any(|line| line.contains("user-data-dir")));
    assert!(!lines.iter().any(|line| line.contains(&token)));
    let files_with_token = || {
        let found = Command::new("grep")
            .args(["-rlaF", &token])
            .arg(world.home())
            .output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };
    for file in files_with_token().lines() {
        assert!(Path::new(file).starts_with(dir), "{file}");
    }
    // Send SIGINT only to the browser, which has the effect of closing its window.
    let leader = Command::new("pgrep")
        .args(["-f", "-o", &format!("user-data-dir={}", dir.display())])
        .output();
    let leader = String::from_utf8(leader.unwrap().stdout).unwrap();
    Command::new("kill")
        .args(["-INT", leader.trim()])
        .status()
        .unwrap();
    let output = Output::from_process(login.wait_with_output().unwrap()).expect(0);
    expect_gone(&world);
    assert!(!output.stderr.contains(&token) && !output.stdout.contains(&token));
    assert_eq!(files_with_token(), "");
    assert!(
        !std::fs::read_to_string(world.home().join("browser-env"))
            .unwrap()
            .contains("hunter2")
    );
    assert_eq!(list_files(&own), before);
    let bus = world.bus.as_ref().unwrap();
    for application in ["chrome", "chromium"] {
        let items = bus
            .command("secret-tool")
            .args(["search", "--all", "application", application])
            .output();
        assert_eq!(String::from_utf8_lossy(&items.unwrap().stdout), "");
    }
    assert!(world.entry().is_some());
}

/// The user is told that they are signed in once the browser has written its cookies to disk.
/// It does that when the user opens a page of another host.
fn hint_after_sign_in() {
    let world = World::new(Store::File);
    let port = world.api.address().port();
    let many = format!("http://localhost:{port}/sign-in?many");
    let page = sign_in_url(&world, &format!("&then={many}"));
    let mut login = login(&world, &chromium(&world, ""), &page);
    let text = "you are signed in: close the window now";
    let mut login = start(&world, &mut login, text);
    send_signal("TERM", &login);
    assert_eq!(login.wait().unwrap().code(), Some(143));
    expect_gone(&world);
}
