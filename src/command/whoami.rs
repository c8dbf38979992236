//! `whoami`: shows the account, the profile, the source of the credential and its end.

use std::time::Duration;

use serde_json::{Map, Value};

use super::report;
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::globals::duration;
use crate::model::Expiry;
use crate::session::{Credential, SessionError, SessionManager, TokenVariables};

/// Show who is signed in
///
/// The account, the profile, where the credential came from, and when it ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer whoami
  rememberizer whoami --full --json
  rememberizer whoami --offline --expires-within 3days

Exit codes: 3 not signed in, ended by the server or ending soon, 5 unavailable, 6 the secret store")]
pub(crate) struct Args {
    /// Show stored data only, without a request
    #[arg(long, conflicts_with = "full")]
    pub offline: bool,
    /// Team, quota, usage and verification as well
    #[arg(long)]
    pub full: bool,
    /// Fail if the session ends within this time, such as 3days or 12h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub expires_within: Option<Duration>,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let variables = context.token_variables()?;
    let manager = context.session_manager();
    if args.offline {
        return offline(args, context, &manager, variables);
    }
    let mut credential = manager.credential(variables, Duration::ZERO)?;
    let account = credential.send(|access| {
        if args.full {
            manager.client.me(access)
        } else {
            manager.client.account(access)
        }
    })?;
    let facts = Facts::from(&credential);
    conclude(args, context, &facts, Some(account))
}

/// Shows what is known without a request.
fn offline(
    args: &Args,
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    variables: TokenVariables,
) -> Result<(), Error> {
    if let Some(variable) = variables.names().first() {
        let facts = Facts {
            variable: Some(variable),
            ..Facts::default()
        };
        return conclude(args, context, &facts, None);
    }
    let session = manager.load()?.ok_or(SessionError::NotSignedIn)?;
    let credential = manager.stored(session);
    conclude(args, context, &Facts::from(&credential), None)
}

/// Prints the facts, and fails after that if the session ends too soon.
fn conclude(
    args: &Args,
    context: &Context<'_>,
    facts: &Facts<'_>,
    account: Option<Map<String, Value>>,
) -> Result<(), Error> {
    let now = (context.host.now)();
    let ending = args.expires_within.and_then(|within| {
        let Some(expiry) = facts.refresh.filter(|expiry| expiry.ends_at().is_some()) else {
            context
                .terminal
                .note("expiry unknown: the session is not known to end");
            return None;
        };
        let message = format!("the session {}", report::ends(expiry, now));
        (!expiry.outlasts(within, now)).then(|| {
            Failure::new(Outcome::SessionEnding, message).hint(context.command_line("login"))
        })
    });
    match ending {
        None => print(context, facts, account, args.full),
        Some(failure) if context.settings.json => Err(Failure {
            partial_result: Some(json(context, facts, account)),
            ..failure
        }
        .into()),
        Some(failure) => {
            print(context, facts, account, args.full)?;
            Err(failure.into())
        }
    }
}

/// Cleans the account for a text: nested text would be shown in JSON's own escapes.
fn clean(account: Map<String, Value>) -> Map<String, Value> {
    let mut account = Value::Object(account);
    crate::terminal::clean_json(&mut account);
    match account {
        Value::Object(account) => account,
        _ => Map::new(),
    }
}

/// What is known of the credential in use.
#[derive(Default)]
struct Facts<'c> {
    variable: Option<&'static str>,
    access: Option<&'c Expiry>,
    refresh: Option<&'c Expiry>,
    skew: Option<i64>,
}

impl<'c> From<&'c Credential<'_>> for Facts<'c> {
    fn from(credential: &'c Credential<'_>) -> Self {
        Self {
            variable: credential.variable(),
            access: credential.access_expiry(),
            refresh: credential.refresh_expiry(),
            skew: credential.skew(),
        }
    }
}

fn print(
    context: &Context<'_>,
    facts: &Facts<'_>,
    account: Option<Map<String, Value>>,
    full: bool,
) -> Result<(), Error> {
    let settings = &context.settings;
    if settings.json {
        return Ok(context
            .terminal
            .answer_json(json(context, facts, account))?);
    }
    let account = account.map(clean);
    let now = (context.host.now)();
    let line = |label: &str, text: &str| context.terminal.answer(&format!("{label:<9}{text}"));
    match &account {
        Some(account) => line("account", &describe(account))?,
        None if facts.variable.is_some() => line("account", "not asked")?,
        None => {
            let login = context.profile().login;
            line("account", login.as_deref().unwrap_or("not recorded"))?;
        }
    }
    line(
        "profile",
        &format!("{} on {}", settings.name, settings.origin),
    )?;
    match facts.variable {
        Some(variable) => line(
            "source",
            &format!("{variable} (in force instead of the stored session)"),
        )?,
        None => line("source", report::store_label(settings.store))?,
    }
    for (label, expiry) in [("session", facts.refresh), ("access", facts.access)] {
        if let Some(expiry) = expiry {
            line(label, &report::ends(expiry, now))?;
        }
    }
    if let Some(skew) = report::skew(facts.skew) {
        line("clock", &skew)?;
    }
    if full && let Some(account) = &account {
        for (key, value) in account {
            if !matches!(key.as_str(), "id" | "email" | "name") {
                let text = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                context.terminal.answer(&format!("{key}: {text}"))?;
            }
        }
    }
    Ok(())
}

/// The same keys wherever the credential came from, null if nothing is known.
fn json(context: &Context<'_>, facts: &Facts<'_>, account: Option<Map<String, Value>>) -> Value {
    let settings = &context.settings;
    serde_json::json!({
        "profile": settings.name,
        "api_url": settings.origin,
        "source": facts.variable.unwrap_or_else(|| settings.store.as_str()),
        "account": account,
        "login": context.profile().login.filter(|_| facts.variable.is_none()),
        "access_expires_at": report::ends_json(facts.access),
        "refresh_expires_at": report::ends_json(facts.refresh),
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
