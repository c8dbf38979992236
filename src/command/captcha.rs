//! The `--captcha` flag. A captcha response is valid for two minutes and one use, so the
//! program asks for it after all other inputs.

use clap::Args;

use crate::exit::Failure;
use crate::model::Secret;

#[derive(Debug, Args)]
#[command(next_help_heading = "Captcha")]
pub(crate) struct CaptchaArgs {
    /// Response to the service's captcha, valid for two minutes and one use
    #[arg(long, value_name = "RESPONSE")]
    captcha: Option<String>,
}

impl CaptchaArgs {
    /// Returns an error if the response is empty. Call this before any prompt.
    pub(super) fn refuse_empty(&self) -> Result<(), Failure> {
        match self.captcha.as_deref() {
            Some("") => Err(Failure::usage("--captcha is empty")),
            _ => Ok(()),
        }
    }

    pub(super) fn is_given(&self) -> bool {
        self.captcha.is_some()
    }

    pub(super) fn response(&self) -> Option<Secret> {
        self.captcha.clone().map(Secret::new)
    }
}
