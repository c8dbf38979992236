//! Reads inputs from stdin, files and variables, and reports missing inputs.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::model::{Secret, decode_text, read_at_most};
use crate::settings::{self, PASSWORD};

/// Maximum size of a password, a token or a code.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

#[derive(Debug, Args)]
#[command(next_help_heading = "Password")]
pub(crate) struct PasswordArgs {
    /// Read the password from stdin
    #[arg(long)]
    pub(super) password_stdin: bool,
    /// Read the password from a file, such as /dev/fd/3; REMEMBERIZER_PASSWORD can hold the password itself
    #[arg(long, value_name = "PATH", conflicts_with = "password_stdin", value_hint = clap::ValueHint::FilePath)]
    pub(super) password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// Reads the password from the source that a flag names, or from the variable. Returns
    /// `None` if neither is set.
    pub(super) fn read(&self, context: &Context<'_>) -> Result<Option<Secret>, Failure> {
        let source = match &self.password_file {
            Some(path) => InputSource::File(path),
            None if self.password_stdin => InputSource::Stdin,
            None => return settings::password_variable(context.host),
        };
        let password = source.read_line(context, "password")?;
        Ok(Some(Secret::new(password)))
    }
}

/// Returns the flags and the variable that provide a password, for an error message.
pub(super) fn password_sources() -> String {
    format!("--password-stdin, --password-file PATH or {PASSWORD}")
}

/// The source of an input.
#[derive(Clone, Copy)]
pub(super) enum InputSource<'a> {
    Stdin,
    File(&'a Path),
}

impl std::fmt::Display for InputSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdin => f.write_str("stdin"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl<'a> InputSource<'a> {
    /// Returns the source that an argument names: a file, or stdin (`-`).
    pub(super) fn from_arg(path: &'a Path) -> Self {
        if path == Path::new("-") {
            Self::Stdin
        } else {
            Self::File(path)
        }
    }

    /// Reads the whole input. Fails if it is longer than `max` bytes. Errors call the input
    /// `what`.
    pub(super) fn read(
        self,
        context: &Context<'_>,
        what: &str,
        max: u64,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let bytes = match self {
            Self::Stdin => context.terminal.read_stdin(max + 1),
            Self::File(path) => {
                File::open(path).and_then(|mut file| read_at_most(&mut file, max + 1))
            }
        };
        let bytes = bytes
            .map_err(|e| Failure::usage(format!("cannot read the {what} from {self}: {e}")))?;
        if bytes.len() as u64 > max {
            return Err(Failure::usage(format!(
                "the {what} in {self} is longer than {max} bytes"
            )));
        }
        Ok(bytes)
    }

    /// Reads a password, a token or a code, and removes one line break at its end. Errors
    /// call the input `what`.
    pub(super) fn read_line(self, context: &Context<'_>, what: &str) -> Result<String, Failure> {
        let bytes = self.read(context, what, MAX_SECRET_BYTES)?;
        let text = decode_text(&bytes).ok_or_else(|| {
            Failure::usage(format!("the {what} in {self} is not UTF-8"))
                .with_hint("save it as UTF-8; in PowerShell: Out-File -Encoding utf8")
        })?;
        let line = match text.strip_suffix('\n') {
            Some(line) => line.strip_suffix('\r').unwrap_or(line),
            None => &text,
        };
        if line.is_empty() {
            return Err(Failure::new(
                Outcome::InputRequired,
                format!("there is no {what} in {self}"),
            ));
        }
        Ok(line.to_owned())
    }

    pub(super) fn read_refresh_token(self, context: &Context<'_>) -> Result<Secret, Failure> {
        let token = Secret::new(self.read_line(context, "refresh token")?);
        match token.validate_as_token() {
            Ok(()) => Ok(token),
            Err(error) => Err(Failure::usage(format!(
                "the refresh token in {self} {error}"
            ))),
        }
    }
}

/// Descriptions of the missing inputs, with the flags that provide them.
#[derive(Default)]
pub(super) struct MissingInputs(Vec<String>);

impl MissingInputs {
    /// Adds the input `what`. `sources` describes how to provide it.
    pub(super) fn add(&mut self, what: &str, sources: &str) {
        self.0.push(format!("{what} ({sources})"));
    }

    /// Adds the input `what` if `is_missing`. `sources` describes how to provide it.
    pub(super) fn add_if(&mut self, is_missing: bool, what: &str, sources: &str) {
        if is_missing {
            self.add(what, sources);
        }
    }

    /// Returns an error that names every missing input, unless the user can be prompted.
    pub(super) fn fail_unless_can_prompt(self, context: &Context<'_>) -> Result<(), Failure> {
        if self.0.is_empty() || context.terminal.can_prompt() {
            return Ok(());
        }
        Err(Failure::new(
            Outcome::InputRequired,
            format!("missing input: {}", self.0.join("; ")),
        )
        .with_hint("prompts need a terminal on stdin and stderr, and no --no-input"))
    }
}
