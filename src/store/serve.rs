//! The helper's side of the protocol, for a store of this machine: other
//! machines reach it through ssh, and dev containers and WSL through a pipe.
//!
//! The store has no versions. Each entry is kept with a random one, which never
//! comes back, and is read and written under a lock. A removed entry stays
//! without content, so that its version stays as well.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::helper::message::{self, ErrorCode, MAX_LINE, Request};
use super::{LockError, SecretStore, StoreError, StoreErrorKind, StoreKind, lock};

/// How long a request waits for another one. The client waits 2.5 s for a result.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// What an entry begins with.
const MAGIC: &[u8] = b"rememberizer-shared 1 ";
const ABSENT: &str = "0";

/// Serves `store` until `input` ends.
pub(crate) struct Server<'a> {
    store: &'a dyn SecretStore,
    lock: PathBuf,
}

struct Stored {
    version: String,
    content: Option<Zeroizing<Vec<u8>>>,
}

impl<'a> Server<'a> {
    /// `locks` is the directory of the lock files.
    pub(crate) fn new(store: &'a dyn SecretStore, locks: &Path) -> Result<Self, StoreError> {
        if matches!(store.kind(), StoreKind::Helper(_)) || store.limit().is_some() {
            return Err(StoreError::failed(
                "only a local store without a size limit is served",
            ));
        }
        Ok(Self {
            store,
            // A profile's name has no dot: no lock of a profile is called so.
            lock: locks.join("served.entries.lock"),
        })
    }

    /// Answers each line of `input` with one of `print`.
    pub(crate) fn run(
        &self,
        input: &mut dyn BufRead,
        print: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        print(&message::hello(true))?;
        loop {
            let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE + 1));
            input
                .take(MAX_LINE as u64 + 1)
                .read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                return Ok(());
            }
            let response = match message::parse_request(&line) {
                Ok(request) => self.answer(&request),
                Err(error) => message::error(ErrorCode::Failed, error.0),
            };
            print(&response)?;
        }
    }

    fn answer(&self, request: &Request) -> Zeroizing<Vec<u8>> {
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
        if matches!(request, Request::Unknown) {
            return Ok(message::error(ErrorCode::Unsupported, "unknown operation"));
        }
        let _lock = lock::hold(&self.lock, LOCK_TIMEOUT).map_err(|error| match error {
            LockError::Store(error) => error,
            LockError::Busy(_) => StoreError {
                kind: StoreErrorKind::Unavailable,
                message: "another request holds the lock".to_owned(),
                hint: None,
            },
        })?;
        match request {
            Request::Get { key } => {
                let stored = self.read(key)?;
                Ok(message::value(
                    &stored.version,
                    stored.content.as_deref().map(Vec::as_slice),
                ))
            }
            Request::Put {
                key,
                expected,
                value,
            } => {
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

    fn read(&self, key: &str) -> Result<Stored, StoreError> {
        let Some(bytes) = self.store.read(&account(key))? else {
            return Ok(Stored {
                version: ABSENT.to_owned(),
                content: None,
            });
        };
        let rest = bytes.strip_prefix(MAGIC);
        let end = rest.and_then(|rest| rest.iter().position(|byte| *byte == b'\n'));
        let (Some(rest), Some(end)) = (rest, end) else {
            return Err(StoreError::failed("the entry is not one that was served"));
        };
        let (version, content) = (&rest[..end], &rest[end + 1..]);
        Ok(Stored {
            version: String::from_utf8_lossy(version).into_owned(),
            content: (!content.is_empty()).then(|| Zeroizing::new(content.to_vec())),
        })
    }

    fn write(&self, key: &str, content: Option<&[u8]>) -> Result<String, StoreError> {
        let random =
            || getrandom::u64().map_err(|_| StoreError::failed("there is no source of randomness"));
        let version = format!("{:016x}{:016x}", random()?, random()?);
        let content = content.unwrap_or_default();
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAGIC.len() + 33 + content.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(version.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(content);
        self.store.write(&account(key), &bytes)?;
        Ok(version)
    }
}

/// Where an entry is kept. A profile's name has no dot, so no session is there.
fn account(key: &str) -> String {
    format!("served.{key}")
}
