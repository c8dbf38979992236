//! Measures how long commands take, as whole processes. Each command is run in turns with
//! the command that it is compared with (A B A B), since a ratio depends less on the
//! machine and its load than a time.
//!
//! `cargo bench` builds the programs and prints one row per task: the median of the
//! ratios, their middle half, the limit, and MISS if the median exceeds the limit. The exit
//! code does not depend on the limits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "a bench"
)]

#[path = "../../tests/cli/support/bus.rs"]
mod bus;
mod run;
#[path = "../../tests/sandbox/server/mod.rs"]
mod sandbox;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use run::{Bench, EMAIL, PASSWORD, PROGRAM, Run, STATIC_PROGRAM};
use sandbox::{Account, Delay, RotationPolicy, Settings, TlsKind};

fn main() {
    // `cargo test --benches` runs this without `--bench`: it only checks that it compiles.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let bench = Bench::new();
    println!(
        "{:<46} {:>8} {:>15} {:>7}",
        "task", "ratio", "middle half", "limit"
    );
    bench.noise();
    bench.startup();
    bench.tokens();
    bench.static_build();
    bench.exchanges();
    bench.parallel_runs();
    bench.many_profiles();
    bench.size();
    bench.instructions();
    bench.noise();
}

impl Bench {
    fn noise(&self) {
        self.row(
            "hello against hello (noise)",
            &self.hello(),
            &self.hello(),
            1.05,
        );
    }

    fn startup(&self) {
        self.row("--version", &self.run(&["--version"]), &self.hello(), 1.5);
        self.row("--help", &self.run(&["--help"]), &self.hello(), 1.5);
        self.row("a completion", &self.completion("lo"), &self.hello(), 1.5);
    }

