//! What a command sees: the settings of the run, and the parts that they lead to.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::api::{Client, Options};
use crate::exit::Failure;
use crate::host::Host;
use crate::model::{Origin, ProfileName};
use crate::session::{Interrupts, Keeper, Variables};
use crate::settings::{self, Settings};
use crate::store::{
    FileStore, KeyringOptions, Locks, Profile, SecretStore, SessionStore, StoreKind,
};
use crate::terminal::Terminal;

/// The longest that the keyring may take for one call.
const KEYRING_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that a person may take to unlock it.
const UNLOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// What a command sees.
pub struct Context<'h> {
    /// All that was decided.
    pub settings: Settings,
    /// The outside world.
    pub host: &'h Host,
    /// The person's side.
    pub terminal: &'h Terminal,
    /// What signals wait for.
    pub interrupts: &'h Interrupts,
    /// The profiles' locks.
    pub locks: Locks,
    client: OnceCell<Client>,
    keyring: OnceCell<Box<dyn SecretStore>>,
    files: FileStore,
}

impl<'h> Context<'h> {
    /// The context of a run.
    #[must_use]
    pub fn new(settings: Settings, host: &'h Host, interrupts: &'h Interrupts) -> Self {
        Self {
            locks: Locks::new(settings.data_dir.join("locks")),
            files: FileStore::new(settings.data_dir.join("sessions")),
            terminal: &host.terminal,
            settings,
            host,
            interrupts,
            client: OnceCell::new(),
            keyring: OnceCell::new(),
        }
    }

    /// The way to the profile's server.
    pub fn client(&self) -> &Client {
        self.client
            .get_or_init(|| self.client_of(self.settings.origin.clone()))
    }

    /// A way to any server.
    pub fn client_of(&self, origin: Origin) -> Client {
        let recorded = self.settings.recorded.as_ref();
        let name = |name: Option<&String>, usual: &str| name.map_or(usual.to_owned(), Clone::clone);
        let terminal = self.terminal.clone();
        Client::new(Options {
            origin,
            timeout: self.settings.timeout,
            ca_cert: self.settings.ca_cert.clone(),
            ssl_cert_file: self.settings.ssl_cert_file.clone(),
            access_cookie: name(
                recorded.and_then(|p| p.access_cookie.as_ref()),
                "access_token",
            ),
            refresh_cookie: name(
                recorded.and_then(|p| p.refresh_cookie.as_ref()),
                "refresh_token",
            ),
            log: Box::new(move |line| terminal.verbose(line)),
            clock: Box::new({
                let now = std::sync::Arc::clone(&self.host.now);
                move || now()
            }),
            proxy_variables: settings::proxy_variables(self.host),
        })
    }

    /// A secret store.
    pub fn secret_store(&self, kind: StoreKind) -> &dyn SecretStore {
        match kind {
            StoreKind::File => &self.files,
            StoreKind::Keyring => &**self.keyring.get_or_init(|| self.open_keyring()),
        }
    }

    /// The file of the file store.
    #[must_use]
    pub fn session_file(&self) -> PathBuf {
        self.files.path(self.settings.name.as_str())
    }

    fn open_keyring(&self) -> Box<dyn SecretStore> {
        let terminal = self.terminal.clone();
        // A prompt of the keyring's appears on the desktop, so a person may be
        // there as soon as one reads stderr, even with stdin closed.
        let someone = self.terminal.can_prompt();
        (self.host.open_keyring)(KeyringOptions {
            timeout: KEYRING_TIMEOUT,
            prompt_timeout: someone.then_some(UNLOCK_TIMEOUT),
            on_prompt: Box::new(move || terminal.note("unlock the keyring to go on")),
        })
    }

    /// Keeps the profile's session in its store.
    pub fn keeper(&self) -> Keeper<'_> {
        self.keeper_in(self.settings.store)
    }

    /// Keeps the profile's session in the store `kind`.
    pub fn keeper_in(&self, kind: StoreKind) -> Keeper<'_> {
        Keeper {
            store: SessionStore::new(self.secret_store(kind), &self.settings.name),
            origin: &self.settings.origin,
            client: self.client(),
            locks: &self.locks,
            lock_timeout: self.settings.lock_timeout,
            now: &*self.host.now,
            interrupts: self.interrupts,
            terminal: self.terminal,
        }
    }

    /// The tokens in the environment.
    pub fn variables(&self) -> Result<Variables, Failure> {
        settings::token_variables(self.host)
    }

    /// The profile's recorded facts.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.settings.recorded.clone().unwrap_or_default()
    }

    /// Records facts of the profile, if they are new.
    pub fn record(&self, change: impl Fn(&mut Profile)) -> Result<(), anyhow::Error> {
        let mut after = self.profile();
        change(&mut after);
        if self.settings.recorded.as_ref() != Some(&after) {
            // Changed again under the file's lock: another process may have
            // recorded something else meanwhile.
            self.settings.profiles.update(
                &self.settings.name,
                self.settings.lock_timeout,
                change,
            )?;
        }
        Ok(())
    }

    /// A command of this program for the profile in use, as one would type it.
    #[must_use]
    pub fn say(&self, command: &str) -> String {
        say(command, &self.settings.name, &self.settings.default)
    }

    /// The answer: `json` as it is, or else `text`.
    pub fn answer(&self, json: Value, text: &str) -> Result<(), anyhow::Error> {
        if self.settings.json {
            self.terminal.answer_json(json)?;
        } else {
            self.terminal.answer(text)?;
        }
        Ok(())
    }

    /// A confirmation: `json` on stdout, or else `text` on stderr.
    pub fn confirm(&self, json: Value, text: &str) -> Result<(), anyhow::Error> {
        if self.settings.json {
            self.terminal.answer_json(json)?;
        } else {
            self.terminal.note(text);
        }
        Ok(())
    }
}

/// A command of this program as one would type it, the profile included where it has to be.
#[must_use]
pub fn say(command: &str, profile: &ProfileName, default: &ProfileName) -> String {
    if profile == default {
        format!("rememberizer {command}")
    } else {
        format!("rememberizer {command} --profile {profile}")
    }
}
