//! `api`: sends an authenticated request and prints the body of the response.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::input::InputSource;
use crate::api::{ApiError, Client, RawRequest, Response};
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::model::{AccessToken, read_at_most};
use crate::session::{Credential, SessionManager};

/// Maximum size of a request body, and of a response body that is printed as JSON.
const MAX_BODY: u64 = 64 * 1024 * 1024;

/// How much of a streamed body is kept to classify an error status. The chunk that reaches
/// this size is kept whole.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Maximum number of pages, in case the `next` links form a loop.
const MAX_PAGES: usize = 10_000;

/// Send an authenticated request
///
/// Streams the body of the response to stdout. On a terminal, control characters
/// are made visible.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer api me/
  rememberizer api documents/ -f name=notes -f kind=text

Exit codes: 3 not signed in, 4 refused by the server, 5 unavailable,
6 secret store failed, 8 too many requests, 9 locked by another process")]
pub(crate) struct Args {
    /// Path relative to the API URL, such as account/
    #[arg(value_name = "PATH")]
    path: String,
    /// HTTP method [default: GET; POST with --field or --input]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,
    /// Add a string to the JSON body, or with -X GET to the query; repeatable
    #[arg(short = 'f', long = "field", value_name = "KEY=VALUE", value_parser = parse_field)]
    fields: Vec<(String, String)>,
    /// Send a file as the body, or stdin (-)
    #[arg(long, value_name = "FILE", conflicts_with = "fields", value_hint = clap::ValueHint::FilePath)]
    input: Option<PathBuf>,
    /// Add a header to the request; repeatable
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Print the status and the headers before the body
    #[arg(short, long)]
    include: bool,
    /// Request all pages of a list, by its `next` links; with --json, print one object
    #[arg(long, conflicts_with_all = ["input", "include"])]
    paginate: bool,
}

fn parse_field(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("must be NAME: VALUE".to_owned()),
    }
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let request = build_request(args, context)?;
    let manager = context.session_manager();
    let mut credential = manager.credential(context.token_variables()?, Duration::ZERO)?;
    let mut send = |request: &RawRequest| send_with_refresh(&manager, &mut credential, request);
    if !args.paginate {
        return print_response(args, context, send(&request)?);
    }
    let mut pages = Pages::default();
    let result = pages.request_all(context, &manager.client, request, send);
    match result {
        _ if !context.settings.json => result,
        Ok(()) => context.finish_command(&pages, None),
        Err(error) if pages.status.is_none() => Err(error),
        Err(error) => context.finish_command(&pages, Some(context.to_failure(error))),
    }
}

/// The pages of a list, and the status of the last response.
#[derive(Default, Serialize)]
struct Pages {
    status: Option<u16>,
    pages: Vec<Box<RawValue>>,
}

impl Pages {
    /// Requests all pages, starting with `request`. Prints each page when it is received,
    /// or collects it in JSON mode.
    fn request_all(
        &mut self,
        context: &Context<'_>,
        client: &Client,
        mut request: RawRequest,
        mut send: impl FnMut(&RawRequest) -> Result<Response, Error>,
    ) -> Result<(), Error> {
        let mut remaining_bytes = MAX_BODY;
        for _ in 0..MAX_PAGES {
            let response = send(&request)?;
            let (status, retry_after) = (response.status_code(), response.retry_after());
            let bytes = read_body(response)?;
            if context.settings.json {
                remaining_bytes = remaining_bytes
                    .checked_sub(bytes.len() as u64)
                    .ok_or_else(response_too_large)?;
                self.status = Some(status);
                self.pages.push(to_json(&bytes)?);
            } else {
                context.terminal.print_document(&bytes)?;
                if !bytes.ends_with(b"\n") {
                    context.terminal.print_document(b"\n")?;
                }
            }
            if let Some(failure) = status_failure(status, retry_after, &bytes) {
                return Err(failure.into());
            }
            let page = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let Some(link) = page["next"].as_str() else {
                return Ok(());
            };
            let next = client.next_path(&request.path, link);
            request.path = next.ok_or_else(|| {
                let api_url = &context.settings.api_url;
                let message =
                    format!("the link to the next page, {link}, does not start with {api_url}");
                Failure::new(Outcome::Failed, message)
            })?;
        }
        Err(Failure::new(Outcome::Failed, format!("more than {MAX_PAGES} pages")).into())
    }
}

fn build_request(args: &Args, context: &Context<'_>) -> Result<RawRequest, Error> {
    let mut path = args.path.clone();
    let mut body = None;
    if let Some(file) = &args.input {
        let bytes = InputSource::from_arg(file).read(context, "body", MAX_BODY)?;
        body = Some(bytes.to_vec());
    }
    let method = args.method.as_deref().unwrap_or_default();
    let puts_fields_into_query = ["get", "head"]
        .iter()
        .any(|name| method.eq_ignore_ascii_case(name));
    if !args.fields.is_empty() && puts_fields_into_query {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&args.fields);
        let separator = if path.contains('?') { '&' } else { '?' };
        path = format!("{path}{separator}{}", query.finish());
    } else if !args.fields.is_empty() {
        let fields = args.fields.iter().cloned();
        let fields: Map<_, _> = fields.map(|(k, v)| (k, Value::String(v))).collect();
        body = Some(Value::Object(fields).to_string().into_bytes());
    }
    let default_method = if body.is_some() { "POST" } else { "GET" };
    Ok(RawRequest {
        method: args
            .method
            .clone()
            .unwrap_or_else(|| default_method.to_owned()),
        path,
        headers: args.headers.clone(),
        body,
    })
}

