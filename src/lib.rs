//! Keeps an account session with the Rememberizer API.
//!
//! The modules from the top layer down; a layer imports only those below it:
//!
//! | module | contents |
//! |---|---|
//! | `main.rs` | the entry point: arguments, the real [`host::Host`], the exit code |
//! | [`globals`], [`settings`], [`host`], [`context`], [`exit`], [`mod@explain`], [`completers`] | assembly: flags, settings, the environment of the process, what a command receives, outcomes |
//! | [`command`] | one file per command |
//! | [`session`] | a session: start, renew, end |
//! | [`api`], [`store`] | the client of the API; the profiles file, the locks and the secret stores |
//! | [`terminal`], [`takeover`] | prompts and output; taking over the session of a browser |
//! | [`model`] | plain values |

mod api;
pub mod command;
mod completers;
mod context;
mod error;
pub mod exit;
mod explain;
pub mod globals;
pub mod host;
pub mod model;
mod session;
pub mod settings;
pub mod store;
mod takeover;
pub mod terminal;

mod usage;

use std::ffi::OsString;

use command::Cli;
use context::Context;
use error::Error;
use exit::{Failure, Outcome};
use explain::explain;
use host::Host;
use model::ProfileName;
use session::Interrupts;
use settings::Settings;
use terminal::Terminal;

/// Runs the program with `args`, the first of which is its own name. Returns the exit code.
pub fn run(args: &[OsString], host: &Host) -> i32 {
    let json = usage::wants_json(args, host);
    let mut names = None;
    let result = match Cli::parse(args) {
        Ok(cli) => run_command(cli, host, &mut names),
        Err(error) => usage::text_to_display(&error, &|| Cli::help_command(args))
            .map_err(Error::from)
            .and_then(|text| Ok(host.terminal.print_bytes(text.as_bytes())?)),
    };
    finish(host, args, json, result, names)
}

/// The profile in use and the default one. Hints name the first if they differ.
type ProfileNames = Option<(ProfileName, ProfileName)>;

fn run_command(cli: Cli, host: &Host, names: &mut ProfileNames) -> Result<(), Error> {
    let purpose = cli.command.purpose();
    let settings = Settings::resolve(cli.globals, purpose, host)?;
    *names = Some((settings.name.clone(), settings.default_name.clone()));
    let interrupts = interrupts(host, settings.json);
    host.terminal.before_prompt({
        // A prompt for a secret turns the echo off; Ctrl-C must restore it.
        let interrupts = interrupts.clone();
        Box::new(move || interrupts.watch())
    });
    let context = Context::new(settings, host, &interrupts);
    cli.command.run(&context)
}

/// Makes a signal restore the terminal, print the error and end the process with
/// the exit code of the signal.
fn interrupts(host: &Host, json: bool) -> Interrupts {
    let (terminal, end) = (host.terminal.clone(), host.end);
    let waiting = host.terminal.clone();
    Interrupts::new(
        Box::new(move |signal| {
            let outcome = Outcome::from_signal(signal);
            let printer = terminal.clone();
            terminal.close(move || {
                report(&printer, json, &Failure::new(outcome, "interrupted"));
            });
            end(i32::from(outcome.exit_code()));
        }),
        Box::new(move || {
            let printer = waiting.clone();
            terminal::print_bounded(move || printer.warn("saving the session before exiting"));
        }),
    )
}

fn finish(
    host: &Host,
    args: &[OsString],
    json: bool,
    result: Result<(), Error>,
    names: ProfileNames,
) -> i32 {
    let Err(error) = result else {
        return 0;
    };
    if is_closed_pipe(&error) {
        return 0;
    }
    let command_line = |command: &str| match &names {
        Some((profile, default)) => context::command_line(command, profile, default),
        None => format!("rememberizer {command}"),
    };
    let mut failure = explain(error, &command_line);
    if failure.hint.is_none() {
        failure.hint = match failure.outcome {
            Outcome::Usage | Outcome::InputRequired | Outcome::Rejected => {
                Some(Cli::help_command(args))
            }
            outcome if outcome.is_store() => Some(command_line("doctor")),
            _ => None,
        };
    }
    report(&host.terminal, json, &failure);
    failure.exit_code()
}

fn report(terminal: &Terminal, json: bool, failure: &Failure) {
    if failure.child_status.is_some() {
        return;
    }
    if json {
        // If stdout is closed, nobody reads this.
        drop(terminal.print_json(failure.to_json()));
    } else {
        terminal.error(&failure.message, failure.hint.as_deref());
    }
}

/// Returns whether the reader of stdout has stopped reading: `rememberizer whoami | head -1`.
/// Windows has two errors for it; the standard library maps one of them.
fn is_closed_pipe(error: &Error) -> bool {
    /// `ERROR_PIPE_NOT_CONNECTED` of winerror.h.
    const PIPE_NOT_CONNECTED: i32 = 233;
    let Error::Io(e) = error else {
        return false;
    };
    e.kind() == std::io::ErrorKind::BrokenPipe
        || cfg!(windows) && e.raw_os_error() == Some(PIPE_NOT_CONNECTED)
}
