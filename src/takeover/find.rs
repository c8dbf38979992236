//! Finds an installed browser of the Chromium family.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{BrowserError, EnvLookup};

/// An installed browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Browser {
    pub(super) program: PathBuf,
    /// Name of the snap, if the browser is a snap. A snap can write only below `~/snap/NAME`.
    pub(super) snap: Option<String>,
    /// Whether the user gave the path of the program, which may be a script.
    pub(super) chosen_by_path: bool,
}

/// Programs to search for on PATH, most common first.
const PROGRAMS: [&str; 9] = [
    "google-chrome",
    "google-chrome-stable",
    "chromium",
    "chromium-browser",
    "microsoft-edge",
    "microsoft-edge-stable",
    "brave-browser",
    "vivaldi",
    "vivaldi-stable",
];

/// Short names that users may give, with the program that each stands for.
const ALIASES: [(&str, &str); 3] = [
    ("chrome", "google-chrome"),
    ("edge", "microsoft-edge"),
    ("brave", "brave-browser"),
];

/// Application bundles of macOS. The program in a bundle has the same name.
const BUNDLES: [&str; 5] = [
    "Google Chrome",
    "Chromium",
    "Microsoft Edge",
    "Brave Browser",
    "Vivaldi",
];

impl Browser {
    /// Finds the browser with the requested name or path. If `requested` is `None`, finds the
    /// first installed browser.
    pub(crate) fn find(
        requested: Option<&OsStr>,
        env: EnvLookup<'_>,
    ) -> Result<Self, BrowserError> {
        let Some(requested) = requested else {
            let found = PROGRAMS.iter().find_map(|name| find_on_path(name, env));
            let found = found.or_else(|| BUNDLES.iter().find_map(|name| bundle_program(name, env)));
            return Self::new(found.ok_or(BrowserError::NotFound(None))?);
        };
        let not_found = || BrowserError::NotFound(Some(requested.to_string_lossy().into_owned()));
        if requested.as_encoded_bytes().contains(&b'/') {
            let path = std::path::absolute(requested).map_err(|_| not_found())?;
            let path = Some(path).filter(|path| is_program(path));
            return Ok(Self {
                chosen_by_path: true,
                ..Self::new(path.ok_or_else(not_found)?)?
            });
        }
        let name = requested
            .to_str()
            .ok_or_else(not_found)?
            .to_ascii_lowercase();
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
        let name = alias.map_or(&*name, |(_, program)| program);
        let has_name = |program: &&&str| program.strip_suffix("-stable").unwrap_or(program) == name;
        let found = find_on_path(name, env)
            .or_else(|| {
                PROGRAMS
                    .iter()
                    .filter(has_name)
                    .find_map(|p| find_on_path(p, env))
            })
            .or_else(|| {
                let bundles = BUNDLES.iter();
                let has_name =
                    |b: &&&str| name.starts_with(&b.to_ascii_lowercase().replace(' ', "-"));
                bundles
                    .filter(has_name)
                    .find_map(|b| bundle_program(b, env))
            });
        match found {
            Some(program) => Self::new(program),
            None if is_unsupported(Path::new(name)) => {
                Err(BrowserError::Unsupported(name.to_owned()))
            }
            None => Err(not_found()),
        }
    }

    fn new(program: PathBuf) -> Result<Self, BrowserError> {
        // Chromium in a flatpak crashes on the descriptors that it inherits.
        let is_flatpak = program.to_string_lossy().contains("/flatpak/");
        if is_flatpak || is_unsupported(&program) {
            return Err(BrowserError::Unsupported(program.display().to_string()));
        }
        Ok(Self {
            snap: snap_name(&program),
            program,
            chosen_by_path: false,
        })
    }
}

/// Returns whether the program is a browser without `--remote-debugging-pipe`. Firefox, for
/// example, offers remote control only on a port that every local user can connect to.
fn is_unsupported(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    ["firefox", "librewolf", "safari"]
        .iter()
        .any(|other| name.starts_with(other))
}