/// Sends a request. On status 401, refreshes the tokens and retries once. If the retry
/// also gets 401, returns that response.
fn send_with_refresh(
    manager: &SessionManager<'_>,
    credential: &mut Credential<'_>,
    request: &RawRequest,
) -> Result<Response, Error> {
    let is_retry = Cell::new(false);
    Ok(credential.send(|access: &AccessToken| {
        let response = manager.client.request(access, request.clone())?;
        if response.status_code() == 401 && !is_retry.replace(true) {
            // `Credential::send` retries on this error.
            return Err(ApiError::Refused {
                status: 401,
                message: "the server answered 401".to_owned(),
                fields: Vec::new(),
                captcha_required: false,
                is_json: true,
                csrf_failed: false,
            });
        }
        Ok(response)
    })?)
}

fn print_response(args: &Args, context: &Context<'_>, response: Response) -> Result<(), Error> {
    let (status, retry_after) = (response.status_code(), response.retry_after());
    let terminal = context.terminal;
    if context.settings.json {
        let headers = args.include.then(|| json!(response.header_lines()));
        let bytes = read_body(response)?;
        let document = JsonResponse {
            status,
            headers,
            body: to_json(&bytes)?,
        };
        let failure = status_failure(status, retry_after, &bytes);
        return context.finish_command(&document, failure);
    }
    if args.include {
        let mut head = format!("HTTP {status}\n");
        for (name, value) in response.header_lines() {
            head += &format!("{name}: {value}\n");
        }
        terminal.print_document((head + "\n").as_bytes())?;
    }
    // Needed after the loop to classify an error status.
    let mut start_of_body = Vec::new();
    let mut last_byte = None;
    let mut body = BufReader::with_capacity(64 * 1024, response);
    loop {
        let mut chunk = Vec::new();
        if terminal.stdout_is_terminal() {
            // Read whole lines: an escape sequence split across two chunks would not be
            // recognized.
            (&mut body)
                .take(MAX_BODY)
                .read_until(b'\n', &mut chunk)
                .map_err(incomplete_response)?;
        } else {
            chunk.extend_from_slice(body.fill_buf().map_err(incomplete_response)?);
            body.consume(chunk.len());
        }
        if chunk.is_empty() {
            break;
        }
        if start_of_body.len() < MAX_ERROR_BODY {
            start_of_body.extend_from_slice(&chunk);
        }
        last_byte = chunk.last().copied();
        terminal.print_document(&chunk)?;
    }
    if terminal.stdout_is_terminal() && last_byte.is_some_and(|byte| byte != b'\n') {
        terminal.print_document(b"\n")?;
    }
    match status_failure(status, retry_after, &start_of_body) {
        None => Ok(()),
        Some(failure) => Err(failure.into()),
    }
}

/// A response as `--json` prints it. The body is kept as text, since parsing could change
/// large numbers.
#[derive(Serialize)]
struct JsonResponse {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Value>,
    body: Box<RawValue>,
}

fn read_body(mut response: Response) -> Result<Vec<u8>, Error> {
    let bytes = read_at_most(&mut response, MAX_BODY + 1).map_err(incomplete_response)?;
    if bytes.len() as u64 > MAX_BODY {
        return Err(response_too_large().into());
    }
    Ok(bytes.to_vec())
}

/// Returns the body unchanged if it is JSON, otherwise as a JSON string.
fn to_json(body: &[u8]) -> Result<Box<RawValue>, Error> {
    serde_json::from_slice(body)
        .or_else(|_| to_raw_value(&String::from_utf8_lossy(body)))
        .map_err(|error| Error::Io(error.into()))
}

fn response_too_large() -> Failure {
    Failure::new(Outcome::Failed, "the response is too large")
}

fn incomplete_response(error: std::io::Error) -> Failure {
    Failure::new(
        Outcome::Unavailable,
        format!("the response was cut short: {error}"),
    )
    .with_hint("try again, or allow more time with --timeout SECONDS")
}

/// Returns a failure unless the status is 2xx.
fn status_failure(status: u16, retry_after: Option<u64>, body: &[u8]) -> Option<Failure> {
    let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let outcome = match status {
        200..=299 => return None,
        301 | 308 => Outcome::Failed,
        404 if !is_json() => Outcome::Failed,
        429 => Outcome::RateLimited,
        400..=499 if status != 408 => Outcome::Rejected,
        _ => Outcome::Unavailable,
    };
    let failure = Failure::new(outcome, format!("the server answered {status}"));
    Some(match outcome {
        Outcome::Failed => failure.with_hint("check the path and the API URL: rememberizer doctor"),
        Outcome::RateLimited => Failure {
            retry_after: retry_after.or_else(|| retry_after_in(body)),
            ..failure
        },
        _ => failure,
    })
}

/// Returns the number of seconds in a message of Django REST framework such as
/// `Expected available in 60 seconds.`
fn retry_after_in(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("vailable in ")?;
    let (seconds, unit) = rest.split_once(' ')?;
    unit.starts_with("second").then(|| seconds.parse().ok())?
}
