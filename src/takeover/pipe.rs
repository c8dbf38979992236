//! Runs the browser headless and reads the cookies of a profile with the DevTools protocol.
//!
//! With `--remote-debugging-pipe`, the browser reads JSON requests from descriptor 3 and
//! writes JSON responses to descriptor 4, each followed by a zero byte. The browser opens
//! no port.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::temp_profile::TempProfile;

/// Maximum time for the browser to start and respond; usually about 0.3 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum time for the browser to exit after `Browser.close`.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of one message from the browser.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

const GET_COOKIES: &[u8] = b"{\"id\":1,\"method\":\"Storage.getCookies\"}\0";
const CLOSE_BROWSER: &[u8] = b"{\"id\":2,\"method\":\"Browser.close\"}\0";

/// Shell script that runs the browser with the pipes of stdin and stdout as descriptors 3 and
/// 4, and with `/dev/null` as stdin and stdout.
const PIPE_SCRIPT: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

const HEADLESS_FLAGS: [&str; 7] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-startup-window",
    "--restore-last-session",
    // Block all traffic: a restored page must not refresh the token that we read.
    "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>",
    // Log only errors. If the browser exits, the last error is part of our error message.
    "--log-level=2",
];

/// Why the browser did not return its cookies.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PipeError {
    #[error("it did not start: {0}")]
    Start(String),
    #[error("it exited without a response{}", .0.as_ref().map(|line| format!(": {line}")).unwrap_or_default())]
    Exited(Option<String>),
    #[error("it did not respond within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("it refused the request: {0}")]
    Refused(String),
    #[error("its response is longer than {} MB", MAX_RESPONSE_BYTES >> 20)]
    TooLong,
}

/// The fields of a browser message that are needed to recognize a response and an error.
#[derive(Deserialize)]
struct Message<'t> {
    id: Option<u64>,
    #[serde(borrow)]
    error: Option<&'t RawValue>,
}

/// How to stop the browser after its response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterResponse {
    /// Let the browser exit by itself, because the profile is used again.
    Close,
    /// Kill the browser, because the profile is not used again.
    Kill,
}

/// Runs the browser headless on the profile and returns the JSON with the cookies.
/// `command` is the browser with its common flags.
pub(super) fn read_cookies(
    temp_profile: &TempProfile,
    command: &Command,
    profile_dir: &Path,
    after: AfterResponse,
) -> CookiesResult {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", PIPE_SCRIPT, "sh"])
        .arg(command.get_program());
    shell.args(command.get_args()).args(HEADLESS_FLAGS);
    shell.arg(super::browser::user_data_dir_flag(profile_dir));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    // Send stderr to a file: the browser would block on a full pipe that nobody reads.
    let log = temp_profile.log_path();
    let stderr = File::create(&log).map_or(Stdio::null(), Stdio::from);
    shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr);
    let mut child = temp_profile
        .spawn(&mut shell)
        .map_err(|error| PipeError::Start(error.to_string()))?;
    let response = request_cookies(&mut child);
    if response.is_ok() && after == AfterResponse::Close {
        close_and_wait(&mut child);
    }
    temp_profile.kill_and_reap(&mut child);
    response.map_err(|error| match error {
        PipeError::Exited(_) => PipeError::Exited(last_line(&log)),
        other => other,
    })
}

/// The JSON response, which contains cookies.
type CookiesResult = Result<Zeroizing<Vec<u8>>, PipeError>;

fn request_cookies(child: &mut Child) -> CookiesResult {
    let (Some(stdin), Some(stdout)) = (child.stdin.as_mut(), child.stdout.take()) else {
        return Err(PipeError::Exited(None));
    };
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::Builder::new().name("pipe".to_owned());
    let reader = reader.spawn(move || drop(sender.send(read_response(stdout))));
    reader.map_err(|error| PipeError::Start(error.to_string()))?;
    // Writing fails if the browser has exited; the reader then reports that.
    drop(stdin.write_all(GET_COOKIES));
    let response = receiver.recv_timeout(RESPONSE_TIMEOUT);
    let message = response.map_err(|error| match error {
        RecvTimeoutError::Timeout => PipeError::TimedOut(RESPONSE_TIMEOUT),
        RecvTimeoutError::Disconnected => PipeError::Exited(None),
    })??;
    let parsed = serde_json::from_slice::<Message<'_>>(&message).ok();
    match parsed.and_then(|message| message.error) {
        Some(error) => Err(PipeError::Refused(error.get().chars().take(200).collect())),
        None => Ok(message),
    }
}

/// Reads messages up to the response to our request, and skips events.
fn read_response(mut pipe: impl Read) -> CookiesResult {
    // Large enough for most responses: a buffer that grows leaves unzeroed copies in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024 * 1024));
    let mut chunk = Zeroizing::new([0; 16 * 1024]);
    loop {
        let Ok(read @ 1..) = pipe.read(&mut *chunk) else {
            return Err(PipeError::Exited(None));
        };
        for part in chunk[..read].split_inclusive(|byte| *byte == 0) {
            bytes.extend_from_slice(part);
            if bytes.len() > MAX_RESPONSE_BYTES {
                return Err(PipeError::TooLong);
            }
            if bytes.pop_if(|last| *last == 0).is_some() {
                if is_cookies_response(&bytes) {
                    return Ok(bytes);
                }
                bytes.clear();
            }
        }
    }
}

fn is_cookies_response(message: &[u8]) -> bool {
    serde_json::from_slice::<Message<'_>>(message).is_ok_and(|message| message.id == Some(1))
}

/// Asks the browser to close and waits until it has exited.
fn close_and_wait(child: &mut Child) {
    if let Some(mut stdin) = child.stdin.take() {
        drop(stdin.write_all(CLOSE_BROWSER));
    }
    let started = Instant::now();
    while started.elapsed() < CLOSE_TIMEOUT && !super::browser::has_exited(child) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the last relevant line of the log.
fn last_line(log: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(log)
        .ok()?
        .take(64 * 1024)
        .read_to_end(&mut text)
        .ok()?;
    let text = String::from_utf8_lossy(&text);
    // Skip errors about a missing D-Bus: the browser runs without it.
    let is_reason = |line: &&str| !line.trim().is_empty() && !line.contains("dbus/");
    let line = text.lines().rev().find(is_reason)?;
    // Remove the prefix of Chromium, such as `[1234:1234:1124/173000.123456:FATAL:file.cc:9] `.
    let line = match line.split_once("] ") {
        Some((prefix, message)) if prefix.starts_with('[') => message,
        _ => line,
    };
    Some(line.trim().chars().take(200).collect())
}
