//! Reads and writes `profiles.json`, which holds the profiles and no secrets.
//!
//! A malformed file is reported with line and column, and is never overwritten. Keys that
//! this version does not know are kept when the file is rewritten.

mod document;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lock::{self, LockError};
use super::{StoreKind, lazy_object, private_files};
use crate::model::{ApiUrl, CookieNames, PageUrl, ProfileName, Timestamp};
use document::{Document, MalformedFile};

pub(crate) use document::SelectedProfile;

/// The version that is written, and the newest version that can be read.
const VERSION: u64 = 1;

const FILE_NAME: &str = "profiles.json";
const LOCK_FILE_NAME: &str = "profiles.json.lock";

/// One profile: where its session belongs, where it is stored and how it is renewed.
///
/// No field may have `skip_serializing_if`: [`Profile::keys`] and [`Profiles::update`] need the
/// fields without a value too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The server that the session belongs to, if it is not the default one.
    pub(crate) api_url: Option<ApiUrl>,
    /// The e-mail address or user name, suggested at the next login.
    pub(crate) login: Option<String>,
    pub(crate) store: Option<StoreKind>,
    /// Whether a session is stored. Cached, so that listing the profiles reads no keyring.
    pub(crate) signed_in: Option<bool>,
    /// The name of the server's access cookie, if it is not the default name.
    pub(crate) access_cookie: Option<String>,
    /// The name of the server's refresh cookie, if it is not the default name.
    pub(crate) refresh_cookie: Option<String>,
    pub(crate) sign_in_url: Option<PageUrl>,
    pub(crate) sign_up_url: Option<PageUrl>,
    /// The `Referer` header to send, for a server that checks it.
    pub(crate) referer: Option<PageUrl>,
    /// Whether the server has required a captcha response. Users cannot set it.
    pub(crate) captcha: Option<bool>,
    /// The command and arguments that receive each new refresh token on stdin.
    pub(crate) on_rotate: Vec<String>,
    /// The command and arguments that must succeed before a refresh token is exchanged.
    pub(crate) on_rotate_check: Vec<String>,
    /// When the user was last warned that the session ends soon.
    pub(crate) end_warned_at: Option<Timestamp>,
    /// The server's clock minus this machine's in milliseconds. Only recorded for sessions
    /// that machines share, since their entries contain times by the server's clock.
    pub(crate) clock_skew: Option<i64>,
}

impl Profile {
    /// Returns all keys that a profile can have in the file.
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

    pub(crate) fn store_or_default(&self) -> StoreKind {
        self.store.unwrap_or(StoreKind::Keyring)
    }

    pub(crate) fn is_recorded_signed_in(&self) -> bool {
        self.signed_in == Some(true)
    }

    pub(crate) fn api_url_or_default(&self) -> ApiUrl {
        self.api_url.clone().unwrap_or_default()
    }
}

/// A key in the file that this version does not know, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The key with its parent keys, such as `profiles.work.colour`.
    pub path: String,
    /// Its line in the file, from 1.
    pub line: usize,
    /// Its column in the line, from 1.
    pub column: usize,
}

