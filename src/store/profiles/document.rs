//! Parses the text of `profiles.json`. The profiles stay unparsed until one is
//! asked for: finding one among a thousand is a single pass over the text.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::members::Members;
use super::{Profile, UnknownKey, VERSION};
use crate::model::ProfileName;

/// A key that earlier versions wrote; it is ignored.
const FORMER_KEY: &str = "site_key";

/// The profile that a run uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selected {
    /// Its name.
    pub(crate) name: ProfileName,
    /// The name of the default profile.
    pub(crate) default_name: ProfileName,
    /// What the file records; `None` if the file does not contain the profile.
    pub(crate) profile: Option<Profile>,
}

/// What is wrong with the text, and where: lines from 1, columns in characters from 1.
#[derive(Debug, thiserror::Error)]
#[error("{line}:{column}: {why}")]
pub(crate) struct Malformed {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) why: String,
    /// The version of the file, if it is newer than [`VERSION`].
    pub(crate) newer: Option<u64>,
}

/// The parsed document.
pub(crate) struct Document<'a> {
    text: &'a str,
    default: ProfileName,
    profiles: Members<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    version: &'a RawValue,
    #[serde(borrow)]
    default: Option<&'a RawValue>,
    #[serde(borrow, default)]
    profiles: Members<'a>,
}

impl<'a> Document<'a> {
    /// Parses `text`, but not the profiles in it.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let fields: Fields<'a> = parse_object(text, text)?;
        let version: u64 = parse_value(text, fields.version.get())?;
        if version > VERSION {
            return Err(Malformed::at(text, fields.version.get(), "a newer version"));
        }
        let default = match fields.default {
            None => ProfileName::default(),
            Some(value) => parse_value::<String>(text, value.get())?
                .parse()
                .map_err(|why| Malformed::at(text, value.get(), why))?,
        };
        Ok(Self {
            text,
            default,
            profiles: fields.profiles,
        })
    }

    /// Returns the profile `name`, or the default one.
    pub(crate) fn select(&self, name: Option<&ProfileName>) -> Result<Selected, Malformed> {
        let name = name.unwrap_or(&self.default);
        let has_name = |(key, _): &&(Cow<'_, str>, _)| *key == name.as_str();
        let mut found = self.profiles.0.iter().filter(has_name);
        let profile = match found.next() {
            None => None,
            Some((_, value)) => Some(parse_object(self.text, value.get())?),
        };
        match found.next() {
            Some((key, value)) => Err(self.duplicate(key, value)),
            None => Ok(Selected {
                name: name.clone(),
                default_name: self.default.clone(),
                profile,
            }),
        }
    }

    /// Returns the name of the default profile, and all profiles. Parses the whole
    /// text and refuses duplicate keys.
    pub(crate) fn all(&self) -> Result<(ProfileName, Vec<(ProfileName, Profile)>), Malformed> {
        self.refuse_duplicates(&parse_value(self.text, self.text)?)?;
        self.refuse_duplicates(&self.profiles)?;
        let mut all = Vec::with_capacity(self.profiles.0.len());
        for (key, value) in &self.profiles.0 {
            let name = key
                .parse()
                .map_err(|why| Malformed::new(self.text, self.key_offset(key, value), why))?;
            self.refuse_duplicates(&parse_value(self.text, value.get())?)?;
            all.push((name, parse_object(self.text, value.get())?));
        }
        Ok((self.default.clone(), all))
    }

    /// Returns the names of the profiles, valid or not.
    pub(crate) fn names(self) -> Vec<String> {
        self.profiles
            .0
            .into_iter()
            .map(|(key, _)| key.into_owned())
            .collect()
    }

    /// Returns the keys that this version does not know.
    pub(crate) fn unknown_keys(&self) -> Result<Vec<UnknownKey>, Malformed> {
        let mut unknown = Vec::new();
        let mut note = |path: String, key: &str, value: &RawValue| {
            let (line, column) = position(self.text, self.key_offset(key, value));
            unknown.push(UnknownKey { path, line, column });
        };
        let known = Profile::keys();
        let root: Members<'a> = parse_value(self.text, self.text)?;
        for (key, value) in &root.0 {
            match &**key {
                "version" | "default" => {}
                "profiles" => {
                    for (name, value) in &self.profiles.0 {
                        let profile: Members<'a> = parse_value(self.text, value.get())?;
                        for (key, value) in &profile.0 {
                            if !known.iter().any(|known| known == key) && *key != FORMER_KEY {
                                note(format!("profiles.{name}.{key}"), key, value);
                            }
                        }
                    }
                }
                _ => note(key.to_string(), key, value),
            }
        }
        Ok(unknown)
    }

    fn refuse_duplicates(&self, members: &Members<'_>) -> Result<(), Malformed> {
        match members.duplicate() {
            Some((key, value)) => Err(self.duplicate(key, value)),
            None => Ok(()),
        }
    }

    fn duplicate(&self, key: &str, value: &RawValue) -> Malformed {
        let why = format!("duplicate key `{key}`");
        Malformed::new(self.text, self.key_offset(key, value), why)
    }

    /// Returns the offset of the key of `value`. A key with an escape is a copy; the
    /// offset of its value is returned instead.
    fn key_offset(&self, key: &str, value: &RawValue) -> usize {
        offset_in(self.text, key)
            .and_then(|after_quote| after_quote.checked_sub(1))
            .or_else(|| offset_in(self.text, value.get()))
            .unwrap_or_default()
    }
}

impl Malformed {
    fn new(text: &str, offset: usize, why: impl ToString) -> Self {
        let (line, column) = position(text, offset);
        // A newer version explains any other error.
        let newer = version(text).filter(|version| *version > VERSION);
        let why = newer.map_or_else(
            || why.to_string(),
            |version| format!("the file has version {version}, and this program knows {VERSION}"),
        );
        Self {
            line,
            column,
            why,
            newer,
        }
    }

    fn at(text: &str, part: &str, why: impl ToString) -> Self {
        Self::new(text, offset_in(text, part).unwrap_or_default(), why)
    }

    /// Translates the position of an error in `part` to one in `text`.
    fn from_json(text: &str, part: &str, error: &serde_json::Error) -> Self {
        let lines = part.split_inclusive('\n').map(str::len);
        let line_start: usize = lines.take(error.line().saturating_sub(1)).sum();
        let offset = offset_in(text, part).unwrap_or_default()
            + line_start
            + error.column().saturating_sub(1);
        let message = error.to_string();
        // The position is printed before the message.
        let why = message.rsplit_once(" at line ").map_or(&*message, |m| m.0);
        Self::new(text, offset, why)
    }
}

fn version(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    serde_json::from_str(text)
        .ok()
        .map(|Version { version }| version)
}

fn parse_value<'a, T: Deserialize<'a>>(text: &str, part: &'a str) -> Result<T, Malformed> {
    serde_json::from_str(part).map_err(|e| Malformed::from_json(text, part, &e))
}

/// Like [`parse_value`], but refuses an array, which a derived struct accepts.
fn parse_object<'a, T: Deserialize<'a>>(text: &str, part: &'a str) -> Result<T, Malformed> {
    let value = parse_value(text, part)?;
    if part.trim_start().starts_with('{') {
        Ok(value)
    } else {
        Err(Malformed::at(text, part, "expected an object"))
    }
}

/// Returns the offset of `part` in `text`, if it is a slice of it.
fn offset_in(text: &str, part: &str) -> Option<usize> {
    let offset = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    (offset + part.len() <= text.len()).then_some(offset)
}

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
