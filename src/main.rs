//! The process edge: arguments in, the real surroundings, an exit code out.

use std::process::ExitCode;

use rememberizer_cli::command::{Cli, completions};
use rememberizer_cli::host::Host;

fn main() -> ExitCode {
    // A shell that asks for candidates is answered here, and the process ends.
    let words: Vec<_> = std::env::args_os().collect();
    clap_complete::CompleteEnv::with_factory(|| Cli::to_complete(&words))
        .var(completions::VARIABLE)
        .complete();
    let code = rememberizer_cli::run(&words, &Host::real());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
