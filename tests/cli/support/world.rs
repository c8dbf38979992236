//! The world of one test: a home directory, a sandbox server, environment variables for the
//! program, and a keyring if the test needs one.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::Bus;
use super::screen::TIMEOUT;
use crate::sandbox::{self, Account, Handle, Settings};

/// The login of the account that each sandbox has.
pub const EMAIL: &str = "ann@example.com";
/// Its password.
pub const PASSWORD: &str = "correct horse battery";

/// Where the program keeps its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In a private file.
    File,
    /// In a gnome-keyring.
    Keyring,
}

/// The result of a run of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// The exit code, or 128 plus the number of the signal that ended the process.
    pub code: i32,
}

impl Output {
    /// Converts the output of a process that has exited.
    pub fn from_process(output: std::process::Output) -> Self {
        let signal = || 128 + output.status.signal().unwrap_or_default();
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or_else(signal),
        }
    }

    /// Panics unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Parses stdout, which must be one line, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line: {self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }

    /// Returns the JSON code of the error on stdout.
    #[track_caller]
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// The environment of one test.
pub struct World {
    /// The sandbox server.
    pub api: Handle,
    /// The store that logins choose.
    pub store: Store,
    /// The session bus, if the test has one.
    pub bus: Option<Bus>,
    home: TempDir,
}

impl World {
    /// Creates a world with the default settings of the server, and an account.
    pub fn new(store: Store) -> Self {
        let settings = Settings {
            // So long that no command warns of the expiry.
            refresh_lifetime: 30 * 24 * 3600,
            ..Settings::default()
        };
        Self::with_settings(store, settings)
    }

    /// Creates a world with the file store, whose server uses these cookie names.
    pub fn with_cookie_names(access: &str, refresh: &str) -> Self {
        let settings = Settings {
            access_cookie: access.into(),
            refresh_cookie: refresh.into(),
            ..Settings::default()
        };
        Self::with_settings(Store::File, settings)
    }

    /// Creates a world with these settings of the server, and an account.
    pub fn with_settings(store: Store, settings: Settings) -> Self {
        let home = tempfile::Builder::new().prefix("rmz").tempdir().unwrap();
        let bus = (store == Store::Keyring).then(|| Bus::with_keyring(home.path()));
        let api = sandbox::start_on_loopback(settings);
        api.add_account(Account::new(EMAIL, PASSWORD).name("Ann"));
        Self {
            api,
            store,
            bus,
            home,
        }
    }

    /// The home directory.
    pub fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// Returns the path of the program: `REMEMBERIZER_TEST_PROGRAM`, or else the built program.
    pub fn program() -> PathBuf {
        std::env::var_os("REMEMBERIZER_TEST_PROGRAM")
            .map_or_else(|| env!("CARGO_BIN_EXE_rememberizer").into(), PathBuf::from)
    }

