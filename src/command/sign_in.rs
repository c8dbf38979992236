//! What `login`, `signup` and `verify` share: checking the store, starting a session,
//! reporting it, and asking for the mailed code.

use serde_json::{Map, Value, json};

use super::report;
use super::takeover::{self, Page, SignInMethod, Source};
use crate::api::{ApiError, Client};
use crate::context::Context;
use crate::error::Error;
use crate::model::{Grant, Secret, Session};
use crate::session::{Credential, NewSession, Revocation, SessionError, SessionManager};
use crate::store::{StoreError, StoreErrorKind, StoreKind};

/// Creates the session manager for a login or signup. Fails unless its store and the
/// profiles file are writable, so that the user does not enter a password in vain. If the
/// keyring cannot be used and the user has not chosen it, asks whether to use a private file
/// instead.
///
/// `command` is the command that runs, `login` or `signup`, for a hint.
pub(super) fn manager_with_writable_store<'c>(
    context: &'c Context<'_>,
    command: &str,
) -> Result<SessionManager<'c>, Error> {
    context.settings.profiles.prove_writable()?;
    let manager = context.session_manager();
    let error = match manager.test_store() {
        Ok(()) => return Ok(manager),
        Err(SessionError::Store(error)) => error,
        Err(error) => return Err(error.into()),
    };
    if manager.store != StoreKind::Keyring {
        return Err(error.into());
    }
    if !context.settings.is_store_chosen && context.terminal.can_prompt() {
        context.terminal.warn(&error.message);
        let question = "Keep the Rememberizer session in a private file instead?";
        if context.terminal.confirm(question)? {
            let manager = context.session_manager_with_store(StoreKind::File);
            manager.test_store()?;
            return Ok(manager);
        }
    }
    Err(with_file_store_hint(context, command, error).into())
}

/// Extends the hint of a keyring error: the session can be stored in a file.
fn with_file_store_hint(context: &Context<'_>, command: &str, error: StoreError) -> StoreError {
    let keyring_fix = match (&error.hint, error.kind) {
        (Some(hint), _) => hint.as_str(),
        (None, StoreErrorKind::Locked) => "unlock the keyring",
        (None, _) => "make the keyring available",
    };
    let hint = format!(
        "{keyring_fix}; or keep the session in a private file: {}",
        context.command_line(&format!("{command} --store file"))
    );
    StoreError {
        hint: Some(hint),
        ..error
    }
}

/// Maximum number of attempts to enter values that the server accepts.
pub(super) const MAX_ATTEMPTS: u32 = 3;

/// The result of [`start_session_with_captcha`].
pub(super) enum StartOutcome {
    /// The server accepted the request. Some servers start no session at a signup.
    Accepted(Option<NewSession>),
    /// The server required a captcha response, and the user chose to take over a session
    /// from this source instead.
    UseSource(Source<'static>),
}

/// Sends a login or signup request, at most [`MAX_ATTEMPTS`] times. The first attempt sends
/// `captcha_response`, if it is set. If the server requires a captcha response or refuses
/// this one, asks the user how to continue.
pub(super) fn start_session_with_captcha(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    captcha_response: &mut Option<Secret>,
    page: Page<'_>,
    login: &str,
    request: impl Fn(&Client, Option<&Secret>) -> Result<Grant, ApiError>,
) -> Result<StartOutcome, Error> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let captcha = captcha_response.take();
        let error =
            match manager.start_session(Some(login), |client| request(client, captcha.as_ref())) {
                Ok(new_session) => {
                    if let Some(new_session) = &new_session {
                        report_replaced_sessions(context, &new_session.revocations);
                    }
                    return Ok(StartOutcome::Accepted(new_session));
                }
                Err(error) => error,
            };
        if !matches!(
            error,
            SessionError::Api(ApiError::Refused {
                captcha_required: true,
                ..
            })
        ) {
            return Err(error.into());
        }
        record_captcha_required(context, manager);
        if attempt == MAX_ATTEMPTS || !context.terminal.can_prompt() {
            let failure = context.to_failure(error.into());
            return Err(match page {
                Page::SignIn(_) => failure,
                Page::SignUp => failure.with_hint(format!(
                    "use a browser window: {}; or give a captcha response with --captcha RESPONSE",
                    context.command_line("signup --browser")
                )),
            }
            .into());
        }
        print_error_before_retry(context, error.into());
        match takeover::ask_sign_in_method(context, page)? {
            SignInMethod::TakeOver(source) => return Ok(StartOutcome::UseSource(source)),
            SignInMethod::EnterHere => {
                *captcha_response = Some(
                    context
                        .terminal
                        .ask_secret("Rememberizer captcha response")?,
                );
            }
        }
    }
}

