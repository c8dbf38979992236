//! Checks the stored sessions of all profiles against what is recorded of them.

use std::time::Duration;

use super::findings::Findings;
use crate::command::report;
use crate::context::{Context, command_line};
use crate::model::{PendingExchange, ProfileName, Remaining, Session};
use crate::store::{Profile, StoreError, StoreErrorKind, StoreKind};

const TOPIC: &str = "profile";

/// A session that ends sooner is reported.
const ENDS_SOON: Duration = Duration::from_secs(3 * 24 * 3600);

/// A store that cannot be used, and the profiles whose sessions cannot be read therefore.
struct Unusable<'a> {
    store: StoreKind,
    error: StoreError,
    profiles: Vec<&'a str>,
}

/// `unusable` is the error of the store of the profile in use, if it is locked or
/// does not answer.
pub(super) fn check(context: &Context<'_>, found: &mut Findings<'_>, unusable: Option<StoreError>) {
    let settings = &context.settings;
    let unusable = unusable.map(|error| Unusable {
        store: settings.store,
        error,
        profiles: Vec::new(),
    });
    let mut unusable: Vec<_> = unusable.into_iter().collect();
    // The check of the config has reported an error.
    let (_, all) = settings.profiles.all().unwrap_or_default();
    // The keyring is searched only if a profile uses it: it may have to be unlocked.
    let uses_keyring = |profile: &Profile| profile.store.is_none_or(|s| s == StoreKind::Keyring);
    let with_keyring = all.iter().any(|(_, profile)| uses_keyring(profile));
    let stores = StoreKind::ALL
        .into_iter()
        .filter(|store| with_keyring || *store != StoreKind::Keyring);
    for (name, profile) in &all {
        let Ok(manager) = context.session_manager_of(name) else {
            continue;
        };
        let own_helper = (!StoreKind::ALL.contains(&manager.store)).then_some(manager.store);
        for store in stores.clone().chain(own_helper) {
            let is_own = store == manager.store;
            // Of the profile in use, the checks of store and session have reported it.
            let is_to_report = is_own && *name != settings.name;
            if let Some(known) = unusable.iter_mut().find(|known| known.store == store) {
                known.profiles.extend(is_to_report.then_some(name.as_str()));
                continue;
            }
            match manager.entry_in(store).read() {
                Ok(session) if is_own => {
                    check_own(context, found, name, profile, session.as_ref());
                }
                Ok(None) => {}
                Ok(Some(_)) => {
                    let label = report::store_label(store);
                    let logout = command_line("logout", name, &settings.default_name);
                    found.warning(
                        TOPIC,
                        format!("{name} has a session left in {label}, which it does not use"),
                        Some(format!("end all its sessions: {logout}")),
                    );
                }
                Err(error) if error.kind != StoreErrorKind::Failed => unusable.push(Unusable {
                    store,
                    error,
                    profiles: is_to_report.then_some(name.as_str()).into_iter().collect(),
                }),
                Err(error) if is_to_report => {
                    let text = format!("the session of {name} cannot be read: {error}");
                    found.warning(TOPIC, text, error.hint);
                }
                Err(_) => {}
            }
        }
    }
    for Unusable {
        error, profiles, ..
    } in unusable
    {
        if !profiles.is_empty() {
            let names = profiles.join(", ");
            let text = format!("sessions that cannot be read: {names} ({error})");
            found.warning(TOPIC, text, error.hint);
        }
    }
}

/// Checks the session in the store that the profile uses.
fn check_own(
    context: &Context<'_>,
    found: &mut Findings<'_>,
    name: &ProfileName,
    profile: &Profile,
    session: Option<&Session>,
) {
    let command = |command: &str| command_line(command, name, &context.settings.default_name);
    let mut warn = |text: String, fix: String| found.warning(TOPIC, text, Some(fix));
    let is_recorded = profile.signed_in == Some(true);
    let Some(session) = session else {
        if is_recorded {
            let text = format!("{name} is recorded as signed in, but has no session");
            warn(text, command("login"));
        }
        return;
    };
    let now = (context.host.now)();
    let expiry = &session.refresh.expiry;
    let ends_soon = match expiry.remaining(now) {
        Remaining::Time(left) => left < ENDS_SOON,
        Remaining::Nothing => true,
        Remaining::Unknown => false,
    };
    if ends_soon {
        let text = format!("the session of {name} {}", report::ends(expiry, now));
        let fix = format!("{}, or {}", command("refresh"), command("login"));
        warn(text, fix);
    }
    if session.origin != profile.origin() {
        let text = format!("the session of {name} belongs to {}", session.origin);
        warn(text, command("login"));
    }
    if !is_recorded {
        let text = format!("{name} is recorded as signed out, but has a session");
        warn(text, format!("end it: {}", command("logout")));
    }
    // Of the profile in use, the check of the session has reported it.
    if let (Some(pending), true) = (&session.pending, *name != context.settings.name) {
        let (text, fix) = describe_pending(pending, &command("refresh"));
        warn(format!("{name}: {text}"), fix);
    }
}

/// Returns the warning about an exchange without a known result, and its fix.
pub(super) fn describe_pending(pending: &PendingExchange, refresh: &str) -> (String, String) {
    let began = pending.began;
    (
        format!("a run was interrupted or unanswered during an exchange that began at {began}"),
        format!("see whether it survived: {refresh}"),
    )
}
