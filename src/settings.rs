//! Resolves the settings of a run from flags, environment variables and the profile. A flag
//! takes precedence over its variable. [`Purpose`] decides what happens if the API URL or
//! the store differs from the profile's.
//!
//! An empty variable counts as unset: CI systems set the variable of a missing
//! secret to an empty string.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::context::command_line;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::globals::{
    Globals, parse_boolean, parse_color, parse_duration, parse_positive_duration,
};
use crate::host::Host;
use crate::model::{AccessToken, ApiUrl, ProfileName, RefreshToken, Secret};
use crate::session::{RotationCommands, TokenVariables};
use crate::store::{Profile, Profiles, SelectedProfile, StoreKind};
use crate::terminal::TerminalOptions;

pub(crate) const PASSWORD: &str = "REMEMBERIZER_PASSWORD";
pub(crate) const ACCESS_TOKEN: &str = "REMEMBERIZER_ACCESS_TOKEN";
pub(crate) const REFRESH_TOKEN: &str = "REMEMBERIZER_REFRESH_TOKEN";
const ON_ROTATE: &str = "REMEMBERIZER_ON_ROTATE";
const ON_ROTATE_CHECK: &str = "REMEMBERIZER_ON_ROTATE_CHECK";

/// Pairs of a variable and the flag that it sets.
pub const FLAG_VARIABLES: [(&str, &str); 12] = [
    ("REMEMBERIZER_PROFILE", "--profile"),
    ("REMEMBERIZER_API_URL", "--api-url"),
    ("REMEMBERIZER_CONFIG_DIR", "--config-dir"),
    ("REMEMBERIZER_STORE", "--store"),
    ("REMEMBERIZER_JSON", "--json"),
    ("REMEMBERIZER_NO_INPUT", "--no-input"),
    ("REMEMBERIZER_QUIET", "--quiet"),
    ("REMEMBERIZER_VERBOSE", "--verbose"),
    ("REMEMBERIZER_TIMEOUT", "--timeout"),
    ("REMEMBERIZER_LOCK_TIMEOUT", "--lock-timeout"),
    ("REMEMBERIZER_CA_CERT", "--ca-cert"),
    ("REMEMBERIZER_COLOR", "--color"),
];

/// Other variables that affect this program. `doctor` prints them, so none may hold
/// a secret.
pub(crate) const OTHER_VARIABLES: [&str; 6] = [
    "REMEMBERIZER_BROWSER",
    "SSL_CERT_FILE",
    "NO_COLOR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
];

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Placeholder for an unknown directory. On Unix, no file can be created there, because
/// `/dev/null` is not a directory.
const UNKNOWN_DIR: &str = "/dev/null/rememberizer";

/// The variables that hold secrets.
pub const SECRET_VARIABLES: [&str; 3] = [PASSWORD, ACCESS_TOKEN, REFRESH_TOKEN];

/// The purpose of a command. It determines which settings are resolved, and what happens
/// if the requested API URL or store, by flag or variable, differs from the profile's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The requested value takes precedence and is recorded in the profile.
    StartSession,
    /// A different value is a usage error.
    UseSession,
    /// A different value is ignored. An invalid profiles file is not an error here, since the
    /// command itself reports it.
    ManageProfiles,
    /// Neither an invalid setting nor a different value is an error: each is collected in
    /// [`Settings::problems`].
    Diagnose,
    /// Only the settings of the output are resolved. The profiles file is not read.
    PrintOnly,
}

pub(crate) struct Settings {
    pub(crate) profile_name: ProfileName,
    pub(crate) default_profile: ProfileName,
    /// `None` if the profile does not exist yet.
    pub(crate) profile: Option<Profile>,
    pub(crate) api_url: ApiUrl,
    pub(crate) store: StoreKind,
    /// Whether a flag, a variable or the profile sets the store. If not, `store` is the
    /// keyring.
    pub(crate) is_store_chosen: bool,
    pub(crate) profiles: Profiles,
    /// The directory of locks and session files.
    pub(crate) data_dir: PathBuf,
    pub(crate) json: bool,
    /// The timeout per request.
    pub(crate) timeout: Duration,
    /// How long to wait for a lock; `None` for the default of the store.
    pub(crate) lock_timeout: Option<Duration>,
    /// Certificates to trust in addition to the platform's.
    pub(crate) ca_cert: Option<PathBuf>,
    /// Certificates to trust instead of the platform's.
    pub(crate) ssl_cert_file: Option<PathBuf>,
    /// Invalid settings, collected only for [`Purpose::Diagnose`].
    pub(crate) problems: Vec<Failure>,
}

