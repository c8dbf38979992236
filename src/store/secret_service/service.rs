//! Searches, reads, writes and deletes items with the methods of the Secret Service
//! specification.
//!
//! The methods are called directly, since the client libraries wait for a prompt
//! without a timeout, prompt before a deletion, and open a session even if there is
//! no item to read.

use std::collections::{BTreeSet, HashMap};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use zbus::zvariant::{DynamicType, ObjectPath, OwnedObjectPath, OwnedValue, Type, Value};
use zeroize::Zeroizing;

use super::SecretServiceError;
use super::bus::{self, Bus, Result, SECRET_SERVICE};
use super::daemon::Daemon;
use super::prompt::{NO_OBJECT, Question};
use super::unlock::collection_of;
use crate::store::KeyringOptions;
use crate::store::keyring::SERVICE_NAME;

const SERVICE_PATH: &str = "/org/freedesktop/secrets";
/// The alias of the default collection. Using the alias saves a `ReadAlias` call.
const DEFAULT_COLLECTION: &str = "/org/freedesktop/secrets/aliases/default";
const SERVICE_INTERFACE: &str = "org.freedesktop.Secret.Service";
const COLLECTION_INTERFACE: &str = "org.freedesktop.Secret.Collection";
const ITEM_INTERFACE: &str = "org.freedesktop.Secret.Item";

/// The keyring crate writes the same content type. No reader is known to check it.
const CONTENT_TYPE: &str = "application/octet-stream";

/// Slightly longer than the 5 s after which `KWallet` writes a change to disk.
const KWALLET_WRITE_DELAY: Duration = Duration::from_millis(5500);

/// Returns the attributes that identify an item. Other keyring libraries use the
/// same attribute names.
fn attributes(account: &str) -> HashMap<&str, &str> {
    HashMap::from([("service", SERVICE_NAME), ("username", account)])
}

/// The struct `Secret` of the specification: session, encryption parameters, value
/// and content type.
type SecretStruct<'a> = (OwnedObjectPath, &'a [u8], &'a [u8], &'a str);

/// The items that match an account, in all collections.
struct Matches {
    unlocked: Vec<OwnedObjectPath>,
    locked: Vec<OwnedObjectPath>,
}

impl Matches {
    fn is_empty(&self) -> bool {
        self.unlocked.is_empty() && self.locked.is_empty()
    }
}

/// A connection to the Secret Service, and the results that later calls reuse.
pub(super) struct Service {
    pub(super) bus: Bus,
    pub(super) options: Arc<KeyringOptions>,
    /// The session of the Secret Service protocol.
    session: Option<OwnedObjectPath>,
    /// The item of each account that was found or created, so that a write after a
    /// read needs no search.
    items: HashMap<String, OwnedObjectPath>,
    daemon: Option<Daemon>,
    /// Why unlocking failed. Later unlocks return this error without a new prompt.
    pub(super) unlock_error: Option<SecretServiceError>,
}

impl Service {
    /// Connects to the session bus.
    pub(super) fn connect(options: Arc<KeyringOptions>) -> Result<(Runtime, Self)> {
        let (runtime, bus) = bus::connect(options.bus_addresses.as_deref(), options.timeout)?;
        let service = Self {
            bus,
            options,
            session: None,
            items: HashMap::new(),
            daemon: None,
            unlock_error: None,
        };
        Ok((runtime, service))
    }

