//! `doctor`: checks the setup and suggests fixes. A failed check does not keep
//! the others from running, and no secret is printed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::report;
use crate::context::{Context, command_line};
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::model::{Expiry, ProfileName, Remaining, Session};
use crate::session::SessionError;
use crate::settings::{self, SECRET_VARIABLES, VARIABLES};
use crate::store::{Profile, StoreError, StoreErrorKind, StoreKind};

/// Say what works, and what mends the rest
///
/// Checks the configuration, the variables in force, the secret store, the server
/// and the session of every profile. Writes, reads and removes a probe entry.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer doctor
  rememberizer doctor --profile work --json

Exit codes: 1 there is a problem")]
pub(crate) struct Args {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warning,
    Problem,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

struct Finding {
    level: Level,
    topic: &'static str,
    text: String,
    fix: Option<String>,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, topic: &'static str, text: impl Into<String>) {
        self.with_fix(level, topic, text, None);
    }

    fn with_fix(
        &mut self,
        level: Level,
        topic: &'static str,
        text: impl Into<String>,
        fix: Option<String>,
    ) {
        self.0.push(Finding {
            level,
            topic,
            text: text.into(),
            fix,
        });
    }

    fn failure(&mut self, topic: &'static str, failure: Failure) {
        self.with_fix(Level::Problem, topic, failure.message, failure.hint);
    }
}

/// Runs every check.
pub(super) fn run(_args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let mut found = Findings::default();
    found.add(
        Level::Ok,
        "version",
        format!(
            "rememberizer {} on {} {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
    );
    for problem in &context.settings.problems {
        found.with_fix(
            Level::Problem,
            "settings",
            problem.message.clone(),
            problem.hint.clone(),
        );
    }
    config(context, &mut found);
    variables(context, &mut found);
    store(context, &mut found);
    server(context, &mut found);
    session(context, &mut found);
    profiles(context, &mut found);
    leftovers(context, &mut found);
    print(context, &found.0)
}

/// Removes what a sign-in in a browser left behind if it was killed.
fn leftovers(context: &Context<'_>, found: &mut Findings) {
    let swept = crate::takeover::sweep(&*context.host.variable);
    if swept > 0 {
        let text = format!("removed {swept} browser profile(s) that a killed login had left");
        found.add(Level::Ok, "browser", text);
    }
}

fn config(context: &Context<'_>, found: &mut Findings) {
    let profiles = &context.settings.profiles;
    let path = profiles.path().display().to_string();
    match profiles.all() {
        Err(error) => found.failure("config", context.explain(error.into())),
        Ok(_) if !profiles.path().exists() => {
            found.add(Level::Ok, "config", format!("{path} does not exist yet"));
        }
        Ok((default, all)) => found.add(
            Level::Ok,
            "config",
            format!("{path}: profiles {}, the default is {default}", all.len()),
        ),
    }
    for key in profiles.unknown_keys().unwrap_or_default() {
        found.with_fix(
            Level::Warning,
            "config",
            format!(
                "{path}:{}:{}: unknown key {}",
                key.line, key.column, key.path
            ),
            Some("remove it, or use the version that knows it".to_owned()),
        );
    }
    found.add(
        Level::Ok,
        "profile",
        format!("{} on {}", context.settings.name, context.settings.origin),
    );
}

fn variables(context: &Context<'_>, found: &mut Findings) {
    let value = |name: &str| (context.host.variable)(name).filter(|value| !value.is_empty());
    let plain = VARIABLES.iter().map(|(name, _)| *name);
    for name in plain.chain(settings::OTHER_VARIABLES) {
        if let Some(value) = value(name) {
            let value = redacted(&value.to_string_lossy());
            found.add(Level::Ok, "variable", format!("{name} is {value}"));
        }
    }
    for (name, value) in settings::proxy_variables(context.host) {
        let value = redacted(&value);
        found.add(Level::Ok, "variable", format!("{name} is {value}"));
    }
    for name in SECRET_VARIABLES {
        if value(name).is_some() {
            let (level, text) = if name == settings::PASSWORD {
                (Level::Ok, format!("{name} is set"))
            } else {
                (
                    Level::Warning,
                    format!("{name} is set, and in force instead of the stored session"),
                )
            };
            let fix = (level == Level::Warning).then(|| format!("unset {name}"));
            found.with_fix(level, "variable", text, fix);
        }
    }
}

/// Replaces the user name, password and query of a URL: each may be a secret.
fn redacted(value: &str) -> String {
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        // A proxy may be given without a scheme. Before a path's `@` is a `/`.
        None if value
            .split('@')
            .next()
            .is_some_and(|user| user.contains('/')) =>
        {
            return value.to_owned();
        }
        None => (String::new(), value),
    };
    let rest = match rest.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => rest.to_owned(),
    };
    match rest.split_once('?') {
        Some((rest, _)) => format!("{scheme}{rest}?***"),
        None => format!("{scheme}{rest}"),
    }
}

