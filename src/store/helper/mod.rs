//! External secret stores, each accessed through a helper program over its stdin
//! and stdout. `helpers/README.md` specifies the protocol, in which the account of
//! an entry is called its key.
//!
//! A helper may hang, exit or send invalid responses, so every wait has a timeout.
//! After such a failure its process group is killed. Whether a write was done is
//! then unknown until a new helper has read the entry.

pub(super) mod message;
mod process;
mod spec;

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use zeroize::Zeroizing;

use self::message::{ErrorCode, MAX_VALUE_BYTES, Response};
use self::process::{HelperFailure, Process};
pub use self::spec::HelperSpec;
use super::{
    PutOutcome, SecretStore, StoreError, StoreErrorKind, StoreKind, Version, VersionedEntry,
    VersionedStore,
};

/// Timeout for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of attempts for a write whose outcome is unknown.
const WRITE_ATTEMPTS: usize = 3;

/// The error of a helper that reported a store with versions before it was restarted.
const RESTARTED_WITHOUT_VERSIONS: &str = "the restarted helper reports a store without versions";

/// A store that is accessed through a helper, which is started at the first use
/// and kept running.
#[derive(Debug)]
pub(crate) struct HelperStore {
    spec: HelperSpec,
    process: RefCell<Option<Process>>,
}

/// All helper stores of this process, created at the first use. This is a linked
/// list, so that adding a store keeps references to the others valid.
#[derive(Debug, Default)]
pub(crate) struct HelperStores(OnceCell<Box<(HelperStore, HelperStores)>>);

impl HelperStores {
    pub(crate) fn get(&self, spec: HelperSpec) -> &HelperStore {
        let (store, others) = &**self
            .0
            .get_or_init(|| Box::new((HelperStore::new(spec), Self::default())));
        if store.spec == spec {
            store
        } else {
            others.get(spec)
        }
    }
}

/// The version of an entry, if the store has versions, and the content, unless the entry
/// is absent.
type FetchedEntry = (Option<String>, Option<Zeroizing<Vec<u8>>>);

/// The outcome of a request that was sent. Other errors that the helper reports are a
/// [`StoreError`] instead.
enum RequestOutcome {
    Success {
        version: Option<String>,
        value: Option<Zeroizing<Vec<u8>>>,
    },
    Conflict,
    /// It is unknown whether the request was done. Contains the reason.
    Unknown(StoreError),
}

impl HelperStore {
    fn new(spec: HelperSpec) -> Self {
        Self {
            spec,
            process: RefCell::new(None),
        }
    }

    /// Calls `operation` with the helper, which is started if it is not running. Kills the
    /// helper if the operation fails.
    fn with_process<T>(
        &self,
        operation: impl FnOnce(&mut Process) -> Result<T, HelperFailure>,
    ) -> Result<T, HelperFailure> {
        let mut running = self.process.borrow_mut();
        let mut process = match running.take() {
            Some(process) => process,
            None => Process::start(&self.spec.program(), self.spec.location())?,
        };
        match operation(&mut process) {
            Ok(result) => {
                *running = Some(process);
                Ok(result)
            }
            Err(failure) => {
                process.kill();
                Err(failure)
            }
        }
    }

    /// Returns the greeting that the helper sends when it starts. Starts the helper if it
    /// is not running.
    fn hello(&self) -> Result<message::Hello, StoreError> {
        let running = self.process.borrow().as_ref().map(|process| process.hello);
        match running {
            Some(hello) => Ok(hello),
            None => self
                .with_process(|process| Ok(process.hello))
                .map_err(|failure| self.to_store_error(&failure)),
        }
    }

