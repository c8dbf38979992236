//! Completes values of arguments: names of profiles, and the command of `exec`.
//!
//! A completer runs in a process of its own, before the command line is parsed.
//! It reads the profiles file, and neither the keyring nor the network.

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

/// Completes the names of the profiles, from the profiles file alone.
pub(crate) fn profile_names() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(current) = current.to_str() else {
            return Vec::new();
        };
        let host = Host::real();
        let globals = Globals {
            config_dir: config_dir_of(
                std::env::args_os(),
                (host.variable)("HOME").map(PathBuf::from),
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

/// Completes the stores that have a fixed name.
pub(crate) fn store_kinds() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let kinds = StoreKind::ALL.iter();
        kinds.map(|kind| kind.as_str().into()).collect()
    })
}

/// Completes the command that `exec` runs, then files as its arguments.
pub(crate) fn command_words() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let words: Vec<_> = std::env::args_os().skip(2).collect();
        let mut before = words.iter().skip_while(|word| *word != "exec");
        let has_command = before.any(|word| word == "--") && before.count() > 1;
        let text = current.to_string_lossy();
        if has_command {
            PathCompleter::any().complete(current)
        } else if text.contains(std::path::is_separator) || text.starts_with('~') {
            let runs = |path: &Path| path.is_dir() || is_executable(path);
            PathCompleter::any().filter(runs).complete(current)
        } else {
            commands(&text)
        }
    })
}

/// The programs in `PATH` whose names begin with `start`.
fn commands(start: &str) -> Vec<CompletionCandidate> {
    let path = (Host::real().variable)("PATH").unwrap_or_default();
    let files = std::env::split_paths(&path)
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten());
    let names: std::collections::BTreeSet<_> = files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            (name.starts_with(start) && is_executable(&file.path())).then_some(name)
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

/// The directory of a `--config-dir` among the words typed so far, which come as the
/// shell has them: nobody has expanded `~`.
fn config_dir_of(words: impl Iterator<Item = OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let mut words = words.map(|word| word.to_string_lossy().into_owned());
    let mut found = None;
    while let Some(word) = words.next() {
        if word == "--config-dir" {
            found = words.next();
        } else if let Some(value) = word.strip_prefix("--config-dir=") {
            found = Some(value.to_owned());
        }
    }
    let dir = found?;
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
    fn the_directory_is_found_among_the_words() {
        for (words, dir) in [
            ("rememberizer login --profile", None),
            ("rememberizer --config-dir /a login -p", Some("/a")),
            ("rememberizer --config-dir=/a login -p", Some("/a")),
            ("rememberizer --config-dir='/a' login -p", Some("/a")),
            ("rememberizer -p --config-dir ~/a", Some("/home/ann/a")),
            ("rememberizer --config-dir", None),
        ] {
            let found = config_dir_of(
                words.split(' ').map(OsString::from),
                Some("/home/ann".into()),
            );
            assert_eq!(found, dir.map(PathBuf::from), "{words}");
        }
    }
}