    fn completion(&self, word: &str) -> Run<'_> {
        let mut words = vec!["--", "rememberizer"];
        if word.len() > 2 {
            words.extend(["whoami", "--profile"]);
        }
        words.push(word);
        self.run(&words).env("REMEMBERIZER_COMPLETE", "fish")
    }

    fn tokens(&self) {
        let token = |profile| self.run(&["token", "-p", profile]);
        let tool = ["lookup", "service", "rememberizer", "username", "keyring"];
        let tool = self.run_program("/usr/bin/secret-tool", &tool);
        self.row("token, fresh, file", &token("file"), &self.hello(), 2.0);
        self.row(
            "token, fresh, keyring",
            &token("keyring"),
            &self.hello(),
            4.0,
        );
        self.row(
            "token, fresh, keyring : secret-tool lookup",
            &token("keyring"),
            &tool,
            0.25,
        );
        let whoami = self.run(&["whoami", "--offline", "-p", "keyring"]);
        self.row("whoami --offline, keyring", &whoami, &self.hello(), 4.5);
    }

    /// Compares the static build with the same (dynamic) hello world.
    fn static_build(&self) {
        if !Path::new(STATIC_PROGRAM).is_file() {
            return;
        }
        let token = |profile| self.run_static(&["token", "-p", profile]);
        let tool = ["lookup", "service", "rememberizer", "username", "keyring"];
        let tool = self.run_program("/usr/bin/secret-tool", &tool);
        let hello = self.hello();
        let version = self.run_static(&["--version"]);
        self.row("static: --version", &version, &hello, 0.6);
        self.row("static: token, fresh, file", &token("file"), &hello, 0.6);
        let keyring = token("keyring");
        self.row("static: token, fresh, keyring", &keyring, &hello, 2.1);
        self.row(
            "static: token, fresh, keyring : secret-tool",
            &keyring,
            &tool,
            0.2,
        );
    }

    fn exchanges(&self) {
        let token = self.api.current_refresh(EMAIL).unwrap();
        let url = format!("{}/auth/custom-refresh/", self.api.base_url());
        let post = |url: &str, token: &str, more: &[&str]| {
            let cookie = format!("Cookie: refresh_token={token}");
            let args = [
                "-sS",
                "-f",
                "-X",
                "POST",
                "-H",
                &cookie,
                "-H",
                "Content-Length: 0",
                url,
            ];
            self.run_program("/usr/bin/curl", &[&args, more].concat())
        };
        let refresh = self.run(&["refresh", "-p", "keyring"]);
        self.row(
            "refresh, http, keyring : curl",
            &refresh,
            &post(&url, &token, &[]),
            1.0,
        );

        let api = sandbox::start_on_loopback(Settings {
            rotation: RotationPolicy::Off,
            tls: Some(TlsKind::Good),
            ..Settings::default()
        });
        api.add_account(Account::new(EMAIL, PASSWORD));
        let own = self.dir.path().join("own.pem");
        std::fs::write(&own, api.ca_pem().unwrap()).unwrap();
        let own = own.display().to_string();
        // Give curl one file with the platform's certificates and ours, as the program reads both.
        let all = self.dir.path().join("all.pem").display().to_string();
        let roots =
            std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
        std::fs::write(&all, format!("{roots}{}", api.ca_pem().unwrap())).unwrap();
        self.login("https", "keyring", &api.base_url(), &["--ca-cert", &own]);
        let token = api.current_refresh(EMAIL).unwrap();
        let url = format!("{}/auth/custom-refresh/", api.base_url());
        let refresh = self.run(&["refresh", "-p", "https", "--ca-cert", &own]);
        let curl = post(&url, &token, &["--cacert", &all]);
        self.row(
            "refresh, https, platform roots : curl",
            &refresh,
            &curl,
            1.0,
        );
    }

    /// Starts 64 `token` at once, with an expired access token and a server that takes 200 ms
    /// per exchange, and then 64 with a fresh access token.
    fn parallel_runs(&self) {
        let run_64 = |min_ttl: &str| {
            let started = Instant::now();
            let runs: Vec<_> = (0..64)
                .map(|_| {
                    self.run(&["token", "-p", "keyring", "--min-ttl", min_ttl])
                        .command()
                        .spawn()
                        .unwrap()
                })
                .collect();
            for mut run in runs {
                assert!(run.wait().unwrap().success());
            }
            started.elapsed().as_secs_f64()
        };
        let (mut expired, mut fresh) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            self.api.set(|s| {
                s.delays =
                    vec![Delay::before(Duration::from_millis(200)).at("/auth/custom-refresh/")]
            });
            let before = self.api.exchanges();
            expired.push(run_64("2days"));
            assert_eq!(self.api.exchanges(), before + 1, "one exchange");
            self.api.set(|s| s.delays.clear());
            fresh.push(run_64("1s"));
        }
        expired.sort_by(f64::total_cmp);
        fresh.sort_by(f64::total_cmp);
        let (expired, fresh) = (expired[2] * 1000.0, fresh[2] * 1000.0);
        let limit = 200.0 + 3.0 * fresh;
        let miss = if expired > limit { "MISS" } else { "" };
        println!(
            "64 token at once, expired, 200 ms server: 1 exchange, {expired:.0} ms; 64 fresh {fresh:.0} ms; limit {limit:.0} ms {miss}"
        );
    }

    fn many_profiles(&self) {
        let config = self.dir.path().join("many");
        std::fs::create_dir_all(&config).unwrap();
        let one = self.dir.path().join(".config/rememberizer/profiles.json");
        let mut profiles: serde_json::Value =
            serde_json::from_slice(&std::fs::read(one).unwrap()).unwrap();
        for i in 0..1000 {
            profiles["profiles"][format!("profile-{i:04}")] = serde_json::json!(
                {"api_url": "https://example.com/api/v1", "login": format!("user{i}@example.com"), "store": "keyring", "signed_in": true});
        }
        let text = serde_json::to_string_pretty(&profiles).unwrap();
        std::fs::write(config.join("profiles.json"), text).unwrap();
        let config = config.display().to_string();
        let many = self.run(&["token", "-p", "keyring", "--config-dir", &config]);
        let one = self.run(&["token", "-p", "keyring"]);
        self.row("token, 1,000 profiles : one", &many, &one, 1.1);
        let complete = self
            .completion("profile-09")
            .env("REMEMBERIZER_CONFIG_DIR", &config);
        self.row(
            "completing one of 1,000 profile names",
            &complete,
            &self.hello(),
            3.0,
        );
    }

    fn size(&self) {
        const MIB: f64 = 1024.0 * 1024.0;
        let miss = |is: bool| if is { "MISS" } else { "" };
        for (what, program) in [("stripped binary", PROGRAM), ("static", STATIC_PROGRAM)] {
            let Ok(metadata) = Path::new(program).metadata() else {
                continue;
            };
            let size = metadata.len() as f64 / MIB;
            println!("{what}: {size:.2} MiB, limit 4 {}", miss(size > 4.0));
        }
        let static_runs = [&["token", "-p", "file"][..], &["token", "-p", "keyring"]];
        for args in static_runs {
            if Path::new(STATIC_PROGRAM).is_file() {
                self.memory(STATIC_PROGRAM, "static: ", args, 3.3);
            }
        }
        for args in [
            &["--help"][..],
            &["token", "-p", "file"],
            &["token", "-p", "keyring"],
            &["whoami", "-p", "keyring"],
            &["refresh", "-p", "keyring"],
            &["doctor", "-p", "keyring"],
        ] {
            self.memory(PROGRAM, "", args, 6.0);
        }
    }

    fn memory(&self, program: &str, label: &str, args: &[&str], limit: f64) {
        // Start the program from GNU time, which is small: the peak of a child includes the
        // memory of the process that forked it.
        let output = self
            .run_program("/usr/bin/time", &["-f", "%M", program])
            .command()
            .args(args)
            .stderr(Stdio::piped())
            .output();
        let Ok(output) = output else {
            println!("peak memory: GNU time is not installed");
            return;
        };
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let kib = printed.lines().last().and_then(|line| line.parse().ok());
        let mib: f64 = kib.unwrap_or(f64::NAN) / 1024.0;
        let miss = if mib > limit { "MISS" } else { "" };
        println!(
            "peak memory, {label}{}: {mib:.1} MiB, limit {limit} {miss}",
            args.join(" ")
        );
    }

    /// Prints instruction counts, which do not depend on the load of the machine.
    fn instructions(&self) {
        for run in [
            self.run(&["--version"]),
            self.run(&["--help"]),
            self.completion("lo"),
        ] {
            let output = Command::new("valgrind")
                .args([
                    "--tool=callgrind",
                    "--callgrind-out-file=/dev/null",
                    PROGRAM,
                ])
                .args(&run.args)
                .envs(run.env.iter().map(|(name, value)| (name, value)))
                .output();
            let Ok(output) = output else {
                println!("instructions: valgrind is not installed");
                return;
            };
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            let count = printed
                .lines()
                .find_map(|line| line.split("Collected :").nth(1));
            println!(
                "instructions, {}: {}",
                run.args.join(" "),
                count.unwrap_or("?").trim()
            );
        }
    }
}
