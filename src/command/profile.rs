//! `profile`: shows and changes the profiles file. Only `set store`, `set api_url` and
//! `remove` also access the secret stores.

use clap::Subcommand;
use serde_json::{Value, json};

mod set;

use super::input::MissingInputs;
use super::report::Report;
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::model::ProfileName;
use crate::session::{LogoutScope, SessionError, SessionManager};
use crate::store::Profile;

/// Manage profiles, one per account or server
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer profile list
  rememberizer profile set store file --profile work

Exit codes: 1 no such profile, 6 secret store failed, 9 locked by another process")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the profiles
    #[command(after_help = "\
Examples:
  rememberizer profile list
  rememberizer profile list --json")]
    List,
    /// Show the settings of a profile
    #[command(after_help = "\
Examples:
  rememberizer profile show
  rememberizer profile show work --json

Exit codes: 1 no such profile")]
    Show {
        /// Name of the profile [default: the profile in use]
        #[arg(add = crate::completers::profile_names())]
        name: Option<ProfileName>,
    },
    /// Make a profile the default
    #[command(after_help = "\
Examples:
  rememberizer profile use work
  rememberizer profile use

Exit codes: 1 no such profile, 2 no name given, and prompting is not possible")]
    Use {
        /// Name of the profile [default: choose from a list]
        #[arg(add = crate::completers::profile_names())]
        name: Option<ProfileName>,
    },
    /// Change a setting of the profile in use; an empty value removes it, except api_url and store
    Set(set::Args),
    /// Remove a profile and sign out of it
    #[command(after_help = "\
Examples:
  rememberizer profile remove work
  rememberizer profile remove work --yes

Exit codes: 1 no such profile, 6 secret store failed, 9 locked by another process")]
    Remove {
        /// Name of the profile
        #[arg(add = crate::completers::profile_names())]
        name: ProfileName,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    for key in context.settings.profiles.unknown_keys()? {
        let path = context.settings.profiles.path();
        let (line, column, key) = (key.line, key.column, key.path);
        let text = format!("{}:{line}:{column}: unknown key {key}", path.display());
        context.terminal.warn(&text);
    }
    match &args.action {
        Action::List => list(context),
        Action::Show { name } => show(context, name.as_ref()),
        Action::Use { name } => make_default(context, name.as_ref()),
        Action::Set(args) => set::run(args, context),
        Action::Remove { name, yes } => remove(context, name, *yes),
    }
}

fn profile_json(name: &ProfileName, default: &ProfileName, profile: &Profile) -> Value {
    json!({
        "name": name,
        "default": name == default,
        "api_url": profile.api_url_or_default(),
        "login": profile.login,
        "store": profile.store_or_default(),
        "signed_in": profile.is_recorded_signed_in(),
    })
}

fn list(context: &Context<'_>) -> Result<(), Error> {
    let (default, profiles) = context.settings.profiles.all()?;
    if context.settings.json {
        let list: Vec<_> = profiles
            .iter()
            .map(|(name, profile)| profile_json(name, &default, profile))
            .collect();
        return Ok(context.terminal.print_json(json!({"profiles": list}))?);
    }
    if profiles.is_empty() {
        context
            .terminal
            .note("there is no profile yet: rememberizer login creates one");
    }
    let width = profiles.iter().map(|(n, _)| n.as_str().len()).max();
    for (name, profile) in &profiles {
        context.terminal.print_line(&format!(
            "{} {name:<width$}  {}  {}  {}  {}",
            if *name == default { '*' } else { ' ' },
            profile.api_url_or_default(),
            profile.login.as_deref().unwrap_or("-"),
            profile.store_or_default(),
            match profile.signed_in {
                Some(true) => "signed in",
                _ => "signed out",
            },
            width = width.unwrap_or_default(),
        ))?;
    }
    Ok(())
}

/// Returns the profile `name`, or an error if it does not exist.
fn load_existing(context: &Context<'_>, name: &ProfileName) -> Result<Profile, Error> {
    let selected = context.settings.profiles.select(Some(name))?;
    selected.profile.ok_or_else(|| {
        Failure::new(Outcome::Failed, format!("there is no profile {name}"))
            .with_hint("rememberizer profile list")
            .into()
    })
}

