//! The session of one profile in one secret store.
//!
//! Where a store's limit is smaller than the entry, the entry is split: the
//! parts are written under account names of their own first, then the head,
//! `{"version":1,"generation":7,"parts":3}`, takes their place in one write. A
//! run that is killed in between leaves the former generation whole. Each part
//! says which generation it belongs to, so parts that do not belong together
//! are found out and never joined.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ProfileLock, SecretStore, StoreError, StoreKind, entry};
use crate::model::{ProfileName, Session};

/// Bytes kept free in each part for its label.
const LABEL: usize = 40;

/// More parts than this are not ours.
const MOST_PARTS: u32 = 64;

/// The session of a profile, read and written as a whole.
pub struct SessionStore<'a> {
    store: &'a dyn SecretStore,
    profile: &'a ProfileName,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
struct Head {
    version: u32,
    generation: u64,
    parts: u32,
}

impl<'a> SessionStore<'a> {
    /// The session of `profile` in `store`.
    #[must_use]
    pub fn new(store: &'a dyn SecretStore, profile: &'a ProfileName) -> Self {
        Self { store, profile }
    }

    /// The profile whose session it is.
    #[must_use]
    pub fn profile(&self) -> &'a ProfileName {
        self.profile
    }

    /// Which store it is in.
    #[must_use]
    pub fn kind(&self) -> StoreKind {
        self.store.kind()
    }

    /// The session, or `None` where there is none.
    pub fn read(&self) -> Result<Option<Session>, StoreError> {
        self.parse(self.store.read(self.profile.as_str())?)
    }

    /// Reads the session even if others can read it too, to revoke it.
    pub fn read_exposed(&self) -> Result<Option<Session>, StoreError> {
        self.parse(self.store.read_exposed(self.profile.as_str())?)
    }

    fn parse(&self, bytes: Option<Zeroizing<Vec<u8>>>) -> Result<Option<Session>, StoreError> {
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        match self.head(&bytes) {
            None => entry::from_bytes(&bytes).map(Some),
            Some(head) => entry::from_bytes(&self.join(head)?).map(Some),
        }
    }

    /// Makes `session` the session of the profile; durable when it returns.
    pub fn save(&self, lock: &ProfileLock, session: &Session) -> Result<(), StoreError> {
        self.check(lock)?;
        let bytes = entry::to_bytes(session)?;
        match self.store.limit() {
            None => self.store.write(self.profile.as_str(), &bytes),
            Some(limit) => self.save_within(limit, &bytes),
        }
    }

    /// Removes the session, all its parts included; whether there was one.
    pub fn delete(&self, lock: &ProfileLock) -> Result<bool, StoreError> {
        self.check(lock)?;
        let there = self.store.delete(self.profile.as_str())?;
        if self.store.limit().is_some() {
            // Head or not: a killed run may have left parts that no head names.
            self.delete_parts(0, MOST_PARTS)?;
            self.delete_parts(1, MOST_PARTS)?;
        }
        Ok(there)
    }

    /// Writes, reads and removes an entry beside the profile's own, to prove that
    /// the store works. The lock keeps other runs away from that entry.
    pub fn prove_writable(&self, lock: &ProfileLock) -> Result<(), StoreError> {
        const CONTENT: &[u8] = b"written by rememberizer to test the store";
        self.check(lock)?;
        // A profile's name has no dot, so this is no profile's account.
        let account = format!("{}.probe", self.profile);
        self.store.write(&account, CONTENT)?;
        let read = self.store.read(&account)?;
        self.store.delete(&account)?;
        if read.is_some_and(|read| *read == CONTENT) {
            Ok(())
        } else {
            Err(StoreError::failed(
                "the store did not return what was written to it",
            ))
        }
    }

    fn check(&self, lock: &ProfileLock) -> Result<(), StoreError> {
        if lock.profile() == self.profile {
            Ok(())
        } else {
            Err(StoreError::failed("the lock is that of another profile"))
        }
    }

    fn head(&self, bytes: &[u8]) -> Option<Head> {
        self.store.limit()?;
        serde_json::from_slice(bytes).ok()
    }

    /// The account of part `index` of a generation. Generations alternate
    /// between two sets of names; a profile's name holds no dot.
    fn account(&self, generation: u64, index: u32) -> String {
        let set = if generation.is_multiple_of(2) {
            'a'
        } else {
            'b'
        };
        format!("{}.{set}{index}", self.profile)
    }

    fn join(&self, head: Head) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        if head.version > entry::VERSION || head.parts > MOST_PARTS {
            return Err(torn("its head is not one of this version"));
        }
        let mut whole = Zeroizing::new(Vec::with_capacity(16 * 1024));
        for index in 1..=head.parts {
            let Some(part) = self.store.read(&self.account(head.generation, index))? else {
                return Err(torn(&format!("part {index} of {} is missing", head.parts)));
            };
            let Some(content) = part.strip_prefix(label(head, index).as_bytes()) else {
                return Err(torn(&format!(
                    "part {index} of {} is of another generation",
                    head.parts
                )));
            };
            whole.extend_from_slice(content);
        }
        Ok(whole)
    }

    fn save_within(&self, limit: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let former = self
            .store
            .read(self.profile.as_str())?
            .and_then(|bytes| self.head(&bytes));
        if bytes.len() <= limit {
            self.store.write(self.profile.as_str(), bytes)?;
        } else {
            let room = limit.saturating_sub(LABEL).max(1);
            let parts = u32::try_from(bytes.len().div_ceil(room)).unwrap_or(u32::MAX);
            if parts > MOST_PARTS {
                return Err(StoreError::failed(format!(
                    "the session is too large for the store ({} bytes)",
                    bytes.len()
                )));
            }
            let head = Head {
                version: entry::VERSION,
                generation: former.map_or(1, |f| f.generation.wrapping_add(1)),
                parts,
            };
            for (index, chunk) in (1..).zip(bytes.chunks(room)) {
                let mut part = Zeroizing::new(Vec::with_capacity(limit));
                part.extend_from_slice(label(head, index).as_bytes());
                part.extend_from_slice(chunk);
                self.store
                    .write(&self.account(head.generation, index), &part)?;
            }
            let head = serde_json::to_vec(&head)
                .map_err(|_| StoreError::failed("the head cannot be written as JSON"))?;
            self.store.write(self.profile.as_str(), &head)?;
        }
        if let Some(former) = former {
            self.delete_parts(former.generation, former.parts.min(MOST_PARTS))?;
        }
        Ok(())
    }

    /// Deletes the first `count` parts of a generation, whichever of them are there.
    fn delete_parts(&self, generation: u64, count: u32) -> Result<(), StoreError> {
        for index in 1..=count {
            self.store.delete(&self.account(generation, index))?;
        }
        Ok(())
    }
}

fn label(head: Head, index: u32) -> String {
    format!("{}/{index}/{}:", head.generation, head.parts)
}

fn torn(why: &str) -> StoreError {
    StoreError::failed(format!("the stored session is torn: {why}")).hint(entry::REMOVE)
}
