//! Unlocks collections and entries, and runs the prompts that this takes.

use zbus::zvariant::OwnedObjectPath;

use super::bus::Result;
use super::daemon::{Daemon, property};
use super::prompt::{NO_OBJECT, Question};
use super::service::{COLLECTION, Service};
use crate::store::KeyringOptions;

impl Service {
    /// Unlocks objects. Without a person to answer, only a prompt that asks nothing is run.
    pub(super) async fn unlock(
        &mut self,
        objects: &[OwnedObjectPath],
        options: &KeyringOptions,
    ) -> Result<()> {
        let (_, prompt): (Vec<OwnedObjectPath>, OwnedObjectPath) =
            self.call_service("Unlock", &objects).await?;
        if prompt.as_str() == NO_OBJECT {
            return Ok(());
        }
        let question = self.question(objects).await;
        if options.prompt_timeout.is_none() && question != Question::Nothing {
            return Err(question.unanswered());
        }
        self.run_prompt(&prompt, question, options).await
    }

    /// Runs a prompt, if the service returned one.
    pub(super) async fn run_prompt(
        &mut self,
        prompt: &str,
        question: Question,
        options: &KeyringOptions,
    ) -> Result<()> {
        if prompt == NO_OBJECT {
            return Ok(());
        }
        if let (Some(error), Question::Unlock) = (&self.unlock_refusal, question) {
            return Err(error.clone());
        }
        let daemon = self.daemon().await;
        let result = self
            .bus
            .complete_prompt(prompt, question, daemon, options)
            .await;
        if let (Err(error), Question::Unlock) = (&result, question) {
            self.unlock_refusal = Some(error.clone());
        }
        result
    }

    /// Returns what the prompt that unlocks `objects` will ask.
    async fn question(&mut self, objects: &[OwnedObjectPath]) -> Question {
        let Some(object) = objects.first() else {
            return Question::Nothing;
        };
        let collection = collection_of(object);
        if let Daemon::KWallet(kwallet) = self.daemon().await {
            let wallet: Option<String> = property(&self.bus, collection, COLLECTION, "Label").await;
            return match wallet {
                Some(wallet) if kwallet.is_open(&self.bus, &wallet).await => Question::Nothing,
                _ => Question::Unlock,
            };
        }
        // KeePassXC shows an entry as locked until a person allows its use.
        if collection != object.as_str() && !self.is_locked(collection).await {
            return Question::Access;
        }
        Question::Unlock
    }

    /// Returns whether a collection exists and is locked.
    pub(super) async fn is_locked(&self, collection: &str) -> bool {
        property(&self.bus, collection, COLLECTION, "Locked")
            .await
            .unwrap_or(false)
    }
}

/// Returns the collection of an item: its path without the last part.
pub(super) fn collection_of(path: &str) -> &str {
    const PREFIX: &str = "/org/freedesktop/secrets/collection/";
    let end = path
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.find('/'))
        .map_or(path.len(), |end| PREFIX.len() + end);
    &path[..end]
}
