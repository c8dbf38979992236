//! `api`: one authenticated request, its body streamed to stdout.
use crate::context::Context;

/// Send one authenticated request
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The path, under the API's base URL
    pub path: String,
}

/// Sends it.
pub(super) fn run(_args: &Args, _context: &Context<'_>) -> Result<(), anyhow::Error> {
    Ok(())
}
