//! Inputs that several commands take: where a password comes from, and what is
//! said when something is missing and nobody can be asked.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::model::Secret;
use crate::settings::{self, PASSWORD};

/// More than this is not a password, a token or a code.
const LARGEST: u64 = 64 * 1024;

/// Where the password comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Password")]
pub struct PasswordArgs {
    /// Read the password from stdin
    #[arg(long)]
    pub password_stdin: bool,
    /// Read the password from a file, such as /dev/fd/3; REMEMBERIZER_PASSWORD can hold it, too
    #[arg(long, value_name = "PATH", conflicts_with = "password_stdin", value_hint = clap::ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// The password, if a flag or the variable gives one.
    pub(super) fn given(&self, context: &Context<'_>) -> Result<Option<Secret>, Failure> {
        if self.password_stdin {
            from_stdin(context, "password").map(Some)
        } else if let Some(path) = &self.password_file {
            from_file(path, "password").map(Some)
        } else {
            settings::password_variable(context.host)
        }
    }
}

/// The ways to give a password, for the message when it is missing.
pub(super) fn password_ways() -> String {
    format!("--password-stdin, --password-file PATH or {PASSWORD}")
}

/// A secret from stdin, without the one line ending at its end.
pub(super) fn from_stdin(context: &Context<'_>, what: &str) -> Result<Secret, Failure> {
    let bytes = context
        .terminal
        .read_stdin(LARGEST + 1)
        .map_err(|e| Failure::usage(format!("cannot read the {what} from stdin: {e}")))?;
    secret(bytes, what, "stdin")
}

/// A secret from a file, without the one line ending at its end.
pub(super) fn from_file(path: &Path, what: &str) -> Result<Secret, Failure> {
    let shown = path.display().to_string();
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|e| Failure::usage(format!("cannot read the {what} from {shown}: {e}")))?;
    secret(bytes, what, &shown)
}

fn secret(mut bytes: Zeroizing<Vec<u8>>, what: &str, place: &str) -> Result<Secret, Failure> {
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::usage(format!(
            "{place} holds more than a {what} (over {LARGEST} bytes)"
        )));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(Failure::new(
            Outcome::InputRequired,
            format!("{place} holds no {what}"),
        ));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Secret::new(text.to_owned())),
        Err(_) => Err(Failure::usage(format!(
            "the {what} in {place} is not UTF-8"
        ))),
    }
}

/// What is missing, and how to give it: named all at once.
#[derive(Default)]
pub(super) struct Missing(Vec<String>);

impl Missing {
    /// Notes `what`, which `ways` would give, as missing if `is_missing`.
    pub(super) fn note(&mut self, is_missing: bool, what: &str, ways: &str) {
        if is_missing {
            self.0.push(format!("{what} ({ways})"));
        }
    }

    /// An error that names all that is missing, unless somebody can be asked for it.
    pub(super) fn check(self, context: &Context<'_>) -> Result<(), Failure> {
        if self.0.is_empty() || context.terminal.can_prompt() {
            return Ok(());
        }
        Err(Failure::new(
            Outcome::InputRequired,
            format!("missing input: {}", self.0.join("; ")),
        )
        .hint("nobody can be asked: stdin or stderr is no terminal, or --no-input is set"))
    }
}
