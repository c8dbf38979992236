//! Resolves flags, variables and the stored profile to the settings of a run, by
//! the only rule of precedence: flag, variable, profile, default.
//!
//! An empty variable counts as unset: CI systems pass a missing secret so.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::globals::{Globals, color, duration, positive_duration, switch};
use crate::host::Host;
use crate::model::{AccessToken, Origin, ProfileName, RefreshToken, Secret};
use crate::session::{RotationCommands, TokenVariables};
use crate::store::{Profile, Profiles, Selected, StoreKind};
use crate::terminal::Style;

/// The variable that holds a password.
pub(crate) const PASSWORD: &str = "REMEMBERIZER_PASSWORD";
/// The variable that holds an access token.
pub(crate) const ACCESS_TOKEN: &str = "REMEMBERIZER_ACCESS_TOKEN";
/// The variable that holds a refresh token.
pub(crate) const REFRESH_TOKEN: &str = "REMEMBERIZER_REFRESH_TOKEN";

/// The variables that stand for flags, and the flag of each.
pub const VARIABLES: [(&str, &str); 12] = [
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

/// Other variables that decide something, without a secret in them.
pub(crate) const OTHER_VARIABLES: [&str; 6] = [
    "REMEMBERIZER_BROWSER",
    "SSL_CERT_FILE",
    "NO_COLOR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// A path that cannot exist; it stands for a directory that is not known.
const NOWHERE: &str = "/dev/null/rememberizer";

/// The variables that hold secrets.
pub const SECRET_VARIABLES: [&str; 3] = [PASSWORD, ACCESS_TOKEN, REFRESH_TOKEN];

/// How a command treats a flag or variable that differs from the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It starts a session: the flag decides, and is recorded.
    Begin,
    /// It uses the session: a difference is a usage error.
    Use,
    /// It shows or configures: the profile decides, whatever the flags say.
    Inspect,
    /// It looks for problems, and continues after each.
    Diagnose,
}

/// How to print, which is decided before the profile is known.
pub(crate) struct OutputOptions {
    pub(crate) json: bool,
    pub(crate) style: Style,
    policy: ErrorPolicy,
}

/// The settings of a run.
pub(crate) struct Settings {
    /// The profile in use.
    pub(crate) name: ProfileName,
    /// The default profile.
    pub(crate) default: ProfileName,
    /// What the profiles file records; `None` for a new profile.
    pub(crate) recorded: Option<Profile>,
    /// The server.
    pub(crate) origin: Origin,
    /// The store.
    pub(crate) store: StoreKind,
    /// Whether a flag, a variable or the profile chose the store.
    pub(crate) store_chosen: bool,
    /// The profiles file.
    pub(crate) profiles: Profiles,
    /// The directory of locks and session files.
    pub(crate) data_dir: PathBuf,
    /// Print JSON.
    pub(crate) json: bool,
    /// The timeout of a request.
    pub(crate) timeout: Duration,
    /// How long to wait for a lock.
    pub(crate) lock_timeout: Duration,
    /// Certificates to trust in addition to the platform's.
    pub(crate) ca_cert: Option<PathBuf>,
    /// Certificates to trust instead of the platform's.
    pub(crate) ssl_cert_file: Option<PathBuf>,
    /// Errors in the settings themselves, collected for `doctor`.
    pub(crate) problems: Vec<Failure>,
}

/// Reads variables. Its errors name the variable.
struct Env<'h>(&'h Host);

impl Env<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        match (self.0.variable)(name) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => match value.into_string() {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(Failure::usage(format!("{name} is not UTF-8"))),
            },
        }
    }

    /// Returns the flag, or else the parsed variable.
    fn resolve<T>(
        &self,
        flag: Option<T>,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        if flag.is_some() {
            return Ok(flag);
        }
        match self.text(name)? {
            None => Ok(None),
            Some(text) => parse(&text)
                .map(Some)
                .map_err(|why| Failure::usage(format!("{name}: {why}"))),
        }
    }

    fn path(&self, flag: Option<&PathBuf>, name: &str) -> Option<PathBuf> {
        flag.cloned().or_else(|| {
            (self.0.variable)(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        })
    }

    fn flag(&self, flag: bool, name: &str) -> Result<bool, Failure> {
        Ok(self
            .resolve(flag.then_some(true), name, switch)?
            .unwrap_or(false))
    }
}

fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

