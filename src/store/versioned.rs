//! Stores that compare and set: an entry has a version, and a write is done
//! only if the version is still the one that was read. Such a store can be
//! shared by machines.

use std::time::Duration;

use zeroize::Zeroizing;

use super::StoreError;

/// The version of an entry. It is never that of another content, before or after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub(crate) String);

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// It was done, and this is the version of what was written.
    Stored(Version),
    /// The entry has another version. Nothing was done.
    Conflict,
    /// Nobody knows whether it was done. A read decides.
    Unknown,
}

/// An entry as it was read: its version, and its content if there is any.
pub type VersionedEntry = (Version, Option<Zeroizing<Vec<u8>>>);

/// Reads and conditional writes of one store.
pub trait Versioned {
    /// Reads the entry of `account`. An absent one has a version as well.
    fn get(&self, account: &str, timeout: Duration) -> Result<VersionedEntry, StoreError>;

    /// Replaces the entry of `account`, or removes it if `secret` is `None`, on
    /// the condition that its version is `expected`. It is durable when this
    /// returns `Stored`. An error means that nothing was done.
    fn put(
        &self,
        account: &str,
        expected: &Version,
        secret: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError>;
}
