//! What `login`, `signup` and `verify` share: the choice of the store, the
//! request that begins a session, its report, and the question for the mailed
//! code.

use serde_json::{Map, Value, json};

use super::report;
use super::takeover::{self, Choice, Page, Source};
use crate::api::{ApiError, Client};
use crate::context::Context;
use crate::error::Error;
use crate::model::{Grant, Secret, Session};
use crate::session::{Credential, Revocation, SessionError, SessionManager, Started};
use crate::store::{StoreError, StoreErrorKind, StoreKind};

/// Chooses the store of a new session, and proves it and the profiles file
/// writable before anything is asked. If no store was chosen and the keyring
/// cannot be used, a person is asked whether a private file will do.
pub(super) fn choose_store<'c>(context: &'c Context<'_>) -> Result<SessionManager<'c>, Error> {
    context.settings.profiles.prove_writable()?;
    let manager = context.session_manager();
    let error = match manager.prove_writable() {
        Ok(()) => return Ok(manager),
        Err(SessionError::Store(error)) => error,
        Err(error) => return Err(error.into()),
    };
    if manager.store == StoreKind::File {
        return Err(error.into());
    }
    if !context.settings.store_chosen && context.terminal.can_prompt() {
        context.terminal.warn(&error.message);
        let question = "Keep the Rememberizer session in a private file instead?";
        if context.terminal.confirm(question, false)? {
            let manager = context.session_manager_in(StoreKind::File);
            manager.prove_writable()?;
            return Ok(manager);
        }
    }
    Err(with_way_out(context, error).into())
}

/// Adds to an error of the keyring that the session can be kept in a file.
fn with_way_out(context: &Context<'_>, error: StoreError) -> StoreError {
    let fix = match (&error.hint, error.kind) {
        (Some(hint), _) => hint.as_str(),
        (None, StoreErrorKind::Locked) => "unlock the keyring",
        (None, _) => "make the keyring reachable",
    };
    let hint = format!(
        "{fix}; or keep the session in a private file: {}",
        context.command_line("login --store file")
    );
    StoreError {
        hint: Some(hint),
        ..error
    }
}

/// How often a person may answer again what the server refused.
pub(super) const ATTEMPTS: u32 = 3;

/// What became of a request that begins a session.
pub(super) enum Begun {
    /// The server accepted it, with or without a session.
    Accepted(Option<Started>),
    /// The server wanted a captcha response, and the person chose another way.
    Instead(Source<'static>),
}

/// Sends a request that begins a session, with the captcha response if there is
/// one, which is spent by that. If the server wants one, a person is asked how
/// to go on.
pub(super) fn begin(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    response: &mut Option<Secret>,
    page: Page<'_>,
    login: &str,
    request: impl Fn(&Client, Option<&Secret>) -> Result<Grant, ApiError>,
) -> Result<Begun, Error> {
    for attempt in 1.. {
        let sent = response.take();
        let error = match manager.begin(Some(login), |client| request(client, sent.as_ref())) {
            Ok(started) => {
                if let Some(started) = &started {
                    report_replaced(context, &started.replaced);
                }
                return Ok(Begun::Accepted(started));
            }
            Err(error) => error,
        };
        if !matches!(
            error,
            SessionError::Api(ApiError::Refused { captcha: true, .. })
        ) {
            return Err(error.into());
        }
        record_captcha(context, manager);
        if attempt == ATTEMPTS || !context.terminal.can_prompt() {
            return Err(error.into());
        }
        report_refused(context, error.into());
        match takeover::choose(context, page)? {
            Choice::Source(source) => return Ok(Begun::Instead(source)),
            Choice::Here => {
                *response = Some(
                    context
                        .terminal
                        .ask_secret("Rememberizer captcha response")?,
                );
            }
        }
    }
    Ok(Begun::Accepted(None))
}

/// Records that the server wants a captcha response, so that the next login asks
/// how to sign in before anything else.
fn record_captcha(context: &Context<'_>, manager: &SessionManager<'_>) {
    let recorded = context.settings.profile.as_ref();
    let is_same = recorded.is_none_or(|profile| profile.origin() == manager.origin);
    if !is_same || recorded.is_some_and(|profile| profile.captcha == Some(true)) {
        return;
    }
    let result = manager.record(|profile| {
        profile.api_url = Some(manager.origin.clone());
        profile.captcha = Some(true);
    });
    if let Err(error) = result {
        let text = format!("that a captcha is wanted could not be recorded: {error}");
        context.terminal.verbose(&text);
    }
}

/// Whether the server refused what was typed.
pub(super) fn is_refused(error: &Error) -> bool {
    let Error::Session(SessionError::Api(ApiError::Refused { captcha, .. })) = error else {
        return false;
    };
    !captcha
}

/// Whether the server refused this field.
pub(super) fn refuses_field(error: &Error, name: &str) -> bool {
    match error {
        Error::Session(SessionError::Api(ApiError::Refused { fields, .. })) => {
            fields.iter().any(|(field, _)| field == name)
        }
        _ => false,
    }
}

/// Reports an error after which the person is asked again.
pub(super) fn report_refused(context: &Context<'_>, error: Error) {
    let failure = context.explain(error);
    context.terminal.error(&failure.message, None);
}

/// Says what became of the sessions that a new one replaced.
pub(super) fn report_replaced(context: &Context<'_>, replaced: &[Revocation]) {
    for revocation in replaced {
        let text = format!("the former session: {}", report::revocation(revocation));
        match revocation {
            Revocation::Refused(_) | Revocation::Unreached(_) => context.terminal.warn(&text),
            _ => context.terminal.verbose(&text),
        }
    }
}

/// The facts of a new session in JSON.
pub(super) fn started_json(
    manager: &SessionManager<'_>,
    session: Option<&Session>,
    login: Option<&str>,
) -> Map<String, Value> {
    let mut json = report::session_json(manager, session);
    json.insert("login".into(), json!(login));
    json.insert("store".into(), manager.store.as_str().into());
    json.insert("signed_in".into(), session.is_some().into());
    json
}

/// Reports a login.
pub(super) fn confirm_login(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    started: &Started,
    login: Option<&str>,
) -> Result<(), Error> {
    report::warn_of_variables(context);
    let name = login
        .map(|login| format!(" as {login}"))
        .unwrap_or_default();
    let text = format!(
        "signed in{name} on {} (profile {}); the session is in {}",
        started.session.origin.host(),
        manager.profile,
        report::store_label(manager.store),
    );
    let json = started_json(manager, Some(&started.session), login);
    context.print_confirmation(Value::Object(json), &text)
}

/// Asks for the mailed code until it is right, left for later, or wrong for the
/// third time. Returns whether it was right.
pub(super) fn ask_for_code(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    credential: &mut Credential<'_>,
    login: Option<&str>,
) -> Result<bool, Error> {
    let to = login
        .map(|login| format!(" to {login}"))
        .unwrap_or_default();
    let prompt = format!("Rememberizer code mailed{to} (blank: later)");
    for attempt in 1.. {
        let Some(code) = context.terminal.ask_optional(&prompt)? else {
            break;
        };
        match credential.send(|access| manager.client.verify(access, &code)) {
            Ok(()) => {
                context.terminal.note("the e-mail address is verified");
                return Ok(true);
            }
            Err(error) if attempt < ATTEMPTS && is_wrong_code(&error) => {
                report_refused(context, error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn is_wrong_code(error: &SessionError) -> bool {
    matches!(
        error,
        SessionError::Api(ApiError::Refused {
            status: 400 | 404 | 409 | 410 | 422,
            ..
        })
    )
}
