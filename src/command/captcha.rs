//! The captcha response: good for two minutes and once, so asked for last.

use clap::Args;

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::model::Secret;

/// What to do where a captcha stops a person or a script.
pub const WAYS_IN: &str = "give a response with --captcha TOKEN, or take over the session of a browser: \
    its refresh_token cookie into rememberizer login --refresh-token-stdin";

/// Where the captcha response comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Captcha")]
pub struct CaptchaArgs {
    /// The response of the service's captcha, good for two minutes and once
    #[arg(long, value_name = "TOKEN")]
    pub captcha: Option<String>,
}

impl CaptchaArgs {
    /// The response that a flag gives, or that the profile's site key says is needed.
    pub fn up_front(&self, context: &Context<'_>) -> Result<Option<Secret>, anyhow::Error> {
        if let Some(captcha) = &self.captcha {
            if captcha.is_empty() {
                return Err(Failure::usage("--captcha is empty").into());
            }
            return Ok(Some(Secret::new(captcha.clone())));
        }
        if context.profile().site_key.is_some() {
            return self.ask(context).map(Some);
        }
        Ok(None)
    }

    /// The response that the server asked for.
    pub fn ask(&self, context: &Context<'_>) -> Result<Secret, anyhow::Error> {
        if !context.terminal.can_prompt() {
            return Err(Failure::new(
                Outcome::CaptchaRequired,
                "the server wants a captcha response, and nobody can be asked for one",
            )
            .hint(WAYS_IN)
            .into());
        }
        Ok(context
            .terminal
            .ask_secret("Rememberizer captcha response:")?)
    }
}
