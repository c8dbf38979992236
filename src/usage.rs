//! Reading the command line: clap's errors in the program's own form, without
//! a secret that somebody typed where none belongs.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit::Failure;
use crate::host::Host;

/// Why there is nothing to run.
pub(crate) enum Stop {
    /// Help or a version was asked for: this text.
    Display(String),
    /// The command line is wrong.
    Failure(Failure),
}

/// Flags that people expect, and that would put a secret where every process can read it.
const SECRET_FLAGS: [&str; 6] = [
    "--password",
    "--passwd",
    "--token",
    "--access-token",
    "--refresh-token",
    "--code",
];

/// Whether errors are to be JSON, as far as can be known before the command line parses.
pub(crate) fn wants_json(args: &[OsString], host: &Host) -> bool {
    args.iter()
        .skip(1)
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--json")
        || (host.variable)("REMEMBERIZER_JSON").is_some_and(|value| {
            value
                .to_str()
                .is_some_and(|v| matches!(&*v.to_ascii_lowercase(), "1" | "true" | "yes" | "on"))
        })
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Self::Display(error.render().to_string())
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
                Self::Failure(Failure::usage("which command?").hint("see rememberizer --help"))
            }
            _ => Self::Failure(of_usage(&error)),
        }
    }
}

fn of_usage(error: &clap::Error) -> Failure {
    if let Some(flag) = secret_flag(error) {
        return Failure::usage(format!(
            "{flag} takes no value: other processes can read the command line, and shells keep it"
        ))
        .hint("give secrets by prompt, stdin, file or variable: see rememberizer login --help");
    }
    if error.kind() == ErrorKind::ValueValidation
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && let Some(why) = std::error::Error::source(error)
    {
        // Without the value: it may hold a secret, and the person has just typed it.
        return Failure::usage(format!("{argument}: {why}")).hint("see --help");
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let tip = paragraphs
        .clone()
        .find_map(|p| p.trim().strip_prefix("tip: "));
    let usage = paragraphs.find_map(|p| p.trim().strip_prefix("Usage: "));
    let failure = Failure::usage(message.split_whitespace().collect::<Vec<_>>().join(" "));
    match (tip, usage) {
        (Some(tip), _) => failure.hint(tip),
        (None, Some(usage)) => {
            failure.hint(format!("usage: {}", usage.lines().next().unwrap_or(usage)))
        }
        (None, None) => failure.hint("see --help"),
    }
}

/// The flag of the error, where a value for it would have been a secret.
fn secret_flag(error: &clap::Error) -> Option<&'static str> {
    if !matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues
    ) {
        return None;
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    SECRET_FLAGS.into_iter().find(|flag| {
        argument == flag
            || argument.starts_with(&format!("{flag}="))
            || argument.starts_with(&format!("{flag} "))
    })
}
