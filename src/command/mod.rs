//! The commands, one file per command. To add a command, add its file, a `mod` line, and a
//! line in `commands!`.
//!
//! Building the arguments of all commands for clap takes as long as the rest of a short
//! run. So we add arguments only to the commands whose names are in the command line.
//! `clap::Command::defer` is no alternative: clap still copies the global flags into each
//! command (60 % more instructions for `--version`), and lists them above the command's
//! own flags in the help.

mod api;
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
mod sign_in;
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
    pub(crate) globals: Globals,
    pub(crate) command: Command,
}

/// A command for clap: its name, its line in the help, and the function that adds its
/// arguments.
struct CommandEntry {
    name: &'static str,
    about: &'static str,
    visibility: Visibility,
    add_arguments: fn(clap::Command) -> clap::Command,
}

/// Whether the help and the completion list a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visibility {
    Listed,
    Hidden,
}

impl CommandEntry {
    fn is_named_in(&self, words: &[OsString]) -> bool {
        words.iter().any(|word| word == self.name)
    }

    fn without_arguments(&self) -> clap::Command {
        clap::Command::new(self.name)
            .about(self.about)
            .hide(self.visibility == Visibility::Hidden)
    }

    fn with_arguments(&self) -> clap::Command {
        (self.add_arguments)(self.without_arguments())
    }
}

/// Defines `COMMANDS` and `Command`, in the order of the help. Each line names a module that
/// contains `Args` and `run`.
macro_rules! commands {
    ($($module:ident $variant:ident $visibility:ident $about:literal)*) => {
        const COMMANDS: &[CommandEntry] = &[$(CommandEntry {
            name: stringify!($module),
            about: $about,
            visibility: Visibility::$visibility,
            add_arguments: $module::Args::augment_args,
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
    signup Signup Listed "Create an account"
    login Login Listed "Sign in"
    verify Verify Listed "Confirm the e-mail address"
    refresh Refresh Listed "Renew the tokens now"
    logout Logout Listed "Sign out"
    whoami Whoami Listed "Show who is signed in"
    token Token Listed "Print the access token, renewing it if it is about to expire"
    exec Exec Listed "Run a command with the access token in its environment"
    api Api Listed "Send an authenticated request"
    profile Profile Listed "Manage profiles, one per account or server"
    doctor Doctor Listed "Check the setup and suggest fixes"
    completions Completions Listed "Print the completion script for a shell"
    man Man Hidden "Write the manual pages into a directory, one per command"
    store Store Hidden "Serve this machine's secret store to other machines"
}

fn program() -> clap::Command {
    Program::augment_args(clap::Command::new("rememberizer"))
}

/// Returns the program with global flags that clap does not propagate to the commands.
fn program_with_unpropagated_globals() -> clap::Command {
    program().mut_args(|arg| arg.global(false))
}

impl Cli {
    /// Returns the program with all commands and their arguments.
    pub fn command() -> clap::Command {
        program().subcommands(COMMANDS.iter().map(CommandEntry::with_arguments))
    }

    /// Parses the command line. The first word is the name of the program.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, clap::Error> {
        let named_commands: Vec<_> = COMMANDS
            .iter()
            .filter(|entry| entry.is_named_in(words))
            .collect();
        let partial = if named_commands.is_empty() {
            program_with_unpropagated_globals()
                .subcommands(COMMANDS.iter().map(CommandEntry::without_arguments))
        } else {
            program().subcommands(named_commands.iter().map(|entry| entry.with_arguments()))
        };
        let matches = match partial.try_get_matches_from(words) {
            // Errors and help can depend on the arguments of all commands, so parse again with
            // all of them. Two texts never do: that of `--version`, and that of `--help`
            // without a command.
            Err(error)
                if !(named_commands.is_empty() && error.kind() == ErrorKind::DisplayHelp)
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

    /// Returns the command line that prints the help of the command that `words` names.
    pub(crate) fn help_command(words: &[OsString]) -> String {
        let program = Self::command();
        let takes_value = |word: &OsString| {
            let mut options = program
                .get_arguments()
                .filter(|arg| arg.get_action().takes_values());
            options.any(|arg| {
                let long = arg.get_long().map(|name| format!("--{name}"));
                let short = arg.get_short().map(|name| format!("-{name}"));
                [long, short]
                    .into_iter()
                    .flatten()
                    .any(|name| *word == *name)
            })
        };
        let mut command = &program;
        let mut line = program.get_name().to_owned();
        let mut words = words.iter().skip(1).take_while(|word| *word != "--");
        while let Some(word) = words.next() {
            if takes_value(word) {
                // The value may equal the name of a command.
                words.next();
            } else if let Some(subcommand) = command.find_subcommand(word) {
                line = format!("{line} {}", subcommand.get_name());
                command = subcommand;
            }
        }
        line + " --help"
    }

    /// Returns the program with the arguments that completing `words` needs.
    pub fn for_completion(words: &[OsString]) -> clap::Command {
        program_with_unpropagated_globals().subcommands(COMMANDS.iter().map(|entry| {
            if entry.is_named_in(words) {
                Globals::augment_args(entry.with_arguments())
            } else {
                entry.without_arguments()
            }
        }))
    }
}

impl Command {
    pub(crate) fn purpose(&self) -> Purpose {
        match self {
            Self::Signup(_) | Self::Login(_) => Purpose::StartSession,
            // Starts no session, but `--store` takes precedence over the profile.
            Self::Store(_) => Purpose::StartSession,
            Self::Profile(_) => Purpose::ManageProfiles,
            Self::Doctor(_) => Purpose::Diagnose,
            Self::Completions(_) | Self::Man(_) => Purpose::PrintOnly,
            Self::Verify(_)
            | Self::Refresh(_)
            | Self::Logout(_)
            | Self::Whoami(_)
            | Self::Token(_)
            | Self::Exec(_)
            | Self::Api(_) => Purpose::UseSession,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_line(arguments: &str) -> Vec<OsString> {
        let words = std::iter::once("rememberizer").chain(arguments.split_whitespace());
        words.map(OsString::from).collect()
    }

    #[test]
    fn the_table_matches_the_arguments() {
        let commands = Command::augment_subcommands(program());
        let names: Vec<_> = commands.get_subcommands().map(|c| c.get_name()).collect();
        assert!(COMMANDS.iter().map(|entry| entry.name).eq(names));
        for entry in COMMANDS {
            let about = |command: clap::Command| command.get_about().map(ToString::to_string);
            let from_args = (entry.add_arguments)(clap::Command::new(entry.name));
            assert_eq!(
                about(from_args),
                Some(entry.about.to_owned()),
                "{}",
                entry.name
            );
        }
    }

    #[test]
    fn help_command_ignores_words_that_are_not_commands() {
        for (line, help_command) in [
            ("help nonsense", "rememberizer --help"),
            ("help login", "rememberizer login --help"),
            ("profile set x", "rememberizer profile set --help"),
            ("-p token whoami", "rememberizer whoami --help"),
            ("--profile login", "rememberizer --help"),
            ("whoami -- token", "rememberizer whoami --help"),
        ] {
            let words = command_line(line);
            assert_eq!(Cli::help_command(&words), help_command, "{line}");
        }
    }

    #[test]
    fn errors_do_not_depend_on_which_arguments_were_built() {
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
            let words = command_line(line);
            let partial = Cli::parse(&words).map_err(|e| e.to_string());
            let full = Cli::command()
                .try_get_matches_from(&words)
                .map_err(|e| e.to_string());
            assert_eq!(partial.err(), full.err(), "{line}");
        }
    }
}
