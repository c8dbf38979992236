//! The endpoints, and the checks before them: the trailing slash, the method, the access token
//! and the content type. This module does not know delays and faults.

use serde_json::{Value, json};

use super::Shared;
use super::cookies;
use super::record::RecordedRequest;
use super::reply::Reply;
use super::settings::{NextLink, Settings, SignupTokens};
use super::state::{Account, RefreshTokenError, Tokens};
use super::tokens::AccessTokenError;

/// The base path of the endpoints.
pub const BASE: &str = "/api/v1";

const ENDPOINTS: [(&str, &str); 8] = [
    ("/auth/signup/", "POST"),
    ("/auth/signin/", "POST"),
    ("/auth/verify-email/", "POST"),
    ("/auth/custom-refresh/", "POST"),
    ("/auth/custom-logout/", "POST"),
    ("/account/", "GET"),
    ("/me/", "GET"),
    ("/list/", "GET"),
];

/// Handles a request. `path` is relative to the base path and has no query.
pub fn respond(shared: &mut Shared, path: &str, request: &RecordedRequest) -> Reply {
    let Some((path, method)) = ENDPOINTS.iter().find(|(known, _)| *known == path) else {
        let slashed = format!("{path}/");
        if ENDPOINTS.iter().any(|(known, _)| *known == slashed) {
            return Reply::empty(301).header("Location", &format!("{BASE}{slashed}"));
        }
        return Reply::detail(404, "Not found.");
    };
    if request.method != *method {
        let text = format!("Method \"{}\" not allowed.", request.method);
        return Reply::detail(405, &text).header("Allow", method);
    }
    if let Some(referer) = &shared.settings.required_referer
        && request.method == "POST"
        && request.header("referer") != Some(referer)
    {
        return Reply::csrf();
    }
    let caller = match authenticate(shared, request) {
        Ok(caller) => caller,
        Err(error_reply) => return error_reply,
    };
    match *path {
        "/auth/signup/" => with_json_fields(request, |fields| signup(shared, fields)),
        "/auth/signin/" => with_json_fields(request, |fields| signin(shared, fields)),
        "/auth/custom-refresh/" => without_body(request, || exchange(shared, request)),
        "/auth/custom-logout/" => without_body(request, || logout(shared, request)),
        _ => {
            let Some(caller) = caller else {
                return Reply::json(
                    401,
                    json!({ "detail": "Authentication credentials were not provided." }),
                )
                .header("WWW-Authenticate", "Bearer realm=\"api\"");
            };
            match *path {
                "/account/" => account(shared, caller),
                "/me/" => me(shared, caller),
                "/list/" => list(shared, request),
                _ => with_json_fields(request, |fields| verify(shared, caller, fields)),
            }
        }
    }
}

/// Returns the account of the access token. Like the frameworks that this server imitates, refuses
/// an invalid token even if the endpoint needs none.
fn authenticate(shared: &mut Shared, request: &RecordedRequest) -> Result<Option<u64>, Reply> {
    let cookie = request.cookie(&shared.settings.access_cookie);
    let Some(token) = request.bearer.as_deref().or(cookie) else {
        return Ok(None);
    };
    let read = shared
        .state
        .issuer
        .read_access(token, shared.settings.now());
    let message = match read {
        Ok(id) if shared.state.account_by_id(id).is_some() => return Ok(Some(id)),
        Ok(_) => return Err(Reply::unauthorized("User not found")),
        Err(AccessTokenError::Invalid) => "Token is invalid",
        Err(AccessTokenError::Expired) => "Token is expired",
    };
    let mut body = json!({
        "detail": "Given token not valid for any token type",
        "code": "token_not_valid",
    });
    body["messages"] =
        json!([{ "token_class": "AccessToken", "token_type": "access", "message": message }]);
    Err(Reply::json(401, body).header("WWW-Authenticate", "Bearer realm=\"api\""))
}

fn with_json_fields(request: &RecordedRequest, work: impl FnOnce(&Value) -> Reply) -> Reply {
    let content_type = request.header("content-type").unwrap_or_default();
    if content_type.split(';').next().map(str::trim) != Some("application/json") {
        let text = format!("Unsupported media type \"{content_type}\" in request.");
        return Reply::detail(415, &text);
    }
    match serde_json::from_slice::<Value>(&request.body) {
        Ok(fields) if fields.is_object() => work(&fields),
        Ok(_) => Reply::field("non_field_errors", "Invalid data. Expected a dictionary."),
        Err(error) => Reply::detail(400, &format!("JSON parse error - {error}")),
    }
}

