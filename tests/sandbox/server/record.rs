//! Records every request with its headers and body, in order of arrival, and the status of its
//! response. Secrets are recorded as they are, since tests compare them.

use std::time::Instant;

use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap};

/// One request.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// The index in order of arrival, from 0, never reset.
    pub number: u64,
    pub method: String,
    /// The path with its query, relative to the base path if it is below it, such as `/auth/signin/`.
    pub path: String,
    pub cookies: Vec<(String, String)>,
    /// The token of an `Authorization: Bearer` header.
    pub bearer: Option<String>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The status of the response. `None` until it is sent, and for raw bytes.
    pub status_sent: Option<u16>,
    pub at: Instant,
}

impl RecordedRequest {
    pub fn new(number: u64, method: &str, path: &str, head: &HeaderMap, body: Vec<u8>) -> Self {
        let text = |value: &hyper::header::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        let cookies = head.get_all(COOKIE).iter().map(text).collect::<Vec<_>>();
        let cookies = cookies.iter().flat_map(|line| line.split(';'));
        let bearer = head.get(AUTHORIZATION).map(text);
        RecordedRequest {
            number,
            method: method.to_owned(),
            path: path.to_owned(),
            cookies: cookies
                .filter_map(|pair| pair.trim().split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            bearer: bearer.and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned)),
            headers: head
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
            body,
            status_sent: None,
            at: Instant::now(),
        }
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        lookup(&self.cookies, name)
    }

    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        lookup(&self.headers, name)
    }

    /// The body as JSON, or else null.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn lookup<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(key, _)| key == name)?;
    Some(&found.1)
}

/// All requests since the start or the last `clear`.
#[derive(Default)]
pub struct Record {
    pub requests: Vec<RecordedRequest>,
    arrived: u64,
}

impl Record {
    /// The number that the next request gets.
    pub fn next_number(&mut self) -> u64 {
        self.arrived += 1;
        self.arrived - 1
    }

    /// Records the status of a response, unless the request was cleared meanwhile.
    pub fn answered(&mut self, number: u64, status: u16) {
        if let Some(request) = self
            .requests
            .iter_mut()
            .find(|request| request.number == number)
        {
            request.status_sent = Some(status);
        }
    }
}
