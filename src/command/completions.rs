//! `completions`: the scripts by which shells complete the commands.

use clap::CommandFactory;
use clap::builder::StyledStr;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use super::Cli;
use crate::exit::Failure;
use crate::store::Profiles;
use crate::terminal::Terminal;

/// The variable by which a shell asks for candidates.
pub const VARIABLE: &str = "COMPLETE";

const SHELLS: [&str; 6] = ["bash", "zsh", "fish", "powershell", "elvish", "nushell"];

/// Print the completion script of a shell
///
/// Commands, flags, values and profile names complete; neither the keyring nor
/// the network is asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer completions bash > ~/.local/share/bash-completion/completions/rememberizer
  rememberizer completions fish > ~/.config/fish/completions/rememberizer.fish")]
pub struct Args {
    /// The shell
    #[arg(value_parser = SHELLS)]
    pub shell: String,
}

/// Prints the script.
pub fn run(args: &Args, terminal: &Terminal) -> Result<(), anyhow::Error> {
    let shells = Shells::builtins();
    let mut script = Vec::new();
    match shells.completer(&args.shell) {
        Some(shell) => {
            let name = Cli::command().get_name().to_owned();
            shell.write_registration(VARIABLE, &name, &name, &name, &mut script)?;
        }
        None => return Err(Failure::usage(format!("no completions for {}", args.shell)).into()),
    }
    terminal.answer_bytes(&script)?;
    Ok(())
}

/// Completes the names of the profiles, from the profiles file alone.
pub fn profile_names() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &std::ffi::OsStr| {
        let Some(current) = current.to_str() else {
            return Vec::new();
        };
        let host = crate::host::Host::real();
        let Ok(dir) = crate::settings::config_dir(&crate::globals::Globals::default(), &host)
        else {
            return Vec::new();
        };
        Profiles::new(dir)
            .names()
            .into_iter()
            .filter(|name| name.starts_with(current))
            .map(|name| CompletionCandidate::new(name).help(None::<StyledStr>))
            .collect()
    })
}
