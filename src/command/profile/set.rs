//! `profile set`: changes one setting of the profile in use. Changing the store moves the
//! session; changing the API URL ends it.

use serde_json::{Value, json};

use super::end_session;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::model::{ApiUrl, CookieNames, PageUrl};
use crate::session::SessionError;
use crate::store::{Profile, StoreKind};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Keys:
  api_url          base URL of the API; changing the server ends the session
  store            keyring, file or helper:NAME[:LOCATION]; moves the session
  login            login that the next sign-in suggests
  access_cookie    name of the server's access cookie [default: access_token]
  refresh_cookie   name of the server's refresh cookie [default: refresh_token]
  sign_in_url      page that `login --browser` opens
  sign_up_url      page that `signup --browser` opens
  referer          Referer header to send, for a server that checks it
  on_rotate        command that gets each new refresh token on its stdin
  on_rotate_check  command that must succeed before a refresh token is used

Examples:
  rememberizer profile set store file --profile work
  rememberizer profile set on_rotate -- gh secret set REMEMBERIZER_TOKEN

Exit codes: 2 bad value, 6 secret store failed, 9 locked by another process")]
pub(crate) struct Args {
    /// Setting to change
    #[arg(value_enum, hide_possible_values = true)]
    key: Setting,
    /// New value; for on_rotate and on_rotate_check, a command and its arguments
    #[arg(required = true, num_args = 1..)]
    value: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Setting {
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

impl Setting {
    fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let settings = &context.settings;
    // Return an error now if the profiles file is invalid, before a session is moved.
    settings.profiles.select(Some(&settings.profile_name))?;
    let key = args.key;
    let words: Vec<String> = match args.value.as_slice() {
        [empty] if empty.is_empty() => Vec::new(),
        words => words.to_vec(),
    };
    let is_command = matches!(key, Setting::OnRotate | Setting::OnRotateCheck);
    if words.len() > 1 && !is_command {
        return Err(Failure::usage(format!("{} takes one value", key.name())).into());
    }
    let value_text = words.join(" ");
    let json = match is_command {
        true => json!(words),
        false => json!(value_text),
    };
    // `None` removes the setting.
    let new_value = (!value_text.is_empty()).then(|| value_text.clone());
    let change: Box<dyn FnOnce(&mut Profile)> = match key {
        Setting::Store => return move_session(context, parse(&value_text)?),
        Setting::ApiUrl => return change_api_url(context, &parse(&value_text)?),
        Setting::Login => Box::new(|profile| profile.login = new_value),
        Setting::AccessCookie => {
            check_cookie_name(key, &value_text)?;
            Box::new(|profile| profile.access_cookie = new_value)
        }
        Setting::RefreshCookie => {
            check_cookie_name(key, &value_text)?;
            Box::new(|profile| profile.refresh_cookie = new_value)
        }
        Setting::SignInUrl => {
            let url = parse_page_url(new_value)?;
            Box::new(|profile| profile.sign_in_url = url)
        }
        Setting::SignUpUrl => {
            let url = parse_page_url(new_value)?;
            Box::new(|profile| profile.sign_up_url = url)
        }
        Setting::Referer => {
            let url = parse_page_url(new_value)?;
            Box::new(|profile| profile.referer = url)
        }
        Setting::OnRotate => {
            refuse_command_if_shared(context, key, &words)?;
            Box::new(|profile| profile.on_rotate = words)
        }
        Setting::OnRotateCheck => {
            refuse_command_if_shared(context, key, &words)?;
            Box::new(|profile| profile.on_rotate_check = words)
        }
    };
    context.session_manager().update_profile(change)?;
    print_change(context, &key.name(), json, &value_text)
}

/// Fails if several machines share the session. If the store cannot be asked now, the run
/// that next renews the session fails instead.
fn refuse_command_if_shared(
    context: &Context<'_>,
    key: Setting,
    command: &[String],
) -> Result<(), SessionError> {
    if !command.is_empty() && context.session_manager().is_shared().unwrap_or(false) {
        return Err(SessionError::RotationCommandsWithSharedStore { name: key.name() });
    }
    Ok(())
}

fn parse_page_url(text: Option<String>) -> Result<Option<PageUrl>, Failure> {
    text.as_deref().map(parse).transpose()
}

fn parse<T: std::str::FromStr<Err: ToString>>(value: &str) -> Result<T, Failure> {
    value
        .parse()
        .map_err(|e: T::Err| Failure::usage(e.to_string()))
}

/// Returns an error unless the value is a cookie name or empty.
fn check_cookie_name(key: Setting, text: &str) -> Result<(), Failure> {
    if text.is_empty() || CookieNames::is_valid(text) {
        return Ok(());
    }
    let key = key.name();
    Err(Failure::usage(format!(
        "the value of {key} must be a valid cookie name"
    )))
}

fn print_change(context: &Context<'_>, key: &str, json: Value, text: &str) -> Result<(), Error> {
    let name = &context.settings.profile_name;
    let text = if text.is_empty() {
        format!("profile {name}: {key} is removed")
    } else {
        format!("profile {name}: {key} is {text}")
    };
    context.print_confirmation(json!({"profile": name, key: json}), &text)
}

/// Moves the session to another store, and records the store in the profile. If the profile
/// is not recorded as signed in, an old store that cannot be used is no error.
fn move_session(context: &Context<'_>, to: StoreKind) -> Result<(), Error> {
    let profile = context.profile();
    let from = profile.store_or_default();
    let manager = context.session_manager_with_store(from);
    let target = context.session_manager_with_store(to);
    let lock = manager.lock()?;
    target.refuse_rotation_commands_if_shared()?;
    if from != to {
        if manager.is_shared()? {
            let text = "a session that several machines share cannot be moved";
            return Err(Failure::usage(text)
                .with_hint(format!(
                    "to use another store, run: {}, then log in",
                    context.command_line("logout --local")
                ))
                .into());
        }
        match manager.entry().read() {
            Ok(Some(session)) => {
                if let Some(existing) = target.entry().read()?
                    && !existing.has_same_tokens(&session)
                {
                    return Err(SessionError::TargetStoreOccupied {
                        store: to.to_string(),
                        profile: manager.profile.to_string(),
                        api_url: existing.api_url,
                    }
                    .into());
                }
                target.entry().save(&lock, &session)?;
                manager.update_profile(|profile| profile.store = Some(to))?;
                manager.entry().delete(&lock)?;
                return print_change(context, "store", json!(to), to.as_str());
            }
            Ok(None) => {}
            Err(error) if profile.is_recorded_signed_in() => return Err(error.into()),
            Err(error) => context
                .terminal
                .verbose(&format!("the {from} store was not searched: {error}")),
        }
    }
    manager.update_profile(|profile| profile.store = Some(to))?;
    print_change(context, "store", json!(to), to.as_str())
}

/// Ends the session, and pins the profile to another server.
fn change_api_url(context: &Context<'_>, api_url: &ApiUrl) -> Result<(), Error> {
    let manager = context.session_manager();
    // A session that the new server has issued can stay.
    let read = manager.load();
    let is_from_new_server =
        matches!(&read, Err(SessionError::OtherServer { stored }) if stored == api_url);
    let is_present = matches!(&read, Ok(Some(_)) | Err(SessionError::OtherServer { .. }));
    let must_end = manager.api_url != *api_url && !is_from_new_server;
    if is_present && must_end && manager.is_shared()? {
        let text =
            format!("the stored session does not belong to {api_url}, and other machines share it");
        let hint = format!(
            "to end it for all of them, run: {}; to leave it to them: {}",
            context.command_line("logout"),
            context.command_line("logout --local")
        );
        return Err(Failure::usage(text).with_hint(hint).into());
    }
    if must_end
        && let Some(report) = end_session(context, &manager, context.profile().signed_in)?
        && report.json["server"] != Value::Null
    {
        context.terminal.note(&report.text);
    }
    manager.update_profile(|profile| profile.api_url = Some(api_url.clone()))?;
    print_change(context, "api_url", json!(api_url), api_url.as_str())
}
