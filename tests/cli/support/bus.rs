//! A private D-Bus session, with or without a gnome-keyring.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A session bus, which is stopped when this value is dropped.
pub struct Bus {
    daemon: Child,
    keyring: Option<Child>,
    address: String,
    home: std::path::PathBuf,
}

/// The program that shows the prompts of gnome-keyring.
pub const PROMPTER: &str = "/usr/libexec/gcr-prompter";

/// The test's home directory is the only service directory, so that D-Bus starts no service of
/// the machine.
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:dir=DIR</listen><servicedir>DIR</servicedir>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>"#;

impl Bus {
    /// Starts a bus without any service.
    pub fn without_keyring(home: &Path) -> Self {
        Self::start(home, &mut Command::new("dbus-daemon"))
    }

    /// Starts a bus with an unlocked gnome-keyring, whose prompts appear on `display`.
    pub fn with_prompts(home: &Path, display: &str) -> Self {
        const SERVICE: &str = "org.gnome.keyring.SystemPrompter";
        std::fs::write(
            home.join(format!("{SERVICE}.service")),
            format!("[D-BUS Service]\nName={SERVICE}\nExec={PROMPTER}\n"),
        )
        .unwrap();
        let mut bus = Self::start(
            home,
            Command::new("dbus-daemon")
                .env("DISPLAY", display)
                .env("HOME", home)
                .env("XDG_RUNTIME_DIR", home),
        );
        bus.start_keyring(Some("test"));
        bus
    }

    fn start(home: &Path, daemon: &mut Command) -> Self {
        let config = home.join("bus.conf");
        std::fs::write(&config, CONFIG.replace("DIR", &home.display().to_string())).unwrap();
        let mut daemon = daemon
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--print-address=1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        Self {
            daemon,
            keyring: None,
            address: address.trim().to_owned(),
            home: home.to_owned(),
        }
    }

    /// Starts a bus with an unlocked gnome-keyring.
    pub fn with_keyring(home: &Path) -> Self {
        let mut bus = Self::without_keyring(home);
        bus.start_keyring(Some("test"));
        bus
    }

    /// Starts gnome-keyring: with a password, unlocked; without, with no default collection.
    pub fn start_keyring(&mut self, password: Option<&str>) {
        let mut command = self.command("gnome-keyring-daemon");
        command.args(["--foreground", "--components=secrets"]);
        if password.is_some() {
            command.arg("--unlock");
        }
        let mut keyring = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = keyring.stdin.take().unwrap();
        stdin
            .write_all(password.unwrap_or_default().as_bytes())
            .unwrap();
        drop(stdin);
        self.keyring = Some(keyring);
        let started = Instant::now();
        while !self.has_secret_service() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "gnome-keyring-daemon did not come up"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        if password.is_some() {
            // The daemon owns the name shortly before it creates the collection.
            while !self.has_default_collection() {
                assert!(started.elapsed() < Duration::from_secs(20), "no collection");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    pub fn dbus_send(&self, arguments: &[&str]) -> String {
        let output = self
            .command("dbus-send")
            .args(["--session", "--print-reply", "--reply-timeout=2000"])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn has_secret_service(&self) -> bool {
        self.dbus_send(&[
            "--dest=org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.NameHasOwner",
            "string:org.freedesktop.secrets",
        ])
        .contains("true")
    }

    /// Whether there is a default collection, in which secrets can be stored.
    pub fn has_default_collection(&self) -> bool {
        self.dbus_send(&[
            "--dest=org.freedesktop.secrets",
            "/org/freedesktop/secrets",
            "org.freedesktop.Secret.Service.ReadAlias",
            "string:default",
        ])
        .contains("/collection/")
    }

    /// Locks the default collection.
    pub fn lock(&self) {
        let answer = self.dbus_send(&[
            "--dest=org.freedesktop.secrets",
            "/org/freedesktop/secrets",
            "org.freedesktop.Secret.Service.Lock",
            "array:objpath:/org/freedesktop/secrets/aliases/default",
        ]);
        assert!(
            answer.contains("/collection/") || answer.contains("aliases"),
            "{answer}"
        );
    }

    /// Unlocks the default collection by starting a new daemon.
    pub fn unlock(&mut self) {
        self.kill_keyring();
        self.start_keyring(Some("test"));
    }

    /// Sends a signal to the keyring daemon: `STOP` or `CONT`.
    pub fn signal_keyring(&self, signal: &str) {
        let pid = self.keyring.as_ref().unwrap().id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Kills the keyring daemon.
    pub fn kill_keyring(&mut self) {
        if let Some(mut keyring) = self.keyring.take() {
            drop(keyring.kill());
            drop(keyring.wait());
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns a command that uses the bus and the test's home directory.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", &self.home)
            .env("LC_ALL", "C.UTF-8")
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address);
        command
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.kill_keyring();
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