fn show(context: &Context<'_>, name: Option<&ProfileName>) -> Result<(), Error> {
    let name = name.unwrap_or(&context.settings.profile_name);
    let profile = load_existing(context, name)?;
    let mut json = profile_json(name, &context.settings.default_profile, &profile);
    let cookies = profile.cookie_names();
    json["access_cookie"] = cookies.access.into();
    json["refresh_cookie"] = cookies.refresh.into();
    json["sign_in_url"] = json!(profile.sign_in_url);
    json["sign_up_url"] = json!(profile.sign_up_url);
    json["referer"] = json!(profile.referer);
    json["on_rotate"] = json!(profile.on_rotate);
    json["on_rotate_check"] = json!(profile.on_rotate_check);
    if context.settings.json {
        return Ok(context.terminal.print_json(json)?);
    }
    for (key, value) in json.as_object().into_iter().flatten() {
        let text = match value {
            Value::Bool(true) => "yes".to_owned(),
            Value::Bool(false) => "no".to_owned(),
            Value::Array(words) => {
                let words = words.iter().filter_map(Value::as_str);
                words.collect::<Vec<_>>().join(" ")
            }
            other => other.as_str().unwrap_or_default().to_owned(),
        };
        let text = if text.is_empty() { "-" } else { &text };
        context.terminal.print_line(&format!("{key:<16}{text}"))?;
    }
    Ok(())
}

fn make_default(context: &Context<'_>, name: Option<&ProfileName>) -> Result<(), Error> {
    let name = match name {
        Some(name) => name.clone(),
        None => ask_for_profile(context)?,
    };
    load_existing(context, &name)?;
    let lock_timeout = context.session_manager().lock_timeout();
    context.settings.profiles.set_default(&name, lock_timeout)?;
    context.print_confirmation(
        json!({"default": name}),
        &format!("{name} is the default profile"),
    )
}

fn ask_for_profile(context: &Context<'_>) -> Result<ProfileName, Error> {
    let mut missing = MissingInputs::default();
    missing.add("profile", "NAME as an argument");
    missing.fail_unless_can_prompt(context)?;
    let (default, profiles) = context.settings.profiles.all()?;
    let mut names: Vec<ProfileName> = profiles.into_iter().map(|(name, _)| name).collect();
    if names.is_empty() {
        let failure = Failure::new(Outcome::Failed, "there is no profile yet");
        return Err(failure.with_hint(context.command_line("login")).into());
    }
    // Move the default profile to the start of the list.
    if let Some(at) = names.iter().position(|name| *name == default) {
        names[..=at].rotate_right(1);
    }
    let items: Vec<&str> = names.iter().map(ProfileName::as_str).collect();
    let chosen = context
        .terminal
        .select("Rememberizer profile to use", &items)?;
    Ok(names.swap_remove(chosen))
}

fn remove(context: &Context<'_>, name: &ProfileName, skip_confirmation: bool) -> Result<(), Error> {
    let profile = load_existing(context, name)?;
    if !skip_confirmation {
        if !context.terminal.can_prompt() {
            return Err(Failure::new(
                Outcome::InputRequired,
                format!("removing profile {name} needs confirmation"),
            )
            .with_hint(context.command_line(&format!("profile remove {name} --yes")))
            .into());
        }
        let question = format!("Remove the Rememberizer profile {name} and end its session?");
        if !context.terminal.confirm(&question)? {
            context.terminal.note("nothing was removed");
            return Ok(());
        }
    }
    let manager = context.session_manager_for(name)?;
    let logout_report = end_session(context, &manager, profile.signed_in)?;
    context
        .settings
        .profiles
        .remove(name, manager.lock_timeout())?;
    let revocation_code = logout_report
        .as_ref()
        .map(|report| report.json["server"].clone());
    let text = match &logout_report {
        // Null means that there was no session to revoke.
        Some(report) if revocation_code != Some(Value::Null) => {
            format!("{}; profile {name} is removed", report.text)
        }
        _ => format!("profile {name} is removed"),
    };
    context.print_confirmation(json!({"removed": name, "server": revocation_code}), &text)
}

/// Ends the session of a profile, even if the profile is recorded as signed out. Fails if the
/// session cannot be removed. Returns `None` if the store cannot be used and the profile is
/// not recorded as signed in.
fn end_session(
    context: &Context<'_>,
    manager: &SessionManager<'_>,
    recorded_signed_in: Option<bool>,
) -> Result<Option<Report>, Error> {
    let report = match manager.log_out(LogoutScope::ServerAndStore) {
        Err(SessionError::Store(error)) if recorded_signed_in != Some(true) => {
            let text = format!("the {} store was not searched: {error}", manager.store);
            context.terminal.verbose(&text);
            return Ok(None);
        }
        logout => Report::from_logout(context, manager, logout?),
    };
    match report.failure {
        Some(failure) if failure.outcome.is_store_failure() => Err(failure.into()),
        _ => Ok(Some(report)),
    }
}
