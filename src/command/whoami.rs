//! `whoami`: shows the account, the profile, the source of the credential and the expiry
//! times.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::report;
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::globals::parse_duration;
use crate::model::Expiry;
use crate::session::{Credential, SessionError};
use crate::terminal::clean_json;

/// Show who is signed in
///
/// Prints the account, the profile, where the session is stored, and when the session
/// and the access token expire.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer whoami
  rememberizer whoami --full --json
  rememberizer whoami --offline --expires-within 3days

Exit codes: 3 not signed in, session ended by the server, or it expires soon
(--expires-within); 5 unavailable; 6 secret store failed; 9 locked by another
process")]
pub(crate) struct Args {
    /// Show stored data only, without a request
    #[arg(long, conflicts_with = "full")]
    offline: bool,
    /// Show team, quota, usage and verification too
    #[arg(long)]
    full: bool,
    /// Exit with 3 if the session expires within this time, such as 12h or 3days
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires_within: Option<Duration>,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let variables = context.token_variables()?;
    let manager = context.session_manager();
    let details = match variables.names().first() {
        Some(variable) if args.offline => Details {
            variable: Some(variable),
            ..Details::default()
        },
        None if args.offline => {
            let session = manager.load()?.ok_or(SessionError::NotSignedIn)?;
            Details::new(&manager.credential_from_session(session), None)
        }
        _ => {
            let mut credential = manager.credential(variables, Duration::ZERO)?;
            let account = credential.send(|access| match args.full {
                true => manager.client.me(access),
                false => manager.client.account(access),
            })?;
            Details::new(&credential, Some(account))
        }
    };
    let min_remaining = args.expires_within;
    let failure = min_remaining.and_then(|min| check_expiry(context, &details, min));
    if context.settings.json {
        return context.finish_command(&to_json(context, &details), failure);
    }
    print(context, details, args.full)?;
    context.finish_command(&Value::Null, failure)
}

/// The details of the credential in use, and its account.
#[derive(Default)]
struct Details {
    /// The variable that holds the token, or `None` for a stored session.
    variable: Option<&'static str>,
    access_expiry: Option<Expiry>,
    refresh_expiry: Option<Expiry>,
    clock_skew_millis: Option<i64>,
    /// `None` if the server was not asked.
    account: Option<Map<String, Value>>,
}

impl Details {
    fn new(credential: &Credential<'_>, account: Option<Map<String, Value>>) -> Self {
        Self {
            variable: credential.variable(),
            access_expiry: credential.access_expiry().copied(),
            refresh_expiry: credential.refresh_expiry().copied(),
            clock_skew_millis: credential.clock_skew_millis(),
            account,
        }
    }
}

/// Returns a failure if the session expires within `min_remaining`. If the expiry is
/// unknown, prints a note instead.
fn check_expiry(
    context: &Context<'_>,
    details: &Details,
    min_remaining: Duration,
) -> Option<Failure> {
    let now = (context.host.now)();
    let Some(expiry) = details
        .refresh_expiry
        .filter(|expiry| expiry.expires_at().is_some())
    else {
        let text = "expiry unknown: --expires-within has no effect";
        context.terminal.note(text);
        return None;
    };
    let message = format!("the session {}", report::expiry_text(&expiry, now));
    let failure =
        Failure::new(Outcome::SessionEnding, message).with_hint(context.command_line("login"));
    (!expiry.outlasts(min_remaining, now)).then_some(failure)
}

fn print(context: &Context<'_>, details: Details, full: bool) -> Result<(), Error> {
    let settings = &context.settings;
    let now = (context.host.now)();
    let line = |label: &str, text: &str| context.terminal.print_line(&format!("{label:<9}{text}"));
    // Clean the text before nested values are formatted as JSON, which would escape the
    // control characters instead.
    let mut account = details.account.map(Value::Object);
    account.iter_mut().for_each(clean_json);
    let account = account.as_ref().and_then(Value::as_object);
    match account {
        Some(account) => line("account", &describe_account(account))?,
        None if details.variable.is_some() => line("account", "not requested")?,
        None => {
            let login = context.profile().login;
            line("account", login.as_deref().unwrap_or("not recorded"))?;
        }
    }
    let profile = format!("{} on {}", settings.profile_name, settings.api_url);
    line("profile", &profile)?;
    match details.variable {
        Some(variable) => line(
            "source",
            &format!("{variable} (used instead of the stored session)"),
        )?,
        None => line("source", report::store_label(settings.store))?,
    }
    for (label, expiry) in [
        ("session", details.refresh_expiry),
        ("access", details.access_expiry),
    ] {
        if let Some(expiry) = expiry {
            line(label, &report::expiry_text(&expiry, now))?;
        }
    }
    if let Some(skew) = details.clock_skew_millis.and_then(report::clock_skew_text) {
        line("clock", &skew)?;
    }
    for (key, value) in account.filter(|_| full).into_iter().flatten() {
        if !matches!(key.as_str(), "id" | "email" | "name") {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            context.terminal.print_line(&format!("{key}: {text}"))?;
        }
    }
    Ok(())
}

/// Returns the details as JSON. The keys are the same for every source of the credential;
/// unknown values are null.
fn to_json(context: &Context<'_>, details: &Details) -> Value {
    let settings = &context.settings;
    json!({
        "profile": settings.profile_name,
        "api_url": settings.api_url,
        "source": details.variable.unwrap_or_else(|| settings.store.as_str()),
        "account": details.account,
        "login": context.profile().login.filter(|_| details.variable.is_none()),
        "access_expires_at": report::expiry_json(details.access_expiry.as_ref()),
        "refresh_expires_at": report::expiry_json(details.refresh_expiry.as_ref()),
        "clock_skew_seconds": details.clock_skew_millis.map(|millis| millis / 1000),
    })
}

/// Returns the name, the e-mail address and the id of the account, such as
/// `Ann <ann@example.com>, id 1`, without those that are missing.
fn describe_account(account: &Map<String, Value>) -> String {
    let text = |key: &str| match account.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    let name_and_email = match (text("name"), text("email")) {
        (Some(name), Some(email)) => format!("{name} <{email}>"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => "unnamed".to_owned(),
    };
    match text("id") {
        Some(id) => format!("{name_and_email}, id {id}"),
        None => name_and_email,
    }
}