impl OutputOptions {
    /// Resolves how to print.
    pub(crate) fn resolve(
        globals: &Globals,
        purpose: Purpose,
        host: &Host,
    ) -> Result<Self, Failure> {
        let env = Env(host);
        let mut policy = ErrorPolicy {
            collects: purpose == Purpose::Diagnose,
            problems: Vec::new(),
        };
        let is_set = |name: &str| env.path(None, name).is_some();
        let mut flag = |flag, name| policy.or(env.flag(flag, name), || flag);
        let json = flag(globals.json, "REMEMBERIZER_JSON")?;
        let quiet = flag(globals.quiet, "REMEMBERIZER_QUIET")?;
        let verbose = flag(globals.verbose, "REMEMBERIZER_VERBOSE")?;
        let no_input = flag(globals.no_input, "REMEMBERIZER_NO_INPUT")?;
        let color = env.resolve(globals.color, "REMEMBERIZER_COLOR", color);
        Ok(Self {
            json,
            style: Style {
                color: policy.or(color, || None)?.unwrap_or_default(),
                no_color_env: is_set("NO_COLOR"),
                dumb: env
                    .path(None, "TERM")
                    .is_some_and(|term| term.as_os_str() == "dumb"),
                quiet,
                verbose,
                no_input,
            },
            policy,
        })
    }
}

impl Settings {
    /// Resolves everything else.
    pub(crate) fn resolve(
        globals: Globals,
        output: OutputOptions,
        purpose: Purpose,
        host: &Host,
    ) -> Result<Self, Error> {
        let env = Env(host);
        let mut policy = output.policy;
        let config_dir = policy.or(config_dir(&globals, host), || NOWHERE.into())?;
        let profiles = Profiles::new(config_dir);
        let chosen = policy.or(
            env.resolve(globals.profile, "REMEMBERIZER_PROFILE", parse),
            || None,
        )?;
        let selected = match profiles.select(chosen.as_ref()) {
            // Commands that fix the file must work while it is broken.
            Err(_) if matches!(purpose, Purpose::Inspect | Purpose::Diagnose) => Selected {
                name: chosen.unwrap_or_default(),
                default: ProfileName::default(),
                profile: None,
            },
            other => other.map_err(Error::from)?,
        };
        let Selected {
            name,
            default,
            profile: recorded,
        } = selected;
        if purpose == Purpose::Begin && recorded.is_none() {
            profiles.check_new_name(&name)?;
        }
        let api_url = env.resolve(globals.api_url, "REMEMBERIZER_API_URL", parse);
        let api_url = policy.or(api_url, || None)?;
        let store_flag = env.resolve(globals.store, "REMEMBERIZER_STORE", parse);
        let store_flag = policy.or(store_flag, || None)?;
        let pinned = recorded.as_ref().map(Profile::origin);
        let kept = recorded.as_ref().and_then(|profile| profile.store);
        if matches!(purpose, Purpose::Use | Purpose::Diagnose) {
            let other = refuse_other_origin(&name, api_url.as_ref(), pinned.as_ref());
            policy.or(other, || ())?;
            policy.or(refuse_other_store(&name, store_flag, kept), || ())?;
        }
        let flags_first = purpose == Purpose::Begin;
        let usual = || Some(Duration::from_secs(30));
        let timeout = env.resolve(globals.timeout, "REMEMBERIZER_TIMEOUT", positive_duration);
        let lock_timeout = env.resolve(globals.lock_timeout, "REMEMBERIZER_LOCK_TIMEOUT", duration);
        let data_dir = host.data_dir.clone();
        let data_dir = data_dir.ok_or_else(|| no_home("data", "XDG_DATA_HOME"));
        Ok(Self {
            origin: first(flags_first, api_url, pinned).unwrap_or_default(),
            store: first(flags_first, store_flag, kept).unwrap_or(StoreKind::Keyring),
            store_chosen: store_flag.is_some() || kept.is_some(),
            name,
            default,
            recorded,
            profiles,
            data_dir: policy.or(data_dir, || NOWHERE.into())?,
            json: output.json,
            timeout: policy
                .or(timeout, usual)?
                .or_else(usual)
                .unwrap_or_default(),
            lock_timeout: policy
                .or(lock_timeout, usual)?
                .or_else(usual)
                .unwrap_or_default(),
            ca_cert: env.path(globals.ca_cert.as_ref(), "REMEMBERIZER_CA_CERT"),
            ssl_cert_file: env.path(None, "SSL_CERT_FILE"),
            problems: policy.problems,
        })
    }
}

/// Whether an error ends the run, or is collected for `doctor` to report.
struct ErrorPolicy {
    collects: bool,
    problems: Vec<Failure>,
}

impl ErrorPolicy {
    /// Returns `instead` for an error that is collected.
    fn or<T>(
        &mut self,
        result: Result<T, Failure>,
        instead: impl FnOnce() -> T,
    ) -> Result<T, Failure> {
        match result {
            Err(failure) if self.collects => {
                self.problems.push(failure);
                Ok(instead())
            }
            other => other,
        }
    }
}

