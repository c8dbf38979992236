//! A running helper process: exchanges lines with it under timeouts, and ends it.
//!
//! The helper runs in a process group of its own, so that Ctrl-C at the terminal
//! does not interrupt it, and its children can be killed with it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::message::{self, Hello, MAX_LINE_BYTES, MalformedLine, Response};

/// Timeout for a helper's first line.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a helper may take to exit after the end of its input.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a helper may take to exit after SIGTERM.
const TERMINATION_TIMEOUT: Duration = Duration::from_millis(300);

/// Variables with secrets, which a helper must not inherit.
const SECRET_VARIABLES: [&str; 3] = [
    "REMEMBERIZER_PASSWORD",
    "REMEMBERIZER_ACCESS_TOKEN",
    "REMEMBERIZER_REFRESH_TOKEN",
];

/// Why a helper could not be started or is no longer usable.
#[derive(Debug)]
pub(super) enum HelperFailure {
    NotFound,
    CannotStart(io::Error),
    Timeout(Duration),
    /// The helper closed its output, most likely because it exited.
    Closed,
    /// The helper sent a line that is not valid in the protocol.
    Malformed(&'static str),
}

type ReadResult = Result<Zeroizing<Vec<u8>>, HelperFailure>;

/// A running helper whose first line was read.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Sends lines to the thread that writes to the helper. Dropping this sender ends
    /// the thread, which closes the helper's input.
    requests: Option<Sender<Zeroizing<Vec<u8>>>>,
    /// Receives lines from the thread that reads from the helper.
    lines: Receiver<ReadResult>,
    pub(super) hello: Hello,
}

impl Process {
    /// Starts `program` and waits for its first line.
    pub(super) fn start(program: &str, location: Option<&str>) -> Result<Self, HelperFailure> {
        let mut command = Command::new(program);
        command
            .args(location)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for variable in SECRET_VARIABLES {
            command.env_remove(variable);
        }
        set_own_process_group(&mut command);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => HelperFailure::NotFound,
            _ => HelperFailure::CannotStart(error),
        })?;
        let (requests, request_receiver) = channel();
        let (line_sender, lines) = sync_channel(1);
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut process = Self {
            child,
            requests: Some(requests),
            lines,
            hello: Hello {
                has_versions: false,
                max_value_bytes: None,
            },
        };
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(HelperFailure::Closed);
        };
        spawn_thread("helper-write", move || {
            write_lines(stdin, &request_receiver)
        })?;
        spawn_thread("helper-read", move || read_lines(stdout, &line_sender))?;
        let hello = process
            .next_line(HELLO_TIMEOUT)
            .and_then(|line| Ok(message::parse_hello(&line)?));
        match hello {
            Ok(hello) => process.hello = hello,
            Err(failure) => {
                process.kill();
                return Err(failure);
            }
        }
        Ok(process)
    }

    /// Sends one request and returns its response.
    ///
    /// Do not use the helper after an error, because a late response would be taken
    /// for the response to the next request.
    pub(super) fn request(
        &mut self,
        request: Zeroizing<Vec<u8>>,
        timeout: Duration,
    ) -> Result<Response, HelperFailure> {
        if let Some(requests) = &self.requests {
            requests.send(request).map_err(|_| HelperFailure::Closed)?;
        }
        let line = self.next_line(timeout)?;
        Ok(message::parse_response(&line, self.hello)?)
    }

    fn next_line(&self, timeout: Duration) -> ReadResult {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => Err(HelperFailure::Timeout(timeout)),
            Err(RecvTimeoutError::Disconnected) => Err(HelperFailure::Closed),
        }
    }

    /// Terminates the helper's process group without waiting for pending requests.
    pub(super) fn kill(mut self) {
        self.requests = None;
        self.terminate();
    }

    fn terminate(&mut self) {
        signal_process_group(&self.child, GroupSignal::Terminate);
        self.wait_for_exit(TERMINATION_TIMEOUT);
        // Kill all remaining processes of the group, such as children of the helper.
        signal_process_group(&self.child, GroupSignal::Kill);
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Waits until the helper has exited. Returns whether it has. Does not reap the
    /// process, so that the ID of its group cannot be reused before the group is
    /// signalled.
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
    /// Closes the helper's input, and sends SIGTERM if the helper does not exit.
    fn drop(&mut self) {
        if self.requests.take().is_some() && !self.wait_for_exit(EXIT_TIMEOUT) {
            self.terminate();
        }
        drop(self.child.wait());
    }
}

fn spawn_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), HelperFailure> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(128 * 1024)
        .spawn(run)
        .map(drop)
        .map_err(HelperFailure::CannotStart)
}

fn write_lines(mut stdin: ChildStdin, requests: &Receiver<Zeroizing<Vec<u8>>>) {
    while let Ok(request) = requests.recv() {
        // If writing fails, the helper has exited, which the reading thread reports.
        if stdin
            .write_all(&request)
            .and_then(|()| stdin.flush())
            .is_err()
        {
            break;
        }
    }
}

fn read_lines(stdout: ChildStdout, lines: &SyncSender<ReadResult>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let line = read_line(&mut stdout);
        let is_last = line.is_err();
        if lines.send(line).is_err() || is_last {
            return;
        }
    }
}

fn read_line(stdout: &mut BufReader<ChildStdout>) -> ReadResult {
    // The buffer must not be reallocated, since the old allocation would not be zeroized.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_BYTES + 1));
    let limit = MAX_LINE_BYTES as u64 + 1;
    match stdout.take(limit).read_until(b'\n', &mut line) {
        Ok(_) if line.last() == Some(&b'\n') => {
            line.pop();
            Ok(line)
        }
        Ok(_) if line.len() > MAX_LINE_BYTES => Err(HelperFailure::Malformed("a line is too long")),
        Ok(_) | Err(_) => Err(HelperFailure::Closed),
    }
}

impl From<MalformedLine> for HelperFailure {
    fn from(MalformedLine(what): MalformedLine) -> Self {
        Self::Malformed(what)
    }
}

#[derive(Clone, Copy)]
enum GroupSignal {
    Terminate,
    Kill,
}

#[cfg(unix)]
fn set_own_process_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(unix)]
fn signal_process_group(child: &Child, signal: GroupSignal) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let signal = match signal {
        GroupSignal::Terminate => Signal::TERM,
        GroupSignal::Kill => Signal::KILL,
    };
    // The call fails if no process of the group is left.
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
fn set_own_process_group(command: &mut Command) {
    use std::os::windows::process::CommandExt;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// Does nothing, because Windows has no signals. The caller also uses `Child::kill`.
#[cfg(windows)]
fn signal_process_group(_: &Child, _: GroupSignal) {}

#[cfg(windows)]
fn has_exited(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}
