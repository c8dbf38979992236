//! `login`: a session begins, with a password or from a refresh token.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::captcha::CaptchaArgs;
use super::input::{self, Missing, PasswordArgs};
use super::report;
use crate::api::{ApiError, Client};
use crate::context::Context;
use crate::exit::Failure;
use crate::model::{Grant, RefreshToken, Secret, Session};
use crate::session::{Begun, Keeper, Revocation};
use crate::store::{ProfileLock, StoreErrorKind, StoreKind};

/// Start a session
///
/// Asks for the login and the password, or takes a session over from a refresh
/// token, and keeps it in the OS keyring.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer login ann@example.com
  rememberizer login --profile ci --refresh-token-stdin < token.txt

Exit codes: 4 refused by the server, 5 unavailable, 6 the secret store, 7 a captcha is wanted")]
pub struct Args {
    /// E-mail address or user name
    #[arg(value_name = "LOGIN", conflicts_with_all = ["refresh_token_stdin", "refresh_token_file"])]
    pub login: Option<String>,
    /// Where the password comes from.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Where the captcha response comes from.
    #[command(flatten)]
    pub captcha: CaptchaArgs,
    /// Take over the session of the refresh token on stdin
    #[arg(long, help_heading = "Refresh token", conflicts_with_all = ["password_stdin", "password_file", "captcha", "captcha_browser"])]
    pub refresh_token_stdin: bool,
    /// Take over the session of the refresh token in a file
    #[arg(long, help_heading = "Refresh token", value_name = "PATH", conflicts_with_all = ["refresh_token_stdin", "password_stdin", "password_file", "captcha", "captcha_browser"], value_hint = clap::ValueHint::FilePath)]
    pub refresh_token_file: Option<PathBuf>,
}

/// Begins a session.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), anyhow::Error> {
    let taken_over = args.refresh_token_stdin || args.refresh_token_file.is_some();
    let password = if taken_over {
        None
    } else {
        args.password.given(context)?
    };
    let login = args.login.clone().filter(|login| !login.trim().is_empty());
    let mut missing = Missing::default();
    missing.note(
        !taken_over && login.is_none(),
        "login",
        "LOGIN as an argument",
    );
    missing.note(
        !taken_over && password.is_none(),
        "password",
        &input::password_ways(),
    );
    missing.check(context)?;
    args.captcha.check(context)?;
    let place = Place::find(context)?;

    if taken_over {
        let refresh = match &args.refresh_token_file {
            Some(path) => input::from_file(path, "refresh token")?,
            None => input::from_stdin(context, "refresh token")?,
        };
        return take_over(context, &place, RefreshToken::new(refresh));
    }

    let offered = context.profile().login;
    let login = match login {
        Some(login) => login.trim().to_owned(),
        None => context.terminal.ask(
            "Rememberizer login (e-mail or user name)",
            offered.as_deref(),
        )?,
    };
    let password = match password {
        Some(password) => password,
        None => context
            .terminal
            .ask_secret(&format!("Rememberizer password for {login}"))?,
    };
    let begun = with_captcha(context, &args.captcha, |captcha| {
        place.begin(context, |client| client.signin(&login, &password, captcha))
    })?
    .ok_or(crate::session::SessionError::NoToken {
        missing: "refresh token",
    })?;
    finish(context, &place, &begun, Some(&login))
}

/// Sends a request with a captcha response where one is known to be needed,
/// and once more where the server turns out to want one.
pub(super) fn with_captcha<T>(
    context: &Context<'_>,
    args: &CaptchaArgs,
    send: impl Fn(Option<&Secret>) -> Result<T, anyhow::Error>,
) -> Result<T, anyhow::Error> {
    let captcha = args.up_front(context)?;
    let answer = send(captcha.as_ref());
    match answer {
        Err(error) if captcha.is_none() && wants_captcha(&error) => send(Some(&args.ask(context)?)),
        other => other,
    }
}

fn wants_captcha(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(crate::session::SessionError::Api(ApiError::Refused {
            captcha: true,
            ..
        }))
    )
}

/// The store that a new session goes to, found usable before anything is asked.
pub(super) struct Place {
    kind: StoreKind,
}

impl Place {
    /// Looks whether the store can be used. Where it cannot, and nobody chose
    /// it, a person is asked once whether a private file will do.
    pub(super) fn find(context: &Context<'_>) -> Result<Self, anyhow::Error> {
        let kind = context.settings.store;
        let name = context.settings.name.as_str();
        // What is recorded of the profile is needed to find the session again.
        context.settings.profiles.prove_writable()?;
        let error = {
            let _waiting = context.terminal.spin("waiting for the keyring");
            match context.secret_store(kind).read(name) {
                Ok(_) => return Ok(Self { kind }),
                // What is in there may be broken; that is no reason not to replace it.
                Err(error)
                    if error.kind == StoreErrorKind::Failed && kind == StoreKind::Keyring =>
                {
                    return Ok(Self { kind });
                }
                Err(error) => error,
            }
        };
        if kind == StoreKind::File {
            return Err(error.into());
        }
        if !context.settings.store_chosen && context.terminal.can_prompt() {
            context.terminal.warn(&error.message);
            if context.terminal.confirm(
                "Keep the Rememberizer session in a private file instead?",
                false,
            )? {
                return Ok(Self {
                    kind: StoreKind::File,
                });
            }
        }
        let mend = error
            .hint
            .as_deref()
            .unwrap_or("make the keyring reachable");
        let hint = format!(
            "{mend}; or keep the session in a private file: {}",
            context.say("login --store file")
        );
        Err(crate::store::StoreError {
            hint: Some(hint),
            ..error
        }
        .into())
    }

