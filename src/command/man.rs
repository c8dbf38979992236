//! `man`: the manual pages, from the same tree as the help. Hidden: packagers use it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory;

use super::Cli;

/// Write the manual pages into a directory, one a command
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory, which must exist
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: PathBuf,
}

/// Writes the pages.
pub(super) fn run(args: &Args) -> Result<(), anyhow::Error> {
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .with_context(|| format!("cannot write the manual pages into {}", args.dir.display()))
}
