//! A tour: runs the real program against the stand-in API on loopback, from signup to
//! logout, and prints each command line and its output. Exits with 1 if a check fails.
//!
//! It leaves nothing behind: settings and locks are in a temporary directory,
//! and the entry in the keyring, if there is a keyring, is removed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "an example that shows the program at work"
)]

#[path = "../sandbox/server/mod.rs"]
mod sandbox;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const EMAIL: &str = "ann@example.com";
const PASSWORD: &str = "correct horse battery staple";

fn main() -> ExitCode {
    let program = build();
    let api = sandbox::start_on_loopback(sandbox::Settings::default());
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("password"), format!("{PASSWORD}\n")).expect("a password file");
    let mut tour = Tour {
        program: &program,
        dir: dir.path(),
        // No other tour, and nobody's session, has this name.
        profile: format!("tour-{}", std::process::id()),
        wrong: 0,
    };

    let keyring = tour.has_keyring();
    let store = if keyring { "keyring" } else { "file" };
    if keyring {
        println!("# the session is kept in the OS keyring");
    } else {
        println!("# no OS keyring is reachable: the session is kept in a throw-away file");
    }
    println!("# the API is a stand-in at {}\n", api.base_url());

    let url = api.base_url();
    let who = &[
        "--email",
        EMAIL,
        "--name",
        "Ann",
        "--password-file",
        "password",
    ];
    let place = &["--api-url", &url, "--store", store];
    tour.step(
        &[&["signup"], &who[..], &place[..]].concat(),
        0,
        &["signed up"],
    );
    let code = api.mailed_code(EMAIL).unwrap_or_default();
    println!("# the mailed code is {code}\n");
    tour.step(&["verify", &code], 0, &["verified"]);
    tour.step(&["whoami"], 0, &["Ann <ann@example.com>", &url]);
    tour.step(&["token"], 0, &["eyJ"]);
    tour.step(&["refresh"], 0, &["renewed"]);
    tour.step(&["logout"], 0, &["revoked on the server"]);
    tour.check(
        !api.session_alive(EMAIL),
        "the server has no session any more",
    );
    tour.step(&["whoami"], 3, &["not signed in", "rememberizer login"]);
    tour.step(
        &["login", EMAIL, "--password-file", "password"],
        0,
        &["signed in"],
    );
    tour.step(&["whoami", "--json"], 0, &["\"email\":\"ann@example.com\""]);
    tour.step(&["logout"], 0, &["revoked on the server"]);
    tour.check(
        !api.session_alive(EMAIL),
        "the server has no session any more",
    );
    tour.cookies(&api);
    tour.browser(&api);
    tour.check(
        api.account(EMAIL).is_some_and(|account| account.verified),
        "the address is verified",
    );

    if tour.wrong == 0 {
        println!("# the tour is over: every step succeeded");
        ExitCode::SUCCESS
    } else {
        // Whatever went wrong, no entry stays in the keyring.
        drop(tour.command(&["logout", "--local"]).output());
        println!("# the tour is over: {} checks failed", tour.wrong);
        ExitCode::FAILURE
    }
}

/// Builds the program with the profile of this example; where it is.
fn build() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this example");
    let dir = this
        .parent()
        .and_then(Path::parent)
        .expect("examples are in a directory of the target's");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--bin", "rememberizer"]);
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(
        cargo.status().is_ok_and(|status| status.success()),
        "the program builds"
    );
    dir.join(format!("rememberizer{}", std::env::consts::EXE_SUFFIX))
}

struct Tour<'t> {
    program: &'t Path,
    dir: &'t Path,
    profile: String,
    wrong: usize,
}

impl Tour<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("REMEMBERIZER_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("REMEMBERIZER_CONFIG_DIR", self.dir.join("config"))
            .env("REMEMBERIZER_PROFILE", &self.profile)
            .env("XDG_DATA_HOME", self.dir.join("data"))
            .current_dir(self.dir)
            .stdin(Stdio::null());
        command
    }

    /// Whether the OS keyring answers: nobody is signed in there, rather than an error.
    fn has_keyring(&self) -> bool {
        self.command(&["whoami", "--offline", "--store", "keyring"])
            .output()
            .is_ok_and(|output| output.status.code() == Some(3))
    }

    /// Signs in with cookies in a file, as a browser's extension exports them.
    fn cookies(&mut self, api: &sandbox::Handle) {
        let refresh = api.begin_session(EMAIL).refresh.unwrap_or_default();
        let text = format!(
            "# Netscape HTTP Cookie File\n#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t0\trefresh_token\t{refresh}\n"
        );
        std::fs::write(self.dir.join("cookies.txt"), text).expect("a file with cookies");
        self.step(
            &["login", "--cookies", "cookies.txt"],
            0,
            &["signed in as", EMAIL],
        );
        self.step(&["logout"], 0, &["revoked on the server"]);
    }

    /// Signs in with a browser without a window, on a page that submits itself.
    #[cfg(unix)]
    fn browser(&mut self, api: &sandbox::Handle) {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join("chromium").is_file()) {
            println!("# chromium is not installed: the sign-in in a browser is skipped\n");
            return;
        }
        let script = self.dir.join("browser");
        let text = "#!/bin/sh\nexec chromium --headless=new --no-sandbox \"$@\"\n";
        std::fs::write(&script, text).expect("a script");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
            .expect("a script that runs");
        let page = format!("{}/sign-in?account={EMAIL}", api.origin());
        let login = ["login", "--browser=./browser", "--sign-in-url", &page];
        self.step(
            &login,
            0,
            &["a browser window opens", "signed in as", EMAIL],
        );
        self.step(&["logout"], 0, &["revoked on the server"]);
    }

    #[cfg(not(unix))]
    fn browser(&mut self, _api: &sandbox::Handle) {}

    /// Runs the program, prints its command line and output, and checks its exit code
    /// and that its output contains `texts`.
    fn step(&mut self, args: &[&str], code: i32, texts: &[&str]) {
        println!("$ rememberizer {}", args.join(" "));
        let output = self.command(args).output().expect("the program runs");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        print!("{stdout}{stderr}");
        let got = output.status.code();
        if code != 0 {
            println!("# exit code {}", got.unwrap_or(-1));
        }
        self.check(
            got == Some(code),
            &format!("the exit code is {code}, not {got:?}"),
        );
        for text in texts {
            let said = stdout.contains(text) || stderr.contains(text);
            self.check(said, &format!("the answer says {text:?}"));
        }
        println!();
    }

    fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.wrong += 1;
            println!("# FAILED: expected: {what}");
        }
    }
}
