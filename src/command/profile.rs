//! `profile`: the profiles file. Everything but `set store`, a changed origin
//! and `remove` leaves the secret stores alone.

use clap::Subcommand;
use serde_json::{Value, json};

use super::report::LogoutReport;
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::model::{Origin, ProfileName};
use crate::session::{SessionError, SessionManager};
use crate::store::{Profile, StoreKind};

/// List, show and change profiles
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer profile list
  rememberizer profile set store file --profile work

Exit codes: 1 there is no such profile, 6 the secret store, 9 busy")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with profiles.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List the profiles: name, server, login, store, whether signed in
    #[command(after_help = "\
Examples:
  rememberizer profile list
  rememberizer profile list --json")]
    List,
    /// Show what is recorded of a profile
    #[command(after_help = "\
Examples:
  rememberizer profile show
  rememberizer profile show work --json

Exit codes: 1 there is no such profile")]
    Show {
        /// The profile; the one in use where left out
        #[arg(add = super::completions::profile_names())]
        name: Option<ProfileName>,
    },
    /// Make a profile the one that is used when none is chosen
    #[command(after_help = "\
Examples:
  rememberizer profile use work
  rememberizer profile use default

Exit codes: 1 there is no such profile")]
    Use {
        /// The profile
        #[arg(add = super::completions::profile_names())]
        name: ProfileName,
    },
    /// Change a fact of the profile in use; an empty value forgets it
    #[command(after_help = "\
Keys:
  api_url         the API's base URL; another server ends the session
  store           keyring or file; moves the session
  login           offered at the next login
  access_cookie   the name of the server's access cookie (access_token)
  refresh_cookie  the name of the server's refresh cookie (refresh_token)
  site_key        the reCAPTCHA site key of the server's sign-in page

Examples:
  rememberizer profile set store file --profile work
  rememberizer profile set site_key ''

Exit codes: 2 bad value, 6 the secret store, 9 busy")]
    Set {
        /// What to change
        #[arg(value_parser = ["api_url", "store", "login", "access_cookie", "refresh_cookie", "site_key"])]
        key: String,
        /// The new value
        value: String,
    },
    /// Forget a profile and end its session
    #[command(after_help = "\
Examples:
  rememberizer profile remove work
  rememberizer profile remove work --yes

Exit codes: 1 there is no such profile, 6 the secret store, 9 busy")]
    Remove {
        /// The profile
        #[arg(add = super::completions::profile_names())]
        name: ProfileName,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Does it.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    for key in context.settings.profiles.unknown_keys()? {
        context.terminal.warn(&format!(
            "{}:{}:{}: unknown key {}",
            context.settings.profiles.path().display(),
            key.line,
            key.column,
            key.path
        ));
    }
    match &args.action {
        Action::List => list(context),
        Action::Show { name } => show(context, name.as_ref()),
        Action::Use { name } => make_default(context, name),
        Action::Set { key, value } => set(context, key, value),
        Action::Remove { name, yes } => remove(context, name, *yes),
    }
}

fn facts(name: &ProfileName, default: &ProfileName, profile: &Profile) -> Value {
    json!({
        "name": name,
        "default": name == default,
        "api_url": profile.origin(),
        "login": profile.login,
        "store": profile.store.unwrap_or(StoreKind::Keyring),
        "signed_in": profile.signed_in == Some(true),
    })
}

fn list(context: &Context<'_>) -> Result<(), Error> {
    let (default, profiles) = context.settings.profiles.all()?;
    if context.settings.json {
        let all: Vec<_> = profiles
            .iter()
            .map(|(name, profile)| facts(name, &default, profile))
            .collect();
        return Ok(context.terminal.answer_json(json!({"profiles": all}))?);
    }
    if profiles.is_empty() {
        context
            .terminal
            .note("there is no profile yet: rememberizer login makes one");
    }
    let width = profiles.iter().map(|(n, _)| n.as_str().len()).max();
    for (name, profile) in &profiles {
        context.terminal.answer(&format!(
            "{} {name:<width$}  {}  {}  {}  {}",
            if *name == default { '*' } else { ' ' },
            profile.origin(),
            profile.login.as_deref().unwrap_or("-"),
            profile.store.unwrap_or(StoreKind::Keyring),
            if profile.signed_in == Some(true) {
                "signed in"
            } else {
                "signed out"
            },
            width = width.unwrap_or_default(),
        ))?;
    }
    Ok(())
}

/// The profile that is meant, which must be there.
fn existing(context: &Context<'_>, name: &ProfileName) -> Result<Profile, Error> {
    let selected = context.settings.profiles.select(Some(name))?;
    selected.profile.ok_or_else(|| {
        Failure::new(Outcome::Failed, format!("there is no profile {name}"))
            .hint("rememberizer profile list")
            .into()
    })
}

fn show(context: &Context<'_>, name: Option<&ProfileName>) -> Result<(), Error> {
    let name = name.unwrap_or(&context.settings.name);
    let profile = existing(context, name)?;
    let mut json = facts(name, &context.settings.default, &profile);
    json["access_cookie"] = profile
        .access_cookie
        .as_deref()
        .unwrap_or("access_token")
        .into();
    json["refresh_cookie"] = profile
        .refresh_cookie
        .as_deref()
        .unwrap_or("refresh_token")
        .into();
    json["site_key"] = profile.site_key.as_deref().into();
    if context.settings.json {
        return Ok(context.terminal.answer_json(json)?);
    }
    if let Value::Object(map) = json {
        for (key, value) in map {
            let text = match value {
                Value::Null => "-".to_owned(),
                Value::Bool(true) => "yes".to_owned(),
                Value::Bool(false) => "no".to_owned(),
                Value::String(text) => text,
                other => other.to_string(),
            };
            context.terminal.answer(&format!("{key:<15}{text}"))?;
        }
    }
    Ok(())
}

