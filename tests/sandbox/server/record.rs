//! Records each request with its headers and body, in order of arrival, and the status of its
//! response. The record contains the secrets, because tests compare them.

use std::time::Instant;

use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap};

/// One request.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Counts the requests since the start of the server, from 0.
    pub number: u64,
    pub method: String,
    /// The path with its query, such as `/auth/signin/`. A path below the base path is relative to it.
    pub path: String,
    pub cookies: Vec<(String, String)>,
    /// The token of an `Authorization: Bearer` header.
    pub bearer: Option<String>,
    /// The names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The status of the response. `None` until the response is sent, and if it is raw bytes.
    pub status_sent: Option<u16>,
    pub at: Instant,
}

impl RecordedRequest {
    pub fn new(
        number: u64,
        method: &str,
        path: &str,
        header_map: &HeaderMap,
        body: Vec<u8>,
    ) -> Self {
        let text = |value: &hyper::header::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        let cookies = header_map
            .get_all(COOKIE)
            .iter()
            .map(text)
            .collect::<Vec<_>>();
        let cookies = cookies.iter().flat_map(|line| line.split(';'));
        let bearer = header_map.get(AUTHORIZATION).map(text);
        RecordedRequest {
            number,
            method: method.to_owned(),
            path: path.to_owned(),
            cookies: cookies
                .filter_map(|pair| pair.trim().split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            bearer: bearer.and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned)),
            headers: header_map
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
            body,
            status_sent: None,
            at: Instant::now(),
        }
    }

    /// Returns the value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        lookup(&self.cookies, name)
    }

    /// Returns the value of a header. `name` must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        lookup(&self.headers, name)
    }

    /// Returns the body as JSON, or null if the body is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn lookup<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(key, _)| key == name)?;
    Some(&found.1)
}

/// All requests since the start of the server or the last `Handle::clear_requests`.
#[derive(Default)]
pub struct Record {
    pub requests: Vec<RecordedRequest>,
    count: u64,
}

impl Record {
    /// Returns the number of the next request.
    pub fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count - 1
    }

    /// Records the status of a response, unless the record of the request was cleared.
    pub fn record_status(&mut self, number: u64, status: u16) {
        if let Some(request) = self
            .requests
            .iter_mut()
            .find(|request| request.number == number)
        {
            request.status_sent = Some(status);
        }
    }
}