/// Reads environment variables. An empty variable counts as unset.
struct Env<'h>(&'h Host);

impl Env<'_> {
    fn value(&self, name: &str) -> Option<OsString> {
        (self.0.read_variable)(name).filter(|value| !value.is_empty())
    }

    /// Returns the value as text, or an error that names the variable.
    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        let text = self.value(name).map(OsString::into_string).transpose();
        text.map_err(|_| Failure::usage(format!("{name} is not UTF-8")))
    }

    /// Returns the flag if it is set, otherwise the variable.
    fn path(&self, flag: Option<PathBuf>, name: &str) -> Option<PathBuf> {
        flag.or_else(|| self.value(name).map(PathBuf::from))
    }
}

/// Resolves flags and variables. Either collects errors or returns the first one.
struct Resolver<'h> {
    env: Env<'h>,
    collects_errors: bool,
    problems: Vec<Failure>,
}

impl Resolver<'_> {
    /// Returns the flag if it is set, otherwise the parsed variable.
    fn option<T>(
        &mut self,
        flag: Option<T>,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        if flag.is_some() {
            return Ok(flag);
        }
        let value = self.env.text(name).and_then(|text| {
            let value = text.map(|text| parse(&text)).transpose();
            value.map_err(|error| Failure::usage(format!("{name}: {error}")))
        });
        self.unwrap_or_collect(value, None)
    }

    fn boolean(&mut self, flag: bool, name: &str) -> Result<bool, Failure> {
        let value = self.option(flag.then_some(true), name, parse_boolean)?;
        Ok(value.unwrap_or(false))
    }

    fn terminal_options(&mut self, globals: &Globals) -> Result<TerminalOptions, Failure> {
        let term = self.env.value("TERM");
        Ok(TerminalOptions {
            quiet: self.boolean(globals.quiet, "REMEMBERIZER_QUIET")?,
            verbose: self.boolean(globals.verbose, "REMEMBERIZER_VERBOSE")?,
            no_input: self.boolean(globals.no_input, "REMEMBERIZER_NO_INPUT")?,
            color: self
                .option(globals.color, "REMEMBERIZER_COLOR", parse_color)?
                .unwrap_or_default(),
            no_color_env: self.env.value("NO_COLOR").is_some(),
            dumb: term.is_some_and(|term| term == "dumb"),
        })
    }

    /// Unwraps the result. On an error, collects the error and returns `fallback` if
    /// this resolver collects errors, otherwise returns the error.
    fn unwrap_or_collect<T>(
        &mut self,
        result: Result<T, Failure>,
        fallback: T,
    ) -> Result<T, Failure> {
        match result {
            Err(failure) if self.collects_errors => {
                self.problems.push(failure);
                Ok(fallback)
            }
            other => other,
        }
    }
}

fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