fn make_default(context: &Context<'_>, name: &ProfileName) -> Result<(), Error> {
    existing(context, name)?;
    let settings = &context.settings;
    settings.profiles.set_default(name, settings.lock_timeout)?;
    context.confirm(
        json!({"default": name}),
        &format!("{name} is the default profile"),
    )
}

fn set(context: &Context<'_>, key: &str, value: &str) -> Result<(), Error> {
    let settings = &context.settings;
    // An unreadable file must be found before anything moves.
    settings.profiles.select(Some(&settings.name))?;
    let manager = context.session();
    let text = (!value.is_empty()).then(|| value.to_owned());
    match key {
        "store" => return move_session(context, parsed(value)?),
        "api_url" => return change_origin(context, &parsed(value)?),
        "login" => manager.record(|p| p.login.clone_from(&text))?,
        "access_cookie" | "refresh_cookie" => {
            if !text.as_deref().is_none_or(is_cookie_name) {
                return Err(Failure::usage(format!("{key} is no cookie's name")).into());
            }
            manager.record(|p| {
                if key == "access_cookie" {
                    p.access_cookie.clone_from(&text);
                } else {
                    p.refresh_cookie.clone_from(&text);
                }
            })?;
        }
        _ => manager.record(|p| p.site_key.clone_from(&text))?,
    }
    confirm_set(context, key, value)
}

fn parsed<T: std::str::FromStr<Err: ToString>>(value: &str) -> Result<T, Failure> {
    value
        .parse()
        .map_err(|e: T::Err| Failure::usage(e.to_string()))
}

/// A cookie's name is a token (RFC 6265 §4.1.1, RFC 9110 §5.6.2).
fn is_cookie_name(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn confirm_set(context: &Context<'_>, key: &str, value: &str) -> Result<(), Error> {
    let name = &context.settings.name;
    let text = if value.is_empty() {
        format!("profile {name}: {key} is forgotten")
    } else {
        format!("profile {name}: {key} is {value}")
    };
    context.confirm(json!({"profile": name, key: value}), &text)
}

/// Moves the session to another store. For a signed-out profile it only
/// records the choice, and needs no keyring.
fn move_session(context: &Context<'_>, to: StoreKind) -> Result<(), Error> {
    let profile = context.profile();
    let from = profile.store.unwrap_or(StoreKind::Keyring);
    let manager = context.session_in(from);
    let lock = manager.lock()?;
    if from != to {
        match manager.entry().read() {
            Ok(Some(session)) => {
                if let Some(other) = manager.entry_in(to).read()?
                    && !other.has_same_tokens(&session)
                {
                    return Err(SessionError::Occupied {
                        store: to.to_string(),
                        profile: manager.profile.to_string(),
                        origin: other.origin,
                    }
                    .into());
                }
                manager.entry_in(to).save(&lock, &session)?;
                manager.record(|profile| profile.store = Some(to))?;
                manager.entry().delete(&lock)?;
                return confirm_set(context, "store", to.as_str());
            }
            Ok(None) => {}
            Err(error) if profile.signed_in == Some(true) => return Err(error.into()),
            Err(error) => context
                .terminal
                .verbose(&format!("the {from} store was not searched: {error}")),
        }
    }
    manager.record(|profile| profile.store = Some(to))?;
    confirm_set(context, "store", to.as_str())
}

/// Pins the profile to another server. The session of the former one ends.
fn change_origin(context: &Context<'_>, origin: &Origin) -> Result<(), Error> {
    let manager = context.session();
    if manager.origin != *origin
        && let Some(report) = end_session(context, &manager, context.profile().signed_in)?
        && report.json["server"] != Value::Null
    {
        context.terminal.note(&report.text);
    }
    manager.record(|profile| profile.api_url = Some(origin.clone()))?;
    confirm_set(context, "api_url", origin.as_str())
}

fn remove(context: &Context<'_>, name: &ProfileName, yes: bool) -> Result<(), Error> {
    let profile = existing(context, name)?;
    if !yes {
        if !context.terminal.can_prompt() {
            return Err(Failure::new(
                Outcome::InputRequired,
                format!("removing profile {name} wants a confirmation (--yes)"),
            )
            .into());
        }
        let question = format!("Remove the Rememberizer profile {name} and end its session?");
        if !context.terminal.confirm(&question, false)? {
            context.terminal.note("nothing was removed");
            return Ok(());
        }
    }
    let manager = context.session_of(name)?;
    let report = end_session(context, &manager, profile.signed_in)?;
    let settings = &context.settings;
    settings.profiles.remove(name, settings.lock_timeout)?;
    let server = report.as_ref().map(|report| report.json["server"].clone());
    let text = match &report {
        Some(report) if server != Some(Value::Null) => {
            format!("{}; profile {name} is removed", report.text)
        }
        _ => format!("profile {name} is removed"),
    };
    context.confirm(json!({"removed": name, "server": server}), &text)
}

/// Ends the session of a profile, if there is one, whatever the record says.
/// The record decides only whether a store that cannot be used is an error.
fn end_session(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    signed_in: Option<bool>,
) -> Result<Option<LogoutReport>, Error> {
    let report = match manager.end(false) {
        Err(SessionError::Store(error)) if signed_in != Some(true) => {
            let text = format!("the {} store was not searched: {error}", manager.store);
            context.terminal.verbose(&text);
            return Ok(None);
        }
        outcome => LogoutReport::new(context, manager, outcome?),
    };
    match report.failure {
        Some(failure) if failure.outcome.is_store() => Err(failure.into()),
        _ => Ok(Some(report)),
    }
}
