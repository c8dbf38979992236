//! Network failures: TLS, proxies, names that do not resolve, redirects. The exit
//! code is 5, the error has the reason, the session stays and no secret is sent elsewhere.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::sandbox::{self, Account, BodyKind, Fault, Settings, TlsKind};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("network::untrusted_tls", untrusted_tls),
        test("network::old_tls", old_tls).needs(&[Part::Command("openssl")]),
        test("network::ca_certificates", ca),
        test("network::proxies", proxies),
        test(
            "network::loopback_http_uses_no_proxy",
            loopback_http_uses_no_proxy,
        ),
        test("network::names_and_ports", names_and_ports),
        test("network::ipv6_only", ipv6_only),
        test(
            "network::redirects_are_not_followed",
            redirects_are_not_followed,
        ),
        test("network::not_this_api", not_this_api),
        test("network::any_401_is_renewed_once", any_401_is_renewed_once),
        test("network::unresolvable_proxy", unresolvable_proxy),
        test("network::required_referer", required_referer),
        test("network::malformed_stored_token", malformed_stored_token),
        test("network::failure_on_a_later_page", failure_on_a_later_page),
    ]
}

fn with_tls(kind: TlsKind) -> World {
    let settings = Settings {
        tls: Some(kind),
        ..Settings::default()
    };
    let world = World::with_settings(Store::File, settings);
    std::fs::write(world.home().join("ca.pem"), world.api.ca_pem().unwrap()).unwrap();
    world
}

fn login(world: &World, env: &[(&str, &str)], more: &[&str]) -> Output {
    let url = world.api.base_url();
    let args = ["login", EMAIL, "--store=file", "--timeout", "5"];
    let address = match more.contains(&"--api-url") {
        true => &[][..],
        false => &["--api-url", &url],
    };
    let env = [&[("REMEMBERIZER_PASSWORD", PASSWORD)], env].concat();
    world.run_env(&env, &[&args, address, more].concat())
}

fn untrusted_tls() {
    let world = with_tls(TlsKind::Good);
    let ca = world.home().join("ca.pem").display().to_string();
    let unknown = login(&world, &[], &["--json"]).expect(5);
    assert_eq!(unknown.error_code(), "unavailable");
    let message = unknown.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("not trusted") && message.contains("roots in use: "),
        "{message}"
    );
    let hint = unknown.json()["error"]["hint"].to_string();
    assert!(hint.contains("--ca-cert FILE"), "{hint}");
    for (kind, word) in [(TlsKind::WrongName, "name"), (TlsKind::Expired, "expired")] {
        let world = with_tls(kind);
        let ca = world.home().join("ca.pem").display().to_string();
        let output = login(&world, &[], &["--ca-cert", &ca]).expect(5);
        assert!(
            output.stderr.contains(word) && output.stderr.contains("roots in use: "),
            "{kind:?}: {output:?}"
        );
        assert!(world.api.requests().is_empty());
    }
    for bad in ["/nonexistent.pem", "/etc/passwd"] {
        let output = login(&world, &[], &["--ca-cert", bad]).expect(2);
        assert!(output.stderr.contains(bad), "{output:?}");
    }
    login(&world, &[], &["--ca-cert", &ca]).expect(0);
}

