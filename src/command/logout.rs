//! `logout`: the session ends on the server, then here, and each is reported.

use serde_json::{Value, json};

use super::report;
use crate::context::Context;
use crate::exit::Failure;
use crate::explain::explain;
use crate::model::ProfileName;
use crate::session::{Ended, Keeper, Revocation, SessionError, Variables};
use crate::store::{SessionStore, StoreKind};

/// End the session
///
/// Revokes it on the server, then forgets it here, and says which of the two
/// happened.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer logout
  rememberizer logout --all --local

Exit codes: 5 forgotten here, the server could not be told; 6 the secret store")]
pub struct Args {
    /// Every profile
    #[arg(long, conflicts_with = "profile")]
    pub all: bool,
    /// Do not call the server
    #[arg(long)]
    pub local: bool,
}

/// Ends one session or all.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), anyhow::Error> {
    let variables = context.variables()?;
    if variables.in_force() {
        return of_variables(args, context, &variables);
    }
    if args.all {
        return all(args, context);
    }
    let done = one(args, context, &context.settings.name)?;
    if let Some(failure) = done.failure {
        if !context.settings.json {
            context.terminal.note(&done.text);
        }
        return Err(Failure {
            done: Some(json!({"logout": done.json})),
            ..failure
        }
        .into());
    }
    context.confirm(done.json, &done.text)
}

struct Done {
    json: Value,
    text: String,
    failure: Option<Failure>,
}

fn one(args: &Args, context: &Context<'_>, name: &ProfileName) -> Result<Done, anyhow::Error> {
    let profile = if *name == context.settings.name {
        context.settings.recorded.clone()
    } else {
        context.settings.profiles.select(Some(name))?.profile
    };
    let kind = profile
        .as_ref()
        .and_then(|p| p.store)
        .unwrap_or(context.settings.store);
    let origin = profile
        .as_ref()
        .map_or_else(|| context.settings.origin.clone(), |p| p.origin());
    let client = context.client_of(origin.clone());
    let keeper = Keeper {
        store: SessionStore::new(context.secret_store(kind), name),
        origin: &origin,
        client: &client,
        ..context.keeper()
    };
    let (ended, left_over) = {
        let lock = keeper.lock()?;
        let ended = keeper.end(&lock, args.local)?;
        let mut left_over = false;
        for other in StoreKind::ALL.into_iter().filter(|other| *other != kind) {
            match keeper.purge(&lock, context.secret_store(other)) {
                Ok(session) => left_over |= session.is_some(),
                Err(error) => context
                    .terminal
                    .verbose(&format!("the {other} store was not searched: {error}")),
            }
        }
        (ended, left_over)
    };
    if profile.is_some_and(|p| p.signed_in != Some(false)) {
        context
            .settings
            .profiles
            .update(name, context.settings.lock_timeout, |p| {
                p.signed_in = Some(false);
            })?;
    }
    Ok(tell(context, name, kind, ended, left_over))
}

fn tell(
    context: &Context<'_>,
    name: &ProfileName,
    kind: StoreKind,
    ended: Ended,
    left_over: bool,
) -> Done {
    let Ended { server, removed } = ended;
    let text = match &server {
        None if !removed && !left_over => format!("profile {name} was not signed in"),
        None => format!("profile {name}: nothing to revoke; removed what was stored"),
        Some(server) => format!(
            "signed out of profile {name}: {}; removed from {}",
            report::revocation(server),
            report::place(kind)
        ),
    };
    let json = json!({
        "profile": name,
        "server": report::revocation_json(server.as_ref()),
        "removed": removed || left_over,
    });
    let failure = match server {
        Some(Revocation::Failed(error)) => {
            let failure = explain(SessionError::Api(error).into(), &|c| context.say(c));
            Some(Failure {
                message: format!(
                    "signed out here, but the server was not told: {}",
                    failure.message
                ),
                hint: Some(
                    "the access token lives on until it ends; the refresh token is gone from here"
                        .to_owned(),
                ),
                ..failure
            })
        }
        _ => None,
    };
    Done {
        json,
        text,
        failure,
    }
}

fn all(args: &Args, context: &Context<'_>) -> Result<(), anyhow::Error> {
    let (_, profiles) = context.settings.profiles.all()?;
    let mut names: Vec<_> = profiles.into_iter().map(|(name, _)| name).collect();
    if names.is_empty() {
        names.push(context.settings.name.clone());
    }
    let mut done = Vec::new();
    let mut worst: Option<Failure> = None;
    for name in &names {
        let one = match one(args, context, name) {
            Ok(one) => one,
            Err(error) => {
                let failure = explain(error, &|c| context.say(c));
                Done {
                    json: json!({"profile": name, "error": failure.outcome.json_code()}),
                    text: format!("profile {name}: {failure}"),
                    failure: Some(failure),
                }
            }
        };
        if !context.settings.json {
            context.terminal.note(&one.text);
        }
        done.push(one.json);
        if let Some(failure) = one.failure {
            worst.get_or_insert(failure);
        }
    }
    match worst {
        Some(failure) => Err(Failure {
            done: Some(json!({"logout": done})),
            ..failure
        }
        .into()),
        None if context.settings.json => {
            context.terminal.answer_json(json!({"logout": done}))?;
            Ok(())
        }
        None => Ok(()),
    }
}

/// The session in the environment is the one that ends; what is stored stays.
fn of_variables(
    args: &Args,
    context: &Context<'_>,
    variables: &Variables,
) -> Result<(), anyhow::Error> {
    let names = variables.names().join(" and ");
    let Some((variable, refresh)) = &variables.refresh else {
        return Err(Failure::usage(format!(
            "{names} is set, and an access token cannot be revoked; the stored session was not touched"
        ))
        .hint(format!("unset {names} to log out of the stored session"))
        .into());
    };
    let keeper = context.keeper();
    let server = if args.local {
        Revocation::NotAsked
    } else {
        keeper.revoke(refresh)
    };
    let text = format!(
        "the session in {variable}: {}; {names} stays set, and the stored session was not touched",
        report::revocation(&server)
    );
    let json = json!({
        "profile": context.settings.name,
        "source": variable,
        "server": report::revocation_json(Some(&server)),
        "removed": false,
    });
    match server {
        Revocation::Failed(error) => Err(Failure {
            done: Some(json!({"logout": json})),
            ..explain(SessionError::Api(error).into(), &|c| context.say(c))
        }
        .into()),
        _ => context.confirm(json, &text),
    }
}