fn without_body(request: &RecordedRequest, work: impl FnOnce() -> Reply) -> Reply {
    if request.body.is_empty() {
        work()
    } else {
        Reply::detail(400, "This endpoint takes no body.")
    }
}

/// Returns the text of a field that must not be blank. On failure adds an error to `errors` and
/// returns an empty text.
fn required_text(fields: &Value, name: &str, errors: &mut Value) -> String {
    let error = match &fields[name] {
        Value::String(text) if text.is_empty() => "This field may not be blank.",
        Value::String(text) => return text.clone(),
        Value::Null => "This field is required.",
        _ => "Not a valid string.",
    };
    errors[name] = json!([error]);
    String::new()
}

/// Uses the captcha response, if one is required. Fails if `errors` or the captcha response has an
/// error.
fn check_errors_and_captcha(
    shared: &mut Shared,
    fields: &Value,
    mut errors: Value,
) -> Result<(), Reply> {
    if !shared.settings.captcha.is_empty() {
        let response = required_text(fields, "captcha", &mut errors);
        if !response.is_empty() && !shared.state.use_captcha(&response, &shared.settings) {
            errors["captcha"] = json!(["Error verifying reCAPTCHA, please try again."]);
        }
    }
    if errors.as_object().is_some_and(|errors| !errors.is_empty()) {
        return Err(Reply::json(400, errors));
    }
    Ok(())
}

fn signup(shared: &mut Shared, fields: &Value) -> Reply {
    let mut errors = json!({});
    let email = required_text(fields, "email", &mut errors);
    let password = required_text(fields, "password", &mut errors);
    if !email.is_empty() && !looks_like_email(&email) {
        errors["email"] = json!(["Enter a valid email address."]);
    }
    let taken = |account: &Account| account.email.to_lowercase() == email.to_lowercase();
    if shared.state.accounts.iter().any(taken) {
        errors["email"] = json!(["A user is already registered with this e-mail address."]);
    }
    if !password.is_empty() && password.chars().count() < 8 {
        errors["password"] = json!([
            "This password is too short. It must contain at least 8 characters.",
            "This password is too common.",
        ]);
    }
    if let Err(error_reply) = check_errors_and_captcha(shared, fields, errors) {
        return error_reply;
    }
    let name = fields["name"].as_str().unwrap_or_default();
    let account = Account::new(&email, &password).name(name).unverified();
    let id = shared.state.add_account(account);
    shared.state.mail_code(&email);
    let settings = &shared.settings;
    let detail = "Verification e-mail sent.";
    match settings.signup_tokens {
        SignupTokens::None => Reply::detail(201, detail),
        SignupTokens::NoContent => Reply::empty(204),
        SignupTokens::Cookies => {
            let tokens = shared.state.begin_session(id, settings);
            Reply::detail(201, detail).cookies(cookies::set(&tokens, settings))
        }
        SignupTokens::Body | SignupTokens::BodyLong => {
            let Tokens { access, refresh } = shared.state.begin_session(id, settings);
            let body = if settings.signup_tokens == SignupTokens::Body {
                json!({ "access": access, "refresh": refresh, "detail": detail })
            } else {
                json!({ "access_token": access, "refresh_token": refresh, "detail": detail })
            };
            Reply::json(201, body)
        }
    }
}

fn looks_like_email(text: &str) -> bool {
    let parts = text.split_once('@');
    parts.is_some_and(|(local, host)| {
        !local.is_empty()
            && host.contains('.')
            && !host.starts_with('.')
            && !host.ends_with('.')
            && !host.contains('@')
            && !text.contains(char::is_whitespace)
    })
}

fn signin(shared: &mut Shared, fields: &Value) -> Reply {
    let mut errors = json!({});
    let login = required_text(fields, "login", &mut errors);
    let password = required_text(fields, "password", &mut errors);
    if let Err(error_reply) = check_errors_and_captcha(shared, fields, errors) {
        return error_reply;
    }
    let settings = &shared.settings;
    let account = shared.state.account_by_login(&login);
    let Some(account) = account.filter(|account| account.password == password) else {
        let text = "Unable to log in with provided credentials.";
        return match settings.wrong_password_status {
            400 => Reply::field("non_field_errors", text),
            status => Reply::detail(status, text),
        };
    };
    if settings.signin_needs_verified && !account.verified {
        return Reply::field("non_field_errors", "E-mail is not verified.");
    }
    let tokens = shared.state.begin_session(account.id, settings);
    Reply::empty(204).cookies(cookies::set(&tokens, settings))
}

