//! Runs the program inside the test's process with a replaced `Host`: a keyring in memory, a
//! wrong clock, faults.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rememberizer_cli::host::Host;
use rememberizer_cli::model::Timestamp;
use rememberizer_cli::store::{SecretStore, StoreError, StoreErrorKind, StoreKind};
use rememberizer_cli::terminal::{Terminal, Terminals};

use zeroize::Zeroizing;

use super::Output;

/// The entries of a keyring in memory, by account.
pub type Entries = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// The settings of the replaced `Host`.
pub struct Inside {
    /// The environment variables.
    pub env: HashMap<String, String>,
    /// The entries of the keyring.
    pub entries: Entries,
    /// The maximum size of an entry in bytes.
    pub limit: Option<usize>,
    /// The number of writes after which the keyring fails.
    pub writes_left: Arc<Mutex<Option<usize>>>,
    /// The error of the clock, in milliseconds.
    pub clock: i64,
    /// The number of readings after which the clock panics.
    pub readings_left: Arc<Mutex<Option<usize>>>,
}

impl Inside {
    /// Creates settings with an empty keyring.
    pub fn new(limit: Option<usize>) -> Self {
        Self {
            env: HashMap::new(),
            entries: Entries::default(),
            limit,
            writes_left: Arc::default(),
            clock: 0,
            readings_left: Arc::default(),
        }
    }

    /// Runs the program in `dir`.
    pub fn run(&self, dir: &Path, stdin: &[u8], args: &[&str]) -> Output {
        let (stdout, stderr) = (Buffer::default(), Buffer::default());
        let stdin = std::io::Cursor::new(stdin.to_vec());
        let terminal = Terminal::new(stdin, stdout.clone(), stderr.clone(), Terminals::default());
        let (env, entries, limit) = (self.env.clone(), Arc::clone(&self.entries), self.limit);
        let (left, clock) = (Arc::clone(&self.writes_left), self.clock);
        let readings = Arc::clone(&self.readings_left);
        let host = Host {
            read_variable: Box::new(move |name| env.get(name).map(OsString::from)),
            terminal,
            now: Arc::new(move || {
                let mut readings = readings.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(left) = &mut *readings {
                    *left = left.checked_sub(1).expect("a clock");
                }
                Timestamp::from(std::time::SystemTime::now()).plus_millis(clock)
            }),
            config_dir: Some(dir.join("config")),
            data_dir: Some(dir.join("data")),
            open_keyring: Box::new(move |_| {
                Box::new(InMemory {
                    entries: Arc::clone(&entries),
                    limit,
                    left: Arc::clone(&left),
                })
            }),
            exit_process: |_| {},
            restore_limits: Box::new(|| {}),
        };
        let args = std::iter::once("rememberizer").chain(args.iter().copied());
        let args: Vec<_> = args.map(OsString::from).collect();
        let code = rememberizer_cli::run(&args, &host);
        Output {
            stdout: stdout.text(),
            stderr: stderr.text(),
            code,
        }
    }
}

/// Collects what is written to a stream.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct InMemory {
    entries: Entries,
    limit: Option<usize>,
    left: Arc<Mutex<Option<usize>>>,
}

fn error(kind: StoreErrorKind, message: &str) -> StoreError {
    StoreError {
        kind,
        message: message.to_owned(),
        hint: None,
    }
}

impl SecretStore for InMemory {
    fn kind(&self) -> StoreKind {
        StoreKind::Keyring
    }

    fn max_secret_bytes(&self) -> Option<usize> {
        self.limit
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let entries = self.entries.lock().unwrap();
        Ok(entries.get(account).cloned().map(Zeroizing::new))
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError> {
        if let Some(left) = &mut *self.left.lock().unwrap() {
            let full = || error(StoreErrorKind::Unavailable, "the keyring takes no more");
            *left = left.checked_sub(1).ok_or_else(full)?;
        }
        if self.limit.is_some_and(|limit| secret.len() > limit) {
            return Err(error(StoreErrorKind::Failed, "the entry is too long"));
        }
        let mut entries = self.entries.lock().unwrap();
        entries.insert(account.to_owned(), secret.to_vec());
        Ok(())
    }

    fn delete(&self, account: &str) -> Result<bool, StoreError> {
        Ok(self.entries.lock().unwrap().remove(account).is_some())
    }
}
