//! Collects and prints the results of the checks.

use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};

#[derive(Serialize)]
struct Finding {
    /// `ok`, `warning` or `problem`.
    level: &'static str,
    topic: &'static str,
    text: String,
    fix: Option<String>,
}

/// The results of all checks, in the order of the checks.
pub(super) struct Findings<'c> {
    context: &'c Context<'c>,
    list: Vec<Finding>,
}

impl<'c> Findings<'c> {
    pub(super) fn new(context: &'c Context<'c>) -> Self {
        let list = Vec::new();
        Self { context, list }
    }

    fn add(&mut self, level: &'static str, topic: &'static str, text: String, fix: Option<String>) {
        self.list.push(Finding {
            level,
            topic,
            text,
            fix,
        });
    }

    pub(super) fn ok(&mut self, topic: &'static str, text: impl Into<String>) {
        self.add("ok", topic, text.into(), None);
    }

    pub(super) fn warning(
        &mut self,
        topic: &'static str,
        text: impl Into<String>,
        fix: Option<String>,
    ) {
        self.add("warning", topic, text.into(), fix);
    }

    /// Adds an error as a problem, with the hint of the error as its fix.
    pub(super) fn problem(&mut self, topic: &'static str, error: impl Into<Error>) {
        let failure = self.context.to_failure(error.into());
        self.add("problem", topic, failure.message, failure.hint);
    }

    /// Prints all findings. Returns an error if one of them is a problem.
    pub(super) fn print(self) -> Result<(), Error> {
        let findings = self.list;
        let problems = findings.iter().filter(|f| f.level == "problem").count();
        let message = match problems {
            1 => "there is 1 problem".to_owned(),
            _ => format!("there are {problems} problems"),
        };
        let failure = (problems > 0).then(|| Failure::new(Outcome::Failed, message));
        let json = json!({"ok": problems == 0, "findings": findings});
        if !self.context.settings.json {
            let terminal = self.context.terminal;
            for Finding {
                level,
                topic,
                text,
                fix,
            } in findings
            {
                terminal.print_line(&format!("{level:<9}{topic:<10}{text}"))?;
                if let Some(fix) = fix {
                    terminal.print_line(&format!("{:19}fix: {fix}", ""))?;
                }
            }
        }
        self.context.finish_command(&json, failure)
    }
}
