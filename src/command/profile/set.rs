//! `profile set`: changes one fact of the profile in use. A changed store
//! moves the session, another server ends it.

use serde_json::{Value, json};

use super::end_session;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::model::{CookieNames, Origin, PageUrl};
use crate::session::{SessionError, SessionManager};
use crate::store::StoreKind;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Keys:
  api_url          the API's base URL; another server ends the session
  store            keyring, file or helper:NAME[:LOCATION]; moves the session
  login            the login that the next sign-in suggests
  access_cookie    the name of the server's access cookie (access_token)
  refresh_cookie   the name of the server's refresh cookie (refresh_token)
  sign_in_url      the page to sign in on in a browser
  sign_up_url      the page to sign up on in a browser
  referer          the Referer header to send, for a server that checks it
  on_rotate        a command that gets each new refresh token on its stdin
  on_rotate_check  a command that must succeed before a refresh token is used

Examples:
  rememberizer profile set store file --profile work
  rememberizer profile set on_rotate -- gh secret set REMEMBERIZER_TOKEN

Exit codes: 2 bad value, 6 the secret store, 9 busy")]
pub(crate) struct Args {
    /// Setting to change
    #[arg(value_enum, hide_possible_values = true)]
    key: Fact,
    /// New value; for on_rotate and on_rotate_check, a command and its arguments
    #[arg(required = true, num_args = 1..)]
    value: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Fact {
    ApiUrl,
    Store,
    Login,
    AccessCookie,
    RefreshCookie,
    SignInUrl,
    SignUpUrl,
    Referer,
    OnRotate,
    OnRotateCheck,
}

impl Fact {
    fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let settings = &context.settings;
    // An unreadable file must be found before anything moves.
    settings.profiles.select(Some(&settings.name))?;
    let key = args.key;
    let is_command = matches!(key, Fact::OnRotate | Fact::OnRotateCheck);
    let words: Vec<String> = match args.value.as_slice() {
        [empty] if empty.is_empty() => Vec::new(),
        words => words.to_vec(),
    };
    if words.len() > 1 && !is_command {
        return Err(Failure::usage(format!("{} takes one value", key.name())).into());
    }
    let text = words.first().cloned();
    let value = text.as_deref().unwrap_or_default();
    let mut url = None;
    match key {
        Fact::Store => return move_session(context, parsed(value)?),
        Fact::ApiUrl => return change_origin(context, &parsed(value)?),
        Fact::AccessCookie | Fact::RefreshCookie => check_cookie_name(key, value)?,
        Fact::SignInUrl | Fact::SignUpUrl | Fact::Referer => {
            url = text.as_deref().map(parsed::<PageUrl>).transpose()?;
        }
        Fact::OnRotate | Fact::OnRotateCheck
            if !words.is_empty() && is_shared(&context.session_manager()) =>
        {
            return Err(SessionError::RotationOfShared { name: key.name() }.into());
        }
        Fact::Login | Fact::OnRotate | Fact::OnRotateCheck => {}
    }
    let json = match is_command {
        true => json!(words),
        false => json!(value),
    };
    let shown = words.join(" ");
    context.session_manager().record(|profile| match key {
        Fact::Login => profile.login = text,
        Fact::AccessCookie => profile.access_cookie = text,
        Fact::RefreshCookie => profile.refresh_cookie = text,
        Fact::SignInUrl => profile.sign_in_url = url,
        Fact::SignUpUrl => profile.sign_up_url = url,
        Fact::Referer => profile.referer = url,
        Fact::OnRotate => profile.on_rotate = words,
        Fact::OnRotateCheck => profile.on_rotate_check = words,
        Fact::Store | Fact::ApiUrl => {}
    })?;
    confirm(context, &key.name(), json, &shown)
}

/// Whether the profile's store is known to be one that machines share.
fn is_shared(manager: &SessionManager<'_>) -> bool {
    matches!(manager.store, StoreKind::Helper(_)) && manager.is_shared().unwrap_or(false)
}

fn parsed<T: std::str::FromStr<Err: ToString>>(value: &str) -> Result<T, Failure> {
    value
        .parse()
        .map_err(|e: T::Err| Failure::usage(e.to_string()))
}

fn check_cookie_name(key: Fact, text: &str) -> Result<(), Failure> {
    if text.is_empty() || CookieNames::is_valid(text) {
        return Ok(());
    }
    let key = key.name();
    Err(Failure::usage(format!("{key} is not a valid cookie name")))
}

fn confirm(context: &Context<'_>, key: &str, json: Value, text: &str) -> Result<(), Error> {
    let name = &context.settings.name;
    let text = if text.is_empty() {
        format!("profile {name}: {key} is removed")
    } else {
        format!("profile {name}: {key} is {text}")
    };
    context.print_confirmation(json!({"profile": name, key: json}), &text)
}

/// Moves the session to another store. For a signed-out profile it only
/// records the choice, and needs no keyring.
fn move_session(context: &Context<'_>, to: StoreKind) -> Result<(), Error> {
    let profile = context.profile();
    let from = profile.store.unwrap_or(StoreKind::Keyring);
    let manager = context.session_manager_in(from);
    let target = context.session_manager_in(to);
    let lock = manager.lock()?;
    if is_shared(&target) {
        target.refuse_rotation_commands()?;
    }
    if from != to {
        if matches!(from, StoreKind::Helper(_)) && manager.is_shared()? {
            let text = "a session that machines share is not moved";
            return Err(Failure::usage(text)
                .hint(format!(
                    "to use another store, run: {}, then log in",
                    context.command_line("logout --local")
                ))
                .into());
        }
        match manager.entry().read() {
            Ok(Some(session)) => {
                if let Some(other) = target.entry().read()?
                    && !other.has_same_tokens(&session)
                {
                    return Err(SessionError::Occupied {
                        store: to.to_string(),
                        profile: manager.profile.to_string(),
                        origin: other.origin,
                    }
                    .into());
                }
                target.entry().save(&lock, &session)?;
                manager.record(|profile| profile.store = Some(to))?;
                manager.entry().delete(&lock)?;
                return confirm(context, "store", json!(to), to.as_str());
            }
            Ok(None) => {}
            Err(error) if profile.signed_in == Some(true) => return Err(error.into()),
            Err(error) => context
                .terminal
                .verbose(&format!("the {from} store was not searched: {error}")),
        }
    }
    manager.record(|profile| profile.store = Some(to))?;
    confirm(context, "store", json!(to), to.as_str())
}

/// Pins the profile to another server. The session of the former one ends.
fn change_origin(context: &Context<'_>, origin: &Origin) -> Result<(), Error> {
    let manager = context.session_manager();
    if manager.origin != *origin
        && let Some(report) = end_session(context, &manager, context.profile().signed_in)?
        && report.json["server"] != Value::Null
    {
        context.terminal.note(&report.text);
    }
    manager.record(|profile| profile.api_url = Some(origin.clone()))?;
    confirm(context, "api_url", json!(origin), origin.as_str())
}
