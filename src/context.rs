//! The context that every command receives: the settings, the terminal, and functions
//! that build session managers.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::api::{Client, Options};
use crate::error::Error;
use crate::exit::Failure;
use crate::host::Host;
use crate::model::{ApiUrl, ProfileName};
use crate::session::{Interrupts, RotationCommands, SessionManager, TokenVariables};
use crate::settings::{self, Settings};
use crate::store::{
    KeyringOptions, Locks, Profile, ProfilesError, Prompts, StoreError, StoreKind, StoreServer,
    Stores,
};
use crate::terminal::Terminal;

/// Timeout per call to the keyring.
const KEYRING_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of the prompt to unlock the keyring.
const UNLOCK_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) struct Context<'h> {
    pub(crate) settings: Settings,
    pub(crate) host: &'h Host,
    pub(crate) terminal: &'h Terminal,
    pub(crate) interrupts: &'h Interrupts,
    locks: Locks,
    stores: Stores<'h>,
}

impl<'h> Context<'h> {
    pub(crate) fn new(settings: Settings, host: &'h Host, interrupts: &'h Interrupts) -> Self {
        let open_keyring = move |prompts| {
            let terminal = host.terminal.clone();
            let may_prompt = prompts == Prompts::Allowed && terminal.can_open_dialog();
            let interrupts = interrupts.clone();
            (host.open_keyring)(KeyringOptions {
                bus_addresses: (host.read_variable)("DBUS_SESSION_BUS_ADDRESS")
                    .filter(|value| !value.is_empty())
                    .and_then(|value| value.into_string().ok()),
                timeout: KEYRING_TIMEOUT,
                prompt_timeout: may_prompt.then_some(UNLOCK_TIMEOUT),
                on_prompt: Box::new(move |instruction, dismiss_prompt| {
                    terminal.print_instruction(instruction);
                    interrupts.on_shutdown(dismiss_prompt);
                }),
                log: Box::new({
                    let terminal = host.terminal.clone();
                    move |text| terminal.verbose(text)
                }),
            })
        };
        Self {
            locks: Locks::new(settings.data_dir.join("locks")),
            stores: Stores::new(settings.data_dir.join("sessions"), Box::new(open_keyring)),
            terminal: &host.terminal,
            settings,
            host,
            interrupts,
        }
    }

