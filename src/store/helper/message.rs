//! The lines of the protocol: requests are written and responses are parsed
//! here. `helpers/README.md` specifies both.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// Maximum size of a line in bytes.
pub(in crate::store) const MAX_LINE: usize = 128 * 1024;
/// Maximum size of a value in bytes.
pub(super) const MAX_VALUE: usize = 64 * 1024;

/// What a helper says of itself in its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    /// Whether the store compares and sets.
    pub(super) cas: bool,
    /// Maximum size of a value in bytes, if it is smaller than [`MAX_VALUE`].
    pub(super) max: Option<usize>,
}

/// The kinds of error that the protocol knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum ErrorCode {
    Conflict,
    Unavailable,
    Locked,
    Denied,
    Failed,
    Unsupported,
}

/// A response.
#[derive(Debug)]
pub(super) enum Response {
    Success {
        /// Present in each response of a store that compares and sets.
        version: Option<String>,
        value: Option<Zeroizing<Vec<u8>>>,
    },
    Error {
        code: ErrorCode,
        message: String,
    },
}

/// A line that is not of this protocol. The text never quotes the line.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Malformed(pub(in crate::store) &'static str);

/// Returns the line that asks for the entry `key`.
pub(super) fn get(key: &str) -> Zeroizing<Vec<u8>> {
    line(&["{\"v\":1,\"op\":\"get\",\"key\":\"", key, "\"}\n"])
}

/// Returns the line that replaces the entry `key`, or removes it if `value` is
/// `None`, on the condition that its version is `expected`, if one is given.
pub(super) fn put(key: &str, expected: Option<&str>, value: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    let condition = match expected {
        Some(version) => ["\",\"if\":\"", version],
        None => ["", ""],
    };
    let head = [
        "{\"v\":1,\"op\":\"put\",\"key\":\"",
        key,
        condition[0],
        condition[1],
    ];
    match value {
        None => line(&[head[0], head[1], head[2], head[3], "\",\"value\":null}\n"]),
        Some(value) => {
            let value = encoded(value);
            line(&[
                head[0],
                head[1],
                head[2],
                head[3],
                "\",\"value\":\"",
                &value,
                "\"}\n",
            ])
        }
    }
}

/// Returns the base64 of `value` in a buffer that is wiped.
pub(super) fn encoded(value: &[u8]) -> Zeroizing<String> {
    // Room for all of it, so that the buffer never moves: what it leaves behind is not wiped.
    let mut text = Zeroizing::new(String::with_capacity(value.len().div_ceil(3) * 4));
    STANDARD.encode_string(value, &mut text);
    text
}

fn line(parts: &[&str]) -> Zeroizing<Vec<u8>> {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut line = Zeroizing::new(Vec::with_capacity(length));
    for part in parts {
        line.extend_from_slice(part.as_bytes());
    }
    line
}

/// A request, for the side that answers.
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
    /// An operation of a later version.
    Unknown,
}

/// Parses a request of a client that knows that this side has versions.
pub(in crate::store) fn parse_request(line: &[u8]) -> Result<Request, Malformed> {
    let fields = parse(line)?;
    let op = fields.op.ok_or(Malformed("a request has no \"op\""))?;
    let key = fields.key.ok_or(Malformed("a request has no \"key\""))?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !(1..=128).contains(&key.len()) || !key.bytes().all(is_plain) {
        return Err(Malformed("not a valid key"));
    }
    let key = key.into_owned();
    match &*op {
        "get" => Ok(Request::Get { key }),
        "put" => {
            let expected = fields.expected.ok_or(Malformed("a put has no \"if\""))?;
            let value = match (fields.value, fields.has_null_value) {
                (Some(text), _) => Some(decoded(&text)?),
                (None, true) => None,
                (None, false) => return Err(Malformed("a put has no \"value\"")),
            };
            Ok(Request::Put {
                key,
                expected: expected.into_owned(),
                value,
            })
        }
        _ => Ok(Request::Unknown),
    }
}

/// The first line of the side that answers.
pub(in crate::store) fn hello(cas: bool) -> Zeroizing<Vec<u8>> {
    line(&[
        "{\"v\":[1],\"cas\":",
        if cas { "true" } else { "false" },
        "}\n",
    ])
}

