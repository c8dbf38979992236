//! The Windows build under Wine: a session from login to logout in both stores, and the
//! differences of Windows.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Screen, Store, Test, World, test};

const TARGET: &str = "x86_64-pc-windows-gnu";
const GCC: &str = "x86_64-w64-mingw32-gcc";

pub fn tests() -> Vec<Test> {
    let tests: Vec<(&str, fn())> = vec![
        ("windows::life::file", || life("file")),
        ("windows::life::keyring", || life("keyring")),
        ("windows::sessions_do_not_roam", sessions_do_not_roam),
        ("windows::parallel_tokens::file", || parallel("file")),
        ("windows::parallel_tokens::keyring", || parallel("keyring")),
        ("windows::split::life", split_life),
        (
            "windows::split::readers_during_a_write",
            readers_meet_a_writer,
        ),
        ("windows::names::reserved", reserved_names),
        ("windows::names::differ_in_case", names_differ_in_case),
        ("windows::replaces_a_file_that_is_open", open_file),
        ("windows::paths_are_plain", plain_paths),
        ("windows::directories_have_an_acl", acl),
        ("windows::closed_pipe", reader_gone),
        ("windows::exec::statuses", statuses),
        ("windows::exec::batch_files", batch_files),
        ("windows::exec::token_file", token_file),
        ("windows::exec::token_file_killed", token_file_killed),
    ];
    let mut tests: Vec<_> = tests
        .into_iter()
        .map(|(name, run)| test(name, run))
        .collect();
    tests.push(test("windows::exec::ctrl_c", exec_ctrl_c).needs(&[Part::Command("tmux")]));
    tests
        .into_iter()
        .map(|test| {
            test.needs(&[
                Part::Command("wine"),
                Part::Command(GCC),
                Part::Target(TARGET),
            ])
        })
        .collect()
}

/// Builds the program for Windows, and a Wine prefix with parts that Wine 8 lacks. Returns
/// their directory.
fn prepared() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("windows");
        std::fs::create_dir_all(&dir).unwrap();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--bin", "rememberizer"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(dir.ancestors().nth(2).unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success(), "the program builds for {TARGET}");
        let program = dir.ancestors().nth(2).unwrap();
        let program = program.join(TARGET).join("debug/rememberizer.exe");
        std::fs::copy(program, dir.join("rememberizer.exe")).unwrap();
        compile(&dir, "bcryptprimitives", "dll", &["-shared", "-ladvapi32"]);
        for helper in ["ctrlc", "stays", "hold", "icacls", "status", "tokens"] {
            compile(&dir, helper, "exe", &[]);
        }
        // The server stays for ten seconds after the last program, and with it Wine's
        // services. They start with the first program and inherit its streams: if those
        // were pipes, their reader would wait for the services.
        for mut command in [
            in_prefix(&dir, "wineserver", "-p10"),
            wine_in(&dir, "wineboot"),
        ] {
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.status().unwrap();
        }
        dir
    })
}

fn compile(dir: &Path, name: &str, extension: &str, flags: &[&str]) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/windows");
    let status = Command::new(GCC)
        .arg("-o")
        .arg(dir.join(name).with_extension(extension))
        .arg(sources.join(name).with_extension("c"))
        .args(flags)
        .status();
    assert!(status.unwrap().success(), "{name} compiles");
}

/// Returns the command for a Windows program under Wine, without access to the user's Wine
/// prefix.
fn wine_in(dir: &Path, program: &str) -> Command {
    in_prefix(dir, "wine", program)
}

fn in_prefix(dir: &Path, tool: &str, argument: &str) -> Command {
    let mut command = Command::new(tool);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("WINEPREFIX", dir.join("prefix"))
        .env("WINEDEBUG", "-all")
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .env("LC_ALL", "C.UTF-8")
        .arg(argument)
        .stdin(Stdio::null());
    command
}

/// The output of a program that `status` ran.
#[track_caller]
fn outcome(output: std::process::Output) -> Output {
    let mut output = Output::from_process(output);
    let (stderr, status) = output.stderr.rsplit_once("status ").expect("a status");
    output.code = status.trim_end().parse().unwrap();
    output.stderr = stderr.to_owned();
    output
}

