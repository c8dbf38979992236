//! Runs the prompts of the service: waits for a person's response, and dismisses a prompt
//! at the timeout or if the process exits.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::zvariant::Value;
use zbus::{MatchRule, MessageStream};

use super::SecretServiceError;
use super::bus::{Bus, Result};
use super::daemon::Daemon;
use crate::store::KeyringOptions;

const PROMPT_INTERFACE: &str = "org.freedesktop.Secret.Prompt";

/// The object path that means "no object".
pub(super) const NO_OBJECT: &str = "/";

/// A prompt that is dismissed sooner was not dismissed by a person: the service could
/// not show its dialog.
const MIN_PERSON_RESPONSE_TIME: Duration = Duration::from_millis(500);

/// How long the exit of the process waits for a prompt to be dismissed.
const DISMISS_TIMEOUT: Duration = Duration::from_millis(500);

/// What a prompt asks a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// No question: the service completes the prompt without a dialog.
    Nothing,
    Unlock,
    Access,
    Delete,
}

impl Question {
    /// Returns the line that tells a person to respond to the dialog.
    fn instruction(self, daemon: Daemon) -> Option<String> {
        let instruction = match self {
            Self::Nothing => return None,
            Self::Unlock => "unlock the keyring to continue",
            Self::Access => "to continue, allow rememberizer to access its keyring entry",
            Self::Delete => "if the keyring asks, confirm the deletion of the entry to continue",
        };
        Some(match daemon.can_dismiss_prompts() {
            true => instruction.to_owned(),
            false => format!("{instruction} (Ctrl-C leaves the dialog open)"),
        })
    }

    /// Returns the error for a prompt that a person refused, or that no person responded to.
    pub(super) fn to_error(self) -> SecretServiceError {
        match self {
            Self::Nothing | Self::Unlock => SecretServiceError::Locked,
            Self::Access => SecretServiceError::AccessNotConfirmed,
            Self::Delete => SecretServiceError::DeletionNotConfirmed,
        }
    }
}

impl Bus {
    async fn completion_signals(&self, prompt: &str) -> Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .path(prompt)
            .and_then(|rule| rule.interface(PROMPT_INTERFACE))
            .and_then(|rule| rule.member("Completed"));
        let rule = self.map_bus_err(rule)?.build();
        let signals = MessageStream::for_match_rule(rule, &self.connection, Some(1)).await;
        self.map_bus_err(signals)
    }

    /// Runs a prompt and waits until the service completes it.
    pub(super) async fn complete_prompt(
        &self,
        prompt: &str,
        question: Question,
        daemon: Daemon,
        options: &KeyringOptions,
    ) -> Result<()> {
        let mut signals = pin!(self.completion_signals(prompt).await?);
        let (interrupt, mut interrupted) = oneshot::channel::<()>();
        let (dismissal_done, wait_for_dismissal) = mpsc::channel::<()>();
        let dismiss = move || {
            // Sending fails if the prompt is completed. Then there is nothing to dismiss.
            if interrupt.send(()).is_ok() {
                // Returns when `dismissal_done` is dropped.
                let _ = wait_for_dismissal.recv_timeout(DISMISS_TIMEOUT);
            }
        };
        let instruction = question.instruction(daemon);
        let timeout = match (options.prompt_timeout, instruction) {
            (Some(prompt_timeout), Some(instruction)) => {
                (options.on_prompt)(&instruction, Box::new(dismiss));
                prompt_timeout
            }
            // No person responds to this prompt.
            _ => self.timeout,
        };
        let started = Instant::now();
        let no_window = "";
        let () = self
            .call(prompt, PROMPT_INTERFACE, "Prompt", &no_window)
            .await?;
        let (completed, is_interrupted) = tokio::select! {
            biased;
            signal = poll_fn(|cx| signals.as_mut().poll_next(cx)) => (Some(signal), false),
            Ok(()) = &mut interrupted => (None, true),
            () = tokio::time::sleep(timeout) => (None, false),
        };
        let Some(signal) = completed else {
            if daemon.can_dismiss_prompts() {
                let _: Result<()> = self.call(prompt, PROMPT_INTERFACE, "Dismiss", &()).await;
            }
            drop(dismissal_done);
            if is_interrupted {
                // Another thread exits the process now. Wait for the exit, so that this
                // thread does not print the error.
                tokio::time::sleep(DISMISS_TIMEOUT).await;
            }
            return Err(question.to_error());
        };
        let signal = self.map_bus_err(signal.ok_or(SecretServiceError::Absent)?)?;
        let body = signal.body();
        let (dismissed, _): (bool, Value<'_>) = self.map_bus_err(body.deserialize())?;
        match dismissed {
            false => Ok(()),
            true if question == Question::Unlock
                && started.elapsed() > MIN_PERSON_RESPONSE_TIME =>
            {
                Err(SecretServiceError::Dismissed)
            }
            true => Err(question.to_error()),
        }
    }
}
