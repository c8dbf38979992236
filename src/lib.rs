//! Keeps an account session with the Rememberizer API.
//!
//! The crate's map, from the top; a layer imports only what stands below it:
//!
//! | module | what it is |
//! |---|---|
//! | `main.rs` | the process edge: arguments, the real [`host::Host`], the exit code |
//! | [`globals`], [`settings`], [`host`], [`context`], [`exit`], [`mod@explain`], [`completers`] | assembly: what was asked for, what surrounds us, what a command sees, how it ends |
//! | [`command`] | one file per command |
//! | [`session`] | the life of a session: begin, renew, end |
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
use settings::{OutputOptions, Settings};
use terminal::Terminal;

/// Runs the program with `args`, the first of which is its own name; the exit code.
pub fn run(args: &[OsString], host: &Host) -> i32 {
    let json = usage::wants_json(args, host);
    let cli = match Cli::parse(args).map_err(usage::ParseOutcome::from) {
        Ok(cli) => cli,
        Err(usage::ParseOutcome::Display(text)) => {
            return finish(
                host,
                json,
                host.terminal
                    .answer_bytes(text.as_bytes())
                    .map_err(Into::into),
                None,
            );
        }
        Err(usage::ParseOutcome::Failure(failure)) => {
            return finish(host, json, Err(failure.into()), None);
        }
    };
    let mut names = None;
    let result = run_command(cli, host, &mut names);
    finish(host, json, result, names)
}

/// The profile in use and the default one: hints name the first where it is not the second.
type ProfileNames = Option<(ProfileName, ProfileName)>;

fn run_command(cli: Cli, host: &Host, names: &mut ProfileNames) -> Result<(), Error> {
    let purpose = cli.command.purpose();
    let output = OutputOptions::resolve(&cli.globals, purpose, host)?;
    let json = output.json;
    host.terminal.configure(output.style);
    let command = match cli.command.run_bare(host) {
        Ok(result) => return result,
        Err(command) => command,
    };
    let settings = Settings::resolve(cli.globals, output, purpose, host)?;
    *names = Some((settings.name.clone(), settings.default.clone()));
    let interrupts = interrupts(host, json);
    host.terminal.before_prompt({
        // A prompt for a secret turns the echo off: Ctrl-C must turn it on again.
        let interrupts = interrupts.clone();
        Box::new(move || interrupts.watch())
    });
    let context = Context::new(settings, host, &interrupts);
    command.run(&context)
}

/// A signal ends the process as it ends everywhere: the terminal as it was
/// found, the error told, the code of the signal.
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

fn finish(host: &Host, json: bool, result: Result<(), Error>, names: ProfileNames) -> i32 {
    let Err(error) = result else {
        return 0;
    };
    if is_closed_pipe(&error) {
        return 0;
    }
    let failure = explain(error, &|command| match &names {
        Some((profile, default)) => context::command_line(command, profile, default),
        None => format!("rememberizer {command}"),
    });
    report(&host.terminal, json, &failure);
    failure.exit_code()
}

fn report(terminal: &Terminal, json: bool, failure: &Failure) {
    if failure.child_status.is_some() {
        return;
    }
    if json {
        // Nobody is left to be told that stdout is closed.
        drop(terminal.answer_json(failure.to_json()));
    } else {
        terminal.error(&failure.message, failure.hint.as_deref());
    }
}

/// The reader of the answer may stop reading: `rememberizer whoami | head -1`.
/// Windows has two errors for it, of which the standard library knows one.
fn is_closed_pipe(error: &Error) -> bool {
    /// `ERROR_PIPE_NOT_CONNECTED` of winerror.h.
    const PIPE_NOT_CONNECTED: i32 = 233;
    let Error::Io(e) = error else {
        return false;
    };
    e.kind() == std::io::ErrorKind::BrokenPipe
        || cfg!(windows) && e.raw_os_error() == Some(PIPE_NOT_CONNECTED)
}
