//! Compares the stored sessions with the profiles file, for all profiles.

use super::findings::Findings;
use crate::command::report;
use crate::context::{Context, command_line};
use crate::model::{PendingExchange, ProfileName, Session};
use crate::session::EXPIRY_WARNING_THRESHOLD;
use crate::store::{Profile, StoreError, StoreErrorKind, StoreKind};

const TOPIC: &str = "profile";

/// A store that cannot be used, and the profiles whose sessions are in it.
struct UnusableStore<'a> {
    store: StoreKind,
    error: StoreError,
    profiles: Vec<&'a str>,
}

/// The session of the profile in use, as an earlier check has read it.
pub(super) enum SelectedSession {
    Read(Option<Session>),
    /// Reading failed, which has been reported.
    Unreadable,
    /// The store is locked or unavailable, which has been reported.
    StoreUnusable(StoreError),
}

/// Checks the sessions of all profiles in all stores.
pub(super) fn check(
    context: &Context<'_>,
    findings: &mut Findings<'_>,
    selected_session: SelectedSession,
) {
    let settings = &context.settings;
    let mut unusable_stores = Vec::new();
    let selected_session = match selected_session {
        SelectedSession::Read(session) => Some(session),
        SelectedSession::Unreadable => None,
        SelectedSession::StoreUnusable(error) => {
            unusable_stores.push(UnusableStore {
                store: settings.store,
                error,
                profiles: Vec::new(),
            });
            None
        }
    };
    // `check_config` has reported an error of the profiles file.
    let (_, all_profiles) = settings.profiles.all().unwrap_or_default();
    // Search the keyring only if a profile uses it: on macOS, every read may open a dialog.
    let uses_keyring = |profile: &Profile| profile.store_or_default() == StoreKind::Keyring;
    let search_keyring = all_profiles
        .iter()
        .any(|(_, profile)| uses_keyring(profile));
    let stores = StoreKind::BUILT_IN
        .into_iter()
        .filter(|store| search_keyring || *store != StoreKind::Keyring);
    for (name, profile) in &all_profiles {
        let Ok(manager) = context.session_manager_for(name) else {
            continue;
        };
        let helper = (!StoreKind::BUILT_IN.contains(&manager.store)).then_some(manager.store);
        // Search also the stores that the profile does not use: a session may be left there.
        for store in stores.clone().chain(helper) {
            let is_profile_store = store == manager.store;
            if is_profile_store && *name == settings.profile_name {
                if let Some(session) = &selected_session {
                    check_session(context, findings, name, profile, session.as_ref());
                }
                continue;
            }
            if let Some(unusable) = unusable_stores.iter_mut().find(|s| s.store == store) {
                if is_profile_store {
                    unusable.profiles.push(name.as_str());
                }
                continue;
            }
            match manager.entry_in(store).read() {
                Err(error) if error.kind != StoreErrorKind::Failed => {
                    unusable_stores.push(UnusableStore {
                        store,
                        error,
                        profiles: Vec::from_iter(is_profile_store.then_some(name.as_str())),
                    });
                }
                read if is_profile_store => match read {
                    Ok(session) => {
                        check_session(context, findings, name, profile, session.as_ref());
                    }
                    Err(error) => {
                        let text = format!("the session of {name} cannot be read: {error}");
                        findings.warning(TOPIC, text, error.hint);
                    }
                },
                Ok(Some(_)) => warn_about_other_session(context, findings, name, store),
                Ok(None) | Err(_) => {}
            }
        }
    }
    report_unusable_stores(findings, unusable_stores);
}

/// Warns about a session in a store that the profile does not use.
fn warn_about_other_session(
    context: &Context<'_>,
    findings: &mut Findings<'_>,
    name: &ProfileName,
    store: StoreKind,
) {
    let label = report::store_label(store);
    let logout = command_line("logout", name, &context.settings.default_profile);
    findings.warning(
        TOPIC,
        format!("{name} has a session left in {label}, which it does not use"),
        Some(format!("end all its sessions: {logout}")),
    );
}

/// Warns about the stores that contain the session of a profile and cannot be used.
fn report_unusable_stores(findings: &mut Findings<'_>, stores: Vec<UnusableStore<'_>>) {
    for store in stores
        .into_iter()
        .filter(|store| !store.profiles.is_empty())
    {
        let names = store.profiles.join(", ");
        let text = format!("sessions that cannot be read: {names} ({})", store.error);
        findings.warning(TOPIC, text, store.error.hint);
    }
}

/// Reports differences between a profile and the session in its store, and a session that
/// expires soon.
fn check_session(
    context: &Context<'_>,
    findings: &mut Findings<'_>,
    name: &ProfileName,
    profile: &Profile,
    session: Option<&Session>,
) {
    let command_line =
        |command: &str| command_line(command, name, &context.settings.default_profile);
    let mut warn = |text: String, fix: String| findings.warning(TOPIC, text, Some(fix));
    let is_recorded_signed_in = profile.is_recorded_signed_in();
    let Some(session) = session else {
        if is_recorded_signed_in {
            let text = format!("{name} is recorded as signed in, but has no session");
            warn(text, command_line("login"));
        }
        return;
    };
    let now = (context.host.now)();
    let expiry = &session.refresh.expiry;
    if !expiry.outlasts(EXPIRY_WARNING_THRESHOLD, now) {
        let text = format!("the session of {name} {}", report::expiry_text(expiry, now));
        let fix = format!("{}, or {}", command_line("refresh"), command_line("login"));
        warn(text, fix);
    }
    if session.api_url != profile.api_url_or_default() {
        let text = format!(
            "the session of {name} belongs to {}, not to the server of the profile",
            session.api_url
        );
        warn(text, command_line("login"));
    }
    if !is_recorded_signed_in {
        let text = format!("{name} is recorded as signed out, but has a session");
        warn(text, format!("end it: {}", command_line("logout")));
    }
    // For the profile in use, an earlier check has reported a pending exchange.
    if let Some(pending) = &session.pending
        && *name != context.settings.profile_name
    {
        let (text, fix) = describe_pending(pending, &command_line("refresh"));
        warn(format!("{name}: {text}"), fix);
    }
}

/// Returns a warning about a token exchange whose result is unknown, and its fix.
/// `refresh` is the command line that refreshes the tokens.
pub(super) fn describe_pending(pending: &PendingExchange, refresh: &str) -> (String, String) {
    let began = pending.began_at;
    (
        format!(
            "a run began to renew the session at {began}, and was interrupted or got no response"
        ),
        format!("check whether the session is still valid: {refresh}"),
    )
}
