//! `doctor`: what works.
use crate::context::Context;

/// Say what works
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Looks.
pub(super) fn run(_args: &Args, _context: &Context<'_>) -> Result<(), anyhow::Error> {
    Ok(())
}
