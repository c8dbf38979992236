//! The captcha response: good for two minutes and once, so asked for last.

use clap::Args;

use crate::exit::Failure;
use crate::model::Secret;

/// Where the captcha response comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Captcha")]
pub(crate) struct CaptchaArgs {
    /// Response to the service's captcha, valid for two minutes and one use
    #[arg(long, value_name = "TOKEN")]
    pub(super) captcha: Option<String>,
}

impl CaptchaArgs {
    /// Refuses an empty response before anything is asked.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.captcha.as_deref() {
            Some("") => Err(Failure::usage("--captcha is empty")),
            _ => Ok(()),
        }
    }

    pub(super) fn response(&self) -> Option<Secret> {
        self.captcha.clone().map(Secret::new)
    }
}
