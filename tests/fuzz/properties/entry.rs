//! Reads a session from a store. The first byte states whether the store limits the size
//! of entries. NUL bytes separate the profile's entry and the parts of a split session.

use rememberizer_cli::model::ProfileName;
use rememberizer_cli::store::{SecretStore, SessionStore, StoreError, StoreKind};
use zeroize::Zeroizing;

struct FuzzedStore<'d> {
    max_secret_bytes: Option<usize>,
    pieces: Vec<&'d [u8]>,
}

impl SecretStore for FuzzedStore<'_> {
    fn kind(&self) -> StoreKind {
        StoreKind::Keyring
    }

    fn max_secret_bytes(&self) -> Option<usize> {
        self.max_secret_bytes
    }

    fn read(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let index = match account.rsplit_once(".a").or(account.rsplit_once(".b")) {
            Some((_, number)) => number.parse().unwrap_or(usize::MAX),
            None => 0,
        };
        Ok(self
            .pieces
            .get(index)
            .map(|piece| Zeroizing::new(piece.to_vec())))
    }

    fn write(&self, _account: &str, _secret: &[u8]) -> Result<(), StoreError> {
        unreachable!("reading writes nothing")
    }

    fn delete(&self, _account: &str) -> Result<bool, StoreError> {
        unreachable!("reading deletes nothing")
    }
}

/// Panics if the property does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let store = FuzzedStore {
        max_secret_bytes: (kind % 2 == 1).then_some(2560),
        pieces: rest.split(|&byte| byte == 0).collect(),
    };
    let profile = ProfileName::default();
    match SessionStore::new(&store, &profile).read() {
        Ok(None) => unreachable!("there is always an entry"),
        Ok(Some(session)) => {
            assert!(!session.refresh.value.secret().expose().is_empty());
            assert!(session.has_same_tokens(&session));
            let again = SessionStore::new(&store, &profile).read();
            assert!(again.is_ok_and(|s| s.is_some_and(|s| s.has_same_tokens(&session))));
        }
        Err(error) => {
            // An error must not quote the entry, which may contain a secret.
            let shown = format!("{error} {:?}", error.hint);
            for word in rest.split(|b| !b.is_ascii_alphanumeric()) {
                let word = std::str::from_utf8(word).unwrap_or_default();
                assert!(word.len() < 16 || !shown.contains(word), "{shown}");
            }
        }
    }
}
