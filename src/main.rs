//! The entry point. Passes the arguments and the host to the library, and exits.

use rememberizer_cli::command::{Cli, completions};
use rememberizer_cli::host::Host;

/// The allocator of the static build. musl's own makes a system call for many allocations,
/// which takes a fifth of a short run.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() {
    // If a shell asks for completion candidates, this prints them and exits.
    let words: Vec<_> = std::env::args_os().collect();
    clap_complete::CompleteEnv::with_factory(|| Cli::for_completion(&words))
        .var(completions::VARIABLE)
        .complete();
    let host = Host::real();
    let code = rememberizer_cli::run(&words, &host);
    // `ExitCode` holds 8 bits, but on Windows the status of a command that `exec` runs
    // can be above 255.
    (host.exit_process)(code);
}
