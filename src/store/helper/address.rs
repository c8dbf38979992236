//! The address of a store behind a helper: `helper:NAME[:LOCATION]`.

use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "helper:";
const MAX_NAME: usize = 32;
const MAX_LOCATION: usize = 1024;

/// Names a helper and the location in its store.
///
/// The text is leaked, so that the address is `Copy`. A process has only a few
/// addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelperAddress(&'static str);

impl HelperAddress {
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
        let rest = self.0.strip_prefix(PREFIX).unwrap_or(self.0);
        match rest.split_once(':') {
            Some((name, location)) => (name, Some(location)),
            None => (rest, None),
        }
    }
}

impl FromStr for HelperAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text
            .strip_prefix(PREFIX)
            .ok_or("a store helper is named helper:NAME or helper:NAME:LOCATION")?;
        let (name, location) = match rest.split_once(':') {
            Some((name, location)) => (name, Some(location)),
            None => (rest, None),
        };
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=MAX_NAME).contains(&name.len())
            || !name.bytes().all(is_plain)
            || name.starts_with('-')
        {
            return Err(format!(
                "the name of a store helper may contain only lower-case letters, digits and `-`, \
                 at most {MAX_NAME}"
            ));
        }
        if location.is_some_and(|location| {
            location.is_empty()
                || location.starts_with('-')
                || location.len() > MAX_LOCATION
                || location.chars().any(char::is_control)
        }) {
            return Err("not a valid location of a store helper".to_owned());
        }
        Ok(Self(Box::leak(text.to_owned().into_boxed_str())))
    }
}

impl fmt::Display for HelperAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_name_and_location() {
        let vault: HelperAddress = "helper:vault:secret/team:a".parse().expect("an address");
        assert_eq!(vault.program(), "rememberizer-store-vault");
        assert_eq!(vault.location(), Some("secret/team:a"));
        let pass: HelperAddress = "helper:pass".parse().expect("an address");
        assert_eq!((pass.name(), pass.location()), ("pass", None));
    }

    #[test]
    fn rejects_invalid_addresses() {
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
            assert!(text.parse::<HelperAddress>().is_err(), "{text}");
        }
    }
}
