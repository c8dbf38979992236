//! Secret stores of others: a helper program per store, spoken to over its
//! standard input and output. `helpers/README.md` specifies the protocol.
//!
//! A helper is not trusted to answer, to end, or to make sense. Every wait is
//! bounded. After a silence, an end or nonsense its process group is ended, and
//! the outcome of a write is unknown until a new helper has been asked.

mod address;
pub(super) mod message;
mod process;

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use zeroize::Zeroizing;

pub use self::address::HelperAddress;
use self::message::{ErrorCode, MAX_VALUE, Response};
use self::process::{Broken, Process};
use super::{
    PutOutcome, SecretStore, StoreError, StoreErrorKind, StoreKind, Version, Versioned,
    VersionedEntry,
};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a write whose outcome is unknown is tried.
const WRITE_ATTEMPTS: usize = 3;

/// A store behind a helper. The helper is started by the first use and kept.
#[derive(Debug)]
pub(crate) struct HelperStore {
    address: HelperAddress,
    process: RefCell<Option<Process>>,
}

/// The helper stores of a run, each made by its first use.
#[derive(Debug, Default)]
pub(crate) struct HelperStores(OnceCell<Box<(HelperStore, HelperStores)>>);

impl HelperStores {
    pub(crate) fn get(&self, address: HelperAddress) -> &HelperStore {
        let (store, others) = &**self
            .0
            .get_or_init(|| Box::new((HelperStore::new(address), Self::default())));
        if store.address == address {
            store
        } else {
            others.get(address)
        }
    }
}

/// An entry: its version, if the store has versions, and its content, if there is any.
type Fetched = (Option<String>, Option<Zeroizing<Vec<u8>>>);

/// What became of a request: a failure of the helper is not one of the store.
enum Answer {
    Success {
        version: Option<String>,
        value: Option<Zeroizing<Vec<u8>>>,
    },
    Conflict,
    /// Nobody knows whether it was done.
    Unknown(StoreError),
}

impl HelperStore {
    fn new(address: HelperAddress) -> Self {
        Self {
            address,
            process: RefCell::new(None),
        }
    }

    /// Runs `ask` on the running helper, or on a new one.
    fn with_process<T>(
        &self,
        ask: impl FnOnce(&mut Process) -> Result<T, Broken>,
    ) -> Result<T, Broken> {
        let mut running = self.process.borrow_mut();
        let mut process = match running.take() {
            Some(process) => process,
            None => Process::start(&self.address.program(), self.address.location())?,
        };
        match ask(&mut process) {
            Ok(answer) => {
                *running = Some(process);
                Ok(answer)
            }
            Err(broken) => {
                process.kill();
                Err(broken)
            }
        }
    }

    fn hello(&self) -> Result<message::Hello, StoreError> {
        let running = self.process.borrow().as_ref().map(|process| process.hello);
        match running {
            Some(hello) => Ok(hello),
            None => self
                .with_process(|process| Ok(process.hello))
                .map_err(|broken| self.broken(&broken)),
        }
    }

    fn request(
        &self,
        request: Zeroizing<Vec<u8>>,
        secret: &[u8],
        timeout: Duration,
    ) -> Result<Answer, StoreError> {
        let response = match self.with_process(|process| process.ask(request, timeout)) {
            Ok(response) => response,
            // It was never sent.
            Err(broken @ (Broken::NotFound | Broken::CannotStart(_))) => {
                return Err(self.broken(&broken));
            }
            Err(broken) => return Ok(Answer::Unknown(self.broken(&broken))),
        };
        match response {
            Response::Success { version, value } => Ok(Answer::Success { version, value }),
            Response::Error { code, message } => {
                let message = without_secret(&message, secret);
                let error = |kind, what: &str| StoreError {
                    kind,
                    message: match message.as_str() {
                        "" => format!("store helper {}: {what}", self.address.name()),
                        said => format!("store helper {}: {what}: {said}", self.address.name()),
                    },
                    hint: None,
                };
                match code {
                    ErrorCode::Conflict => Ok(Answer::Conflict),
                    ErrorCode::Unavailable => Ok(Answer::Unknown(error(
                        StoreErrorKind::Unavailable,
                        "the store is unavailable",
                    ))),
                    ErrorCode::Locked => Err(error(StoreErrorKind::Locked, "the store is locked")),
                    ErrorCode::Denied => Err(error(StoreErrorKind::Failed, "access denied")),
                    ErrorCode::Failed => Err(error(StoreErrorKind::Failed, "failed")),
                    ErrorCode::Unsupported => {
                        Err(error(StoreErrorKind::Failed, "operation not supported"))
                    }
                }
            }
        }
    }

    /// Reads an entry with its version, if the store has versions.
    fn fetch(&self, account: &str, timeout: Duration) -> Result<Fetched, StoreError> {
        check(account, None)?;
        let is_reused = self.process.borrow().is_some();
        let mut answer = self.request(message::get(account), &[], timeout)?;
        // A helper that was kept may have ended meanwhile. A silent one has had its time.
        if is_reused
            && matches!(&answer, Answer::Unknown(error) if error.kind == StoreErrorKind::Failed)
        {
            answer = self.request(message::get(account), &[], timeout)?;
        }
        match answer {
            Answer::Success { version, value } => Ok((version, value)),
            Answer::Unknown(error) => Err(error),
            Answer::Conflict => Err(self.failed("conflict in response to a get")),
        }
    }

