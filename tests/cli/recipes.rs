//! Runs the README's recipes: twice in a row, with the server up and down. Only addresses and
//! directories in them are replaced.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::readme::recipe;
use crate::sandbox::{Account, BodyKind, Fault};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, on_both_stores, test};

/// Every recipe that a test here, in `jobs` or in `fleet` runs.
pub const NAMES: [&str; 18] = [
    "curl",
    "prompt",
    "two-accounts",
    "cron",
    "systemd",
    "long-job",
    "container",
    "completions",
    "publish-github",
    "publish-cron",
    "read-github",
    "first-token",
    "github",
    "gitlab",
    "share",
    "join",
    "ssh",
    "vault",
];

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("recipes::curl", curl).needs(&[Part::Command("curl")]),
        test("recipes::prompt", prompt),
        test("recipes::two_accounts", two_accounts),
        test("recipes::systemd", systemd).needs(&[Part::Command("systemd-analyze")]),
        test("recipes::long_job", long_job).needs(&[Part::Command("curl")]),
        test("recipes::container", container),
        test("recipes::completions", completions),
    ];
    tests.extend(on_both_stores("recipes::cron", cron));
    tests
}

/// A simulated machine: a home directory, replacements for other commands, and the program.
pub struct Machine<'w> {
    world: &'w World,
    home: PathBuf,
    env: Vec<(String, String)>,
}

impl<'w> Machine<'w> {
    /// A machine with its home in a directory of the world.
    pub fn new(world: &'w World, name: &str) -> Self {
        let home = world.home().join(name);
        std::fs::create_dir_all(home.join("bin")).unwrap();
        Self {
            world,
            home,
            env: Vec::new(),
        }
    }

    /// The world's own home, where `World::login` signs in.
    pub fn of(world: &'w World) -> Self {
        Self::new(world, "")
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Sets a variable for everything that runs here.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Adds an executable to `~/bin`, which is first in `PATH`.
    pub fn command(&self, name: &str, script: &str) -> PathBuf {
        let path = self.home.join("bin").join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Installs the program as `cargo install` does.
    pub fn install(&self) {
        let dir = self.home.join(".cargo/bin");
        std::fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::symlink(World::program(), dir.join("rememberizer")).unwrap();
    }

    /// Runs a script with the arguments that start a shell, such as `bash -e`.
    pub fn run(&self, shell: &[&str], script: &str) -> Output {
        let program = World::program();
        let path = std::env::var("PATH").unwrap();
        let path = [self.home.join("bin"), program.parent().unwrap().to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&path));
        let path = std::env::join_paths(path).unwrap();
        self.run_with_path(shell, &path.into_string().unwrap(), script)
    }

    /// Runs a line of a crontab as cron does: with `sh` and a short `PATH`.
    pub fn cron(&self, crontab: &str) -> Output {
        let fields: Vec<_> = crontab.trim().splitn(6, ' ').collect();
        let is_line = fields.len() == 6 && !fields[5].contains(['%', '\n']);
        assert!(is_line, "{crontab}");
        // Replacements for commands of the system come first in PATH.
        let path = format!("{}:/usr/bin:/bin", self.home.join("usr").display());
        self.run_with_path(&["sh", "-c"], &path, fields[5])
    }

    fn run_with_path(&self, shell: &[&str], path: &str, script: &str) -> Output {
        let url = self.world.api.base_url();
        let script = script.replace("https://api.rememberizer.ai/api/v1", &url);
        let mut command = Command::new(shell[0]);
        self.world.set_environment(&mut command);
        command
            .args(&shell[1..])
            .arg(script)
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .env("PATH", path)
            .env("REMEMBERIZER_API_URL", url)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        Output::from_process(command.output().unwrap())
    }
}

/// How GitHub starts a step that names no shell.
pub const BASH_E: [&str; 3] = ["bash", "-e", "-c"];

/// Answers every request with 502 until [`start_server`].
pub fn stop_server(world: &World) {
    let fault = Fault::status(502, BodyKind::Html);
    world.api.fault(fault.times(u32::MAX));
}

/// Answers requests again.
pub fn start_server(world: &World) {
    world.api.set(|settings| settings.faults.clear());
}

fn curl() {
    let world = World::new(Store::File);
    world.login();
    let machine = Machine::of(&world);
    let log = machine.home().join("arguments");
    machine.command(
        "curl",
        &format!(
            "#!/bin/sh\necho \"$*\" >> {}\nexec /usr/bin/curl \"$@\"\n",
            log.display()
        ),
    );
    for _ in 0..2 {
        let output = machine.run(&BASH_E, &recipe("curl")).expect(0);
        assert!(output.stdout.contains(EMAIL), "{output:?}");
    }
    assert!(
        world
            .api
            .requests()
            .iter()
            .all(|seen| seen.bearer.is_some())
    );
    stop_server(&world);
    let output = machine.run(&BASH_E, &recipe("curl"));
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (22, ""),
        "{output:?}"
    );
    world.expire_access();
    let output = machine.run(&BASH_E, &recipe("curl")).expect(5);
    assert_eq!(output.stdout, "", "curl is not started without a token");
    let arguments = std::fs::read_to_string(log).unwrap();
    assert_eq!(arguments.lines().count(), 3, "{arguments}");
    assert!(!arguments.contains("Bearer"), "{arguments}");
}

