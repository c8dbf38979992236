//! Parses cookies in JSON: an array (as browser extensions export it), or an object with
//! the array in `cookies` (`storageState` of Playwright) or in `result.cookies` (the DevTools
//! protocol).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Scope, Search};
use crate::model::Secret;

#[derive(Deserialize)]
struct Document<'t> {
    #[serde(borrow)]
    cookies: Option<Vec<&'t RawValue>>,
    #[serde(borrow)]
    result: Option<DevToolsResult<'t>>,
}

#[derive(Deserialize)]
struct DevToolsResult<'t> {
    #[serde(borrow)]
    cookies: Vec<&'t RawValue>,
}

/// A cookie whose value is not parsed yet. Only the value of the wanted cookie is parsed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cookie<'t> {
    #[serde(borrow)]
    name: Cow<'t, str>,
    #[serde(borrow)]
    value: &'t RawValue,
    #[serde(borrow)]
    domain: Cow<'t, str>,
    host_only: Option<bool>,
    #[serde(borrow)]
    partition_key: Option<&'t RawValue>,
}

/// Offers all cookies to `search`. Returns false if the text has another format.
pub(super) fn read(text: &[u8], search: &mut Search<'_>) -> bool {
    let list = serde_json::from_slice::<Vec<&RawValue>>(text).ok();
    let list = list.or_else(|| {
        let document = serde_json::from_slice::<Document<'_>>(text).ok()?;
        document.cookies.or(document.result.map(|r| r.cookies))
    });
    let Some(list) = list else {
        return false;
    };
    // Skip cookies that cannot be parsed, and use the others.
    let cookies = list
        .into_iter()
        .filter_map(|raw| serde_json::from_str::<Cookie<'_>>(raw.get()).ok());
    for cookie in cookies {
        // Skip partitioned cookies, which belong to frames inside the pages of another site.
        if cookie.partition_key.is_none() {
            let domain = &cookie.domain;
            let host_only = cookie.host_only.unwrap_or(!domain.starts_with('.'));
            search.offer(&cookie.name, Scope::Domain { domain, host_only }, || {
                let value = serde_json::from_str(cookie.value.get());
                value.ok().map(Secret::new)
            });
        }
    }
    true
}