    /// Creates, replaces or removes an entry of a store without versions, and
    /// finds out whether an unanswered write was done. The file lock keeps the
    /// other processes of this machine away.
    fn store(&self, account: &str, secret: Option<&[u8]>) -> Result<(), StoreError> {
        check(account, secret)?;
        if self.hello()?.cas {
            return Err(
                self.failed("an entry that machines share is not written without its version")
            );
        }
        let mut attempt = 1;
        loop {
            let request = message::put(account, None, secret);
            match self.request(request, secret.unwrap_or_default(), REQUEST_TIMEOUT)? {
                Answer::Success { .. } => return Ok(()),
                Answer::Conflict => return Err(self.failed("conflict in a store without versions")),
                Answer::Unknown(error) if attempt == WRITE_ATTEMPTS => return Err(error),
                Answer::Unknown(_) => {}
            }
            let (_, there) = self.fetch(account, REQUEST_TIMEOUT)?;
            if there.as_deref().map(Vec::as_slice) == secret {
                return Ok(());
            }
            attempt += 1;
        }
    }

    fn failed(&self, what: &str) -> StoreError {
        StoreError::failed(format!("store helper {}: {what}", self.address.name()))
    }

    fn broken(&self, broken: &Broken) -> StoreError {
        let program = self.address.program();
        let (kind, message) = match broken {
            Broken::NotFound => (
                StoreErrorKind::Unavailable,
                format!("store helper {program} is not in PATH"),
            ),
            Broken::CannotStart(error) => (
                StoreErrorKind::Unavailable,
                format!("store helper {program} cannot be started: {error}"),
            ),
            Broken::Timeout(timeout) => (
                StoreErrorKind::Unavailable,
                format!(
                    "store helper {program} did not respond within {} s",
                    timeout.as_secs_f32()
                ),
            ),
            Broken::Closed => (
                StoreErrorKind::Failed,
                format!("store helper {program} ended without a response"),
            ),
            Broken::Malformed(what) => (
                StoreErrorKind::Failed,
                format!("store helper {program} does not keep to the protocol: {what}"),
            ),
        };
        StoreError {
            kind,
            message,
            hint: matches!(broken, Broken::NotFound)
                .then(|| format!("install {program} into a directory of PATH")),
        }
    }
}

impl SecretStore for HelperStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Helper(self.address)
    }

    /// Without a helper there is no limit: the write that follows reports why.
    fn limit(&self) -> Option<usize> {
        self.hello().ok().and_then(|hello| hello.max)
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        Ok(self.fetch(account, REQUEST_TIMEOUT)?.1)
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError> {
        self.store(account, Some(secret))
    }

    fn delete(&self, account: &str) -> Result<bool, StoreError> {
        let was_there = self.read(account)?.is_some();
        if was_there {
            self.store(account, None)?;
        }
        Ok(was_there)
    }

    fn versioned(&self) -> Result<Option<&dyn Versioned>, StoreError> {
        Ok(self.hello()?.cas.then_some(self as &dyn Versioned))
    }
}

impl Versioned for HelperStore {
    fn get(&self, account: &str, timeout: Duration) -> Result<VersionedEntry, StoreError> {
        match self.fetch(account, timeout)? {
            (Some(version), value) => Ok((Version(version), value)),
            (None, _) => Err(self.failed("it had versions before, and has none now")),
        }
    }

    fn put(
        &self,
        account: &str,
        expected: &Version,
        secret: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError> {
        check(account, secret)?;
        // A helper that was restarted and has no versions any more would write unconditionally.
        if !self.hello()?.cas {
            return Err(self.failed("it had versions before, and has none now"));
        }
        let request = message::put(account, Some(&expected.0), secret);
        Ok(
            match self.request(request, secret.unwrap_or_default(), timeout)? {
                Answer::Success {
                    version: Some(version),
                    ..
                } => PutOutcome::Stored(Version(version)),
                Answer::Success { version: None, .. } => {
                    return Err(self.failed("a response has no version"));
                }
                Answer::Conflict => PutOutcome::Conflict,
                Answer::Unknown(_) => PutOutcome::Unknown,
            },
        )
    }
}

/// Refuses what cannot be sent to a helper.
fn check(key: &str, secret: Option<&[u8]>) -> Result<(), StoreError> {
    if !message::is_key(key) {
        let text = "the name of the entry cannot be sent to a store helper";
        return Err(StoreError::failed(text));
    }
    if secret.is_some_and(|secret| secret.len() > MAX_VALUE) {
        return Err(StoreError::failed(
            "the session is too large for a store helper",
        ));
    }
    Ok(())
}

/// The message of a helper, unless it repeats a part of the entry.
fn without_secret(message: &str, secret: &[u8]) -> String {
    const LONGEST: usize = 200;
    // Shorter strings of the entry are no secrets: field names and numbers.
    const SHORTEST_SECRET: usize = 12;
    let text = String::from_utf8_lossy(secret);
    let encoded = message::encoded(secret);
    let repeats = text
        .split('"')
        .filter(|part| part.len() >= SHORTEST_SECRET && !part.contains("://"))
        .any(|part| message.contains(part))
        || (encoded.len() >= SHORTEST_SECRET
            && message.contains(encoded.get(..SHORTEST_SECRET * 2).unwrap_or(&encoded)));
    // Nothing that a person reads is one word of this length; a token is.
    let has_token = message.split_whitespace().any(|word| word.len() > 80);
    if repeats || has_token {
        "(its message is withheld: it may hold a secret)".to_owned()
    } else {
        message.chars().take(LONGEST).collect()
    }
}
