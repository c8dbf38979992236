//! A private X display without a window manager, controlled with xdotool.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An Xvfb, which is stopped when this value is dropped.
pub struct Display {
    server: Child,
    name: String,
}

impl Display {
    pub fn start() -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1024x768x24"])
            .args(["-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut number)
            .unwrap();
        Self {
            server,
            name: format!(":{}", number.trim()),
        }
    }

    /// Returns the value for the variable `DISPLAY`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a window of this class is visible.
    pub fn has_window(&self, class: &str) -> bool {
        let found = self
            .xdotool(&["search", "--onlyvisible", "--class", class])
            .stdout(Stdio::null())
            .status();
        found.unwrap().success()
    }

    #[track_caller]
    pub fn wait_for_window(&self, class: &str) {
        let started = Instant::now();
        while !self.has_window(class) {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "no window of {class}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses keys, by their X names, until no window of the class is visible. Repeats them,
    /// because a window does not receive keys before it has the focus.
    #[track_caller]
    pub fn answer(&self, class: &str, keys: &[&str]) {
        let started = Instant::now();
        while self.has_window(class) {
            assert!(started.elapsed() < Duration::from_secs(20), "it stays");
            let pressed = self.xdotool(&[&["key"], keys].concat()).status();
            assert!(pressed.unwrap().success());
            let pause = Instant::now();
            while self.has_window(class) && pause.elapsed() < Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn xdotool(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("xdotool");
        command
            .args(arguments)
            .env("DISPLAY", &self.name)
            .stderr(Stdio::null());
        command
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
