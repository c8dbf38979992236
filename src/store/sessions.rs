//! The session of one profile in one secret store.
//!
//! If a store limits the size of an entry, a larger session is split. The parts
//! are written first, under account names of their own, then the head,
//! `{"version":1,"generation":7,"parts":3}`, replaces the former one in a single
//! write. A run that is killed in between leaves the former generation intact.
//! Each part is labelled with its generation, so that parts of different
//! generations are detected and never joined.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    ProfileLock, PutOutcome, SecretStore, SharedEntry, Sharing, StoreError, StoreKind, Versioned,
    entry, host_name,
};
use crate::model::{ProfileName, Session};

/// Bytes reserved in each part for its label.
const LABEL_BYTES: usize = 40;

const MAX_PARTS: u32 = 64;

/// How long one request for a shared entry may take.
const SHARED_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads and writes the session of one profile as a whole.
pub struct SessionStore<'a> {
    store: &'a dyn SecretStore,
    profile: &'a ProfileName,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq)]
struct Head {
    version: u32,
    generation: u64,
    parts: u32,
}

impl<'a> SessionStore<'a> {
    /// Returns the handle on the session of `profile` in `store`.
    #[must_use]
    pub fn new(store: &'a dyn SecretStore, profile: &'a ProfileName) -> Self {
        Self { store, profile }
    }

    /// Returns the session, or `None` if there is none.
    ///
    /// Without the profile's lock the parts of a split session may be replaced
    /// while they are read. If they cannot be joined, the head is read again: a
    /// head that has changed means another run wrote a new generation.
    pub fn read(&self) -> Result<Option<Session>, StoreError> {
        self.read_by(|account| self.store.read(account))
    }

    /// Reads the session even if others can read it too, to revoke it.
    pub(crate) fn read_exposed(&self) -> Result<Option<Session>, StoreError> {
        self.read_by(|account| self.store.read_exposed(account))
    }

