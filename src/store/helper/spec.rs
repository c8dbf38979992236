//! The text that selects a store behind a helper: `helper:NAME[:LOCATION]`.

use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "helper:";
const MAX_NAME_BYTES: usize = 32;
const MAX_LOCATION_BYTES: usize = 1024;

/// The name of a helper, and the location in its store.
///
/// The text is leaked, so that this type is `Copy`. A process uses only a few specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelperSpec(&'static str);

impl HelperSpec {
    /// Returns the text form, as recorded in the profile.
    pub(crate) fn as_str(self) -> &'static str {
        self.0
    }

    pub(crate) fn name(self) -> &'static str {
        self.name_and_location().0
    }

    /// Returns the location in the store, which is not a secret.
    pub(crate) fn location(self) -> Option<&'static str> {
        self.name_and_location().1
    }

    /// Returns the file name of the helper's program.
    pub(crate) fn program(self) -> String {
        format!("rememberizer-store-{}", self.name())
    }

    fn name_and_location(self) -> (&'static str, Option<&'static str>) {
        split(self.0).unwrap_or((self.0, None))
    }
}

/// Splits the text into the name and the location. Returns `None` if the prefix is missing.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let rest = text.strip_prefix(PREFIX)?;
    Some(match rest.split_once(':') {
        Some((name, location)) => (name, Some(location)),
        None => (rest, None),
    })
}

impl FromStr for HelperSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, location) =
            split(text).ok_or("a store helper is named helper:NAME or helper:NAME:LOCATION")?;
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=MAX_NAME_BYTES).contains(&name.len())
            || !name.bytes().all(is_plain)
            || name.starts_with('-')
        {
            return Err(format!(
                "the name of a store helper may contain only lower-case letters, digits and `-`, \
                 at most {MAX_NAME_BYTES}"
            ));
        }
        if location.is_some_and(|location| {
            location.is_empty()
                || location.starts_with('-')
                || location.len() > MAX_LOCATION_BYTES
                || location.chars().any(char::is_control)
        }) {
            return Err("not a valid location of a store helper".to_owned());
        }
        Ok(Self(Box::leak(text.to_owned().into_boxed_str())))
    }
}

impl fmt::Display for HelperSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_name_and_location() {
        let vault: HelperSpec = "helper:vault:secret/team:a".parse().expect("a spec");
        assert_eq!(vault.program(), "rememberizer-store-vault");
        assert_eq!(vault.location(), Some("secret/team:a"));
        let pass: HelperSpec = "helper:pass".parse().expect("a spec");
        assert_eq!((pass.name(), pass.location()), ("pass", None));
    }

    #[test]
    fn rejects_invalid_specs() {
        let long = format!("helper:{}", "a".repeat(33));
        for text in [
            "helper",
            "helper:",
            "helper::x",
            "helper:../x",
            "helper:A",
            "helper:-x",
            "helper:a:",
            "helper:a:-x",
            "helper:a:x\ny",
            "file",
            &long,
        ] {
            assert!(text.parse::<HelperSpec>().is_err(), "{text}");
        }
    }
}
