//! `store serve`: gives other machines access to this machine's secret store, over the
//! protocol of store helpers. Hidden from the help, since only scripts run it.

use crate::context::Context;
use crate::error::Error;

/// Serve this machine's secret store to other machines
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Speak the protocol of store helpers on stdin and stdout
    #[command(after_help = "\
Example, as the program rememberizer-store-ssh in PATH:
  #!/bin/sh
  exec ssh -o BatchMode=yes \"$1\" rememberizer --store file store serve")]
    Serve,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let Action::Serve = args.action;
    let server = context.store_server()?;
    let mut print = |line: &[u8]| context.terminal.print_bytes(line);
    Ok(server.run(&mut std::io::stdin().lock(), &mut print)?)
}
