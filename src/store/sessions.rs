//! Reads and writes the session of one profile in one secret store.
//!
//! If the store limits the size of an entry, a larger session is split into parts. The
//! parts are written first, as entries of their own with a common generation number. Then the head,
//! `{"version":1,"generation":7,"parts":3}`, replaces the profile's entry in a single
//! write. If a run is killed before that write, the previous generation is still intact.
//! Each part begins with a label that contains its generation, so that parts of different
//! generations are never joined.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::entry::{self, StoredSession};
use super::{
    Coordination, ProfileLock, PutOutcome, SecretStore, SharedEntry, StoreError, StoreKind,
    Version, VersionedStore, host_name,
};
use crate::model::{ProfileName, Session};

/// The bytes of each part that are reserved for its label.
const LABEL_BYTES: usize = 40;

const MAX_PARTS: u32 = 64;

/// Timeout of one request to a store that machines share.
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
    pub fn new(store: &'a dyn SecretStore, profile: &'a ProfileName) -> Self {
        Self { store, profile }
    }

    /// Returns the session, if there is one.
    ///
    /// If the caller does not hold the profile's lock, another run may replace the parts
    /// of a split session while they are read. Therefore, if the parts cannot be joined,
    /// the head is read again: if the head has changed, reading starts over.
    pub fn read(&self) -> Result<Option<Session>, StoreError> {
        self.read_with(|account| self.store.read(account))
    }

    /// Reads the session even if other users can read it too. A logout needs this to
    /// revoke the session.
    pub(crate) fn read_even_if_others_can_read(&self) -> Result<Option<Session>, StoreError> {
        self.read_with(|account| self.store.read_even_if_others_can_read(account))
    }

    /// Reads the session. `read` reads the profile's entry.
    fn read_with(
        &self,
        read: impl Fn(&str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>,
    ) -> Result<Option<Session>, StoreError> {
        if let Some(versioned) = self.store.as_versioned()? {
            let (_, entry) = self.read_shared(versioned)?;
            return Ok(entry.and_then(|entry| entry.session));
        }
        let mut last_failure: Option<(Head, StoreError)> = None;
        loop {
            let Some(bytes) = read(self.profile.as_str())? else {
                return Ok(None);
            };
            let Some(head) = self.parse_head(&bytes) else {
                return entry::from_bytes(&bytes).map(Some);
            };
            if let Some((failed_head, error)) = last_failure
                && failed_head == head
            {
                return Err(error);
            }
            let joined = self.join_parts(head);
            match joined.and_then(|bytes| entry::from_bytes(&bytes)) {
                Ok(session) => return Ok(Some(session)),
                Err(error) => last_failure = Some((head, error)),
            }
        }
    }

    fn read_shared(
        &self,
        versioned: &dyn VersionedStore,
    ) -> Result<(Version, Option<SharedEntry>), StoreError> {
        let (version, bytes) = versioned.get(self.profile.as_str(), SHARED_TIMEOUT)?;
        let unknown_skew = None;
        let entry = bytes.map(|bytes| SharedEntry::from_bytes(&bytes, unknown_skew));
        Ok((version, entry.transpose()?))
    }

    /// Replaces the session of the profile, but not one that machines share. The new session
    /// is durable when this returns.
    pub(crate) fn save(&self, lock: &ProfileLock, session: &Session) -> Result<(), StoreError> {
        self.check_lock(lock)?;
        if let Some(versioned) = self.store.as_versioned()? {
            return self.save_shared(versioned, session);
        }
        // Record the writer if other machines may use the same store.
        let is_helper = matches!(self.store.kind(), StoreKind::Helper(_));
        let host = is_helper.then(host_name);
        let bytes = entry::to_bytes(session, host.as_deref())?;
        match self.store.max_secret_bytes() {
            None => self.store.write(self.profile.as_str(), &bytes),
            Some(limit) => self.save_split(limit, &bytes),
        }
    }

    /// Writes a session to a store that machines share. Fails if the store holds a session.
    fn save_shared(
        &self,
        versioned: &dyn VersionedStore,
        session: &Session,
    ) -> Result<(), StoreError> {
        let (version, existing) = self.read_shared(versioned)?;
        if existing.is_some_and(|entry| entry.session.is_some()) {
            return Err(StoreError::failed(
                "the shared store already holds a session",
            ));
        }
        let login_id = format!("{:016x}", getrandom::u64().unwrap_or_default());
        let entry = SharedEntry {
            // A session has no `Clone`: copy it through its stored form.
            session: Some(StoredSession::from(session).into()),
            coordination: Coordination {
                login_id: login_id.clone(),
                ..Coordination::default()
            },
        };
        let account = self.profile.as_str();
        match versioned.put(account, &version, Some(&entry.to_bytes()?), SHARED_TIMEOUT)? {
            PutOutcome::Stored(_) => Ok(()),
            PutOutcome::Conflict => Err(StoreError::failed(
                "another machine wrote to the shared store at the same time",
            )),
            PutOutcome::Unknown => match self.read_shared(versioned)? {
                (_, Some(stored)) if stored.coordination.login_id == login_id => Ok(()),
                _ => Err(StoreError::failed(
                    "the shared store did not store the session",
                )),
            },
        }
    }

    /// Removes the session with all its parts. Returns whether there was one.
    pub(crate) fn delete(&self, lock: &ProfileLock) -> Result<bool, StoreError> {
        self.check_lock(lock)?;
        let existed = self.store.delete(self.profile.as_str())?;
        if self.store.max_secret_bytes().is_some() {
            // Delete the parts of even and of odd generations, whatever the head says: a
            // killed run may have left any of them.
            self.delete_parts(0, MAX_PARTS)?;
            self.delete_parts(1, MAX_PARTS)?;
        }
        Ok(existed)
    }

    /// Proves that the store works: writes, reads and deletes a test entry, which the
    /// lock protects from other runs. If the deletion could open a dialog that nobody
    /// responds to, writes nothing and returns false.
    pub(crate) fn prove_writable(&self, lock: &ProfileLock) -> Result<bool, StoreError> {
        const CONTENT: &[u8] = b"written by rememberizer to test the store";
        self.check_lock(lock)?;
        // No profile has this account, since a profile's name contains no dot.
        let account = format!("{}.probe", self.profile);
        if self.store.deletion_may_prompt(&account)? {
            return Ok(false);
        }
        self.store.write(&account, CONTENT)?;
        let content = self.store.read(&account)?;
        self.store.delete(&account)?;
        if content.is_some_and(|content| *content == CONTENT) {
            Ok(true)
        } else {
            Err(StoreError::failed(
                "the store did not return what was written to it",
            ))
        }
    }

    fn check_lock(&self, lock: &ProfileLock) -> Result<(), StoreError> {
        if lock.profile() == self.profile {
            Ok(())
        } else {
            Err(StoreError::failed("the lock belongs to another profile"))
        }
    }

    /// Returns the head of a split session, or `None` if the entry is a whole session.
    fn parse_head(&self, bytes: &[u8]) -> Option<Head> {
        self.store.max_secret_bytes()?;
        serde_json::from_slice(bytes).ok()
    }

    /// Returns the account of part `index`. No profile has this account, since a
    /// profile's name contains no dot. Generations alternate between two sets of
    /// accounts, so that a new generation does not overwrite the previous one.
    fn part_account(&self, generation: u64, index: u32) -> String {
        let set = match generation.is_multiple_of(2) {
            true => 'a',
            false => 'b',
        };
        format!("{}.{set}{index}", self.profile)
    }

    fn join_parts(&self, head: Head) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        if head.version > entry::VERSION || head.parts > MAX_PARTS {
            return Err(incomplete_error("its list of parts is not valid"));
        }
        let mut joined = Zeroizing::new(Vec::with_capacity(16 * 1024));
        for index in 1..=head.parts {
            let account = self.part_account(head.generation, index);
            let Some(part) = self.store.read(&account)? else {
                return Err(incomplete_error(&format!(
                    "part {index} of {} is missing",
                    head.parts
                )));
            };
            let Some(content) = part.strip_prefix(label(head, index).as_bytes()) else {
                return Err(incomplete_error(&format!(
                    "part {index} of {} belongs to another generation",
                    head.parts
                )));
            };
            joined.extend_from_slice(content);
        }
        Ok(joined)
    }

    /// Writes a session to a store that limits the size of an entry, in parts if needed.
    fn save_split(&self, limit: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let account = self.profile.as_str();
        let old_entry = self.store.read(account)?;
        let old_head = old_entry.and_then(|bytes| self.parse_head(&bytes));
        if bytes.len() <= limit {
            self.store.write(account, bytes)?;
        } else {
            let chunk_len = limit.saturating_sub(LABEL_BYTES).max(1);
            let parts = u32::try_from(bytes.len().div_ceil(chunk_len)).unwrap_or(u32::MAX);
            if parts > MAX_PARTS {
                return Err(StoreError::failed(format!(
                    "the session is too large for the store ({} bytes)",
                    bytes.len()
                )));
            }
            let head = Head {
                version: entry::VERSION,
                generation: match old_head {
                    Some(old) => old.generation.wrapping_add(1),
                    None => first_generation(),
                },
                parts,
            };
            for (index, chunk) in (1..).zip(bytes.chunks(chunk_len)) {
                let mut part = Zeroizing::new(Vec::with_capacity(limit));
                part.extend_from_slice(label(head, index).as_bytes());
                part.extend_from_slice(chunk);
                self.store
                    .write(&self.part_account(head.generation, index), &part)?;
            }
            let head = serde_json::to_vec(&head)
                .map_err(|_| StoreError::failed("cannot write the head as JSON"))?;
            self.store.write(account, &head)?;
        }
        if let Some(old) = old_head {
            self.delete_parts(old.generation, old.parts.min(MAX_PARTS))?;
        }
        Ok(())
    }

    /// Deletes the first `count` parts of a generation. Parts may be missing.
    fn delete_parts(&self, generation: u64, count: u32) -> Result<(), StoreError> {
        for index in 1..=count {
            self.store.delete(&self.part_account(generation, index))?;
        }
        Ok(())
    }
}

/// Returns a random generation. If the session is removed and a new one stored while a
/// reader joins parts, the reader then detects that the parts were replaced.
fn first_generation() -> u64 {
    getrandom::u32().unwrap_or_default().into()
}

fn label(head: Head, index: u32) -> String {
    format!("{}/{index}/{}:", head.generation, head.parts)
}

fn incomplete_error(why: &str) -> StoreError {
    StoreError::failed(format!("the stored session is incomplete: {why}"))
        .with_hint(entry::REMOVAL_HINT)
}