impl Settings {
    /// Resolves the settings. Configures the terminal first, so that errors in the other
    /// settings are printed with the right color and verbosity.
    pub(crate) fn resolve(globals: Globals, purpose: Purpose, host: &Host) -> Result<Self, Error> {
        let mut resolver = Resolver {
            env: Env(host),
            collects_errors: purpose == Purpose::Diagnose,
            problems: Vec::new(),
        };
        let json = resolver.boolean(globals.json, "REMEMBERIZER_JSON")?;
        let terminal_options = resolver.terminal_options(&globals)?;
        host.terminal.configure(terminal_options);
        if purpose == Purpose::PrintOnly {
            return Ok(Self::without_profile(json));
        }
        let config_dir = config_dir(&globals, host);
        let config_dir = resolver.unwrap_or_collect(config_dir, UNKNOWN_DIR.into())?;
        let profiles = Profiles::new(config_dir);
        let requested = resolver.option(globals.profile, "REMEMBERIZER_PROFILE", parse)?;
        let selected = match profiles.select(requested.as_ref()) {
            // `profile` and `doctor` must work with an invalid profiles file.
            Err(_) if matches!(purpose, Purpose::ManageProfiles | Purpose::Diagnose) => {
                SelectedProfile {
                    name: requested.unwrap_or_default(),
                    ..SelectedProfile::default()
                }
            }
            other => other?,
        };
        let SelectedProfile {
            name: profile_name,
            default_name: default_profile,
            profile,
        } = selected;
        if purpose == Purpose::StartSession && profile.is_none() {
            profiles.check_new_name(&profile_name)?;
        }
        let api_url = resolver.option(globals.api_url, "REMEMBERIZER_API_URL", parse)?;
        let store = resolver.option(globals.store, "REMEMBERIZER_STORE", parse)?;
        let profile_api_url = profile.as_ref().map(Profile::api_url_or_default);
        let profile_store = profile.as_ref().and_then(|profile| profile.store);
        if matches!(purpose, Purpose::UseSession | Purpose::Diagnose) {
            let result =
                refuse_other_api_url(&profile_name, api_url.as_ref(), profile_api_url.as_ref());
            resolver.unwrap_or_collect(result, ())?;
            let result = refuse_other_store(&profile_name, &default_profile, store, profile_store);
            resolver.unwrap_or_collect(result, ())?;
        }
        let prefer_requested = purpose == Purpose::StartSession;
        let (timeout, lock_timeout) = (globals.timeout, globals.lock_timeout);
        let timeout = resolver.option(timeout, "REMEMBERIZER_TIMEOUT", parse_positive_duration)?;
        let lock_timeout =
            resolver.option(lock_timeout, "REMEMBERIZER_LOCK_TIMEOUT", parse_duration)?;
        let data_dir = host.data_dir.clone();
        let data_dir = data_dir.ok_or_else(|| no_home_failure("data", "XDG_DATA_HOME"));
        Ok(Self {
            api_url: choose(prefer_requested, api_url, profile_api_url).unwrap_or_default(),
            store: choose(prefer_requested, store, profile_store).unwrap_or(StoreKind::Keyring),
            is_store_chosen: store.is_some() || profile_store.is_some(),
            profile_name,
            default_profile,
            profile,
            profiles,
            data_dir: resolver.unwrap_or_collect(data_dir, UNKNOWN_DIR.into())?,
            json,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            lock_timeout,
            ca_cert: resolver.env.path(globals.ca_cert, "REMEMBERIZER_CA_CERT"),
            ssl_cert_file: resolver.env.path(None, "SSL_CERT_FILE"),
            problems: resolver.problems,
        })
    }

    /// Returns the defaults, for a command that uses neither profiles nor directories.
    fn without_profile(json: bool) -> Self {
        Self {
            profile_name: ProfileName::default(),
            default_profile: ProfileName::default(),
            profile: None,
            api_url: ApiUrl::default(),
            store: StoreKind::Keyring,
            is_store_chosen: false,
            profiles: Profiles::new(UNKNOWN_DIR.into()),
            data_dir: UNKNOWN_DIR.into(),
            json,
            timeout: DEFAULT_TIMEOUT,
            lock_timeout: None,
            ca_cert: None,
            ssl_cert_file: None,
            problems: Vec::new(),
        }
    }
}

/// Returns the absolute path of the directory with the profiles file.
pub(crate) fn config_dir(globals: &Globals, host: &Host) -> Result<PathBuf, Failure> {
    let requested = Env(host).path(globals.config_dir.clone(), "REMEMBERIZER_CONFIG_DIR");
    requested
        // If there is no working directory, keep the relative path.
        .map(|dir| std::path::absolute(&dir).unwrap_or(dir))
        .or_else(|| host.config_dir.clone())
        .ok_or_else(|| no_home_failure("config", "XDG_CONFIG_HOME"))
}