/// Starts a server with only TLS 1.0 or 1.1, which Debian's OpenSSL still supports.
fn old_tls() {
    let world = with_tls(TlsKind::Good);
    let dir = world.home();
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=old", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-keyout", "old.key", "-out", "old.pem"])
        .current_dir(&dir)
        .output();
    assert!(made.unwrap().status.success());
    let ca = dir.join("old.pem").display().to_string();
    for version in ["-tls1", "-tls1_1", "-tls1_2"] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let address = format!("127.0.0.1:{}", port.unwrap().port());
        let mut server = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", version, "-accept", &address])
            .args(["-cert", "old.pem", "-key", "old.key"])
            .args(["-cipher", "ALL:@SECLEVEL=0"])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "openssl");
            std::thread::sleep(Duration::from_millis(20));
        }
        let url = format!("https://{address}/api/v1");
        let output = login(&world, &[], &["--api-url", &url, "--ca-cert", &ca]);
        drop(server.kill());
        drop(server.wait());
        let output = output.expect(5);
        let old = "offers no secure TLS version or cipher (TLS 1.2 or 1.3 is required)";
        let message = format!("error: TLS: {address} {old}; roots in use: the platform's and {ca}");
        // The server with TLS 1.2 is refused because it is not the API.
        assert_eq!(
            output.stderr.starts_with(&message),
            version != "-tls1_2",
            "{version}: {output:?}"
        );
        assert!(!output.stderr.contains(PASSWORD));
    }
}

fn ca() {
    let world = with_tls(TlsKind::Good);
    let ca = world.home().join("ca.pem").display().to_string();
    login(&world, &[("REMEMBERIZER_CA_CERT", &ca)], &[]).expect(0);
    world
        .run_env(&[("SSL_CERT_FILE", &ca)], &["whoami"])
        .expect(0);
    let output = world.run(&["whoami"]).expect(5);
    assert!(output.stderr.contains("not trusted"), "{output:?}");
    world.run(&["refresh", "--ca-cert", &ca]).expect(0);
}

/// A proxy that records its requests and answers `answer`.
fn start_proxy(answer: &'static str) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).unwrap_or(0);
            kept.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&piece[..read]));
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    (address, asked)
}

fn proxies() {
    let world = with_tls(TlsKind::Good);
    let (address, asked) = start_proxy(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<title>Blocked</title>",
    );
    let url = format!("http://bob:hunter2@{address}");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let output = login(&world, &[(name, &url)], &["-v"]).expect(5);
        assert!(!output.stderr.contains("hunter2"), "{output:?}");
        assert!(output.stderr.contains("proxy"), "{output:?}");
    }
    let heard = asked.lock().unwrap().clone();
    assert!(heard.starts_with("CONNECT 127.0.0.1:"), "{heard}");
    assert!(heard.contains("Basic "), "the proxy gets its credentials");
    assert!(!heard.contains(PASSWORD) && world.api.requests().is_empty());
    let ca = world.home().join("ca.pem").display().to_string();
    login(
        &world,
        &[("HTTPS_PROXY", &url), ("NO_PROXY", "127.0.0.1")],
        &["--ca-cert", &ca],
    )
    .expect(0);
    let output = login(
        &world,
        &[("HTTPS_PROXY", "http://127.0.0.1:1")],
        &["--ca-cert", &ca],
    )
    .expect(5);
    assert!(output.stderr.contains("proxy"), "{output:?}");
}

/// Plain http to this machine must not leave it through a proxy.
fn loopback_http_uses_no_proxy() {
    let world = World::new(Store::File);
    let (address, asked) = start_proxy("HTTP/1.1 200 OK\r\n\r\n");
    let url = format!("http://{address}");
    login(
        &world,
        &[
            ("HTTP_PROXY", &url),
            ("http_proxy", &url),
            ("ALL_PROXY", &url),
        ],
        &[],
    )
    .expect(0);
    assert_eq!(*asked.lock().unwrap(), "");
}

fn names_and_ports() {
    let world = World::new(Store::File);
    let url = "https://no-such-host.invalid/api/v1";
    let args = [
        "login",
        EMAIL,
        "--store=file",
        "--timeout",
        "5",
        "--api-url",
        url,
    ];
    let output = world
        .run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], &args)
        .expect(5);
    assert!(
        output
            .stderr
            .starts_with("error: cannot resolve no-such-host.invalid\n"),
        "{output:?}"
    );
}

