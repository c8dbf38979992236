//! Makes text from servers and files safe to print.
//!
//! [`clean`] turns a message into one line of limited length without control
//! characters, escape sequences and direction marks. A document is not shortened:
//! [`visible`] replaces dangerous characters by a visible form, and [`json_line`]
//! by JSON escapes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::Value;

/// Maximum number of characters of a message.
const MAX_MESSAGE: usize = 2_000;

/// Returns a message as one line that is safe to print.
pub fn clean(text: &str) -> Cow<'_, str> {
    clean_to(text, MAX_MESSAGE)
}

/// Cleans every string in `value`, keys included.
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

/// Returns a part of a document with each dangerous character in a visible form:
/// `^[` for a control character, `\u{202e}` for others. Line breaks and tabs stay.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|b| matches!(b, b'\n' | b'\t' | b' '..=b'~'))
    {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut last = '\0';
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\n' | '\t' => shown.push(c),
            '\r' if characters.peek() == Some(&'\n') => shown.push(c),
            '\0'..='\u{1f}' | '\u{7f}' => {
                shown.push('^');
                shown.push(char::from(c as u8 ^ 0x40));
            }
            c if is_dangerous(c, last) => {
                // Writing to a string does not fail.
                let _ = write!(shown, "{}", c.escape_unicode());
            }
            c => shown.push(c),
        }
        last = c;
    }
    Cow::Owned(shown)
}

/// Returns `value` as one line of JSON: strings whole, dangerous characters as `\uXXXX`.
pub(super) fn json_line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut line, Escaping,
    ))?;
    line.push(b'\n');
    Ok(line)
}

/// Writes compact JSON with the dangerous characters that JSON itself allows escaped.
struct Escaping;

impl serde_json::ser::Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        let mut last = '\0';
        for (at, c) in fragment.char_indices() {
            if is_dangerous(c, last) {
                let offset = fragment.len() - rest.len();
                writer.write_all(&rest.as_bytes()[..at - offset])?;
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
                rest = &fragment[at + c.len_utf8()..];
            }
            last = c;
        }
        writer.write_all(rest.as_bytes())
    }

    /// Writes JSON as it came, on one line. Outside strings the only control
    /// characters of valid JSON are line breaks and tabs; within strings there are none.
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

/// Whether `c` must not be printed as it is. Some JSON readers treat U+2028 and
/// U+2029 as line breaks.
fn is_dangerous(c: char, before: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}') || is_hostile(c, before)
}

fn clean_to(text: &str, max_chars: usize) -> Cow<'_, str> {
    // Most texts are short and plain ASCII.
    if text.len() <= max_chars && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Cow::Borrowed(text.trim_end());
    }
    let text = seven_bit(text);
    let mut cleaned = String::with_capacity(text.len().min(max_chars));
    let mut count = 0;
    let mut last = '\0';
    // Escape sequences are removed as a whole (ECMA-48: CSI, OSC, DCS and others);
    // without its introducer, the rest of one would remain as text. anstream, which
    // clap uses as well, knows DCS, APC, PM and two-character escapes; console does not.
    for c in anstream::adapter::strip_str(&text).flat_map(str::chars) {
        let is_break = matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}');
        // Several line breaks become one space.
        if is_break && matches!(last, '\n' | '\r' | '\u{2028}' | '\u{2029}') {
            continue;
        }
        let shown = if is_break || c == '\t' { ' ' } else { c };
        if !is_break && is_hostile(shown, last) {
            continue;
        }
        if count == max_chars {
            cleaned.push('…');
            break;
        }
        cleaned.push(shown);
        last = c;
        count += 1;
    }
    cleaned.truncate(cleaned.trim_end().len());
    Cow::Owned(cleaned)
}

/// Replaces the 8-bit controls C1 with the equivalent 7-bit escapes (ECMA-48,
/// 5.3), since anstream knows only those. U+0085 is a line break.
fn seven_bit(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| matches!(c, '\u{80}'..='\u{9f}')) {
        return Cow::Borrowed(text);
    }
    let mut mapped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\u{85}' => mapped.push('\n'),
            '\u{80}'..='\u{9f}' => {
                mapped.push('\u{1b}');
                mapped.extend(char::from_u32(u32::from(c) - 0x40));
            }
            c => mapped.push(c),
        }
    }
    Cow::Owned(mapped)
}

/// Whether `c` is invisible or changes how other characters look, and has no
/// legitimate use after the character `before`.
fn is_hostile(c: char, before: char) -> bool {
    match c {
        // Joiners and selectors belong to emoji and to scripts, not to ASCII,
        // where they make different names look alike.
        '\u{200c}' | '\u{200d}' | '\u{e0100}'..='\u{e01ef}' => before.is_ascii(),
        // Tags spell the flag of a region; elsewhere they can hide text.
        '\u{e0020}'..='\u{e007f}' => !matches!(before, '\u{1f3f4}' | '\u{e0020}'..='\u{e007e}'),
        c => c.is_control() || is_invisible(c),
    }
}

/// Whether `c` is invisible after any character.
pub(super) fn is_invisible(c: char) -> bool {
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
    fn escape_sequences_go_as_a_whole() {
        for (hostile, harmless) in [
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
            assert_eq!(clean(hostile), harmless, "{hostile:?}");
        }
    }

    #[test]
    fn honest_unicode_stays() {
        for honest in [
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
            assert_eq!(clean(honest), honest);
        }
    }

    #[test]
    fn length_is_capped() {
        let long = "x".repeat(1 << 20);
        let cleaned = clean(&long);
        assert_eq!(cleaned.chars().count(), MAX_MESSAGE + 1);
        assert!(cleaned.ends_with('…'));
        let exact = "東".repeat(MAX_MESSAGE);
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
    fn documents_stay_whole() {
        let text = "a\u{1b}[1mb\r\nc\u{202e}\u{9b}d\u{7f}\u{e0041}\u{2028}Zoë\n👩‍👩‍👧\r\t";
        assert_eq!(
            visible(text),
            "a^[[1mb\r\nc\\u{202e}\\u{9b}d^?\\u{e0041}\\u{2028}Zoë\n👩‍👩‍👧^M\t"
        );
        assert!(matches!(visible("plain\n"), Cow::Borrowed("plain\n")));
        let value = serde_json::json!({text: [text, "x".repeat(100_000)]});
        let line = String::from_utf8(json_line(&value).unwrap()).unwrap();
        assert!(line.starts_with(
            r#"{"a\u001b[1mb\r\nc\u202e\u009bd\u007f\udb40\udc41\u2028Zoë\n👩‍👩‍👧\r\t":["#
        ));
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }
}
