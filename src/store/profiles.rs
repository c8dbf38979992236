//! `profiles.json`: the profiles, without any secret.
//!
//! A file that cannot be understood is an error that names the place in it; it
//! is never reset. Keys that this version does not know survive a rewrite.

mod scan;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lock::{self, LockError};
use super::{StoreError, StoreKind, private};
use crate::model::{Origin, PageUrl, ProfileName, Timestamp};

pub use scan::Selected;

/// The version written, and the newest one understood.
const VERSION: u64 = 1;

const FILE: &str = "profiles.json";
const LOCK: &str = "profiles.json.lock";

/// One profile: where its session belongs, where it is stored and how it is renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The server that the session belongs to, if it is not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Origin>,
    /// The login, offered again at the next login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// Where the session is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreKind>,
    /// Whether a session was stored and has not ended since, so that a list needs no keyring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_in: Option<bool>,
    /// The name of the server's access cookie, if it is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_cookie: Option<String>,
    /// The name of the server's refresh cookie, if it is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_cookie: Option<String>,
    /// The page to sign in on in a browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in_url: Option<PageUrl>,
    /// The page to sign up on in a browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_up_url: Option<PageUrl>,
    /// The `Referer` header to send, for a server that checks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referer: Option<PageUrl>,
    /// Whether the server is known to want a captcha response at login. Recorded, not settable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captcha: Option<bool>,
    /// The command and arguments that receive each new refresh token on stdin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_rotate: Vec<String>,
    /// The command and arguments that must succeed before a refresh token is spent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_rotate_check: Vec<String>,
    /// When the user was last warned that the session ends soon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_warned_at: Option<Timestamp>,
    /// The reCAPTCHA site key of the server's sign-in page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site_key: Option<String>,
}

impl Profile {
    /// The keys of a profile in the file.
    pub const KEYS: [&'static str; 14] = [
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
        "site_key",
    ];

    /// Where the session belongs.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.api_url.clone().unwrap_or_default()
    }
}

/// A key in the file that this version does not know, and where it stands.
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
pub enum ProfilesError {
    /// It cannot be read or written.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// `read`, `create`, `write`.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be, at a place in it.
    #[error("{}:{line}:{column}: {why}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        why: String,
    },
    /// A newer version of the program wrote it.
    #[error("{}:{line}:{column}: the file has version {version}, and this program knows {VERSION}", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in it.
        version: u64,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// Another process is writing it and does not end.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// The profiles file of one config directory.
#[derive(Debug)]
pub struct Profiles {
    dir: PathBuf,
}

impl Profiles {
    /// The file in `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// The directory that holds it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks one profile up: `name`, or the file's default one. The other
    /// profiles are passed over, not built.
    pub fn select(&self, name: Option<&ProfileName>) -> Result<Selected, ProfilesError> {
        match self.bytes()? {
            None => Ok(Selected::absent(name)),
            Some(bytes) => scan::select(&bytes, name).map_err(|e| self.malformed(&bytes, &e)),
        }
    }

    /// All profiles in the order of the file, and the default one's name.
    pub fn all(&self) -> Result<(ProfileName, Vec<(ProfileName, Profile)>), ProfilesError> {
        match self.bytes()? {
            None => Ok((ProfileName::default(), Vec::new())),
            Some(bytes) => scan::all(&bytes).map_err(|e| self.malformed(&bytes, &e)),
        }
    }

