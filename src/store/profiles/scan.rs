//! Reading `profiles.json` without building what is not asked for: a thousand
//! profiles cost one pass over the text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Profile, UnknownKey, VERSION};
use crate::model::ProfileName;

/// The profile that a run uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its name.
    pub name: ProfileName,
    /// The name of the default profile.
    pub default: ProfileName,
    /// What the file says of it; `None` where it does not stand there.
    pub profile: Option<Profile>,
}

impl Selected {
    pub(super) fn absent(name: Option<&ProfileName>) -> Self {
        Self {
            name: name.cloned().unwrap_or_default(),
            default: ProfileName::default(),
            profile: None,
        }
    }
}

type Result<T> = std::result::Result<T, serde_json::Error>;

/// The profile `name`, or the default one.
pub(super) fn select(bytes: &[u8], name: Option<&ProfileName>) -> Result<Selected> {
    let mut found = Selected::absent(name);
    let mut scan = Scan {
        default: None,
        want: Want::One {
            name: name.cloned(),
            profile: None,
            passed: false,
        },
    };
    run(bytes, &mut scan)?;
    let (default, again) = match scan {
        Scan {
            default,
            want: Want::One {
                profile, passed, ..
            },
        } => {
            found.profile = profile;
            (default.unwrap_or_default(), passed)
        }
        Scan { default, .. } => (default.unwrap_or_default(), false),
    };
    if name.is_none() {
        found.name = default.clone();
    }
    found.default = default;
    if again {
        // The profiles stood before the name of the default one.
        let mut scan = Scan {
            default: None,
            want: Want::One {
                name: Some(found.name.clone()),
                profile: None,
                passed: false,
            },
        };
        run(bytes, &mut scan)?;
        if let Want::One { profile, .. } = scan.want {
            found.profile = profile;
        }
    }
    Ok(found)
}

/// Every profile, and the name of the default one.
pub(super) fn all(bytes: &[u8]) -> Result<(ProfileName, Vec<(ProfileName, Profile)>)> {
    let mut scan = Scan {
        default: None,
        want: Want::All(Vec::new()),
    };
    run(bytes, &mut scan)?;
    let all = match scan.want {
        Want::All(all) => all,
        _ => Vec::new(),
    };
    Ok((scan.default.unwrap_or_default(), all))
}

/// Every name, whatever stands under it.
pub(super) fn names(bytes: &[u8]) -> Result<Vec<String>> {
    let mut scan = Scan {
        default: None,
        want: Want::Names(Vec::new()),
    };
    run(bytes, &mut scan)?;
    match scan.want {
        Want::Names(names) => Ok(names),
        _ => Ok(Vec::new()),
    }
}

/// The version, whether it is known here or not.
pub(super) fn version(bytes: &[u8]) -> Option<u64> {
    let mut scan = Scan {
        default: None,
        want: Want::Version(None),
    };
    run(bytes, &mut scan).ok()?;
    match scan.want {
        Want::Version(version) => version,
        _ => None,
    }
}

/// The keys beside the known ones. Empty where the file does not parse: that is
/// an error of its own.
pub(super) fn unknown_keys(bytes: &[u8]) -> Vec<UnknownKey> {
    #[derive(Deserialize)]
    struct Level<'a>(#[serde(borrow)] std::collections::BTreeMap<String, &'a RawValue>);

    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let level = |raw: &'_ str| -> Vec<(String, usize)> {
        // RawValue borrows from the text, so its address is its place.
        serde_json::from_str::<Level<'_>>(raw)
            .map(|level| {
                let mut keys: Vec<_> = level
                    .0
                    .iter()
                    .map(|(key, value)| (key.clone(), value.get().as_ptr() as usize))
                    .collect();
                keys.sort_by_key(|(_, address)| *address);
                keys
            })
            .unwrap_or_default()
    };
    let base = text.as_ptr() as usize;
    let value_at = |address: usize| text.get(address.saturating_sub(base)..).unwrap_or_default();
    let whole_value = |rest: &'_ str| -> usize {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        values
            .next()
            .and_then(std::result::Result::ok)
            .map_or(0, |v| v.get().len())
    };
    let mut unknown = Vec::new();
    let mut note = |path: String, key: &str, address: usize| {
        let before = text.get(..address.saturating_sub(base)).unwrap_or_default();
        let at = before.rfind(&format!("\"{key}\"")).unwrap_or(before.len());
        let (line, column) = place(text, at);
        unknown.push(UnknownKey { path, line, column });
    };
    for (key, address) in level(text) {
        match key.as_str() {
            "version" | "default" => {}
            "profiles" => {
                let rest = value_at(address);
                for (name, address) in level(&rest[..whole_value(rest)]) {
                    let rest = value_at(address);
                    for (key, address) in level(&rest[..whole_value(rest)]) {
                        if !Profile::KEYS.contains(&key.as_str()) {
                            note(format!("profiles.{name}.{key}"), &key, address);
                        }
                    }
                }
            }
            _ => note(key.clone(), &key, address),
        }
    }
    unknown
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

fn run(bytes: &[u8], scan: &mut Scan) -> Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    deserializer.deserialize_map(Document(scan))?;
    deserializer.end()
}

struct Scan {
    default: Option<ProfileName>,
    want: Want,
}

#[expect(clippy::large_enum_variant, reason = "there is one value of it")]
enum Want {
    One {
        name: Option<ProfileName>,
        profile: Option<Profile>,
        passed: bool,
    },
    All(Vec<(ProfileName, Profile)>),
    Names(Vec<String>),
    Version(Option<u64>),
}

/// A key, copied only where it holds an escape; serde's own `Cow` always is.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> std::result::Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> std::result::Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

struct Document<'s>(&'s mut Scan);

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `version` and `profiles`")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<(), M::Error> {
        let mut versioned = false;
        while let Some(key) = map.next_key_seed(Key)? {
            match &*key {
                "version" => {
                    let version: u64 = map.next_value()?;
                    if let Want::Version(found) = &mut self.0.want {
                        *found = Some(version);
                    } else if version > VERSION {
                        return Err(M::Error::custom("a newer version"));
                    }
                    versioned = true;
                }
                "default" => {
                    let name: String = map.next_value()?;
                    self.0.default = Some(name.parse().map_err(M::Error::custom)?);
                }
                "profiles" => map.next_value_seed(Entries(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if versioned || matches!(self.0.want, Want::Names(_)) {
            Ok(())
        } else {
            Err(M::Error::missing_field("version"))
        }
    }
}

struct Entries<'s>(&'s mut Scan);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of profiles")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<(), M::Error> {
        let Scan { default, want } = self.0;
        if let Want::One {
            name: name @ None, ..
        } = want
        {
            *name = default.clone();
        }
        while let Some(key) = map.next_key_seed(Key)? {
            match want {
                Want::One {
                    name: Some(name),
                    profile,
                    ..
                } if name.as_str() == key => *profile = Some(map.next_value()?),
                Want::One { name, passed, .. } => {
                    *passed |= name.is_none();
                    map.next_value::<IgnoredAny>()?;
                }
                Want::All(all) => {
                    let name = key.parse().map_err(M::Error::custom)?;
                    all.push((name, map.next_value()?));
                }
                Want::Version(_) => {
                    map.next_value::<IgnoredAny>()?;
                }
                Want::Names(names) => {
                    map.next_value::<IgnoredAny>()?;
                    names.push(key.into_owned());
                }
            }
        }
        Ok(())
    }
}
