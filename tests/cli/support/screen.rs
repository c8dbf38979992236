//! A terminal: tmux with a server of the test's own, driven by keys and read
//! as a person reads it.

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::World;

/// A terminal of 80 by 24 in which a shell runs in the test's world.
///
/// The shell's prompt says how many commands it has run and what the last one
/// came to, `[3:130]$`, so that nobody has to ask.
pub struct Screen<'w> {
    world: &'w World,
    socket: String,
    commands: Cell<u32>,
}

/// How long the screen may take to show what is waited for.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

impl<'w> Screen<'w> {
    /// A terminal with a bash in it, whose variables choose the world's API and store.
    pub fn new(world: &'w World) -> Self {
        let (url, store) = (world.api.base_url(), world.store_flag());
        let env = [
            ("PS1", "[\\#:$?]$ "),
            ("REMEMBERIZER_API_URL", &url),
            ("REMEMBERIZER_STORE", store.trim_start_matches("--store=")),
        ];
        let screen = Self::with_shell(world, &env, &["bash", "--norc"]);
        screen.wait_until("prompt", |shown| prompt(shown).is_some());
        screen
    }

    /// A terminal with another program in it.
    pub fn with_shell(world: &'w World, env: &[(&str, &str)], program: &[&str]) -> Self {
        let screen = Self {
            world,
            socket: world.home().join("tmux").display().to_string(),
            commands: Cell::new(1),
        };
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
            .env("TERM", "xterm-256color")
            .envs(env.iter().copied())
            .args(program);
        assert!(command.status().unwrap().success(), "tmux starts");
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

    /// Keeps every byte that is written to the terminal from here on in a file of the home.
    pub fn record(&self, file: &str) {
        let command = format!("exec cat >>{}", self.world.home().join(file).display());
        assert!(
            self.tmux(&["pipe-pane", "-O", &command])
                .status()
                .unwrap()
                .success()
        );
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

    /// Returns the name of the program that reads the terminal.
    pub fn foreground(&self) -> String {
        let output = self
            .tmux(&["display-message", "-p", "#{pane_current_command}"])
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
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
            .tmux(&["capture-pane", "-p", "-J"])
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
            assert!(started.elapsed() < TIMEOUT, "no {what} on:\n{shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a command of the shell's.
    pub fn start(&self, line: &str) {
        self.commands.set(self.commands.get() + 1);
        self.line(line);
    }

    /// Waits for the end of the command; its exit code, and what the screen shows above the prompt.
    #[track_caller]
    pub fn ended(&self) -> (i32, String) {
        let wanted = self.commands.get();
        let shown = self.wait_until("end of the command", |shown| {
            prompt(shown).is_some_and(|(number, _)| number == wanted)
        });
        let (_, code) = prompt(&shown).unwrap();
        let above = shown.rsplit_once('\n').map_or("", |(above, _)| above);
        (code, above.to_owned())
    }

    /// Runs a command to its end and clears the screen: its exit code, and what was shown.
    #[track_caller]
    pub fn run(&self, line: &str) -> (i32, String) {
        self.start(line);
        let ended = self.ended();
        self.clear();
        ended
    }

    /// Empties the screen.
    #[track_caller]
    pub fn clear(&self) {
        self.press("C-l");
        self.wait_until("empty screen", |shown| {
            shown.lines().count() == 1 && prompt(shown).is_some()
        });
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
        self.start(
            "stty -a | tr ' ' '\\n' | grep -xE -- '-?(echo|icanon|isig)' | xargs echo mode:",
        );
        let (_, shown) = self.ended();
        assert!(
            shown.ends_with("mode: isig icanon echo"),
            "the terminal's mode is the usual one:\n{shown}"
        );
    }
}

/// The number and the exit code in the shell's prompt, where the screen ends with it.
fn prompt(shown: &str) -> Option<(u32, i32)> {
    let last = shown.lines().last()?;
    let (number, code) = last
        .strip_prefix('[')?
        .strip_suffix("]$")?
        .split_once(':')?;
    Some((number.parse().ok()?, code.parse().ok()?))
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        drop(self.tmux(&["kill-server"]).status());
    }
}
