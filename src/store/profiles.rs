//! `profiles.json`: the profiles, without any secret.
//!
//! A malformed file is an error with a line and a column, and is never reset.
//! Keys that this version does not know survive a rewrite.

mod document;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lock::{self, LockError};
use super::{StoreError, StoreKind, members, private};
use crate::model::{CookieNames, Origin, PageUrl, ProfileName, Timestamp};
use document::{Document, Malformed};

pub(crate) use document::Selected;

/// The version written, and the newest one understood.
const VERSION: u64 = 1;

const FILE: &str = "profiles.json";
const LOCK: &str = "profiles.json.lock";

/// One profile: where its session belongs, where it is stored and how it is renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The server that the session belongs to, if it is not the default one.
    pub(crate) api_url: Option<Origin>,
    /// The login, offered again at the next login.
    pub(crate) login: Option<String>,
    pub(crate) store: Option<StoreKind>,
    /// Whether a session was stored and has not ended since, so that a list needs no keyring.
    pub(crate) signed_in: Option<bool>,
    /// The name of the server's access cookie, if it is not the usual one.
    pub(crate) access_cookie: Option<String>,
    /// The name of the server's refresh cookie, if it is not the usual one.
    pub(crate) refresh_cookie: Option<String>,
    pub(crate) sign_in_url: Option<PageUrl>,
    pub(crate) sign_up_url: Option<PageUrl>,
    /// The `Referer` header to send, for a server that checks it.
    pub(crate) referer: Option<PageUrl>,
    /// Whether the server is known to want a captcha response at login. Recorded, not settable.
    pub(crate) captcha: Option<bool>,
    /// The command and arguments that receive each new refresh token on stdin.
    pub(crate) on_rotate: Vec<String>,
    /// The command and arguments that must succeed before a refresh token is spent.
    pub(crate) on_rotate_check: Vec<String>,
    /// When the user was last warned that the session ends soon.
    pub(crate) end_warned_at: Option<Timestamp>,
    /// The server's clock minus this machine's in milliseconds, as last seen. Only for
    /// sessions that machines share: their entries hold the server's time.
    pub(crate) clock_skew: Option<i64>,
}

impl Profile {
    /// Returns the keys of a profile in the file.
    pub fn keys() -> Vec<String> {
        let value = serde_json::to_value(Self::default()).unwrap_or_default();
        let keys = value.as_object().into_iter().flat_map(Map::keys);
        keys.cloned().collect()
    }

    pub(crate) fn cookie_names(&self) -> CookieNames {
        CookieNames::new(
            self.access_cookie.as_deref(),
            self.refresh_cookie.as_deref(),
        )
    }

    pub(crate) fn origin(&self) -> Origin {
        self.api_url.clone().unwrap_or_default()
    }
}

/// A key in the file that this version does not know, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The key, with the keys above it: `profiles.work.colour`.
    pub path: String,
    /// Its line in the file, from 1.
    pub line: usize,
    /// Its column in the line, from 1.
    pub column: usize,
}

/// Why the profiles file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfilesError {
    /// It cannot be read or written; `what` was to be done.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}:{error}", .path.display())]
    Malformed { path: PathBuf, error: Malformed },
    /// A profile of this name must not be created.
    #[error("{0}")]
    Name(String),
    /// Another process holds the lock of the file.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// The profiles file of one config directory.
#[derive(Debug)]
pub(crate) struct Profiles {
    dir: PathBuf,
}

impl Profiles {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Returns the profile `name`, or the default one, without parsing the others.
    pub(crate) fn select(&self, name: Option<&ProfileName>) -> Result<Selected, ProfilesError> {
        let selected = self.parse(|document| document.select(name))?;
        Ok(selected.unwrap_or_else(|| Selected {
            name: name.cloned().unwrap_or_default(),
            ..Selected::default()
        }))
    }

    /// Returns the default profile's name, and all profiles in the order of the file.
    pub(crate) fn all(&self) -> Result<(ProfileName, Vec<(ProfileName, Profile)>), ProfilesError> {
        Ok(self.parse(|document| document.all())?.unwrap_or_default())
    }

