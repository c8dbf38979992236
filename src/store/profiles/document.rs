//! Parses the text of `profiles.json`. Each profile is parsed only when needed, so that
//! finding one profile among a thousand is a single pass over the text.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::lazy_object::LazyObject;
use super::{Profile, UnknownKey, VERSION};
use crate::model::ProfileName;

/// A key that earlier versions wrote. It is ignored.
const OBSOLETE_KEY: &str = "site_key";

/// The profile that a run uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SelectedProfile {
    pub(crate) name: ProfileName,
    pub(crate) default_name: ProfileName,
    /// `None` if the file does not contain the profile.
    pub(crate) profile: Option<Profile>,
}

/// An error in the text and its position. Lines and columns (in characters) count from 1.
#[derive(Debug, thiserror::Error)]
#[error("{line}:{column}: {why}")]
pub(crate) struct MalformedFile {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) why: String,
    /// The version of the file, if it is newer than [`VERSION`].
    pub(crate) newer_version: Option<u64>,
}

/// The parsed file, with unparsed profiles.
pub(crate) struct Document<'a> {
    text: &'a str,
    default_name: ProfileName,
    profiles: LazyObject<'a>,
}

#[derive(Deserialize)]
struct Root<'a> {
    #[serde(borrow)]
    version: &'a RawValue,
    #[serde(borrow)]
    default: Option<&'a RawValue>,
    #[serde(borrow, default)]
    profiles: LazyObject<'a>,
}

impl<'a> Document<'a> {
    /// Parses `text`, but not the profiles in the text.
    pub(crate) fn parse(text: &'a str) -> Result<Self, MalformedFile> {
        let root: Root<'a> = parse_object(text, text)?;
        let version: u64 = parse_value(text, root.version.get())?;
        if version > VERSION {
            return Err(MalformedFile::at(
                text,
                root.version.get(),
                "a newer version",
            ));
        }
        let default_name = match root.default {
            None => ProfileName::default(),
            Some(value) => parse_value::<String>(text, value.get())?
                .parse()
                .map_err(|why| MalformedFile::at(text, value.get(), why))?,
        };
        Ok(Self {
            text,
            default_name,
            profiles: root.profiles,
        })
    }