    /// Returns the directory for token files: below `XDG_RUNTIME_DIR`, which is emptied at
    /// reboot, or else below the data directory.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        (self.host.read_variable)("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute() && dir.is_dir())
            .map_or_else(
                || self.settings.data_dir.join("run"),
                |dir| dir.join("rememberizer"),
            )
    }

    /// Creates a server that gives other machines access to the store in use.
    pub(crate) fn store_server(&self) -> Result<StoreServer<'_>, StoreError> {
        let store = self.stores.get_without_prompts(self.settings.store);
        StoreServer::new(store, &self.settings.data_dir.join("locks"))
    }

    /// Creates the session manager of the profile in use.
    pub(crate) fn session_manager(&self) -> SessionManager<'_> {
        self.session_manager_with_store(self.settings.store)
    }

    /// Creates the session manager of the profile in use, but with the store `store`.
    pub(crate) fn session_manager_with_store(&self, store: StoreKind) -> SessionManager<'_> {
        let settings = &self.settings;
        let profile = self.profile();
        self.build_manager(
            &settings.profile_name,
            settings.api_url.clone(),
            store,
            &profile,
        )
    }

    /// Creates the session manager of the profile `name`.
    pub(crate) fn session_manager_for(
        &self,
        name: &ProfileName,
    ) -> Result<SessionManager<'_>, ProfilesError> {
        if *name == self.settings.profile_name {
            return Ok(self.session_manager());
        }
        let recorded = self.settings.profiles.select(Some(name))?.profile;
        let profile = recorded.unwrap_or_default();
        let store = profile.store_or_default();
        Ok(self.build_manager(name, profile.api_url_or_default(), store, &profile))
    }

    fn build_manager(
        &self,
        name: &ProfileName,
        api_url: ApiUrl,
        store: StoreKind,
        profile: &Profile,
    ) -> SessionManager<'_> {
        let cookie_names = profile.cookie_names();
        let referer = profile.referer.as_ref().map(|url| url.as_str().to_owned());
        let new_client = move |api_url: ApiUrl| {
            let terminal = self.terminal.clone();
            let now = std::sync::Arc::clone(&self.host.now);
            Client::new(Options {
                api_url,
                timeout: self.settings.timeout,
                ca_cert: self.settings.ca_cert.clone(),
                ssl_cert_file: self.settings.ssl_cert_file.clone(),
                cookie_names: cookie_names.clone(),
                referer: referer.clone(),
                log: Box::new(move |line| terminal.verbose(line)),
                clock: Box::new(move || now()),
                proxy_variables: settings::proxy_variables(self.host),
            })
        };
        let rotation_commands = RotationCommands {
            on_rotate: profile.on_rotate.clone(),
            on_rotate_check: profile.on_rotate_check.clone(),
            secret_variables: &settings::SECRET_VARIABLES,
        };
        SessionManager {
            profile: name.clone(),
            rotation_commands,
            env_rotation_commands: settings::rotation_commands_from_env(self.host),
            client: new_client(api_url.clone()),
            new_client: Box::new(new_client),
            api_url,
            store,
            stores: &self.stores,
            profiles: &self.settings.profiles,
            locks: &self.locks,
            requested_lock_timeout: self.settings.lock_timeout,
            now: &*self.host.now,
            interrupts: self.interrupts,
            terminal: self.terminal,
        }
    }

    /// Returns the tokens in the environment.
    pub(crate) fn token_variables(&self) -> Result<TokenVariables, Failure> {
        settings::token_variables(self.host)
    }

    /// Returns the profile in use, as it was at the start of the run.
    pub(crate) fn profile(&self) -> Profile {
        self.settings.profile.clone().unwrap_or_default()
    }

    /// Returns the command line that runs `command` for the profile in use. For `login`, it
    /// is for example `rememberizer login --profile work`.
    pub(crate) fn command_line(&self, command: &str) -> String {
        command_line(
            command,
            &self.settings.profile_name,
            &self.settings.default_profile,
        )
    }

    /// Converts an error of the profile in use to a failure, with a hint if there is one.
    pub(crate) fn to_failure(&self, error: Error) -> Failure {
        self.to_failure_for(&self.settings.profile_name, error)
    }

    /// Converts an error of `profile` to a failure, with a hint if there is one.
    pub(crate) fn to_failure_for(&self, profile: &ProfileName, error: Error) -> Failure {
        crate::explain::to_failure(error, &|command| {
            command_line(command, profile, &self.settings.default_profile)
        })
    }

    /// Prints a confirmation: `json` on stdout in JSON mode, else `text` on stderr.
    pub(crate) fn print_confirmation(&self, json: Value, text: &str) -> Result<(), Error> {
        if !self.settings.json {
            self.terminal.note(text);
        }
        self.finish_command(&json, None)
    }

    /// Ends a command, which has already printed its text unless JSON mode is on. Without a
    /// failure, prints `result` in JSON mode. With a failure, prints nothing, and returns
    /// the failure with `result` as its partial result.
    pub(crate) fn finish_command(
        &self,
        result: &impl Serialize,
        failure: Option<Failure>,
    ) -> Result<(), Error> {
        match failure {
            Some(failure) => Err(Failure {
                partial_result: serde_json::to_value(result).ok(),
                ..failure
            }
            .into()),
            None if self.settings.json => Ok(self.terminal.print_json_document(result)?),
            None => Ok(()),
        }
    }
}

/// Returns the command line that runs `command`, with `--profile` unless the profile is the
/// default profile.
pub(crate) fn command_line(command: &str, profile: &ProfileName, default: &ProfileName) -> String {
    if profile == default {
        format!("rememberizer {command}")
    } else {
        format!("rememberizer {command} --profile {profile}")
    }
}
