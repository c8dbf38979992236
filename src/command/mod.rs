//! The commands, one file each: its arguments, then what it does. A new one is
//! a file, a `mod` line, a variant and an arm below.

mod api;
pub mod captcha;
pub mod completions;
mod doctor;
mod exec;
mod input;
mod login;
mod logout;
mod man;
mod profile;
mod refresh;
mod report;
mod signup;
mod token;
mod verify;
mod whoami;

use clap::{Parser, Subcommand};

use crate::context::Context;
use crate::globals::Globals;
use crate::settings::Purpose;

/// Keeps your account session with the Rememberizer API: sign up, log in,
/// verify the e-mail address, renew the tokens, log out, say who is signed in.
#[derive(Debug, Parser)]
#[command(
    name = "rememberizer",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 80,
    after_help = "\
Examples:
  rememberizer login ann@example.com
  rememberizer whoami --json

Exit codes:
  0 done                    5 unavailable: try again
  1 anything else           6 the secret store
  2 bad flags or input      7 a captcha is wanted
  3 not signed in           8 too many requests
  4 refused by the server   9 another process is busy
  129, 130, 143: ended by SIGHUP, Ctrl-C, SIGTERM"
)]
pub struct Cli {
    /// The flags that every command takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "a comment here would replace the help text, which is that of each command's Args"
)]
pub enum Command {
    Signup(signup::Args),
    Login(login::Args),
    Verify(verify::Args),
    Refresh(refresh::Args),
    Logout(logout::Args),
    Whoami(whoami::Args),
    Token(token::Args),
    Exec(exec::Args),
    Api(api::Args),
    Profile(profile::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Man(man::Args),
}

impl Command {
    /// How the command treats flags that differ from the profile.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::Signup(_) | Self::Login(_) => Purpose::Begin,
            Self::Profile(_) => Purpose::Inspect,
            Self::Doctor(_) => Purpose::Diagnose,
            _ => Purpose::Use,
        }
    }

    /// Runs a command that needs no settings, or hands it back.
    pub fn run_bare(self, host: &crate::host::Host) -> Result<Result<(), anyhow::Error>, Self> {
        match self {
            Self::Completions(args) => Ok(completions::run(&args, &host.terminal)),
            Self::Man(args) => Ok(man::run(&args, host)),
            other => Err(other),
        }
    }

    /// Runs the command.
    pub fn run(self, context: &Context<'_>) -> Result<(), anyhow::Error> {
        match self {
            Self::Signup(args) => signup::run(&args, context),
            Self::Login(args) => login::run(&args, context),
            Self::Verify(args) => verify::run(&args, context),
            Self::Refresh(args) => refresh::run(&args, context),
            Self::Logout(args) => logout::run(&args, context),
            Self::Whoami(args) => whoami::run(&args, context),
            Self::Token(args) => token::run(&args, context),
            Self::Exec(args) => exec::run(&args, context),
            Self::Api(args) => api::run(&args, context),
            Self::Profile(args) => profile::run(&args, context),
            Self::Doctor(args) => doctor::run(&args, context),
            Self::Completions(args) => completions::run(&args, context.terminal),
            Self::Man(args) => man::run(&args, context.host),
        }
    }
}
