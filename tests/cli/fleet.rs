//! One session on many machines: processes from three homes on an etcd cluster
//! of three nodes, and a server that revokes the session when a spent refresh
//! token comes back.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{RotationPolicy, Settings};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    let etcd = [Part::Command("etcd"), Part::Command("etcdctl")];
    let check = [etcd[0], etcd[1], Part::Command("python3")];
    vec![
        test("fleet::check_store_serve", check_serve).needs(&check[2..]),
        test("fleet::life_over_ssh", life_over_ssh),
        test(
            "fleet::killed_with_the_answer_in_memory",
            killed_with_answer,
        )
        .needs(&check)
        .long(),
        test(
            "fleet::stopped_while_taking_the_lease",
            stopped_while_taking,
        )
        .needs(&check)
        .long(),
        test("fleet::one_renewer_many_readers", one_renewer).needs(&etcd),
        test("fleet::check_etcd", check_etcd).needs(&check),
        test("fleet::check_vault", check_vault).needs(&[Part::Command("bao"), check[2]]),
        test("fleet::life", life).needs(&etcd),
        test("fleet::many_processes_exchange_once", many_processes).needs(&etcd),
        test("fleet::the_leader_is_killed_meanwhile", leader_killed).needs(&etcd),
        test("fleet::a_holder_that_died_is_taken_over", dead_holder)
            .needs(&etcd)
            .long(),
        test("fleet::the_session_ends_for_all", ends_for_all).needs(&etcd),
        test(
            "fleet::a_store_that_overwrites_is_refused",
            overwriting_store,
        )
        .needs(&[Part::Command("python3")]),
    ]
}

/// Three nodes of etcd on loopback.
struct Cluster {
    dir: tempfile::TempDir,
    nodes: Vec<Child>,
    clients: Vec<u16>,
}

