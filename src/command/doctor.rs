//! `doctor`: checks the setup and suggests fixes. A failed check does not keep
//! the others from running, and no secret is printed.

mod findings;
mod profiles;

use std::time::Instant;

use super::report;
use crate::context::Context;
use crate::error::Error;
use crate::session::{SessionError, StoreProof};
use crate::settings::{self, OTHER_VARIABLES, SECRET_VARIABLES, VARIABLES};
use crate::store::{StoreError, StoreErrorKind};
use findings::Findings;

/// Check the setup and suggest fixes
///
/// Checks the configuration, the variables in force, the secret store, the server
/// and the session of every profile. Writes, reads and removes a test entry in the
/// store.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer doctor
  rememberizer doctor --profile work --json

Exit codes: 0 no problem, perhaps warnings; 1 a problem")]
pub(crate) struct Args {}

/// Runs every check.
pub(super) fn run(_args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let mut found = Findings::new(context);
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let version = format!("rememberizer {} on {os} {arch}", env!("CARGO_PKG_VERSION"));
    found.ok("version", version);
    for problem in &context.settings.problems {
        found.problem("settings", problem.clone());
    }
    check_config(context, &mut found);
    check_variables(context, &mut found);
    let unusable = check_store(context, &mut found);
    check_server(context, &mut found);
    if unusable.is_some() {
        // It would time out again; the check of the store has reported the cause.
        found.warning("session", "cannot be read", None);
    } else {
        check_session(context, &mut found);
    }
    profiles::check(context, &mut found, unusable);
    remove_leftovers(context, &mut found);
    found.print()
}

/// Removes what a sign-in in a browser left behind if it was killed.
fn remove_leftovers(context: &Context<'_>, found: &mut Findings<'_>) {
    let swept = crate::takeover::sweep(&*context.host.variable);
    if swept > 0 {
        let text = format!("removed {swept} browser profile(s) that a killed login had left");
        found.ok("browser", text);
    }
}

fn check_config(context: &Context<'_>, found: &mut Findings<'_>) {
    let settings = &context.settings;
    let profiles = &settings.profiles;
    let path = profiles.path().display().to_string();
    match profiles.all() {
        Err(error) => found.problem("config", error),
        Ok(_) if !profiles.path().exists() => {
            found.ok("config", format!("{path} does not exist yet"));
        }
        Ok((default, all)) => {
            let count = all.len();
            let plural = if count == 1 { "" } else { "s" };
            found.ok(
                "config",
                format!("{path}: {count} profile{plural}, the default is {default}"),
            );
        }
    }
    for key in profiles.unknown_keys().unwrap_or_default() {
        let (line, column, key) = (key.line, key.column, key.path);
        let fix = "remove it, or use the version that knows it".to_owned();
        let text = format!("{path}:{line}:{column}: unknown key {key}");
        found.warning("config", text, Some(fix));
    }
    let profile = format!("{} on {}", settings.name, settings.origin);
    found.ok("profile", profile);
}

fn check_variables(context: &Context<'_>, found: &mut Findings<'_>) {
    let value = |name: &str| (context.host.variable)(name).filter(|value| !value.is_empty());
    let names = VARIABLES.map(|(name, _)| name);
    let plain = names.into_iter().chain(OTHER_VARIABLES).filter_map(|name| {
        let value = value(name)?.to_string_lossy().into_owned();
        Some((name.to_owned(), value))
    });
    for (name, value) in plain.chain(settings::proxy_variables(context.host)) {
        found.ok("variable", format!("{name} is {}", redacted(&value)));
    }
    for name in SECRET_VARIABLES
        .into_iter()
        .filter(|name| value(name).is_some())
    {
        if name == settings::PASSWORD {
            found.ok("variable", format!("{name} is set"));
        } else {
            let text = format!("{name} is set, and in force instead of the stored session");
            found.warning("variable", text, Some(format!("unset {name}")));
        }
    }
}

