//! A JSON object whose values are parsed only when needed.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The keys and the unparsed values of a JSON object, in their order in the text.
#[derive(Default)]
pub(super) struct LazyObject<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

/// A JSON string, borrowed from the input unless it contains an escape. Deserializing a `Cow`
/// without this wrapper would always copy the string.
#[derive(Deserialize)]
pub(super) struct JsonStr<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'a> LazyObject<'a> {
    /// Returns the first member with the same key as an earlier member.
    pub(super) fn duplicate(&self) -> Option<&(Cow<'a, str>, &'a RawValue)> {
        let mut seen = std::collections::HashSet::new();
        self.0.iter().find(|(key, _)| !seen.insert(&**key))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LazyObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LazyObjectVisitor;

        impl<'de> Visitor<'de> for LazyObjectVisitor {
            type Value = LazyObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some((JsonStr(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(LazyObject(members))
            }
        }

        deserializer.deserialize_map(LazyObjectVisitor)
    }
}
