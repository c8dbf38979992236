//! The name of a profile, which is also the account name of its entry in a secret store.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

const MAX_LENGTH: usize = 64;

/// Letters, digits, `-` and `_` of ASCII; one to 64 of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ProfileName(String);

/// Why a text is not the name of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProfileNameError {
    /// No text.
    #[error("a profile name must not be empty")]
    Empty,
    /// More than 64 characters.
    #[error("a profile name must have at most {MAX_LENGTH} characters")]
    Long,
    /// A character outside the grammar.
    #[error("a profile name may contain only letters, digits, `-` and `_`")]
    Character,
}

impl ProfileName {
    pub(crate) const DEFAULT: &'static str = "default";

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether Windows reserves the name for a device, so that no file can have it.
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
    type Err = ProfileNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ProfileNameError::Empty);
        }
        if !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(ProfileNameError::Character);
        }
        if text.len() > MAX_LENGTH {
            return Err(ProfileNameError::Long);
        }
        Ok(Self(text.to_owned()))
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
    fn the_grammar() {
        for good in ["default", "work-2", "A_b", &"x".repeat(64)] {
            assert_eq!(
                good.parse::<ProfileName>().map(|n| n.0),
                Ok(good.to_owned())
            );
        }
        for (bad, why) in [
            ("", ProfileNameError::Empty),
            ("../x", ProfileNameError::Character),
            ("a.b", ProfileNameError::Character),
            ("é", ProfileNameError::Character),
            ("a\0", ProfileNameError::Character),
            (&*"x".repeat(65), ProfileNameError::Long),
        ] {
            assert_eq!(bad.parse::<ProfileName>(), Err(why), "{bad:?}");
        }
    }
}
