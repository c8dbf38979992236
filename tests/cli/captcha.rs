//! Captchas: told before anything is consumed, asked last, solved in a real
//! browser on a page that gives itself to nobody else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::sandbox::{self, Fault, Settings, TlsKind};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("captcha::nobody_is_there", nobody_is_there),
        test("captcha::a_response_by_flag", a_response_by_flag),
        test(
            "captcha::browser_wants_a_site_key",
            browser_wants_a_site_key,
        ),
        test("captcha::page_gives_itself_to_nobody_else", page_is_closed),
        test("captcha::in_a_browser", in_a_browser).needs(&[Part::Command("chromium")]),
        test("captcha::gives_up_after_two_minutes", gives_up).long(),
    ]
}

fn world() -> World {
    let settings = Settings {
        captcha: vec!["solved".into()],
        ..Settings::default()
    };
    World::with(Store::File, settings)
}

fn login(world: &World, more: &[&str]) -> Output {
    let url = world.api.base_url();
    let args = ["login", EMAIL, "--store=file", "--api-url", &url];
    world.run_env(
        &[("REMEMBERIZER_PASSWORD", PASSWORD)],
        &[&args, more].concat(),
    )
}

fn nobody_is_there() {
    let world = world();
    let output = login(&world, &[]).expect(7);
    assert!(
        output
            .stderr
            .starts_with("error: the server wants a captcha response"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("--refresh-token-stdin"),
        "{output:?}"
    );
    assert_eq!(
        login(&world, &["--json"]).expect(7).error_code(),
        "captcha_required"
    );
    // A profile that has a site key is known to want one: the server is not even asked.
    world.run(&["profile", "set", "site_key", "KEY"]).expect(0);
    world.api.clear_requests();
    login(&world, &[]).expect(7);
    login(&world, &["--captcha-browser", "--no-input"]).expect(7);
    assert!(world.api.requests().is_empty());
    assert_eq!(world.entry(), None);
}

fn a_response_by_flag() {
    let world = world();
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

fn browser_wants_a_site_key() {
    let world = world();
    let output = login(&world, &["--captcha-browser"]).expect(2);
    assert_eq!(
        output.stderr,
        "error: the profile has no site key to show in a browser\n\
         hint: find data-sitekey in the source of the service's sign-in page, then rememberizer profile set site_key KEY\n"
    );
    assert!(world.api.requests().is_empty());
}

/// Starts a login that waits for a browser; the program, and the page's address.
fn waiting(world: &World, script: &str) -> (Child, String, String) {
    world
        .run(&["profile", "set", "site_key", "KEY-\"<1>"])
        .expect(0);
    let bin = world.home().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let opener = bin.join("xdg-open");
    std::fs::write(&opener, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = world.api.base_url();
    let mut command = world.command(&[
        "login",
        EMAIL,
        "--store=file",
        "--api-url",
        &url,
        "--captcha-browser",
        "--quiet",
    ]);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut child = command
        .env("PATH", path)
        .env("REMEMBERIZER_PASSWORD", PASSWORD)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut told).unwrap();
    stderr.read_line(&mut told).unwrap();
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    let address = told
        .split("http://")
        .nth(1)
        .unwrap_or_else(|| panic!("{told}"));
    let address = address.lines().next().unwrap().to_owned();
    let (host, path) = address.split_once('/').unwrap();
    (child, host.to_owned(), format!("/{path}"))
}

fn ask(host: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer));
    answer
}