    /// Sends a request. `secret` is the content that error messages must not quote.
    fn request(
        &self,
        request: Zeroizing<Vec<u8>>,
        secret: &[u8],
        timeout: Duration,
    ) -> Result<RequestOutcome, StoreError> {
        let response = match self.with_process(|process| process.request(request, timeout)) {
            Ok(response) => response,
            // No helper was started, so the request was not sent.
            Err(failure @ (HelperFailure::NotFound | HelperFailure::CannotStart(_))) => {
                return Err(self.to_store_error(&failure));
            }
            Err(failure) => return Ok(RequestOutcome::Unknown(self.to_store_error(&failure))),
        };
        match response {
            Response::Success { version, value } => Ok(RequestOutcome::Success { version, value }),
            Response::Error { code, message } => {
                let message = redact(&message, secret);
                let error = |kind, summary: &str| StoreError {
                    kind,
                    message: match message.as_str() {
                        "" => format!("store helper {}: {summary}", self.spec.name()),
                        details => {
                            format!("store helper {}: {summary}: {details}", self.spec.name())
                        }
                    },
                    hint: None,
                };
                match code {
                    ErrorCode::Conflict => Ok(RequestOutcome::Conflict),
                    // An unavailable store may have done the write.
                    ErrorCode::Unavailable => Ok(RequestOutcome::Unknown(error(
                        StoreErrorKind::Unavailable,
                        "the store is unavailable",
                    ))),
                    ErrorCode::Locked => Err(error(StoreErrorKind::Locked, "the store is locked")),
                    ErrorCode::Denied => Err(error(StoreErrorKind::Failed, "access denied")),
                    ErrorCode::Failed => Err(error(StoreErrorKind::Failed, "the operation failed")),
                    ErrorCode::Unsupported => {
                        Err(error(StoreErrorKind::Failed, "operation not supported"))
                    }
                }
            }
        }
    }

    /// Reads an entry, and its version if the store has versions.
    fn fetch(&self, account: &str, timeout: Duration) -> Result<FetchedEntry, StoreError> {
        check_sendable(account, None)?;
        let is_reused = self.process.borrow().is_some();
        let mut outcome = self.request(message::get_request(account), &[], timeout)?;
        // A helper that was started for an earlier request may have exited since. Retry with
        // a new helper, but not after a timeout, which is reported as `Unavailable`.
        if is_reused
            && matches!(&outcome, RequestOutcome::Unknown(error) if error.kind == StoreErrorKind::Failed)
        {
            outcome = self.request(message::get_request(account), &[], timeout)?;
        }
        match outcome {
            RequestOutcome::Success { version, value } => Ok((version, value)),
            RequestOutcome::Unknown(error) => Err(error),
            RequestOutcome::Conflict => {
                Err(self.helper_error("the response to a get is a conflict, which is not allowed"))
            }
        }
    }

    /// Replaces an entry of a store without versions, or removes it if `secret` is `None`.
    /// If the outcome is unknown, reads the entry, and retries if the write was not done.
    /// The caller must hold the profile's lock, which excludes other processes of this
    /// machine.
    fn put_unversioned(&self, account: &str, secret: Option<&[u8]>) -> Result<(), StoreError> {
        check_sendable(account, secret)?;
        if self.hello()?.has_versions {
            return Err(self.helper_error("the restarted helper reports a store with versions"));
        }
        let mut attempt = 1;
        loop {
            let any_version = None;
            let request = message::put_request(account, any_version, secret);
            match self.request(request, secret.unwrap_or_default(), REQUEST_TIMEOUT)? {
                RequestOutcome::Success { .. } => return Ok(()),
                RequestOutcome::Conflict => {
                    return Err(self.helper_error(
                        "the response is a conflict, but the store has no versions",
                    ));
                }
                RequestOutcome::Unknown(error) if attempt == WRITE_ATTEMPTS => return Err(error),
                RequestOutcome::Unknown(_) => {}
            }
            let (_, stored) = self.fetch(account, REQUEST_TIMEOUT)?;
            if stored.as_deref().map(Vec::as_slice) == secret {
                return Ok(());
            }
            attempt += 1;
        }
    }

    fn helper_error(&self, problem: &str) -> StoreError {
        StoreError::failed(format!("store helper {}: {problem}", self.spec.name()))
    }

    fn to_store_error(&self, failure: &HelperFailure) -> StoreError {
        let program = self.spec.program();
        let (kind, message) = match failure {
            HelperFailure::NotFound => (
                StoreErrorKind::Unavailable,
                format!("store helper {program} is not in PATH"),
            ),
            HelperFailure::CannotStart(error) => (
                StoreErrorKind::Unavailable,
                format!("store helper {program} cannot be started: {error}"),
            ),
            HelperFailure::Timeout(timeout) => (
                StoreErrorKind::Unavailable,
                format!(
                    "store helper {program} did not respond within {} s",
                    timeout.as_secs_f32()
                ),
            ),
            HelperFailure::Closed => (
                StoreErrorKind::Failed,
                format!("store helper {program} exited without a response"),
            ),
            HelperFailure::Malformed(problem) => (
                StoreErrorKind::Failed,
                format!("store helper {program} violated the protocol: {problem}"),
            ),
        };
        StoreError {
            kind,
            message,
            hint: matches!(failure, HelperFailure::NotFound)
                .then(|| format!("install {program} in a directory that is in PATH")),
        }
    }
}

