//! The headless run of a profile, which hands the cookies over through a pipe
//! (the DevTools protocol; `--remote-debugging-pipe`: JSON in both directions,
//! a zero byte after each message). No port is opened and nothing is attached.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::directory::Directory;

/// The longest that a browser may take to start and answer; it takes some 0.3 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest that it may take to end after it answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The most that is read of what it sends, in bytes.
const LONGEST_ANSWER: usize = 8 * 1024 * 1024;

const ASK: &[u8] = b"{\"id\":1,\"method\":\"Storage.getCookies\"}\0";
const CLOSE: &[u8] = b"{\"id\":2,\"method\":\"Browser.close\"}\0";

/// Gives the browser descriptors 3 and 4 for the pipe, and nothing else.
const WITH_PIPE: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

const HEADLESS: [&str; 7] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-startup-window",
    "--restore-last-session",
    // A page that is restored must not renew the token that was just read.
    "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>",
    // Errors are kept in the log: one may be the reason why it ends.
    "--log-level=2",
];

/// Why a browser has not handed its cookies over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PipeError {
    #[error("it did not start: {0}")]
    Start(String),
    #[error("it ended without an answer{}", .0.as_ref().map(|line| format!(": {line}")).unwrap_or_default())]
    Ended(Option<String>),
    #[error("it did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("it refused: {0}")]
    Refused(String),
    #[error("its answer is longer than {} MB", LONGEST_ANSWER >> 20)]
    TooLong,
}

/// A message of the browser; the rest of it is read when it is the answer.
#[derive(Deserialize)]
struct Message<'t> {
    id: Option<u64>,
    #[serde(borrow)]
    error: Option<&'t RawValue>,
}

/// What happens to the browser after it answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterAnswer {
    /// It ends by itself, which leaves the profile whole.
    Close,
    /// It is killed: nobody needs the profile any more.
    Kill,
}

/// Runs the browser on the profile and returns the JSON with its cookies.
/// `command` is the browser with the arguments that both runs share.
pub(super) fn cookies(
    directory: &Directory,
    command: &Command,
    profile: &Path,
    after: AfterAnswer,
) -> Answer {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", WITH_PIPE, "sh"])
        .arg(command.get_program());
    shell.args(command.get_args()).args(HEADLESS);
    shell.arg(super::browser::profile_flag(profile));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    // A file, since nobody would read a pipe while the browser runs.
    let log = directory.log();
    let stderr = File::create(&log).map_or(Stdio::null(), Stdio::from);
    shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr);
    let mut child = directory
        .spawn(&mut shell)
        .map_err(|error| PipeError::Start(error.to_string()))?;
    let answer = ask(&mut child);
    if answer.is_ok() && after == AfterAnswer::Close {
        close(&mut child);
    }
    directory.end(&mut child);
    answer.map_err(|error| match error {
        PipeError::Ended(_) => PipeError::Ended(last_line(&log)),
        other => other,
    })
}

/// The JSON of an answer, which holds cookies.
type Answer = Result<Zeroizing<Vec<u8>>, PipeError>;

fn ask(child: &mut Child) -> Answer {
    let ended = PipeError::Ended(None);
    let (Some(stdin), Some(stdout)) = (child.stdin.as_mut(), child.stdout.take()) else {
        return Err(ended);
    };
    let (sender, answer) = mpsc::channel();
    let reader = std::thread::Builder::new().name("pipe".to_owned());
    let reader = reader.spawn(move || drop(sender.send(read_answer(stdout))));
    reader.map_err(|error| PipeError::Start(error.to_string()))?;
    // A browser that has ended already is told by the other pipe.
    drop(stdin.write_all(ASK));
    let answer = answer.recv_timeout(ANSWER_TIMEOUT);
    let message = answer.map_err(|error| match error {
        RecvTimeoutError::Timeout => PipeError::TimedOut(ANSWER_TIMEOUT),
        RecvTimeoutError::Disconnected => ended,
    })??;
    let refusal = serde_json::from_slice::<Message<'_>>(&message).ok();
    match refusal.and_then(|message| message.error) {
        Some(error) => Err(PipeError::Refused(error.get().chars().take(200).collect())),
        None => Ok(message),
    }
}

/// Reads messages until one has the number of the question.
fn read_answer(mut pipe: impl Read) -> Answer {
    // Large enough that it does not grow, which would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024 * 1024));
    let mut piece = Zeroizing::new([0; 16 * 1024]);
    loop {
        let Ok(read @ 1..) = pipe.read(&mut *piece) else {
            return Err(PipeError::Ended(None));
        };
        for part in piece[..read].split_inclusive(|byte| *byte == 0) {
            bytes.extend_from_slice(part);
            if bytes.len() > LONGEST_ANSWER {
                return Err(PipeError::TooLong);
            }
            if bytes.pop_if(|last| *last == 0).is_some() {
                if is_answer(&bytes) {
                    return Ok(bytes);
                }
                bytes.clear();
            }
        }
    }
}

fn is_answer(message: &[u8]) -> bool {
    serde_json::from_slice::<Message<'_>>(message).is_ok_and(|message| message.id == Some(1))
}

/// Lets the browser end by itself, so that the profile stays whole.
fn close(child: &mut Child) {
    if let Some(mut stdin) = child.stdin.take() {
        drop(stdin.write_all(CLOSE));
    }
    let started = Instant::now();
    while started.elapsed() < CLOSE_TIMEOUT && !super::browser::has_ended(child) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The last line that a browser wrote to stderr before it ended.
fn last_line(log: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(log)
        .ok()?
        .take(64 * 1024)
        .read_to_end(&mut text)
        .ok()?;
    let text = String::from_utf8_lossy(&text);
    // A browser complains about a missing bus as well, and runs without it.
    let is_reason = |line: &&str| !line.trim().is_empty() && !line.contains("dbus/");
    let line = text.lines().rev().find(is_reason)?;
    // Chromium begins a line with `[1234:1234:1124/173000.123456:FATAL:file.cc:9] `.
    let line = match line.split_once("] ") {
        Some((head, said)) if head.starts_with('[') => said,
        _ => line,
    };
    Some(line.trim().chars().take(200).collect())
}
