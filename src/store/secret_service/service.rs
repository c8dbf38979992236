//! Searches, reads, writes and deletes entries, with the calls of the Secret
//! Service specification. A library's calls would wait for a prompt without a
//! limit, prompt before they delete, and open a session even if there is nothing
//! to read.

use std::collections::HashMap;
use std::slice;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use zbus::zvariant::{self, DynamicType, ObjectPath, OwnedObjectPath, OwnedValue, Value};
use zeroize::Zeroizing;

use super::SecretServiceError;
use super::bus::{self, BUS_NAME, Bus, Result};
use super::daemon::{Daemon, property};
use super::prompt::{NO_OBJECT, Question};
use super::unlock::collection_of;
use crate::store::KeyringOptions;
use crate::store::keyring::SERVICE as SERVICE_NAME;

const SERVICE_PATH: &str = "/org/freedesktop/secrets";
/// Whichever collection is the default one; saves reading the alias.
const DEFAULT_COLLECTION: &str = "/org/freedesktop/secrets/aliases/default";
const SERVICE: &str = "org.freedesktop.Secret.Service";
pub(super) const COLLECTION: &str = "org.freedesktop.Secret.Collection";
const ITEM: &str = "org.freedesktop.Secret.Item";

/// As the keyring crate writes it; other readers do not look at it.
const CONTENT_TYPE: &str = "application/octet-stream";

/// `KWallet` writes to disk 5 s after the last change; this is a little longer.
const KWALLET_DELAY: Duration = Duration::from_millis(5500);

/// The attributes that an entry is found by, named as other keyring libraries do.
fn attributes(account: &str) -> HashMap<&str, &str> {
    HashMap::from([("service", SERVICE_NAME), ("username", account)])
}

/// The specification's `Secret`: session, parameters of the encryption, value
/// and content type.
type Secret<'a> = (OwnedObjectPath, &'a [u8], &'a [u8], &'a str);

/// The items that match a name, in all collections.
struct Matches {
    unlocked: Vec<OwnedObjectPath>,
    locked: Vec<OwnedObjectPath>,
}

/// The service, and the session with it.
pub(super) struct Service {
    pub(super) bus: Bus,
    session: Option<OwnedObjectPath>,
    /// Where a name was last found, so that a write after a read need not search.
    known: HashMap<String, OwnedObjectPath>,
    daemon: Option<Daemon>,
    /// Why the prompt to unlock failed; it is shown once per run.
    pub(super) unlock_refusal: Option<SecretServiceError>,
}

impl Service {
    /// Connects to the session bus. Each later call is bounded by `timeout` too.
    pub(super) fn connect(timeout: Duration) -> Result<(Runtime, Self)> {
        let (runtime, bus) = bus::connect(timeout)?;
        let service = Self {
            bus,
            session: None,
            known: HashMap::new(),
            daemon: None,
            unlock_refusal: None,
        };
        Ok((runtime, service))
    }

