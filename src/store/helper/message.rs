//! Writes and parses the lines of the protocol for store helpers, which `helpers/README.md`
//! specifies: requests, responses, and the first line of a helper ("hello").

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::store::lazy_object::{JsonStr, LazyObject};

/// Maximum size of a line in bytes.
pub(in crate::store) const MAX_LINE_BYTES: usize = 128 * 1024;
/// Maximum size of a value in bytes.
pub(super) const MAX_VALUE_BYTES: usize = 64 * 1024;
/// The first line of a helper whose store has versions.
pub(in crate::store) const HELLO: &[u8] = b"{\"v\":[1],\"cas\":true}\n";

/// The capabilities that a helper states in its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    /// Whether the store compares versions (`cas`, compare-and-set).
    pub(super) has_versions: bool,
    /// Maximum size of a value in bytes, if it is smaller than [`MAX_VALUE_BYTES`].
    pub(super) max_value_bytes: Option<usize>,
}

/// The values of `error` in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::store) enum ErrorCode {
    Conflict,
    Unavailable,
    Locked,
    Denied,
    Failed,
    Unsupported,
}

#[derive(Debug)]
pub(super) enum Response {
    Success {
        /// Always present if the store has versions.
        version: Option<String>,
        value: Option<Zeroizing<Vec<u8>>>,
    },
    Error {
        code: ErrorCode,
        message: String,
    },
}

/// A request, as parsed by a server of this protocol.
#[derive(Debug)]
pub(in crate::store) enum Request {
    Get {
        key: String,
    },
    Put {
        key: String,
        expected: String,
        value: Option<Zeroizing<Vec<u8>>>,
    },
    /// An operation that is not known, perhaps of a later protocol version.
    Unknown,
}

/// The description of a line that is not valid in this protocol. Never quotes the line.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct MalformedLine(pub(in crate::store) &'static str);

/// A line to write. The values need no escapes in JSON, so that a helper can parse them in
/// shell.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Get {
        v: u32,
        op: &'a str,
        key: &'a str,
    },
    Put {
        v: u32,
        op: &'a str,
        key: &'a str,
        #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
        expected: Option<&'a str>,
        value: Option<&'a str>,
    },
    Entry {
        ok: bool,
        version: &'a str,
        value: Option<&'a str>,
    },
    Stored {
        ok: bool,
        version: &'a str,
    },
    Error {
        ok: bool,
        error: ErrorCode,
        message: &'a str,
    },
}

/// Returns the line as bytes. `value` is the longest value in the line.
fn to_bytes(line: &Line<'_>, value: Option<&str>) -> Zeroizing<Vec<u8>> {
    // The buffer must not be reallocated, since the old allocation would not be zeroized.
    let mut bytes = Zeroizing::new(Vec::with_capacity(value.map_or(0, str::len) + 1024));
    // Writing strings and numbers to a vector cannot fail.
    let _ = serde_json::to_writer(&mut *bytes, line);
    bytes.push(b'\n');
    bytes
}

/// Returns a request that reads the entry `key`.
pub(super) fn get_request(key: &str) -> Zeroizing<Vec<u8>> {
    let (v, op) = (1, "get");
    to_bytes(&Line::Get { v, op, key }, None)
}

/// Returns a request that replaces the entry `key`, or removes it if `value` is
/// `None`. If `expected` is given, the entry must have that version.
pub(super) fn put_request(
    key: &str,
    expected: Option<&str>,
    value: Option<&[u8]>,
) -> Zeroizing<Vec<u8>> {
    let encoded = value.map(encode);
    let value = encoded.as_ref().map(|text| text.as_str());
    let line = Line::Put {
        v: 1,
        op: "put",
        key,
        expected,
        value,
    };
    to_bytes(&line, value)
}

/// Returns the response to a get. `value` is `None` if the entry is absent.
pub(in crate::store) fn entry(version: &str, value: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    let encoded = value.map(encode);
    let value = encoded.as_ref().map(|text| text.as_str());
    let line = Line::Entry {
        ok: true,
        version,
        value,
    };
    to_bytes(&line, value)
}

/// Returns the response to a put that was done.
pub(in crate::store) fn stored(version: &str) -> Zeroizing<Vec<u8>> {
    to_bytes(&Line::Stored { ok: true, version }, None)
}

/// Returns an error response. Shortens the message, and removes characters that would
/// need an escape in JSON.
pub(in crate::store) fn error(code: ErrorCode, message: &str) -> Zeroizing<Vec<u8>> {
    let is_plain = |c: &char| !c.is_control() && !matches!(c, '"' | '\\');
    let message: String = message.chars().filter(is_plain).take(200).collect();
    let line = Line::Error {
        ok: false,
        error: code,
        message: &message,
    };
    to_bytes(&line, None)
}

