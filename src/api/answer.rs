//! What an answer is: a success, a refusal, a passing fault, or none of these.
//!
//! The one place that sorts by status. It does not know which endpoint was
//! asked, nor what its success should hold.

use std::time::Instant;

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use serde_json::Value;
use url::Url;

use super::http::{Fault, Outgoing, Reply};
use super::{ApiError, Client, Sent, message};

impl Client {
    /// Sends once; a success with its body still to be read, or what else it is.
    pub(super) fn judged(&self, request: &Outgoing, deadline: Instant) -> Result<Reply, Fault> {
        let reply = self.http.send(request, deadline)?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(self.refusal(reply, deadline))
    }

    /// What an answer other than a success is.
    fn refusal(&self, reply: Reply, deadline: Instant) -> Fault {
        let (code, headers, receipt) = (reply.status, reply.headers.clone(), reply.receipt);
        let status = code.as_u16();
        let passing = |reason: String| Fault {
            error: ApiError::Unavailable {
                reason,
                sent: Sent::Answered(status),
            },
            again: matches!(status, 502..=504),
        };
        if !code.is_client_error() && !code.is_server_error() {
            return passing(match self.redirect(&headers) {
                Some(place) => format!("the server redirects to {place}; not followed"),
                None => format!("the server answered {code}, which means nothing here"),
            });
        }
        // An answer cut short is judged by its status, as one that said nothing.
        let body = self.http.body(reply, deadline).map(|(body, _)| body);
        let said = message::read(content_type(&headers), &body.unwrap_or_default());
        let name = code.canonical_reason().unwrap_or("no reason given");
        let message = || said.message.clone().unwrap_or_else(|| name.to_lowercase());
        match status {
            429 => {
                let wait = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
                return Fault::last(ApiError::Throttled {
                    message: message(),
                    retry_after: wait.and_then(|wait| receipt.retry_after(wait)),
                });
            }
            // 407 and 408 are about the connection, whoever says so.
            400..=499 if said.json && !matches!(status, 407 | 408) => {}
            _ => {
                // Many a page's title is the status again.
                let told = said.message.filter(|text| *text != code.to_string());
                return passing(match told {
                    Some(text) => format!("the server answered {code}: {text}"),
                    None => format!("the server answered {code}"),
                });
            }
        }
        Fault::last(match status {
            404 | 405 | 406 | 410 | 415 => ApiError::Unexpected {
                status,
                message: message(),
            },
            _ => ApiError::Refused {
                status,
                message: message(),
                captcha: said.captcha && matches!(status, 400 | 403 | 422),
                fields: said.fields,
            },
        })
    }

    /// Where an answer points to: host and path, without what else an address may hold.
    fn redirect(&self, headers: &HeaderMap) -> Option<String> {
        let place = headers.get(LOCATION)?.to_str().ok()?;
        let base = Url::parse(&self.url("")).ok()?;
        let url = base.join(place).ok()?;
        Some(format!("{}{}", url.host_str()?, url.path()))
    }

    /// The body of a success: JSON, or nothing where there is none. A page is some proxy's.
    pub(super) fn json(&self, reply: Reply, deadline: Instant) -> Result<Option<Value>, Fault> {
        let (code, headers) = (reply.status, reply.headers.clone());
        let (body, whole) = self.http.body(reply, deadline)?;
        let status = code.as_u16();
        let page = message::is_html(content_type(&headers));
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if page || body.trim_ascii_start().starts_with(b"<") {
            let said = message::read(content_type(&headers), &body).message;
            let text = said.unwrap_or_default();
            return Err(Fault::last(ApiError::Unavailable {
                reason: format!("the server answered {code} with a page: {text}"),
                sent: Sent::Answered(status),
            }));
        }
        if !whole {
            return Err(Fault::last(ApiError::Unexpected {
                status,
                message: "the answer is too large".to_owned(),
            }));
        }
        Ok(serde_json::from_slice(&body).ok())
    }
}

/// Whether the answer says that it is a page.
pub(super) fn is_page(reply: &Reply) -> bool {
    message::is_html(content_type(&reply.headers))
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}