    /// Which store it is.
    pub(super) fn kind(&self) -> StoreKind {
        self.kind
    }

    /// Keeps sessions there.
    pub(super) fn keeper<'c>(&self, context: &'c Context<'_>) -> Keeper<'c> {
        context.keeper_in(self.kind)
    }

    /// Runs `request` and stores the session that it brings.
    pub(super) fn begin(
        &self,
        context: &Context<'_>,
        request: impl FnOnce(&Client) -> Result<Grant, ApiError>,
    ) -> Result<Option<Begun>, anyhow::Error> {
        let keeper = self.keeper(context);
        let lock = keeper.lock()?;
        let begun = keeper.begin(&lock, request)?;
        if let Some(begun) = &begun {
            self.record(context, &keeper, &lock, begun)?;
        }
        Ok(begun)
    }

    /// Records where the session is, and ends what it took the place of.
    fn record(
        &self,
        context: &Context<'_>,
        keeper: &Keeper<'_>,
        lock: &ProfileLock,
        begun: &Begun,
    ) -> Result<(), anyhow::Error> {
        context.record(|profile| {
            profile.api_url = Some(context.settings.origin.clone());
            profile.store = Some(self.kind);
            profile.signed_in = Some(true);
        })?;
        let mut replaced: Vec<&Session> = begun.replaced.iter().collect();
        let left_over = StoreKind::ALL
            .into_iter()
            .filter(|kind| *kind != self.kind)
            .find_map(
                |kind| match keeper.purge(lock, context.secret_store(kind)) {
                    Ok(session) => session,
                    Err(error) => {
                        context
                            .terminal
                            .verbose(&format!("the {kind} store was not searched: {error}"));
                        None
                    }
                },
            );
        replaced.extend(&left_over);
        for replaced in replaced {
            if Keeper::is_replaced(&begun.session, replaced) {
                revoke(context, keeper, replaced);
            }
        }
        Ok(())
    }
}

/// Ends a session that is stored nowhere any more, at the server that it is of.
fn revoke(context: &Context<'_>, keeper: &Keeper<'_>, replaced: &Session) {
    let revocation = if replaced.origin == *keeper.origin {
        keeper.revoke(&replaced.refresh.value)
    } else {
        let client = context.client_of(replaced.origin.clone());
        Keeper {
            client: &client,
            origin: &replaced.origin,
            ..context.keeper()
        }
        .revoke(&replaced.refresh.value)
    };
    match revocation {
        Revocation::Failed(error) => context.terminal.warn(&format!(
            "the former session was not revoked on the server: {error}"
        )),
        other => context.terminal.verbose(&format!(
            "the former session: {}",
            report::revocation(&other)
        )),
    }
}

fn take_over(
    context: &Context<'_>,
    place: &Place,
    refresh: RefreshToken,
) -> Result<(), anyhow::Error> {
    let keeper = place.keeper(context);
    let begun = {
        let lock = keeper.lock()?;
        let begun = keeper.take_over(&lock, refresh)?;
        place.record(context, &keeper, &lock, &begun)?;
        begun
    };
    // Whose session it is matters to the person, not to the session.
    let login = begun.session.access.as_ref().and_then(|access| {
        let _waiting = context.terminal.spin("waiting for the server");
        match keeper.client.account(&access.value) {
            Ok(account) => account
                .get("email")
                .and_then(Value::as_str)
                .map(str::to_owned),
            Err(error) => {
                context
                    .terminal
                    .verbose(&format!("whose session it is could not be asked: {error}"));
                None
            }
        }
    });
    finish(context, place, &begun, login.as_deref())
}

/// Records who it is and says so.
pub(super) fn finish(
    context: &Context<'_>,
    place: &Place,
    begun: &Begun,
    login: Option<&str>,
) -> Result<(), anyhow::Error> {
    if let Some(login) = login {
        context.settings.profiles.update(
            &context.settings.name,
            context.settings.lock_timeout,
            |profile| profile.login = Some(login.to_owned()),
        )?;
    }
    report::warn_of_variables(context, &context.variables()?);
    let mut json = report::session_json(context, Some(&begun.session));
    json.insert("login".into(), json!(login));
    json.insert("store".into(), place.kind.as_str().into());
    json.insert("signed_in".into(), true.into());
    context.confirm(
        Value::Object(json),
        &format!(
            "signed in{} on {} (profile {}); the session is in {}",
            login
                .map(|login| format!(" as {login}"))
                .unwrap_or_default(),
            begun.session.origin.host(),
            context.settings.name,
            report::place(place.kind),
        ),
    )
}

/// A login that is not there yet: what the person does next.
pub(super) fn first(context: &Context<'_>) -> Failure {
    Failure::new(crate::exit::Outcome::NotSignedIn, "not signed in").hint(context.say("login"))
}
