//! One session on many machines: processes with three home directories share a session in an
//! etcd cluster of three nodes, in OpenBao, in a simulated Kubernetes, and over ssh. The server
//! revokes the session when a refresh token is used twice.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::readme::recipe;
use crate::sandbox::{RotationPolicy, Settings};
use crate::support::machines::{HelperWorld, Machines, helpers_dir};
use crate::support::world::{EMAIL, set_mode};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    let python = Part::Command("python3");
    let etcd = [Part::Command("etcd"), Part::Command("etcdctl"), python];
    let bao = [Part::Command("bao"), Part::Command("curl"), python];
    let mut tests = vec![
        test("fleet::check_store_serve", check_store_serve).needs(&[python]),
        test("fleet::life_over_ssh", life_over_ssh),
        test("fleet::check_vault_version_1", check_vault_version_1).needs(&bao),
        test("fleet::vault_keeps_two_versions", vault_keeps_two_versions).needs(&bao),
        test(
            "fleet::vault_address_ends_with_slashes",
            vault_address_ends_with_slashes,
        )
        .needs(&bao),
        test("fleet::vault_is_unreachable", vault_is_unreachable).needs(&[bao[1]]),
        test("fleet::recipes_of_etcd", recipes_of_etcd).needs(&etcd),
        test("fleet::the_leader_is_killed_meanwhile", || leader_killed(1)).needs(&etcd),
        test("fleet::the_leader_is_killed_five_times", || {
            leader_killed(5)
        })
        .needs(&etcd)
        .long(),
        test(
            "fleet::the_quorum_is_lost_for_12_s",
            the_quorum_is_lost_for_12_s,
        )
        .needs(&etcd)
        .long(),
        test("fleet::the_session_ends_for_all", the_session_ends_for_all).needs(&etcd),
    ];
    for (name, start, needs) in [
        ("etcd", Engine::etcd as fn() -> Engine, &etcd[..]),
        ("vault", Engine::vault, &bao),
        ("kubernetes", Engine::kubernetes, &[python]),
    ] {
        let on = |what: &str, run: fn(fn() -> Engine)| {
            test(&format!("fleet::{what}_{name}"), move || run(start)).needs(needs)
        };
        tests.extend([
            on("check", check),
            on("life", login_to_logout),
            on("many_processes_exchange_once", many_processes),
        ]);
        if name == "kubernetes" {
            continue;
        }
        tests.extend([
            on("one_renewer_many_readers", one_renewer),
            on("holder_killed_before_sending", killed_before_sending).long(),
            on("holder_killed_with_the_answer", killed_with_answer).long(),
            on("holder_stopped_for_12_s", |start| stopped_holder(start, 12)).long(),
            on("holder_stopped_for_40_s", |start| stopped_holder(start, 40)).long(),
        ]);
    }
    tests
}

/// A store server that runs during a test: three nodes of etcd, one OpenBao, or a simulated
/// `kubectl`.
struct Engine {
    name: &'static str,
    /// The helper's location.
    location: &'static str,
    nodes: Vec<Child>,
    addresses: Vec<String>,
    _data: tempfile::TempDir,
}

