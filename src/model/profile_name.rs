//! The name of a profile, which is also the account name of its entry in a secret store.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// One to 64 characters, each an ASCII letter, an ASCII digit, `-` or `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ProfileName(String);

impl ProfileName {
    pub(crate) const DEFAULT: &'static str = "default";

    /// Returns the name as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Windows reserves the name for a device, so that no file can have this name.
    pub(crate) fn is_reserved_by_windows(&self) -> bool {
        let name = self.0.to_ascii_lowercase();
        matches!(
            name.as_bytes(),
            b"con"
                | b"prn"
                | b"aux"
                | b"nul"
                | [b'c', b'o', b'm', b'0'..=b'9']
                | [b'l', b'p', b't', b'0'..=b'9']
        )
    }
}

impl Default for ProfileName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for ProfileName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text.is_empty() {
            Err("a profile name must not be empty")
        } else if !text.bytes().all(is_allowed) {
            Err("a profile name may contain only letters, digits, `-` and `_`")
        } else if text.len() > 64 {
            Err("a profile name must have at most 64 characters")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_names() {
        for valid in ["default", "work-2", "A_b", &"x".repeat(64)] {
            assert_eq!(
                valid.parse::<ProfileName>().map(|n| n.0),
                Ok(valid.to_owned())
            );
        }
        for (invalid, reason) in [
            ("", "must not be empty"),
            ("../x", "may contain only"),
            ("a.b", "may contain only"),
            ("é", "may contain only"),
            ("a\0", "may contain only"),
            (&*"x".repeat(65), "at most 64"),
        ] {
            let error = invalid.parse::<ProfileName>().unwrap_err();
            assert!(error.contains(reason), "{invalid:?}: {error}");
        }
    }
}
