//! A terminal: tmux with a server of the test's own, driven by keys and read
//! as a person reads it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::World;

/// A terminal of 80 by 24 in which a shell runs in the test's world.
pub struct Screen<'w> {
    world: &'w World,
    socket: String,
}

/// How long the screen may take to show what is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

impl<'w> Screen<'w> {
    /// A terminal with a shell whose prompt is `$ `.
    pub fn new(world: &'w World) -> Self {
        let socket = world.home().join("tmux").display().to_string();
        let screen = Self { world, socket };
        let bin = World::program();
        let path = format!(
            "{}:{}",
            bin.parent().unwrap().display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let mut command = screen.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
        ]);
        command
            .env("PATH", path)
            .env("PS1", "$ ")
            .env("TERM", "xterm-256color")
            .args(["bash", "--norc", "--noprofile"]);
        assert!(command.status().unwrap().success(), "tmux starts");
        screen.wait_for("$");
        screen
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        self.world.dress(&mut command);
        command
            .args(["-u", "-S", &self.socket])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Types text as it is.
    pub fn type_text(&self, text: &str) {
        assert!(
            self.tmux(&["send-keys", "-l", "--", text])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Presses a key by tmux's name for it: `Enter`, `C-c`, `C-d`, `Up`.
    pub fn press(&self, key: &str) {
        assert!(self.tmux(&["send-keys", key]).status().unwrap().success());
    }

    /// Types a line.
    pub fn line(&self, text: &str) {
        self.type_text(text);
        self.press("Enter");
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (x, y) = (columns.to_string(), rows.to_string());
        assert!(
            self.tmux(&["resize-window", "-x", &x, "-y", &y])
                .status()
                .unwrap()
                .success()
        );
    }

    /// What the screen shows, without blank lines at its end; wrapped lines are joined.
    pub fn text(&self) -> String {
        let output = self
            .tmux(&["capture-pane", "-p", "-J", "-S", "-200"])
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Waits until the screen shows `text`; what it then shows.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(&format!("{text:?}"), |shown| shown.contains(text))
    }

    /// Waits until the screen is as `is` wants it.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let shown = self.text();
            if is(&shown) {
                return shown;
            }
            assert!(started.elapsed() < PATIENCE, "no {what} on:\n{shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the shell for the last exit code.
    #[track_caller]
    pub fn exit_code(&self) -> i32 {
        self.line("echo \"code=$?=\"");
        let shown = self.wait_until("exit code", |shown| last_code(shown).is_some());
        let code = last_code(&shown).unwrap();
        self.press("C-l");
        self.line("clear; tmux -S \"$TMUX_SOCKET\" clear-history 2>/dev/null");
        code
    }

    /// Whether the terminal's cursor shows and the shell's mode is the usual one.
    #[track_caller]
    pub fn expect_sane(&self) {
        let output = self
            .tmux(&["display-message", "-p", "#{cursor_flag}"])
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "1",
            "the cursor shows"
        );
        self.line("stty -a | tr ' ' '\\n' | grep -xE -- '-?(echo|icanon|isig)' | xargs echo mode:");
        self.wait_until("mode: isig icanon echo", |shown| {
            shown.lines().any(|line| line == "mode: isig icanon echo")
        });
    }
}

fn last_code(shown: &str) -> Option<i32> {
    shown
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("code=")?.strip_suffix('=')?.parse().ok())
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        drop(self.tmux(&["kill-server"]).status());
    }
}