    /// Returns the profile `name`, or the default profile.
    pub(crate) fn select(
        &self,
        name: Option<&ProfileName>,
    ) -> Result<SelectedProfile, MalformedFile> {
        let name = name.unwrap_or(&self.default_name);
        let has_name = |(key, _): &&(Cow<'_, str>, _)| *key == name.as_str();
        let mut matches = self.profiles.0.iter().filter(has_name);
        let profile = match matches.next() {
            None => None,
            Some((_, value)) => Some(parse_object(self.text, value.get())?),
        };
        match matches.next() {
            Some((key, value)) => Err(self.duplicate(key, value)),
            None => Ok(SelectedProfile {
                name: name.clone(),
                default_name: self.default_name.clone(),
                profile,
            }),
        }
    }

    /// Returns the name of the default profile, and all profiles. Parses the whole
    /// text and refuses duplicate keys.
    pub(crate) fn all(&self) -> Result<(ProfileName, Vec<(ProfileName, Profile)>), MalformedFile> {
        self.refuse_duplicates(&parse_value(self.text, self.text)?)?;
        self.refuse_duplicates(&self.profiles)?;
        let mut all = Vec::with_capacity(self.profiles.0.len());
        for (key, value) in &self.profiles.0 {
            let name = key
                .parse()
                .map_err(|why| MalformedFile::new(self.text, self.key_offset(key, value), why))?;
            self.refuse_duplicates(&parse_value(self.text, value.get())?)?;
            all.push((name, parse_object(self.text, value.get())?));
        }
        Ok((self.default_name.clone(), all))
    }

    /// Returns the names of all profiles, including invalid names.
    pub(crate) fn names(self) -> Vec<String> {
        self.profiles
            .0
            .into_iter()
            .map(|(key, _)| key.into_owned())
            .collect()
    }

    /// Returns the keys that this version does not know.
    pub(crate) fn unknown_keys(&self) -> Result<Vec<UnknownKey>, MalformedFile> {
        let mut unknown = Vec::new();
        let mut add = |path: String, key: &str, value: &RawValue| {
            let (line, column) = position(self.text, self.key_offset(key, value));
            unknown.push(UnknownKey { path, line, column });
        };
        let known = Profile::keys();
        let root: LazyObject<'a> = parse_value(self.text, self.text)?;
        for (key, value) in &root.0 {
            match &**key {
                "version" | "default" => {}
                "profiles" => {
                    for (name, value) in &self.profiles.0 {
                        let profile: LazyObject<'a> = parse_value(self.text, value.get())?;
                        for (key, value) in &profile.0 {
                            if !known.iter().any(|known| known == key) && *key != OBSOLETE_KEY {
                                add(format!("profiles.{name}.{key}"), key, value);
                            }
                        }
                    }
                }
                _ => add(key.to_string(), key, value),
            }
        }
        Ok(unknown)
    }

    fn refuse_duplicates(&self, members: &LazyObject<'_>) -> Result<(), MalformedFile> {
        match members.duplicate() {
            Some((key, value)) => Err(self.duplicate(key, value)),
            None => Ok(()),
        }
    }

    fn duplicate(&self, key: &str, value: &RawValue) -> MalformedFile {
        let why = format!("duplicate key `{key}`");
        MalformedFile::new(self.text, self.key_offset(key, value), why)
    }

    /// Returns the offset in the text of the member with this `key` and `value`: the offset
    /// of the quote before the key, or that of the value if the key contains an escape (then
    /// `key` is not a slice of the text).
    fn key_offset(&self, key: &str, value: &RawValue) -> usize {
        offset_in(self.text, key)
            .and_then(|key_offset| key_offset.checked_sub(1))
            .or_else(|| offset_in(self.text, value.get()))
            .unwrap_or_default()
    }
}

impl MalformedFile {
    fn new(text: &str, offset: usize, why: impl ToString) -> Self {
        let (line, column) = position(text, offset);
        // If the file has a newer version, that is the cause of any other error.
        let newer_version = parse_version(text).filter(|version| *version > VERSION);
        let why = newer_version.map_or_else(
            || why.to_string(),
            |version| format!("the file has version {version}, and this program knows {VERSION}"),
        );
        Self {
            line,
            column,
            why,
            newer_version,
        }
    }

    /// Returns an error at the beginning of `part`, which is a slice of `text`.
    fn at(text: &str, part: &str, why: impl ToString) -> Self {
        Self::new(text, offset_in(text, part).unwrap_or_default(), why)
    }

    /// Converts an error from parsing `part`, and its position in `part` to the position in
    /// `text`.
    fn from_json(text: &str, part: &str, error: &serde_json::Error) -> Self {
        let lines = part.split_inclusive('\n').map(str::len);
        let line_start: usize = lines.take(error.line().saturating_sub(1)).sum();
        let offset = offset_in(text, part).unwrap_or_default()
            + line_start
            + error.column().saturating_sub(1);
        let message = error.to_string();
        // Remove the position that serde_json appends to the message.
        let why = message
            .rsplit_once(" at line ")
            .map_or(&*message, |(why, _)| why);
        Self::new(text, offset, why)
    }
}

fn parse_version(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    serde_json::from_str(text)
        .ok()
        .map(|Version { version }| version)
}

fn parse_value<'a, T: Deserialize<'a>>(text: &str, part: &'a str) -> Result<T, MalformedFile> {
    serde_json::from_str(part).map_err(|e| MalformedFile::from_json(text, part, &e))
}

/// Parses `part` like [`parse_value`], but refuses an array. `Deserialize` accepts an array
/// for a struct.
fn parse_object<'a, T: Deserialize<'a>>(text: &str, part: &'a str) -> Result<T, MalformedFile> {
    let value = parse_value(text, part)?;
    if part.trim_start().starts_with('{') {
        Ok(value)
    } else {
        Err(MalformedFile::at(text, part, "expected an object"))
    }
}

/// Returns the offset of `part` in `text`, if `part` is a slice of `text`.
fn offset_in(text: &str, part: &str) -> Option<usize> {
    let offset = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    (offset + part.len() <= text.len()).then_some(offset)
}

/// Returns the line and the column of an offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let is_char_start = |byte: &&u8| **byte & 0xc0 != 0x80;
    let column = before[line_start..].iter().filter(is_char_start).count() + 1;
    (line, column)
}