    /// The secret of the one match, or `None`.
    pub(super) async fn read(
        &mut self,
        account: &str,
        options: &KeyringOptions,
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(path) = self.locate(account, options).await? else {
            return Ok(None);
        };
        let session = self.session().await?;
        let answer = self
            .bus
            .message(BUS_NAME, &path, ITEM, "GetSecret", &session)
            .await?;
        let body = answer.body();
        let secret = body.deserialize::<((ObjectPath<'_>, &[u8], &[u8], &str),)>();
        let ((_, _, value, _),) = self.bus.map_bus_err(secret)?;
        Ok(Some(Zeroizing::new(value.to_vec())))
    }

    /// Writes an entry and makes it durable.
    pub(super) async fn write(
        &mut self,
        account: &str,
        secret: &[u8],
        options: &KeyringOptions,
    ) -> Result<()> {
        // While the service writes, the bus is asked which one it is.
        let identify = match self.daemon {
            None => Some(tokio::spawn(Daemon::identify(self.bus.clone()))),
            Some(_) => None,
        };
        self.put(account, secret, options).await?;
        if let Some(identify) = identify {
            self.daemon = identify.await.ok();
        }
        self.flush(account, options).await;
        Ok(())
    }

    /// Writes into the one match, or creates an entry in the default collection.
    ///
    /// `SetSecret` makes gnome-keyring rewrite its file once, `CreateItem` with
    /// `replace` twice; so a search comes first where no read has been.
    async fn put(&mut self, account: &str, secret: &[u8], options: &KeyringOptions) -> Result<()> {
        if let Some(path) = self.known.get(account) {
            match self.overwrite(path.clone(), secret).await {
                // Deleted or locked since it was found: look again.
                Err(SecretServiceError::Other(_) | SecretServiceError::Locked) => {
                    self.known.remove(account);
                }
                done => return done,
            }
        }
        match self.locate(account, options).await? {
            Some(path) => self.overwrite(path, secret).await,
            None => self.create(account, secret, options).await,
        }
    }

    /// Deletes all matches, not only one: a remaining copy would be a secret that
    /// its owner believes gone. Returns whether there was any.
    pub(super) async fn delete_all(
        &mut self,
        account: &str,
        options: &KeyringOptions,
    ) -> Result<bool> {
        let matches = self.find(account, options).await?;
        for path in &matches.unlocked {
            self.delete(path, options).await?;
        }
        if !matches.locked.is_empty() {
            self.unlock(&matches.locked, options).await?;
            for path in &matches.locked {
                self.delete(path, options).await?;
            }
        }
        let any = !matches.unlocked.is_empty() || !matches.locked.is_empty();
        if any {
            self.daemon().await;
            self.flush(account, options).await;
        }
        self.known.remove(account);
        Ok(any)
    }

    /// Returns the one match, unlocked. If a match is unlocked, locked ones are ignored.
    async fn locate(
        &mut self,
        account: &str,
        options: &KeyringOptions,
    ) -> Result<Option<OwnedObjectPath>> {
        let matches = self.find(account, options).await?;
        let path = match (matches.unlocked.as_slice(), matches.locked.as_slice()) {
            ([], []) => return Ok(None),
            ([path], _) => path,
            ([], [path]) => {
                self.unlock(&matches.locked, options).await?;
                path
            }
            ([], many) | (many, _) => return Err(SecretServiceError::Ambiguous(many.len())),
        };
        self.known.insert(account.to_owned(), path.clone());
        Ok(Some(path.clone()))
    }

    /// Searches in all collections. KeePassXC and oo7 find nothing in a locked
    /// collection, so if nothing is found the default one is unlocked first.
    async fn find(&mut self, account: &str, options: &KeyringOptions) -> Result<Matches> {
        let matches = self.search(account).await?;
        if !matches.unlocked.is_empty()
            || !matches.locked.is_empty()
            || !self.is_locked(DEFAULT_COLLECTION).await
        {
            return Ok(matches);
        }
        if let Some(collection) = self.default_collection().await? {
            self.unlock(&[collection], options).await?;
        }
        self.search(account).await
    }

    /// Returns which program provides the service.
    pub(super) async fn daemon(&mut self) -> Daemon {
        match self.daemon {
            Some(daemon) => daemon,
            None => *self.daemon.insert(Daemon::identify(self.bus.clone()).await),
        }
    }

    /// Makes the last change durable, if the service does not do it itself.
    async fn flush(&self, account: &str, options: &KeyringOptions) {
        let Some(Daemon::KWallet(kwallet)) = self.daemon else {
            return;
        };
        let collection = self
            .known
            .get(account)
            .map_or(DEFAULT_COLLECTION, |item| collection_of(item));
        let wallet: Option<String> = property(&self.bus, collection, COLLECTION, "Label").await;
        let synced = match &wallet {
            Some(wallet) => kwallet.sync(&self.bus, wallet).await,
            None => Err(SecretServiceError::NoCollection),
        };
        if let Err(error) = synced {
            // `KWallet` then writes by its own timer. Only after that is the change
            // durable, as the caller of `write` and `delete` may assume.
            (options.log)(&format!(
                "KWallet did not write to disk when asked ({error}): waiting for it"
            ));
            tokio::time::sleep(KWALLET_DELAY).await;
        }
    }

    async fn overwrite(&mut self, path: OwnedObjectPath, secret: &[u8]) -> Result<()> {
        let secret: Secret<'_> = (self.session().await?, &[], secret, CONTENT_TYPE);
        self.bus.call(&path, ITEM, "SetSecret", &(secret,)).await
    }

    /// Creates an entry in the default collection, unlocking that if need be.
    async fn create(
        &mut self,
        account: &str,
        secret: &[u8],
        options: &KeyringOptions,
    ) -> Result<()> {
        let failure = match self
            .create_in(DEFAULT_COLLECTION, account, secret, options)
            .await
        {
            Err(e @ (SecretServiceError::Locked | SecretServiceError::Other(_))) => e,
            done => return done,
        };
        // The service does not accept the alias, or its collection is locked.
        let collection = self
            .default_collection()
            .await?
            .ok_or(SecretServiceError::NoCollection)?;
        if failure == SecretServiceError::Locked {
            self.unlock(slice::from_ref(&collection), options).await?;
        }
        self.create_in(&collection, account, secret, options).await
    }

    async fn create_in(
        &mut self,
        collection: &str,
        account: &str,
        secret: &[u8],
        options: &KeyringOptions,
    ) -> Result<()> {
        let properties = HashMap::from([
            (
                "org.freedesktop.Secret.Item.Label",
                Value::from(format!("keyring:{account}@{SERVICE_NAME}")),
            ),
            (
                "org.freedesktop.Secret.Item.Attributes",
                Value::from(attributes(account)),
            ),
        ]);
        let secret: Secret<'_> = (self.session().await?, &[], secret, CONTENT_TYPE);
        let replace = true;
        let (item, prompt): (OwnedObjectPath, OwnedObjectPath) = self
            .bus
            .call(
                collection,
                COLLECTION,
                "CreateItem",
                &(properties, secret, replace),
            )
            .await?;
        self.run_prompt(&prompt, Question::Unlock, options).await?;
        // Where a prompt made it, its path is not known: a write will search.
        if item.as_str() != NO_OBJECT {
            self.known.insert(account.to_owned(), item);
        }
        Ok(())
    }

    /// Runs the prompt of a deletion even if nobody can answer it: KeePassXC
    /// returns one that asks nobody, unless it is set to ask.
    async fn delete(&mut self, path: &OwnedObjectPath, options: &KeyringOptions) -> Result<()> {
        let prompt: OwnedObjectPath = self.bus.call(path, ITEM, "Delete", &()).await?;
        self.run_prompt(&prompt, Question::Delete, options).await
    }

    async fn search(&self, account: &str) -> Result<Matches> {
        let (unlocked, locked) = self
            .call_service("SearchItems", &attributes(account))
            .await?;
        Ok(Matches { unlocked, locked })
    }

    /// Returns the path of the default collection, if there is one.
    async fn default_collection(&self) -> Result<Option<OwnedObjectPath>> {
        let path: OwnedObjectPath = self.call_service("ReadAlias", &"default").await?;
        Ok((path.as_str() != NO_OBJECT).then_some(path))
    }

    /// Returns the session, which the first use opens.
    ///
    /// Opening it must not be the first call of the connection. When clients
    /// come and go quickly, gnome-keyring 42 can overlook a new one; it then
    /// refuses a search, but aborts when asked for a session.
    ///
    /// The session is not encrypted: any program of the user can read the secret
    /// from the service, so encryption would hide it from none of them.
    async fn session(&mut self) -> Result<OwnedObjectPath> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let plain = ("plain", Value::from(""));
        let (_, session): (OwnedValue, OwnedObjectPath) = self
            .bus
            .call(SERVICE_PATH, SERVICE, "OpenSession", &plain)
            .await?;
        Ok(self.session.insert(session).clone())
    }

    /// Calls a method of the service itself, with one retry if the service refuses
    /// it: see [`Service::session`].
    pub(super) async fn call_service<B, A>(&self, method: &str, body: &B) -> Result<A>
    where
        B: Serialize + DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        let call = || self.bus.call(SERVICE_PATH, SERVICE, method, body);
        match call().await {
            Err(SecretServiceError::Other(_)) => call().await,
            answer => answer,
        }
    }
}
