//! The process edge: arguments in, the real surroundings, an exit code out.

use rememberizer_cli::command::{Cli, completions};
use rememberizer_cli::host::Host;

fn main() {
    // A shell that asks for candidates is answered here, and the process ends.
    let words: Vec<_> = std::env::args_os().collect();
    clap_complete::CompleteEnv::with_factory(|| Cli::to_complete(&words))
        .var(completions::VARIABLE)
        .complete();
    let host = Host::real();
    let code = rememberizer_cli::run(&words, &host);
    // Not an `ExitCode`: the status of a child of `exec` can be above 255 on Windows.
    (host.end)(code);
}
