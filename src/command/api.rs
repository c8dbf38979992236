//! `api`: one authenticated request, its body streamed to stdout.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::api::{Answer, ApiError, Request};
use crate::context::Context;
use crate::error::Error;
use crate::exit::{Failure, Outcome};
use crate::model::AccessToken;
use crate::session::{Credential, SessionManager};

/// The largest body that is sent, or that is held to be shown as JSON.
const LARGEST: u64 = 64 * 1024 * 1024;

/// More pages than this are a server that goes round in circles.
const MOST_PAGES: usize = 10_000;

/// Send one authenticated request
///
/// The path stands under the API's base URL, and the body of the answer goes to
/// stdout as it comes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rememberizer api me/
  rememberizer api documents/ -f name=notes -f kind=text

Exit codes: 3 not signed in, 4 refused by the server, 5 unavailable, 8 too many requests")]
pub struct Args {
    /// The path, under the API's base URL
    #[arg(value_name = "PATH")]
    pub path: String,
    /// The method: GET, or POST where there is a body
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub method: Option<String>,
    /// A field: of the query in a GET, else of a JSON body
    #[arg(short = 'f', long = "field", value_name = "KEY=VALUE", value_parser = field)]
    pub fields: Vec<(String, String)>,
    /// Send a file as the body; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "fields", value_hint = clap::ValueHint::FilePath)]
    pub input: Option<PathBuf>,
    /// Add a header
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Print the status and the headers before the body
    #[arg(short, long)]
    pub include: bool,
    /// Follow the `next` links of the pages of a list; as JSON, all in one object
    #[arg(long, conflicts_with_all = ["input", "include"])]
    pub paginate: bool,
}

fn field(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("is KEY=VALUE".to_owned()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("is NAME: VALUE".to_owned()),
    }
}

/// Sends the request, and those of the pages that follow.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let request = request(args, context)?;
    let manager = context.session();
    let mut credential = manager.credential(context.token_variables()?, Duration::ZERO)?;
    let send = |request: &Request| send(&manager, &mut credential, request);
    if args.paginate {
        return pages(context, request, send);
    }
    let mut send = send;
    show(args, context, send(&request)?)
}

/// Shows each page as it comes, or as JSON all of them at the end: one object.
fn pages(
    context: &Context<'_>,
    mut request: Request,
    mut send: impl FnMut(&Request) -> Result<Answer, Error>,
) -> Result<(), Error> {
    let mut pages = Vec::new();
    let mut room = LARGEST;
    for _ in 0..MOST_PAGES {
        let (status, text) = whole(send(&request)?)?;
        let page = serde_json::from_str::<Value>(&text).ok();
        let next = page.as_ref().and_then(|page| page["next"].as_str());
        let next = next.map(str::to_owned);
        if context.settings.json {
            room = room.checked_sub(text.len() as u64).ok_or_else(too_large)?;
            pages.push(page.unwrap_or(Value::String(text)));
        } else {
            context.terminal.answer(&text)?;
        }
        match next.filter(|_| failure(status).is_none()) {
            Some(next) => request.path = next,
            None => {
                let json = json!({"status": status, "pages": pages});
                return conclude(context, status, context.settings.json.then_some(json));
            }
        }
    }
    Err(Failure::new(Outcome::Failed, format!("more than {MOST_PAGES} pages")).into())
}

fn request(args: &Args, context: &Context<'_>) -> Result<Request, Error> {
    let mut path = args.path.clone();
    let mut body = match &args.input {
        None => None,
        Some(input) => Some(read_input(input, context)?),
    };
    let get = args
        .method
        .as_ref()
        .is_some_and(|m| m.eq_ignore_ascii_case("get") || m.eq_ignore_ascii_case("head"));
    if !args.fields.is_empty() && get {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&args.fields);
        path = format!(
            "{path}{}{}",
            if path.contains('?') { '&' } else { '?' },
            query.finish()
        );
    } else if !args.fields.is_empty() {
        let fields = args.fields.iter().cloned();
        let fields: Map<_, _> = fields.map(|(k, v)| (k, Value::String(v))).collect();
        body = Some(Value::Object(fields).to_string().into_bytes());
    }
    let usual = if body.is_some() { "POST" } else { "GET" };
    Ok(Request {
        method: args.method.clone().unwrap_or_else(|| usual.to_owned()),
        path,
        headers: args.headers.clone(),
        body,
    })
}

