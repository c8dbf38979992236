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

use super::SecretServiceError;
use super::link::{self, Link, Result, within};
use crate::store::KeyringOptions;

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

/// The two attributes an entry is found by, spelled as other keyring libraries do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) service: String,
    pub(super) user: String,
}

impl Name {
    pub(super) fn new(service: &str, user: &str) -> Self {
        Self {
            service: service.to_owned(),
            user: user.to_owned(),
        }
    }

    fn attributes(&self) -> HashMap<&str, &str> {
        HashMap::from([
            ("service", self.service.as_str()),
            ("username", self.user.as_str()),
        ])
    }

    fn label(&self) -> String {
        format!("keyring:{}@{}", self.user, self.service)
    }
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
    link: Link,
    session: Option<OwnedObjectPath>,
    /// Where a name was last found, so that a write after a read need not search.
    known: HashMap<Name, OwnedObjectPath>,
}

impl Service {
    /// Connects to the session bus. Each later call is bounded by `bound` too.
    pub(super) fn connect(bound: Duration) -> Result<(Runtime, Self)> {
        let (runtime, link) = link::connect(bound)?;
        let service = Self {
            link,
            session: None,
            known: HashMap::new(),
        };
        Ok((runtime, service))
    }

    /// The secret of the one match, or `None`.
    pub(super) async fn read(
        &mut self,
        name: &Name,
        options: &KeyringOptions,
    ) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.locate(name, options).await? else {
            return Ok(None);
        };
        let session = self.session().await?;
        let answer = self
            .link
            .message(&path, ITEM, "GetSecret", &session)
            .await?;
        let body = answer.body();
        let secret = body.deserialize::<((ObjectPath<'_>, &[u8], &[u8], &str),)>();
        let ((_, _, value, _),) = self.link.sorted(secret)?;
        Ok(Some(value.to_vec()))
    }

    /// Writes into the one match, or creates an entry in the default collection.
    ///
    /// `SetSecret` makes gnome-keyring rewrite its file once, `CreateItem` with
    /// `replace` twice; so a search comes first where no read has been.
    pub(super) async fn write(
        &mut self,
        name: &Name,
        secret: &[u8],
        options: &KeyringOptions,
    ) -> Result<()> {
        if let Some(path) = self.known.get(name) {
            match self.overwrite(path.clone(), secret).await {
                // Deleted or locked since it was found: look again.
                Err(SecretServiceError::Other(_) | SecretServiceError::Locked) => {
                    self.known.remove(name);
                }
                done => return done,
            }
        }
        match self.locate(name, options).await? {
            Some(path) => self.overwrite(path, secret).await,
            None => self.create(name, secret, options).await,
        }
    }

    /// Deletes all matches and counts them.
    pub(super) async fn delete_all(
        &mut self,
        name: &Name,
        options: &KeyringOptions,
    ) -> Result<usize> {
        self.known.remove(name);
        let matches = self.search(name).await?;
        for path in &matches.unlocked {
            self.delete(path, options).await?;
        }
        if !matches.locked.is_empty() {
            self.unlock(&matches.locked, options).await?;
            for path in &matches.locked {
                self.delete(path, options).await?;
            }
        }
        Ok(matches.unlocked.len() + matches.locked.len())
    }

    /// The one match, unlocked. Where a match is unlocked, locked ones do not count.
    pub(super) async fn locate(
        &mut self,
        name: &Name,
        options: &KeyringOptions,
    ) -> Result<Option<OwnedObjectPath>> {
        let matches = self.search(name).await?;
        let path = match (matches.unlocked.as_slice(), matches.locked.as_slice()) {
            ([], []) => return Ok(None),
            ([path], _) => path,
            ([], [path]) => {
                self.unlock(&matches.locked, options).await?;
                path
            }
            ([], many) | (many, _) => return Err(SecretServiceError::Ambiguous(many.len())),
        };
        self.known.insert(name.clone(), path.clone());
        Ok(Some(path.clone()))
    }

    async fn overwrite(&mut self, path: OwnedObjectPath, secret: &[u8]) -> Result<()> {
        let secret: Secret<'_> = (self.session().await?, &[], secret, CONTENT_TYPE);
        self.link.call(&path, ITEM, "SetSecret", &(secret,)).await
    }

    /// Creates an entry in the default collection, unlocking that if need be.
    async fn create(&mut self, name: &Name, secret: &[u8], options: &KeyringOptions) -> Result<()> {
        let failure = match self
            .create_in(DEFAULT_COLLECTION, name, secret, options)
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
        self.create_in(&collection, name, secret, options).await
    }

    async fn create_in(
        &mut self,
        collection: &str,
        name: &Name,
        secret: &[u8],
        options: &KeyringOptions,
    ) -> Result<()> {
        let properties = HashMap::from([
            (
                "org.freedesktop.Secret.Item.Label",
                Value::from(name.label()),
            ),
            (
                "org.freedesktop.Secret.Item.Attributes",
                Value::from(name.attributes()),
            ),
        ]);
        let secret: Secret<'_> = (self.session().await?, &[], secret, CONTENT_TYPE);
        let replace = true;
        let (item, prompt): (OwnedObjectPath, OwnedObjectPath) = self
            .link
            .call(
                collection,
                COLLECTION,
                "CreateItem",
                &(properties, secret, replace),
            )
            .await?;
        let patience = options.prompt_bound.unwrap_or(self.link.bound);
        self.settle(&prompt, patience, options).await?;
        // Where a prompt made it, its path is not known: a write will search.
        if item.as_str() != NOTHING {
            self.known.insert(name.clone(), item);
        }
        Ok(())
    }

    async fn delete(&self, path: &OwnedObjectPath, options: &KeyringOptions) -> Result<()> {
        let prompt: OwnedObjectPath = self.link.call(path, ITEM, "Delete", &()).await?;
        // KeePassXC answers by a prompt that asks nobody: it is run even where
        // nobody is there, and has no longer than any other call.
        let patience = options.prompt_bound.unwrap_or(self.link.bound);
        self.settle(&prompt, patience, options).await
    }

    async fn unlock(&self, objects: &[OwnedObjectPath], options: &KeyringOptions) -> Result<()> {
        let (_, prompt): (Vec<OwnedObjectPath>, OwnedObjectPath) =
            self.ask("Unlock", &objects).await?;
        if prompt.as_str() == NOTHING {
            return Ok(());
        }
        // To unlock is to ask a person.
        let patience = options.prompt_bound.ok_or(SecretServiceError::Locked)?;
        self.settle(&prompt, patience, options).await
    }

    /// Runs a prompt, if the service wants one, and waits for its answer at most `patience`.
    async fn settle(
        &self,
        prompt: &str,
        patience: Duration,
        options: &KeyringOptions,
    ) -> Result<()> {
        if prompt == NOTHING {
            return Ok(());
        }
        let link = &self.link;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .path(prompt)
            .and_then(|rule| rule.interface(PROMPT))
            .and_then(|rule| rule.member("Completed"));
        let rule = link.sorted(rule)?.build();
        let completed = MessageStream::for_match_rule(rule, &link.connection, Some(1)).await;
        let mut completed = link.sorted(completed)?;
        if options.prompt_bound.is_some() {
            (options.on_prompt)();
        }
        let asked = Instant::now();
        let no_window = "";
        let () = link.call(prompt, PROMPT, "Prompt", &no_window).await?;
        let signal = poll_fn(|cx| Pin::new(&mut completed).poll_next(cx));
        let Some(signal) = within(patience, signal).await else {
            // Takes the dialog off the screen; a failure of that changes nothing.
            let _: Result<()> = link.call(prompt, PROMPT, "Dismiss", &()).await;
            return Err(SecretServiceError::Locked);
        };
        let signal = link.sorted(signal.ok_or(SecretServiceError::Absent)?)?;
        let body = signal.body();
        let (dismissed, _): (bool, Value<'_>) = link.sorted(body.deserialize())?;
        match dismissed {
            false => Ok(()),
            true if asked.elapsed() < UNSEEN => Err(SecretServiceError::Locked),
            true => Err(SecretServiceError::Dismissed),
        }
    }

    async fn search(&self, name: &Name) -> Result<Matches> {
        let (unlocked, locked) = self.ask("SearchItems", &name.attributes()).await?;
        Ok(Matches { unlocked, locked })
    }

    /// What the default collection is called on the bus, if there is one.
    async fn default_collection(&self) -> Result<Option<OwnedObjectPath>> {
        let path: OwnedObjectPath = self.ask("ReadAlias", &"default").await?;
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
            .link
            .call(SERVICE_PATH, SERVICE, "OpenSession", &plain)
            .await?;
        Ok(self.session.insert(session).clone())
    }

    /// Calls a method of the service itself, again if it is refused: see
    /// [`Service::session`] for the first call, which may be overlooked.
    async fn ask<B, A>(&self, method: &str, body: &B) -> Result<A>
    where
        B: Serialize + DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        let call = || self.link.call(SERVICE_PATH, SERVICE, method, body);
        match call().await {
            Err(SecretServiceError::Other(_)) => call().await,
            answer => answer,
        }
    }
}