/// A profile and a configuration for one test, in the prefix that all tests share.
struct Windows {
    world: World,
    profile: String,
}

impl Windows {
    fn new(test: &str) -> Self {
        Self {
            world: World::new(Store::File),
            profile: format!("{test}-{}", std::process::id()),
        }
    }

    /// The directory of the programs, beside which `icacls` leaves its log.
    fn dir(&self) -> &'static Path {
        prepared()
    }

    /// Returns the Unix path of a file whose Windows path begins with `C:\`.
    fn on_drive_c(&self, path: &str) -> PathBuf {
        let below = path.strip_prefix(r"C:\").unwrap().replace('\\', "/");
        self.dir().join("prefix/drive_c").join(below)
    }

    fn session_file(&self) -> PathBuf {
        let users = self.dir().join("prefix/drive_c/users");
        let user = std::fs::read_dir(users)
            .unwrap()
            .map(|entry| entry.unwrap())
            .find(|entry| entry.file_name() != "Public")
            .unwrap();
        user.path()
            .join("AppData/Local/rememberizer/data/sessions")
            .join(format!("{}.json", self.profile))
    }

    fn wine(&self, program: &str) -> Command {
        let mut command = wine_in(self.dir(), program);
        command
            .current_dir(self.dir())
            .env("REMEMBERIZER_PROFILE", &self.profile)
            .env("REMEMBERIZER_CONFIG_DIR", self.world.home().join("config"));
        command
    }

    /// Returns the command for the program. Read its output with [`outcome`].
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.wine("status.exe");
        command.arg("rememberizer.exe").args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        outcome(self.command(args).output().unwrap())
    }

    fn try_login(&self, args: &[&str]) -> Output {
        let url = self.world.api.base_url();
        let mut command = self.command(&["login", EMAIL, "--api-url", &url]);
        command.args(args).env("REMEMBERIZER_PASSWORD", PASSWORD);
        outcome(command.output().unwrap())
    }

    #[track_caller]
    fn login(&self, store: &str) {
        self.try_login(&["--store", store]).expect(0);
    }

    /// Keeps `file` open in another process for a time.
    fn hold(&self, file: &Path, milliseconds: u32) -> Child {
        let mut child = self
            .wine("hold.exe")
            .arg(format!("Z:{}", file.display()))
            .arg(milliseconds.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim_end(), "open");
        child
    }
}

fn life(store: &str) {
    let windows = Windows::new(&format!("life-{store}"));
    windows.login(store);
    let api = &windows.world.api;
    let me = windows.run(&["whoami", "--json"]).expect(0).json();
    assert_eq!(me["account"]["email"], EMAIL);
    let token = windows.run(&["token"]).expect(0).stdout;
    assert!(api.access_works(token.trim()));
    windows.run(&["refresh"]).expect(0);
    let renewed = windows.run(&["token"]).expect(0).stdout;
    assert!(renewed != token && api.access_works(renewed.trim()));
    assert!(api.session_alive(EMAIL));
    windows.run(&["doctor"]).expect(0);
    windows.run(&["logout"]).expect(0);
    assert!(!api.session_alive(EMAIL));
    assert_eq!(windows.run(&["whoami"]).code, 3);
    assert!(!windows.session_file().exists());
}

/// Windows copies what is in `Roaming` and the credentials of an enterprise to
/// other machines, where a rotating token would be used a second time.
fn sessions_do_not_roam() {
    let windows = Windows::new("local");
    windows.login("file");
    assert!(windows.session_file().exists());
    windows.login("keyring");
    let key = format!(
        r"HKCU\Software\Wine\Credential Manager\Generic: {}.rememberizer",
        windows.profile
    );
    let mut query = windows.wine("reg");
    let output = Output::from_process(query.args(["query", &key]).output().unwrap()).expect(0);
    let persist = output.stdout.lines().find(|line| line.contains("Persist"));
    // CRED_PERSIST_LOCAL_MACHINE of wincred.h.
    assert!(persist.is_some_and(|line| line.trim_end().ends_with("0x2")));
    windows.run(&["logout"]).expect(0);
}