fn free_ports(count: usize) -> Vec<u16> {
    let taken: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    taken
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(6);
        let (clients, peers) = ports.split_at(3);
        let members: Vec<String> = (0..3)
            .map(|i| format!("n{i}=http://127.0.0.1:{}", peers[i]))
            .collect();
        let nodes = (0..3)
            .map(|i| {
                let client = format!("http://127.0.0.1:{}", clients[i]);
                let peer = format!("http://127.0.0.1:{}", peers[i]);
                Command::new("etcd")
                    .args([
                        "--name",
                        &format!("n{i}"),
                        "--initial-cluster",
                        &members.join(","),
                    ])
                    .arg("--data-dir")
                    .arg(dir.path().join(format!("n{i}")))
                    .args([
                        "--listen-client-urls",
                        &client,
                        "--advertise-client-urls",
                        &client,
                    ])
                    .args([
                        "--listen-peer-urls",
                        &peer,
                        "--initial-advertise-peer-urls",
                        &peer,
                    ])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let cluster = Self {
            dir,
            nodes,
            clients: clients.to_vec(),
        };
        let started = Instant::now();
        while !cluster.etcdctl(&["put", "ready", "yes"]).status.success() {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "etcd does not start"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        cluster
    }

    fn endpoints(&self) -> String {
        let all: Vec<String> = self
            .clients
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        all.join(",")
    }

    fn etcdctl(&self, args: &[&str]) -> std::process::Output {
        Command::new("etcdctl")
            .args(args)
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", self.endpoints())
            .output()
            .unwrap()
    }

    fn kill_leader(&mut self) {
        for (i, port) in self.clients.clone().into_iter().enumerate() {
            let status = Command::new("etcdctl")
                .args(["endpoint", "status", "--write-out", "fields"])
                .env("ETCDCTL_API", "3")
                .env("ETCDCTL_ENDPOINTS", format!("127.0.0.1:{port}"))
                .output()
                .unwrap();
            let status = String::from_utf8_lossy(&status.stdout).into_owned();
            let field = |name: &str| {
                status
                    .lines()
                    .find_map(|line| line.strip_prefix(&format!("\"{name}\" : ")))
                    .map(str::to_owned)
            };
            if field("MemberID").is_some() && field("MemberID") == field("Leader") {
                self.nodes[i].kill().unwrap();
                return;
            }
        }
        panic!("no leader");
    }

    /// The stored entry, read by others than the program.
    fn entry(&self) -> serde_json::Value {
        use base64::Engine;
        let output = self.etcdctl(&["get", "fleet/default", "--print-value-only"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text.trim())
            .unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn set_entry(&self, entry: &serde_json::Value) {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(entry.to_string());
        assert!(
            self.etcdctl(&["put", "fleet/default", &text])
                .status
                .success()
        );
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            drop(node.kill());
            drop(node.wait());
        }
        let _ = &self.dir;
    }
}

/// Homes of machines that share a session.
struct Fleet {
    cluster: Cluster,
    world: World,
    homes: Vec<PathBuf>,
}

const STORE: &str = "helper:etcd:fleet";

impl Fleet {
    fn new() -> Self {
        Self::on(STORE)
    }

    /// A fleet whose helper can be told to stop in the middle, by `SLOW`.
    fn slow() -> Self {
        Self::on("helper:slow:fleet")
    }

    fn on(store: &str) -> Self {
        let settings = Settings {
            rotation: RotationPolicy::RevokeFamily,
            ..Settings::default()
        };
        let world = World::with(Store::File, settings);
        let homes: Vec<PathBuf> = (0..3)
            .map(|i| world.home().join(format!("machine{i}")))
            .collect();
        let fleet = Self {
            cluster: Cluster::start(),
            world,
            homes,
        };
        for home in &fleet.homes {
            fs::create_dir_all(home).unwrap();
        }
        let slow = fleet.world.home().join("rememberizer-store-slow");
        fs::write(&slow, SLOW_HELPER).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&slow, mode).unwrap();
        let url = fleet.world.api.base_url();
        let mut login = fleet.command(0, &["login", EMAIL, "--api-url", &url, "--store", store]);
        Output::of(
            login
                .env("REMEMBERIZER_PASSWORD", PASSWORD)
                .output()
                .unwrap(),
        )
        .expect(0);
        for machine in 1..3 {
            fleet
                .run(machine, &["profile", "set", "api_url", &url])
                .expect(0);
            fleet
                .run(machine, &["profile", "set", "store", store])
                .expect(0);
        }
        fleet
    }

    fn command(&self, machine: usize, args: &[&str]) -> Command {
        let mut command = Command::new(World::program());
        self.world.dress(&mut command);
        let path = format!(
            "{}:{}:{}",
            helpers().display(),
            self.world.home().display(),
            std::env::var("PATH").unwrap()
        );
        command
            .env("HOME", &self.homes[machine])
            .env("PATH", path)
            .env("ETCDCTL_ENDPOINTS", self.cluster.endpoints())
            .args(args);
        command
    }

    fn run(&self, machine: usize, args: &[&str]) -> Output {
        Output::of(self.command(machine, args).output().unwrap())
    }

    fn spawn(&self, machine: usize, args: &[&str]) -> Child {
        let mut command = self.command(machine, args);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Starts `token` on the first machine, and waits until its helper stops at
    /// the write of `step`.
    fn stop_at(&self, step: &str) -> Child {
        let mut command = self.command(0, &["token"]);
        command
            .env("SLOW", step)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let started = Instant::now();
        while !self.homes[0].join("at").exists() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{step} is not reached"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    fn expire_access(&self) {
        let mut entry = self.cluster.entry();
        entry["access"]["lifetime"] = 0.into();
        self.cluster.set_entry(&entry);
    }
}

fn helpers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("helpers")
}

fn check_etcd() {
    let cluster = Cluster::start();
    let world = World::new(Store::File);
    let mut command = Command::new(helpers().join("check"));
    world.dress(&mut command);
    command
        .args(["etcd", "check"])
        .env(
            "PATH",
            format!("{}:{}", helpers().display(), std::env::var("PATH").unwrap()),
        )
        .env("ETCDCTL_ENDPOINTS", cluster.endpoints());
    Output::of(command.output().unwrap()).expect(0);
}

/// OpenBao, which speaks Vault's API: its KV version 2 passes, its version 1 does not.
fn check_vault() {
    let port = free_ports(1)[0];
    let address = format!("127.0.0.1:{port}");
    let mut server = Command::new("bao")
        .args([
            "server",
            "-dev",
            "-dev-root-token-id=root",
            "-dev-no-store-token",
        ])
        .arg(format!("-dev-listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "bao does not start"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let world = World::new(Store::File);
    let run = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        world.dress(&mut command);
        command
            .args(args)
            .env(
                "PATH",
                format!("{}:{}", helpers().display(), std::env::var("PATH").unwrap()),
            )
            .env("BAO_ADDR", format!("http://{address}"))
            .env("BAO_TOKEN", "root");
        Output::of(command.output().unwrap())
    };
    let version_1 = run(
        Path::new("bao"),
        &["secrets", "enable", "-path=old", "-version=1", "kv"],
    );
    let new = run(&helpers().join("check"), &["vault", "secret/rememberizer"]);
    let old = run(&helpers().join("check"), &["vault", "old/rememberizer"]);
    drop(server.kill());
    drop(server.wait());
    version_1.expect(0);
    new.expect(0);
    assert!(old.expect(1).stdout.contains("not a KV version 2 engine"));
}

fn life() {
    let fleet = Fleet::new();
    let first = fleet.run(0, &["token"]).expect(0).stdout;
    assert_eq!(
        fleet.run(1, &["token"]).expect(0).stdout,
        first,
        "not the same session"
    );
    fleet.run(2, &["refresh"]).expect(0);
    let second = fleet.run(0, &["token"]).expect(0).stdout;
    assert_ne!(first, second);
    assert!(fleet.world.api.access_works(second.trim()));
    assert_eq!(fleet.cluster.entry()["generation"], 1);
    fleet.run(1, &["doctor"]).expect(0);
    // A machine that forgets the store leaves the session to the others.
    fleet.run(2, &["logout", "--local"]).expect(0);
    fleet.run(0, &["whoami"]).expect(0);
    fleet.run(1, &["profile", "set", "store", "file"]).expect(2);
    // A login of one machine is there for all, and ends the former session.
    let url = fleet.world.api.base_url();
    let mut login = fleet.command(1, &["login", EMAIL, "--api-url", &url]);
    Output::of(
        login
            .env("REMEMBERIZER_PASSWORD", PASSWORD)
            .output()
            .unwrap(),
    )
    .expect(0);
    let third = fleet.run(0, &["token"]).expect(0).stdout;
    assert_ne!(second, third);
    fleet.run(0, &["logout"]).expect(0);
    assert!(!fleet.world.api.session_alive(EMAIL));
    fleet.run(1, &["token"]).expect(3);
    assert_eq!(fleet.cluster.entry()["gone"], true);
    assert!(fleet.cluster.entry().get("refresh_token").is_none());
}

/// Runs `token` in many processes at once; `meanwhile` happens in the middle.
fn run_many(fleet: &mut Fleet, meanwhile: impl FnOnce(&mut Fleet)) -> Duration {
    fleet.expire_access();
    let before = fleet.world.api.exchanges();
    let started = Instant::now();
    let children: Vec<Child> = (0..64).map(|i| fleet.spawn(i % 3, &["token"])).collect();
    meanwhile(fleet);
    let outputs: Vec<Output> = children
        .into_iter()
        .map(|child| Output::of(child.wait_with_output().unwrap()))
        .collect();
    let elapsed = started.elapsed();
    for output in &outputs {
        assert_eq!(output.code, 0, "{output:#?}");
        assert_eq!(output.stdout, outputs[0].stdout, "another token");
    }
    assert!(fleet.world.api.access_works(outputs[0].stdout.trim()));
    assert_eq!(fleet.world.api.exchanges() - before, 1, "exchanges");
    elapsed
}

fn many_processes() {
    let mut fleet = Fleet::new();
    let elapsed = run_many(&mut fleet, |_| {});
    eprintln!("64 processes: {elapsed:?}");
}

fn leader_killed() {
    let mut fleet = Fleet::new();
    let elapsed = run_many(&mut fleet, |fleet| fleet.cluster.kill_leader());
    eprintln!("64 processes, leader killed: {elapsed:?}");
}

/// The holder of a lease is never heard of again: it is taken over when the
/// others have watched it for its length, and not before.
fn dead_holder() {
    let fleet = Fleet::new();
    fleet.expire_access();
    let mut entry = fleet.cluster.entry();
    entry["lease"] =
        serde_json::json!({"by": "x", "host": "ci-7", "pid": 1, "began": 0, "for": 5000});
    fleet.cluster.set_entry(&entry);
    let started = Instant::now();
    let busy = fleet.run(0, &["token", "--lock-timeout", "1"]).expect(9);
    assert!(busy.stderr.contains("ci-7"), "{busy:#?}");
    fleet.run(1, &["token"]).expect(0);
    assert!(started.elapsed() >= Duration::from_secs(5));
    assert_eq!(fleet.world.api.exchanges(), 1);
}

/// A refusal is marked in the entry, and the other machines read that.
fn ends_for_all() {
    let fleet = Fleet::new();
    fleet.world.api.revoke_all();
    fleet.run(0, &["refresh"]).expect(3);
    assert!(fleet.cluster.entry().get("ended").is_some());
    fleet.world.api.clear_requests();
    let output = fleet.run(1, &["token"]).expect(3);
    assert!(
        output.stderr.contains("the server has ended the session"),
        "{output:#?}"
    );
    assert!(fleet.world.api.requests().is_empty());
    fleet.run(1, &["refresh"]).expect(3);
    assert!(fleet.world.api.requests().is_empty());
    fleet.run(2, &["logout"]).expect(0);
    fleet.run(0, &["whoami"]).expect(3);
}

/// A helper that says that its store compares versions, and does not.
fn overwriting_store() {
    let world = World::new(Store::File);
    let bin = world.home().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let helper = bin.join("rememberizer-store-odd");
    let script = "#!/usr/bin/env python3\nimport json, sys\nn = 0\nv = None\nprint('{\"v\":[1],\"cas\":true}', flush=True)\nfor line in sys.stdin:\n    ask = json.loads(line)\n    if ask['op'] == 'put':\n        n += 1\n        v = ask['value']\n        print(json.dumps({'ok': True, 'version': str(n)}), flush=True)\n    else:\n        print(json.dumps({'ok': True, 'version': str(n), 'value': v}), flush=True)\n";
    fs::write(&helper, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&helper, mode).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let url = world.api.base_url();
    let output = world.run_env(
        &[("PATH", &path), ("REMEMBERIZER_PASSWORD", PASSWORD)],
        &["login", EMAIL, "--api-url", &url, "--store", "helper:odd"],
    );
    let output = output.expect(6);
    assert!(output.stderr.contains("overwrote"), "{output:#?}");
    assert!(
        world.api.requests().is_empty(),
        "asked the server before the store"
    );
}

/// A world with a stand-in for ssh, which runs its command in another home.
fn with_ssh() -> (World, String) {
    let world = World::new(Store::File);
    let (bin, server) = (world.home().join("bin"), world.home().join("server"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&server).unwrap();
    let ssh = bin.join("ssh");
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" = -o ]; do shift 2; done\n[ \"$1\" = store.example.com ] || exit 255\nshift\nHOME={} exec \"$@\"\n",
        server.display()
    );
    fs::write(&ssh, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&ssh, mode).unwrap();
    let program = World::program();
    let path = format!(
        "{}:{}:{}:{}",
        bin.display(),
        helpers().display(),
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    (world, path)
}

fn check_serve() {
    let (world, path) = with_ssh();
    let mut command = Command::new(helpers().join("check"));
    world.dress(&mut command);
    command.args(["ssh", "store.example.com"]).env("PATH", path);
    Output::of(command.output().unwrap()).expect(0);
}

fn life_over_ssh() {
    let (world, path) = with_ssh();
    let url = world.api.base_url();
    let store = "helper:ssh:store.example.com";
    let run = |home: &str, args: &[&str]| {
        let home = world.home().join(home);
        fs::create_dir_all(&home).unwrap();
        let home = home.display().to_string();
        let env = [
            ("PATH", path.as_str()),
            ("HOME", &home),
            ("REMEMBERIZER_PASSWORD", PASSWORD),
        ];
        world.run_env(&env, args)
    };
    run(
        "one",
        &["login", EMAIL, "--api-url", &url, "--store", store],
    )
    .expect(0);
    run("two", &["profile", "set", "api_url", &url]).expect(0);
    run("two", &["profile", "set", "store", store]).expect(0);
    let token = run("one", &["token"]).expect(0).stdout;
    assert_eq!(run("two", &["token"]).expect(0).stdout, token);
    run("two", &["refresh"]).expect(0);
    let renewed = run("one", &["token"]).expect(0).stdout;
    assert_ne!(token, renewed);
    assert!(world.api.access_works(renewed.trim()));
    // The server's own profile of that name is another session.
    run("server", &["token", "--store", "file"]).expect(3);
    run("two", &["logout"]).expect(0);
    run("one", &["token"]).expect(3);
}

/// The helper of etcd, which can be told to hold the write of the result, or the
/// answer to the one that takes the lease.
const SLOW_HELPER: &str = r#"#!/usr/bin/env python3
import base64, json, os, subprocess, sys, time
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
etcd = subprocess.Popen(["rememberizer-store-etcd", *sys.argv[1:]], **pipes)
print(etcd.stdout.readline(), end="", flush=True)
hold = os.environ.get("SLOW")
def stop(seconds):
    open(os.path.expanduser("~/at"), "w").close()
    time.sleep(seconds)
for line in sys.stdin:
    ask = json.loads(line)
    step = ""
    if ask["op"] == "put":
        step = "lease" if "lease" in json.loads(base64.b64decode(ask["value"])) else "result"
    if hold == step == "result":
        stop(600)
    etcd.stdin.write(line)
    etcd.stdin.flush()
    answer = etcd.stdout.readline()
    if hold == step == "lease":
        stop(1)
    print(answer, end="", flush=True)
"#;

/// The new tokens are lost with the holder. The server ends the session, and
/// the others are told which run spent the token.
fn killed_with_answer() {
    let fleet = Fleet::slow();
    fleet.expire_access();
    let mut holder = fleet.stop_at("result");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let output = fleet.run(1, &["token"]).expect(3);
    assert!(output.stderr.contains("did not finish"), "{output:#?}");
    fleet.run(2, &["token"]).expect(3);
}

/// A holder that was stopped for longer than its deadline allows gives the lease
/// back, and one exchange is made in all.
fn stopped_while_taking() {
    let fleet = Fleet::slow();
    fleet.expire_access();
    let holder = fleet.stop_at("lease");
    let pid = holder.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-STOP", &pid])
            .status()
            .unwrap()
            .success()
    );
    let other = fleet.spawn(1, &["token"]);
    std::thread::sleep(Duration::from_secs(12));
    assert!(
        Command::new("kill")
            .args(["-CONT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let other = Output::of(other.wait_with_output().unwrap()).expect(0);
    let holder = Output::of(holder.wait_with_output().unwrap()).expect(0);
    assert_eq!(holder.stdout, other.stdout);
    assert_eq!(fleet.world.api.exchanges(), 1);
}

/// The first recipe of `helpers/README.md`, as it is written: the machine that is
/// signed in renews, and a job without a session reads the access token.
fn one_renewer() {
    let fleet = Fleet::new();
    let text = fs::read_to_string(helpers().join("README.md")).unwrap();
    let block = text.split("```").nth(1).unwrap();
    let (_, block) = block.split_once('\n').unwrap();
    let (renewer, job) = block.split_once("# in a job").unwrap();
    let shell = |home: &Path, script: &str| {
        let mut command = Command::new("sh");
        fleet.world.dress(&mut command);
        let program = World::program();
        let dir = program.parent().unwrap().display().to_string();
        let others = std::env::var("PATH").unwrap();
        command
            .args(["-euc", script])
            .env("HOME", home)
            .env("PATH", format!("{dir}:{}:{others}", helpers().display()))
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", fleet.cluster.endpoints())
            .env("REMEMBERIZER_API_URL", fleet.world.api.base_url());
        Output::of(command.output().unwrap())
    };
    shell(&fleet.homes[0], renewer).expect(0);
    let reader = fleet.world.home().join("job");
    fs::create_dir_all(&reader).unwrap();
    let me = shell(&reader, &format!("{job}\nrememberizer whoami")).expect(0);
    assert!(me.stdout.contains(EMAIL), "{me:#?}");
}