    /// Gives a command the environment variables and the working directory of this world.
    pub fn set_environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        if let Some(bus) = &self.bus {
            command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
        }
    }

    /// Returns the command that runs the program.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(Self::program());
        self.set_environment(&mut command);
        command.args(args);
        command
    }

    /// Runs the program.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        Output::from_process(self.command(args).output().unwrap())
    }

    /// Runs the program with variables set.
    pub fn run_env(&self, env: &[(&str, &str)], args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.envs(env.iter().copied());
        Output::from_process(command.output().unwrap())
    }

    /// Runs the program with `stdin` as its input.
    pub fn run_stdin(&self, stdin: &[u8], args: &[&str]) -> Output {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Writing fails if the program exits without reading stdin; ignore that.
        drop(child.stdin.take().unwrap().write_all(stdin));
        Output::from_process(child.wait_with_output().unwrap())
    }

    /// Starts the program with captured output. Resets the signals that the parent of the tests
    /// may ignore.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut command = Command::new("env");
        self.set_environment(&mut command);
        command
            .arg("--default-signal=INT,TERM,HUP")
            .arg(Self::program())
            .args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Starts the program. Returns when its request to the endpoint `path` has reached the
    /// server.
    pub fn spawn_until_request(&self, args: &[&str], path: &str) -> Child {
        let before = self.api.count(path);
        let child = self.spawn(args);
        let started = Instant::now();
        while self.api.count(path) == before {
            assert!(started.elapsed() < TIMEOUT, "no request to {path}");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    /// Returns the flag that chooses the store at a login.
    pub fn store_flag(&self) -> &'static str {
        match self.store {
            Store::File => "--store=file",
            Store::Keyring => "--store=keyring",
        }
    }

    /// Logs in to the default profile. Then clears the requests that the server has recorded.
    #[track_caller]
    pub fn login(&self) -> Output {
        self.login_as("default")
    }

    /// Logs in to a profile. Then clears the requests that the server has recorded.
    #[track_caller]
    pub fn login_as(&self, profile: &str) -> Output {
        let output = self
            .run_env(
                &[("REMEMBERIZER_PASSWORD", PASSWORD)],
                &[
                    "login",
                    EMAIL,
                    "--api-url",
                    &self.api.base_url(),
                    self.store_flag(),
                    "--profile",
                    profile,
                ],
            )
            .expect(0);
        self.api.clear_requests();
        output
    }

    /// Reads the stored entry of a profile without the program.
    pub fn entry_of(&self, profile: &str) -> Option<String> {
        match self.store {
            Store::File => std::fs::read_to_string(self.session_file(profile)).ok(),
            Store::Keyring => {
                let output = self
                    .bus
                    .as_ref()
                    .unwrap()
                    .command("secret-tool")
                    .args(["lookup", "service", "rememberizer", "username", profile])
                    .output()
                    .unwrap();
                (output.status.success())
                    .then(|| String::from_utf8(output.stdout).unwrap())
                    .filter(|text| !text.is_empty())
            }
        }
    }

    /// Reads the stored entry of the default profile.
    pub fn entry(&self) -> Option<String> {
        self.entry_of("default")
    }

    /// Returns the stored entry of the default profile without the markers of a pending
    /// exchange or of a pending `on_rotate`.
    pub fn tokens(&self) -> Option<Value> {
        let mut entry: Value = serde_json::from_str(&self.entry()?).unwrap();
        for key in ["exchange_began", "exchange_unanswered", "hand_over_pending"] {
            entry.as_object_mut().unwrap().remove(key);
        }
        Some(entry)
    }

    /// Parses the stored entry of the default profile.
    #[track_caller]
    pub fn entry_json(&self) -> Value {
        serde_json::from_str(&self.entry().expect("an entry")).unwrap()
    }

    /// Replaces the stored entry of the default profile without the program.
    pub fn set_entry(&self, text: &str) {
        match self.store {
            Store::File => {
                let path = self.session_file("default");
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, text).unwrap();
                set_mode(&path, 0o600);
                set_mode(path.parent().unwrap(), 0o700);
            }
            Store::Keyring => {
                let bus = self.bus.as_ref().unwrap();
                let attributes = ["service", "rememberizer", "username", "default"];
                // Remove the old entry: secret-tool adds an attribute, so it would not replace
                // the entry.
                drop(
                    bus.command("secret-tool")
                        .arg("clear")
                        .args(attributes)
                        .status(),
                );
                let mut child = bus
                    .command("secret-tool")
                    .args(["store", "--label=rememberizer"])
                    .args(attributes)
                    .stdin(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut stdin = child.stdin.take().unwrap();
                stdin.write_all(text.as_bytes()).unwrap();
                drop(stdin);
                assert!(child.wait().unwrap().success());
            }
        }
    }

    /// Changes the stored entry of the default profile as JSON.
    pub fn edit_entry(&self, edit: impl FnOnce(&mut Value)) {
        let mut entry = self.entry_json();
        edit(&mut entry);
        self.set_entry(&entry.to_string());
    }

    /// Changes the stored access token so that it has expired.
    pub fn expire_access(&self) {
        self.edit_entry(|entry| entry["access"]["lifetime"] = 0.into());
    }

    /// Returns the path of a profile's session in the file store.
    pub fn session_file(&self, profile: &str) -> PathBuf {
        self.data_dir()
            .join("sessions")
            .join(format!("{profile}.json"))
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join(".local/share/rememberizer")
    }

    /// The config directory.
    pub fn config_dir(&self) -> PathBuf {
        self.home.path().join(".config/rememberizer")
    }

    /// The profiles file, as JSON.
    pub fn profiles(&self) -> Value {
        let text = std::fs::read_to_string(self.config_dir().join("profiles.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

pub fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