    /// Returns the secret of the only matching item, or `None` if no item matches.
    pub(super) async fn read(&mut self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(item) = self.find_item(account).await? else {
            return Ok(None);
        };
        let session = self.session().await?;
        let reply = self
            .bus
            .call_raw(SECRET_SERVICE, &item, ITEM_INTERFACE, "GetSecret", &session)
            .await?;
        // Borrow the secret, so that deserializing makes no copy that is not zeroized.
        let body = reply.body();
        let secret = body.deserialize::<((ObjectPath<'_>, &[u8], &[u8], &str),)>();
        let ((_, _, value, _),) = self.bus.map_bus_err(secret)?;
        Ok(Some(Zeroizing::new(value.to_vec())))
    }

    /// Writes the secret of an account, and makes the change durable as far as
    /// [`Service::flush`] can.
    pub(super) async fn write(&mut self, account: &str, secret: &[u8]) -> Result<()> {
        // `flush` needs to know the daemon. Identify it while the service writes.
        let identification = match self.daemon {
            None => Some(tokio::spawn(Daemon::identify(self.bus.clone()))),
            Some(_) => None,
        };
        self.set_or_create(account, secret).await?;
        if let (Some(identification), None) = (identification, self.daemon) {
            self.remember_daemon(identification.await.unwrap_or(Daemon::Unknown));
        }
        // If the item was created through a prompt, its path is not known. It is then in the
        // default collection.
        let collection = match self.items.get(account) {
            Some(item) => collection_of(item).to_owned(),
            None => DEFAULT_COLLECTION.to_owned(),
        };
        self.flush(&collection).await;
        Ok(())
    }

    /// Sets the secret of the only matching item, or creates an item in the default
    /// collection.
    ///
    /// An existing item is searched for first, because gnome-keyring rewrites its file
    /// once for `SetSecret`, but twice for `CreateItem` with `replace`.
    async fn set_or_create(&mut self, account: &str, secret: &[u8]) -> Result<()> {
        if let Some(item) = self.items.get(account) {
            match self.set_secret(item.clone(), secret).await {
                // The item was locked, or deleted (Other), since it was found. Search again.
                Err(SecretServiceError::Other(_) | SecretServiceError::Locked) => {
                    self.items.remove(account);
                }
                result => return result,
            }
        }
        match self.find_item(account).await? {
            Some(item) => self.set_secret(item, secret).await,
            None => self.create_item(account, secret).await,
        }
    }

    /// Deletes all matching items: the user expects that no copy of the secret
    /// remains. Returns whether there was any.
    pub(super) async fn delete_all(&mut self, account: &str) -> Result<bool> {
        let matches = self.search_in_unlocked_default(account).await?;
        for item in &matches.unlocked {
            self.delete_item(item).await?;
        }
        if !matches.locked.is_empty() {
            self.unlock(&matches.locked).await?;
            for item in &matches.locked {
                self.delete_item(item).await?;
            }
        }
        self.items.remove(account);
        let items = matches.unlocked.iter().chain(&matches.locked);
        let collections: BTreeSet<_> = items.map(|item| collection_of(item)).collect();
        for collection in collections {
            self.flush(collection).await;
        }
        Ok(!matches.is_empty())
    }

    /// Returns the only matching item, unlocked. If an unlocked item matches, locked
    /// items are ignored.
    async fn find_item(&mut self, account: &str) -> Result<Option<OwnedObjectPath>> {
        let matches = self.search_in_unlocked_default(account).await?;
        let item = match (matches.unlocked.as_slice(), matches.locked.as_slice()) {
            ([], []) => return Ok(None),
            ([item], _) => item,
            ([], [item]) => {
                self.unlock(&matches.locked).await?;
                item
            }
            ([], several) | (several, _) => {
                return Err(SecretServiceError::Ambiguous(several.len()));
            }
        };
        self.items.insert(account.to_owned(), item.clone());
        Ok(Some(item.clone()))
    }

    /// Searches all collections. KeePassXC and oo7 find no items in a locked
    /// collection, so if nothing matches, unlocks the default collection and searches
    /// again. Locked items that are found stay locked.
    async fn search_in_unlocked_default(&mut self, account: &str) -> Result<Matches> {
        let matches = self.search(account).await?;
        if !matches.is_empty() || !self.is_locked(DEFAULT_COLLECTION).await {
            return Ok(matches);
        }
        if let Some(collection) = self.default_collection().await? {
            self.unlock(&[collection]).await?;
        }
        self.search(account).await
    }

    /// Returns which program provides the service.
    pub(super) async fn daemon(&mut self) -> Daemon {
        match self.daemon {
            Some(daemon) => daemon,
            None => {
                let daemon = Daemon::identify(self.bus.clone()).await;
                self.remember_daemon(daemon);
                daemon
            }
        }
    }

    /// Remembers the daemon for later calls, unless the daemon is unknown: the bus may not
    /// have started it yet.
    fn remember_daemon(&mut self, daemon: Daemon) {
        self.daemon = Some(daemon).filter(|daemon| *daemon != Daemon::Unknown);
    }

    /// Makes `KWallet` write the last change of a collection to disk. gnome-keyring does so
    /// before it replies, and KeePassXC has no method for it.
    async fn flush(&mut self, collection: &str) {
        let Daemon::KWallet(kwallet) = self.daemon().await else {
            return;
        };
        let synced = match self.collection_label(collection).await {
            Some(wallet) => kwallet.sync(&self.bus, &wallet).await,
            None => Err(SecretServiceError::NoCollection),
        };
        if let Err(error) = synced {
            // Wait until `KWallet` writes to disk by itself: the callers of `write` and
            // `delete_all` rely on the change being durable.
            (self.options.log)(&format!(
                "KWallet did not write to disk on request ({error}); waiting until it does"
            ));
            tokio::time::sleep(KWALLET_WRITE_DELAY).await;
        }
    }

    async fn set_secret(&mut self, item: OwnedObjectPath, secret: &[u8]) -> Result<()> {
        let secret: SecretStruct<'_> = (self.session().await?, &[], secret, CONTENT_TYPE);
        self.bus
            .call(&item, ITEM_INTERFACE, "SetSecret", &(secret,))
            .await
    }

    /// Creates an item in the default collection, and unlocks the collection if needed.
    async fn create_item(&mut self, account: &str, secret: &[u8]) -> Result<()> {
        let error = match self
            .create_item_in(DEFAULT_COLLECTION, account, secret)
            .await
        {
            Err(e @ (SecretServiceError::Locked | SecretServiceError::Other(_))) => e,
            result => return result,
        };
        // The collection is locked, or the service does not accept the alias as a path (Other).
        let collection = self
            .default_collection()
            .await?
            .ok_or(SecretServiceError::NoCollection)?;
        if error == SecretServiceError::Locked {
            self.unlock(slice::from_ref(&collection)).await?;
        }
        self.create_item_in(&collection, account, secret).await
    }

    async fn create_item_in(
        &mut self,
        collection: &str,
        account: &str,
        secret: &[u8],
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
        let secret: SecretStruct<'_> = (self.session().await?, &[], secret, CONTENT_TYPE);
        let replace = true;
        let arguments = (properties, secret, replace);
        let (item, prompt): (OwnedObjectPath, OwnedObjectPath) = self
            .bus
            .call(collection, COLLECTION_INTERFACE, "CreateItem", &arguments)
            .await?;
        self.run_prompt(&prompt, Question::Unlock).await?;
        // If the item is created through a prompt, its path is not returned.
        if item.as_str() != NO_OBJECT {
            self.items.insert(account.to_owned(), item);
        }
        Ok(())
    }

    /// Deletes an item. The prompt is run even if no person can answer it: KeePassXC
    /// always returns a prompt, and completes it without a dialog unless it is set to
    /// confirm deletions.
    async fn delete_item(&mut self, item: &OwnedObjectPath) -> Result<()> {
        let prompt: OwnedObjectPath = self.bus.call(item, ITEM_INTERFACE, "Delete", &()).await?;
        self.run_prompt(&prompt, Question::Delete).await
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

    /// Returns the session, and opens it at the first use.
    ///
    /// `OpenSession` must not be the first call of a connection: if clients connect and
    /// disconnect quickly, gnome-keyring 42 can miss a new client. It then refuses a
    /// `SearchItems` call of that client, but aborts at an `OpenSession` call.
    ///
    /// The session is not encrypted: any program of the user can read the secret from
    /// the service, so encryption would hide it from none of them.
    async fn session(&mut self) -> Result<OwnedObjectPath> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let plain = ("plain", Value::from(""));
        let (_, session): (OwnedValue, OwnedObjectPath) = self
            .bus
            .call(SERVICE_PATH, SERVICE_INTERFACE, "OpenSession", &plain)
            .await?;
        Ok(self.session.insert(session).clone())
    }

    /// Calls a method of the service object. A refused call is retried once, see
    /// [`Service::session`].
    pub(super) async fn call_service<T: DeserializeOwned + Type>(
        &self,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> Result<T> {
        let call = || self.bus.call(SERVICE_PATH, SERVICE_INTERFACE, method, body);
        match call().await {
            // gnome-keyring refuses a client whose connection it has not noticed yet.
            Err(SecretServiceError::Other(_)) => call().await,
            result => result,
        }
    }

    /// Returns whether a collection exists and is locked.
    pub(super) async fn is_locked(&self, collection: &str) -> bool {
        let locked = self.collection_property(collection, "Locked").await;
        locked.unwrap_or(false)
    }

    /// Returns the label of a collection, which for `KWallet` is the wallet's name.
    pub(super) async fn collection_label(&self, collection: &str) -> Option<String> {
        self.collection_property(collection, "Label").await
    }

    async fn collection_property<T: TryFrom<OwnedValue>>(
        &self,
        collection: &str,
        property: &str,
    ) -> Option<T> {
        const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
        let arguments = (COLLECTION_INTERFACE, property);
        let value: Result<OwnedValue> = self
            .bus
            .call(collection, PROPERTIES, "Get", &arguments)
            .await;
        T::try_from(value.ok()?).ok()
    }
}
