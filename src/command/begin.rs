//! What `login`, `signup` and `verify` share: the choice of the store, the
//! request that begins a session, its report, and the question for the mailed
//! code.

use serde_json::{Map, Value, json};

use super::captcha::CaptchaArgs;
use super::report;
use crate::api::{ApiError, Client};
use crate::context::Context;
use crate::error::Error;
use crate::model::{Grant, Secret, Session};
use crate::session::{Credential, Revocation, SessionError, SessionManager, Started};
use crate::store::{StoreError, StoreErrorKind, StoreKind};

/// Chooses the store of a new session, and proves it and the profiles file
/// writable before anything is asked. If nobody chose a store and the keyring
/// cannot be used, a person is asked whether a private file will do.
pub(super) fn choose_store<'c>(context: &'c Context<'_>) -> Result<SessionManager<'c>, Error> {
    context.settings.profiles.prove_writable()?;
    let manager = context.session();
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
            let manager = context.session_in(StoreKind::File);
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

/// Begins a session with a request that may need a captcha response: one that
/// is known to be needed is sent at once, one that the server asks for with a
/// second request.
pub(super) fn begin(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    captcha: &CaptchaArgs,
    login: &str,
    request: impl Fn(&Client, Option<&Secret>) -> Result<Grant, ApiError>,
) -> Result<Option<Started>, Error> {
    let send =
        |captcha: Option<&Secret>| manager.begin(Some(login), |client| request(client, captcha));
    let response = captcha.up_front(context)?;
    let started = match send(response.as_ref()) {
        Err(SessionError::Api(ApiError::Refused { captcha: true, .. })) if response.is_none() => {
            send(Some(&captcha.ask(context)?))
        }
        other => other,
    }?;
    if let Some(started) = &started {
        report_replaced(context, &started.replaced);
    }
    Ok(started)
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
    report::warn_of_variables(context, &context.token_variables()?);
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
    context.confirm(Value::Object(json), &text)
}

/// Asks for the mailed code until it is right or left for later. Returns
/// whether it was right.
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
    while let Some(code) = context.terminal.ask_optional(&prompt)? {
        match credential.send(|access| manager.client.verify(access, &code)) {
            Ok(()) => {
                context.terminal.note("the e-mail address is verified");
                return Ok(true);
            }
            Err(error) if is_wrong_code(&error) => {
                let failure = context.explain(error.into());
                context.terminal.error(&failure.message, None);
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