fn store(context: &Context<'_>, found: &mut Findings) {
    let kind = context.settings.store;
    let manager = context.session();
    let probed = manager.lock().and_then(|lock| {
        let _waiting = context.terminal.spin("waiting for the secret store");
        let started = Instant::now();
        let written = manager.prove_writable_under(&lock)?;
        Ok((started.elapsed(), written, manager.is_shared()?))
    });
    match probed {
        Ok((elapsed, written, is_shared)) => found.add(
            Level::Ok,
            "store",
            format!(
                "{}: {} in {:.1} ms",
                report::store_label(kind),
                match (written, is_shared) {
                    (false, _) => "read (removing a probe could open a dialog)",
                    (true, true) => "written, and refused a former version,",
                    (true, false) => "written, read and removed a probe",
                },
                elapsed.as_secs_f64() * 1000.0
            ),
        ),
        Err(error) => found.failure("store", context.explain(error.into())),
    }
}

fn server(context: &Context<'_>, found: &mut Findings) {
    context.interrupts.watch();
    let manager = context.session();
    let client = &manager.client;
    let reached = {
        let _waiting = context.terminal.spin("waiting for the server");
        client.ping()
    };
    let host = context.settings.origin.host().to_owned();
    match reached {
        Err(error) => {
            let failure = context.explain(error.into());
            found.with_fix(
                Level::Problem,
                "server",
                failure.message,
                Some("check the network, the proxy and the API URL".to_owned()),
            );
        }
        Ok(reached) => {
            found.add(
                Level::Ok,
                "server",
                format!(
                    "{host} answers in {:.1} ms (status {})",
                    reached.elapsed.as_secs_f64() * 1000.0,
                    reached.status
                ),
            );
            match report::skew(reached.skew) {
                Some(skew) => found.with_fix(
                    Level::Warning,
                    "clock",
                    format!("the local clock is {skew}"),
                    Some("correct the clock (sessions still work)".to_owned()),
                ),
                None if reached.skew.is_some() => {
                    found.add(Level::Ok, "clock", "agrees with the server's");
                }
                None => found.add(Level::Ok, "clock", "the server does not send the time"),
            }
        }
    }
    if context.settings.origin.is_https() {
        found.add(
            Level::Ok,
            "tls",
            format!("roots: {}", client.roots_in_use()),
        );
    } else {
        found.add(Level::Ok, "tls", "none: http on this machine");
    }
    let proxy = client.proxy_in_use();
    found.add(
        Level::Ok,
        "proxy",
        proxy.unwrap_or_else(|| "none".to_owned()),
    );
}

fn session(context: &Context<'_>, found: &mut Findings) {
    let now = (context.host.now)();
    match context.session().load() {
        Ok(Some(session)) => {
            let login = context.profile().login;
            found.add(
                Level::Ok,
                "session",
                format!(
                    "{}, {}",
                    login.as_deref().unwrap_or("login not recorded"),
                    report::ends(&session.refresh.expiry, now)
                ),
            );
            if let Some(pending) = session.pending {
                found.with_fix(
                    Level::Warning,
                    "session",
                    format!(
                        "a run was interrupted or unanswered during an exchange that began at {}",
                        pending.began
                    ),
                    Some(format!(
                        "see whether it survived: {}",
                        context.command_line("refresh")
                    )),
                );
            }
        }
        Ok(None) => found.with_fix(
            Level::Warning,
            "session",
            "not signed in",
            Some(context.command_line("login")),
        ),
        // The check of the store has reported the cause.
        Err(SessionError::Store(error)) if error.kind != StoreErrorKind::Failed => {
            found.add(Level::Warning, "session", "cannot be read");
        }
        Err(error) => found.failure("session", context.explain(error.into())),
    }
}

/// A session that ends sooner is reported.
const ENDS_SOON: Duration = Duration::from_secs(3 * 24 * 3600);

