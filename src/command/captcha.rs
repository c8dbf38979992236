//! The captcha response: good for two minutes and once, so asked for last.

use clap::Args;

use crate::browser::{CaptchaPage, PATIENCE};
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::explain::{CommandLine, captcha_hint};
use crate::model::Secret;
use crate::settings::SECRET_VARIABLES;

fn other_way_in(say: CommandLine<'_>) -> String {
    format!(
        "take over the session of a browser: its refresh_token cookie into {}",
        say("login --refresh-token-stdin")
    )
}

/// Where the captcha response comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Captcha")]
pub struct CaptchaArgs {
    /// The response of the service's captcha, good for two minutes and once
    #[arg(long, value_name = "TOKEN")]
    pub captcha: Option<String>,
    /// Solve the captcha on a page in your browser; wants the profile's site_key
    #[arg(long, conflicts_with = "captcha")]
    pub captcha_browser: bool,
}

impl CaptchaArgs {
    /// Looks whether a flag asks for what cannot be, before anything else is asked.
    pub(super) fn check(&self, context: &Context<'_>) -> Result<(), Failure> {
        if self.captcha.as_deref() == Some("") {
            return Err(Failure::usage("--captcha is empty"));
        }
        let wanted = context.profile().site_key.is_some();
        if self.captcha_browser && !wanted {
            return Err(
                Failure::usage("the profile has no site key to show in a browser").hint(format!(
                    "find data-sitekey in the source of the service's sign-in page, then {}",
                    context.command_line("profile set site_key KEY")
                )),
            );
        }
        if wanted && self.captcha.is_none() && !self.someone(context) {
            return Err(nobody(context));
        }
        Ok(())
    }

    /// The response that a flag gives, or that the profile's site key says is needed.
    pub(super) fn up_front(&self, context: &Context<'_>) -> Result<Option<Secret>, Error> {
        if let Some(captcha) = &self.captcha {
            return Ok(Some(Secret::new(captcha.clone())));
        }
        if context.profile().site_key.is_some() {
            return self.ask(context).map(Some);
        }
        Ok(None)
    }

    /// The response that the server asked for.
    pub(super) fn ask(&self, context: &Context<'_>) -> Result<Secret, Error> {
        if !self.someone(context) {
            return Err(nobody(context).into());
        }
        if self.captcha_browser {
            return in_browser(context);
        }
        let terminal = context.terminal;
        terminal.instruct(
            "the server wants a captcha response: paste one, or leave with Ctrl-C and solve one with --captcha-browser,",
        );
        terminal.instruct(&format!(
            "or {}",
            other_way_in(&|c| context.command_line(c))
        ));
        Ok(terminal.ask_secret("Rememberizer captcha response")?)
    }

    /// Whether somebody is there to solve it: whoever asks for a browser is.
    fn someone(&self, context: &Context<'_>) -> bool {
        context.terminal.can_prompt() || self.captcha_browser && !context.terminal.no_input()
    }
}

fn nobody(context: &Context<'_>) -> Failure {
    Failure::new(
        Outcome::CaptchaRequired,
        "the server wants a captcha response, and nobody can be asked for one",
    )
    .hint(captcha_hint(&|command| context.command_line(command)))
}

fn in_browser(context: &Context<'_>) -> Result<Secret, Error> {
    let site_key = context.profile().site_key.unwrap_or_default();
    let page = CaptchaPage::bind(&site_key)?;
    let terminal = context.terminal;
    terminal.instruct(&format!(
        "solve the captcha in your browser, within two minutes: {}",
        page.url()
    ));
    terminal.instruct(&format!(
        "a site key works on the domains that its owner allows; where the page shows an error, {}",
        other_way_in(&|command| context.command_line(command))
    ));
    context.interrupts.watch();
    if !page.open(&SECRET_VARIABLES) {
        terminal.verbose("no browser could be opened");
    }
    let _waiting = terminal.spin("waiting for the captcha in the browser");
    page.wait(PATIENCE).ok_or_else(|| {
        Failure::new(
            Outcome::CaptchaRequired,
            "no captcha response came from the browser within two minutes",
        )
        .hint(captcha_hint(&|command| context.command_line(command)))
        .into()
    })
}