fn page_is_closed() {
    let world = world();
    let (child, host, path) = waiting(
        &world,
        "env > \"$HOME/browser-env\"; echo \"$1\" > \"$HOME/opened\"",
    );
    assert!(path.len() > 32, "nobody guesses {path}");
    let get = |path: &str, host_header: &str| {
        ask(
            &host,
            &format!("GET {path} HTTP/1.1\r\nHost: {host_header}\r\n\r\n"),
        )
    };
    let page = get(&path, &host);
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("data-sitekey=\"KEY-&quot;&lt;1&gt;\""),
        "{page}"
    );
    assert!(page.contains(
        "Content-Security-Policy: default-src 'none'; script-src https://www.google.com/recaptcha/"
    ));
    assert!(!page.contains("'unsafe-inline'; script") && page.matches("<script").count() == 1);
    assert!(
        page.contains("allows"),
        "says that site keys are bound to domains"
    );
    for (path, host_header, status) in [
        ("/", host.as_str(), "404"),
        (&format!("{path}x"), &host, "404"),
        (&path, "evil.test", "403"),
        (
            &path,
            &format!("evil.test:{}", host.split(':').nth(1).unwrap()),
            "403",
        ),
    ] {
        assert!(
            get(path, host_header).starts_with(&format!("HTTP/1.1 {status}")),
            "{path} {host_header}"
        );
    }
    let post = |origin: &str, body: &str| {
        let length = body.len();
        ask(
            &host,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            ),
        )
    };
    let good = format!("Origin: http://{host}\r\n");
    let solved = "g-recaptcha-response=solved";
    for origin in ["", "Origin: null\r\n", "Origin: http://evil.test\r\n"] {
        assert!(
            post(origin, solved).starts_with("HTTP/1.1 403"),
            "{origin:?}"
        );
    }
    assert!(post(&good, "g-recaptcha-response=").contains("solve the captcha first"));
    assert!(ask(&host, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(
        ask(
            &host,
            &format!("PUT {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
        )
        .starts_with("HTTP/1.1 405")
    );
    // An idle connection, such as browsers open ahead of need, holds nobody up.
    let _idle = TcpStream::connect(&host).unwrap();
    assert!(post(&good, solved).contains("Done"));
    Output::of(child.wait_with_output().unwrap()).expect(0);
    assert!(TcpStream::connect(&host).is_err(), "closed after use");
    assert_eq!(
        world.api.requests().last().unwrap().json()["captcha"],
        "solved"
    );
    let opened = std::fs::read_to_string(world.home().join("opened")).unwrap();
    assert_eq!(opened.trim(), format!("http://{host}{path}"));
    let env = std::fs::read_to_string(world.home().join("browser-env")).unwrap();
    assert!(!env.contains(PASSWORD), "the browser is told no password");
}

/// A stand-in for Google's script: it fills the form as the widget would once
/// a person has solved the captcha, and the person presses the button.
const SCRIPT: &str = "window.addEventListener('load', () => {
  const widget = document.querySelector('.g-recaptcha');
  if (widget.dataset.sitekey !== 'KEY-\"<1>') return;
  const response = document.createElement('textarea');
  response.name = 'g-recaptcha-response';
  response.value = 'solved';
  widget.appendChild(response);
  document.querySelector('button').click();
});";

fn in_a_browser() {
    let world = world();
    let google = sandbox::start_on_loopback(Settings {
        tls: Some(TlsKind::Good),
        ..Settings::default()
    });
    let length = SCRIPT.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    google.fault(Fault::raw(format!("{head}{SCRIPT}").into_bytes()).times(4));
    let port = google.address().port();
    let chromium = format!(
        "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
         --ignore-certificate-errors --user-data-dir=\"$HOME/chromium\" --remote-debugging-port=0 \
         --host-resolver-rules='MAP www.google.com:443 127.0.0.1:{port}' \"$1\" >\"$HOME/chromium.log\" 2>&1 & echo $! > \"$HOME/chromium.pid\""
    );
    let (child, _, _) = waiting(&world, &chromium);
    let output = Output::of(child.wait_with_output().unwrap());
    if let Ok(pid) = std::fs::read_to_string(world.home().join("chromium.pid")) {
        drop(Command::new("kill").arg(pid.trim()).status());
        std::thread::sleep(Duration::from_millis(300));
    }
    output.expect(0);
    assert_eq!(
        world.api.requests().last().unwrap().json()["captcha"],
        "solved"
    );
    assert!(world.entry().is_some());
}

fn gives_up() {
    let world = world();
    let (child, _, _) = waiting(&world, "true");
    let output = Output::of(child.wait_with_output().unwrap());
    assert_eq!(output.code, 7);
    assert!(world.api.requests().is_empty());
}
