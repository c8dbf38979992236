//! Makes text from servers and files safe to print.
//!
//! For messages, [`clean`] removes unsafe characters and escape sequences, and returns one
//! line of limited length. Documents are not shortened: [`escape_unsafe`] replaces unsafe
//! characters by a visible form, and [`to_json_line`] replaces them by JSON escapes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::Value;

/// Maximum number of characters of a message.
const MAX_MESSAGE_CHARS: usize = 2_000;

/// Returns a message as one line of limited length that is safe to print.
pub fn clean(text: &str) -> Cow<'_, str> {
    // Most messages are short and plain ASCII, and need no copy.
    if text.len() <= MAX_MESSAGE_CHARS && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Cow::Borrowed(text.trim_end());
    }
    let text = replace_c1_controls(text);
    let mut cleaned = String::with_capacity(text.len().min(MAX_MESSAGE_CHARS));
    let mut count = 0;
    let mut previous = '\0';
    // Remove whole escape sequences (ECMA-48): if only the ESC were removed, the rest of the
    // sequence would be printed as text. anstream is used because console does not support
    // DCS, APC, PM and two-character escapes.
    for c in anstream::adapter::strip_str(&text).flat_map(str::chars) {
        let is_line_break = matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}');
        // Consecutive line breaks become one space.
        if is_line_break && matches!(previous, '\n' | '\r' | '\u{2028}' | '\u{2029}') {
            continue;
        }
        let replacement = if is_line_break || c == '\t' { ' ' } else { c };
        if !is_line_break && is_unsafe(replacement, previous) {
            continue;
        }
        if count == MAX_MESSAGE_CHARS {
            cleaned.push('…');
            break;
        }
        cleaned.push(replacement);
        previous = c;
        count += 1;
    }
    cleaned.truncate(cleaned.trim_end().len());
    Cow::Owned(cleaned)
}

/// Cleans every string in `value`, including the keys of objects.
pub(crate) fn clean_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(cleaned) = clean(text) {
                *text = cleaned;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean_json),
        Value::Object(map) => {
            *map = std::mem::take(map)
                .into_iter()
                .map(|(key, mut value)| {
                    clean_json(&mut value);
                    (clean(&key).into_owned(), value)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Replaces each unsafe character in a part of a document by a visible form: control
/// characters by caret notation such as `^[`, others by an escape such as `\u{202e}`.
/// Line breaks and tabs are kept.
pub(super) fn escape_unsafe(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|b| matches!(b, b'\n' | b'\t' | b' '..=b'~'))
    {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut previous = '\0';
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\n' | '\t' => escaped.push(c),
            '\r' if characters.peek() == Some(&'\n') => escaped.push(c),
            '\0'..='\u{1f}' | '\u{7f}' => {
                escaped.push('^');
                escaped.push(char::from(c as u8 ^ 0x40));
            }
            c if is_unsafe(c, previous) => {
                // Writing to a string does not fail.
                let _ = write!(escaped, "{}", c.escape_unicode());
            }
            c => escaped.push(c),
        }
        previous = c;
    }
    Cow::Owned(escaped)
}

/// Returns `value` as one line of JSON, in which unsafe characters are escaped as `\uXXXX`.
pub(super) fn to_json_line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut line,
        EscapingFormatter,
    ))?;
    line.push(b'\n');
    Ok(line)
}

/// Writes compact JSON. Escapes the unsafe characters that JSON allows unescaped in strings.
struct EscapingFormatter;

impl serde_json::ser::Formatter for EscapingFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut unwritten = fragment;
        let mut previous = '\0';
        for (index, c) in fragment.char_indices() {
            if is_unsafe(c, previous) {
                let offset = fragment.len() - unwritten.len();
                writer.write_all(&unwritten.as_bytes()[..index - offset])?;
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
                unwritten = &fragment[index + c.len_utf8()..];
            }
            previous = c;
        }
        writer.write_all(unwritten.as_bytes())
    }

    /// Writes a fragment that is already JSON, as one line. Line breaks and tabs can occur
    /// only outside strings, where a space is equivalent.
    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for (index, part) in fragment.split(['\n', '\r', '\t']).enumerate() {
            if index > 0 {
                writer.write_all(b" ")?;
            }
            self.write_string_fragment(writer, part)?;
        }
        Ok(())
    }
}

/// Replaces the 8-bit C1 control characters by the equivalent 7-bit escapes (ECMA-48,
/// 5.3), because anstream supports only those. Replaces U+0085 by a line break.
fn replace_c1_controls(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| matches!(c, '\u{80}'..='\u{9f}')) {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\u{85}' => replaced.push('\n'),
            '\u{80}'..='\u{9f}' => {
                replaced.push('\u{1b}');
                replaced.extend(char::from_u32(u32::from(c) - 0x40));
            }
            c => replaced.push(c),
        }
    }
    Cow::Owned(replaced)
}

