//! The names of the cookies that carry a session's tokens.

/// A longer name is not taken without being asked: it may be a part of a value.
const LONGEST_NAME: usize = 64;

/// The names of the access and the refresh cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieNames {
    /// `access_token` on the default service.
    pub access: String,
    /// `refresh_token` on the default service.
    pub refresh: String,
}

impl CookieNames {
    /// The access cookie of the default service.
    pub(crate) const ACCESS: &str = "access_token";
    /// The refresh cookie of the default service.
    pub(crate) const REFRESH: &str = "refresh_token";

    /// Takes the default for a name that is not given.
    pub fn new(access: Option<&str>, refresh: Option<&str>) -> Self {
        Self {
            access: access.unwrap_or(Self::ACCESS).to_owned(),
            refresh: refresh.unwrap_or(Self::REFRESH).to_owned(),
        }
    }

    /// Finds the only pair of names with `access` and `refresh` in them, for a
    /// server that does not use the configured names.
    pub fn find_pair<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Option<Self> {
        let only = |word: &str, other: &str| {
            let mut found = names.clone().filter(|name| {
                let lower = name.to_ascii_lowercase();
                let is_name = Self::is_valid(name) && name.len() <= LONGEST_NAME;
                is_name && lower.contains(word) && !lower.contains(other)
            });
            let name = found.next()?;
            found.next().is_none().then_some(name)
        };
        let (access, refresh) = (only("access", "refresh")?, only("refresh", "access")?);
        Some(Self::new(Some(access), Some(refresh)))
    }

    /// Whether a cookie can have this name: a token (RFC 6265 §4.1.1, RFC 9110 §5.6.2).
    pub fn is_valid(name: &str) -> bool {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !name.is_empty() && name.bytes().all(is_token)
    }
}

impl Default for CookieNames {
    fn default() -> Self {
        Self::new(None, None)
    }
}