/// The response to a get.
pub(in crate::store) fn value(version: &str, value: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    let head = "{\"ok\":true,\"version\":\"";
    match value {
        None => line(&[head, version, "\",\"value\":null}\n"]),
        Some(value) => line(&[head, version, "\",\"value\":\"", &encoded(value), "\"}\n"]),
    }
}

/// The response to a put that was done.
pub(in crate::store) fn stored(version: &str) -> Zeroizing<Vec<u8>> {
    line(&["{\"ok\":true,\"version\":\"", version, "\"}\n"])
}

/// A response that is an error.
pub(in crate::store) fn error(code: ErrorCode, message: &str) -> Zeroizing<Vec<u8>> {
    let code = match code {
        ErrorCode::Conflict => "conflict",
        ErrorCode::Unavailable => "unavailable",
        ErrorCode::Locked => "locked",
        ErrorCode::Denied => "denied",
        ErrorCode::Failed => "failed",
        ErrorCode::Unsupported => "unsupported",
    };
    let plain = |c: &char| !c.is_control() && !matches!(c, '"' | '\\');
    let message: String = message.chars().filter(plain).take(200).collect();
    line(&[
        "{\"ok\":false,\"error\":\"",
        code,
        "\",\"message\":\"",
        &message,
        "\"}\n",
    ])
}

/// Whether `version` is one that can be sent.
pub(super) fn is_version(version: &str) -> bool {
    (1..=128).contains(&version.len())
        && version
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// Parses the first line of a helper.
pub(super) fn parse_hello(line: &[u8]) -> Result<Hello, Malformed> {
    let fields = parse(line)?;
    if !fields
        .versions
        .is_some_and(|versions| versions.contains(&1))
    {
        return Err(Malformed("it does not speak version 1 of the protocol"));
    }
    let cas = fields
        .cas
        .ok_or(Malformed("its first line has no \"cas\""))?;
    let max = match fields.max {
        None => None,
        Some(_) if cas => return Err(Malformed("its first line has \"max\" beside \"cas\"")),
        // Smaller than this, not even the label of a part fits.
        Some(max @ 256..) => Some(usize::try_from(max).map_or(MAX_VALUE, |max| max.min(MAX_VALUE))),
        Some(_) => return Err(Malformed("its \"max\" is too small")),
    };
    Ok(Hello { cas, max })
}

/// Parses a response of a helper that has said `hello`.
pub(super) fn parse_response(line: &[u8], hello: Hello) -> Result<Response, Malformed> {
    let fields = parse(line)?;
    let ok = fields.ok.ok_or(Malformed("a response has no \"ok\""))?;
    if !ok {
        let code = match fields.error.as_deref() {
            Some("conflict") => ErrorCode::Conflict,
            Some("unavailable") => ErrorCode::Unavailable,
            Some("locked") => ErrorCode::Locked,
            Some("denied") => ErrorCode::Denied,
            Some("failed") => ErrorCode::Failed,
            Some("unsupported") => ErrorCode::Unsupported,
            _ => return Err(Malformed("an error is none of the protocol's")),
        };
        return Ok(Response::Error {
            code,
            message: fields.message.map(Cow::into_owned).unwrap_or_default(),
        });
    }
    let version = match fields.version {
        Some(version) if hello.cas => {
            if !is_version(&version) {
                return Err(Malformed("a version is not one"));
            }
            Some(version.into_owned())
        }
        None if hello.cas => return Err(Malformed("a response has no version")),
        _ => None,
    };
    let value = match fields.value {
        None => None,
        Some(text) => Some(decoded(&text)?),
    };
    Ok(Response::Success { version, value })
}

fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    let mut value = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    STANDARD
        .decode_vec(text, &mut value)
        .map_err(|_| Malformed("a value is not base64"))?;
    if value.len() > MAX_VALUE {
        return Err(Malformed("a value is too large"));
    }
    Ok(value)
}

fn parse(line: &[u8]) -> Result<Fields<'_>, Malformed> {
    serde_json::from_slice(line).map_err(|_| Malformed("a line is not a flat JSON object"))
}

