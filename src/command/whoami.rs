//! `whoami`: the account, the profile, where the credential came from, when it ends.

use std::time::Duration;

use serde_json::{Map, Value};

use super::report;
use crate::context::Context;
use crate::model::{Expiry, Timestamp};
use crate::session::{Credential, SessionError};

/// Say who is signed in
///
/// The account, the profile, where the credential came from, and when it ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer whoami
  rememberizer whoami --full --json

Exit codes: 3 not signed in or ended by the server, 5 unavailable, 6 the secret store")]
pub struct Args {
    /// Send no request: what is stored
    #[arg(long, conflicts_with = "full")]
    pub offline: bool,
    /// Team, quota, usage and verification as well
    #[arg(long)]
    pub full: bool,
}

/// Says who is signed in.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), anyhow::Error> {
    let variables = context.variables()?;
    let keeper = context.keeper();
    let (account, credential) = if args.offline {
        let credential = match (&variables.access, &variables.refresh) {
            (Some((name, access)), _) => Some(Credential::Access(name, access)),
            (None, Some((name, _))) => return offline_variable(context, name),
            (None, None) => None,
        };
        let credential = match credential {
            Some(credential) => credential,
            None => Credential::Stored(keeper.load()?.ok_or(SessionError::NotSignedIn)?),
        };
        (None, credential)
    } else {
        let (account, credential) = keeper.authenticated(&variables, Duration::ZERO, |access| {
            if args.full {
                keeper.client.me(access)
            } else {
                keeper.client.account(access)
            }
        })?;
        (Some(account), credential)
    };
    report::warn_if_spent(context, &credential);
    // Cleaned as a whole: what is nested would be shown in JSON's own escapes.
    let account = account.map(|account| {
        let mut account = Value::Object(account);
        crate::terminal::clean_json(&mut account);
        match account {
            Value::Object(account) => account,
            _ => Map::new(),
        }
    });
    tell(context, account, &credential, args.full)
}

fn offline_variable(context: &Context<'_>, name: &str) -> Result<(), anyhow::Error> {
    context.answer(
        json(context, name, None, (None, None, None)),
        &format!("a refresh token in {name}; whose it is, the server knows"),
    )
}

fn tell(
    context: &Context<'_>,
    account: Option<Map<String, Value>>,
    credential: &Credential<'_>,
    full: bool,
) -> Result<(), anyhow::Error> {
    let settings = &context.settings;
    let now = (context.host.now)();
    let (access, refresh, skew) = lives(credential);
    let source = credential
        .variable()
        .unwrap_or_else(|| settings.store.as_str());
    if settings.json {
        let json = json(context, source, account, (access, refresh, skew));
        return Ok(context.terminal.answer_json(json)?);
    }
    let answer = |label: &str, text: &str| context.terminal.answer(&format!("{label:<9}{text}"));
    match &account {
        Some(account) => answer("account", &describe(account))?,
        None if credential.variable().is_some() => answer("account", "not asked")?,
        None => {
            let login = context.profile().login;
            answer("account", login.as_deref().unwrap_or("not recorded"))?;
        }
    }
    answer(
        "profile",
        &format!("{} on {}", settings.name, settings.origin),
    )?;
    match credential.variable() {
        Some(variable) => answer(
            "source",
            &format!("{variable} (in force instead of the stored session)"),
        )?,
        None => answer("source", report::place(settings.store))?,
    }
    tell_lives(context, access, refresh, now)?;
    if let Some(skew) = report::skew(skew) {
        answer("clock", &skew)?;
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

fn tell_lives(
    context: &Context<'_>,
    access: Option<&Expiry>,
    refresh: Option<&Expiry>,
    now: Timestamp,
) -> Result<(), anyhow::Error> {
    for (label, expiry) in [("session", refresh), ("access", access)] {
        if let Some(expiry) = expiry {
            context
                .terminal
                .answer(&format!("{label:<9}ends {}", report::ends(expiry, now)))?;
        }
    }
    Ok(())
}

/// The same keys wherever the credential came from, null where nothing is known.
fn json(
    context: &Context<'_>,
    source: &str,
    account: Option<Map<String, Value>>,
    (access, refresh, skew): Lives<'_>,
) -> Value {
    let is_stored = source == context.settings.store.as_str();
    serde_json::json!({
        "profile": context.settings.name,
        "api_url": context.settings.origin,
        "source": source,
        "account": account,
        "login": context.profile().login.filter(|_| is_stored),
        "access_expires_at": report::ends_json(access),
        "refresh_expires_at": report::ends_json(refresh),
        "clock_skew_seconds": skew.map(|skew| skew / 1000),
    })
}

/// When the access token and the refresh token end, and by how much the clock is off.
type Lives<'c> = (Option<&'c Expiry>, Option<&'c Expiry>, Option<i64>);

fn lives<'c>(credential: &'c Credential<'_>) -> Lives<'c> {
    match credential {
        Credential::Stored(session) => (
            session.access.as_ref().map(|t| &t.expiry),
            Some(&session.refresh.expiry),
            session.skew,
        ),
        Credential::Access(..) => (None, None, None),
        Credential::Exchanged { grant, .. } => (
            grant.access.as_ref().map(|t| &t.expiry),
            grant.refresh.as_ref().map(|t| &t.expiry),
            grant.skew,
        ),
    }
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
