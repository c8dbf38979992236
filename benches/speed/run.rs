//! Sets up a sandbox, a keyring and a hello world program, and times pairs of commands.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::bus::Bus;
use crate::sandbox::{self, Account, Handle, RotationPolicy, Settings};

pub const EMAIL: &str = "ann@example.com";
pub const PASSWORD: &str = "correct horse battery";

/// The program as it is shipped. It is built apart from the tests: otherwise, cargo enables
/// the features of dependencies that only the tests need.
pub const PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/target/shipped/release/rememberizer"
);

/// The target of the static build.
const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

/// The static build as it is shipped.
pub const STATIC_PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/target/shipped/x86_64-unknown-linux-musl/release/rememberizer"
);

/// The number of pairs of runs per row.
const PAIRS: usize = 60;

pub struct Bench {
    pub dir: tempfile::TempDir,
    hello: PathBuf,
    pub api: Handle,
    bus: Bus,
}

/// A command that can be run repeatedly.
pub struct Run<'b> {
    bench: &'b Bench,
    program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(&'static str, String)>,
}

impl Run<'_> {
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .env("HOME", self.bench.dir.path())
            .env("PATH", "/usr/bin:/bin")
            .env("DBUS_SESSION_BUS_ADDRESS", self.bench.bus.address())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    pub fn time(&self) -> f64 {
        let mut command = self.command();
        let started = Instant::now();
        let status = command.status().unwrap();
        let took = started.elapsed();
        assert!(
            status.success(),
            "{} {:?} succeeds",
            self.program.display(),
            self.args
        );
        took.as_secs_f64()
    }
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hello = dir.path().join("hello");
        std::fs::write(
            dir.path().join("hello.rs"),
            "fn main() { println!(\"hello\"); }",
        )
        .unwrap();
        let built = Command::new("rustc")
            .args([
                "--edition=2024",
                "-Copt-level=3",
                "-Clto=fat",
                "-Ccodegen-units=1",
                "-Cpanic=abort",
                "-Cstrip=symbols",
                "-o",
            ])
            .args([&hello, &dir.path().join("hello.rs")])
            .status();
        assert!(built.is_ok_and(|status| status.success()), "hello builds");
        assert!(build(&[]), "the program builds");
        if !build(&["--target", STATIC_TARGET]) {
            println!("the static build is missing: rustup target add {STATIC_TARGET}");
        }
        let bus = Bus::with_keyring(dir.path());
        let api = sandbox::start_on_loopback(Settings {
            // Allows curl to send the same token repeatedly.
            rotation: RotationPolicy::Off,
            access_lifetime: 86_400,
            ..Settings::default()
        });
        api.add_account(Account::new(EMAIL, PASSWORD));
        let bench = Self {
            dir,
            hello,
            api,
            bus,
        };
        for store in ["file", "keyring"] {
            bench.login(store, store, &bench.api.base_url(), &[]);
        }
        bench
    }

    /// Returns a run of the static build.
    pub fn run_static(&self, args: &[&str]) -> Run<'_> {
        self.run_program(STATIC_PROGRAM, args)
    }

    pub fn login(&self, profile: &str, store: &str, url: &str, more: &[&str]) {
        let args = [
            "login",
            EMAIL,
            "-p",
            profile,
            "--store",
            store,
            "--api-url",
            url,
        ];
        let run = self
            .run(&[&args, more].concat())
            .env("REMEMBERIZER_PASSWORD", PASSWORD);
        run.time();
    }

    pub fn run_program(&self, program: impl Into<PathBuf>, args: &[&str]) -> Run<'_> {
        Run {
            bench: self,
            program: program.into(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: Vec::new(),
        }
    }

    pub fn run(&self, args: &[&str]) -> Run<'_> {
        self.run_program(PROGRAM, args)
    }

    pub fn hello(&self) -> Run<'_> {
        self.run_program(&self.hello, &[])
    }

    /// Times two commands in pairs and prints the row.
    pub fn row(&self, task: &str, a: &Run<'_>, b: &Run<'_>, limit: f64) {
        a.time();
        b.time();
        let mut ratios: Vec<f64> = (0..PAIRS).map(|_| a.time() / b.time()).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |part: usize| ratios[ratios.len() * part / 4];
        let miss = if at(2) > limit { "MISS" } else { "" };
        println!(
            "{task:<46} {:>7.2}x {:>6.2} – {:>5.2}x {limit:>6.2}x {miss}",
            at(2),
            at(1),
            at(3)
        );
    }
}

/// Builds the program. Returns whether the build succeeded.
fn build(arguments: &[&str]) -> bool {
    Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--release", "--quiet", "--bin", "rememberizer"])
        .args(["--target-dir", "target/shipped"])
        .args(arguments)
        .status()
        .is_ok_and(|status| status.success())
}
