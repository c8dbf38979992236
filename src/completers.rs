//! Completes the values of arguments: profile names, stores, and the command of `exec`.
//!
//! The shell runs this program to get the candidates, before the user has finished the
//! command line. Completers must not use the keyring or the network.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};

use crate::globals::Globals;
use crate::host::Host;
use crate::model::ProfileName;
use crate::settings::config_dir;
use crate::store::{Profiles, StoreKind};

/// Completes profile names. Reads only the profiles file.
pub(crate) fn profile_names() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(current) = current.to_str() else {
            return Vec::new();
        };
        let host = Host::real();
        let globals = Globals {
            config_dir: config_dir_in_words(
                std::env::args_os(),
                (host.read_variable)("HOME").map(PathBuf::from),
            ),
            ..Globals::default()
        };
        let Ok(dir) = config_dir(&globals, &host) else {
            return Vec::new();
        };
        Profiles::new(dir)
            .names()
            .into_iter()
            .filter(|name| name.starts_with(current) && name.parse::<ProfileName>().is_ok())
            .map(|name| CompletionCandidate::new(name).help(None::<StyledStr>))
            .collect()
    })
}

/// Completes `keyring` and `file`. Names of helpers are not completed.
pub(crate) fn store_kinds() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let kinds = StoreKind::BUILT_IN.iter();
        kinds.map(|kind| kind.as_str().into()).collect()
    })
}

/// Completes the command that `exec` runs, then files as its arguments.
pub(crate) fn command_words() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let words: Vec<_> = std::env::args_os().skip(2).collect();
        let mut exec_words = words.iter().skip_while(|word| *word != "exec");
        // `any` consumes the words up to `--`. The last of the other words is the one to
        // complete.
        let has_command = exec_words.any(|word| word == "--") && exec_words.count() > 1;
        let text = current.to_string_lossy();
        if has_command {
            PathCompleter::any().complete(current)
        } else if text.contains(std::path::is_separator) || text.starts_with('~') {
            let is_candidate = |path: &Path| path.is_dir() || is_executable(path);
            PathCompleter::any().filter(is_candidate).complete(current)
        } else {
            programs_in_path(&text)
        }
    })
}

/// Returns the programs in `PATH` whose names start with `prefix`.
fn programs_in_path(prefix: &str) -> Vec<CompletionCandidate> {
    let path = (Host::real().read_variable)("PATH").unwrap_or_default();
    let files = std::env::split_paths(&path)
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten());
    let names: std::collections::BTreeSet<_> = files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            (name.starts_with(prefix) && is_executable(&file.path())).then_some(name)
        })
        .collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

/// Returns the value of `--config-dir` in the words typed so far. Removes quotes and
/// expands `~/`, since the shell passes the words unexpanded.
fn config_dir_in_words(
    words: impl Iterator<Item = OsString>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    let mut words = words.map(|word| word.to_string_lossy().into_owned());
    let mut value = None;
    while let Some(word) = words.next() {
        if word == "--config-dir" {
            value = words.next();
        } else if let Some(text) = word.strip_prefix("--config-dir=") {
            value = Some(text.to_owned());
        }
    }
    let dir = value?;
    let dir = dir.trim_matches(['"', '\'']);
    match (dir.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Some(home.join(rest)),
        _ => Some(PathBuf::from(dir)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_dir_is_read_from_the_words() {
        for (words, dir) in [
            ("rememberizer login --profile", None),
            ("rememberizer --config-dir /a login -p", Some("/a")),
            ("rememberizer --config-dir=/a login -p", Some("/a")),
            ("rememberizer --config-dir='/a' login -p", Some("/a")),
            ("rememberizer -p --config-dir ~/a", Some("/home/ann/a")),
            ("rememberizer --config-dir", None),
        ] {
            let found = config_dir_in_words(
                words.split(' ').map(OsString::from),
                Some("/home/ann".into()),
            );
            assert_eq!(found, dir.map(PathBuf::from), "{words}");
        }
    }
}
