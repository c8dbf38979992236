//! A terminal: a private tmux server that receives keys and returns the text on the screen.

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::World;

/// A terminal of 80 by 24 characters, with a shell in the test's world.
///
/// The prompt of the shell has the number of the command and the exit code of the previous
/// command, such as `[3:130]$`.
pub struct Screen<'w> {
    world: &'w World,
    socket: String,
    commands: Cell<u32>,
}

/// Maximum time until the screen shows an expected text.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

impl<'w> Screen<'w> {
    /// Opens a terminal with a bash, whose variables set the server and the store.
    pub fn new(world: &'w World) -> Self {
        let (url, store) = (world.api.base_url(), world.store_flag());
        let env = [
            ("PS1", "[\\#:$?]$ "),
            ("REMEMBERIZER_API_URL", &url),
            ("REMEMBERIZER_STORE", store.trim_start_matches("--store=")),
        ];
        let screen = Self::with_shell(world, &env, &["bash", "--norc"]);
        screen.wait_until("prompt", |shown| parse_prompt(shown).is_some());
        screen
    }

    /// Opens a terminal with another program.
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
        self.world.set_environment(&mut command);
        command
            .args(["-u", "-S", &self.socket])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// From now on, appends every byte that is written to the terminal to a file in the home
    /// directory.
    pub fn record(&self, file: &str) {
        let command = format!("exec cat >>{}", self.world.home().join(file).display());
        assert!(
            self.tmux(&["pipe-pane", "-O", &command])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Types a text.
    pub fn type_text(&self, text: &str) {
        assert!(
            self.tmux(&["send-keys", "-l", "--", text])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Presses a key, by its name in tmux: `Enter`, `C-c`, `C-d`, `Up`.
    pub fn press(&self, key: &str) {
        assert!(self.tmux(&["send-keys", key]).status().unwrap().success());
    }

    /// Types a text and presses Enter.
    pub fn type_line(&self, text: &str) {
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

    /// Returns the text on the screen, without blank lines at the end. Joins wrapped lines.
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

    /// Waits until the screen shows `text`. Returns all text on the screen.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(&format!("{text:?}"), |shown| shown.contains(text))
    }

    /// Waits until `condition` is true for the text on the screen, and returns that text.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let shown = self.text();
            if condition(&shown) {
                return shown;
            }
            assert!(started.elapsed() < TIMEOUT, "no {what} on:\n{shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a command in the shell.
    pub fn start(&self, line: &str) {
        self.commands.set(self.commands.get() + 1);
        self.type_line(line);
    }

    /// Waits until the command has exited. Returns its exit code and the text above the prompt.
    #[track_caller]
    pub fn wait_for_exit(&self) -> (i32, String) {
        let wanted = self.commands.get();
        let shown = self.wait_until("end of the command", |shown| {
            parse_prompt(shown).is_some_and(|(number, _)| number == wanted)
        });
        let (_, code) = parse_prompt(&shown).unwrap();
        let above = shown.rsplit_once('\n').map_or("", |(above, _)| above);
        (code, above.to_owned())
    }

    /// Runs a command and clears the screen. Returns the exit code and the text that was shown.
    #[track_caller]
    pub fn run(&self, line: &str) -> (i32, String) {
        self.start(line);
        let ended = self.wait_for_exit();
        self.clear();
        ended
    }

    /// Empties the screen.
    #[track_caller]
    pub fn clear(&self) {
        self.press("C-l");
        self.wait_until("empty screen", |shown| {
            shown.lines().count() == 1 && parse_prompt(shown).is_some()
        });
    }

    /// Asserts that the cursor is visible and the terminal has its usual mode.
    #[track_caller]
    pub fn assert_terminal_is_restored(&self) {
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
        let (_, shown) = self.wait_for_exit();
        assert!(
            shown.ends_with("mode: isig icanon echo"),
            "the terminal's mode is the usual one:\n{shown}"
        );
    }
}

/// Parses the number and the exit code in the prompt of the shell, if the screen ends with it.
fn parse_prompt(shown: &str) -> Option<(u32, i32)> {
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
