//! The process edge: arguments in, the real surroundings, an exit code out.

use std::process::ExitCode;

use clap::CommandFactory;
use rememberizer_cli::command::{Cli, completions};
use rememberizer_cli::host::Host;

fn main() -> ExitCode {
    // A shell that asks for candidates is answered here, and the process ends.
    clap_complete::CompleteEnv::with_factory(Cli::command)
        .var(completions::VARIABLE)
        .complete();
    let code = rememberizer_cli::run(std::env::args_os().collect(), &Host::real());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