    fn read_by(
        &self,
        read: impl Fn(&str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>,
    ) -> Result<Option<Session>, StoreError> {
        if let Some(versioned) = self.store.versioned()? {
            let (_, bytes) = versioned.get(self.profile.as_str(), SHARED_TIMEOUT)?;
            return match bytes {
                Some(bytes) => Ok(SharedEntry::from_bytes(&bytes, None)?.session),
                None => Ok(None),
            };
        }
        let mut failed: Option<(Head, StoreError)> = None;
        loop {
            let Some(bytes) = read(self.profile.as_str())? else {
                return Ok(None);
            };
            let Some(head) = self.head(&bytes) else {
                return entry::from_bytes(&bytes).map(Some);
            };
            if let Some((before, error)) = failed
                && before == head
            {
                return Err(error);
            }
            match self.join(head).and_then(|bytes| entry::from_bytes(&bytes)) {
                Ok(session) => return Ok(Some(session)),
                Err(error) => failed = Some((head, error)),
            }
        }
    }

    /// Replaces the session of the profile. It is durable when this returns.
    pub(crate) fn save(&self, lock: &ProfileLock, session: &Session) -> Result<(), StoreError> {
        self.check(lock)?;
        if let Some(versioned) = self.store.versioned()? {
            return self.share(versioned, session);
        }
        // A store behind a helper may be one that several machines reach.
        let is_helper = matches!(self.store.kind(), StoreKind::Helper(_));
        let host = is_helper.then(host_name);
        let bytes = entry::to_bytes(session, host.as_deref())?;
        match self.store.limit() {
            None => self.store.write(self.profile.as_str(), &bytes),
            Some(limit) => self.save_within(limit, &bytes),
        }
    }

    /// Moves a session to a store that machines share, where none lies yet.
    fn share(&self, versioned: &dyn Versioned, session: &Session) -> Result<(), StoreError> {
        let account = self.profile.as_str();
        let (version, there) = versioned.get(account, SHARED_TIMEOUT)?;
        if let Some(there) = there
            && SharedEntry::from_bytes(&there, None)?.session.is_some()
        {
            return Err(StoreError::failed(
                "the shared store holds a session already",
            ));
        }
        let lineage = format!("{:016x}", getrandom::u64().unwrap_or_default());
        let entry = SharedEntry {
            session: Some(entry::from_bytes(&entry::to_bytes(session, None)?)?),
            sharing: Sharing {
                lineage: lineage.clone(),
                ..Sharing::default()
            },
        };
        match versioned.put(account, &version, Some(&entry.to_bytes()?), SHARED_TIMEOUT)? {
            PutOutcome::Stored(_) => Ok(()),
            PutOutcome::Conflict => Err(StoreError::failed(
                "another machine has written to the shared store meanwhile",
            )),
            PutOutcome::Unknown => {
                let (_, there) = versioned.get(account, SHARED_TIMEOUT)?;
                let there = there
                    .map(|there| SharedEntry::from_bytes(&there, None))
                    .transpose()?;
                match there {
                    Some(there) if there.sharing.lineage == lineage => Ok(()),
                    _ => Err(StoreError::failed(
                        "the shared store did not take the session",
                    )),
                }
            }
        }
    }

    /// Removes the session with all its parts. Returns whether there was one.
    pub(crate) fn delete(&self, lock: &ProfileLock) -> Result<bool, StoreError> {
        self.check(lock)?;
        let there = self.store.delete(self.profile.as_str())?;
        if self.store.limit().is_some() {
            // Even without a head: a killed run may have left parts.
            self.delete_parts(0, MAX_PARTS)?;
            self.delete_parts(1, MAX_PARTS)?;
        }
        Ok(there)
    }

    /// Writes, reads and removes an entry beside the profile's own, to prove that
    /// the store works. The lock keeps other runs away from that entry. Only reads,
    /// and returns false, if the removal could open a dialog that nobody answers.
    pub(crate) fn prove_writable(&self, lock: &ProfileLock) -> Result<bool, StoreError> {
        const CONTENT: &[u8] = b"written by rememberizer to test the store";
        self.check(lock)?;
        // A profile's name has no dot, so this is no profile's account.
        let account = format!("{}.probe", self.profile);
        if self.store.deletion_may_prompt(&account)? {
            return Ok(false);
        }
        self.store.write(&account, CONTENT)?;
        let read = self.store.read(&account)?;
        self.store.delete(&account)?;
        if read.is_some_and(|read| *read == CONTENT) {
            Ok(true)
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
            Err(StoreError::failed("the lock belongs to another profile"))
        }
    }

    fn head(&self, bytes: &[u8]) -> Option<Head> {
        self.store.limit()?;
        serde_json::from_slice(bytes).ok()
    }

    /// Returns the account name of part `index`. Generations alternate between two
    /// sets of names; a profile's name has no dot.
    fn part_account(&self, generation: u64, index: u32) -> String {
        let set = if generation.is_multiple_of(2) {
            'a'
        } else {
            'b'
        };
        format!("{}.{set}{index}", self.profile)
    }

    fn join(&self, head: Head) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        if head.version > entry::VERSION || head.parts > MAX_PARTS {
            return Err(incomplete("its head is not valid"));
        }
        let mut whole = Zeroizing::new(Vec::with_capacity(16 * 1024));
        for index in 1..=head.parts {
            let Some(part) = self
                .store
                .read(&self.part_account(head.generation, index))?
            else {
                return Err(incomplete(&format!(
                    "part {index} of {} is missing",
                    head.parts
                )));
            };
            let Some(content) = part.strip_prefix(label(head, index).as_bytes()) else {
                return Err(incomplete(&format!(
                    "part {index} of {} belongs to another generation",
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
            let room = limit.saturating_sub(LABEL_BYTES).max(1);
            let parts = u32::try_from(bytes.len().div_ceil(room)).unwrap_or(u32::MAX);
            if parts > MAX_PARTS {
                return Err(StoreError::failed(format!(
                    "the session is too large for the store ({} bytes)",
                    bytes.len()
                )));
            }
            let head = Head {
                version: entry::VERSION,
                generation: former.map_or_else(first_generation, |f| f.generation.wrapping_add(1)),
                parts,
            };
            for (index, chunk) in (1..).zip(bytes.chunks(room)) {
                let mut part = Zeroizing::new(Vec::with_capacity(limit));
                part.extend_from_slice(label(head, index).as_bytes());
                part.extend_from_slice(chunk);
                self.store
                    .write(&self.part_account(head.generation, index), &part)?;
            }
            let head = serde_json::to_vec(&head)
                .map_err(|_| StoreError::failed("cannot write the head as JSON"))?;
            self.store.write(self.profile.as_str(), &head)?;
        }
        if let Some(former) = former {
            self.delete_parts(former.generation, former.parts.min(MAX_PARTS))?;
        }
        Ok(())
    }

    /// Deletes those of the first `count` parts of a generation that exist.
    fn delete_parts(&self, generation: u64, count: u32) -> Result<(), StoreError> {
        for index in 1..=count {
            self.store.delete(&self.part_account(generation, index))?;
        }
        Ok(())
    }
}

/// Random, so that a reader notices when the session was removed and another
/// one stored under the same names.
fn first_generation() -> u64 {
    getrandom::u32().unwrap_or_default().into()
}

fn label(head: Head, index: u32) -> String {
    format!("{}/{index}/{}:", head.generation, head.parts)
}

fn incomplete(why: &str) -> StoreError {
    StoreError::failed(format!("the stored session is incomplete: {why}")).hint(entry::REMOVE)
}
