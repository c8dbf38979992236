//! The thread that speaks to the Secret Service: one connection, one plain
//! session, as few round trips as the protocol allows.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use secret_service::blocking::{Item, SecretService};
use secret_service::{EncryptionType, Error};
use zbus::zvariant::OwnedObjectPath;
use zeroize::Zeroizing;

use super::SecretServiceError;

/// The path of whichever collection is the default one; using it spares the
/// round trip that reads the alias.
const DEFAULT_COLLECTION: &str = "/org/freedesktop/secrets/aliases/default";

/// As the keyring crate writes it.
const CONTENT_TYPE: &str = "application/octet-stream";

/// A service and a user.
pub(super) type Key = (String, String);

/// What is asked of the thread.
pub(super) enum Request {
    Read(Key),
    Write(Key, Zeroizing<Vec<u8>>),
    Delete(Key),
}

/// What the thread has to tell.
pub(super) enum Event {
    /// A person is being asked to unlock the keyring; the request goes on.
    Prompting,
    Failed(SecretServiceError),
    Secret(Option<Vec<u8>>),
    Written,
    Deleted(usize),
}

/// The thread, as its callers see it.
pub(super) struct Worker {
    requests: Sender<(u64, Request)>,
    events: Receiver<(u64, Event)>,
    last: u64,
}

impl Worker {
    /// Starts the thread. It is never joined: it may be stuck for ever.
    pub(super) fn start(bound: Duration, may_prompt: bool) -> Result<Self, SecretServiceError> {
        let (requests, inbox) = mpsc::channel();
        let (outbox, events) = mpsc::channel();
        std::thread::Builder::new()
            .name("keyring".to_owned())
            .spawn(move || run(&inbox, &outbox, bound, may_prompt))
            .map_err(|e| SecretServiceError::Other(e.to_string()))?;
        Ok(Self {
            requests,
            events,
            last: 0,
        })
    }

    pub(super) fn send(&mut self, request: Request) -> Result<(), SecretServiceError> {
        self.last += 1;
        self.requests
            .send((self.last, request))
            .map_err(|_| ended())
    }

    /// The next event of the request sent last, within `limit`; `None` where
    /// there is none. Answers to requests that were given up are passed over.
    pub(super) fn receive(&self, limit: Duration) -> Result<Option<Event>, SecretServiceError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok((number, event)) if number == self.last => return Ok(Some(event)),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            }
        }
    }
}

fn ended() -> SecretServiceError {
    SecretServiceError::Other("the connection has ended".to_owned())
}

fn run(
    inbox: &Receiver<(u64, Request)>,
    outbox: &Sender<(u64, Event)>,
    bound: Duration,
    may_prompt: bool,
) {
    // Each turn is a connection. A daemon that was restarted has forgotten our
    // session, so whatever is not plainly an answer about the keyring itself
    // ends the turn, and the next request begins another.
    while let Ok((number, request)) = inbox.recv() {
        let service = match connect(bound) {
            Ok(service) => service,
            Err(error) => {
                if outbox.send((number, Event::Failed(error))).is_err() {
                    return;
                }
                continue;
            }
        };
        let mut session = Session {
            service: &service,
            outbox,
            number,
            may_prompt,
            found: HashMap::new(),
        };
        let mut next = Some((number, request));
        while let Some((number, request)) = next.take().or_else(|| inbox.recv().ok()) {
            session.number = number;
            let event = session
                .answer(request)
                .unwrap_or_else(|e| Event::Failed(translate(e, bound)));
            let is_broken = matches!(
                event,
                Event::Failed(
                    SecretServiceError::Absent
                        | SecretServiceError::Stalled(_)
                        | SecretServiceError::Other(_)
                )
            );
            if outbox.send((number, event)).is_err() {
                return;
            }
            if is_broken {
                break;
            }
        }
    }
}

fn connect(bound: Duration) -> Result<SecretService<'static>, SecretServiceError> {
    let connection = zbus::blocking::connection::Builder::session()
        .and_then(|builder| builder.method_timeout(bound).build())
        .map_err(|e| match e {
            zbus::Error::MethodError(..) => translate(Failure::Service(e.into()), bound),
            // Whatever is wrong with the address or the socket, there is no bus.
            _ => SecretServiceError::Absent,
        })?;
    SecretService::connect_with_existing(EncryptionType::Plain, connection)
        .map_err(|e| translate(Failure::Service(e), bound))
}

enum Failure {
    Service(Error),
    Known(SecretServiceError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

struct Session<'s> {
    service: &'s SecretService<'static>,
    outbox: &'s Sender<(u64, Event)>,
    /// The request that is being answered.
    number: u64,
    may_prompt: bool,
    /// Items that were read, to be written to without another search.
    found: HashMap<Key, OwnedObjectPath>,
}

impl<'s> Session<'s> {
    fn answer(&mut self, request: Request) -> Result<Event, Failure> {
        match request {
            Request::Read(key) => self.read(&key).map(Event::Secret),
            Request::Write(key, secret) => self.write(&key, &secret).map(|()| Event::Written),
            Request::Delete(key) => self.delete(&key).map(Event::Deleted),
        }
    }

