//! The one connection to the service and the exchanges over it.
//!
//! Sessions and secrets are the crate `secret-service`'s. Searching, deleting,
//! unlocking and prompting are called by name: the crate waits for a prompt
//! without end, asks before it deletes, and opens its session even where there
//! is nothing to read. The calling thread drives the connection itself, since
//! a second thread costs more than a round trip.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::slice;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_io::{Timer, block_on};
use secret_service::{EncryptionType, SecretService};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::zvariant::{self, DynamicType, OwnedObjectPath, Value};
use zbus::{Connection, MatchRule, MessageStream};

use super::SecretServiceError;
use crate::store::KeyringOptions;

type Result<T> = std::result::Result<T, SecretServiceError>;

const BUS_NAME: &str = "org.freedesktop.secrets";
const SERVICE_PATH: &str = "/org/freedesktop/secrets";
/// Whichever collection is the default one; saves reading the alias.
const DEFAULT_COLLECTION: &str = "/org/freedesktop/secrets/aliases/default";
const SERVICE: &str = "org.freedesktop.Secret.Service";
const ITEM: &str = "org.freedesktop.Secret.Item";
const PROMPT: &str = "org.freedesktop.Secret.Prompt";

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

/// The items that match a name, in all collections.
struct Matches {
    unlocked: Vec<OwnedObjectPath>,
    locked: Vec<OwnedObjectPath>,
}

/// A connection to the session bus and the session with the service on it.
pub(super) struct Link {
    connection: Connection,
    bound: Duration,
    session: Option<SecretService<'static>>,
    /// Where a name was last found, so that a write after a read need not search.
    known: HashMap<Name, OwnedObjectPath>,
}

impl Link {
    /// Connects to the session bus. Each later call is bounded by `bound` too.
    pub(super) fn connect(bound: Duration) -> Result<Self> {
        let builder = zbus::connection::Builder::session()
            .map_err(|_| SecretServiceError::Absent)?
            .internal_executor(false)
            .method_timeout(bound);
        let connection = block_on(within(bound, builder.build()))
            .ok_or_else(|| SecretServiceError::stalled(bound))?
            .map_err(|_| SecretServiceError::Absent)?;
        Ok(Self {
            connection,
            bound,
            session: None,
            known: HashMap::new(),
        })
    }

    /// Runs an exchange to its end on this thread, reading the connection meanwhile.
    pub(super) fn run<T>(&mut self, exchange: impl AsyncFnOnce(&mut Self) -> T) -> T {
        let connection = self.connection.clone();
        block_on(async {
            let mut reader = pin!(async {
                loop {
                    connection.executor().tick().await;
                }
            });
            let mut exchange = pin!(exchange(self));
            poll_fn(|cx| {
                if let Poll::Ready(done) = exchange.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                let _: Poll<()> = reader.as_mut().poll(cx);
                exchange.as_mut().poll(cx)
            })
            .await
        })
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
        let bound = self.bound;
        let session = self.session().await?;
        let secret = async { session.get_item_by_path(path).await?.get_secret().await };
        match secret.await {
            Ok(secret) => Ok(Some(secret)),
            Err(e) => Err(SecretServiceError::of_service(e, bound)),
        }
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
        let bound = self.bound;
        let session = self.session().await?;
        let done = async {
            let item = session.get_item_by_path(path).await?;
            item.set_secret(secret, CONTENT_TYPE).await
        };
        done.await
            .map_err(|e| SecretServiceError::of_service(e, bound))
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
        let bound = self.bound;
        let patience = options.prompt_bound.unwrap_or(bound);
        let session = self.session().await?;
        let create = async {
            let path = OwnedObjectPath::try_from(collection)?;
            let collection = session.get_collection_by_path(path).await?;
            let item = collection
                .create_item(&name.label(), name.attributes(), secret, true, CONTENT_TYPE)
                .await?;
            Ok(item.item_path)
        };
        // The connection bounds each call; this bounds the prompt that the
        // crate waits for if the service asks about the creation.
        let path = within(patience, create)
            .await
            .ok_or_else(|| SecretServiceError::stalled(patience))?
            .map_err(|e| SecretServiceError::of_service(e, bound))?;
        self.known.insert(name.clone(), path);
        Ok(())
    }

