//! The pipe to the browser, with a simulated browser that misbehaves: a script that gets the
//! same arguments and descriptors.

use std::time::{Duration, Instant};

use crate::sandbox::Settings;
use crate::support::world::EMAIL;
use crate::support::{Output, Store, Test, World, test};
use crate::takeover::{expect_gone, login, login_output, start, write_script};
use crate::takeover_cookies::expect_names;

pub fn tests() -> Vec<Test> {
    vec![
        test("takeover_pipe::unusable", unusable),
        test("takeover_pipe::pair_of_other_names", pair_of_other_names),
        test("takeover_pipe::hangs", hangs),
        test("takeover_pipe::unusual_responses", unusual_responses),
        test("takeover_pipe::hint_while_writing", hint_while_writing),
        test("takeover_pipe::does_not_exit", does_not_exit),
    ]
}

/// Signs in with a simulated browser. In the script, `$TOKEN` is a valid refresh token.
fn run(world: &World, headless: &str, plain: &str) -> Output {
    let token = world.api.begin_session(EMAIL).refresh.unwrap();
    let text = format!(
        "TOKEN={token}\n\
         cookies() {{ printf '{{\"id\":1,\"result\":{{\"cookies\":[{{\"name\":\"refresh_token\",\"value\":\"%s\",\"domain\":\"127.0.0.1\",\"session\":true}}]}}}}\\0' $TOKEN >&4; }}\n\
         case \"$*\" in *remote-debugging-pipe*) {headless} ;; *) {plain} ;; esac"
    );
    let browser = write_script(world, "fake", &text);
    let mut command = login(world, &browser, "https://a.test/");
    let output = Output::from_process(command.output().unwrap());
    assert!(!output.stderr.contains(&token), "{output:?}");
    expect_gone(world);
    output
}

/// The error comes before the browser window opens.
fn unusable() {
    let world = World::new(Store::File);
    for (headless, message) in [
        ("exit 3", "it exited without a response\n"),
        (
            "echo 'policy forbids it' >&2; exit 3",
            "it exited without a response: policy forbids it",
        ),
        (
            "exec 3<&- 4>&-; echo closed >&2; sleep 60",
            "it exited without a response",
        ),
        (
            "printf '{\"id\":1,\"error\":{\"message\":\"disallowed\"}}\\0' >&4; sleep 60",
            "it refused the request: {\"message\":\"disallowed\"}",
        ),
        (
            "head -c 20000000 /dev/zero | tr '\\0' x >&4; sleep 60",
            "longer than 8 MB",
        ),
    ] {
        let started = Instant::now();
        let output = run(&world, headless, "exit 0").expect(1);
        assert!(
            output.stderr.contains("cannot be used: ") && output.stderr.contains(message),
            "{output:?}"
        );
        assert!(output.stderr.contains("--cookies"), "{output:?}");
        assert!(
            !output.stderr.contains("a browser window opens"),
            "{output:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(10), "{headless}");
    }
}

/// The browser has no cookie of the configured name, and one pair of other names.
fn pair_of_other_names() {
    let world = World::with_cookie_names("app.access", "app.refresh");
    let answer = r#"printf '{"id":1,"result":{"cookies":[
        {"name":"app.access","value":"a","domain":"127.0.0.1"},
        {"name":"app.refresh","value":"%s","domain":"127.0.0.1"}]}}\0' $TOKEN >&4; cat <&3 >/dev/null"#;
    let output = run(&world, answer, "exit 0").expect(0);
    expect_names(&world, &output);
    world.run(&["refresh"]).expect(0);
}

fn hangs() {
    let world = World::new(Store::File);
    let output = run(&world, "sleep 60", "exit 0").expect(1);
    assert!(
        output.stderr.contains("it did not respond within 15 s"),
        "{output:?}"
    );
}

fn unusual_responses() {
    let world = World::new(Store::File);
    for (headless, code) in [
        ("cookies; cat <&3 >/dev/null", 0),
        // Invalid messages and events come before the response.
        (
            "printf 'junk\\0\\0{\"method\":\"x\"}\\0[1]\\0{\"id\":2}\\0' >&4; cookies; cat <&3 >/dev/null",
            0,
        ),
        // A message arrives in parts, and its zero byte together with the next message.
        (
            "cookies 4>&1 | while read -r line; do :; done; cookies 4>all; for i in 1 2 3; do dd bs=40 count=1 2>/dev/null >&4; sleep 0.1; done <all; tail -c +121 all >&4; sleep 0.1; printf 'more' >&4; cat <&3 >/dev/null",
            0,
        ),
        // There is an invalid message, and then nothing.
        (
            "printf '{\"id\":1,\"result\":{}}\\0' >&4; cat <&3 >/dev/null",
            3,
        ),
        (
            "printf '{\"id\":1,\"result\":{\"cookies\":[7,null,{}]}}\\0' >&4; cat <&3 >/dev/null",
            3,
        ),
        // The response is incomplete.
        ("printf '{\"id\":1' >&4", 1),
    ] {
        let output = run(&world, headless, "exit 0");
        assert_eq!(output.code, code, "{headless}: {output:#?}");
        if code == 0 {
            world.run(&["logout"]).expect(0);
        }
    }
}

/// The cookies are not searched while their database is being written.
fn hint_while_writing() {
    let world = World::new(Store::File);
    let token = world.api.begin_session(EMAIL).refresh.unwrap();
    let text = format!(
        r#"for word in "$@"; do case $word in --user-data-dir=*) dir=${{word#*=}}/Default ;; esac; done
        case "$*" in *remote-debugging-pipe*)
            [ -e "$dir/Cookies" ] && ! [ -s "$dir/Cookies-journal" ] && cookie='
                {{"name":"refresh_token","value":"{token}","domain":"127.0.0.1"}}'
            printf '{{"id":1,"result":{{"cookies":[%s]}}}}\0' "$cookie" >&4
            cat <&3 >/dev/null
            exit ;;
        esac
        echo old pages >"$dir/Cookies-journal"
        echo new pages >"$dir/Cookies"
        sleep 1
        : >"$dir/Cookies-journal"
        until [ -e "$HOME/close" ]; do sleep 0.1; done"#
    );
    let mut login = login(
        &world,
        &write_script(&world, "fake", &text),
        "https://a.test/",
    );
    let mut login = start(
        &world,
        &mut login,
        "you are signed in: close the window now",
    );
    std::fs::write(world.home().join("close"), "").unwrap();
    assert!(login.wait().unwrap().success(), "{}", login_output(&world));
    expect_gone(&world);
}

/// A browser that responds and then does not exit is killed.
fn does_not_exit() {
    let world = World::new(Store::File);
    let started = Instant::now();
    run(&world, "trap '' INT TERM; cookies; sleep 60", "exit 0").expect(0);
    assert!(started.elapsed() < Duration::from_secs(20));
}
