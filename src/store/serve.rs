//! Serves a store of this machine with the protocol of store helpers, for other machines
//! over ssh, and for dev containers and WSL over a pipe.
//!
//! The store has no versions, so each entry is stored with a random version, and is read and
//! written under a lock. A removed entry is stored without content, to keep its version.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::helper::message::{self, ErrorCode, MAX_LINE_BYTES, Request};
use super::{LockError, SecretStore, StoreError, StoreErrorKind, StoreKind, lock};

/// How long a request waits for the lock. This is shorter than the 2.5 s that a client
/// waits for the response.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// The first bytes of an entry, before its version.
const MAGIC: &[u8] = b"rememberizer-shared 1 ";
/// The version of an entry that was never written.
const ABSENT_VERSION: &str = "0";

/// Serves `store` with the protocol of store helpers.
pub(crate) struct StoreServer<'a> {
    store: &'a dyn SecretStore,
    lock_path: PathBuf,
}

struct StoredEntry {
    version: String,
    content: Option<Zeroizing<Vec<u8>>>,
}

impl<'a> StoreServer<'a> {
    /// Creates a server for `store`, with its lock file in `locks_dir`.
    pub(crate) fn new(store: &'a dyn SecretStore, locks_dir: &Path) -> Result<Self, StoreError> {
        if matches!(store.kind(), StoreKind::Helper(_)) || store.max_secret_bytes().is_some() {
            return Err(StoreError::failed(
                "only a local store without a size limit can be served",
            ));
        }
        Ok(Self {
            store,
            // No profile's lock has this name, since a profile's name contains no dot.
            lock_path: locks_dir.join("served.entries.lock"),
        })
    }

    /// Passes the response to each line of `input` to `print`, until `input` ends.
    pub(crate) fn run(
        &self,
        input: &mut dyn BufRead,
        print: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        print(message::HELLO)?;
        loop {
            let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_BYTES + 1));
            input
                .take(MAX_LINE_BYTES as u64 + 1)
                .read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                // The input has ended, or the line is too long.
                return Ok(());
            }
            let response = match message::parse_request(&line) {
                Ok(request) => self.respond(&request),
                Err(error) => message::error(ErrorCode::Failed, error.0),
            };
            print(&response)?;
        }
    }

    fn respond(&self, request: &Request) -> Zeroizing<Vec<u8>> {
        match self.handle(request) {
            Ok(response) => response,
            Err(error) => {
                let code = match error.kind {
                    StoreErrorKind::Unavailable => ErrorCode::Unavailable,
                    StoreErrorKind::Locked => ErrorCode::Locked,
                    StoreErrorKind::Failed => ErrorCode::Failed,
                };
                message::error(code, &error.message)
            }
        }
    }

    fn handle(&self, request: &Request) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        match request {
            Request::Get { key } => {
                let _lock = self.lock()?;
                let stored = self.read(key)?;
                let content = stored.content.as_deref().map(Vec::as_slice);
                Ok(message::entry(&stored.version, content))
            }
            Request::Put {
                key,
                expected,
                value,
            } => {
                let _lock = self.lock()?;
                let stored = self.read(key)?;
                if *expected != stored.version {
                    return Ok(message::error(
                        ErrorCode::Conflict,
                        "the entry has another version",
                    ));
                }
                let version = self.write(key, value.as_deref().map(Vec::as_slice))?;
                Ok(message::stored(&version))
            }
            Request::Unknown => Ok(message::error(ErrorCode::Unsupported, "unknown operation")),
        }
    }

    fn lock(&self) -> Result<File, StoreError> {
        lock::acquire(&self.lock_path, LOCK_TIMEOUT).map_err(|error| match error {
            LockError::Store(error) => error,
            LockError::Busy(_) => StoreError::unavailable("another request holds the lock"),
        })
    }

    fn read(&self, key: &str) -> Result<StoredEntry, StoreError> {
        let Some(bytes) = self.store.read(&account_of(key))? else {
            return Ok(StoredEntry {
                version: ABSENT_VERSION.to_owned(),
                content: None,
            });
        };
        let (version, content) = split_entry(&bytes).ok_or_else(|| {
            StoreError::failed("the stored entry was not written by `rememberizer store serve`")
        })?;
        Ok(StoredEntry {
            version: String::from_utf8_lossy(version).into_owned(),
            content: (!content.is_empty()).then(|| Zeroizing::new(content.to_vec())),
        })
    }

    fn write(&self, key: &str, content: Option<&[u8]>) -> Result<String, StoreError> {
        let random =
            || getrandom::u64().map_err(|_| StoreError::failed("no random numbers are available"));
        let version = format!("{:016x}{:016x}", random()?, random()?);
        let content = content.unwrap_or_default();
        let len = MAGIC.len() + version.len() + 1 + content.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(len));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(version.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(content);
        self.store.write(&account_of(key), &bytes)?;
        Ok(version)
    }
}

/// Splits a stored entry into its version and its content.
fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let version_len = rest.iter().position(|byte| *byte == b'\n')?;
    Some((&rest[..version_len], &rest[version_len + 1..]))
}

/// Returns the account of an entry. No profile has this account, since a profile's name
/// contains no dot.
fn account_of(key: &str) -> String {
    format!("served.{key}")
}
