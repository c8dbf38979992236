//! `doctor`: checks the setup and suggests fixes. After a failed check, the other checks
//! still run. The output must not contain secrets.

mod findings;
mod profiles;

use std::time::Instant;

use super::report;
use crate::context::Context;
use crate::error::Error;
use crate::session::{SessionError, StoreProof};
use crate::settings::{self, FLAG_VARIABLES, OTHER_VARIABLES, SECRET_VARIABLES};
use crate::store::{StoreError, StoreErrorKind, TokenFile};
use findings::Findings;
use profiles::SelectedSession;

/// Check the setup and suggest fixes
///
/// Checks the configuration, the environment variables, the secret store, the server
/// and the session of every profile. Writes, reads and removes a test entry in the
/// store, unless that could open a dialog. Removes files that a killed `login
/// --browser` or `exec --token-file` left.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer doctor
  rememberizer doctor --profile work --json

Exit codes: 0 no problem, but warnings are possible; 1 at least one problem")]
pub(crate) struct Args {}

pub(super) fn run(_args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let mut findings = Findings::new(context);
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let version = format!("rememberizer {} on {os} {arch}", env!("CARGO_PKG_VERSION"));
    findings.ok("version", version);
    for problem in &context.settings.problems {
        findings.problem("settings", problem.clone());
    }
    check_config(context, &mut findings);
    check_variables(context, &mut findings);
    let store_error = check_store(context, &mut findings);
    check_server(context, &mut findings);
    let selected_session = match store_error {
        Some(error) => {
            // Reading the session would time out again.
            findings.warning("session", "cannot be read", None);
            SelectedSession::StoreUnusable(error)
        }
        None => check_session(context, &mut findings),
    };
    profiles::check(context, &mut findings, selected_session);
    remove_leftovers(context, &mut findings);
    findings.print()
}

/// Removes the browser profiles of `login --browser` runs, and the token files of `exec`
/// runs, that were killed.
fn remove_leftovers(context: &Context<'_>, findings: &mut Findings<'_>) {
    let removed_count = crate::takeover::remove_stale_profiles(&*context.host.read_variable);
    if removed_count > 0 {
        let text =
            format!("removed {removed_count} browser profile(s) that a killed login had left");
        findings.ok("browser", text);
    }
    let removed_count = TokenFile::remove_stale(&context.runtime_dir());
    if removed_count > 0 {
        let text = format!("removed {removed_count} token file(s) that a killed exec had left");
        findings.ok("exec", text);
    }
}

fn check_config(context: &Context<'_>, findings: &mut Findings<'_>) {
    let settings = &context.settings;
    let profiles = &settings.profiles;
    let path = profiles.path().display().to_string();
    match profiles.all() {
        Err(error) => findings.problem("config", error),
        Ok(_) if !profiles.path().exists() => {
            findings.ok("config", format!("{path} does not exist yet"));
        }
        Ok((default, all_profiles)) => {
            let count = all_profiles.len();
            let plural = if count == 1 { "" } else { "s" };
            findings.ok(
                "config",
                format!("{path}: {count} profile{plural}, the default is {default}"),
            );
        }
    }
    for key in profiles.unknown_keys().unwrap_or_default() {
        let (line, column, key) = (key.line, key.column, key.path);
        let fix = "remove it, or use a version of rememberizer that knows it".to_owned();
        let text = format!("{path}:{line}:{column}: unknown key {key}");
        findings.warning("config", text, Some(fix));
    }
    let profile = format!("{} on {}", settings.profile_name, settings.api_url);
    findings.ok("profile", profile);
}

fn check_variables(context: &Context<'_>, findings: &mut Findings<'_>) {
    let read = |name: &str| (context.host.read_variable)(name).filter(|value| !value.is_empty());
    let names = FLAG_VARIABLES.map(|(name, _)| name);
    let plain_variables = names.into_iter().chain(OTHER_VARIABLES).filter_map(|name| {
        let value = read(name)?.to_string_lossy().into_owned();
        Some((name.to_owned(), value))
    });
    for (name, value) in plain_variables.chain(settings::proxy_variables(context.host)) {
        findings.ok("variable", format!("{name} is {}", redact_url(&value)));
    }
    for name in SECRET_VARIABLES
        .into_iter()
        .filter(|name| read(name).is_some())
    {
        if name == settings::PASSWORD {
            findings.ok("variable", format!("{name} is set"));
        } else {
            let text = format!("{name} is set: commands use it instead of the stored session");
            findings.warning("variable", text, Some(format!("unset {name}")));
        }
    }
}