    async fn delete(&self, path: &OwnedObjectPath, options: &KeyringOptions) -> Result<()> {
        let prompt: OwnedObjectPath = self.call(path, ITEM, "Delete", &()).await?;
        // KeePassXC answers by a prompt that asks nobody: it is run even where
        // nobody is there, and has no longer than any other call.
        let patience = options.prompt_bound.unwrap_or(self.bound);
        self.settle(&prompt, patience, options).await
    }

    async fn unlock(&self, objects: &[OwnedObjectPath], options: &KeyringOptions) -> Result<()> {
        let (_, prompt): (Vec<OwnedObjectPath>, OwnedObjectPath) =
            self.ask("Unlock", &objects).await?;
        if prompt.as_str() == "/" {
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
        if prompt == "/" {
            return Ok(());
        }
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .path(prompt)
            .and_then(|rule| rule.interface(PROMPT))
            .and_then(|rule| rule.member("Completed"));
        let rule = self.sorted(rule)?.build();
        let completed = MessageStream::for_match_rule(rule, &self.connection, Some(1)).await;
        let mut completed = self.sorted(completed)?;
        if options.prompt_bound.is_some() {
            (options.on_prompt)();
        }
        let asked = Instant::now();
        let no_window = "";
        let () = self.call(prompt, PROMPT, "Prompt", &no_window).await?;
        let signal = poll_fn(|cx| Pin::new(&mut completed).poll_next(cx));
        let Some(signal) = within(patience, signal).await else {
            // Takes the dialog off the screen; a failure of that changes nothing.
            let _: Result<()> = self.call(prompt, PROMPT, "Dismiss", &()).await;
            return Err(SecretServiceError::Locked);
        };
        let signal = self.sorted(signal.ok_or(SecretServiceError::Absent)?)?;
        let body = signal.body();
        let (dismissed, _): (bool, Value<'_>) = self.sorted(body.deserialize())?;
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
        Ok((path.as_str() != "/").then_some(path))
    }

    /// The session, opened by the first use.
    ///
    /// Opening it must not be the first call of the connection. When clients
    /// come and go quickly, gnome-keyring (seen in 42) can overlook that it
    /// has a new one; it refuses a search then, but aborts over a session.
    async fn session(&mut self) -> Result<&SecretService<'static>> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.open_session().await?,
        };
        Ok(self.session.insert(session))
    }

    /// Opens a plain session: the bus is the user's own, where each of their
    /// programs may ask for the secret; encryption hides it from none of them.
    async fn open_session(&self) -> Result<SecretService<'static>> {
        SecretService::connect_with_existing(EncryptionType::Plain, self.connection.clone())
            .await
            .map_err(|e| SecretServiceError::of_service(e, self.bound))
    }

    /// Calls a method of the service itself, again if it is refused: see
    /// [`Link::session`] for the first call, which may be overlooked.
    async fn ask<B, A>(&self, method: &str, body: &B) -> Result<A>
    where
        B: Serialize + DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        match self.call(SERVICE_PATH, SERVICE, method, body).await {
            Err(SecretServiceError::Other(_)) => {
                self.call(SERVICE_PATH, SERVICE, method, body).await
            }
            answer => answer,
        }
    }

    /// Calls one method and reads its answer.
    async fn call<B, A>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<A>
    where
        B: Serialize + DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        let answer = self
            .connection
            .call_method(Some(BUS_NAME), path, Some(interface), method, body)
            .await;
        self.sorted(answer.and_then(|answer| answer.body().deserialize()))
    }

    fn sorted<T>(&self, result: zbus::Result<T>) -> Result<T> {
        result.map_err(|e| SecretServiceError::of_bus(e, self.bound))
    }
}

/// The output of `work`, or `None` after `limit`.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut timer = pin!(Timer::after(limit));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => timer.as_mut().poll(cx).map(|_| None),
    })
    .await
}
