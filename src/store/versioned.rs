//! Stores with compare-and-set: each entry has a version, and a write succeeds only if the
//! entry still has the version that was read before. Machines can share such a store.

use std::time::Duration;

use zeroize::Zeroizing;

use super::StoreError;

/// The version of an entry's content. A store never reuses a version for other content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub(crate) String);

/// The outcome of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// The content was written and has this version.
    Stored(Version),
    /// The entry has another version than expected. Nothing was written.
    Conflict,
    /// It is not known whether the content was written. The caller must read the entry.
    Unknown,
}

/// The version of an entry, and its content unless the entry is absent.
pub type VersionedEntry = (Version, Option<Zeroizing<Vec<u8>>>);

/// Reads and conditional writes of one store.
pub trait Versioned {
    /// Reads the entry of `account`. An absent entry has a version, too.
    fn get(&self, account: &str, timeout: Duration) -> Result<VersionedEntry, StoreError>;

    /// Replaces the entry of `account`, or removes it if `secret` is `None`, if its version
    /// is `expected`. `Stored` means that the write is durable, an error that nothing was
    /// written.
    fn put(
        &self,
        account: &str,
        expected: &Version,
        secret: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError>;
}
