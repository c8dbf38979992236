//! Unlocks collections and items, and decides which prompts to run.

use zbus::zvariant::OwnedObjectPath;

use super::bus::Result;
use super::daemon::Daemon;
use super::prompt::{NO_OBJECT, Question};
use super::service::Service;

impl Service {
    /// Unlocks collections or items. If no person can be prompted, runs only a prompt
    /// that asks nothing.
    pub(super) async fn unlock(&mut self, objects: &[OwnedObjectPath]) -> Result<()> {
        let (_, prompt): (Vec<OwnedObjectPath>, OwnedObjectPath) =
            self.call_service("Unlock", &objects).await?;
        if prompt.as_str() == NO_OBJECT {
            self.unlock_error = None;
            return Ok(());
        }
        let question = self.unlock_question(objects).await;
        if self.options.prompt_timeout.is_none() && question != Question::Nothing {
            return Err(question.to_error());
        }
        self.run_prompt(&prompt, question).await
    }

    /// Runs a prompt, unless its path is [`NO_OBJECT`].
    pub(super) async fn run_prompt(&mut self, prompt: &str, question: Question) -> Result<()> {
        if prompt == NO_OBJECT {
            return Ok(());
        }
        if let (Some(error), Question::Unlock) = (&self.unlock_error, question) {
            return Err(error.clone());
        }
        let daemon = self.daemon().await;
        let result = self
            .bus
            .complete_prompt(prompt, question, daemon, &self.options)
            .await;
        if let (Err(error), Question::Unlock) = (&result, question) {
            self.unlock_error = Some(error.clone());
        }
        result
    }

    /// Returns what a prompt to unlock `objects` asks.
    async fn unlock_question(&mut self, objects: &[OwnedObjectPath]) -> Question {
        let Some(object) = objects.first() else {
            return Question::Nothing;
        };
        let collection = collection_of(object);
        if let Daemon::KWallet(kwallet) = self.daemon().await {
            return match self.collection_label(collection).await {
                Some(wallet) if kwallet.is_open(&self.bus, &wallet).await => Question::Nothing,
                _ => Question::Unlock,
            };
        }
        // KeePassXC reports an item as locked until a person allows access to it.
        if collection != object.as_str() && !self.is_locked(collection).await {
            return Question::Access;
        }
        Question::Unlock
    }
}

/// Returns the path of the collection that holds an item. Any other path is returned
/// unchanged.
pub(super) fn collection_of(path: &str) -> &str {
    const PREFIX: &str = "/org/freedesktop/secrets/collection/";
    let end = path
        .strip_prefix(PREFIX)
        .and_then(|name_and_item| name_and_item.find('/'))
        .map_or(path.len(), |name_len| PREFIX.len() + name_len);
    &path[..end]
}