fn ipv6_only() {
    let api = sandbox::start_on_loopback_v6(Settings::default());
    api.add_account(Account::new(EMAIL, PASSWORD));
    let world = World::new(Store::File);
    let url = api.base_url();
    assert!(url.starts_with("http://[::1]:"), "{url}");
    let args = ["login", EMAIL, "--store=file", "--api-url", &url];
    world
        .run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], &args)
        .expect(0);
    world.run(&["whoami"]).expect(0);
    world.run(&["logout"]).expect(0);
    assert!(!api.session_alive(EMAIL));
}

fn redirects_are_not_followed() {
    let world = World::new(Store::File);
    let other = World::new(Store::File);
    world.login();
    let before = world.entry();
    let elsewhere = format!("{}/account/", other.api.base_url());
    for place in [
        elsewhere.as_str(),
        "https://evil.test/x?token=1",
        "/api/v1/account",
    ] {
        for status in [301, 302, 307, 308] {
            for (path, args) in [
                ("/auth/custom-refresh/", &["refresh"][..]),
                ("/account/", &["whoami"]),
                ("/auth/verify-email/", &["verify", "123456"]),
            ] {
                world.api.fault(
                    Fault::answer(status, &[("Location", place)], "")
                        .at(path)
                        .times(3),
                );
                let is_permanent = matches!(status, 301 | 308);
                let output = world.run(args).expect(if is_permanent { 1 } else { 5 });
                let text = format!("error: the server answered {status}: a redirect to ");
                assert!(output.stderr.starts_with(&text), "{output:?}");
                assert!(output.stderr.contains("not followed"), "{output:?}");
                let asks = output.stderr.contains("check the API URL:");
                assert_eq!(asks, is_permanent, "{output:?}");
                world.api.set(|s| s.faults.clear());
            }
        }
    }
    assert_eq!(world.entry(), before);
    assert!(
        other.api.requests().is_empty(),
        "no other server received a request"
    );
}

/// A 404 that is not JSON is no reason to retry: the address is wrong.
fn not_this_api() {
    let world = World::new(Store::File);
    world.login();
    let before = world.entry();
    for (path, args) in [
        ("/account/", &["whoami", "--json"][..]),
        ("/auth/custom-refresh/", &["refresh", "--json"]),
        ("/auth/verify-email/", &["verify", "123456", "--json"]),
    ] {
        for body in [BodyKind::Html, BodyKind::Json] {
            world.api.fault(Fault::status(404, body).at(path));
            let output = world.run(args).expect(1);
            assert_eq!(output.error_code(), "failed");
            assert!(output.stdout.contains("check the API URL:"), "{output:?}");
        }
    }
    assert_eq!(world.entry(), before);
}

/// After a 401 with any body, the access token is renewed and the request repeated once.
fn any_401_is_renewed_once() {
    let world = World::new(Store::File);
    world.login();
    world.api.mail_code(EMAIL);
    let code = world.api.mailed_code(EMAIL).unwrap();
    let html = || Fault::status(401, BodyKind::Html);
    for (path, args) in [
        ("/account/", &["whoami"][..]),
        ("/me/", &["whoami", "--full"]),
        ("/me/", &["api", "me/"]),
        ("/auth/verify-email/", &["verify", &code]),
    ] {
        for fault in [html(), Fault::answer(401, &[], "")] {
            world.api.mail_code(EMAIL);
            let code = world.api.mailed_code(EMAIL).unwrap();
            let args: Vec<&str> = args
                .iter()
                .map(|arg| {
                    if arg.starts_with(|c: char| c.is_ascii_digit()) {
                        &code
                    } else {
                        *arg
                    }
                })
                .collect();
            world.api.clear_requests();
            world.api.fault(fault.at(path));
            world.run(&args).expect(0);
            assert_eq!(world.api.count("/auth/custom-refresh/"), 1, "{args:?}");
            assert_eq!(world.api.count(path), 2, "{args:?}");
        }
    }
    world.api.clear_requests();
    world.api.fault(html().at("/account/").times(9));
    let output = world.run(&["whoami", "--json"]).expect(4);
    assert_eq!(output.error_code(), "rejected");
    assert_eq!(
        output.json()["error"]["hint"],
        "check the API URL: rememberizer profile show"
    );
    assert_eq!(world.api.count("/account/"), 2);
    // An HTML response to an exchange does not end the session.
    world.api.set(|s| s.faults.clear());
    let before = world.entry();
    world.api.fault(html().at("/auth/custom-refresh/"));
    world.run(&["refresh"]).expect(5);
    assert_eq!(world.entry(), before);
}

