//! A request of the user's own making, to any path below the origin.
//!
//! The answer is handed over as it is, whatever its status; what it means is
//! not known here.

use std::time::Instant;

use reqwest::Method;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName,
    HeaderValue, RETRY_AFTER, SET_COOKIE, TRANSFER_ENCODING,
};
use url::Url;

use crate::model::AccessToken;

use super::http::{Body, Fault, Outgoing, Reply};
use super::{ApiError, Client, Sent, bearer};

/// What the user asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method; `GET` and `HEAD` are tried again on a passing fault.
    pub method: String,
    /// A path below the origin, its leading slash optional, or a URL that begins with the origin.
    pub path: String,
    /// Headers besides those that the request has by itself.
    pub headers: Vec<(String, String)>,
    /// The body, JSON unless a header says otherwise.
    pub body: Option<Vec<u8>>,
}

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status, any.
    pub status: u16,
    /// The headers in their order, except `Set-Cookie`, which may hold a token.
    pub headers: Vec<(String, String)>,
    /// `Retry-After` in seconds, if the server sent one.
    pub retry_after: Option<u64>,
    /// The body, read as it comes and until the timeout.
    pub body: Body,
}

/// Headers that belong to the session or to the connection.
const OURS: [HeaderName; 6] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    COOKIE,
    HOST,
    TRANSFER_ENCODING,
];

impl Client {
    /// Sends a request with the access token to a path below the origin.
    ///
    /// Any answer is an `Ok`. It ends at the timeout, its body included.
    pub fn request(&self, access: &AccessToken, request: Request) -> Result<Answer, ApiError> {
        let outgoing = bearer(self.outgoing(request)?, access)?;
        if !matches!(outgoing.method, Method::GET | Method::HEAD) {
            let deadline = self.deadline();
            let reply = self.http.send(&outgoing, deadline);
            let reply = reply.map_err(|fault| fault.error)?;
            return Ok(self.answer(reply, deadline));
        }
        // A gateway's refusal is tried again like a broken connection; the last one is the answer.
        let mut last = None;
        let tried = self.patiently(|deadline| {
            let reply = self.http.send(&outgoing, deadline)?;
            let status = reply.status.as_u16();
            let answer = self.answer(reply, deadline);
            if !matches!(status, 502..=504) {
                return Ok(answer);
            }
            last = Some(answer);
            Err(Fault {
                error: ApiError::Unavailable {
                    reason: format!("the server answered {status}"),
                    sent: Sent::Answered(status),
                },
                again: true,
            })
        });
        match (tried, last) {
            (
                Err(ApiError::Unavailable {
                    sent: Sent::Answered(_),
                    ..
                }),
                Some(answer),
            ) => Ok(answer),
            (tried, _) => tried,
        }
    }

    fn answer(&self, reply: Reply, deadline: Instant) -> Answer {
        let headers = reply.headers.iter().filter(|(name, _)| *name != SET_COOKIE);
        let wait = reply.headers.get(RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok());
        Answer {
            retry_after: wait.and_then(|wait| reply.receipt.retry_after(wait)),
            status: reply.status.as_u16(),
            headers: headers
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    (name.as_str().to_owned(), value.into_owned())
                })
                .collect(),
            body: self.http.reader(reply, deadline),
        }
    }

    fn outgoing(&self, request: Request) -> Result<Outgoing, ApiError> {
        let method = Method::from_bytes(request.method.to_ascii_uppercase().as_bytes())
            .ok()
            .filter(|method| *method != Method::CONNECT)
            .ok_or_else(|| ApiError::Config(format!("no HTTP method: {}", request.method)))?;
        let mut outgoing = Outgoing::new(method, self.below_origin(&request.path)?);
        if let Some(body) = request.body {
            let json = HeaderValue::from_static("application/json");
            outgoing.headers.insert(CONTENT_TYPE, json);
            outgoing.body = body;
        }
        let mut replaced = vec![];
        for (name, value) in request.headers {
            let header = HeaderName::from_bytes(name.trim().as_bytes())
                .map_err(|_| ApiError::Config(format!("no header name: {name}")))?;
            if OURS.contains(&header) {
                return Err(ApiError::Config(format!(
                    "the header {name} is set by this program"
                )));
            }
            let value = HeaderValue::from_str(value.trim()).map_err(|_| {
                ApiError::Config(format!(
                    "the header {name} holds a character it cannot have"
                ))
            })?;
            // The defaults give way to the first header of their name; a second one is added.
            if matches!(header, ACCEPT | CONTENT_TYPE) && !replaced.contains(&header) {
                replaced.push(header.clone());
                outgoing.headers.insert(header, value);
            } else {
                outgoing.headers.append(header, value);
            }
        }
        Ok(outgoing)
    }

    /// The URL of a path. It cannot leave the origin: the access token goes along.
    fn below_origin(&self, path: &str) -> Result<String, ApiError> {
        let origin = self.http.options.origin.as_str();
        let refused = || ApiError::Config(format!("{path} is not below {origin}"));
        let absolute = path.contains("://") && !path.starts_with('/') && Url::parse(path).is_ok();
        let text = match absolute {
            true => path.to_owned(),
            false => format!("{origin}/{}", path.trim_start_matches('/')),
        };
        let mut url = Url::parse(&text).map_err(|_| refused())?;
        // Compared as a parsed address: `..`, `\` and tabs have had their effect by now.
        url.set_fragment(None);
        let rest = url.as_str().strip_prefix(origin).ok_or_else(refused)?;
        if !(rest.is_empty() || rest.starts_with('/') || rest.starts_with('?')) {
            return Err(refused());
        }
        Ok(url.into())
    }
}
