//! `api` and `exec`: the requests that `api` sends, and what both commands print or pass on.

use crate::sandbox::{BodyKind, Fault, RetryAfter};
use crate::support::world::EMAIL;
use crate::support::{Part, Screen, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("api::body_goes_to_stdout", body_goes_to_stdout),
        test("api::methods_fields_headers", methods_fields_headers),
        test("api::statuses_are_outcomes", statuses_are_outcomes),
        test("api::one_refresh_on_a_401", one_refresh_on_a_401),
        test("api::never_leaves_the_server", never_leaves_the_server),
        test("api::follows_pages", follows_pages),
        test("api::bodies_are_whole", bodies_are_whole),
        test("api::bodies_at_a_terminal", bodies_at_a_terminal).needs(&[Part::Command("tmux")]),
        test("api::tells_how_long_to_wait", tells_how_long_to_wait),
        test("api::another_server", another_server),
        test("exec::passes_token_and_status", passes_token_and_status),
        test("exec::missing_command", missing_command),
    ]
}

fn signed_in() -> World {
    let world = World::new(Store::File);
    world.login();
    world
}

fn body_goes_to_stdout() {
    let world = signed_in();
    let plain = world.run(&["api", "account/"]).expect(0);
    let body: serde_json::Value = serde_json::from_str(&plain.stdout).unwrap();
    assert_eq!(body["email"], EMAIL);
    assert_eq!(plain.stderr, "");
    let seen = world.api.requests();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("GET", "/account/")
    );
    assert!(seen[0].bearer.is_some() && seen[0].cookies.is_empty());
    let json = world.run(&["api", "/account/", "--json"]).expect(0).json();
    assert_eq!(
        (&json["status"], &json["body"]["email"]),
        (&200.into(), &EMAIL.into())
    );
    let shown = world.run(&["api", "account/", "-i"]).expect(0).stdout;
    assert!(
        shown.starts_with("HTTP 200\n") && shown.contains("content-type: application/json"),
        "{shown}"
    );
}

fn methods_fields_headers() {
    let world = signed_in();
    world
        .run(&[
            "api",
            "things/",
            "-f",
            "a=1",
            "-f",
            "b=x y",
            "-H",
            "X-Note: yes",
        ])
        .expect(4);
    world
        .run(&["api", "things/", "-X", "get", "-f", "b=x y&z"])
        .expect(4);
    world
        .run_stdin(
            b"{\"raw\":true}",
            &["api", "things/", "-X", "PUT", "--input", "-"],
        )
        .expect(4);
    let seen = world.api.requests();
    assert_eq!(seen[0].method, "POST");
    assert_eq!(seen[0].body, br#"{"a":"1","b":"x y"}"#);
    assert_eq!(seen[0].header("x-note"), Some("yes"));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[1].path, "/things/?b=x+y%26z");
    assert_eq!(
        (seen[2].method.as_str(), &seen[2].body[..]),
        ("PUT", &b"{\"raw\":true}"[..])
    );
    let refused = world
        .run(&["api", "x/", "-H", "Authorization: mine"])
        .expect(2);
    assert!(
        refused.stderr.contains("Authorization"),
        "{}",
        refused.stderr
    );
}

fn statuses_are_outcomes() {
    let world = signed_in();
    for (status, code) in [(404, 4), (403, 4), (429, 8), (500, 5)] {
        world
            .api
            .fault(Fault::status(status, BodyKind::Json).at("/me/"));
        let output = world.run(&["api", "me/"]).expect(code);
        assert!(
            output.stdout.starts_with('{'),
            "the body is shown: {output:?}"
        );
        let error = format!("error: the server answered {status}\n");
        assert!(output.stderr.starts_with(&error), "{output:?}");
    }
    world
        .api
        .fault(Fault::status(404, BodyKind::Json).at("/me/"));
    let json = world.run(&["api", "me/", "--json"]).expect(4).json();
    assert_eq!(
        (&json["error"]["code"], &json["status"]),
        (&"rejected".into(), &404.into())
    );
}