fn prompt() {
    let world = World::new(Store::File);
    let machine = Machine::of(&world);
    let script = recipe("prompt") + "printf %s \"${PS1@P}\"";
    let before = machine.run(&BASH_E, &script).expect(0).stdout;
    world.login();
    stop_server(&world);
    for _ in 0..2 {
        let after = machine.run(&BASH_E, &script).expect(0).stdout;
        assert!(["$ ", "# "].contains(&&*before), "{before:?}");
        assert_eq!(after, format!("(signed in) {before}"));
    }
    assert!(world.api.requests().is_empty(), "no request");
}

fn two_accounts() {
    let world = World::new(Store::File);
    let bob = Account::new("bob@example.com", PASSWORD);
    world.api.add_account(bob);
    std::fs::write(world.home().join("password.txt"), PASSWORD).unwrap();
    world.login();
    let mut machine = Machine::of(&world);
    machine.set("REMEMBERIZER_STORE", "file");
    stop_server(&world);
    machine.run(&BASH_E, &recipe("two-accounts")).expect(5);
    start_server(&world);
    for _ in 0..2 {
        let output = machine.run(&BASH_E, &recipe("two-accounts")).expect(0);
        assert!(output.stdout.contains("* work"), "{output:?}");
        assert!(output.stdout.contains("  default"), "{output:?}");
        assert!(world.entry_of("work").is_some() && world.entry().is_some());
    }
}

fn cron(world: &World) {
    world.login();
    world.login_as("work");
    let machine = Machine::of(world);
    machine.install();
    let crontab = recipe("cron");
    let (refresh, check) = crontab.split_once('\n').unwrap();
    stop_server(world);
    let output = machine.cron(refresh).expect(5);
    assert!(
        output.stderr.contains("error: "),
        "cron mails it: {output:?}"
    );
    start_server(world);
    for count in 1..=2 {
        let output = machine.cron(refresh).expect(0);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
        assert_eq!(world.api.exchanges(), 2 * count, "both profiles");
    }
    let requests = world.api.requests().len();
    for _ in 0..2 {
        let output = machine.cron(check).expect(0);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    }
    world.api.set(|settings| settings.refresh_lifetime = 3600);
    machine.cron(refresh).expect(0);
    stop_server(world);
    let output = machine.cron(check).expect(3);
    assert_eq!(output.stdout, "");
    assert!(
        output.stderr.starts_with("error: the session expires "),
        "{output:?}"
    );
    assert_eq!(world.api.requests().len(), requests + 2, "no request");
}