/// Records in the profile that the server requires a captcha response, so that the next
/// login first asks how to sign in. Also records the server and the store of this login, so
/// that the next login uses them too. Does nothing if the profile has another API URL. Keeps
/// a store that may hold a session: that of a profile that is signed in, or a helper's, which
/// other machines may use.
fn record_captcha_required(context: &Context<'_>, manager: &SessionManager<'_>) {
    let profile = context.settings.profile.as_ref();
    if profile.is_some_and(|profile| profile.api_url_or_default() != manager.api_url) {
        return;
    }
    let result = manager.update_profile(|profile| {
        profile.api_url = Some(manager.api_url.clone());
        profile.captcha = Some(true);
        let store = profile.store_or_default();
        let may_hold_session =
            profile.is_recorded_signed_in() || matches!(store, StoreKind::Helper(_));
        if store != manager.store && !may_hold_session {
            profile.store = Some(manager.store);
        }
    });
    if let Err(error) = result {
        let text = format!("cannot record that the server requires a captcha: {error}");
        context.terminal.verbose(&text);
    }
}

/// Returns whether the server refused the input, such as the password. A missing or wrong
/// captcha response does not count.
pub(super) fn is_input_refused(error: &Error) -> bool {
    matches!(
        error,
        Error::Session(SessionError::Api(ApiError::Refused {
            captcha_required: false,
            ..
        }))
    )
}

/// Returns whether the server refused the field `name`.
pub(super) fn is_field_refused(error: &Error, name: &str) -> bool {
    matches!(
        error,
        Error::Session(SessionError::Api(ApiError::Refused { fields, .. }))
            if fields.iter().any(|(field, _)| field == name)
    )
}

/// Prints an error without a hint, since the user is asked again.
pub(super) fn print_error_before_retry(context: &Context<'_>, error: Error) {
    let failure = context.to_failure(error);
    context.terminal.error(&failure.message, None);
}

/// Reports whether the sessions that the new session replaced were revoked.
pub(super) fn report_replaced_sessions(context: &Context<'_>, replaced: &[Revocation]) {
    for revocation in replaced {
        let text = format!(
            "the previous session: {}",
            report::revocation_text(revocation)
        );
        match revocation {
            Revocation::Refused(_) | Revocation::Failed(_) => context.terminal.warn(&text),
            _ => context.terminal.verbose(&text),
        }
    }
}

/// Returns the details of a new session as JSON.
pub(super) fn new_session_json(
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

/// Prints the confirmation of a login, and warnings about token variables.
pub(super) fn print_login_confirmation(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    new_session: &NewSession,
    login: Option<&str>,
) -> Result<(), Error> {
    report::warn_about_token_variables(context);
    let signed_in = match login {
        Some(login) => format!("signed in as {login}"),
        None => "signed in".to_owned(),
    };
    let text = format!(
        "{signed_in} on {} (profile {}); the session is in {}",
        new_session.session.api_url.host_and_port(),
        manager.profile,
        report::store_label(manager.store),
    );
    let json = new_session_json(manager, Some(&new_session.session), login);
    context.print_confirmation(Value::Object(json), &text)
}

/// Asks for the mailed code and sends it, at most [`MAX_ATTEMPTS`] times. Returns `true`
/// if the server accepted the code, and `false` if the user left the prompt blank.
pub(super) fn ask_for_code(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    credential: &mut Credential<'_>,
    login: Option<&str>,
) -> Result<bool, Error> {
    let prompt = match login {
        Some(login) => format!("Rememberizer code mailed to {login} (blank: later)"),
        None => "Rememberizer code from the e-mail (blank: later)".to_owned(),
    };
    let mut attempt = 0;
    while let Some(code) = context.terminal.ask_optional(&prompt)? {
        attempt += 1;
        match credential.send(|access| manager.client.verify(access, &code)) {
            Ok(()) => {
                context.terminal.note("the e-mail address is verified");
                return Ok(true);
            }
            Err(error) if attempt < MAX_ATTEMPTS && is_code_refused(&error) => {
                print_error_before_retry(context, error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn is_code_refused(error: &SessionError) -> bool {
    matches!(
        error,
        SessionError::Api(ApiError::Refused {
            status: 400 | 404 | 409 | 410 | 422,
            ..
        })
    )
}