fn one_refresh_on_a_401() {
    let world = signed_in();
    world
        .api
        .fault(Fault::status(401, BodyKind::Json).at("/me/"));
    world.run(&["api", "me/"]).expect(0);
    assert_eq!(world.api.count("/auth/custom-refresh/"), 1);
    world.api.clear_requests();
    world
        .api
        .fault(Fault::status(401, BodyKind::Json).at("/me/").times(2));
    world.run(&["api", "me/"]).expect(4);
    assert_eq!(world.api.count("/auth/custom-refresh/"), 1);
    assert_eq!(world.api.count("/me/"), 2);
    assert!(world.entry().is_some(), "the session stays");
}

fn never_leaves_the_server() {
    let world = signed_in();
    for path in [
        "https://evil.test/x",
        "//evil.test/x/../..",
        "../../../x",
        "http://127.0.0.1:1/api/v1/me/",
    ] {
        let output = world.run(&["api", path]);
        assert!(output.code == 2 || output.code == 4, "{path}: {output:?}");
    }
    // One of the four paths is an unusual form of the base URL.
    assert!(
        world.api.requests().len() <= 1,
        "{:?}",
        world.api.requests()
    );
}

fn follows_pages() {
    let world = signed_in();
    let next = format!("{}/list/?page=2", world.api.base_url());
    let json = [("Content-Type", "application/json")];
    let first = format!(r#"{{"results":[1],"next":"{next}"}}"#);
    let two = |status: u16, second: &str| {
        let page = |status, body: &str| Fault::answer(status, &json, body).at("/list/");
        world.api.fault(page(200, &first));
        world.api.fault(page(status, second));
    };
    two(200, r#"{"results":[2],"next":null}"#);
    let output = world.run(&["api", "list/", "--paginate"]).expect(0);
    assert_eq!(output.stdout.lines().count(), 2, "{output:?}");
    assert!(output.stdout.contains("[1]") && output.stdout.contains("[2]"));
    // With --json, the output is one object, whatever the number and the end of the pages.
    let paginate = ["api", "list/", "--paginate", "--json"];
    two(200, r#"{"results":[2],"next":null}"#);
    let all = world.run(&paginate).expect(0).json();
    assert_eq!(all["status"], 200);
    assert_eq!(all["pages"][1]["results"][0], 2, "{all}");
    two(404, r#"{"detail":"Not found."}"#);
    let output = world.run(&paginate).expect(4);
    assert_eq!(output.error_code(), "rejected");
    let some = output.json();
    assert_eq!(
        (&some["status"], &some["pages"][0]["results"][0]),
        (&404.into(), &1.into())
    );
    // Each page ends with a line break, which is added if the page has none.
    two(200, "{\"results\":\"\u{1b}\\n\",\r\n\"x\":1}\r\n");
    let output = world.run(&["api", "list/", "--paginate"]).expect(0);
    assert_eq!(
        output.stdout,
        format!("{first}\n{{\"results\":\"\u{1b}\\n\",\r\n\"x\":1}}\r\n")
    );
    // The link to the next page may be an absolute path, or only a query.
    let path = next.split_once("//").unwrap().1;
    let path = &path[path.find('/').unwrap()..];
    for link in [path, "?page=2"] {
        let first = format!(r#"{{"results":[1],"next":"{link}"}}"#);
        world.api.clear_requests();
        world
            .api
            .fault(Fault::answer(200, &json, first).at("/list/"));
        world
            .api
            .fault(Fault::answer(200, &json, r#"{"next":null}"#).at("/list/"));
        world.run(&["api", "list/", "--paginate"]).expect(0);
        assert_eq!(world.api.requests()[1].path, "/list/?page=2", "{link}");
    }
    // If a page links to another server, the pages before it are printed.
    let away = r#"{"results":[7],"next":"https://evil.test/list/"}"#;
    let page = || Fault::answer(200, &json, away).at("/list/");
    world.api.fault(page());
    let output = world.run(&["api", "list/", "--paginate"]).expect(1);
    assert!(
        output.stdout.contains("[7]") && output.stderr.contains("evil.test"),
        "{output:?}"
    );
    world.api.fault(page());
    let output = world.run(&paginate).expect(1);
    assert_eq!(output.error_code(), "failed");
    assert_eq!(output.json()["pages"][0]["results"][0], 7);
}

/// Returns a body with control characters, escape sequences and long strings.
fn strange_body() -> String {
    let line = "x".repeat(20_000);
    format!("{{\"a\":\"\u{202e}\u{9b}2J\u{2028}Zoë\",\r\n\"b\\u001b[31m\":[\"{line}\\n{line}\"]}}")
}

fn bodies_are_whole() {
    let world = signed_in();
    let json = [("Content-Type", "application/json")];
    let body = strange_body();
    let serve = |body: &[u8]| world.api.fault(Fault::answer(200, &json, body).at("/x/"));
    let raw = b"\x1b[2J\xff\0 no JSON\r\n\n";
    for body in [body.as_bytes(), raw, b""] {
        serve(body);
        let output = world.command(&["api", "x/"]).output().unwrap();
        assert_eq!(output.stdout, body);
    }
    serve(body.as_bytes());
    let printed = world.run(&["api", "x/", "--json"]).expect(0);
    let whole: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(printed.json()["body"] == whole, "every string is whole");
    let dangerous = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202e}' | '\u{2028}');
    assert!(!printed.stdout.contains(dangerous) && printed.stdout.contains("Zoë"));
    serve(raw);
    let printed = world.run(&["api", "x/", "--json"]).expect(0).json();
    assert_eq!(printed["body"], "\u{1b}[2J\u{fffd}\0 no JSON\r\n\n");
    // Other commands must treat the data in the same way.
    world
        .api
        .fault(Fault::answer(200, &json, body.as_bytes()).at("/me/"));
    let printed = world.run(&["whoami", "--full", "--json"]).expect(0);
    assert!(printed.json()["account"] == whole);
    assert!(!printed.stdout.contains(dangerous));
}

fn bodies_at_a_terminal() {
    let world = signed_in();
    let json = [("Content-Type", "application/json")];
    let body = "{\"a\":\"\u{1b}[2J\u{202e}\",\r\n\t\"b\":\"\u{7f}\"}";
    world.api.fault(Fault::answer(200, &json, body).at("/x/"));
    let screen = Screen::new(&world);
    let (_, shown) = screen.run("rememberizer api x/");
    assert!(
        shown.ends_with("\n{\"a\":\"^[[2J\\u{202e}\",\n        \"b\":\"^?\"}"),
        "{shown}"
    );
}

fn tells_how_long_to_wait() {
    let world = signed_in();
    let text = r#"{"detail":"Request was throttled. Expected available in 60 seconds."}"#;
    let json = [("Content-Type", "application/json")];
    for (fault, wait) in [
        (
            Fault::throttle(RetryAfter::Seconds(42), BodyKind::Json),
            42.into(),
        ),
        (
            Fault::throttle(RetryAfter::Date(90), BodyKind::Html),
            90.into(),
        ),
        (Fault::answer(429, &json, text), 60.into()),
        (
            Fault::throttle(RetryAfter::None, BodyKind::Json),
            serde_json::Value::Null,
        ),
    ] {
        world.api.fault(fault.at("/me/"));
        let output = world.run(&["api", "me/", "--json"]).expect(8).json();
        assert_eq!(output["error"]["retry_after"], wait, "{output}");
    }
}

/// A permanent redirect or a 404 that is not JSON comes from another server.
fn another_server() {
    let world = signed_in();
    let moved = Fault::answer(301, &[("Location", "https://example.test/")], "");
    for fault in [moved, Fault::status(404, BodyKind::Html)] {
        world.api.fault(fault.at("/me/"));
        let output = world.run(&["api", "me/"]).expect(1);
        assert!(
            output
                .stderr
                .contains("\nhint: check the path and the API URL:")
        );
    }
}

fn passes_token_and_status() {
    let world = signed_in();
    let script = "printf '%s|%s|%s' \"$API\" \"$REMEMBERIZER_PASSWORD\" \"$REMEMBERIZER_REFRESH_TOKEN\"; exit 7";
    let output = world
        .run_env(
            &[("REMEMBERIZER_PASSWORD", "hunter2")],
            &["exec", "--env", "API", "--", "sh", "-c", script],
        )
        .expect(7);
    let token = output.stdout.strip_suffix("||").expect("no other secret");
    assert!(world.api.access_works(token));
    let output = world.run(&["exec", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.code, 143);
}

fn missing_command() {
    let world = signed_in();
    let output = world.run(&["exec", "--", "no-such-command"]).expect(1);
    assert!(
        output
            .stderr
            .starts_with("error: cannot run no-such-command: "),
        "{output:?}"
    );
}