fn read_input(input: &std::path::Path, context: &Context<'_>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    if input.as_os_str() == "-" {
        bytes = context.terminal.read_stdin(LARGEST + 1)?.to_vec();
    } else {
        std::fs::File::open(input)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(|e| Failure::usage(format!("cannot read {}: {e}", input.display())))?;
    }
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::usage(format!("{} is too large", input.display())).into());
    }
    Ok(bytes)
}

/// Sends a request. The first 401 asks for a renewal, the second is a response
/// like any other.
fn send(
    manager: &SessionManager<'_>,
    credential: &mut Credential<'_>,
    request: &Request,
) -> Result<Answer, Error> {
    let refused = Cell::new(false);
    Ok(credential.send(|access: &AccessToken| {
        let answer = manager.client.request(access, request.clone())?;
        if answer.status == 401 && !refused.replace(true) {
            return Err(ApiError::Refused {
                status: 401,
                message: "the server answered 401".to_owned(),
                fields: Vec::new(),
                captcha: false,
            });
        }
        Ok(answer)
    })?)
}

fn show(args: &Args, context: &Context<'_>, mut answer: Answer) -> Result<(), Error> {
    let status = answer.status;
    let terminal = context.terminal;
    if args.include && !context.settings.json {
        terminal.answer(&format!("HTTP {status}"))?;
        for (name, value) in &answer.headers {
            terminal.answer(&format!("{name}: {value}"))?;
        }
        terminal.answer("")?;
    }
    if context.settings.json {
        let headers = args.include.then(|| json!(answer.headers));
        let (_, text) = whole(answer)?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let mut json = Map::from_iter([("status".to_owned(), json!(status))]);
        json.extend(headers.map(|headers| ("headers".to_owned(), headers)));
        json.insert("body".to_owned(), body);
        return conclude(context, status, Some(Value::Object(json)));
    }
    if terminal.stdout_is_terminal() {
        for line in BufReader::new(answer.body).split(b'\n') {
            terminal.answer(&String::from_utf8_lossy(&line.map_err(cut_short)?))?;
        }
    } else {
        let mut piece = vec![0; 64 * 1024];
        loop {
            match answer.body.read(&mut piece).map_err(cut_short)? {
                0 => break,
                length => terminal.answer_bytes(&piece[..length])?,
            }
        }
    }
    conclude(context, status, None)
}

fn whole(answer: Answer) -> Result<(u16, String), Error> {
    let mut bytes = Vec::new();
    let read = answer.body.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(cut_short)?;
    if bytes.len() as u64 > LARGEST {
        return Err(too_large().into());
    }
    Ok((answer.status, String::from_utf8_lossy(&bytes).into_owned()))
}

fn too_large() -> Failure {
    Failure::new(Outcome::Failed, "the answer is too large")
}

fn cut_short(error: std::io::Error) -> Failure {
    Failure::new(
        Outcome::Unavailable,
        format!("the answer was cut short: {error}"),
    )
    .hint("try again, or allow more time with --timeout SECONDS")
}

/// Ends as the status says, with `json` where that is the form of the answer.
fn conclude(context: &Context<'_>, status: u16, json: Option<Value>) -> Result<(), Error> {
    match (failure(status), json) {
        (None, None) => Ok(()),
        (None, Some(json)) => Ok(context.terminal.answer_json(json)?),
        (Some(failure), done) => Err(Failure { done, ..failure }.into()),
    }
}

/// What the status says of the request; the body has been shown.
fn failure(status: u16) -> Option<Failure> {
    let outcome = match status {
        200..=299 => return None,
        429 => Outcome::RateLimited,
        400..=499 if status != 408 => Outcome::Rejected,
        _ => Outcome::Unavailable,
    };
    Some(Failure::new(
        outcome,
        format!("the server answered {status}"),
    ))
}
