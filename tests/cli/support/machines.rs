//! Store helpers, and machines that use them. A helper is a script of `helpers/`, or a Python
//! script that a test writes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::world::{EMAIL, PASSWORD};
use super::{Output, Store, World};
use crate::sandbox::Settings;

pub fn helpers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("helpers")
}

/// A world whose `PATH` begins with its own `bin` directory and `helpers/`.
pub struct HelperWorld {
    pub world: World,
    pub env: Vec<(String, String)>,
}

impl HelperWorld {
    pub fn new(store: Store) -> Self {
        Self::with_settings(store, Settings::default())
    }

    pub fn with_settings(store: Store, settings: Settings) -> Self {
        let settings = Settings {
            // So long that no command warns of the expiry.
            refresh_lifetime: 30 * 24 * 3600,
            ..settings
        };
        let world = World::with_settings(store, settings);
        let bin = world.home().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let path = format!(
            "{}:{}:{}",
            bin.display(),
            helpers_dir().display(),
            std::env::var("PATH").unwrap()
        );
        let env = vec![("PATH".to_owned(), path)];
        Self { world, env }
    }

    pub fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        self.world.set_environment(&mut command);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(args);
        command
    }

    /// Panics if a helper of this world still runs.
    pub fn assert_no_helper_left(&self, context: &str) {
        let left = self.shell(
            "pgrep -f [r]ememberizer-store-odd -u \"$(id -u)\" | while read -r p; do \
             tr '\\0' '\\n' <\"/proc/$p/environ\" | grep -q \"^HOME=$HOME\" && echo \"$p\"; done",
        );
        assert_eq!(left.stdout, "", "{context}: helpers still run");
    }

    pub fn shell(&self, script: &str) -> Output {
        let mut command = self.command(Path::new("/bin/sh"), &["-c", script]);
        Output::from_process(command.output().unwrap())
    }

    pub fn run(&self, args: &[&str]) -> Output {
        Output::from_process(self.command(&World::program(), args).output().unwrap())
    }

    pub fn login(&self, store: &str) -> Output {
        let url = self.world.api.base_url();
        let mut command = self.command(
            &World::program(),
            &["login", EMAIL, "--api-url", &url, "--store", store],
        );
        Output::from_process(
            command
                .env("REMEMBERIZER_PASSWORD", PASSWORD)
                .output()
                .unwrap(),
        )
    }

    pub fn check(&self, args: &[&str]) -> Output {
        Output::from_process(
            self.command(&helpers_dir().join("check"), args)
                .output()
                .unwrap(),
        )
    }

    fn entries(&self) -> PathBuf {
        self.world.home().join("entries")
    }

    /// Reads the entry of the default profile from the file of the Python helpers.
    pub fn entry(&self) -> serde_json::Value {
        let all = std::fs::read_to_string(self.entries()).unwrap();
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        let bytes = STANDARD.decode(all["default"][1].as_str().unwrap());
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    }

    /// Changes the entry of the default profile, and its version.
    pub fn edit_entry(&self, edit: impl FnOnce(&mut serde_json::Value)) {
        let all = std::fs::read_to_string(self.entries()).unwrap();
        let mut all: serde_json::Value = serde_json::from_str(&all).unwrap();
        let version: u64 = all["default"][0].as_str().unwrap().parse().unwrap();
        let mut entry = self.entry();
        edit(&mut entry);
        let text = STANDARD.encode(entry.to_string());
        all["default"] = serde_json::json!([(version + 1).to_string(), text]);
        std::fs::write(self.entries(), all.to_string()).unwrap();
    }

    /// Writes a helper in Python: [`PRELUDE`], followed by `script`.
    pub fn write_helper(&self, name: &str, script: &str) {
        let path = self
            .world
            .home()
            .join(format!("bin/rememberizer-store-{name}"));
        std::fs::write(
            &path,
            format!("#!/usr/bin/env python3\n{PRELUDE}\n{script}\n"),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Functions for a helper that stores entries in a file. The store has versions if the helper
/// calls `hello(True)`.
const PRELUDE: &str = r#"
import base64, fcntl, json, os, signal, sys, time
place = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/entries"
def entries():
    return json.load(open(place)) if os.path.exists(place) else {}
def entry(key):
    return entries().get(key, ["0", None])
def keep(key, value):
    all = entries()
    all[key] = [str(int(entry(key)[0]) + 1), value]
    json.dump(all, open(place + ".new", "w"))
    os.replace(place + ".new", place)
def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
def done(ask):
    with open(place + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ask["op"] == "put" and ask.get("if", entry(ask["key"])[0]) != entry(ask["key"])[0]:
            return {"ok": False, "error": "conflict", "message": ""}
        if ask["op"] == "put":
            keep(ask["key"], ask["value"])
        version, value = entry(ask["key"])
        return {"ok": True, "version": version, "value": value}
def answer(ask):
    say(json.dumps(done(ask)))
def decoded(value):
    return json.loads(base64.b64decode(value)) if value else {}
def kind(ask):
    if ask["op"] == "put" and "lease" in decoded(ask["value"]):
        return "lease"
    if ask["op"] == "put" and "lease" in decoded(entry(ask["key"])[1]):
        return "result"
    return ask["op"]
def hello(cas=False):
    say(json.dumps({"v": [1], "cas": cas}))
def serve(step=lambda ask: False):
    for line in sys.stdin:
        ask = json.loads(line)
        if not step(ask):
            answer(ask)
"#;

/// Machines that share a session. Each has its own home directory.
pub struct Machines {
    pub helper_world: HelperWorld,
    /// The store, as in the profiles file.
    pub store: String,
}

impl Machines {
    /// Creates machines that share a file, with a helper that has versions.
    pub fn on_a_file(settings: Settings) -> Self {
        let helper_world = HelperWorld::with_settings(Store::File, settings);
        helper_world.write_helper("odd", "hello(True)\nserve()");
        Self {
            helper_world,
            store: "helper:odd".to_owned(),
        }
    }

    pub fn home(&self, machine: &str) -> PathBuf {
        let home = self.helper_world.world.home().join(machine);
        std::fs::create_dir_all(&home).unwrap();
        home
    }

    /// Returns the command that runs the program on a machine whose clock is wrong by `offset`.
    pub fn command(&self, offset: &str, machine: &str, args: &[&str]) -> Command {
        let program = World::program();
        let mut command = match offset {
            "+0" => self.helper_world.command(&program, args),
            offset => {
                let faketime = ["-f", offset, program.to_str().unwrap()];
                let all = [&faketime[..], args].concat();
                self.helper_world.command("faketime".as_ref(), &all)
            }
        };
        command
            .env("HOME", self.home(machine))
            .env("REMEMBERIZER_PASSWORD", PASSWORD);
        command
    }

    pub fn run(&self, machine: &str, args: &[&str]) -> Output {
        self.run_with_clock("+0", machine, args)
    }

    pub fn run_with_clock(&self, offset: &str, machine: &str, args: &[&str]) -> Output {
        Output::from_process(self.command(offset, machine, args).output().unwrap())
    }

    pub fn spawn(&self, machine: &str, args: &[&str]) -> Child {
        let mut command = self.command("+0", machine, args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub fn login(&self, offset: &str, machine: &str) -> Output {
        let url = self.helper_world.world.api.base_url();
        let args = ["login", EMAIL, "--api-url", &url, "--store", &self.store];
        self.run_with_clock(offset, machine, &args)
    }

    pub fn join(&self, machine: &str) {
        let url = self.helper_world.world.api.base_url();
        self.run(machine, &["profile", "set", "api_url", &url])
            .expect(0);
        self.run(machine, &["profile", "set", "store", &self.store])
            .expect(0);
    }
}
