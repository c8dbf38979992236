//! Maps responses that are not a success to an [`ApiError`], mostly by their status, and reads
//! the JSON of the others.
//!
//! This module does not know which endpoint was called, nor what a successful
//! response contains.

use std::time::Instant;

use reqwest::header::LOCATION;
use serde_json::Value;
use url::Url;

use super::http::{Request, Response};
use super::{ApiError, Client, FailureStage, error_body};

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
        Err(self.classify_error_response(response, request.has_access_token()))
    }

    fn classify_error_response(&self, response: Response, has_access_token: bool) -> ApiError {
        let (status, status_line) = (response.status_code(), response.status.to_string());
        let reason_phrase = response.status.canonical_reason();
        let retry_after = response.retry_after();
        let content_type = response.content_type().map(str::to_owned);
        // If the body cannot be read to its end, classify by the status alone.
        let body = self.http.read_body(response).unwrap_or_default().bytes;
        let parsed_error = error_body::parse(content_type.as_deref(), &body);
        let is_json = parsed_error.is_json;
        // HTML error pages often repeat the status in their title. Do not print it twice.
        let server_text = parsed_error.message.filter(|text| *text != status_line);
        let message = server_text
            .clone()
            .unwrap_or_else(|| reason_phrase.unwrap_or("unknown status").to_lowercase());
        let is_refusal = match status {
            401 if has_access_token => true,
            // These two concern the connection, whatever the body is.
            407 | 408 => false,
            400..=499 => is_json,
            _ => false,
        };
        match status {
            429 => ApiError::RateLimited {
                message,
                retry_after,
            },
            404 => ApiError::WrongApiUrl { status, message },
            405 | 406 | 410 | 415 if is_json => ApiError::WrongApiUrl { status, message },
            _ if is_refusal => ApiError::Refused {
                captcha_required: parsed_error.mentions_captcha
                    && matches!(status, 400 | 403 | 422),
                csrf_failed: parsed_error.mentions_csrf && status == 403,
                fields: parsed_error.fields,
                is_json,
                status,
                message,
            },
            _ => {
                let suffix = server_text.map_or(String::new(), |text| format!(": {text}"));
                let message = format!("the server answered {status_line}{suffix}");
                ApiError::unavailable(message, FailureStage::UnusableResponse(status))
            }
        }
    }

    /// Redirects are never followed, because requests contain secrets. A permanent
    /// redirect means that the configured URL is wrong. A temporary redirect, such as a
    /// captive portal's, is a transient failure.
    fn classify_redirect(&self, response: &Response) -> ApiError {
        let status = response.status_code();
        let message = match self.location(response) {
            Some(location) => format!("a redirect to {location}, which is not followed"),
            None => "a redirect without a location".to_owned(),
        };
        match status {
            302 | 303 | 307 => ApiError::unavailable(
                format!("the server answered {status}: {message}"),
                FailureStage::UnusableResponse(status),
            ),
            _ => ApiError::WrongApiUrl { status, message },
        }
    }

    /// Returns the redirect's host and path. The query may be secret and is left out.
    fn location(&self, response: &Response) -> Option<String> {
        let location = response.headers.get(LOCATION)?.to_str().ok()?;
        let url = Url::parse(&self.url("")).ok()?.join(location).ok()?;
        Some(format!("{}{}", url.host_str()?, url.path()))
    }

    /// Reads the body of a 2xx response as JSON. Returns `None` if the body is empty or not
    /// JSON. Fails if the body is too large, or is an HTML page, because the API never sends
    /// HTML: a proxy has responded instead.
    pub(super) fn read_json(&self, response: Response) -> Result<Option<Value>, ApiError> {
        let (status, status_line) = (response.status_code(), response.status.to_string());
        let content_type = response.content_type().map(str::to_owned);
        let body = self.http.read_body(response)?;
        if body.bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if error_body::is_html(content_type.as_deref(), &body.bytes) {
            let title = error_body::parse(content_type.as_deref(), &body.bytes).message;
            let title = title.map_or(String::new(), |title| format!(": {title}"));
            let message = format!("the server answered {status_line} with an HTML page{title}");
            return Err(ApiError::unavailable(
                message,
                FailureStage::UnusableResponse(status),
            ));
        }
        if !body.is_complete {
            return Err(ApiError::WrongApiUrl {
                status,
                message: "the response is too large".to_owned(),
            });
        }
        Ok(serde_json::from_slice(&body.bytes).ok())
    }
}
