//! The names of the cookies that carry a session's tokens.

/// The names of the access and the refresh cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieNames {
    /// The name of the cookie that carries the access token.
    pub access: String,
    /// The name of the cookie that carries the refresh token.
    pub refresh: String,
}

impl CookieNames {
    /// The name of the default service's access cookie.
    pub(crate) const DEFAULT_ACCESS: &str = "access_token";
    /// The name of the default service's refresh cookie.
    pub(crate) const DEFAULT_REFRESH: &str = "refresh_token";

    /// Replaces each `None` by the name that the default service uses.
    pub fn new(access: Option<&str>, refresh: Option<&str>) -> Self {
        Self {
            access: access.unwrap_or(Self::DEFAULT_ACCESS).to_owned(),
            refresh: refresh.unwrap_or(Self::DEFAULT_REFRESH).to_owned(),
        }
    }

    /// Finds the two token cookies among `names`, for a server that does not use the
    /// configured names: the only name that contains `access`, and the only name that
    /// contains `refresh`. Ignores names that contain both. Returns `None` if there are
    /// several candidates for either.
    pub fn find_pair<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Option<Self> {
        let only_name_with = |word: &str, other: &str| {
            let mut candidates = names.clone().filter(|name| {
                let lower = name.to_ascii_lowercase();
                Self::is_valid(name) && lower.contains(word) && !lower.contains(other)
            });
            let name = candidates.next()?;
            candidates.next().is_none().then_some(name)
        };
        let access = only_name_with("access", "refresh")?;
        let refresh = only_name_with("refresh", "access")?;
        Some(Self::new(Some(access), Some(refresh)))
    }

    /// Whether the text is a valid cookie name, which is what HTTP calls a token
    /// (RFC 6265 §4.1.1, RFC 9110 §5.6.2).
    pub fn is_valid(name: &str) -> bool {
        let is_token_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !name.is_empty() && name.bytes().all(is_token_byte)
    }
}

impl Default for CookieNames {
    fn default() -> Self {
        Self::new(None, None)
    }
}
