//! The global flags, and the parsers of their values. The environment variables that
//! set the flags use the same parsers.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use crate::model::{ApiUrl, ProfileName};
use crate::store::StoreKind;
use crate::terminal::ColorChoice;

/// The flags that every command accepts, before or after its name.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Profile to use [default: the default profile] [env: REMEMBERIZER_PROFILE]
    #[arg(short, long, global = true, value_name = "NAME", add = crate::completers::profile_names())]
    pub(crate) profile: Option<ProfileName>,
    /// Base URL of the API [default: the profile's] [env: REMEMBERIZER_API_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api_url: Option<ApiUrl>,
    /// Directory of profiles.json [env: REMEMBERIZER_CONFIG_DIR]
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) config_dir: Option<PathBuf>,
    /// Where to store the session: keyring, file or helper:NAME[:LOCATION] [default: the profile's, or keyring] [env: REMEMBERIZER_STORE]
    #[arg(long, global = true, value_name = "KIND", add = crate::completers::store_kinds())]
    pub(crate) store: Option<StoreKind>,
    /// Print exactly one JSON object, also for errors [env: REMEMBERIZER_JSON]
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Never prompt [env: REMEMBERIZER_NO_INPUT]
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
    /// Suppress confirmations and spinners [env: REMEMBERIZER_QUIET]
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log requests and decisions to stderr (never secrets) [env: REMEMBERIZER_VERBOSE]
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub(crate) verbose: bool,
    /// Timeout per request, in seconds [default: 30] [env: REMEMBERIZER_TIMEOUT]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = parse_positive_duration)]
    pub(crate) timeout: Option<Duration>,
    /// How long to wait for a lock that another process holds, in seconds [default: 30, or 45 with a store helper] [env: REMEMBERIZER_LOCK_TIMEOUT]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = parse_duration)]
    pub(crate) lock_timeout: Option<Duration>,
    /// Trust the certificates in this PEM file too [env: REMEMBERIZER_CA_CERT]
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) ca_cert: Option<PathBuf>,
    /// When to use colors: auto, always or never [default: auto] [env: REMEMBERIZER_COLOR]
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        hide_possible_values = true,
        value_enum
    )]
    pub(crate) color: Option<ColorChoice>,
}

/// Parses a value of `--color`. clap parses the flag; this parses the variable.
pub(crate) fn parse_color(text: &str) -> Result<ColorChoice, String> {
    ColorChoice::from_str(text, false).map_err(|_| "must be auto, always or never".to_owned())
}

/// Parses a duration: a number of seconds, or a number with units such as `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const MAX_DURATION: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|e| e.to_string()),
    };
    match parsed {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        Ok(_) => Err("must be at most ten years".to_owned()),
        Err(error) => Err(format!(
            "must be a number of seconds, or a duration such as `90s`, `5m` or `1h` ({error})"
        )),
    }
}

pub(crate) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be greater than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// Parses a boolean variable.
pub(crate) fn parse_boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be 1 or 0".to_owned()),
    }
}
