//! `whoami`: shows the account, the profile, the source of the credential and its end.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::report;
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::globals::duration;
use crate::model::Expiry;
use crate::session::{Credential, SessionError};
use crate::terminal::clean_json;

/// Show who is signed in
///
/// Prints the account, the profile, where the session is stored, and when the session
/// and the access token end.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer whoami
  rememberizer whoami --full --json
  rememberizer whoami --offline --expires-within 3days

Exit codes: 3 not signed in, session ended by the server, or it ends soon
(--expires-within); 5 unavailable; 6 secret store failed")]
pub(crate) struct Args {
    /// Show stored data only, without a request
    #[arg(long, conflicts_with = "full")]
    offline: bool,
    /// Show team, quota, usage and verification too
    #[arg(long)]
    full: bool,
    /// Exit with 3 if the session ends within this time, such as 12h or 3days
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_within: Option<Duration>,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let variables = context.token_variables()?;
    let manager = context.session_manager();
    let facts = match variables.names().first() {
        Some(variable) if args.offline => Facts {
            variable: Some(variable),
            ..Facts::default()
        },
        None if args.offline => {
            let session = manager.load()?.ok_or(SessionError::NotSignedIn)?;
            Facts::new(&manager.stored(session), None)
        }
        _ => {
            let mut credential = manager.credential(variables, Duration::ZERO)?;
            let account = credential.send(|access| match args.full {
                true => manager.client.me(access),
                false => manager.client.account(access),
            })?;
            Facts::new(&credential, Some(account))
        }
    };
    let within = args.expires_within;
    let ending = within.and_then(|within| ends_within(context, &facts, within));
    if context.settings.json {
        return context.conclude(to_json(context, &facts), ending);
    }
    print(context, facts, args.full)?;
    context.conclude(Value::Null, ending)
}

/// What is known of the credential in use, and of its account.
#[derive(Default)]
struct Facts {
    variable: Option<&'static str>,
    access: Option<Expiry>,
    refresh: Option<Expiry>,
    skew: Option<i64>,
    account: Option<Map<String, Value>>,
}

impl Facts {
    fn new(credential: &Credential<'_>, account: Option<Map<String, Value>>) -> Self {
        Self {
            variable: credential.variable(),
            access: credential.access_expiry().copied(),
            refresh: credential.refresh_expiry().copied(),
            skew: credential.skew(),
            account,
        }
    }
}

/// Returns the failure of a session that ends too soon.
fn ends_within(context: &Context<'_>, facts: &Facts, within: Duration) -> Option<Failure> {
    let now = (context.host.now)();
    let Some(expiry) = facts.refresh.filter(|expiry| expiry.ends_at().is_some()) else {
        let text = "expiry unknown: the session is not known to end";
        context.terminal.note(text);
        return None;
    };
    let message = format!("the session {}", report::ends(&expiry, now));
    let failure = Failure::new(Outcome::SessionEnding, message).hint(context.command_line("login"));
    (!expiry.outlasts(within, now)).then_some(failure)
}

fn print(context: &Context<'_>, facts: Facts, full: bool) -> Result<(), Error> {
    let settings = &context.settings;
    let now = (context.host.now)();
    let line = |label: &str, text: &str| context.terminal.print_line(&format!("{label:<9}{text}"));
    // Nested text would be shown in JSON's own escapes, so it is cleaned first.
    let mut account = facts.account.map(Value::Object);
    account.iter_mut().for_each(clean_json);
    let account = account.as_ref().and_then(Value::as_object);
    match account {
        Some(account) => line("account", &describe(account))?,
        None if facts.variable.is_some() => line("account", "not asked")?,
        None => {
            let login = context.profile().login;
            line("account", login.as_deref().unwrap_or("not recorded"))?;
        }
    }
    let profile = format!("{} on {}", settings.name, settings.origin);
    line("profile", &profile)?;
    match facts.variable {
        Some(variable) => line(
            "source",
            &format!("{variable} (in force instead of the stored session)"),
        )?,
        None => line("source", report::store_label(settings.store))?,
    }
    for (label, expiry) in [("session", facts.refresh), ("access", facts.access)] {
        if let Some(expiry) = expiry {
            line(label, &report::ends(&expiry, now))?;
        }
    }
    if let Some(skew) = report::skew(facts.skew) {
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

/// The same keys wherever the credential came from, null if nothing is known.
fn to_json(context: &Context<'_>, facts: &Facts) -> Value {
    let settings = &context.settings;
    json!({
        "profile": settings.name,
        "api_url": settings.origin,
        "source": facts.variable.unwrap_or_else(|| settings.store.as_str()),
        "account": facts.account,
        "login": context.profile().login.filter(|_| facts.variable.is_none()),
        "access_expires_at": report::ends_json(facts.access.as_ref()),
        "refresh_expires_at": report::ends_json(facts.refresh.as_ref()),
        "clock_skew_seconds": facts.skew.map(|skew| skew / 1000),
    })
}

/// `Ann <ann@example.com>, id 1`, of what there is.
fn describe(account: &Map<String, Value>) -> String {
    let text = |key: &str| match account.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    let who = match (text("name"), text("email")) {
        (Some(name), Some(email)) => format!("{name} <{email}>"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "unnamed".to_owned(),
    };
    match text("id") {
        Some(id) => format!("{who}, id {id}"),
        None => who,
    }
}