/// Replaces the user name, password and query of a URL: each may be a secret.
fn redacted(value: &str) -> String {
    let scheme_end = value.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = value.split_at(scheme_end);
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    // A path, where a `/` precedes an `@`. A proxy may be given without a scheme.
    if scheme.is_empty()
        && value
            .split('@')
            .next()
            .is_some_and(|start| start.contains('/'))
    {
        return value.to_owned();
    }
    let user = if user.is_empty() { "" } else { "***@" };
    match host.split_once('?') {
        Some((host, _)) => format!("{scheme}{user}{host}?***"),
        None => format!("{scheme}{user}{host}"),
    }
}

/// Returns the error of a store that is locked or does not answer.
fn check_store(context: &Context<'_>, found: &mut Findings<'_>) -> Option<StoreError> {
    let manager = context.session_manager();
    let probed = manager.lock().and_then(|lock| {
        let _waiting = context.terminal.spin("waiting for the secret store");
        let started = Instant::now();
        let proof = manager.prove_writable_under(&lock)?;
        Ok((started.elapsed(), proof))
    });
    match probed {
        Ok((elapsed, proof)) => {
            let store = report::store_label(context.settings.store);
            let done = match proof {
                StoreProof::Read => "read (removing a probe could open a dialog)".to_owned(),
                StoreProof::Written => "written, read and removed a probe".to_owned(),
                StoreProof::Compared => {
                    "read, wrote, and refused a former version: 3 calls".to_owned()
                }
                StoreProof::Leased { host } => {
                    format!("read (not tested further while {host} renews the session)")
                }
            };
            let millis = elapsed.as_secs_f64() * 1000.0;
            found.ok("store", format!("{store}: {done} in {millis:.1} ms"));
            None
        }
        Err(SessionError::Store(error)) => {
            found.problem("store", error.clone());
            (error.kind != StoreErrorKind::Failed).then_some(error)
        }
        Err(error) => {
            found.problem("store", error);
            None
        }
    }
}

fn check_server(context: &Context<'_>, found: &mut Findings<'_>) {
    context.interrupts.watch();
    let origin = &context.settings.origin;
    let manager = context.session_manager();
    let client = &manager.client;
    let reached = {
        let _waiting = context.terminal.spin("waiting for the server");
        client.ping(context.settings.timeout)
    };
    match reached {
        Err(error) => {
            let failure = context.explain(error.into());
            found.problem(
                "server",
                failure.hint("check the network, the proxy and the API URL"),
            );
        }
        Ok(reached) => {
            let millis = reached.elapsed.as_secs_f64() * 1000.0;
            let (host, status) = (origin.host(), reached.status);
            let text = format!("{host} answers in {millis:.1} ms (status {status})");
            found.ok("server", text);
            match report::skew(reached.skew) {
                Some(skew) => {
                    let fix = "correct the clock (sessions still work)".to_owned();
                    found.warning("clock", format!("the local clock is {skew}"), Some(fix));
                }
                None if reached.skew.is_some() => found.ok("clock", "agrees with the server's"),
                None => found.ok("clock", "the server does not send the time"),
            }
        }
    }
    let roots = match origin.is_https() {
        true => format!("roots: {}", client.roots_in_use()),
        false => "none: http on this machine".to_owned(),
    };
    found.ok("tls", roots);
    let proxy = client.proxy_in_use();
    found.ok("proxy", proxy.unwrap_or_else(|| "none".to_owned()));
}

fn check_session(context: &Context<'_>, found: &mut Findings<'_>) {
    match context.session_manager().load() {
        Ok(Some(session)) => {
            let login = context.profile().login;
            let login = login.as_deref().unwrap_or("login not recorded");
            let ends = report::ends(&session.refresh.expiry, (context.host.now)());
            found.ok("session", format!("{login}, {ends}"));
            if let Some(pending) = &session.pending {
                let refresh = context.command_line("refresh");
                let (text, fix) = profiles::describe_pending(pending, &refresh);
                found.warning("session", text, Some(fix));
            }
        }
        Ok(None) => {
            let login = context.command_line("login");
            found.warning("session", "not signed in", Some(login));
        }
        Err(error) => found.problem("session", error),
    }
}
