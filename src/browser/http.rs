//! One request a connection, small and in time, or none at all (RFC 9112).

use std::io::{self, Read, Write};
use std::time::Instant;

/// The most that a head may take, and the most that a body may.
const HEAD: usize = 16 * 1024;
const BODY: usize = 64 * 1024;

/// A request as it was read.
pub(super) struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// Reads a request; `None` where it is not one, is too large, or takes too long.
    pub(super) fn read(stream: &mut impl Read, deadline: Instant) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Request::new(&mut headers);
            match head.parse(&bytes) {
                Err(_) => return Ok(None),
                Ok(httparse::Status::Complete(length)) => {
                    let Some(request) = Self::of(&head) else {
                        return Ok(None);
                    };
                    return request.with_body(bytes.split_off(length), stream, deadline);
                }
                Ok(httparse::Status::Partial) if bytes.len() > HEAD => return Ok(None),
                Ok(httparse::Status::Partial) => {}
            }
            let read = stream.read(&mut piece)?;
            if read == 0 || Instant::now() > deadline {
                return Ok(None);
            }
            bytes.extend_from_slice(&piece[..read]);
        }
    }

    fn of(head: &httparse::Request<'_, '_>) -> Option<Self> {
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).ok();
        Some(Self {
            method: head.method?.to_owned(),
            path: head.path?.to_owned(),
            headers: head
                .headers
                .iter()
                .filter_map(|h| Some((h.name.to_ascii_lowercase(), text(h.value)?)))
                .collect(),
            body: Vec::new(),
        })
    }

    fn with_body(
        mut self,
        mut body: Vec<u8>,
        stream: &mut impl Read,
        deadline: Instant,
    ) -> io::Result<Option<Self>> {
        let length = match self.header("content-length").map(str::parse::<usize>) {
            None => 0,
            Some(Ok(length)) if length <= BODY => length,
            Some(_) => return Ok(None),
        };
        let mut piece = [0; 4096];
        while body.len() < length {
            let read = stream.read(&mut piece)?;
            if read == 0 || Instant::now() > deadline {
                return Ok(None);
            }
            body.extend_from_slice(&piece[..read]);
        }
        body.truncate(length);
        self.body = body;
        Ok(Some(self))
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The one header of this name; `None` where there is none, or several.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    pub(super) fn host(&self) -> Option<&str> {
        self.header("host")
    }

    /// A field of the form in the body, where it is there and not empty.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let form = self.header("content-type")?;
        if !form.starts_with("application/x-www-form-urlencoded") {
            return None;
        }
        url::form_urlencoded::parse(&self.body)
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.into_owned())
    }
}

/// What is answered.
pub(super) struct Response {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Response {
    pub(super) fn plain(status: u16, text: &str) -> Self {
        Self {
            status,
            kind: "text/plain",
            body: format!("{text}\n"),
        }
    }

    pub(super) fn page(status: u16, html: &str) -> Self {
        Self {
            status,
            kind: "text/html",
            body: html.to_owned(),
        }
    }

    pub(super) fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {} \r\nContent-Type: {}; charset=utf-8\r\nContent-Length: {}\r\n\
             Content-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
             Referrer-Policy: strict-origin\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
            self.status,
            self.kind,
            self.body.len(),
            super::page::POLICY,
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(self.body.as_bytes())?;
        stream.flush()
    }
}
