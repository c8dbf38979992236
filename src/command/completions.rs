//! `completions`: prints the completion script for a shell.
//!
//! To get candidates, a script runs this program with [`VARIABLE`] set and the words typed
//! so far as arguments. The scripts are derived from those of `clap_complete`; comments in
//! them explain the differences.

use crate::context::Context;
use crate::error::Error;

/// The environment variable that requests candidates. clap's default name, `COMPLETE`, is
/// too general: if another program had set it, none of our commands would run.
pub const VARIABLE: &str = "REMEMBERIZER_COMPLETE";

/// Pairs of a shell and its script.
const SCRIPTS: [(&str, &str); 6] = [
    ("bash", include_str!("../../completions/rememberizer.bash")),
    ("zsh", include_str!("../../completions/_rememberizer")),
    ("fish", include_str!("../../completions/rememberizer.fish")),
    (
        "powershell",
        include_str!("../../completions/_rememberizer.ps1"),
    ),
    ("elvish", include_str!("../../completions/rememberizer.elv")),
    ("nushell", include_str!("../../completions/rememberizer.nu")),
];

/// Print the completion script for a shell
///
/// The script completes commands, flags, values and profile names, without using
/// the keyring or the network.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(rememberizer completions bash)
  rememberizer completions fish > ~/.config/fish/completions/rememberizer.fish")]
pub(crate) struct Args {
    /// Shell to print the script for
    #[arg(value_parser = SCRIPTS.map(|(shell, _)| shell))]
    shell: String,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let script = SCRIPTS.iter().find(|(shell, _)| *shell == args.shell);
    let script = script.map_or("", |(_, script)| script);
    Ok(context.terminal.print_bytes(script.as_bytes())?)
}