/// Returns the base64 form of `value`.
pub(super) fn encode(value: &[u8]) -> Zeroizing<String> {
    // The buffer must not be reallocated, since the old allocation would not be zeroized.
    let mut text = Zeroizing::new(String::with_capacity(value.len().div_ceil(3) * 4));
    STANDARD.encode_string(value, &mut text);
    text
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, MalformedLine> {
    let mut value = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    STANDARD
        .decode_vec(text, &mut value)
        .map_err(|_| MalformedLine("a value is not base64"))?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(MalformedLine("a value is too large"));
    }
    Ok(value)
}

/// The fields of one line: an object without duplicate keys, nested objects and lists.
struct Fields<'a> {
    object: LazyObject<'a>,
}

impl<'a> Fields<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, MalformedLine> {
        const NOT_FLAT: MalformedLine = MalformedLine("a line is not a flat JSON object");
        let object: LazyObject<'a> = serde_json::from_slice(line).map_err(|_| NOT_FLAT)?;
        let is_nested = |value: &str| value.starts_with(['{', '[']);
        // Only the protocol versions in the first line are a list.
        let mut values = object.0.iter().filter(|(key, _)| key != "v");
        if values.any(|(_, value)| is_nested(value.get())) || object.duplicate().is_some() {
            return Err(NOT_FLAT);
        }
        Ok(Self { object })
    }

    fn get<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>, MalformedLine> {
        let field = self.object.0.iter().find(|(name, _)| name == key);
        let parsed = field.map(|(_, value)| serde_json::from_str(value.get()));
        parsed
            .transpose()
            .map_err(|_| MalformedLine("a value has the wrong type"))
    }

    fn text(&self, key: &str) -> Result<Option<Cow<'a, str>>, MalformedLine> {
        Ok(self.get::<JsonStr<'a>>(key)?.map(|JsonStr(text)| text))
    }

    /// Returns the decoded `value`. The outer `None` means that the key is absent, the
    /// inner `None` that it is null.
    fn value(&self) -> Result<Option<Option<Zeroizing<Vec<u8>>>>, MalformedLine> {
        let value = self.get::<Option<JsonStr<'a>>>("value")?;
        let decode =
            |value: Option<JsonStr<'_>>| value.map(|JsonStr(text)| decode(&text)).transpose();
        value.map(decode).transpose()
    }
}

/// Parses a request to a store with versions.
pub(in crate::store) fn parse_request(line: &[u8]) -> Result<Request, MalformedLine> {
    let fields = Fields::parse(line)?;
    let op = fields
        .text("op")?
        .ok_or(MalformedLine("a request has no \"op\""))?;
    let key = fields
        .text("key")?
        .ok_or(MalformedLine("a request has no \"key\""))?;
    if key.len() > 128 || !is_key(&key) {
        return Err(MalformedLine("not a valid key"));
    }
    let key = key.into_owned();
    Ok(match &*op {
        "get" => Request::Get { key },
        "put" => Request::Put {
            key,
            expected: fields
                .text("if")?
                .ok_or(MalformedLine("a put has no \"if\""))?
                .into_owned(),
            value: fields
                .value()?
                .ok_or(MalformedLine("a put has no \"value\""))?,
        },
        _ => Request::Unknown,
    })
}

/// Whether `key` can be sent in a line.
pub(super) fn is_key(key: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !key.is_empty() && key.bytes().all(is_plain)
}

fn is_version(version: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    (1..=128).contains(&version.len()) && version.bytes().all(is_plain)
}

/// Parses the first line of a helper.
pub(super) fn parse_hello(line: &[u8]) -> Result<Hello, MalformedLine> {
    let fields = Fields::parse(line)?;
    let versions: Vec<u64> = fields.get("v")?.unwrap_or_default();
    if !versions.contains(&1) {
        return Err(MalformedLine(
            "it does not support version 1 of the protocol",
        ));
    }
    let has_versions = fields
        .get("cas")?
        .ok_or(MalformedLine("its first line has no \"cas\""))?;
    let max_value_bytes = match fields.get("max")? {
        None => None,
        Some(_) if has_versions => {
            return Err(MalformedLine(
                "its first line has \"max\" together with \"cas\"",
            ));
        }
        // Each part of a split entry begins with a label, which must fit as well.
        Some(max @ 256u64..) => {
            Some(usize::try_from(max).map_or(MAX_VALUE_BYTES, |max| max.min(MAX_VALUE_BYTES)))
        }
        Some(_) => return Err(MalformedLine("its \"max\" is too small")),
    };
    Ok(Hello {
        has_versions,
        max_value_bytes,
    })
}