/// The keys that this side knows, of one flat object without doubled keys.
#[derive(Default)]
struct Fields<'a> {
    versions: Option<Vec<u64>>,
    cas: Option<bool>,
    max: Option<u64>,
    ok: Option<bool>,
    version: Option<Cow<'a, str>>,
    value: Option<Cow<'a, str>>,
    /// Whether "value" is there and null.
    has_null_value: bool,
    op: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    expected: Option<Cow<'a, str>>,
    error: Option<Cow<'a, str>>,
    message: Option<Cow<'a, str>>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a flat JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                let mut seen = Vec::new();
                while let Some(Text(key)) = map.next_key()? {
                    if seen.contains(&key) {
                        return Err(A::Error::custom("a key twice"));
                    }
                    match (&*key, map.next_value()?) {
                        ("v", Scalar::Numbers(versions)) => fields.versions = Some(versions),
                        (_, Scalar::Numbers(_)) => return Err(A::Error::custom("a nested value")),
                        ("cas", Scalar::Bool(cas)) => fields.cas = Some(cas),
                        ("max", Scalar::Number(max)) => fields.max = Some(max),
                        ("ok", Scalar::Bool(ok)) => fields.ok = Some(ok),
                        ("version", Scalar::Text(text)) => fields.version = Some(text),
                        ("value", Scalar::Text(text)) => fields.value = Some(text),
                        ("error", Scalar::Text(text)) => fields.error = Some(text),
                        ("message", Scalar::Text(text)) => fields.message = Some(text),
                        ("op", Scalar::Text(text)) => fields.op = Some(text),
                        ("key", Scalar::Text(text)) => fields.key = Some(text),
                        ("if", Scalar::Text(text)) => fields.expected = Some(text),
                        ("value", Scalar::Other) => fields.has_null_value = true,
                        ("message", Scalar::Other) => {}
                        ("cas" | "max" | "ok" | "version" | "value" | "error" | "message", _) => {
                            return Err(A::Error::custom("a value of the wrong type"));
                        }
                        _ => {}
                    }
                    seen.push(key);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A string that is borrowed from the line if it holds no escape.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Ok(Self(text)),
            _ => Err(D::Error::custom("not a string")),
        }
    }
}

/// A value of a flat object. `Numbers` is there for the "v" of the first line alone.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    Number(u64),
    Numbers(Vec<u64>),
    /// `null`, or a number that is not a natural one.
    Other,
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, number, boolean or null")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Number(value))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = seq.next_element()? {
                    if numbers.len() == 32 {
                        while seq.next_element::<IgnoredAny>()?.is_some() {}
                        break;
                    }
                    numbers.push(number);
                }
                Ok(Scalar::Numbers(numbers))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAS: Hello = Hello {
        cas: true,
        max: None,
    };
    const PLAIN: Hello = Hello {
        cas: false,
        max: None,
    };

    #[test]
    fn requests_are_as_specified() {
        assert_eq!(
            *get("work"),
            *b"{\"v\":1,\"op\":\"get\",\"key\":\"work\"}\n"
        );
        assert_eq!(
            *put("work", Some("7"), Some(b"abc")),
            *b"{\"v\":1,\"op\":\"put\",\"key\":\"work\",\"if\":\"7\",\"value\":\"YWJj\"}\n"
        );
        assert_eq!(
            *put("work", None, None),
            *b"{\"v\":1,\"op\":\"put\",\"key\":\"work\",\"value\":null}\n"
        );
    }

    #[test]
    fn hellos() {
        assert_eq!(parse_hello(br#"{"v":[1],"cas":true}"#), Ok(CAS));
        assert_eq!(
            parse_hello(br#"{"v":[1,2],"cas":false,"max":2560,"new":null}"#),
            Ok(Hello {
                cas: false,
                max: Some(2560)
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
        let Ok(Response::Success { version, value }) =
            parse_response(br#"{"ok":true,"version":"7","value":"YWJj"}"#, CAS)
        else {
            panic!("a success")
        };
        assert_eq!(
            (version.as_deref(), value.as_deref().map(|v| &**v)),
            (Some("7"), Some(&b"abc"[..]))
        );
        assert!(parse_response(br#"{"ok":true,"value":null}"#, PLAIN).is_ok());
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
                parse_response(line, CAS).is_err(),
                "{}",
                String::from_utf8_lossy(line)
            );
        }
        let large = format!(
            r#"{{"ok":true,"value":"{}"}}"#,
            encoded(&[0; MAX_VALUE + 1]).as_str()
        );
        assert!(parse_response(large.as_bytes(), PLAIN).is_err());
    }
}
