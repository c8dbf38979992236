//! A running helper: lines to it and from it, each wait bounded, and its end.
//!
//! The helper is the leader of a process group, so that Ctrl-C at the terminal
//! does not reach it and its end takes its children along.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::message::{self, Hello, MAX_LINE, Malformed, Response};

/// How long a helper may take for its first line.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a helper may take to end by itself after the end of its input.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may take to end after SIGTERM.
const TERMINATION_TIMEOUT: Duration = Duration::from_millis(300);

/// Variables that hold secrets of ours, which are no business of a helper.
const SECRET_VARIABLES: [&str; 3] = [
    "REMEMBERIZER_PASSWORD",
    "REMEMBERIZER_ACCESS_TOKEN",
    "REMEMBERIZER_REFRESH_TOKEN",
];

/// Why a helper cannot be used any more.
#[derive(Debug)]
pub(super) enum Broken {
    NotFound,
    CannotStart(io::Error),
    Timeout(Duration),
    /// It closed its output, most likely because it ended.
    Closed,
    Malformed(&'static str),
}

type Line = Result<Zeroizing<Vec<u8>>, Broken>;

/// A helper that has said hello.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Lines for the thread that writes. It closes the helper's input at its end.
    requests: Option<Sender<Zeroizing<Vec<u8>>>>,
    lines: Receiver<Line>,
    pub(super) hello: Hello,
}

impl Process {
    /// Starts `program` and waits for its first line.
    pub(super) fn start(program: &str, location: Option<&str>) -> Result<Self, Broken> {
        let mut command = Command::new(program);
        command
            .args(location)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for variable in SECRET_VARIABLES {
            command.env_remove(variable);
        }
        in_own_group(&mut command);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Broken::NotFound,
            _ => Broken::CannotStart(error),
        })?;
        let (requests, to_write) = channel();
        let (line_read, lines) = sync_channel(1);
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut process = Self {
            child,
            requests: Some(requests),
            lines,
            hello: Hello {
                cas: false,
                max: None,
            },
        };
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(Broken::Closed);
        };
        thread_named("helper-write", move || write_lines(stdin, &to_write))?;
        thread_named("helper-read", move || read_lines(stdout, &line_read))?;
        let hello = process
            .line(HELLO_TIMEOUT)
            .and_then(|line| Ok(message::parse_hello(&line)?));
        match hello {
            Ok(hello) => process.hello = hello,
            Err(broken) => {
                process.kill();
                return Err(broken);
            }
        }
        Ok(process)
    }

    /// Sends one request and returns its response.
    ///
    /// After an error the helper must not be used any more: a late response
    /// would be taken for that of the next request.
    pub(super) fn ask(
        &mut self,
        request: Zeroizing<Vec<u8>>,
        timeout: Duration,
    ) -> Result<Response, Broken> {
        if let Some(requests) = &self.requests {
            requests.send(request).map_err(|_| Broken::Closed)?;
        }
        let line = self.line(timeout)?;
        Ok(message::parse_response(&line, self.hello)?)
    }

    fn line(&self, timeout: Duration) -> Line {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => Err(Broken::Timeout(timeout)),
            Err(RecvTimeoutError::Disconnected) => Err(Broken::Closed),
        }
    }

    /// Ends the helper's group without waiting for what it is doing.
    pub(super) fn kill(mut self) {
        self.requests = None;
        self.terminate();
    }

    fn terminate(&mut self) {
        signal_group(&self.child, Ending::Terminate);
        self.wait_for_exit(TERMINATION_TIMEOUT);
        // What is left of the group, children of the helper included.
        signal_group(&self.child, Ending::Kill);
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Waits until the helper has ended. It stays a zombie, so that its group's
    /// number cannot become that of another group.
    fn wait_for_exit(&mut self, timeout: Duration) -> bool {
        let started = Instant::now();
        let mut pause = Duration::from_micros(200);
        while !has_exited(&mut self.child) {
            if started.elapsed() > timeout {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        true
    }
}

impl Drop for Process {
    /// Ends the helper: end of file first, SIGTERM for one that stays.
    fn drop(&mut self) {
        if self.requests.take().is_some() && !self.wait_for_exit(END_TIMEOUT) {
            self.terminate();
        }
        drop(self.child.wait());
    }
}

fn thread_named(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Broken> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(128 * 1024)
        .spawn(run)
        .map(drop)
        .map_err(Broken::CannotStart)
}

fn write_lines(mut stdin: ChildStdin, requests: &Receiver<Zeroizing<Vec<u8>>>) {
    while let Ok(request) = requests.recv() {
        // A helper that does not read any more has ended: the reader says so.
        if stdin
            .write_all(&request)
            .and_then(|()| stdin.flush())
            .is_err()
        {
            break;
        }
    }
}

fn read_lines(stdout: ChildStdout, lines: &SyncSender<Line>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let line = read_line(&mut stdout);
        let is_last = line.is_err();
        if lines.send(line).is_err() || is_last {
            return;
        }
    }
}

fn read_line(stdout: &mut BufReader<ChildStdout>) -> Line {
    // Room for all of it, so that the buffer never moves: what it leaves behind is not wiped.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE + 1));
    let limit = MAX_LINE as u64 + 1;
    match stdout.take(limit).read_until(b'\n', &mut line) {
        Ok(_) if line.last() == Some(&b'\n') => {
            line.pop();
            Ok(line)
        }
        Ok(_) if line.len() > MAX_LINE => Err(Broken::Malformed("a line is too long")),
        Ok(_) | Err(_) => Err(Broken::Closed),
    }
}

impl From<Malformed> for Broken {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

#[derive(Clone, Copy)]
enum Ending {
    Terminate,
    Kill,
}

#[cfg(unix)]
fn in_own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(unix)]
fn signal_group(child: &Child, ending: Ending) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let signal = match ending {
        Ending::Terminate => Signal::TERM,
        Ending::Kill => Signal::KILL,
    };
    // An error means that nobody of the group is left.
    let _ = kill_process_group(Pid::from_child(child), signal);
}

#[cfg(unix)]
fn has_exited(child: &mut Child) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(
        waitid(WaitId::Pid(Pid::from_child(child)), options),
        Ok(None)
    )
}

#[cfg(windows)]
fn in_own_group(command: &mut Command) {
    use std::os::windows::process::CommandExt;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// Windows has no signals: `Child::kill` is what is left.
#[cfg(windows)]
fn signal_group(_: &Child, _: Ending) {}

#[cfg(windows)]
fn has_exited(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}