impl SecretStore for HelperStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Helper(self.spec)
    }

    /// Returns `None` if the helper cannot be started. The next write reports the error.
    fn max_secret_bytes(&self) -> Option<usize> {
        self.hello().ok().and_then(|hello| hello.max_value_bytes)
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        Ok(self.fetch(account, REQUEST_TIMEOUT)?.1)
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), StoreError> {
        self.put_unversioned(account, Some(secret))
    }

    fn delete(&self, account: &str) -> Result<bool, StoreError> {
        let existed = self.read(account)?.is_some();
        if existed {
            self.put_unversioned(account, None)?;
        }
        Ok(existed)
    }

    fn as_versioned(&self) -> Result<Option<&dyn VersionedStore>, StoreError> {
        Ok(self
            .hello()?
            .has_versions
            .then_some(self as &dyn VersionedStore))
    }
}

impl VersionedStore for HelperStore {
    fn get(&self, account: &str, timeout: Duration) -> Result<VersionedEntry, StoreError> {
        match self.fetch(account, timeout)? {
            (Some(version), value) => Ok((Version(version), value)),
            (None, _) => Err(self.helper_error(RESTARTED_WITHOUT_VERSIONS)),
        }
    }

    fn put(
        &self,
        account: &str,
        expected: &Version,
        secret: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError> {
        check_sendable(account, secret)?;
        // A helper without versions would ignore `expected`.
        if !self.hello()?.has_versions {
            return Err(self.helper_error(RESTARTED_WITHOUT_VERSIONS));
        }
        let request = message::put_request(account, Some(&expected.0), secret);
        Ok(
            match self.request(request, secret.unwrap_or_default(), timeout)? {
                RequestOutcome::Success {
                    version: Some(version),
                    ..
                } => PutOutcome::Stored(Version(version)),
                RequestOutcome::Success { version: None, .. } => {
                    return Err(self.helper_error(RESTARTED_WITHOUT_VERSIONS));
                }
                RequestOutcome::Conflict => PutOutcome::Conflict,
                RequestOutcome::Unknown(_) => PutOutcome::Unknown,
            },
        )
    }
}

/// Fails if the account or the content cannot be sent to a helper.
fn check_sendable(account: &str, secret: Option<&[u8]>) -> Result<(), StoreError> {
    if !message::is_key(account) {
        let text = "the profile's name has characters that store helpers do not accept";
        return Err(StoreError::failed(text));
    }
    if secret.is_some_and(|secret| secret.len() > MAX_VALUE_BYTES) {
        return Err(StoreError::failed(
            "the session is too large for a store helper",
        ));
    }
    Ok(())
}

/// Returns a helper's message, shortened, or a placeholder if the message seems to
/// contain a part of the entry or another token.
fn redact(message: &str, secret: &[u8]) -> String {
    const MAX_CHARS: usize = 200;
    // A longer word is more likely a token than text.
    const MAX_WORD_LENGTH: usize = 80;
    // Shorter strings in an entry are field names and numbers.
    const MIN_SECRET_LENGTH: usize = 12;
    // A message that quotes an entry in base64 contains at least this many characters of it.
    const BASE64_PREFIX_LENGTH: usize = 24;
    let text = String::from_utf8_lossy(secret);
    let base64 = message::encode(secret);
    // URLs in an entry are not secret.
    let mut secrets = text
        .split('"')
        .filter(|part| part.len() >= MIN_SECRET_LENGTH && !part.contains("://"));
    let quotes_entry = secrets.any(|part| message.contains(part));
    let quotes_base64 = base64.len() >= MIN_SECRET_LENGTH
        && message.contains(base64.get(..BASE64_PREFIX_LENGTH).unwrap_or(&base64));
    let has_token = message
        .split_whitespace()
        .any(|word| word.len() > MAX_WORD_LENGTH);
    if quotes_entry || quotes_base64 || has_token {
        "(its message is withheld because it may contain a secret)".to_owned()
    } else {
        message.chars().take(MAX_CHARS).collect()
    }
}