    /// Returns the names for completion; none if the file is malformed.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.parse(|document| Ok(document.names()));
        names.ok().flatten().unwrap_or_default()
    }

    /// Returns the keys that this version does not know.
    pub(crate) fn unknown_keys(&self) -> Result<Vec<UnknownKey>, ProfilesError> {
        let keys = self.parse(|document| document.unknown_keys())?;
        Ok(keys.unwrap_or_default())
    }

    /// Refuses `name` for a new profile if Windows reserves it, or if a profile
    /// exists whose name differs in case only: where file names ignore case,
    /// the two would share a session. Accepts the name of an existing profile.
    pub(crate) fn check_new_name(&self, name: &ProfileName) -> Result<(), ProfilesError> {
        let names = self.parse(|document| Ok(document.names()))?;
        check_new_name(name, names.iter().flatten().map(String::as_str))
    }

    /// Changes one profile, or creates it. Nothing is written if `change` changes
    /// nothing.
    pub(crate) fn update(
        &self,
        name: &ProfileName,
        limit: Duration,
        change: impl FnOnce(&mut Profile),
    ) -> Result<(), ProfilesError> {
        self.rewrite(limit, |document| {
            let profiles = object_at(document, "profiles")?;
            check_new_name(name, profiles.keys().map(String::as_str))?;
            let slot = object_at(profiles, name.as_str())?;
            let mut profile = Profile::deserialize(&*slot).map_err(invalid)?;
            change(&mut profile);
            let known = serde_json::to_value(profile).map_err(invalid)?;
            for (key, value) in known.as_object().into_iter().flatten() {
                if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
                    // Keeps the order of the other keys.
                    slot.shift_remove(key);
                } else {
                    slot.insert(key.clone(), value.clone());
                }
            }
            Ok(())
        })
    }

    /// Makes `name` the default profile.
    pub(crate) fn set_default(
        &self,
        name: &ProfileName,
        limit: Duration,
    ) -> Result<(), ProfilesError> {
        self.rewrite(limit, |document| {
            document.insert("default".to_owned(), Value::from(name.as_str()));
            Ok(())
        })
    }

    /// Removes a profile. If it was the default one, the setting is removed, too.
    pub(crate) fn remove(&self, name: &ProfileName, limit: Duration) -> Result<(), ProfilesError> {
        self.rewrite(limit, |document| {
            object_at(document, "profiles")?.shift_remove(name.as_str());
            if document.get("default").and_then(Value::as_str) == Some(name.as_str()) {
                document.shift_remove("default");
            }
            Ok(())
        })
    }

    /// Checks that the file is valid and that a file can be written beside it,
    /// before anything depends on it.
    pub(crate) fn prove_writable(&self) -> Result<(), ProfilesError> {
        self.all()?;
        self.create_dir()?;
        let target = self.target();
        let dir = target.parent().unwrap_or(&self.dir);
        tempfile::Builder::new()
            .prefix(".profiles")
            .tempfile_in(dir)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &[b' '; 4096]))
            .map_err(|e| self.io_error("write", &target, e))
    }

    fn create_dir(&self) -> Result<(), ProfilesError> {
        private::create_dir(&self.dir).map_err(|e| self.io_error("create", &self.dir, e))
    }

    /// Resolves `profiles.json` if it is a link: people keep such files in a
    /// repository, and a rename would replace the link.
    fn target(&self) -> PathBuf {
        let path = self.path();
        private::resolve_links(&path).unwrap_or(path)
    }

    fn rewrite(
        &self,
        limit: Duration,
        change: impl FnOnce(&mut Map<String, Value>) -> Result<(), ProfilesError>,
    ) -> Result<(), ProfilesError> {
        self.create_dir()?;
        let _lock = lock::acquire(&self.dir.join(LOCK), limit)?;
        // An invalid file is not changed.
        self.all()?;
        let before = self.text()?;
        let mut document = match &before {
            None => Map::from_iter([("version".to_owned(), Value::from(VERSION))]),
            Some(text) => serde_json::from_str(text).map_err(invalid)?,
        };
        let original = document.clone();
        change(&mut document)?;
        if before.is_some() && document == original {
            return Ok(());
        }
        let mut bytes = serde_json::to_vec_pretty(&document).map_err(invalid)?;
        bytes.push(b'\n');
        let target = self.target();
        private::replace(&target, &bytes).map_err(|e| self.io_error("write", &target, e))
    }

    /// Parses the file and returns the result of `read`; `None` if there is no file.
    fn parse<T>(
        &self,
        read: impl FnOnce(Document<'_>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, ProfilesError> {
        let Some(text) = self.text()? else {
            return Ok(None);
        };
        let result = Document::parse(&text).and_then(read);
        let path = self.path();
        result
            .map(Some)
            .map_err(|error| ProfilesError::Malformed { path, error })
    }

    fn text(&self) -> Result<Option<String>, ProfilesError> {
        let path = self.path();
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.io_error("read", &path, e)),
        }
    }

    fn io_error(&self, what: &'static str, path: &Path, source: std::io::Error) -> ProfilesError {
        ProfilesError::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

impl From<StoreError> for ProfilesError {
    fn from(error: StoreError) -> Self {
        Self::Lock(LockError::Store(error))
    }
}

fn check_new_name<'a>(
    name: &ProfileName,
    mut existing: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), ProfilesError> {
    if existing.clone().any(|other| other == name.as_str()) {
        return Ok(());
    }
    if name.is_reserved_by_windows() {
        return Err(ProfilesError::Name(format!(
            "a profile cannot be named {name}: Windows reserves that name"
        )));
    }
    match existing.find(|other| other.eq_ignore_ascii_case(name.as_str())) {
        Some(other) => Err(ProfilesError::Name(format!(
            "a profile cannot be named {name}: there is a profile {other}, which differs in case only"
        ))),
        None => Ok(()),
    }
}

/// Returns the object at `key`, which is created if it is missing.
fn object_at<'a>(
    parent: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, ProfilesError> {
    let value = parent.entry(key).or_insert_with(|| Map::new().into());
    let not_an_object = || invalid(std::io::Error::other(format!("{key} is not an object")));
    value.as_object_mut().ok_or_else(not_an_object)
}

fn invalid(error: impl Into<std::io::Error>) -> ProfilesError {
    ProfilesError::Io {
        what: "rewrite",
        path: FILE.into(),
        source: error.into(),
    }
}
