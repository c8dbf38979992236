//! The commands, one file per command: its arguments, then what it does. A new
//! one is a file, a `mod` line and a line of `commands!`.
//!
//! Describing all commands to clap takes as long as the rest of a short run, so
//! only those that the command line names are described in full.
//! `Command::defer` does not replace this: clap copies the global flags into each
//! command all the same (60 % more instructions for `--version`), and puts them
//! above the command's own flags in its help.

mod api;
mod begin;
mod captcha;
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
mod store;
mod takeover;
mod token;
mod verify;
mod whoami;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Args as _, FromArgMatches, Subcommand};

use crate::context::Context;
use crate::error::Error;
use crate::globals::Globals;
use crate::settings::Purpose;

/// Sign in to Rememberizer, and use its API from commands and scripts
#[derive(Debug, clap::Args)]
#[command(
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 80,
    after_help = "\
Examples:
  rememberizer login ann@example.com
  rememberizer whoami --json

Exit codes:
  0 done                    5 unavailable, try again
  1 any other error         6 secret store failed
  2 bad or missing input    7 captcha required
  3 not signed in           8 too many requests
  4 refused by the server   9 locked by another process
  129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM"
)]
struct Program {
    #[command(flatten)]
    globals: Globals,
}

/// The parsed command line.
#[derive(Debug)]
pub struct Cli {
    /// The flags that every command takes.
    pub(crate) globals: Globals,
    /// The command and its arguments.
    pub(crate) command: Command,
}

/// A command: its line in the program's help, and the function that adds its arguments.
struct Row {
    name: &'static str,
    about: &'static str,
    arguments: fn(clap::Command) -> clap::Command,
}

impl Row {
    fn is_among(&self, words: &[OsString]) -> bool {
        words.iter().any(|word| word == self.name)
    }

    fn without_arguments(&self) -> clap::Command {
        clap::Command::new(self.name)
            .about(self.about)
            .hide(matches!(self.name, "man" | "store"))
    }

    fn with_arguments(&self) -> clap::Command {
        (self.arguments)(self.without_arguments())
    }
}

/// Defines the commands in the order of the help. Each is a module with `Args` and `run`.
macro_rules! commands {
    ($($module:ident $variant:ident $about:literal)*) => {
        const ROWS: &[Row] = &[$(Row {
            name: stringify!($module),
            about: $about,
            arguments: $module::Args::augment_args,
        }),*];

        /// A command and its arguments.
        #[derive(Debug, Subcommand)]
        pub(crate) enum Command {
            $($variant($module::Args)),*
        }

        impl Command {
            pub(crate) fn run(&self, context: &Context<'_>) -> Result<(), Error> {
                match self {
                    $(Self::$variant(args) => $module::run(args, context)),*
                }
            }
        }
    };
}

commands! {
    signup Signup "Create an account"
    login Login "Sign in"
    verify Verify "Confirm the e-mail address"
    refresh Refresh "Renew the tokens now"
    logout Logout "Sign out"
    whoami Whoami "Show who is signed in"
    token Token "Print the access token, renewing it if it is about to expire"
    exec Exec "Run a command with the access token in its environment"
    api Api "Send an authenticated request"
    profile Profile "Manage profiles, one per account or server"
    doctor Doctor "Check the setup and suggest fixes"
    completions Completions "Print the completion script for a shell"
    man Man "Write the manual pages into a directory, one per command"
    store Store "Serve this machine's secret store to other machines"
}

fn program() -> clap::Command {
    Program::augment_args(clap::Command::new("rememberizer"))
}

/// Describes the program without copying the global flags into every command.
fn program_without_globals() -> clap::Command {
    program().mut_args(|arg| arg.global(false))
}

impl Cli {
    /// Describes all commands.
    pub fn command() -> clap::Command {
        program().subcommands(ROWS.iter().map(Row::with_arguments))
    }

    /// Parses the command line. The first word is the name of the program.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, clap::Error> {
        let named: Vec<_> = ROWS.iter().filter(|row| row.is_among(words)).collect();
        let partial = if named.is_empty() {
            program_without_globals().subcommands(ROWS.iter().map(Row::without_arguments))
        } else {
            program().subcommands(named.iter().map(|row| row.with_arguments()))
        };
        let matches = match partial.try_get_matches_from(words) {
            // Help and errors may mention every command.
            Err(error)
                if !(named.is_empty() && error.kind() == ErrorKind::DisplayHelp)
                    && error.kind() != ErrorKind::DisplayVersion =>
            {
                Self::command().try_get_matches_from(words)
            }
            result => result,
        }?;
        Ok(Self {
            globals: Globals::from_arg_matches(&matches)?,
            command: Command::from_arg_matches(&matches)?,
        })
    }

    /// Returns the command line that prints the help of the command in `words`.
    pub(crate) fn help_command(words: &[OsString]) -> String {
        let program = Self::command();
        let mut command = &program;
        let mut line = program.get_name().to_owned();
        for word in words.iter().skip(1).take_while(|word| *word != "--") {
            if let Some(inner) = command.find_subcommand(word) {
                line = format!("{line} {}", inner.get_name());
                command = inner;
            }
        }
        line + " --help"
    }

    /// Describes what the completion of `words` needs.
    pub fn to_complete(words: &[OsString]) -> clap::Command {
        program_without_globals().subcommands(ROWS.iter().map(|row| {
            if row.is_among(words) {
                Globals::augment_args(row.with_arguments())
            } else {
                row.without_arguments()
            }
        }))
    }
}

impl Command {
    pub(crate) fn purpose(&self) -> Purpose {
        match self {
            Self::Signup(_) | Self::Login(_) | Self::Store(_) => Purpose::Begin,
            Self::Profile(_) => Purpose::Inspect,
            Self::Doctor(_) | Self::Completions(_) | Self::Man(_) => Purpose::Diagnose,
            _ => Purpose::Use,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_commands_with_their_titles() {
        let commands = Command::augment_subcommands(program());
        let names: Vec<_> = commands.get_subcommands().map(|c| c.get_name()).collect();
        assert!(ROWS.iter().map(|row| row.name).eq(names));
        for row in ROWS {
            let about = |command: clap::Command| command.get_about().map(ToString::to_string);
            let own = (row.arguments)(clap::Command::new(row.name));
            assert_eq!(about(own), Some(row.about.to_owned()), "{}", row.name);
        }
    }

    #[test]
    fn a_partial_description_parses_as_the_full_one() {
        for line in [
            "",
            "--help",
            "-h",
            "--version",
            "--help login",
            "login --help",
            "login --version",
            "profile set --help",
            "-p token -h",
            "logn",
            "login --emial a@b",
            "--email a@b",
            "--store nowhere",
            "--profile",
            "profile lits",
            "token whoami",
        ] {
            let words: Vec<OsString> = std::iter::once("rememberizer")
                .chain(line.split_whitespace())
                .map(OsString::from)
                .collect();
            let part = Cli::parse(&words).map_err(|e| e.to_string());
            let whole = Cli::command()
                .try_get_matches_from(&words)
                .map_err(|e| e.to_string());
            assert_eq!(part.err(), whole.err(), "{line}");
        }
    }
}
