//! Runs the prompts of the service: waits for a person's answer with a limit, and
//! dismisses a prompt that nobody waits for any more.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::zvariant::Value;
use zbus::{MatchRule, MessageStream};

use super::SecretServiceError;
use super::bus::{Bus, Result, with_timeout};
use super::daemon::Daemon;
use crate::store::KeyringOptions;

const PROMPT: &str = "org.freedesktop.Secret.Prompt";

/// The object path that means "no object".
pub(super) const NO_OBJECT: &str = "/";

/// A prompt that ends sooner than this was not seen by a person: the service could
/// not show it.
const INSTANT_DISMISSAL: Duration = Duration::from_millis(500);

/// How long the end of the process waits for a prompt to be dismissed.
const DISMISS_TIMEOUT: Duration = Duration::from_millis(500);

/// What a prompt asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Nothing: the service completes it by itself.
    Nothing,
    Unlock,
    Access,
    Delete,
}

impl Question {
    fn notice(self, daemon: Daemon) -> Option<String> {
        let notice = match self {
            Self::Nothing => return None,
            Self::Unlock => "unlock the keyring to go on",
            Self::Access => "allow rememberizer to use its entry in the keyring to go on",
            Self::Delete => "if the keyring asks, confirm the deletion of the entry to go on",
        };
        Some(match daemon.can_dismiss() {
            true => notice.to_owned(),
            false => format!("{notice} (Ctrl-C leaves its dialog open)"),
        })
    }

    /// Returns the error if nobody answers or the answer is no.
    pub(super) fn unanswered(self) -> SecretServiceError {
        match self {
            Self::Nothing | Self::Unlock => SecretServiceError::Locked,
            Self::Access => SecretServiceError::AccessNotAllowed,
            Self::Delete => SecretServiceError::DeletionNotConfirmed,
        }
    }
}

enum Ended<T> {
    Completed(T),
    Interrupted,
}

impl Bus {
    /// Runs a prompt and waits for its end.
    pub(super) async fn complete_prompt(
        &self,
        prompt: &str,
        question: Question,
        daemon: Daemon,
        options: &KeyringOptions,
    ) -> Result<()> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .path(prompt)
            .and_then(|rule| rule.interface(PROMPT))
            .and_then(|rule| rule.member("Completed"));
        let rule = self.map_bus_err(rule)?.build();
        let completed = MessageStream::for_match_rule(rule, &self.connection, Some(1)).await;
        let mut completed = self.map_bus_err(completed)?;

        let person = options
            .prompt_timeout
            .filter(|_| question != Question::Nothing);
        let (interrupt, mut interrupted) = oneshot::channel::<()>();
        let (dismissed, wait_dismissed) = mpsc::channel::<()>();
        let dismiss = move || {
            // Fails if the prompt has ended; then there is nothing to dismiss.
            if interrupt.send(()).is_ok() {
                // Returns when the sender is dropped, after the dismissal.
                let _ = wait_dismissed.recv_timeout(DISMISS_TIMEOUT);
            }
        };
        if let (Some(_), Some(notice)) = (person, question.notice(daemon)) {
            (options.on_prompt)(&notice, Box::new(dismiss));
        }
        let started = Instant::now();
        let no_window = "";
        let () = self.call(prompt, PROMPT, "Prompt", &no_window).await?;
        let ended = poll_fn(|cx| {
            if let Poll::Ready(signal) = Pin::new(&mut completed).poll_next(cx) {
                return Poll::Ready(Ended::Completed(signal));
            }
            match Pin::new(&mut interrupted).poll(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Ended::Interrupted),
                _ => Poll::Pending,
            }
        });
        let signal = match with_timeout(person.unwrap_or(self.timeout), ended).await {
            Some(Ended::Completed(signal)) => signal,
            ended => {
                if daemon.can_dismiss() {
                    let _: Result<()> = self.call(prompt, PROMPT, "Dismiss", &()).await;
                }
                drop(dismissed);
                if matches!(ended, Some(Ended::Interrupted)) {
                    // The process is about to end: print nothing meanwhile.
                    tokio::time::sleep(DISMISS_TIMEOUT).await;
                }
                return Err(question.unanswered());
            }
        };
        let signal = self.map_bus_err(signal.ok_or(SecretServiceError::Absent)?)?;
        let body = signal.body();
        let (dismissed, _): (bool, Value<'_>) = self.map_bus_err(body.deserialize())?;
        match dismissed {
            false => Ok(()),
            true if question == Question::Unlock && started.elapsed() > INSTANT_DISMISSAL => {
                Err(SecretServiceError::Dismissed)
            }
            true => Err(question.unanswered()),
        }
    }
}
