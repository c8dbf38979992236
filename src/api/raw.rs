//! Sends a request that the user composed, to any path below the origin.
//!
//! Every response is passed on as it is; its meaning is not known here.

use reqwest::Method;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName,
    HeaderValue, REFERER, TRANSFER_ENCODING,
};
use url::Url;

use crate::model::AccessToken;

use super::http::{Request, Response};
use super::{ApiError, Client, Delivery, with_bearer};

/// A request as the user composed it.
#[derive(Debug, Clone)]
pub(crate) struct RawRequest {
    pub(crate) method: String,
    /// A path below the origin, with or without a leading slash, or a URL below it.
    pub(crate) path: String,
    /// Headers beyond the default ones.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, JSON unless a header says otherwise.
    pub(crate) body: Option<Vec<u8>>,
}

/// A response of any status.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    /// The headers in their order, except `Set-Cookie`, which may hold a token.
    pub(crate) headers: Vec<(String, String)>,
    /// The seconds of `Retry-After`, at most a day.
    pub(crate) retry_after: Option<u64>,
    /// The body, which ends at the timeout.
    pub(crate) body: Response,
}

impl From<Response> for RawResponse {
    fn from(response: Response) -> Self {
        Self {
            status: response.status(),
            headers: response.header_lines(),
            retry_after: response.retry_after(),
            body: response,
        }
    }
}

/// Headers that belong to the session or to the connection.
const RESERVED: [HeaderName; 6] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    COOKIE,
    HOST,
    TRANSFER_ENCODING,
];

impl Client {
    /// Sends a request with the access token. Any response is `Ok`; `GET` and
    /// `HEAD` are retried on a transient failure.
    pub(crate) fn request(
        &self,
        access: &AccessToken,
        request: RawRequest,
    ) -> Result<RawResponse, ApiError> {
        let request = with_bearer(self.build(request)?, access)?;
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Ok(self.http.send(&request, self.deadline())?.into());
        }
        // If a gateway answers to the end, its last response is the result.
        let mut last = None;
        let result = self.with_retries(|deadline| {
            let response = self.http.send(&request, deadline)?;
            let status = response.status();
            let reason = format!("the server answered {status}");
            let error = ApiError::unavailable(reason, Delivery::Answered(status));
            if !error.is_retryable() {
                return Ok(response);
            }
            last = Some(response);
            Err(error)
        });
        match (result, last) {
            (
                Err(ApiError::Unavailable {
                    delivery: Delivery::Answered(_),
                    ..
                }),
                Some(response),
            ) => Ok(response.into()),
            (result, _) => result.map(RawResponse::from),
        }
    }

    fn build(&self, request: RawRequest) -> Result<Request, ApiError> {
        let invalid = |what: String| Err(ApiError::InvalidArgument(what));
        let method = Method::from_bytes(request.method.to_ascii_uppercase().as_bytes()).ok();
        let Some(method) = method.filter(|method| *method != Method::CONNECT) else {
            return invalid(format!("not a valid HTTP method: {}", request.method));
        };
        let mut built = self.new_request(method, self.resolve(&request.path)?)?;
        if let Some(body) = request.body {
            built = built.with_body(body);
        }
        let mut replaced = vec![];
        for (name, value) in request.headers {
            let Ok(header) = HeaderName::from_bytes(name.trim().as_bytes()) else {
                return invalid(format!("not a valid header name: {name}"));
            };
            if RESERVED.contains(&header) {
                return invalid(format!("the header {name} is set by this program"));
            }
            let Ok(value) = HeaderValue::from_str(value.trim()) else {
                return invalid(format!("the header {name} has an invalid character"));
            };
            // The first header of a name replaces the default one; a second one is added.
            if matches!(header, ACCEPT | CONTENT_TYPE | REFERER) && !replaced.contains(&header) {
                replaced.push(header.clone());
                built.headers.insert(header, value);
            } else {
                built.headers.append(header, value);
            }
        }
        Ok(built)
    }

    /// Resolves a page's link to the next one against the page's own URL (RFC
    /// 3986 §5). Returns `None` if it is not below the origin.
    pub(crate) fn next_path(&self, path: &str, link: &str) -> Option<String> {
        let page = Url::parse(&self.resolve(path).ok()?).ok()?;
        self.below_origin(page.join(link).ok()?)
    }

    /// The URL of a path. It cannot leave the origin, since the access token is
    /// sent there. A path may repeat the path of the origin, as links do.
    fn resolve(&self, path: &str) -> Result<String, ApiError> {
        let origin = self.http.options.origin.as_str();
        let is_absolute =
            path.contains("://") && !path.starts_with('/') && Url::parse(path).is_ok();
        let base_path = Url::parse(origin).map_or(String::new(), |url| url.path().to_owned());
        let relative = path
            .strip_prefix(&base_path)
            .filter(|rest| base_path != "/" && rest.starts_with('/'))
            .unwrap_or(path);
        let text = match is_absolute {
            true => path.to_owned(),
            false => format!("{origin}/{}", relative.trim_start_matches('/')),
        };
        Url::parse(&text)
            .ok()
            .and_then(|url| self.below_origin(url))
            .ok_or_else(|| ApiError::InvalidArgument(format!("{path} is not below {origin}")))
    }

    /// The URL, if it is below the origin. It is compared after parsing, so
    /// that `..`, `\` and tabs have had their effect.
    fn below_origin(&self, mut url: Url) -> Option<String> {
        url.set_fragment(None);
        let rest = url
            .as_str()
            .strip_prefix(self.http.options.origin.as_str())?;
        let is_below = rest.is_empty() || rest.starts_with('/') || rest.starts_with('?');
        is_below.then(|| url.into())
    }
}