/// Returns the name of the snap if the program is a snap, or a script that starts one.
fn snap_name(program: &Path) -> Option<String> {
    let name = || Some(program.file_name()?.to_str()?.to_owned());
    let resolved = std::fs::canonicalize(program).ok()?;
    if program.starts_with("/snap/bin")
        || program.starts_with("/var/lib/snapd/snap/bin")
        || resolved.file_name() == Some(OsStr::new("snap"))
    {
        return name();
    }
    // On Ubuntu, chromium-browser is a script that starts the snap.
    let is_small = std::fs::metadata(&resolved).is_ok_and(|file| file.len() < 16 * 1024);
    let script = is_small.then(|| std::fs::read(&resolved).ok())??;
    let script = String::from_utf8_lossy(&script);
    let rest = script.split("/snap/bin/").nth(1)?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    Some(rest[..end.unwrap_or(rest.len())].to_owned()).filter(|name| !name.is_empty())
}

fn find_on_path(name: &str, env: EnvLookup<'_>) -> Option<PathBuf> {
    let path = env("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|program| is_program(program))
}

fn bundle_program(name: &str, env: EnvLookup<'_>) -> Option<PathBuf> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let home = env("HOME").map(PathBuf::from);
    let homes = home.into_iter().map(|home| home.join("Applications"));
    std::iter::once(PathBuf::from("/Applications"))
        .chain(homes)
        .map(|dir| dir.join(format!("{name}.app/Contents/MacOS/{name}")))
        .find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(requested: Option<&str>, dir: &Path) -> Result<Browser, BrowserError> {
        let path = dir.join("bin");
        Browser::find(requested.map(OsStr::new), &|name| {
            (name == "PATH").then(|| path.clone().into_os_string())
        })
    }

    fn write_program(path: &Path, text: &str) {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .mode(0o755)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn finds_a_browser_by_name_by_path_or_the_first() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        assert_eq!(find(None, dir), Err(BrowserError::NotFound(None)));
        let edge = dir.join("bin/microsoft-edge-stable");
        write_program(&edge, "");
        write_program(&dir.join("bin/vivaldi"), "");
        for requested in [None, Some("edge"), Some("microsoft-edge")] {
            assert_eq!(find(requested, dir).unwrap().program, edge, "{requested:?}");
        }
        let script = dir.join("my browser");
        write_program(&script, "");
        let by_path = find(script.to_str(), dir).unwrap();
        assert!(by_path.chosen_by_path && by_path.program == script);
        for requested in ["brave", "/nowhere/chromium", dir.to_str().unwrap()] {
            assert_eq!(
                find(Some(requested), dir),
                Err(BrowserError::NotFound(Some(requested.into())))
            );
        }
        write_program(&dir.join("bin/firefox"), "");
        for requested in [
            "firefox",
            "librewolf",
            dir.join("bin/firefox").to_str().unwrap(),
        ] {
            assert!(matches!(
                find(Some(requested), dir),
                Err(BrowserError::Unsupported(_))
            ));
        }
    }

    #[test]
    fn detects_snaps() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        write_program(
            &dir.join("bin/chromium-browser"),
            "#!/bin/sh\nexec /snap/bin/chromium \"$@\"\n",
        );
        assert_eq!(find(None, dir).unwrap().snap.as_deref(), Some("chromium"));
        write_program(&dir.join("usr/snap"), "");
        std::os::unix::fs::symlink(dir.join("usr/snap"), dir.join("bin/brave-browser")).unwrap();
        assert_eq!(
            find(Some("brave"), dir).unwrap().snap.as_deref(),
            Some("brave-browser")
        );
        write_program(
            &dir.join("bin/chromium"),
            "#!/bin/sh\nexec /usr/lib/chromium/chromium \"$@\"\n",
        );
        assert_eq!(find(Some("chromium"), dir).unwrap().snap, None);
    }
}