fn unresolvable_proxy() {
    let world = with_tls(TlsKind::Good);
    let proxy = "http://bob:hunter2@no-such-proxy.invalid:3128";
    let output = login(&world, &[("HTTPS_PROXY", proxy)], &[]).expect(5);
    assert!(
        output.stderr.starts_with(
            "error: cannot resolve no-such-proxy.invalid, the proxy from HTTPS_PROXY (http://no-such-proxy.invalid:3128)\n"
        ),
        "{output:?}"
    );
}

/// A CSRF check is recognized, and satisfied by the profile's `referer`.
fn required_referer() {
    let world = World::new(Store::File);
    let url = "https://app.example.test/";
    world.login();
    let before = world.entry();
    world.api.set(|s| s.required_referer = Some(url.to_owned()));
    for args in [&["refresh"][..], &["verify", "123456"]] {
        let output = world.run(args).expect(4);
        assert!(output.stderr.contains("CSRF Failed"), "{output:?}");
        let hint =
            "hint: the server may want a Referer header: rememberizer profile set referer URL";
        assert!(output.stderr.contains(hint), "{output:?}");
    }
    assert_eq!(world.entry(), before, "nobody has looked at the token");
    let mut profiles = world.profiles();
    profiles["profiles"]["default"]["referer"] = url.into();
    std::fs::write(
        world.config_dir().join("profiles.json"),
        profiles.to_string(),
    )
    .unwrap();
    world.api.clear_requests();
    world.run(&["refresh"]).expect(0);
    world.run(&["whoami"]).expect(0);
    world.run(&["logout"]).expect(0);
    assert!(!world.api.session_alive(EMAIL));
    for request in world.api.requests() {
        let sent = (request.method == "POST").then_some(url);
        assert_eq!(request.header("referer"), sent, "{request:?}");
    }
}

/// The pages before a network failure are printed beside the error.
fn failure_on_a_later_page() {
    let world = World::new(Store::File);
    world.login();
    let json = [("Content-Type", "application/json")];
    let first = r#"{"results":[123456789012345678901234567890],"next":"?page=2"}"#;
    world
        .api
        .fault(Fault::answer(200, &json, first).at("/list/"));
    for _ in 0..3 {
        world.api.fault(Fault::close().at("/list/"));
    }
    let output = world
        .run(&["api", "list/", "--paginate", "--json"])
        .expect(5);
    assert_eq!(output.error_code(), "unavailable");
    let printed = output.json();
    assert_eq!(printed["pages"][0]["next"], "?page=2", "{printed}");
    assert_eq!(printed["status"], 200);
    // If no request fails, numbers keep all their digits.
    world
        .api
        .fault(Fault::answer(200, &json, first).at("/list/"));
    world
        .api
        .fault(Fault::answer(200, &json, "{\n\t\"id\": 1e2}").at("/list/"));
    let output = world
        .run(&["api", "list/", "--paginate", "--json"])
        .expect(0);
    assert!(
        output.stdout.contains("[123456789012345678901234567890]"),
        "{output:?}"
    );
    let last = "{  \"id\": 1e2}]}\n";
    assert!(output.stdout.ends_with(last), "{output:?}");
}

/// A stored token that cannot be sent is not a usage error.
fn malformed_stored_token() {
    let world = World::new(Store::File);
    world.login();
    world.api.clear_requests();
    world.edit_entry(|entry| entry["refresh_token"] = "a\u{e9}b".into());
    let output = world.run(&["refresh", "--json"]).expect(1);
    assert_eq!(output.error_code(), "failed");
    assert!(world.api.requests().is_empty());
}