    /// The one item of `key`, unlocked.
    fn find(&mut self, key: &Key) -> Result<Option<Item<'s>>, Failure> {
        let found = self.search(key)?;
        let count = found.unlocked.len() + found.locked.len();
        if count > 1 {
            return Err(Failure::Known(SecretServiceError::Ambiguous(count)));
        }
        if let Some(item) = found.locked.first() {
            self.unlock(|| item.unlock())?;
        }
        let item = found.unlocked.into_iter().chain(found.locked).next();
        if let Some(item) = &item {
            self.found.insert(key.clone(), item.item_path.clone());
        }
        Ok(item)
    }

    fn search(
        &self,
        (service, user): &Key,
    ) -> Result<secret_service::SearchItemsResult<Item<'s>>, Failure> {
        let attributes = HashMap::from([("service", &**service), ("username", &**user)]);
        let service: &'s SecretService<'static> = self.service;
        Ok(service.search_items(attributes)?)
    }

    /// Asks a person to unlock something, where one may be there.
    fn unlock(&self, unlock: impl FnOnce() -> Result<(), Error>) -> Result<(), Failure> {
        if !self.may_prompt {
            return Err(Failure::Known(SecretServiceError::Locked));
        }
        drop(self.outbox.send((self.number, Event::Prompting)));
        match unlock() {
            Err(Error::Prompt) => Err(Failure::Known(SecretServiceError::Dismissed)),
            other => Ok(other?),
        }
    }

    fn read(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Failure> {
        match self.find(key)? {
            None => Ok(None),
            Some(item) => Ok(Some(item.get_secret()?)),
        }
    }

    fn write(&mut self, key: &Key, secret: &[u8]) -> Result<(), Failure> {
        let item = match self.found.get(key) {
            Some(path) => Some(self.service.get_item_by_path(path.clone())?),
            None => self.find(key)?,
        };
        if let Some(item) = item {
            match item.set_secret(secret, CONTENT_TYPE) {
                Err(error) if is(&error, "IsLocked") => {
                    self.unlock(|| item.unlock())?;
                    item.set_secret(secret, CONTENT_TYPE)?;
                    return Ok(());
                }
                // Somebody removed it meanwhile: create it anew.
                Err(error) if is(&error, "NoSuchObject") || is(&error, "UnknownObject") => {}
                other => return Ok(other?),
            }
            self.found.remove(key);
        }
        self.create(key, secret)
    }

    fn create(&mut self, key: &Key, secret: &[u8]) -> Result<(), Failure> {
        let path = OwnedObjectPath::try_from(DEFAULT_COLLECTION)
            .map_err(|e| Failure::Known(SecretServiceError::Other(e.to_string())))?;
        let collection = self.service.get_collection_by_path(path)?;
        let label = format!("{}@{}", key.1, key.0);
        let create = || {
            let attributes = HashMap::from([("service", &*key.0), ("username", &*key.1)]);
            collection
                .create_item(&label, attributes, secret, true, CONTENT_TYPE)
                .map(|item| item.item_path.clone())
        };
        let created = match create() {
            Err(error) if is(&error, "IsLocked") => {
                self.unlock(|| collection.unlock())?;
                create()
            }
            other => other,
        };
        match created {
            Ok(path) => {
                self.found.insert(key.clone(), path);
                Ok(())
            }
            Err(error)
                if is(&error, "NoSuchObject")
                    || is(&error, "UnknownObject")
                    || is(&error, "UnknownMethod") =>
            {
                Err(Failure::Known(SecretServiceError::NoCollection))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes every item of `key`: copies must not outlive a logout.
    fn delete(&mut self, key: &Key) -> Result<usize, Failure> {
        let found = self.search(key)?;
        self.found.remove(key);
        for item in &found.locked {
            self.unlock(|| item.unlock())?;
        }
        let mut count = 0;
        for item in found.unlocked.iter().chain(&found.locked) {
            item.delete()?;
            count += 1;
        }
        Ok(count)
    }
}

/// Whether the service answered with the D-Bus error whose name ends in `name`.
fn is(error: &Error, name: &str) -> bool {
    let ends = |full: &str| full.rsplit('.').next() == Some(name);
    match error {
        Error::Zbus(zbus::Error::MethodError(full, ..)) => ends(full),
        Error::ZbusFdo(fdo) => ends(&zbus::DBusError::name(fdo)),
        Error::Locked => name == "IsLocked",
        _ => false,
    }
}

fn translate(failure: Failure, bound: Duration) -> SecretServiceError {
    let error = match failure {
        Failure::Known(known) => return known,
        Failure::Service(error) => error,
    };
    if is(&error, "IsLocked") {
        return SecretServiceError::Locked;
    }
    let nobody = [
        "ServiceUnknown",
        "NameHasNoOwner",
        "SpawnFailed",
        "ExecFailed",
    ];
    if nobody.iter().any(|name| is(&error, name)) {
        return SecretServiceError::Absent;
    }
    match error {
        Error::Unavailable => SecretServiceError::Absent,
        Error::Prompt => SecretServiceError::Dismissed,
        Error::Zbus(zbus::Error::InputOutput(e)) if e.kind() == std::io::ErrorKind::TimedOut => {
            SecretServiceError::Stalled(bound)
        }
        Error::Zbus(zbus::Error::MethodError(name, text, _)) => {
            SecretServiceError::Other(text.unwrap_or_else(|| name.to_string()))
        }
        other => SecretServiceError::Other(other.to_string()),
    }
}
