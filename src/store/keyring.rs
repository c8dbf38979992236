//! Chooses the keyring of the platform: the Secret Service on Linux and the
//! BSDs, the operating system's keyring on macOS and Windows.

use std::time::Duration;

use super::SecretStore;

/// The service name that all our keyring entries have.
pub(super) const SERVICE_NAME: &str = "rememberizer";

/// The address and the timeouts of a keyring, and callbacks for its prompts and log.
#[cfg_attr(
    any(target_os = "macos", windows),
    expect(
        dead_code,
        reason = "only the Secret Service uses the address and the callbacks"
    )
)]
pub struct KeyringOptions {
    /// The value of `DBUS_SESSION_BUS_ADDRESS`, if the variable is set.
    pub(crate) bus_addresses: Option<String>,
    /// Timeout of one call that does not prompt.
    pub(crate) timeout: Duration,
    /// How long to wait for a person's response to a prompt of the keyring. `None` if no
    /// person can respond; then no prompt is shown.
    pub(crate) prompt_timeout: Option<Duration>,
    /// Called before the keyring shows a prompt.
    pub(crate) on_prompt: OnPrompt,
    /// Receives a line for the log that `-v` prints.
    pub(crate) log: Box<dyn Fn(&str) + Send + Sync>,
}

/// Receives a line to print for the person, and a function that dismisses the prompt. Call
/// that function if the process exits before the prompt is completed.
pub type OnPrompt = Box<dyn Fn(&str, DismissPrompt) + Send + Sync>;

/// Dismisses a prompt, if it is not completed. May be called from any thread.
pub type DismissPrompt = Box<dyn FnOnce() + Send>;

/// Returns the keyring of the platform. It connects at the first operation.
pub(crate) fn platform_keyring(options: KeyringOptions) -> Box<dyn SecretStore> {
    #[cfg(all(unix, not(target_os = "macos")))]
    return Box::new(super::secret_service::SecretServiceStore::new(options));
    #[cfg(any(target_os = "macos", windows))]
    return Box::new(super::os_keyring::OsKeyring::new(&options));
}
