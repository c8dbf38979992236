//! What the checks find, and how it is printed.

use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Problem,
}

#[derive(Serialize)]
struct Finding {
    level: Level,
    topic: &'static str,
    text: String,
    fix: Option<String>,
}

/// The results of all checks, in the order of the checks.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, topic: &'static str, text: String, fix: Option<String>) {
        self.0.push(Finding {
            level,
            topic,
            text,
            fix,
        });
    }

    pub(super) fn ok(&mut self, topic: &'static str, text: impl Into<String>) {
        self.add(Level::Ok, topic, text.into(), None);
    }

    pub(super) fn warning(
        &mut self,
        topic: &'static str,
        text: impl Into<String>,
        fix: Option<String>,
    ) {
        self.add(Level::Warning, topic, text.into(), fix);
    }

    /// Adds a problem, fixed by the hint of the failure.
    pub(super) fn problem(&mut self, topic: &'static str, failure: Failure) {
        self.add(Level::Problem, topic, failure.message, failure.hint);
    }

    /// Prints all findings. Returns an error if one of them is a problem.
    pub(super) fn print(&self, context: &Context<'_>) -> Result<(), Error> {
        let Self(found) = self;
        let problems = found.iter().filter(|f| f.level == Level::Problem).count();
        let json = json!({"ok": problems == 0, "findings": found});
        if !context.settings.json {
            for Finding {
                level,
                topic,
                text,
                fix,
            } in found
            {
                let level = match level {
                    Level::Ok => "ok",
                    Level::Warning => "warning",
                    Level::Problem => "problem",
                };
                context
                    .terminal
                    .answer(&format!("{level:<9}{topic:<10}{text}"))?;
                if let Some(fix) = fix {
                    context.terminal.answer(&format!("{:19}fix: {fix}", ""))?;
                }
            }
        }
        let message = match problems {
            0 if context.settings.json => return Ok(context.terminal.answer_json(json)?),
            0 => return Ok(()),
            1 => "there is 1 problem".to_owned(),
            _ => format!("there are {problems} problems"),
        };
        Err(Failure {
            partial_result: Some(json),
            ..Failure::new(Outcome::Failed, message)
        }
        .into())
    }
}
