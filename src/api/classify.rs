//! Sorts responses by their status: a success, a refusal, a transient failure,
//! or not a response of this API.
//!
//! It does not know which endpoint was called, nor what a successful response
//! contains.

use std::time::Instant;

use reqwest::header::LOCATION;
use serde_json::Value;
use url::Url;

use super::http::{Request, Response};
use super::{ApiError, Client, Delivery, message};

impl Client {
    /// Sends the request once. Returns a 2xx response with its body unread, or
    /// the classified error.
    pub(super) fn send_checked(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Result<Response, ApiError> {
        let response = self.http.send(request, deadline)?;
        if response.status.is_success() {
            return Ok(response);
        }
        if response.status.is_redirection() {
            return Err(self.classify_redirect(&response));
        }
        Err(self.classify_error(response, request.is_authenticated()))
    }

    fn classify_error(&self, response: Response, is_authenticated: bool) -> ApiError {
        let status_line = response.status.to_string();
        let reason = response.status.canonical_reason().unwrap_or("no reason");
        let (status, retry_after) = (response.status(), response.retry_after());
        let content_type = response.content_type().map(str::to_owned);
        // The status suffices if the body is cut short.
        let body = self.http.read_body(response).unwrap_or_default().bytes;
        let parsed_error = message::parse(content_type.as_deref(), &body);
        let is_json = parsed_error.is_json;
        // HTML error pages often repeat the status in their title.
        let text = parsed_error.message.filter(|text| *text != status_line);
        let message = text.clone().unwrap_or_else(|| reason.to_lowercase());
        match status {
            429 => ApiError::Throttled {
                message,
                retry_after,
            },
            404 => ApiError::Unexpected { status, message },
            405 | 406 | 410 | 415 if is_json => ApiError::Unexpected { status, message },
            // 407 and 408 are about the connection, even with a JSON body.
            400..=499 if is_json && !matches!(status, 407 | 408) => ApiError::Refused {
                captcha: parsed_error.captcha && matches!(status, 400 | 403 | 422),
                csrf: parsed_error.csrf && status == 403,
                fields: parsed_error.fields,
                status,
                message,
            },
            401 if is_authenticated => ApiError::Refused {
                captcha: false,
                csrf: false,
                fields: Vec::new(),
                status,
                message,
            },
            _ => {
                let text = text.map_or(String::new(), |text| format!(": {text}"));
                let reason = format!("the server answered {status_line}{text}");
                ApiError::unavailable(reason, Delivery::Answered(status))
            }
        }
    }

    /// Redirects are never followed, since a request carries secrets. A
    /// permanent one means that the API is elsewhere; a temporary one, such as
    /// that of a captive portal, goes away.
    fn classify_redirect(&self, response: &Response) -> ApiError {
        let status = response.status();
        let message = match self.location(response) {
            Some(location) => format!("a redirect to {location}, which is not followed"),
            None => "a redirect without a location".to_owned(),
        };
        match status {
            302 | 303 | 307 => ApiError::unavailable(
                format!("the server answered {status}: {message}"),
                Delivery::Answered(status),
            ),
            _ => ApiError::Unexpected { status, message },
        }
    }

    /// The host and path of a redirect, without anything that may be secret.
    fn location(&self, response: &Response) -> Option<String> {
        let location = response.headers.get(LOCATION)?.to_str().ok()?;
        let url = Url::parse(&self.url("")).ok()?.join(location).ok()?;
        Some(format!("{}{}", url.host_str()?, url.path()))
    }

    /// Reads the JSON body of a success. Returns `None` if there is none; an
    /// HTML page comes from a proxy and is an error.
    pub(super) fn read_json(&self, response: Response) -> Result<Option<Value>, ApiError> {
        let (status, status_line) = (response.status(), response.status.to_string());
        let content_type = response.content_type().map(str::to_owned);
        let body = self.http.read_body(response)?;
        if body.bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if message::is_html(content_type.as_deref(), &body.bytes) {
            let title = message::parse(content_type.as_deref(), &body.bytes).message;
            let title = title.map_or(String::new(), |title| format!(": {title}"));
            let reason = format!("the server answered {status_line} with an HTML page{title}");
            return Err(ApiError::unavailable(reason, Delivery::Answered(status)));
        }
        if !body.is_complete {
            return Err(ApiError::Unexpected {
                status,
                message: "the response is too large".to_owned(),
            });
        }
        Ok(serde_json::from_slice(&body.bytes).ok())
    }
}
