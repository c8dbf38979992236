//! `completions`: prints the scripts by which shells complete the commands.
//!
//! A script runs this program with [`VARIABLE`] set and the words typed so far as
//! arguments, and reads the candidates. Neither the keyring nor the network is used.
//! The scripts began as those of `clap_complete`; their comments say what differs.

use crate::context::Context;
use crate::error::Error;

/// Set by the scripts to get candidates. clap's default name is `COMPLETE`; if another
/// program's variable had that name, no command would run.
pub const VARIABLE: &str = "REMEMBERIZER_COMPLETE";

/// The scripts by shell.
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
