//! Chooses the keyring of the platform: the Secret Service on Linux and the
//! BSDs, the operating system's keyring on macOS and Windows.

use std::time::Duration;

use super::SecretStore;

/// The service name of every entry.
pub(super) const SERVICE: &str = "rememberizer";

/// Limits for the calls to a keyring, and callbacks for what a person should see.
pub struct KeyringOptions {
    /// Limit for one call that does not prompt.
    pub timeout: Duration,
    /// Limit for a person's answer to a prompt of the keyring. With `None`
    /// nobody can answer, and no prompt is shown.
    pub prompt_timeout: Option<Duration>,
    /// Called before the keyring shows a prompt, with a line for the person and a
    /// function that dismisses the prompt before the process ends.
    pub on_prompt: OnPrompt,
    /// Receives a line for the log that `-v` prints.
    pub log: Box<dyn Fn(&str) + Send + Sync>,
}

/// Receives the line for the person and the function that dismisses the prompt.
pub type OnPrompt = Box<dyn Fn(&str, DismissPrompt) + Send + Sync>;

/// Dismisses a prompt, if it is still open. May be called from any thread.
pub type DismissPrompt = Box<dyn FnOnce() + Send>;

/// Returns the keyring of the platform. Nothing connects before the first call.
pub(crate) fn platform_keyring(options: KeyringOptions) -> Box<dyn SecretStore> {
    #[cfg(all(unix, not(target_os = "macos")))]
    return Box::new(super::secret_service::SecretServiceStore::new(options));
    #[cfg(any(target_os = "macos", windows))]
    return Box::new(super::os_keyring::OsKeyring::new(&options));
}