/// Checks the stored sessions of all profiles against what is recorded of them.
fn profiles(context: &Context<'_>, found: &mut Findings) {
    let settings = &context.settings;
    // The check of the config has reported an error.
    let (_, all) = settings.profiles.all().unwrap_or_default();
    // The keyring is searched only if a profile uses it: it may have to be unlocked.
    let uses_keyring = |profile: &Profile| profile.store.is_none_or(|s| s == StoreKind::Keyring);
    let kinds: Vec<_> = StoreKind::ALL
        .into_iter()
        .filter(|kind| {
            *kind != StoreKind::Keyring || all.iter().any(|(_, profile)| uses_keyring(profile))
        })
        .collect();
    // The stores that cannot be used, and the profiles that use them.
    let mut unusable: Vec<(StoreKind, StoreError, Vec<&str>)> = Vec::new();
    for (name, profile) in &all {
        let Ok(manager) = context.session_of(name) else {
            continue;
        };
        let command = |command: &str| Some(command_line(command, name, &settings.default));
        let helper = (!kinds.contains(&manager.store)).then_some(manager.store);
        for kind in kinds.iter().copied().chain(helper) {
            let own = kind == manager.store;
            // `session` has reported why the session of the profile in use cannot be read.
            let reported = !own || *name == settings.name;
            if let Some((_, _, names)) = unusable.iter_mut().find(|(k, ..)| *k == kind) {
                if !reported {
                    names.push(name.as_str());
                }
                continue;
            }
            match manager.entry_in(kind).read() {
                Ok(None) if own && profile.signed_in == Some(true) => found.with_fix(
                    Level::Warning,
                    "profile",
                    format!("{name} is recorded as signed in, but has no session"),
                    command("login"),
                ),
                Ok(None) => {}
                Ok(Some(session)) if own => {
                    stored_session(context, found, name, profile, &session);
                }
                Ok(Some(_)) => found.with_fix(
                    Level::Warning,
                    "profile",
                    format!(
                        "{name} has a session left in {}, which it does not use",
                        report::store_label(kind)
                    ),
                    command("logout").map(|logout| format!("end all its sessions: {logout}")),
                ),
                Err(error) if error.kind != StoreErrorKind::Failed => {
                    let names = if reported {
                        vec![]
                    } else {
                        vec![name.as_str()]
                    };
                    unusable.push((kind, error, names));
                }
                Err(error) if !reported => {
                    let text = format!("the session of {name} cannot be read: {error}");
                    found.with_fix(Level::Warning, "profile", text, error.hint);
                }
                Err(_) => {}
            }
        }
    }
    for (_, error, names) in unusable {
        if !names.is_empty() {
            let text = format!(
                "sessions that cannot be read: {} ({error})",
                names.join(", ")
            );
            found.with_fix(Level::Warning, "profile", text, error.hint);
        }
    }
}

/// Checks the session of one profile in the store that the profile uses.
fn stored_session(
    context: &Context<'_>,
    found: &mut Findings,
    name: &ProfileName,
    profile: &Profile,
    session: &Session,
) {
    let command = |command: &str| command_line(command, name, &context.settings.default);
    let now = (context.host.now)();
    let expiry: &Expiry = &session.refresh.expiry;
    let ends_soon = match expiry.remaining(now) {
        Remaining::Time(left) => left < ENDS_SOON,
        Remaining::Nothing => true,
        Remaining::Unknown => false,
    };
    let mut warn = |text: String, fix: String| {
        found.with_fix(Level::Warning, "profile", text, Some(fix));
    };
    if ends_soon {
        let ends = report::ends(expiry, now);
        let text = format!("the session of {name} {ends}");
        warn(
            text,
            format!("{}, or {}", command("refresh"), command("login")),
        );
    }
    if session.origin != profile.origin() {
        let text = format!("the session of {name} belongs to {}", session.origin);
        warn(text, command("login"));
    }
    if profile.signed_in != Some(true) {
        let text = format!("{name} is recorded as signed out, but has a session");
        warn(text, format!("end it: {}", command("logout")));
    }
    // `session` has reported the mark of the profile in use.
    if let (Some(pending), true) = (session.pending, *name != context.settings.name) {
        let text = format!(
            "{name}: a run was interrupted or unanswered during an exchange that began at {}",
            pending.began
        );
        warn(
            text,
            format!("see whether it survived: {}", command("refresh")),
        );
    }
}

fn print(context: &Context<'_>, found: &[Finding]) -> Result<(), Error> {
    let problems = found.iter().filter(|f| f.level == Level::Problem).count();
    let json: Vec<Value> = found
        .iter()
        .map(|f| json!({"level": f.level.as_str(), "topic": f.topic, "text": f.text, "fix": f.fix}))
        .collect();
    if !context.settings.json {
        for f in found {
            let line = format!("{:<9}{:<10}{}", f.level.as_str(), f.topic, f.text);
            context.terminal.answer(&line)?;
            if let Some(fix) = &f.fix {
                context.terminal.answer(&format!("{:19}fix: {fix}", ""))?;
            }
        }
    }
    let json = json!({"ok": problems == 0, "findings": json});
    match problems {
        0 if context.settings.json => Ok(context.terminal.answer_json(json)?),
        0 => Ok(()),
        _ => {
            let (is, s) = if problems == 1 {
                ("is", "")
            } else {
                ("are", "s")
            };
            let message = format!("there {is} {problems} problem{s}");
            Err(Failure {
                partial_result: Some(json),
                ..Failure::new(Outcome::Failed, message)
            }
            .into())
        }
    }
}