/// Why the profiles file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfilesError {
    /// The file cannot be read or written. `action` is the verb of the message.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}:{error}", .path.display())]
    Malformed { path: PathBuf, error: MalformedFile },
    /// A profile with this name must not be created.
    #[error("{0}")]
    InvalidName(String),
    /// The lock of the file was not acquired.
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
        self.dir.join(FILE_NAME)
    }

    /// Returns the profile `name`, or the default profile. Does not parse other profiles.
    pub(crate) fn select(
        &self,
        name: Option<&ProfileName>,
    ) -> Result<SelectedProfile, ProfilesError> {
        let selected = self.parse(|document| document.select(name))?;
        Ok(selected.unwrap_or_else(|| SelectedProfile {
            name: name.cloned().unwrap_or_default(),
            ..SelectedProfile::default()
        }))
    }

    /// Returns the name of the default profile, and all profiles in the order of the file.
    pub(crate) fn all(&self) -> Result<(ProfileName, Vec<(ProfileName, Profile)>), ProfilesError> {
        Ok(self.parse(|document| document.all())?.unwrap_or_default())
    }

    /// Returns the names for shell completion, or no names if the file is malformed.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.parse(|document| Ok(document.names()));
        names.ok().flatten().unwrap_or_default()
    }

    /// Returns the keys that this version does not know.
    pub(crate) fn unknown_keys(&self) -> Result<Vec<UnknownKey>, ProfilesError> {
        let keys = self.parse(|document| document.unknown_keys())?;
        Ok(keys.unwrap_or_default())
    }

    /// Refuses `name` for a new profile if Windows reserves the name, or if the name of
    /// another profile differs in case only: on file systems that ignore case, the two
    /// profiles would share a session. Accepts the name of an existing profile.
    pub(crate) fn check_new_name(&self, name: &ProfileName) -> Result<(), ProfilesError> {
        let names = self.parse(|document| Ok(document.names()))?;
        check_new_name(name, names.iter().flatten().map(String::as_str))
    }

    /// Changes one profile, or creates it. Does not write if `change` changes nothing.
    pub(crate) fn update(
        &self,
        name: &ProfileName,
        lock_timeout: Duration,
        change: impl FnOnce(&mut Profile),
    ) -> Result<(), ProfilesError> {
        self.rewrite(lock_timeout, |document| {
            let profiles = object_or_insert(document, "profiles")?;
            check_new_name(name, profiles.keys().map(String::as_str))?;
            let object = object_or_insert(profiles, name.as_str())?;
            let mut profile = Profile::deserialize(&*object).map_err(rewrite_error)?;
            change(&mut profile);
            let changed = serde_json::to_value(profile).map_err(rewrite_error)?;
            for (key, value) in changed.as_object().into_iter().flatten() {
                if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
                    // Unlike `remove`, `shift_remove` keeps the order of the other keys.
                    object.shift_remove(key);
                } else {
                    object.insert(key.clone(), value.clone());
                }
            }
            Ok(())
        })
    }

    /// Makes `name` the default profile.
    pub(crate) fn set_default(
        &self,
        name: &ProfileName,
        lock_timeout: Duration,
    ) -> Result<(), ProfilesError> {
        self.rewrite(lock_timeout, |document| {
            document.insert("default".to_owned(), Value::from(name.as_str()));
            Ok(())
        })
    }

    /// Removes a profile. If it is the default profile, resets the default.
    pub(crate) fn remove(
        &self,
        name: &ProfileName,
        lock_timeout: Duration,
    ) -> Result<(), ProfilesError> {
        self.rewrite(lock_timeout, |document| {
            object_or_insert(document, "profiles")?.shift_remove(name.as_str());
            if document.get("default").and_then(Value::as_str) == Some(name.as_str()) {
                document.shift_remove("default");
            }
            Ok(())
        })
    }

    /// Checks that the file is valid, and that a file can be written in its directory.
    /// Called before a login, whose result must be recorded.
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
        private_files::create_dir(&self.dir).map_err(|e| self.io_error("create", &self.dir, e))
    }

    /// Returns the file to replace. If `profiles.json` is a symbolic link, for example
    /// into a repository of settings, this is the target of the link: a rename would
    /// replace the link itself.
    fn target(&self) -> PathBuf {
        let path = self.path();
        private_files::resolve_links(&path).unwrap_or(path)
    }

    /// Changes the file under its lock.
    fn rewrite(
        &self,
        lock_timeout: Duration,
        change: impl FnOnce(&mut Map<String, Value>) -> Result<(), ProfilesError>,
    ) -> Result<(), ProfilesError> {
        self.create_dir()?;
        let _lock = lock::acquire(&self.dir.join(LOCK_FILE_NAME), lock_timeout)?;
        // Refuse to change an invalid file.
        self.all()?;
        let old_text = self.read_text()?;
        let mut document = match &old_text {
            None => Map::from_iter([("version".to_owned(), Value::from(VERSION))]),
            Some(text) => serde_json::from_str(text).map_err(rewrite_error)?,
        };
        let original = document.clone();
        change(&mut document)?;
        if old_text.is_some() && document == original {
            return Ok(());
        }
        let mut bytes = serde_json::to_vec_pretty(&document).map_err(rewrite_error)?;
        bytes.push(b'\n');
        let target = self.target();
        private_files::replace(&target, &bytes).map_err(|e| self.io_error("write", &target, e))
    }

    /// Parses the file and returns the result of `read`, or `None` if there is no file.
    fn parse<T>(
        &self,
        read: impl FnOnce(Document<'_>) -> Result<T, MalformedFile>,
    ) -> Result<Option<T>, ProfilesError> {
        let Some(text) = self.read_text()? else {
            return Ok(None);
        };
        let result = Document::parse(&text).and_then(read);
        let path = self.path();
        result
            .map(Some)
            .map_err(|error| ProfilesError::Malformed { path, error })
    }

    fn read_text(&self) -> Result<Option<String>, ProfilesError> {
        let path = self.path();
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.io_error("read", &path, e)),
        }
    }

    fn io_error(&self, action: &'static str, path: &Path, source: std::io::Error) -> ProfilesError {
        ProfilesError::Io {
            action,
            path: path.to_owned(),
            source,
        }
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
        return Err(ProfilesError::InvalidName(format!(
            "a profile cannot be named {name}: Windows reserves that name"
        )));
    }
    match existing.find(|other| other.eq_ignore_ascii_case(name.as_str())) {
        Some(other) => Err(ProfilesError::InvalidName(format!(
            "a profile cannot be named {name}: there is a profile {other}, which differs in case only"
        ))),
        None => Ok(()),
    }
}

/// Returns the object at `key`. Inserts an empty object if there is none.
fn object_or_insert<'a>(
    parent: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, ProfilesError> {
    let value = parent.entry(key).or_insert_with(|| Map::new().into());
    let not_an_object = || rewrite_error(std::io::Error::other(format!("{key} is not an object")));
    value.as_object_mut().ok_or_else(not_an_object)
}

fn rewrite_error(error: impl Into<std::io::Error>) -> ProfilesError {
    ProfilesError::Io {
        action: "rewrite",
        path: FILE_NAME.into(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_include_fields_without_a_value() {
        let expected = [
            "api_url",
            "login",
            "store",
            "signed_in",
            "access_cookie",
            "refresh_cookie",
            "sign_in_url",
            "sign_up_url",
            "referer",
            "captcha",
            "on_rotate",
            "on_rotate_check",
            "end_warned_at",
            "clock_skew",
        ];
        assert_eq!(Profile::keys(), expected);
    }
}
