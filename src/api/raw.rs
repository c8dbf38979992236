//! Sends the requests of `rememberizer api`, to any path below the base URL.
//!
//! Returns every response unchanged, whatever its status.

use reqwest::Method;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName,
    HeaderValue, REFERER, TRANSFER_ENCODING,
};
use url::Url;

use crate::model::AccessToken;

use super::http::{Request, Response};
use super::{ApiError, Client, FailureStage, with_bearer};

/// A request whose parts the user chose. They are not validated yet.
#[derive(Debug, Clone)]
pub(crate) struct RawRequest {
    pub(crate) method: String,
    /// A path below the base URL, with or without a leading slash, or a whole URL.
    pub(crate) path: String,
    /// Additional headers. They replace default headers with the same name.
    pub(crate) headers: Vec<(String, String)>,
    /// The body. It is sent as JSON unless `headers` has a `Content-Type`.
    pub(crate) body: Option<Vec<u8>>,
}

/// Headers that the user cannot set, because this program or the HTTP library sets them.
const RESERVED_HEADERS: [HeaderName; 6] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    COOKIE,
    HOST,
    TRANSFER_ENCODING,
];

impl Client {
    /// Sends a request with the access token. Retries `GET` and `HEAD` after a transient
    /// failure. A response of any status is `Ok`.
    pub(crate) fn request(
        &self,
        access: &AccessToken,
        request: RawRequest,
    ) -> Result<Response, ApiError> {
        let request = with_bearer(self.validate(request)?, access)?;
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return self.http.send(&request, self.deadline());
        }
        // If every attempt gets an error response of a gateway, return the last response.
        let mut last_response = None;
        let result = self.with_retries(|deadline| {
            let response = self.http.send(&request, deadline)?;
            let status = response.status_code();
            let stage = FailureStage::UnusableResponse(status);
            if !stage.is_retryable() {
                return Ok(response);
            }
            last_response = Some(response);
            let message = format!("the server answered {status}");
            Err(ApiError::unavailable(message, stage))
        });
        match (result, last_response) {
            (
                Err(ApiError::Unavailable {
                    stage: FailureStage::UnusableResponse(_),
                    ..
                }),
                Some(response),
            ) => Ok(response),
            (result, _) => result,
        }
    }

    /// Validates the parts of the request. Fails if the user may not set one of them.
    fn validate(&self, request: RawRequest) -> Result<Request, ApiError> {
        let invalid = |message: String| Err(ApiError::InvalidArgument(message));
        let method = Method::from_bytes(request.method.to_ascii_uppercase().as_bytes()).ok();
        let Some(method) = method.filter(|method| *method != Method::CONNECT) else {
            return invalid(format!("not a valid HTTP method: {}", request.method));
        };
        let mut built = self.new_request(method, self.resolve(&request.path)?)?;
        if let Some(body) = request.body {
            built = built.with_json_bytes(body);
        }
        let mut replaced_headers = vec![];
        for (name, value) in request.headers {
            let Ok(header) = HeaderName::from_bytes(name.trim().as_bytes()) else {
                return invalid(format!("not a valid header name: {name}"));
            };
            if RESERVED_HEADERS.contains(&header) {
                return invalid(format!("the header {name} is set by this program"));
            }
            let Ok(value) = HeaderValue::from_str(value.trim()) else {
                return invalid(format!("the header {name} has an invalid character"));
            };
            // The user's first header with this name replaces the default header; further
            // headers with the same name are added.
            if matches!(header, ACCEPT | CONTENT_TYPE | REFERER)
                && !replaced_headers.contains(&header)
            {
                replaced_headers.push(header.clone());
                built.headers.insert(header, value);
            } else {
                built.headers.append(header, value);
            }
        }
        Ok(built)
    }

    /// Resolves `link`, a page's link to the next page, relative to the page's `path` (RFC
    /// 3986 §5). Returns `None` if the next page is not below the base URL.
    pub(crate) fn next_path(&self, path: &str, link: &str) -> Option<String> {
        let page_url = Url::parse(&self.resolve(path).ok()?).ok()?;
        self.if_below_base_url(page_url.join(link).ok()?)
    }

    /// Returns the URL of a path. Fails if the URL is not below the base URL, because the
    /// access token must not be sent elsewhere. A path may start with the path of the
    /// base URL, as links in responses do.
    fn resolve(&self, path: &str) -> Result<String, ApiError> {
        let base_url = self.http.options.api_url.as_str();
        let is_absolute =
            path.contains("://") && !path.starts_with('/') && Url::parse(path).is_ok();
        let base_path = Url::parse(base_url).map_or(String::new(), |url| url.path().to_owned());
        let relative = path
            .strip_prefix(&base_path)
            .filter(|rest| base_path != "/" && rest.starts_with('/'))
            .unwrap_or(path);
        let text = match is_absolute {
            true => path.to_owned(),
            false => format!("{base_url}/{}", relative.trim_start_matches('/')),
        };
        Url::parse(&text)
            .ok()
            .and_then(|url| self.if_below_base_url(url))
            .ok_or_else(|| ApiError::InvalidArgument(format!("{path} is not below {base_url}")))
    }

    /// Returns the URL if it is below the base URL. The comparison uses the parsed URL, in
    /// which `..`, `\` and tabs are resolved.
    fn if_below_base_url(&self, mut url: Url) -> Option<String> {
        url.set_fragment(None);
        let rest = url
            .as_str()
            .strip_prefix(self.http.options.api_url.as_str())?;
        let is_below = rest.is_empty() || rest.starts_with('/') || rest.starts_with('?');
        is_below.then(|| url.into())
    }
}