/// Whether printing `c` after the character `previous` could mislead a reader or control
/// the terminal: `c` is a control character, is invisible, changes how other characters
/// look, or is treated as a line break by some programs.
fn is_unsafe(c: char, previous: char) -> bool {
    match c {
        // Joiners and variation selectors are needed in emoji and in some scripts. After an
        // ASCII character they only make different texts look the same.
        '\u{200c}' | '\u{200d}' | '\u{e0100}'..='\u{e01ef}' => previous.is_ascii(),
        // Tags after a black flag select the flag of a region. Elsewhere they can hide text.
        '\u{e0020}'..='\u{e007f}' => !matches!(previous, '\u{1f3f4}' | '\u{e0020}'..='\u{e007e}'),
        // Line separator and paragraph separator.
        '\u{2028}' | '\u{2029}' => true,
        c => c.is_control() || is_always_invisible(c),
    }
}

/// Whether `c` is invisible, whatever character precedes it.
pub(super) fn is_always_invisible(c: char) -> bool {
    matches!(c,
        // Direction marks, embeddings, overrides, isolates (UAX #9).
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Invisible: soft hyphen, grapheme joiner, zero-width space, byte
        // order mark, invisible operators, Hangul and Mongolian fillers.
        | '\u{ad}' | '\u{34f}' | '\u{200b}' | '\u{feff}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{180e}'
        // Interlinear annotation, format controls of shorthand and music, old tags.
        | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e001f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_escape_sequences_are_removed() {
        for (text, cleaned) in [
            ("a\u{1b}[31mred\u{1b}[0m", "ared"),
            (
                "a\u{1b}]8;;https://evil.test\u{7}link\u{1b}]8;;\u{1b}\\b",
                "alinkb",
            ),
            ("a\u{1b}]52;c;ZXZpbA==\u{7}b", "ab"),
            ("a\u{1b}Pq#0\u{1b}\\b", "ab"),
            ("a\u{9b}31mb", "ab"),
            ("a\u{9d}52;c;ZXZpbA==\u{9c}b", "ab"),
            ("a\u{90}q#0\u{9c}b\u{9f}x\u{9c}c", "abc"),
            ("a\u{1b}cb\u{1b}_x\u{1b}\\c", "abc"),
            ("a\u{1b}[2Jb\u{1b}[1;1H", "ab"),
            ("ab\u{8}c\u{7f}d\0e", "abcde"),
            ("\u{202e}drow\u{202c} \u{2066}x\u{2069}\u{200f}", "drow x"),
            ("one\ntwo\tthree\u{2028}four", "one two three four"),
            ("one\r\ntwo\n\n\rthree\u{85}four\n", "one two three four"),
            ("pay\u{200d}pal \u{ad}\u{34f}x\u{feff}\u{200b}", "paypal x"),
            ("a\u{e0041}\u{e0042}b", "ab"),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }

    #[test]
    fn legitimate_unicode_is_kept() {
        for text in [
            "Zoë Ångström",
            "東京",
            "👩‍👩‍👧",
            "1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
            "葛󠄀",
            "می‌خواهم",
            "שלום",
            "مرحبا",
            "न्‍य",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn length_is_capped() {
        let long = "x".repeat(1 << 20);
        let cleaned = clean(&long);
        assert_eq!(cleaned.chars().count(), MAX_MESSAGE_CHARS + 1);
        assert!(cleaned.ends_with('…'));
        let exact = "東".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(clean(&exact), exact);
        let over = exact + "京";
        assert!(clean(&over).ends_with("東…"));
    }

    #[test]
    fn harmless_text_is_not_copied() {
        assert!(matches!(
            clean("plain ~ text "),
            Cow::Borrowed("plain ~ text")
        ));
    }

    #[test]
    fn messages_in_json_are_cleaned() {
        let mut value =
            serde_json::json!({"a\u{1b}[1m": ["\u{202e}x", {"b": "\u{7}y"}], "n": 1, "z": null});
        clean_json(&mut value);
        assert_eq!(
            value,
            serde_json::json!({"a": ["x", {"b": "y"}], "n": 1, "z": null})
        );
    }

    #[test]
    fn documents_are_escaped_but_complete() {
        let text = "a\u{1b}[1mb\r\nc\u{202e}\u{9b}d\u{7f}\u{e0041}\u{2028}Zoë\n👩‍👩‍👧\r\t";
        assert_eq!(
            escape_unsafe(text),
            "a^[[1mb\r\nc\\u{202e}\\u{9b}d^?\\u{e0041}\\u{2028}Zoë\n👩‍👩‍👧^M\t"
        );
        assert!(matches!(escape_unsafe("plain\n"), Cow::Borrowed("plain\n")));
        let value = serde_json::json!({text: [text, "x".repeat(100_000)]});
        let line = String::from_utf8(to_json_line(&value).unwrap()).unwrap();
        assert!(line.starts_with(
            r#"{"a\u001b[1mb\r\nc\u202e\u009bd\u007f\udb40\udc41\u2028Zoë\n👩‍👩‍👧\r\t":["#
        ));
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }
}