/// If 32 runs find the token expired, only one exchanges it.
fn parallel(store: &str) {
    let windows = Windows::new(&format!("parallel-{store}"));
    windows.login(store);
    let api = &windows.world.api;
    let before = api.exchanges();
    let runs: Vec<_> = (0..32)
        .map(|_| {
            let mut command = windows.command(&["token", "--min-ttl", "250s"]);
            command.spawn().unwrap()
        })
        .collect();
    // Each run requires more time than the first token has left by then.
    for run in runs {
        let output = outcome(run.wait_with_output().unwrap()).expect(0);
        assert!(api.access_works(output.stdout.trim()), "{output:?}");
    }
    assert!(api.exchanges() <= before + 1, "{}", api.exchanges());
    windows.run(&["logout"]).expect(0);
}

/// Tokens of 3 KB, so that a session takes three credentials of 2,560 bytes.
fn with_split_session(test: &str) -> Windows {
    let windows = Windows::new(test);
    windows
        .world
        .api
        .set(|settings| settings.token_length = 3000);
    windows.login("keyring");
    windows
}

fn split_life() {
    let windows = with_split_session("split-life");
    let credentials = || {
        let key = r"HKCU\Software\Wine\Credential Manager";
        let output = windows.wine("reg").args(["query", key]).output().unwrap();
        let listed = Output::from_process(output).expect(0).stdout;
        let own = format!("{}.", windows.profile);
        listed.lines().filter(|line| line.contains(&own)).count()
    };
    assert_eq!(credentials(), 4, "the head and its parts");
    for _ in 0..3 {
        windows.run(&["refresh"]).expect(0);
        let token = windows.run(&["token"]).expect(0).stdout;
        assert!(token.len() > 3000 && windows.world.api.access_works(token.trim()));
        assert_eq!(credentials(), 4);
    }
    windows.run(&["logout"]).expect(0);
    assert_eq!(credentials(), 0);
}

/// Readers acquire no lock. During a write they still read a complete session.
fn readers_meet_a_writer() {
    let windows = with_split_session("split-readers");
    let writing = AtomicBool::new(true);
    let read = || {
        let mut outputs = Vec::new();
        while writing.load(Ordering::Relaxed) {
            outputs.push(windows.run(&["whoami", "--offline"]));
        }
        outputs
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
        let written: Vec<_> = (0..25).map(|_| windows.run(&["refresh"])).collect();
        writing.store(false, Ordering::Relaxed);
        for output in written {
            output.expect(0);
        }
        for reader in readers {
            let outputs = reader.join().unwrap();
            assert!(outputs.len() > 3, "only {} reads", outputs.len());
            for output in outputs {
                output.expect(0);
            }
        }
    });
    windows.run(&["logout"]).expect(0);
}

fn reserved_names() {
    let windows = Windows::new("reserved");
    for name in ["con", "NUL", "Aux", "com1", "LPT9", "prn"] {
        let output = windows.try_login(&["-p", name]).expect(2);
        let expected = format!("error: a profile cannot be named {name}: Windows reserves");
        assert!(output.stderr.starts_with(&expected), "{output:?}");
        // A device of that name must not be opened either.
        for args in [&["whoami", "-p", name][..], &["token", "-p", name]] {
            windows.run(args).expect(3);
        }
    }
}

fn names_differ_in_case() {
    let mut windows = Windows::new("Case");
    windows.login("keyring");
    let name = std::mem::take(&mut windows.profile);
    windows.profile = name.to_lowercase();
    let output = windows.try_login(&[]).expect(2);
    let expected = format!("there is a profile {name}, which differs in case only");
    assert!(output.stderr.contains(&expected), "{output:?}");
    windows.run(&["whoami"]).expect(3);
    windows.profile = name;
    windows.run(&["whoami"]).expect(0);
    windows.run(&["logout"]).expect(0);
}