fn verify(shared: &mut Shared, caller: u64, fields: &Value) -> Reply {
    let mut errors = json!({});
    let code = required_text(fields, "verification_code", &mut errors);
    if !code.is_empty() {
        let account = shared.state.account_by_id(caller).unwrap();
        let email = account.email.to_lowercase();
        shared.state.code_checks += 1;
        if shared.state.codes.get(&email) == Some(&code) {
            shared.state.codes.remove(&email);
            shared.state.account_by_id(caller).unwrap().verified = true;
            return Reply::detail(200, "Email verified successfully.");
        }
        errors["verification_code"] = json!(["Invalid verification code."]);
    }
    Reply::json(400, errors)
}

fn exchange(shared: &mut Shared, request: &RecordedRequest) -> Reply {
    let settings = &shared.settings;
    let Some(token) = refresh_cookie(request, settings) else {
        return Reply::unauthorized("No valid refresh token found.");
    };
    match shared.state.exchange(token, settings) {
        Ok(tokens) => Reply::empty(204).cookies(cookies::set_renewed(&tokens, settings)),
        Err(error) => refuse(error),
    }
}

/// Ends the session. Clears the cookies even if it fails.
fn logout(shared: &mut Shared, request: &RecordedRequest) -> Reply {
    let settings = &shared.settings;
    let reply = match refresh_cookie(request, settings) {
        None if settings.logout_without_cookie => Reply::empty(204),
        None => Reply::detail(401, "Refresh token was not included in cookie data."),
        Some(token) => match shared.state.end_session(token, settings) {
            Ok(()) => Reply::empty(204),
            Err(error) => refuse(error),
        },
    };
    reply.cookies(cookies::clear(settings))
}

fn refresh_cookie<'a>(request: &'a RecordedRequest, settings: &Settings) -> Option<&'a str> {
    let value = request.cookie(&settings.refresh_cookie)?;
    Some(value).filter(|value| !value.is_empty())
}

fn refuse(error: RefreshTokenError) -> Reply {
    Reply::unauthorized(match error {
        RefreshTokenError::Unknown => "Token is invalid",
        RefreshTokenError::Expired => "Token is expired",
        RefreshTokenError::Blacklisted => "Token is blacklisted",
    })
}

fn account(shared: &mut Shared, caller: u64) -> Reply {
    let id = id_value(shared, caller);
    let account = shared.state.account_by_id(caller).unwrap();
    Reply::json(
        200,
        json!({ "id": id, "email": account.email, "name": account.name }),
    )
}

fn me(shared: &mut Shared, caller: u64) -> Reply {
    let id = id_value(shared, caller);
    let account = shared.state.account_by_id(caller).unwrap();
    Reply::json(
        200,
        json!({
            "id": id,
            "email": account.email,
            "name": account.name,
            "user_onboarding_status": 3,
            "dev_onboarding_status": 0,
            "company_name": null,
            "website": null,
            "bio": "",
            "team": [{ "id": 1, "name": "Sandbox", "image_url": null, "role": "owner" }],
            "embed_quota": 1_000_000,
            "current_usage": 1234,
            "email_verified": account.verified,
        }),
    )
}

/// Returns a page of a list. The only item of a page is the page's number.
fn list(shared: &Shared, request: &RecordedRequest) -> Reply {
    let page = request.path.split_once("page=").map(|(_, page)| page);
    let page = page.and_then(|page| page.parse().ok()).unwrap_or(1);
    let settings = &shared.settings;
    let query = format!("?page={}", page + 1);
    let next = (page < settings.list_pages).then(|| match settings.next_link {
        NextLink::Query => query,
        NextLink::Path => format!("{BASE}/list/{query}"),
        NextLink::Absolute => {
            let scheme = settings.tls.map_or("http", |_| "https");
            let host = request.header("host").unwrap_or_default();
            format!("{scheme}://{host}{BASE}/list/{query}")
        }
    });
    Reply::json(
        200,
        json!({ "count": settings.list_pages, "next": next, "results": [page] }),
    )
}

fn id_value(shared: &Shared, id: u64) -> Value {
    if shared.settings.numeric_id {
        json!(id)
    } else {
        json!(id.to_string())
    }
}
