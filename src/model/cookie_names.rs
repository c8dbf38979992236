//! The names of the cookies that carry a session's tokens.

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
    #[must_use]
    pub fn new(access: Option<&str>, refresh: Option<&str>) -> Self {
        Self {
            access: access.unwrap_or(Self::ACCESS).to_owned(),
            refresh: refresh.unwrap_or(Self::REFRESH).to_owned(),
        }
    }
}

impl Default for CookieNames {
    fn default() -> Self {
        Self::new(None, None)
    }
}