fn systemd() {
    let world = World::new(Store::File);
    world.login();
    let mut machine = Machine::of(&world);
    machine.install();
    machine.command(
        "systemctl",
        "#!/bin/sh\necho \"$*\" >> \"$HOME/systemctl\"\n",
    );
    for _ in 0..2 {
        machine.run(&BASH_E, &recipe("systemd")).expect(0);
    }
    let calls = std::fs::read_to_string(machine.home().join("systemctl")).unwrap();
    let expected = "--user daemon-reload\n--user enable --now rememberizer.timer\n";
    assert_eq!(calls, expected.repeat(2));

    let runtime = machine.home().join("run");
    std::fs::create_dir(&runtime).unwrap();
    machine.set("XDG_RUNTIME_DIR", &runtime.display().to_string());
    let units = machine.home().join(".config/systemd/user");
    let verify = "systemd-analyze --user verify .config/systemd/user/rememberizer.*";
    let output = machine.run(&BASH_E, verify).expect(0);
    assert_eq!(output.stderr, "");

    let unit = std::fs::read_to_string(units.join("rememberizer.service")).unwrap();
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let command = command.replace("%h", &machine.home().display().to_string());
    stop_server(&world);
    machine.run(&BASH_E, &command).expect(5);
    start_server(&world);
    for count in 1..=2 {
        machine.run(&BASH_E, &command).expect(0);
        assert_eq!(world.api.exchanges(), count);
    }
}

/// The token is renewed between two requests, and the last status is passed on.
fn long_job() {
    let world = World::new(Store::File);
    world.login();
    let machine = Machine::of(&world);
    std::fs::write(machine.home().join("paths.txt"), "account/\nme/\n").unwrap();
    for _ in 0..2 {
        let output = machine.run(&BASH_E, &recipe("long-job")).expect(0);
        assert_eq!(output.stdout.matches(EMAIL).count(), 2, "{output:?}");
    }
    assert_eq!(world.api.exchanges(), 0);
    stop_server(&world);
    machine.run(&BASH_E, &recipe("long-job")).expect(22);
    world.expire_access();
    machine.run(&BASH_E, &recipe("long-job")).expect(5);
    start_server(&world);
    world.api.set(|settings| settings.access_lifetime = 3);
    let log = machine.home().join("tokens");
    let curl = format!(
        "#!/bin/sh\ntee -a {} | /usr/bin/curl \"$@\" && sleep 4\n",
        log.display()
    );
    machine.command("curl", &curl);
    let output = machine.run(&BASH_E, &recipe("long-job")).expect(0);
    assert_eq!(output.stdout.matches(EMAIL).count(), 2, "{output:?}");
    let tokens = std::fs::read_to_string(log).unwrap();
    let tokens: Vec<_> = tokens.lines().collect();
    assert!(tokens.len() == 2 && tokens[0] != tokens[1], "{tokens:?}");
}

/// A second start does not send the refresh token that the first start has used.
fn container() {
    let world = World::new(Store::File);
    let token = world.api.begin_session(EMAIL).refresh.unwrap();
    let machine = Machine::new(&world, "container");
    let root = machine.home().display().to_string();
    std::fs::create_dir(machine.home().join("secrets")).unwrap();
    let secret = machine.home().join("secrets/rememberizer_token");
    std::fs::write(secret, token + "\n").unwrap();
    let script = recipe("container")
        .replace("/data/", &format!("{root}/data/"))
        .replace("/run/secrets", &format!("{root}/secrets"));
    stop_server(&world);
    machine.run(&BASH_E, &script).expect(5);
    start_server(&world);
    for _ in 0..2 {
        let output = machine.run(&BASH_E, &script).expect(0);
        assert!(output.stdout.contains(EMAIL), "{output:?}");
        assert_eq!(world.api.exchanges(), 1, "only the first start signs in");
    }
    stop_server(&world);
    machine.run(&BASH_E, &script).expect(5);
    start_server(&world);
    machine.run(&BASH_E, &script).expect(0);
    assert!(world.api.session_alive(EMAIL));
    let entry = "data/share/rememberizer/sessions/default.json";
    assert!(machine.home().join(entry).is_file());
}

fn completions() {
    let world = World::new(Store::File);
    let machine = Machine::of(&world);
    stop_server(&world);
    for _ in 0..2 {
        machine.run(&BASH_E, &recipe("completions")).expect(0);
    }
    for (shell, path) in [
        (
            "bash",
            ".local/share/bash-completion/completions/rememberizer",
        ),
        ("zsh", ".zfunc/_rememberizer"),
        ("fish", ".config/fish/completions/rememberizer.fish"),
    ] {
        let script = std::fs::read_to_string(machine.home().join(path)).unwrap();
        assert_eq!(script, world.run(&["completions", shell]).expect(0).stdout);
        assert!(script.contains("COMPLETE"), "{shell}");
    }
}
