//! Finding a browser of the Chromium family.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::BrowserError;

/// A browser that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Browser {
    pub(super) program: PathBuf,
    /// The snap's name. A snap can write to a directory of its own only.
    pub(super) snap: Option<String>,
    /// Whether a person chose the program by its path, perhaps a script of their own.
    pub(super) is_path: bool,
}

/// Programs on PATH, the most common first.
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

/// Short names that people use, and how the programs' names begin.
const SHORT: [(&str, &str); 3] = [
    ("chrome", "google-chrome"),
    ("edge", "microsoft-edge"),
    ("brave", "brave-browser"),
];

/// Application bundles of macOS, and the program inside of each.
const BUNDLES: [&str; 5] = [
    "Google Chrome",
    "Chromium",
    "Microsoft Edge",
    "Brave Browser",
    "Vivaldi",
];

impl Browser {
    /// Finds the browser that was asked for by name or path, or else the first one there is.
    pub(crate) fn find(
        asked: Option<&OsStr>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, BrowserError> {
        let Some(asked) = asked else {
            let found = PROGRAMS.iter().find_map(|name| on_path(name, variable));
            let found = found.or_else(|| BUNDLES.iter().find_map(|name| bundle(name, variable)));
            return Self::at(found.ok_or(BrowserError::NotFound(None))?, false);
        };
        let missing = || BrowserError::NotFound(Some(asked.to_string_lossy().into_owned()));
        if asked.as_encoded_bytes().contains(&b'/') {
            let path = std::path::absolute(asked).map_err(|_| missing())?;
            let path = Some(path).filter(|path| is_program(path));
            return Self::at(path.ok_or_else(missing)?, true);
        }
        let name = asked.to_str().ok_or_else(missing)?.to_ascii_lowercase();
        let short = SHORT.iter().find(|(short, _)| *short == name);
        let name = short.map_or(&*name, |(_, program)| program);
        let same = |program: &&&str| program.strip_suffix("-stable").unwrap_or(program) == name;
        let found = on_path(name, variable)
            .or_else(|| {
                PROGRAMS
                    .iter()
                    .filter(same)
                    .find_map(|p| on_path(p, variable))
            })
            .or_else(|| {
                let bundles = BUNDLES.iter();
                let same = |b: &&&str| name.starts_with(&b.to_ascii_lowercase().replace(' ', "-"));
                bundles.filter(same).find_map(|b| bundle(b, variable))
            });
        match found {
            Some(program) => Self::at(program, false),
            None if is_firefox(Path::new(name)) => Err(BrowserError::Unsupported(name.to_owned())),
            None => Err(missing()),
        }
    }

    fn at(program: PathBuf, is_path: bool) -> Result<Self, BrowserError> {
        // A Chromium in a flatpak crashes on inherited descriptors.
        let is_flatpak = program.to_string_lossy().contains("/flatpak/");
        if is_flatpak || is_firefox(&program) {
            return Err(BrowserError::Unsupported(program.display().to_string()));
        }
        Ok(Self {
            snap: snap(&program),
            program,
            is_path,
        })
    }
}

/// Firefox's remote control listens on a port that is open to every local user.
fn is_firefox(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    ["firefox", "librewolf", "safari"]
        .iter()
        .any(|other| name.starts_with(other))
}

/// The name of the snap that the program is or starts.
fn snap(program: &Path) -> Option<String> {
    let name = || Some(program.file_name()?.to_str()?.to_owned());
    let resolved = std::fs::canonicalize(program).ok()?;
    if program.starts_with("/snap/bin")
        || program.starts_with("/var/lib/snapd/snap/bin")
        || resolved.file_name() == Some(OsStr::new("snap"))
    {
        return name();
    }
    // Ubuntu's chromium-browser is a script that starts the snap.
    let is_small = std::fs::metadata(&resolved).is_ok_and(|file| file.len() < 16 * 1024);
    let script = is_small.then(|| std::fs::read(&resolved).ok())??;
    let script = String::from_utf8_lossy(&script);
    let rest = script.split("/snap/bin/").nth(1)?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    Some(rest[..end.unwrap_or(rest.len())].to_owned()).filter(|name| !name.is_empty())
}

fn on_path(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = variable("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|program| is_program(program))
}

fn bundle(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let home = variable("HOME").map(PathBuf::from);
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

    fn find(asked: Option<&str>, dir: &Path) -> Result<Browser, BrowserError> {
        let path = dir.join("bin");
        Browser::find(asked.map(OsStr::new), &|name| {
            (name == "PATH").then(|| path.clone().into_os_string())
        })
    }

    fn program(path: &Path, text: &str) {
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
    fn by_name_path_and_default() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        assert_eq!(find(None, dir), Err(BrowserError::NotFound(None)));
        let edge = dir.join("bin/microsoft-edge-stable");
        program(&edge, "");
        program(&dir.join("bin/vivaldi"), "");
        for asked in [None, Some("edge"), Some("microsoft-edge")] {
            assert_eq!(find(asked, dir).unwrap().program, edge, "{asked:?}");
        }
        let script = dir.join("my browser");
        program(&script, "");
        let by_path = find(script.to_str(), dir).unwrap();
        assert!(by_path.is_path && by_path.program == script);
        for asked in ["brave", "/nowhere/chromium", dir.to_str().unwrap()] {
            assert_eq!(
                find(Some(asked), dir),
                Err(BrowserError::NotFound(Some(asked.into())))
            );
        }
        program(&dir.join("bin/firefox"), "");
        for asked in [
            "firefox",
            "librewolf",
            dir.join("bin/firefox").to_str().unwrap(),
        ] {
            assert!(matches!(
                find(Some(asked), dir),
                Err(BrowserError::Unsupported(_))
            ));
        }
    }

    #[test]
    fn snaps() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        program(
            &dir.join("bin/chromium-browser"),
            "#!/bin/sh\nexec /snap/bin/chromium \"$@\"\n",
        );
        assert_eq!(find(None, dir).unwrap().snap.as_deref(), Some("chromium"));
        program(&dir.join("usr/snap"), "");
        std::os::unix::fs::symlink(dir.join("usr/snap"), dir.join("bin/brave-browser")).unwrap();
        assert_eq!(
            find(Some("brave"), dir).unwrap().snap.as_deref(),
            Some("brave-browser")
        );
        program(
            &dir.join("bin/chromium"),
            "#!/bin/sh\nexec /usr/lib/chromium/chromium \"$@\"\n",
        );
        assert_eq!(find(Some("chromium"), dir).unwrap().snap, None);
    }
}
