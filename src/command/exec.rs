//! `exec`: runs a command with an access token in its environment or in a file.

mod supervise;

use std::ffi::OsString;
use std::process::{Child, Command};
use std::time::Duration;

use supervise::supervise;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::globals::parse_duration;
use crate::settings::{ACCESS_TOKEN, PASSWORD, REFRESH_TOKEN};

/// Run a command with the access token in its environment
///
/// Renews the token first if it is about to expire. Exits with the command's exit
/// status. If the command may run longer than the token is valid, use --token-file:
/// the command reads the token from a private file, which is kept up to date.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer exec -- ./sync.sh
  rememberizer exec --env API_TOKEN --min-ttl 10m -- ./sync.sh
  rememberizer exec --token-file -- ./nightly.sh

Exit codes: that of the command; 3, 5, 6 or 9 as for `token` if it does not start")]
pub(crate) struct Args {
    /// Variable to set to the token
    #[arg(long, value_name = "NAME", default_value = ACCESS_TOKEN, value_parser = parse_variable_name)]
    env: String,
    /// Renew the token first if it expires within this time, such as 90s or 5m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    min_ttl: Duration,
    /// Keep the current token in a file, and set REMEMBERIZER_TOKEN_FILE to its path
    #[arg(long, conflicts_with = "env")]
    token_file: bool,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD", add = crate::completers::command_words())]
    command: Vec<OsString>,
}

fn parse_variable_name(text: &str) -> Result<String, String> {
    let is_allowed =
        |(i, b): (usize, u8)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit());
    if !text.is_empty() && text.bytes().enumerate().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err("must contain only letters, digits and `_`, and not start with a digit".to_owned())
    }
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let manager = context.session_manager();
    let credential = manager.credential(context.token_variables()?, args.min_ttl)?;
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Failure::usage("there is no command to run").into());
    };
    let mut command = Command::new(program);
    command
        .args(rest)
        // The command must not get secrets that can refresh or start a session.
        .env_remove(PASSWORD)
        .env_remove(REFRESH_TOKEN)
        .env_remove(ACCESS_TOKEN);
    (context.host.restore_limits)();
    let status = if args.token_file {
        supervise(context, credential, args.min_ttl, command)
    } else {
        command.env(&args.env, credential.access_token()?.secret().expose());
        run_command(command, context).map_err(Error::from)
    };
    let status = status.map_err(|error| match error {
        Error::Io(error) => anyhow::Error::new(error)
            .context(format!("cannot run {}", program.to_string_lossy()))
            .into(),
        other => other,
    })?;
    match status {
        0 => Ok(()),
        status => Err(Failure::from_child_status(status).into()),
    }
}

/// Replaces this process by the command. Returns only if that fails.
#[cfg(unix)]
fn run_command(mut command: Command, _context: &Context<'_>) -> std::io::Result<i32> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

/// Runs the command and waits for it. Ctrl-C reaches both processes; this one ignores it,
/// so that the command decides whether to exit.
#[cfg(not(unix))]
fn run_command(mut command: Command, context: &Context<'_>) -> std::io::Result<i32> {
    context.interrupts.prepare_forwarding();
    let status = spawn(&mut command)?.wait()?;
    Ok(supervise::exit_code(status))
}

#[cfg(unix)]
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    command.spawn()
}

/// Starts the command. If it is not found, tries the extensions `.cmd` and `.bat`, since
/// Windows only adds `.exe`, and tools such as npm are batch files.
#[cfg(not(unix))]
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let not_found = match command.spawn() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => e,
        other => return other,
    };
    let batch_file = ["cmd", "bat"].into_iter().find_map(|extension| {
        let mut program = command.get_program().to_owned();
        program.push(".");
        program.push(extension);
        let mut batch = Command::new(program);
        batch.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => batch.env(name, value),
                None => batch.env_remove(name),
            };
        }
        batch.spawn().ok()
    });
    batch_file.ok_or(not_found)
}