fn free_ports(count: usize) -> Vec<u16> {
    let taken: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    taken.iter().map(port).collect()
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn signal(process: u32, name: &str) {
    let pid = process.to_string();
    let sent = Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(sent.success());
}

impl Engine {
    fn etcd() -> Self {
        let data = tempfile::tempdir().unwrap();
        let ports = free_ports(6);
        let url = |i: usize| format!("http://127.0.0.1:{}", ports[i]);
        let members: Vec<_> = (0..3).map(|i| format!("n{i}={}", url(i + 3))).collect();
        let node = |i: usize| {
            let (client, peer) = (url(i), url(i + 3));
            let name = format!("n{i}");
            let mut command = Command::new("etcd");
            command.arg("--data-dir").arg(data.path().join(&name));
            command.args(["--name", &name, "--initial-cluster", &members.join(",")]);
            command.args(["--listen-client-urls", &client]);
            command.args(["--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer]);
            command.args(["--initial-advertise-peer-urls", &peer]);
            start(&mut command)
        };
        let engine = Self {
            name: "etcd",
            location: "team",
            nodes: (0..3).map(node).collect(),
            addresses: (0..3).map(|i| format!("127.0.0.1:{}", ports[i])).collect(),
            _data: data,
        };
        wait_until("etcd does not start", || {
            engine.etcdctl(&["put", "ready", "yes"]).status.success()
        });
        engine
    }

    fn vault() -> Self {
        let address = format!("127.0.0.1:{}", free_ports(1)[0]);
        let mut command = Command::new("bao");
        command.args(["server", "-dev", "-dev-root-token-id=root"]);
        command.arg("-dev-no-store-token");
        command.arg(format!("-dev-listen-address={address}"));
        let engine = Self {
            name: "vault",
            location: "secret/rememberizer",
            nodes: vec![start(&mut command)],
            addresses: vec![address],
            _data: tempfile::tempdir().unwrap(),
        };
        wait_until("bao does not start", || {
            TcpStream::connect(&engine.addresses[0]).is_ok()
                && engine.bao(&["secrets", "list"]).status.success()
        });
        engine
    }

    /// There is no server process: the simulated `kubectl` stores the Secrets in a directory.
    fn kubernetes() -> Self {
        let data = tempfile::tempdir().unwrap();
        Self {
            name: "kubernetes",
            location: "team/rememberizer",
            nodes: vec![],
            addresses: vec![data.path().display().to_string()],
            _data: data,
        }
    }

    /// Returns the variables with which helpers and recipes connect to the store.
    fn env(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        match self.name {
            "etcd" => vec![
                pair("ETCDCTL_API", "3".to_owned()),
                pair("ETCDCTL_ENDPOINTS", self.addresses.join(",")),
            ],
            "kubernetes" => vec![pair("KUBECONFIG", self.addresses[0].clone())],
            _ => vec![
                pair("VAULT_ADDR", format!("http://{}", self.addresses[0])),
                pair("VAULT_TOKEN", "root".to_owned()),
            ],
        }
    }

    fn tool(&self, name: &str, args: &[&str]) -> std::process::Output {
        let mut command = Command::new(name);
        command.args(args).envs(self.env()).output().unwrap()
    }

    fn etcdctl(&self, args: &[&str]) -> std::process::Output {
        self.tool("etcdctl", args)
    }

    fn bao(&self, args: &[&str]) -> std::process::Output {
        self.tool("bao", args)
    }

    fn leader(&self) -> usize {
        let is_leader = |address: &String| {
            let args = ["endpoint", "status", "--write-out", "json"];
            let output = Command::new("etcdctl")
                .args(args)
                .args(["--endpoints", address])
                .env("ETCDCTL_API", "3")
                .output()
                .unwrap();
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let status = &status[0]["Status"];
            !status.is_null() && status["leader"] == status["header"]["member_id"]
        };
        self.addresses.iter().position(is_leader).expect("a leader")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            drop(node.kill());
            drop(node.wait());
        }
    }
}

/// Machines that share a session in an engine.
struct Fleet {
    engine: Engine,
    machines: Machines,
}

const HOMES: [&str; 3] = ["one", "two", "three"];

impl Fleet {
    /// Machines whose helper is `helper`, none of them signed in.
    fn without_logins(engine: Engine, helper: &str) -> Self {
        let mut helper_world = HelperWorld::with_settings(
            Store::File,
            Settings {
                rotation: RotationPolicy::RevokeFamily,
                ..Settings::default()
            },
        );
        helper_world.env.extend(engine.env());
        let kubectl = helper_world.world.home().join("bin/kubectl");
        fs::write(&kubectl, include_str!("support/kubectl")).unwrap();
        set_mode(&kubectl, 0o755);
        let slow = helper_world
            .world
            .home()
            .join("bin/rememberizer-store-slow");
        fs::write(&slow, SLOW_HELPER.replace("ENGINE", engine.name)).unwrap();
        set_mode(&slow, 0o755);
        let store = format!("helper:{helper}:{}", engine.location);
        Self {
            engine,
            machines: Machines {
                helper_world,
                store,
            },
        }
    }

    fn signed_in(engine: Engine, helper: &str) -> Self {
        let fleet = Self::without_logins(engine, helper);
        fleet.machines.login("+0", HOMES[0]).expect(0);
        fleet.machines.join(HOMES[1]);
        fleet.machines.join(HOMES[2]);
        fleet
    }

    fn new(engine: Engine) -> Self {
        let helper = engine.name;
        Self::signed_in(engine, helper)
    }

    fn world(&self) -> &World {
        &self.machines.helper_world.world
    }

    fn run(&self, machine: usize, args: &[&str]) -> Output {
        self.machines.run(HOMES[machine], args)
    }

    /// Sends a request to the helper, as another program would.
    fn request(&self, request: &Value) -> Value {
        let program = helpers_dir().join(format!("rememberizer-store-{}", self.engine.name));
        let location = self.engine.location;
        let mut command = self.machines.helper_world.command(&program, &[location]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut helper = command.spawn().unwrap();
        let mut stdin = helper.stdin.take().unwrap();
        writeln!(stdin, "{request}").unwrap();
        drop(stdin);
        let output = Output::from_process(helper.wait_with_output().unwrap());
        let answer = output.stdout.lines().nth(1).expect("an answer");
        serde_json::from_str(answer).unwrap()
    }

    fn entry(&self) -> Value {
        let answer = self.request(&json!({"v": 1, "op": "get", "key": "default"}));
        let bytes = STANDARD.decode(answer["value"].as_str().unwrap());
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    }

    fn expire_access(&self) {
        let mut entry = self.entry();
        entry["access"]["lifetime"] = 0.into();
        let version =
            self.request(&json!({"v": 1, "op": "get", "key": "default"}))["version"].clone();
        let value = STANDARD.encode(entry.to_string());
        let put = json!({"v": 1, "op": "put", "key": "default", "if": version, "value": value});
        assert_eq!(self.request(&put)["ok"], true);
    }

    /// Starts `token` on the first machine, and waits until its helper holds the
    /// write of `step` for some seconds.
    fn stop_at(&self, step: &str, seconds: u32) -> Child {
        self.expire_access();
        let mut command = self.machines.command("+0", HOMES[0], &["token"]);
        command.env("SLOW", format!("{step} {seconds}"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let at = self.machines.home(HOMES[0]).join("at");
        wait_until("the step is not reached", || at.exists());
        child
    }

    /// Runs a recipe with `sh -eu` in its own home directory.
    fn shell(&self, machine: &str, script: &str) -> Output {
        let program = World::program();
        let dir = program.parent().unwrap().display().to_string();
        let script = format!("PATH={dir}:$PATH\n{script}");
        let mut command = self
            .machines
            .helper_world
            .command("sh".as_ref(), &["-euc", &script]);
        command
            .env("HOME", self.machines.home(machine))
            .env("REMEMBERIZER_API_URL", self.world().api.base_url())
            .env("REMEMBERIZER_PASSWORD", crate::support::world::PASSWORD);
        Output::from_process(command.output().unwrap())
    }

    fn check(&self, location: &str) -> Output {
        self.machines
            .helper_world
            .check(&[self.engine.name, location])
    }
}

fn check(start: fn() -> Engine) {
    let fleet = Fleet::without_logins(start(), "none");
    fleet.check(fleet.engine.location).expect(0);
}

fn check_vault_version_1() {
    let fleet = Fleet::without_logins(Engine::vault(), "none");
    let enable = ["secrets", "enable", "-path=old", "-version=1", "kv"];
    assert!(fleet.engine.bao(&enable).status.success());
    let old = fleet.check("old/rememberizer").expect(1);
    assert!(old.stdout.contains("not a KV version 2 engine"));
}

fn login_to_logout(start: fn() -> Engine) {
    let fleet = Fleet::new(start());
    let first = fleet.run(0, &["token"]).expect(0).stdout;
    assert_eq!(fleet.run(1, &["token"]).expect(0).stdout, first);
    fleet.run(2, &["refresh"]).expect(0);
    let second = fleet.run(0, &["token"]).expect(0).stdout;
    assert_ne!(first, second);
    assert!(fleet.world().api.access_works(second.trim()));
    assert_eq!(fleet.entry()["generation"], 1);
    fleet.run(1, &["doctor"]).expect(0);
    // If one machine removes the store from its profile, the other machines keep the session.
    fleet.run(2, &["logout", "--local"]).expect(0);
    fleet.run(0, &["whoami"]).expect(0);
    fleet.run(1, &["profile", "set", "store", "file"]).expect(2);
    // After a login on one machine, all machines use the new session. The previous session is
    // revoked.
    fleet.machines.login("+0", HOMES[1]).expect(0);
    let third = fleet.run(0, &["token"]).expect(0).stdout;
    assert_ne!(second, third);
    fleet.run(0, &["logout"]).expect(0);
    assert!(!fleet.world().api.session_alive(EMAIL));
    fleet.run(1, &["token"]).expect(3);
    assert_eq!(fleet.entry()["gone"], true);
    assert!(fleet.entry().get("refresh_token").is_none());
}

/// Runs `token` in 64 processes at once, and calls `meanwhile` while they run.
fn run_many(fleet: &mut Fleet, name: &str, meanwhile: impl FnOnce(&mut Fleet)) {
    fleet.expire_access();
    let before = fleet.world().api.exchanges();
    let started = Instant::now();
    let spawn = |i: usize| fleet.machines.spawn(HOMES[i % 3], &["token"]);
    let children: Vec<Child> = (0..64).map(spawn).collect();
    meanwhile(fleet);
    let outputs: Vec<Output> = children
        .into_iter()
        .map(|child| Output::from_process(child.wait_with_output().unwrap()))
        .collect();
    let elapsed = started.elapsed();
    for output in &outputs {
        assert_eq!(output.code, 0, "{output:#?}");
        assert_eq!(output.stdout, outputs[0].stdout, "another token");
    }
    let api = &fleet.world().api;
    assert!(api.access_works(outputs[0].stdout.trim()));
    assert_eq!(api.exchanges() - before, 1, "exchanges");
    eprintln!("64 processes, {name}: {elapsed:.1?}");
}

fn many_processes(start: fn() -> Engine) {
    let mut fleet = Fleet::new(start());
    let name = fleet.engine.name;
    run_many(&mut fleet, name, |_| {});
}

fn leader_killed(times: u32) {
    for _ in 0..times {
        let mut fleet = Fleet::new(Engine::etcd());
        run_many(&mut fleet, "the leader killed", |fleet| {
            let leader = fleet.engine.leader();
            fleet.engine.nodes[leader].kill().unwrap();
        });
    }
}

fn the_quorum_is_lost_for_12_s() {
    let mut fleet = Fleet::new(Engine::etcd());
    run_many(&mut fleet, "no quorum for 12 s", |fleet| {
        let nodes = fleet.engine.nodes[..2].iter().map(Child::id);
        nodes.clone().for_each(|node| signal(node, "-STOP"));
        std::thread::sleep(Duration::from_secs(12));
        nodes.for_each(|node| signal(node, "-CONT"));
    });
}

/// If the server refuses the token, the entry is marked as ended, and the other machines read
/// the mark.
fn the_session_ends_for_all() {
    let fleet = Fleet::new(Engine::etcd());
    let api = &fleet.world().api;
    api.revoke_all();
    fleet.run(0, &["refresh"]).expect(3);
    assert!(fleet.entry().get("ended").is_some());
    api.clear_requests();
    let output = fleet.run(1, &["token"]).expect(3);
    let text = "the server has ended the session";
    assert!(output.stderr.contains(text), "{output:#?}");
    fleet.run(1, &["refresh"]).expect(3);
    assert!(api.requests().is_empty());
    fleet.run(2, &["logout"]).expect(0);
    fleet.run(0, &["whoami"]).expect(3);
}

/// Wraps the helper of an engine, so that a test can delay the write of the result, or the
/// response to the write of the lease.
const SLOW_HELPER: &str = r#"#!/usr/bin/env python3
import base64, json, os, select, subprocess, sys
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
engine = subprocess.Popen(["rememberizer-store-ENGINE", *sys.argv[1:]], **pipes)
print(engine.stdout.readline(), end="", flush=True)
hold, seconds = os.environ.get("SLOW", "nothing 0").split()
def stop():
    open(os.path.expanduser("~/at"), "w").close()
    # Nothing comes before the answer but the end of the input.
    if select.select([sys.stdin], [], [], float(seconds))[0]:
        os._exit(1)
for line in sys.stdin:
    ask = json.loads(line)
    step = ""
    if ask["op"] == "put":
        step = "lease" if "lease" in json.loads(base64.b64decode(ask["value"])) else "result"
    if hold == step == "result":
        stop()
    engine.stdin.write(line)
    engine.stdin.flush()
    answer = engine.stdout.readline()
    if hold == step == "lease":
        stop()
    print(answer, end="", flush=True)
"#;

/// The holder is killed before it sends the token. Another machine takes over once it has
/// watched the lease for its duration, and not earlier.
fn killed_before_sending(start: fn() -> Engine) {
    let fleet = Fleet::signed_in(start(), "slow");
    let mut holder = fleet.stop_at("lease", 600);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let started = Instant::now();
    let busy = fleet.run(1, &["token", "--lock-timeout", "1"]).expect(9);
    assert!(busy.stderr.contains("has been renewing"), "{busy:#?}");
    fleet.run(1, &["token"]).expect(0);
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_secs(30));
    assert_eq!(fleet.world().api.exchanges(), 1);
    eprintln!("{}, holder killed: {elapsed:.1?}", fleet.engine.name);
}

/// The holder is killed after the exchange, so the new tokens are lost. The server ends the
/// session, and the error on the other machines names the run that used the token.
fn killed_with_answer(start: fn() -> Engine) {
    let fleet = Fleet::signed_in(start(), "slow");
    let mut holder = fleet.stop_at("result", 600);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let output = fleet.run(1, &["token"]).expect(3);
    assert!(output.stderr.contains("did not finish"), "{output:#?}");
    fleet.run(2, &["token"]).expect(3);
}

/// A holder that was stopped for longer than its deadline allows releases the lease, or another
/// machine has taken over. There is one exchange in all.
fn stopped_holder(start: fn() -> Engine, seconds: u64) {
    let fleet = Fleet::signed_in(start(), "slow");
    let holder = fleet.stop_at("lease", 1);
    signal(holder.id(), "-STOP");
    let other = fleet.machines.spawn(HOMES[1], &["token"]);
    std::thread::sleep(Duration::from_secs(seconds));
    signal(holder.id(), "-CONT");
    let other = Output::from_process(other.wait_with_output().unwrap()).expect(0);
    let holder = Output::from_process(holder.wait_with_output().unwrap()).expect(0);
    assert_eq!(holder.stdout, other.stdout);
    assert_eq!(fleet.world().api.exchanges(), 1);
}

/// The recipes of `helpers/README.md` for one renewer and many readers, as they are
/// written: the machine that is signed in renews, and a job without a session reads.
fn one_renewer(start: fn() -> Engine) {
    let fleet = Fleet::new(start());
    let bin = fleet.world().home().join("bin");
    fs::write(bin.join("vault"), "#!/bin/sh\nexec bao \"$@\"\n").unwrap();
    set_mode(&bin.join("vault"), 0o755);
    let text = fs::read_to_string(helpers_dir().join("README.md")).unwrap();
    let marker = format!("<!-- {} -->", fleet.engine.name);
    let (_, block) = text.split_once(&marker).expect("a recipe");
    let (_, block) = block.split("```").nth(1).unwrap().split_once('\n').unwrap();
    let (renewer, job) = block.split_once("# in a job").unwrap();
    fleet.shell(HOMES[0], renewer).expect(0);
    let job = format!("{job}\nrememberizer whoami\necho \"$REMEMBERIZER_ACCESS_TOKEN\"");
    let first = fleet.shell("job", &job).expect(0);
    assert!(first.stdout.contains(EMAIL), "{first:#?}");
    // If a renewal fails, the token that the jobs read is unchanged.
    fleet.world().api.revoke_all();
    fleet.expire_access();
    assert_ne!(fleet.shell(HOMES[0], renewer).code, 0);
    let job = job.replace("rememberizer whoami", "");
    let second = fleet.shell("job", &job).expect(0).stdout;
    assert!(first.stdout.ends_with(&second));
}

/// The README's commands for a shared session.
fn recipes_of_etcd() {
    let fleet = Fleet::without_logins(Engine::etcd(), "etcd");
    let api_url = "rememberizer profile set api_url \"$REMEMBERIZER_API_URL\"";
    fleet.shell("other", api_url).expect(0);
    for _ in 0..2 {
        fleet.shell("first", &recipe("share")).expect(0);
        let me = fleet.shell("other", &recipe("join")).expect(0);
        assert!(me.stdout.contains(EMAIL), "{me:#?}");
    }
    fleet
        .shell("other", "rememberizer logout --local")
        .expect(0);
    fleet.shell("first", "rememberizer whoami").expect(0);
    fleet.shell("other", &recipe("join")).expect(0);
    fleet.shell("other", "rememberizer logout").expect(0);
    fleet.shell("first", "rememberizer whoami").expect(3);
}

fn vault_keeps_two_versions() {
    let fleet = Fleet::without_logins(Engine::vault(), "vault");
    let as_bao = |script: &str| format!("vault() {{ bao \"$@\"; }}\n{script}");
    fleet.shell("first", &as_bao(&recipe("vault"))).expect(0);
    fleet.machines.login("+0", HOMES[0]).expect(0);
    for _ in 0..4 {
        fleet.run(0, &["refresh"]).expect(0);
    }
    let get = ["kv", "metadata", "get", "-format=json", "-mount=secret"];
    let output = fleet
        .engine
        .bao(&[&get[..], &["rememberizer/default"]].concat());
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let versions = metadata["data"]["versions"].as_object().unwrap();
    assert_eq!(versions.len(), 2, "{metadata}");
}

fn vault_address_ends_with_slashes() {
    let mut fleet = Fleet::without_logins(Engine::vault(), "vault");
    let address = format!("http://{}//", fleet.engine.addresses[0]);
    let helper_world = &mut fleet.machines.helper_world;
    helper_world.env.push(("VAULT_ADDR".to_owned(), address));
    let answer =
        fleet.request(&json!({"v": 1, "op": "put", "key": "default", "if": "0", "value": "YQ=="}));
    assert_eq!(answer, json!({"ok": true, "version": "1"}));
}

/// The message is that of curl, without the status that curl prints for the helper.
fn vault_is_unreachable() {
    let mut helper_world = HelperWorld::new(Store::File);
    let env = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    helper_world.env.extend([
        env("VAULT_ADDR", "http://127.0.0.1:1"),
        env("VAULT_TOKEN", "root"),
    ]);
    let output = helper_world
        .login("helper:vault:secret/rememberizer")
        .expect(6);
    let (first_line, _) = output.stderr.split_once('\n').unwrap();
    assert!(
        first_line.contains("the store is unavailable: curl: (7) "),
        "{output:#?}"
    );
    assert!(!first_line.ends_with("000"), "{output:#?}");
}

/// Creates machines with a simulated ssh, which runs its command in another home directory.
fn with_ssh() -> Machines {
    let helper_world = HelperWorld::new(Store::File);
    let server = helper_world.world.home().join("server");
    fs::create_dir_all(&server).unwrap();
    let ssh = helper_world.world.home().join("bin/ssh");
    let program = World::program();
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" = -o ]; do shift 2; done\n\
         [ \"$1\" = store.example.com ] || exit 255\nshift\n\
         PATH={}:$PATH HOME={} exec \"$@\"\n",
        program.parent().unwrap().display(),
        server.display()
    );
    fs::write(&ssh, script).unwrap();
    set_mode(&ssh, 0o755);
    let store = "helper:ssh:store.example.com".to_owned();
    Machines {
        helper_world,
        store,
    }
}

fn check_store_serve() {
    let checked = with_ssh().helper_world.check(&["ssh", "store.example.com"]);
    checked.expect(0);
}

fn life_over_ssh() {
    let machines = with_ssh();
    assert!(recipe("ssh").contains(&format!("--store {}", machines.store)));
    let api = &machines.helper_world.world.api;
    machines.login("+0", "one").expect(0);
    machines.join("two");
    let token = machines.run("one", &["token"]).expect(0).stdout;
    assert_eq!(machines.run("two", &["token"]).expect(0).stdout, token);
    machines.run("two", &["refresh"]).expect(0);
    let renewed = machines.run("one", &["token"]).expect(0).stdout;
    assert_ne!(token, renewed);
    assert!(api.access_works(renewed.trim()));
    // The profile of the same name on the ssh server is another session.
    let own = machines.run("server", &["token", "--store", "file"]);
    own.expect(3);
    machines.run("two", &["logout"]).expect(0);
    machines.run("one", &["token"]).expect(3);
}
