//! Logins with cookies that the user copied from a browser.

use std::process::Command;

use crate::sandbox::Settings;
use crate::support::world::EMAIL;
use crate::support::{Output, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("takeover_cookies::all_formats", all_formats),
        test("takeover_cookies::pair_of_other_names", pair_of_other_names),
        test("takeover_cookies::refused", refused),
    ]
}

/// Returns the cookies in each supported format.
fn forms(world: &World) -> [String; 8] {
    let (url, host) = (world.api.base_url(), "127.0.0.1");
    let line = |name: &str, value: &str| {
        format!("#HttpOnly_{host}\tFALSE\t/\tFALSE\t1900000000\t{name}\t{value}\n")
    };
    let object = |name: &str, value: &str| {
        format!("{{\"domain\":\"{host}\",\"name\":\"{name}\",\"value\":\"{value}\"}}")
    };
    let (lines, objects) = (
        line("access_token", "ACCESS") + &line("refresh_token", "TOKEN"),
        object("access_token", "ACCESS") + "," + &object("refresh_token", "TOKEN"),
    );
    let pairs = "access_token=ACCESS; refresh_token=TOKEN";
    [
        format!("# Netscape HTTP Cookie File\n\n{lines}"),
        format!("Cookie: sessionid=other; {pairs}; csrftoken=x\r\n"),
        format!("[{objects}]"),
        format!("{{\"cookies\":[{objects}],\"origins\":[]}}"),
        format!("curl '{url}/me/' \\\n  -H 'accept: */*' \\\n  -b $'a=it\\'s; {pairs}'"),
        format!("curl '{url}/me/' -X GET -H 'User-Agent: x' -H 'Cookie: {pairs}'"),
        format!(
            "curl ^\"{url}/me/^\" ^\r\n  -H ^\"accept: */*^\" ^\r\n  -b ^\"a=^%^41; {pairs}^\""
        ),
        format!("curl ^\"{url}/me/^\" -X GET -H ^\"Cookie: {pairs}^\""),
    ]
}

/// Logs in with each text, alternately from a file and from stdin. The cookie values must not
/// be printed.
fn log_in(world: &World, number: usize, form: &str) -> Output {
    let tokens = world.api.begin_session(EMAIL);
    let (access, refresh) = (tokens.access, tokens.refresh.unwrap());
    let text = form.replace("ACCESS", &access).replace("TOKEN", &refresh);
    let file = world.home().join("cookies");
    let url = world.api.base_url();
    let login = |from| {
        [
            "login",
            "--cookies",
            from,
            "--store=file",
            "--api-url",
            &url,
            "-v",
        ]
    };
    let output = if number.is_multiple_of(2) {
        std::fs::write(&file, &text).unwrap();
        let output = world.run(&login(file.to_str().unwrap()));
        std::fs::remove_file(&file).unwrap();
        output
    } else {
        world.run_stdin(text.as_bytes(), &login("-"))
    }
    .expect(0);
    assert!(
        output.stderr.contains("signed in as ann@example.com"),
        "{form}: {output:?}"
    );
    assert!(!output.stderr.contains(&refresh) && !output.stderr.contains(&access));
    // The server has replaced the token, so check that no old value was stored either.
    let kept = Command::new("grep")
        .args(["-rlaF", "-e", &refresh, "-e", &access, "-e", "sessionid"])
        .arg(world.home())
        .output();
    assert_eq!(String::from_utf8_lossy(&kept.unwrap().stdout), "");
    output
}

fn all_formats() {
    let world = World::new(Store::File);
    for (number, form) in forms(&world).iter().enumerate() {
        log_in(&world, number, form);
        world.run(&["logout"]).expect(0);
    }
}

/// If there are no cookies of the configured names, the only pair of access and refresh cookies
/// is used, and the profile records its names.
fn pair_of_other_names() {
    for number in 0..8 {
        let world = World::with_cookie_names("app.access", "app.refresh");
        let form = forms(&world)[number].clone();
        let form = form
            .replace("access_token", "app.access")
            .replace("refresh_token", "app.refresh");
        let output = log_in(&world, number, &form);
        expect_names(&world, &output);
        world.run(&["refresh"]).expect(0);
    }
}

/// The profile records the names of the pair, and a message names them.
pub fn expect_names(world: &World, output: &Output) {
    let text = "the server's cookies are named app.access and app.refresh; the profile now contains these names\n";
    assert!(output.stderr.contains(text), "{output:?}");
    let shown = world.run(&["profile", "show", "--json"]).expect(0).json();
    assert_eq!(
        (&shown["access_cookie"], &shown["refresh_cookie"]),
        (&"app.access".into(), &"app.refresh".into())
    );
}

fn refused() {
    let world = World::new(Store::File);
    let url = world.api.base_url();
    for (text, printed) in [
        (
            "Cookie: other=VALUE_1; access_token=VALUE_2",
            "the text has no cookie named refresh_token",
        ),
        (
            "curl https://evil.test/ -b 'refresh_token=VALUE_1'",
            "the text has a cookie named refresh_token for evil.test, but none for 127.0.0.1",
        ),
        ("VALUE_1.VALUE_2", "unknown cookie format"),
        (
            "refresh_token=VALUE_1 \u{e9}",
            "has a value that cannot be sent",
        ),
    ] {
        let args = [
            "login",
            "--cookies",
            "-",
            "--store=file",
            "--api-url",
            &url,
            "--json",
        ];
        let output = world.run_stdin(text.as_bytes(), &args).expect(2);
        assert!(output.stdout.contains(printed), "{output:?}");
        assert!(
            !output.stdout.contains("VALUE") && !output.stderr.contains("VALUE"),
            "{output:?}"
        );
    }
    // Only one source of a session can be given.
    for more in [
        "ann",
        "--browser",
        "--refresh-token-stdin",
        "--password-stdin",
        "--captcha=x",
    ] {
        world.run(&["login", "--cookies", "-", more]).expect(2);
    }
}