/// Returns the absolute path of the directory with the profiles file.
pub(crate) fn config_dir(globals: &Globals, host: &Host) -> Result<PathBuf, Failure> {
    let chosen = Env(host).path(globals.config_dir.as_ref(), "REMEMBERIZER_CONFIG_DIR");
    chosen
        // Without a working directory the path stays relative.
        .map(|dir| std::path::absolute(&dir).unwrap_or(dir))
        .or_else(|| host.config_dir.clone())
        .ok_or_else(|| no_home("config", "XDG_CONFIG_HOME"))
}

/// The commands in the environment for a refresh token that is there, too. Words
/// are split at spaces, without quoting.
pub(crate) fn rotation_variables(host: &Host) -> RotationCommands {
    let words = |name| {
        let value = (host.variable)(name).and_then(|value| value.into_string().ok());
        let value = value.unwrap_or_default();
        value.split_whitespace().map(str::to_owned).collect()
    };
    RotationCommands {
        on_rotate: words("REMEMBERIZER_ON_ROTATE"),
        check: words("REMEMBERIZER_ON_ROTATE_CHECK"),
        secret_variables: &SECRET_VARIABLES,
    }
}

/// Returns the tokens in the environment.
pub(crate) fn token_variables(host: &Host) -> Result<TokenVariables, Failure> {
    let env = Env(host);
    let secret = |name| -> Result<Option<Secret>, Failure> {
        let Some(token) = env.text(name)?.map(Secret::new) else {
            return Ok(None);
        };
        match token.validate_as_token() {
            Ok(()) => Ok(Some(token)),
            Err(why) => Err(Failure::usage(format!("the token in {name} {why}"))),
        }
    };
    Ok(TokenVariables {
        access: secret(ACCESS_TOKEN)?.map(|s| (ACCESS_TOKEN, AccessToken::new(s))),
        refresh: secret(REFRESH_TOKEN)?.map(|s| (REFRESH_TOKEN, RefreshToken::new(s))),
    })
}

/// Returns the names of the token variables that are set, whatever they hold.
pub(crate) fn token_variable_names(host: &Host) -> impl Iterator<Item = &'static str> {
    let is_set = |name: &&str| (host.variable)(name).is_some_and(|value| !value.is_empty());
    [ACCESS_TOKEN, REFRESH_TOKEN].into_iter().filter(is_set)
}

/// Returns the proxy variables that are set, in the order of precedence.
pub(crate) fn proxy_variables(host: &Host) -> Vec<(String, String)> {
    [
        "https_proxy",
        "HTTPS_PROXY",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ]
    .into_iter()
    .filter_map(|name| {
        let value = (host.variable)(name)?.into_string().ok()?;
        (!value.is_empty()).then(|| (name.to_owned(), value))
    })
    .collect()
}

/// Returns the password in the environment.
pub(crate) fn password_variable(host: &Host) -> Result<Option<Secret>, Failure> {
    Ok(Env(host).text(PASSWORD)?.map(Secret::new))
}

fn first<T>(flags_first: bool, flag: Option<T>, profile: Option<T>) -> Option<T> {
    if flags_first {
        flag.or(profile)
    } else {
        profile.or(flag)
    }
}

fn no_home(what: &str, variable: &str) -> Failure {
    Failure::new(
        Outcome::Failed,
        format!("there is no {what} directory: the home directory is not known"),
    )
    .hint(format!("set HOME, or {variable} to an absolute path"))
}

fn refuse_other_origin(
    name: &ProfileName,
    flag: Option<&Origin>,
    pinned: Option<&Origin>,
) -> Result<(), Failure> {
    match (flag, pinned) {
        (Some(flag), Some(pinned)) if flag != pinned => Err(Failure::usage(format!(
            "profile {name} is pinned to {pinned}, and its session is not sent to {flag}"
        ))
        .hint(
            "log in there with another profile: rememberizer login --profile NAME --api-url URL",
        )),
        _ => Ok(()),
    }
}

fn refuse_other_store(
    name: &ProfileName,
    flag: Option<StoreKind>,
    kept: Option<StoreKind>,
) -> Result<(), Failure> {
    match (flag, kept) {
        (Some(flag), Some(kept)) if flag != kept => Err(Failure::usage(format!(
            "profile {name} keeps its session in the {kept} store, not in the {flag} store"
        ))
        .hint(format!("move it: rememberizer profile set store {flag}"))),
        _ => Ok(()),
    }
}
