//! Name resolution, which the C library does. The static build has another C library.

use std::net::UdpSocket;
use std::process::Command;

use crate::sandbox::{self, Account, Settings, TlsKind};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    let unshare = [Part::Command("unshare"), Part::Root];
    vec![
        test("names::localhost", localhost),
        test("names::hosts_file", hosts_file).needs(&unshare),
        test("names::search_domain", search_domain).needs(&unshare),
    ]
}

fn localhost() {
    let world = World::new(Store::File);
    let v6 = sandbox::start_on_loopback_v6(Settings::default());
    v6.add_account(Account::new(EMAIL, PASSWORD));
    let port = world.api.address().port();
    for (profile, url) in [
        ("name", format!("http://localhost:{port}/api/v1")),
        ("v6", v6.base_url()),
    ] {
        let args = ["login", EMAIL, "-p", profile, "--store=file", "--api-url"];
        let password = [("REMEMBERIZER_PASSWORD", PASSWORD)];
        let args = [&args[..], &[&url]].concat();
        world.run_env(&password, &args).expect(0);
        world.run(&["whoami", "-p", profile]).expect(0);
    }
}

/// A world whose server uses https. While the program runs, `/etc/hosts` and `/etc/resolv.conf`
/// are replaced.
struct Resolver {
    world: World,
    ca: String,
}

impl Resolver {
    fn new(hosts: &str, resolv_conf: &str) -> Self {
        let settings = Settings {
            tls: Some(TlsKind::Good),
            ..Settings::default()
        };
        let world = World::with_settings(Store::File, settings);
        let write = |name: &str, text: &str| {
            let path = world.home().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let ca = write("ca.pem", world.api.ca_pem().unwrap());
        write("hosts", hosts);
        write("resolv.conf", resolv_conf);
        Self { world, ca }
    }

    fn login(&self, host: &str) -> Output {
        let port = self.world.api.address().port();
        let mut command = Command::new("unshare");
        self.world.set_environment(&mut command);
        command
            .args(["-m", "sh", "-c"])
            .arg(
                "mount --bind hosts /etc/hosts && mount --bind resolv.conf /etc/resolv.conf && exec \"$@\"",
            )
            .arg("sh")
            .arg(World::program())
            .args(["login", EMAIL, "--store=file", "--ca-cert", &self.ca])
            .arg(format!("--api-url=https://{host}:{port}/api/v1"))
            .env("REMEMBERIZER_PASSWORD", PASSWORD);
        Output::from_process(command.output().unwrap())
    }
}

fn hosts_file() {
    let hosts = "127.0.0.1 localhost\n127.0.0.1 api.sandbox.test\n";
    let resolver = Resolver::new(hosts, "nameserver 127.0.0.1\n");
    resolver.login("api.sandbox.test").expect(0);
}

fn search_domain() {
    // Use an address that depends on the process ID, because other test suites may run at the
    // same time.
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = format!("127.77.{high}.{low}");
    serve_names(&address);
    let resolver = Resolver::new(
        "127.0.0.1 localhost\n",
        &format!("nameserver {address}\nsearch sandbox.test\n"),
    );
    resolver.login("api.sandbox.test").expect(0);
    // The short name is resolved with the search domain, but the certificate is for the full
    // name.
    let output = resolver.login("api").expect(5);
    assert!(output.stderr.contains("certificate"), "{output:?}");
    let output = resolver.login("nowhere").expect(5);
    assert!(
        output.stderr.contains("cannot resolve nowhere"),
        "{output:?}"
    );
}

/// Answers DNS queries for `api.sandbox.test`. For other names, responds that they do not
/// exist.
fn serve_names(address: &str) {
    const NAME: &[u8] = b"\x03api\x07sandbox\x04test\x00";
    const A: [u8; 2] = [0, 1];
    let socket = UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let end = 12
                + question[12..length]
                    .iter()
                    .position(|b| *b == 0)
                    .unwrap_or(0)
                + 5;
            let asked = &question[12..end];
            let known = asked.starts_with(NAME);
            let is_a = asked[asked.len() - 4..asked.len() - 2] == A;
            let mut answer = question[..2].to_vec();
            answer.extend([0x81, if known { 0x80 } else { 0x83 }]);
            answer.extend([0, 1, 0, u8::from(known && is_a), 0, 0, 0, 0]);
            answer.extend(asked);
            if known && is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            drop(socket.send_to(&answer, from));
        }
    });
}
