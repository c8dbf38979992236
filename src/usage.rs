//! Converts clap's errors to failures. Their messages must not repeat a value from the
//! command line that may be a secret.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit::Failure;
use crate::globals::parse_boolean;
use crate::host::Host;

/// Flags that do not exist, since every process could read their value. Users try them
/// all the same, and get an error that explains why.
const SECRET_FLAGS: [&str; 6] = [
    "--password",
    "--passwd",
    "--token",
    "--access-token",
    "--refresh-token",
    "--code",
];

/// Returns whether to print errors as JSON. Works without the parsed command line, since
/// parsing may fail.
pub(crate) fn wants_json(args: &[OsString], host: &Host) -> bool {
    let mut flags = args.iter().skip(1).take_while(|arg| *arg != "--");
    let variable = (host.read_variable)("REMEMBERIZER_JSON");
    flags.any(|arg| arg == "--json")
        || variable
            .is_some_and(|value| value.to_str().is_some_and(|v| parse_boolean(v) == Ok(true)))
}

/// Returns the command line that prints the help of the command in use.
type HelpCommand<'a> = &'a dyn Fn() -> String;

/// Returns the text of `--help` or `--version`, or the error of the command line.
pub(crate) fn help_text_or_failure(
    error: &clap::Error,
    help_command: HelpCommand<'_>,
) -> Result<String, Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(error.render().to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Err(Failure::usage("no command given").with_hint(help_command()))
        }
        _ => Err(from_clap_error(error, help_command)),
    }
}

fn from_clap_error(error: &clap::Error, help_command: HelpCommand<'_>) -> Failure {
    let argument = context_text(error, ContextKind::InvalidArg).unwrap_or_default();
    let is_unexpected = matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues
    );
    let name = argument.split(['=', ' ']).next().unwrap_or_default();
    if is_unexpected && SECRET_FLAGS.contains(&name) {
        return Failure::usage(format!(
            "{name} is not accepted: other processes can read the command line, and shells record it"
        ))
        .with_hint("give secrets by prompt, stdin, file or variable: see rememberizer login --help");
    }
    let message = match error.kind() {
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map(ToString::to_string);
            format!("{argument}: {}", reason.unwrap_or_default())
        }
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) if !values.is_empty() => {
                let values = values.join(", ");
                format!("invalid value for '{argument}' [possible values: {values}]")
            }
            _ => format!("'{argument}' needs a value"),
        },
        ErrorKind::TooManyValues => format!("'{argument}' takes no value"),
        ErrorKind::UnknownArgument if !is_flag(argument) => {
            let message = "unexpected argument (not repeated here, in case it is a secret)";
            return Failure::usage(message).with_hint(hint(error, help_command, Tip::Omit));
        }
        ErrorKind::InvalidSubcommand
            if context_text(error, ContextKind::InvalidSubcommand) == Some("help") =>
        {
            // `help` is not a command here, and no command has a similar name, so clap has no
            // suggestion.
            return Failure::usage(first_paragraph(error)).with_hint(help_command());
        }
        _ => first_paragraph(error),
    };
    Failure::usage(message).with_hint(hint(error, help_command, Tip::Include))
}

/// Returns whether `argument` has the form of a flag, such as `--email` or `-x`, and so
/// cannot be a secret.
fn is_flag(argument: &str) -> bool {
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    match argument.strip_prefix("--") {
        Some(name) => is_name(name),
        None => argument.starts_with('-') && argument.len() == 2,
    }
}

/// Returns the first paragraph of clap's message as one line, without `error: `.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a hint may include clap's tip, which may repeat an argument.
#[derive(PartialEq, Eq)]
enum Tip {
    Include,
    Omit,
}

/// Returns the hint for an error: clap's tip if there is one and `tip_policy` allows,
/// otherwise clap's usage line, otherwise the command that prints the help.
fn hint(error: &clap::Error, help_command: HelpCommand<'_>, tip_policy: Tip) -> String {
    let text = error.render().to_string();
    let paragraph = |prefix: &str| {
        text.split("\n\n")
            .find_map(|p| p.trim().strip_prefix(prefix))
    };
    let tip = paragraph("tip: ")
        .filter(|_| tip_policy == Tip::Include)
        .map(str::to_owned);
    let usage = || Some(format!("usage: {}", paragraph("Usage: ")?.lines().next()?));
    tip.or_else(usage).unwrap_or_else(help_command)
}

fn context_text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}
