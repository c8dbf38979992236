//! Secret texts, which must not be printed or logged by accident.
//!
//! A secret is wiped from memory when dropped, has no `Display` and no
//! `Clone`, a redacted `Debug`, and is compared in constant time.
//! [`Secret::expose`] is called only where a secret must leave the process: in HTTP
//! requests (`api/`), in stored entries (`store/`), on stdout for the command that
//! prints a token (`terminal/`), in the environment of `exec`'s child, and on the
//! stdin of the command that receives new refresh tokens (`session/on_rotate.rs`).

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Maximum size of a token. Many servers already refuse headers half as large.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Returns the text if it can be sent as a token in a header: printable ASCII without
/// `;`. RFC 6265 §4.1.1 allows fewer characters, but a server accepts the values that
/// it has sent. The error completes a sentence that begins with the token's name.
pub fn validate_token_text(text: &str) -> Result<&str, &'static str> {
    if text.len() > MAX_TOKEN_BYTES {
        Err("is too long for a token")
    } else if !text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b';') {
        Err("has a character that cannot be sent in a header")
    } else {
        Ok(text)
    }
}

/// A secret text: a password, a captcha response, a token.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of the text. The caller must keep no copy.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the text itself. Call this only where the secret must leave the process.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the secret is the empty text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the secret contains this character.
    pub fn contains(&self, character: char) -> bool {
        self.0.contains(character)
    }

    /// Checks that the text can be sent as a token.
    pub fn validate_as_token(&self) -> Result<(), &'static str> {
        validate_token_text(&self.0).map(drop)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// The short-lived bearer token (RFC 6750), opaque to this program.
#[derive(Debug, PartialEq, Eq)]
pub struct AccessToken(Secret);

/// The long-lived token that is exchanged for access tokens (RFC 6749 §1.5).
///
/// It cannot be cloned: a server that rotates refresh tokens accepts each of them
/// only once.
#[derive(Debug, PartialEq, Eq)]
pub struct RefreshToken(Secret);

impl AccessToken {
    /// Takes the token exactly as the server sent it.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Returns the token's text.
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

impl RefreshToken {
    /// Takes the token exactly as the server sent it.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Returns the token's text.
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_is_redacted() {
        let output = format!(
            "{:?} {:?} {:?}",
            Secret::new("hunter2".into()),
            AccessToken::new(Secret::new("hunter2".into())),
            RefreshToken::new(Secret::new("hunter2".into())),
        );
        assert_eq!(
            output,
            "[redacted] AccessToken([redacted]) RefreshToken([redacted])"
        );
    }

    #[test]
    fn secrets_with_the_same_text_are_equal() {
        assert_eq!(Secret::new("a".into()), Secret::new("a".into()));
        assert_ne!(Secret::new("a".into()), Secret::new("ab".into()));
        assert_ne!(Secret::new("a".into()), Secret::new("b".into()));
    }
}
