//! Reads secrets from stdin, files and variables, and reports missing inputs, for several
//! commands.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::model::{Secret, decode_text, read_at_most};
use crate::settings::{self, PASSWORD};

/// Maximum size of a password, a token or a code.
const MAX_SECRET: u64 = 64 * 1024;

#[derive(Debug, Args)]
#[command(next_help_heading = "Password")]
pub(crate) struct PasswordArgs {
    /// Read the password from stdin
    #[arg(long)]
    pub(super) password_stdin: bool,
    /// Read the password from a file, such as /dev/fd/3 [env: REMEMBERIZER_PASSWORD]
    #[arg(long, value_name = "PATH", conflicts_with = "password_stdin", value_hint = clap::ValueHint::FilePath)]
    pub(super) password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// Reads the password from the source that a flag names, or from the variable. Returns
    /// `None` if neither is set.
    pub(super) fn read(&self, context: &Context<'_>) -> Result<Option<Secret>, Failure> {
        if self.password_stdin {
            secret_from_stdin(context, "password").map(Some)
        } else if let Some(path) = &self.password_file {
            secret_from_file(path, "password").map(Some)
        } else {
            settings::password_variable(context.host)
        }
    }
}

/// Returns the flags and the variable that provide a password, for an error message.
pub(super) fn password_sources() -> String {
    format!("--password-stdin, --password-file PATH or {PASSWORD}")
}

/// Reads a secret from stdin, and removes one line break at its end. Errors call the
/// secret `what`.
pub(super) fn secret_from_stdin(context: &Context<'_>, what: &str) -> Result<Secret, Failure> {
    let bytes = context.terminal.read_stdin(MAX_SECRET + 1);
    Ok(Secret::new(read_line(bytes, what, "stdin")?))
}

/// Reads a secret from a file, and removes one line break at its end. Errors call the
/// secret `what`.
pub(super) fn secret_from_file(path: &Path, what: &str) -> Result<Secret, Failure> {
    let bytes = File::open(path).and_then(|mut file| read_at_most(&mut file, MAX_SECRET + 1));
    let source = path.display().to_string();
    Ok(Secret::new(read_line(bytes, what, &source)?))
}

/// Reads a refresh token from the file, or from stdin if `path` is `None`.
pub(super) fn read_refresh_token(
    context: &Context<'_>,
    path: Option<&Path>,
) -> Result<Secret, Failure> {
    let (token, source) = match path {
        Some(path) => (
            secret_from_file(path, "refresh token")?,
            path.display().to_string(),
        ),
        None => (
            secret_from_stdin(context, "refresh token")?,
            "stdin".to_owned(),
        ),
    };
    match token.validate_as_token() {
        Ok(()) => Ok(token),
        Err(error) => Err(Failure::usage(format!(
            "the refresh token in {source} {error}"
        ))),
    }
}

/// Reads a mailed code from stdin.
pub(super) fn read_code_from_stdin(context: &Context<'_>) -> Result<String, Failure> {
    read_line(context.terminal.read_stdin(MAX_SECRET + 1), "code", "stdin")
}

fn read_line(
    bytes: io::Result<Zeroizing<Vec<u8>>>,
    what: &str,
    source: &str,
) -> Result<String, Failure> {
    let bytes =
        bytes.map_err(|e| Failure::usage(format!("cannot read the {what} from {source}: {e}")))?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(Failure::usage(format!(
            "the {what} in {source} is longer than {MAX_SECRET} bytes"
        )));
    }
    let text = decode_text(&bytes).ok_or_else(|| {
        Failure::usage(format!("the {what} in {source} is not UTF-8"))
            .with_hint("save it as UTF-8; in PowerShell: Out-File -Encoding utf8")
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = match line.len() < text.len() {
        true => line.strip_suffix('\r').unwrap_or(line),
        false => line,
    };
    if line.is_empty() {
        return Err(Failure::new(
            Outcome::InputRequired,
            format!("there is no {what} in {source}"),
        ));
    }
    Ok(line.to_owned())
}

/// Descriptions of the missing inputs, with the flags that provide them.
#[derive(Default)]
pub(super) struct MissingInputs(Vec<String>);

impl MissingInputs {
    /// Adds the input `what` if `is_missing`. `sources` describes how to provide it.
    pub(super) fn add_if(&mut self, is_missing: bool, what: &str, sources: &str) {
        if is_missing {
            self.0.push(format!("{what} ({sources})"));
        }
    }

    /// Returns an error that names every missing input, unless the user can be prompted.
    pub(super) fn fail_unless_promptable(self, context: &Context<'_>) -> Result<(), Failure> {
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
