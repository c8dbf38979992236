//! Signs in to the Rememberizer API and keeps the session.
//!
//! The layers of modules, from the top down. A module must import only from its own
//! layer and from the layers below:
//!
//! | module | contents |
//! |---|---|
//! | `main.rs` | the entry point: passes the arguments and the real [`host::Host`] to [`run`], and exits |
//! | [`globals`], [`settings`] | the global flags; the settings from flags, variables and the profile |
//! | [`host`], [`context`] | access to the process and its environment; what every command receives |
//! | [`error`], [`mod@explain`], [`usage`], [`exit`] | errors, their conversion to failures, and exit codes |
//! | [`completers`] | shell completion of values |
//! | [`command`] | one file per command |
//! | [`session`] | starts, refreshes and ends a session |
//! | [`api`], [`store`] | the API client; the profiles file, the locks and the secret stores |
//! | [`terminal`], [`takeover`] | prompts and output; taking over a browser's session |
//! | [`model`] | value types |

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
use explain::to_failure;
use host::Host;
use model::ProfileName;
use session::Interrupts;
use settings::Settings;
use terminal::Terminal;

/// Runs the program and returns its exit code. `args` starts with the program's name.
pub fn run(args: &[OsString], host: &Host) -> i32 {
    let json = usage::wants_json(args, host);
    let mut profile_names = ProfileNames::default();
    let result = match Cli::parse(args) {
        Ok(cli) => run_command(cli, host, &mut profile_names),
        Err(error) => usage::help_text_or_failure(&error, &|| Cli::help_command(args))
            .map_err(Error::from)
            .and_then(|text| Ok(host.terminal.print_bytes(text.as_bytes())?)),
    };
    report_result(host, args, json, result, &profile_names)
}

/// The names that decide whether hints include `--profile`. They differ only after both are
/// known.
#[derive(Default)]
struct ProfileNames {
    in_use: ProfileName,
    default: ProfileName,
}

/// Runs the command. Sets `profile_names` as soon as they are known, since an error of the
/// command may have a hint.
fn run_command(cli: Cli, host: &Host, profile_names: &mut ProfileNames) -> Result<(), Error> {
    let purpose = cli.command.purpose();
    let settings = Settings::resolve(cli.globals, purpose, host)?;
    *profile_names = ProfileNames {
        in_use: settings.profile_name.clone(),
        default: settings.default_profile.clone(),
    };
    let interrupts = new_interrupts(host, settings.json);
    host.terminal.set_before_prompt({
        // A prompt for a secret turns terminal echo off, which Ctrl-C must restore.
        let interrupts = interrupts.clone();
        Box::new(move || interrupts.start_handling_signals())
    });
    let context = Context::new(settings, host, &interrupts);
    cli.command.run(&context)
}

/// Creates the signal handler. On a signal, the handler restores the terminal, prints
/// "interrupted" and exits with the exit code of the signal. While a session is being saved,
/// the handler prints a warning instead, and exits when the session is stored.
fn new_interrupts(host: &Host, json: bool) -> Interrupts {
    let (terminal, exit_process) = (host.terminal.clone(), host.exit_process);
    let warning_terminal = host.terminal.clone();
    Interrupts::new(
        Box::new(move |signal| {
            let outcome = Outcome::from_signal(signal);
            let printer = terminal.clone();
            terminal.close(move || {
                print_failure(&printer, json, &Failure::new(outcome, "interrupted"));
            });
            exit_process(i32::from(outcome.exit_code()));
        }),
        Box::new(move || {
            let printer = warning_terminal.clone();
            terminal::print_with_timeout(move || printer.warn("saving the session before exiting"));
        }),
    )
}

/// Prints the error, if there is one. Returns the exit code.
fn report_result(
    host: &Host,
    args: &[OsString],
    json: bool,
    result: Result<(), Error>,
    profile_names: &ProfileNames,
) -> i32 {
    let Err(error) = result else {
        return 0;
    };
    // The reader of stdout has got all that it wants.
    if is_closed_pipe(&error) {
        return 0;
    }
    let command_line = |command: &str| {
        context::command_line(command, &profile_names.in_use, &profile_names.default)
    };
    let mut failure = to_failure(error, &command_line);
    if failure.hint.is_none() {
        failure.hint = match failure.outcome {
            Outcome::Usage | Outcome::InputRequired | Outcome::Rejected => {
                Some(Cli::help_command(args))
            }
            outcome if outcome.is_store_failure() => Some(command_line("doctor")),
            _ => None,
        };
    }
    print_failure(&host.terminal, json, &failure);
    failure.exit_code()
}

fn print_failure(terminal: &Terminal, json: bool, failure: &Failure) {
    if failure.child_status.is_some() {
        return;
    }
    if json {
        // Ignore a write error: there is no other place to report it.
        drop(terminal.print_json(failure.to_json()));
    } else {
        terminal.error(&failure.message, failure.hint.as_deref());
    }
}

/// Returns whether the reader of stdout has closed the pipe, as in
/// `rememberizer whoami | head -1`. Windows reports `ERROR_BROKEN_PIPE`, which the standard
/// library maps to `BrokenPipe`, or `ERROR_PIPE_NOT_CONNECTED`, which it does not map.
fn is_closed_pipe(error: &Error) -> bool {
    const ERROR_PIPE_NOT_CONNECTED: i32 = 233;
    let Error::Io(e) = error else {
        return false;
    };
    e.kind() == std::io::ErrorKind::BrokenPipe
        || cfg!(windows) && e.raw_os_error() == Some(ERROR_PIPE_NOT_CONNECTED)
}