    /// The names alone, for completion: nothing that is wrong with the file matters.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.bytes()
            .ok()
            .flatten()
            .and_then(|bytes| scan::names(&bytes).ok())
            .unwrap_or_default()
    }

    /// The keys that this version does not know.
    pub fn unknown_keys(&self) -> Result<Vec<UnknownKey>, ProfilesError> {
        match self.bytes()? {
            None => Ok(Vec::new()),
            Some(bytes) => Ok(scan::unknown_keys(&bytes)),
        }
    }

    /// Changes one profile, creating it where it is not there. Nothing is
    /// written when `change` changes nothing.
    pub fn update(
        &self,
        name: &ProfileName,
        limit: Duration,
        change: impl FnOnce(&mut Profile),
    ) -> Result<(), ProfilesError> {
        self.rewrite(limit, |document| {
            let slot = object(document, "profiles")?
                .entry(name.as_str())
                .or_insert_with(|| Value::Object(Map::new()));
            let mut profile = Profile::deserialize(&*slot).ok()?;
            change(&mut profile);
            let known = serde_json::to_value(profile).ok()?;
            let slot = slot.as_object_mut()?;
            for key in Profile::KEYS {
                match known.get(key) {
                    Some(value) => drop(slot.insert(key.to_owned(), value.clone())),
                    // `shift_remove`: the order of the other keys stays.
                    None => drop(slot.shift_remove(key)),
                }
            }
            Some(())
        })
    }

    /// Makes `name` the profile that is used when none is chosen.
    pub fn set_default(&self, name: &ProfileName, limit: Duration) -> Result<(), ProfilesError> {
        self.rewrite(limit, |document| {
            document.insert("default".to_owned(), Value::from(name.as_str()));
            Some(())
        })
    }

    /// Forgets a profile; the default one's name falls back with it.
    pub fn remove(&self, name: &ProfileName, limit: Duration) -> Result<(), ProfilesError> {
        self.rewrite(limit, |document| {
            object(document, "profiles")?.shift_remove(name.as_str());
            if document.get("default").and_then(Value::as_str) == Some(name.as_str()) {
                document.shift_remove("default");
            }
            Some(())
        })
    }

    /// Proves that the file could be written, before anything depends on it:
    /// all of it is understood, and its directory takes a file.
    pub fn prove_writable(&self) -> Result<(), ProfilesError> {
        self.all()?;
        self.create_dir()?;
        let target = self.target();
        let dir = target.parent().unwrap_or(&self.dir);
        tempfile::Builder::new()
            .prefix(".profiles")
            .tempfile_in(dir)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &[b' '; 4096]))
            .map_err(|e| self.io("write", &target, e))
    }

    fn create_dir(&self) -> Result<(), ProfilesError> {
        private::create_dir(&self.dir).map_err(|e| self.io("create", &self.dir, e))
    }

    /// The file itself where `profiles.json` is a link to it: people keep such
    /// files in a repository, and a rename would put an end to the link.
    fn target(&self) -> PathBuf {
        let path = self.path();
        std::fs::canonicalize(&path).unwrap_or(path)
    }

    fn rewrite(
        &self,
        limit: Duration,
        change: impl FnOnce(&mut Map<String, Value>) -> Option<()>,
    ) -> Result<(), ProfilesError> {
        self.create_dir()?;
        let _lock = lock::hold(&self.dir.join(LOCK), limit)?;
        let before = self.bytes()?;
        let mut document = match &before {
            None => Map::from_iter([("version".to_owned(), Value::from(VERSION))]),
            Some(bytes) => {
                // The scan knows every rule of the file; its errors have places.
                scan::all(bytes).map_err(|e| self.malformed(bytes, &e))?;
                serde_json::from_slice(bytes).map_err(|e| self.malformed(bytes, &e))?
            }
        };
        let former = document.clone();
        if change(&mut document).is_none() {
            return Err(self.io(
                "write",
                &self.path(),
                std::io::Error::other("a profile in it is not an object"),
            ));
        }
        if before.is_some() && document == former {
            return Ok(());
        }
        let mut bytes = serde_json::to_vec_pretty(&document)
            .map_err(|e| self.io("write", &self.path(), e.into()))?;
        bytes.push(b'\n');
        let target = self.target();
        private::replace(&target, &bytes).map_err(|e| self.io("write", &target, e))
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>, ProfilesError> {
        let path = self.path();
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.io("read", &path, e)),
        }
    }

    fn io(&self, what: &'static str, path: &Path, source: std::io::Error) -> ProfilesError {
        ProfilesError::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }

    fn malformed(&self, bytes: &[u8], error: &serde_json::Error) -> ProfilesError {
        let (path, line, column) = (self.path(), error.line().max(1), error.column().max(1));
        match scan::version(bytes) {
            Some(version) if version > VERSION => ProfilesError::Newer {
                path,
                version,
                line,
                column,
            },
            _ => ProfilesError::Malformed {
                path,
                line,
                column,
                why: without_place(&error.to_string()),
            },
        }
    }
}

impl From<StoreError> for ProfilesError {
    fn from(error: StoreError) -> Self {
        Self::Lock(LockError::Store(error))
    }
}

fn object<'a>(
    document: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    document
        .entry(key)
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
}

/// The message without serde_json's ` at line 1 column 2`, which stands before it already.
fn without_place(message: &str) -> String {
    match message.rsplit_once(" at line ") {
        Some((what, _)) => what.to_owned(),
        None => message.to_owned(),
    }
}