/// Parses a response of a helper with the capabilities `hello`.
pub(super) fn parse_response(line: &[u8], hello: Hello) -> Result<Response, MalformedLine> {
    let fields = Fields::parse(line)?;
    let ok: bool = fields
        .get("ok")?
        .ok_or(MalformedLine("a response has no \"ok\""))?;
    if !ok {
        let code = fields.get("error").ok().flatten();
        let message: Option<Option<JsonStr<'_>>> = fields.get("message")?;
        return Ok(Response::Error {
            code: code.ok_or(MalformedLine("a response has an unknown error code"))?,
            message: message
                .flatten()
                .map(|JsonStr(text)| text.into_owned())
                .unwrap_or_default(),
        });
    }
    let version = match hello.has_versions {
        true => {
            let version = fields.text("version")?;
            let version = version.ok_or(MalformedLine("a response has no version"))?;
            if !is_version(&version) {
                return Err(MalformedLine("a version is not valid"));
            }
            Some(version.into_owned())
        }
        false => None,
    };
    let value = fields.value()?.flatten();
    Ok(Response::Success { version, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_VERSIONS: Hello = Hello {
        has_versions: true,
        max_value_bytes: None,
    };
    const WITHOUT_VERSIONS: Hello = Hello {
        has_versions: false,
        max_value_bytes: None,
    };

    #[test]
    fn requests_are_as_specified() {
        assert_eq!(
            *get_request("work"),
            *b"{\"v\":1,\"op\":\"get\",\"key\":\"work\"}\n"
        );
        assert_eq!(
            *put_request("work", Some("7"), Some(b"abc")),
            *b"{\"v\":1,\"op\":\"put\",\"key\":\"work\",\"if\":\"7\",\"value\":\"YWJj\"}\n"
        );
        assert_eq!(
            *put_request("work", None, None),
            *b"{\"v\":1,\"op\":\"put\",\"key\":\"work\",\"value\":null}\n"
        );
    }

    #[test]
    fn hellos() {
        assert_eq!(parse_hello(br#"{"v":[1],"cas":true}"#), Ok(WITH_VERSIONS));
        assert_eq!(
            parse_hello(br#"{"v":[1,2],"cas":false,"max":2560,"new":null}"#),
            Ok(Hello {
                has_versions: false,
                max_value_bytes: Some(2560)
            })
        );
        for line in [
            &br#"{"v":[2],"cas":true}"#[..],
            br#"{"v":1,"cas":true}"#,
            br#"{"v":[1]}"#,
            br#"{"v":[1],"cas":"yes"}"#,
            br#"{"v":[1],"cas":true,"max":2560}"#,
            br#"{"v":[1],"cas":false,"max":1}"#,
            br#"{"v":[1],"cas":true,"cas":false}"#,
            br#"{"v":[[1]],"cas":true}"#,
            br#"[{"v":[1],"cas":true}]"#,
            b"{\"v\":[1],\"cas\":true,\"x\":\"\xff\"}",
            b"",
            b"hello",
        ] {
            assert!(
                parse_hello(line).is_err(),
                "{}",
                String::from_utf8_lossy(line)
            );
        }
    }

    #[test]
    fn responses() {
        let Ok(Response::Success { version, value }) = parse_response(
            br#"{"ok":true,"version":"7","value":"YWJj"}"#,
            WITH_VERSIONS,
        ) else {
            panic!("a success")
        };
        assert_eq!(
            (version.as_deref(), value.as_deref().map(|v| &**v)),
            (Some("7"), Some(&b"abc"[..]))
        );
        assert!(parse_response(br#"{"ok":true,"value":null}"#, WITHOUT_VERSIONS).is_ok());
        for line in [
            &br#"{"ok":true,"value":"YWJj"}"#[..],
            br#"{"ok":true,"version":"a b"}"#,
            br#"{"ok":true,"version":""}"#,
            br#"{"ok":true,"version":7}"#,
            br#"{"ok":true,"version":"7","value":"*"}"#,
            br#"{"ok":true,"version":"7","value":{"x":1}}"#,
            br#"{"ok":true,"version":"7","x":[1]}"#,
            br#"{"ok":true,"ok":true,"version":"7"}"#,
            br#"{"ok":true,"version":"7","version":"8"}"#,
            br#"{"ok":"true"}"#,
            br#"{"ok":false}"#,
            br#"{"ok":false,"error":"other"}"#,
            br#"{"ok":true,"version":"7"} {}"#,
            b"\0",
        ] {
            assert!(
                parse_response(line, WITH_VERSIONS).is_err(),
                "{}",
                String::from_utf8_lossy(line)
            );
        }
        let large = format!(
            r#"{{"ok":true,"value":"{}"}}"#,
            encode(&[0; MAX_VALUE_BYTES + 1]).as_str()
        );
        assert!(parse_response(large.as_bytes(), WITHOUT_VERSIONS).is_err());
    }
}
