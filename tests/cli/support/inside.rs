//! The program run inside the test's process, with a host of the test's own:
//! for what a process cannot be given from outside.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use keyring_core::api::{Credential, CredentialApi};
use keyring_core::{Entry, Error};
use rememberizer_cli::host::Host;
use rememberizer_cli::model::Timestamp;
use rememberizer_cli::store::Keyring;
use rememberizer_cli::terminal::Terminal;

use super::Output;

/// What a keyring in memory holds, by account; shared with the test.
pub type Entries = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Surroundings made of parts.
pub struct Inside {
    /// Variables.
    pub env: HashMap<String, String>,
    /// What the keyring holds.
    pub entries: Entries,
    /// The most bytes that an entry may hold.
    pub limit: Option<usize>,
    /// After so many more writes the keyring takes no more.
    pub writes_left: Arc<Mutex<Option<usize>>>,
    /// Milliseconds that the clock is off.
    pub clock: i64,
    /// After it was read so many more times, the clock panics.
    pub readings_left: Arc<Mutex<Option<usize>>>,
}

impl Inside {
    /// Surroundings with an empty keyring.
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
        let (terminal, captured) = Terminal::captured(stdin.to_vec());
        let (env, entries, limit) = (self.env.clone(), Arc::clone(&self.entries), self.limit);
        let (left, clock) = (Arc::clone(&self.writes_left), self.clock);
        let readings = Arc::clone(&self.readings_left);
        let host = Host {
            variable: Box::new(move |name| env.get(name).map(OsString::from)),
            terminal,
            now: Arc::new(move || {
                let mut readings = readings.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(left) = &mut *readings {
                    *left = left.checked_sub(1).expect("a clock");
                }
                Timestamp::from(std::time::SystemTime::now()).offset(clock)
            }),
            config_dir: Some(dir.join("config")),
            data_dir: Some(dir.join("data")),
            open_keyring: Box::new(move |_| {
                let (entries, left) = (Arc::clone(&entries), Arc::clone(&left));
                let build = move |account: &str| {
                    Ok(Entry::new_with_credential(Arc::new(InMemory {
                        account: account.to_owned(),
                        entries: Arc::clone(&entries),
                        limit,
                        left: Arc::clone(&left),
                    })))
                };
                Keyring::new(Box::new(build), limit)
            }),
            end: |_| {},
            restore_limits: Box::new(|| {}),
        };
        let args = std::iter::once("rememberizer").chain(args.iter().copied());
        let args: Vec<_> = args.map(OsString::from).collect();
        let code = rememberizer_cli::run(&args, &host);
        Output {
            stdout: captured.stdout(),
            stderr: captured.stderr(),
            code,
        }
    }
}

#[derive(Debug)]
struct InMemory {
    account: String,
    entries: Entries,
    limit: Option<usize>,
    left: Arc<Mutex<Option<usize>>>,
}

impl CredentialApi for InMemory {
    fn set_secret(&self, secret: &[u8]) -> keyring_core::Result<()> {
        if let Some(left) = &mut *self.left.lock().unwrap() {
            *left = left.checked_sub(1).ok_or(Error::NoDefaultStore)?;
        }
        match self.limit {
            Some(limit) if secret.len() > limit => Err(Error::TooLong("secret".into(), 0)),
            _ => {
                let mut entries = self.entries.lock().unwrap();
                entries.insert(self.account.clone(), secret.to_vec());
                Ok(())
            }
        }
    }

    fn get_secret(&self) -> keyring_core::Result<Vec<u8>> {
        let entries = self.entries.lock().unwrap();
        entries.get(&self.account).cloned().ok_or(Error::NoEntry)
    }

    fn delete_credential(&self) -> keyring_core::Result<()> {
        let mut entries = self.entries.lock().unwrap();
        entries
            .remove(&self.account)
            .map(drop)
            .ok_or(Error::NoEntry)
    }

    fn get_credential(&self) -> keyring_core::Result<Option<Arc<Credential>>> {
        Ok(None)
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        None
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