/// Returns the rotation commands for the refresh token in the environment. They are
/// split into arguments at spaces; quotes have no effect.
pub(crate) fn rotation_commands_from_env(host: &Host) -> RotationCommands {
    let split_variable = |name| {
        let value = Env(host).text(name).ok().flatten().unwrap_or_default();
        value.split_whitespace().map(str::to_owned).collect()
    };
    RotationCommands {
        on_rotate: split_variable(ON_ROTATE),
        on_rotate_check: split_variable(ON_ROTATE_CHECK),
        secret_variables: &SECRET_VARIABLES,
    }
}

/// Returns the tokens in the environment. Fails if a token cannot be sent in a header, or if
/// a variable, including those of the rotation commands, is not UTF-8.
pub(crate) fn token_variables(host: &Host) -> Result<TokenVariables, Failure> {
    let env = Env(host);
    for name in [ON_ROTATE, ON_ROTATE_CHECK] {
        env.text(name)?;
    }
    let read_token = |name| -> Result<Option<Secret>, Failure> {
        let Some(token) = env.text(name)?.map(Secret::new) else {
            return Ok(None);
        };
        match token.validate_as_token() {
            Ok(()) => Ok(Some(token)),
            // The error is a predicate, such as "is too long for a token".
            Err(error) => Err(Failure::usage(format!("the token in {name} {error}"))),
        }
    };
    Ok(TokenVariables {
        access: read_token(ACCESS_TOKEN)?.map(|token| (ACCESS_TOKEN, AccessToken::new(token))),
        refresh: read_token(REFRESH_TOKEN)?.map(|token| (REFRESH_TOKEN, RefreshToken::new(token))),
    })
}

/// Returns the names of the token variables that are set, even to an invalid token.
pub(crate) fn token_variable_names(host: &Host) -> impl Iterator<Item = &'static str> {
    let is_set = |name: &&str| (host.read_variable)(name).is_some_and(|value| !value.is_empty());
    [ACCESS_TOKEN, REFRESH_TOKEN].into_iter().filter(is_set)
}

/// Returns the proxy variables that are set, in the order of precedence.
pub(crate) fn proxy_variables(host: &Host) -> Vec<(String, String)> {
    ["https_proxy", "http_proxy", "all_proxy", "no_proxy"]
        .into_iter()
        .flat_map(|name| [name.to_owned(), name.to_uppercase()])
        .filter_map(|name| {
            let value = Env(host).text(&name).ok()??;
            Some((name, value))
        })
        .collect()
}

pub(crate) fn password_variable(host: &Host) -> Result<Option<Secret>, Failure> {
    Ok(Env(host).text(PASSWORD)?.map(Secret::new))
}

/// Returns the requested value or the profile's. If both are set, `prefer_requested` decides.
fn choose<T>(prefer_requested: bool, requested: Option<T>, profile: Option<T>) -> Option<T> {
    if prefer_requested {
        requested.or(profile)
    } else {
        profile.or(requested)
    }
}

fn no_home_failure(directory_kind: &str, variable: &str) -> Failure {
    Failure::new(
        Outcome::Failed,
        format!("there is no {directory_kind} directory: the home directory is not known"),
    )
    .with_hint(format!("set HOME, or set {variable} to an absolute path"))
}

fn refuse_other_api_url(
    name: &ProfileName,
    requested: Option<&ApiUrl>,
    profile_api_url: Option<&ApiUrl>,
) -> Result<(), Failure> {
    match (requested, profile_api_url) {
        (Some(requested), Some(profile_api_url)) if requested != profile_api_url => Err(Failure::usage(format!(
            "profile {name} is pinned to {profile_api_url}, and its session is not sent to {requested}"
        ))
        .with_hint(
            "log in there with another profile: rememberizer login --profile NAME --api-url URL",
        )),
        _ => Ok(()),
    }
}

fn refuse_other_store(
    name: &ProfileName,
    default_name: &ProfileName,
    requested: Option<StoreKind>,
    profile_store: Option<StoreKind>,
) -> Result<(), Failure> {
    match (requested, profile_store) {
        (Some(requested), Some(profile_store)) if requested != profile_store => Err(Failure::usage(format!(
            "the session of profile {name} is in the {profile_store} store, not in the {requested} store"
        ))
        .with_hint(format!(
            "move it: {}",
            command_line(&format!("profile set store {requested}"), name, default_name)
        ))),
        _ => Ok(()),
    }
}
