//! Stores with compare-and-set: each entry has a version, and a write succeeds only if the
//! entry still has the version that was read before. Machines can share such a store.

use std::time::Duration;

use zeroize::Zeroizing;

use super::StoreError;

/// The version of an entry's content. A store never reuses a version for other content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub(crate) String);

/// The outcome of [`VersionedStore::put`].
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

/// A store whose entries have versions.
pub trait VersionedStore {
    /// Reads the entry of `account`. An absent entry also has a version.
    fn get(&self, account: &str, timeout: Duration) -> Result<VersionedEntry, StoreError>;

    /// If the entry of `account` has the version `expected`, replaces the entry, or removes
    /// it if `secret` is `None`. If the outcome is `Stored`, the write is durable. If the
    /// call fails, nothing was written.
    fn put(
        &self,
        account: &str,
        expected: &Version,
        secret: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError>;
}
