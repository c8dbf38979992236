//! The flags that every command takes, and how their values are read: the same
//! readers serve the variables that stand for them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use crate::model::{Origin, ProfileName};
use crate::store::StoreKind;
use crate::terminal::ColorChoice;

/// The flags that every command takes, before or after its name.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Use this profile [env: REMEMBERIZER_PROFILE]
    #[arg(short, long, global = true, value_name = "NAME", add = crate::command::completions::profile_names())]
    pub profile: Option<ProfileName>,
    /// The API's base URL [env: REMEMBERIZER_API_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub api_url: Option<Origin>,
    /// Where the profiles file is [env: REMEMBERIZER_CONFIG_DIR]
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub config_dir: Option<PathBuf>,
    /// Where the session is kept: keyring, file or helper:NAME[:LOCATION] [env: REMEMBERIZER_STORE]
    #[arg(long, global = true, value_name = "KIND", hide_possible_values = true, value_parser = StoreKindParser)]
    pub store: Option<StoreKind>,
    /// Print exactly one JSON object, also on failure [env: REMEMBERIZER_JSON]
    #[arg(long, global = true)]
    pub json: bool,
    /// Ask nothing [env: REMEMBERIZER_NO_INPUT]
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Leave confirmations and spinners out [env: REMEMBERIZER_QUIET]
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Tell requests and decisions on stderr, secrets never [env: REMEMBERIZER_VERBOSE]
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub verbose: bool,
    /// How long a request may take, in seconds (30) [env: REMEMBERIZER_TIMEOUT]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = positive_duration)]
    pub timeout: Option<Duration>,
    /// How long another process's lock is waited for, in seconds (30) [env: REMEMBERIZER_LOCK_TIMEOUT]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = duration)]
    pub lock_timeout: Option<Duration>,
    /// Trust the certificates in this PEM file as well [env: REMEMBERIZER_CA_CERT]
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub ca_cert: Option<PathBuf>,
    /// When to use colours: auto, always or never [env: REMEMBERIZER_COLOR]
    #[arg(long, global = true, value_name = "WHEN", hide_possible_values = true, value_parser = color_choices())]
    pub color: Option<ColorChoice>,
}

/// Parses the kind of a store. The helpers are not among the possible values:
/// nobody knows which there are.
#[derive(Clone)]
struct StoreKindParser;

impl clap::builder::TypedValueParser for StoreKindParser {
    type Value = StoreKind;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<StoreKind, clap::Error> {
        clap::builder::StringValueParser::new()
            .try_map(|text| text.parse::<StoreKind>())
            .parse_ref(command, arg, value)
    }

    fn possible_values(
        &self,
    ) -> Option<Box<dyn Iterator<Item = clap::builder::PossibleValue> + '_>> {
        Some(Box::new(
            StoreKind::ALL.into_iter().map(|kind| kind.as_str().into()),
        ))
    }
}

const COLORS: [(&str, ColorChoice); 3] = [
    ("auto", ColorChoice::Auto),
    ("always", ColorChoice::Always),
    ("never", ColorChoice::Never),
];

pub(crate) fn color(text: &str) -> Result<ColorChoice, String> {
    COLORS
        .into_iter()
        .find_map(|(name, choice)| (name == text).then_some(choice))
        .ok_or_else(|| "colour is `auto`, `always` or `never`".to_owned())
}

fn color_choices() -> impl clap::builder::TypedValueParser<Value = ColorChoice> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(COLORS.map(|(name, _)| name))
        .try_map(|text| color(&text))
}

/// A duration: seconds where it is a plain number, else such as `90s`, `5m`, `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|e| e.to_string()),
    };
    match parsed {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("more than ten years".to_owned()),
        Err(why) => Err(format!("seconds, or such as `90s`, `5m`, `1h` ({why})")),
    }
}

pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than nothing".to_owned()),
        duration => Ok(duration),
    }
}

pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("is 1 or 0".to_owned()),
    }
}