/// Replaces the user name, password and query of a URL by `***`, since they may be secret.
fn redact_url(value: &str) -> String {
    let scheme_end = value.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = value.split_at(scheme_end);
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    // Without a scheme, this may be a proxy such as `user@host:80`, or a path. Only in a
    // path can a `/` precede the `@`.
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

/// Tests that the store can be read and, if that opens no dialog and no other machine holds
/// the lease, written. Reports the result, and returns an error that makes the whole store
/// unusable: it is locked or unavailable.
fn check_store(context: &Context<'_>, findings: &mut Findings<'_>) -> Option<StoreError> {
    let manager = context.session_manager();
    let result = manager.lock().and_then(|lock| {
        let _waiting = context.terminal.spin("waiting for the secret store");
        let started = Instant::now();
        let proof = manager.test_store_under_lock(&lock)?;
        Ok((started.elapsed(), proof))
    });
    match result {
        Ok((elapsed, proof)) => {
            let store = report::store_label(context.settings.store);
            let in_total = "in total".to_owned();
            let (operations, note) = match proof {
                StoreProof::Readable => (
                    "read",
                    "not written, since removing a test entry could open a dialog".to_owned(),
                ),
                StoreProof::Writable => ("wrote, read and removed a test entry", in_total),
                StoreProof::ComparesVersions => (
                    "read, wrote, and checked that an outdated write is refused,",
                    in_total,
                ),
                StoreProof::LeaseHeld { host } => (
                    "read",
                    format!("not tested further while {host} renews the session"),
                ),
            };
            let millis = elapsed.as_secs_f64() * 1000.0;
            let text = format!("{store}: {operations} in {millis:.1} ms ({note})");
            findings.ok("store", text);
            None
        }
        Err(SessionError::Store(error)) => {
            findings.problem("store", error.clone());
            (error.kind != StoreErrorKind::Failed).then_some(error)
        }
        Err(error) => {
            findings.problem("store", error);
            None
        }
    }
}

fn check_server(context: &Context<'_>, findings: &mut Findings<'_>) {
    context.interrupts.start_handling_signals();
    let api_url = &context.settings.api_url;
    let manager = context.session_manager();
    let client = &manager.client;
    let pinged = {
        let _waiting = context.terminal.spin("waiting for the server");
        client.ping(context.settings.timeout)
    };
    match pinged {
        Err(error) => {
            let failure = context.to_failure(error.into());
            findings.problem(
                "server",
                failure.with_hint("check the network, the proxy and the API URL"),
            );
        }
        Ok(ping) => {
            let millis = ping.elapsed.as_secs_f64() * 1000.0;
            let (host, status) = (api_url.host_and_port(), ping.status);
            let text = format!("{host} answers in {millis:.1} ms (status {status})");
            findings.ok("server", text);
            // The inner `None` is a difference that is too small to report.
            match ping.clock_skew_millis.map(report::clock_skew_text) {
                Some(Some(skew)) => {
                    let fix = "correct the clock (sessions still work)".to_owned();
                    findings.warning("clock", format!("the local clock is {skew}"), Some(fix));
                }
                Some(None) => findings.ok("clock", "agrees with the server's"),
                None => findings.ok("clock", "the server does not send the time"),
            }
        }
    }
    let roots = match api_url.is_https() {
        true => format!("roots: {}", client.describe_roots()),
        false => "not used: the API URL is http on this machine".to_owned(),
    };
    findings.ok("tls", roots);
    let proxy = client.describe_proxy();
    findings.ok("proxy", proxy.unwrap_or_else(|| "none".to_owned()));
}

fn check_session(context: &Context<'_>, findings: &mut Findings<'_>) -> SelectedSession {
    let session = match context.session_manager().load() {
        Ok(session) => session,
        Err(error) => {
            findings.problem("session", error);
            return SelectedSession::Unreadable;
        }
    };
    match &session {
        Some(session) => {
            let login = context.profile().login;
            let login = login.as_deref().unwrap_or("account name not recorded");
            let expiry = report::expiry_text(&session.refresh.expiry, (context.host.now)());
            findings.ok("session", format!("{login}, {expiry}"));
            if let Some(pending) = &session.pending {
                let refresh = context.command_line("refresh");
                let (text, fix) = profiles::describe_pending(pending, &refresh);
                findings.warning("session", text, Some(fix));
            }
        }
        None => {
            let login_command = context.command_line("login");
            findings.warning("session", "not signed in", Some(login_command));
        }
    }
    SelectedSession::Read(session)
}