fn open_file() {
    let windows = Windows::new("open");
    windows.login("file");
    let mut held = windows.hold(&windows.session_file(), 400);
    windows.run(&["refresh"]).expect(0);
    held.wait().unwrap();
    let profiles = windows.world.home().join("config/profiles.json");
    let mut held = windows.hold(&profiles, 400);
    let args = ["profile", "set", "login", "bob@example.com"];
    windows.run(&args).expect(0);
    held.wait().unwrap();
    windows.run(&["logout"]).expect(0);
}

/// Paths are printed in the usual form, not as `\\?\C:\…`.
fn plain_paths() {
    let windows = Windows::new("plain");
    windows.login("file");
    let profiles = windows.world.home().join("config/profiles.json");
    let mut held = windows.hold(&profiles, 600_000);
    let args = ["profile", "set", "login", "bob@example.com"];
    let output = windows.run(&args);
    held.kill().unwrap();
    held.wait().unwrap();
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("profiles.json"), "{output:?}");
    assert!(!output.stderr.contains(r"\\?\"), "{output:?}");
    windows.run(&["logout"]).expect(0);
}

/// Our directory is private, whatever its parent allows.
fn acl() {
    let windows = Windows::new("acl");
    let log = windows.dir().join("icacls.log");
    windows.login("file");
    let log = std::fs::read_to_string(log).unwrap();
    for (what, directory) in [("sessions", r"\data\sessions"), ("config", r"\config")] {
        let mut calls = log.lines().filter(|line| {
            line.split(" /")
                .next()
                .unwrap()
                .trim_end_matches('"')
                .ends_with(directory)
        });
        assert!(
            calls.any(|call| call.contains("/inheritance:d /grant *S-1-3-4:(OI)(CI)F")),
            "{what}: {log}"
        );
        assert!(
            calls.any(|call| call.contains("/remove:g *S-1-1-0 ")),
            "{what}: {log}"
        );
    }
    windows.run(&["logout"]).expect(0);
}

/// Wine has another error number for a broken pipe than Windows.
fn reader_gone() {
    let windows = Windows::new("reader");
    windows.login("file");
    for args in [&["token"][..], &["doctor"], &["--help"]] {
        let mut child = windows.command(args).spawn().unwrap();
        drop(child.stdout.take());
        let output = outcome(child.wait_with_output().unwrap());
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{args:?}");
    }
    windows.run(&["logout"]).expect(0);
}

/// Windows' exit statuses have 32 bits.
fn statuses() {
    let windows = Windows::new("statuses");
    windows.login("file");
    for status in [0, 7, 300, -1_073_741_510] {
        let status_text = status.to_string();
        let args = ["exec", "--", "cmd", "/c", "exit", &status_text];
        windows.run(&args).expect(status);
    }
    windows.run(&["logout"]).expect(0);
}

/// npm, az and others are batch files, which users call without `.cmd`.
fn batch_files() {
    let windows = Windows::new("batch");
    windows.login("file");
    let dir = windows.world.home().join("shims");
    std::fs::create_dir(&dir).unwrap();
    let script = "@echo shim %1 %REMEMBERIZER_ACCESS_TOKEN:~0,3%\r\n@exit /b 9\r\n";
    std::fs::write(dir.join("shim.cmd"), script).unwrap();
    let run = |program: &str| {
        let mut command = windows.command(&["exec", "--", program, "a b"]);
        command.env("WINEPATH", format!("Z:{}", dir.display()));
        outcome(command.output().unwrap())
    };
    for program in ["shim", "shim.cmd"] {
        let output = run(program).expect(9);
        assert_eq!(output.stdout.trim_end(), "shim \"a b\" eyJ", "{program}");
    }
    let mut command = windows.command(&["exec", "--token-file", "--", "shim", "a"]);
    command.env("WINEPATH", format!("Z:{}", dir.display()));
    outcome(command.output().unwrap()).expect(9);
    let output = run("nowhere").expect(1);
    assert!(
        output.stderr.starts_with("error: cannot run nowhere: "),
        "{output:?}"
    );
    windows.run(&["logout"]).expect(0);
}

/// `exec --token-file` with tokens of three seconds, and a reader that prints
/// its process number, the path of the file, and each token that it finds there.
struct Job {
    windows: Windows,
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    process: String,
    file: PathBuf,
}

impl Job {
    fn start(test: &str, milliseconds: u32) -> Self {
        let windows = Windows::new(test);
        windows
            .world
            .api
            .set(|settings| settings.access_lifetime = 3);
        windows.login("file");
        let milliseconds = milliseconds.to_string();
        let mut child = windows
            .wine("rememberizer.exe")
            .args(["exec", "--token-file", "--", "tokens.exe", &milliseconds])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = || lines.next().unwrap().unwrap().trim_end().to_owned();
        let (process, path) = (next(), next());
        let file = windows.on_drive_c(&path);
        Self {
            windows,
            child,
            lines,
            process,
            file,
        }
    }

    /// Waits for the end of the program, and checks that it left nothing behind.
    fn ends_with(self, code: i32) {
        let output = Output::from_process(self.child.wait_with_output().unwrap()).expect(code);
        assert_eq!(output.stderr, "");
        assert!(!self.file.parent().unwrap().exists(), "{:?}", self.file);
        self.windows.run(&["logout"]).expect(0);
    }
}

/// Each token that the command reads works, for longer than the lifetime of three tokens.
fn token_file() {
    let mut job = Job::start("token-file", 10_000);
    let mut tokens = 0;
    for line in job.lines.by_ref() {
        let line = line.unwrap();
        let token = line.trim_end();
        assert!(job.windows.world.api.access_works(token), "{token}");
        tokens += 1;
    }
    assert!(tokens > 3, "only {tokens} tokens");
    assert!(job.windows.world.api.session_alive(EMAIL));
    job.ends_with(7);
}

/// The next run removes the directory of a killed run. The status of a killed command is passed
/// on.
fn token_file_killed() {
    let mut job = Job::start("killed-parent", 60_000);
    job.child.kill().unwrap();
    job.child.wait().unwrap();
    assert!(job.file.exists());
    let args = ["exec", "--token-file", "--", "cmd", "/c", "exit 0"];
    job.windows.run(&args).expect(0);
    assert!(!job.file.parent().unwrap().exists(), "{:?}", job.file);
    let kill = |windows: &Windows, process: &str| {
        let mut kill = windows.wine("taskkill");
        Output::from_process(kill.args(["/f", "/pid", process]).output().unwrap()).expect(0);
    };
    kill(&job.windows, &job.process);
    job.windows.run(&["logout"]).expect(0);

    let job = Job::start("killed-command", 60_000);
    kill(&job.windows, &job.process);
    // The status that Wine's `taskkill` gives; Windows' gives 1.
    job.ends_with(0);
}

/// Ctrl-C reaches the program and its child process. The child process decides whether to exit.
fn exec_ctrl_c() {
    let windows = Windows::new("ctrlc");
    windows.login("file");
    let dir = windows.dir().display().to_string();
    let config = windows.world.home().join("config").display().to_string();
    let prefix = format!("{dir}/prefix");
    let env = [
        ("PS1", "[\\#:$?]$ "),
        ("HOME", dir.as_str()),
        ("WINEPREFIX", &prefix),
        ("WINEDEBUG", "-all"),
        ("REMEMBERIZER_PROFILE", &windows.profile),
        ("REMEMBERIZER_CONFIG_DIR", &config),
    ];
    let screen = Screen::with_shell(&windows.world, &env, &["bash", "--norc"]);
    screen.type_line(&format!("cd '{dir}'"));
    screen.type_line("wine ctrlc.exe 1500 'rememberizer.exe exec -- stays.exe'");
    let shown = screen.wait_until("status", |shown| {
        shown
            .lines()
            .any(|line| line.trim_start().starts_with("status "))
    });
    assert!(shown.contains("cleaned up"), "{shown}");
    assert!(shown.contains("status 7"), "{shown}");
    windows.run(&["logout"]).expect(0);
}
