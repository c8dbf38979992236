//! What is said to the service: searching, reading, writing, deleting,
//! unlocking and prompting, by the names of the Secret Service specification.
//! The calls are spelled out here and not a library's, which would wait for a
//! prompt without end, ask before it deletes, and open its session even where
//! there is nothing to read.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::slice;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::zvariant::{self, DynamicType, ObjectPath, OwnedObjectPath, OwnedValue, Value};
use zbus::{MatchRule, MessageStream};
use zeroize::Zeroizing;

use super::SecretServiceError;
use super::bus::{self, Bus, Result, with_timeout};
use crate::store::KeyringOptions;
use crate::store::keyring::SERVICE as SERVICE_NAME;

const SERVICE_PATH: &str = "/org/freedesktop/secrets";
/// Whichever collection is the default one; saves reading the alias.
const DEFAULT_COLLECTION: &str = "/org/freedesktop/secrets/aliases/default";
const SERVICE: &str = "org.freedesktop.Secret.Service";
const COLLECTION: &str = "org.freedesktop.Secret.Collection";
const ITEM: &str = "org.freedesktop.Secret.Item";
const PROMPT: &str = "org.freedesktop.Secret.Prompt";

/// What stands for "no object" in an answer.
const NOTHING: &str = "/";

/// As the keyring crate writes it; other readers do not look at it.
const CONTENT_TYPE: &str = "application/octet-stream";

/// A prompt dismissed sooner than this was seen by nobody: no prompter could start.
const UNSEEN: Duration = Duration::from_millis(500);

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
    bus: Bus,
    session: Option<OwnedObjectPath>,
    /// Where a name was last found, so that a write after a read need not search.
    known: HashMap<String, OwnedObjectPath>,
}

impl Service {
    /// Connects to the session bus. Each later call is bounded by `timeout` too.
    pub(super) fn connect(timeout: Duration) -> Result<(Runtime, Self)> {
        let (runtime, bus) = bus::connect(timeout)?;
        let service = Self {
            bus,
            session: None,
            known: HashMap::new(),
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
        let answer = self.bus.message(&path, ITEM, "GetSecret", &session).await?;
        let body = answer.body();
        let secret = body.deserialize::<((ObjectPath<'_>, &[u8], &[u8], &str),)>();
        let ((_, _, value, _),) = self.bus.map_bus_err(secret)?;
        Ok(Some(Zeroizing::new(value.to_vec())))
    }

    /// Writes into the one match, or creates an entry in the default collection.
    ///
    /// `SetSecret` makes gnome-keyring rewrite its file once, `CreateItem` with
    /// `replace` twice; so a search comes first where no read has been.
    pub(super) async fn write(
        &mut self,
        account: &str,
        secret: &[u8],
        options: &KeyringOptions,
    ) -> Result<()> {
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
        self.known.remove(account);
        let matches = self.search(account).await?;
        for path in &matches.unlocked {
            self.delete(path, options).await?;
        }
        if !matches.locked.is_empty() {
            self.unlock(&matches.locked, options).await?;
            for path in &matches.locked {
                self.delete(path, options).await?;
            }
        }
        Ok(!matches.unlocked.is_empty() || !matches.locked.is_empty())
    }

    /// The one match, unlocked. Where a match is unlocked, locked ones do not count.
    pub(super) async fn locate(
        &mut self,
        account: &str,
        options: &KeyringOptions,
    ) -> Result<Option<OwnedObjectPath>> {
        let matches = self.search(account).await?;
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
        // The alias did not do: see what it stands for.
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
        let timeout = options.prompt_timeout.unwrap_or(self.bus.timeout);
        self.complete_prompt(&prompt, timeout, options).await?;
        // Where a prompt made it, its path is not known: a write will search.
        if item.as_str() != NOTHING {
            self.known.insert(account.to_owned(), item);
        }
        Ok(())
    }

    async fn delete(&self, path: &OwnedObjectPath, options: &KeyringOptions) -> Result<()> {
        let prompt: OwnedObjectPath = self.bus.call(path, ITEM, "Delete", &()).await?;
        // KeePassXC answers by a prompt that asks nobody: it is run even where
        // nobody is there, and has no longer than any other call.
        let timeout = options.prompt_timeout.unwrap_or(self.bus.timeout);
        self.complete_prompt(&prompt, timeout, options).await
    }

    async fn unlock(&self, objects: &[OwnedObjectPath], options: &KeyringOptions) -> Result<()> {
        let (_, prompt): (Vec<OwnedObjectPath>, OwnedObjectPath) =
            self.call_service("Unlock", &objects).await?;
        if prompt.as_str() == NOTHING {
            return Ok(());
        }
        // To unlock is to ask a person.
        let timeout = options.prompt_timeout.ok_or(SecretServiceError::Locked)?;
        self.complete_prompt(&prompt, timeout, options).await
    }

    /// Runs a prompt, if the service wants one, and waits for its answer at most `timeout`.
    async fn complete_prompt(
        &self,
        prompt: &str,
        timeout: Duration,
        options: &KeyringOptions,
    ) -> Result<()> {
        if prompt == NOTHING {
            return Ok(());
        }
        let bus = &self.bus;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .path(prompt)
            .and_then(|rule| rule.interface(PROMPT))
            .and_then(|rule| rule.member("Completed"));
        let rule = bus.map_bus_err(rule)?.build();
        let completed = MessageStream::for_match_rule(rule, &bus.connection, Some(1)).await;
        let mut completed = bus.map_bus_err(completed)?;
        if options.prompt_timeout.is_some() {
            (options.on_prompt)();
        }
        let asked = Instant::now();
        let no_window = "";
        let () = bus.call(prompt, PROMPT, "Prompt", &no_window).await?;
        let signal = poll_fn(|cx| Pin::new(&mut completed).poll_next(cx));
        let Some(signal) = with_timeout(timeout, signal).await else {
            // Takes the dialog off the screen; a failure of that changes nothing.
            let _: Result<()> = bus.call(prompt, PROMPT, "Dismiss", &()).await;
            return Err(SecretServiceError::Locked);
        };
        let signal = bus.map_bus_err(signal.ok_or(SecretServiceError::Absent)?)?;
        let body = signal.body();
        let (dismissed, _): (bool, Value<'_>) = bus.map_bus_err(body.deserialize())?;
        match dismissed {
            false => Ok(()),
            true if asked.elapsed() < UNSEEN => Err(SecretServiceError::Locked),
            true => Err(SecretServiceError::Dismissed),
        }
    }

    async fn search(&self, account: &str) -> Result<Matches> {
        let (unlocked, locked) = self
            .call_service("SearchItems", &attributes(account))
            .await?;
        Ok(Matches { unlocked, locked })
    }

    /// What the default collection is called on the bus, if there is one.
    async fn default_collection(&self) -> Result<Option<OwnedObjectPath>> {
        let path: OwnedObjectPath = self.call_service("ReadAlias", &"default").await?;
        Ok((path.as_str() != NOTHING).then_some(path))
    }

    /// The session, opened by the first use.
    ///
    /// Opening it must not be the first call of the connection. When clients
    /// come and go quickly, gnome-keyring (seen in 42) can overlook that it
    /// has a new one; it refuses a search then, but aborts over a session.
    ///
    /// It is a plain one: the bus is the user's own, where each of their
    /// programs may ask for the secret; encryption hides it from none of them.
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

    /// Calls a method of the service itself, again if it is refused: see
    /// [`Service::session`] for the first call, which may be overlooked.
    async fn call_service<B, A>(&self, method: &str, body: &B) -> Result<A>
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
