//! The one point that text from servers and files passes before a person or a
//! JSON reader sees it: no control characters, no escape sequences, no
//! direction marks, no more than a readable length. Honest Unicode stays.

use serde_json::Value;

/// The most characters of one line.
const LONGEST_LINE: usize = 2_000;

/// The most characters of one string in JSON.
const LONGEST_STRING: usize = 16_384;

/// `text` as one harmless line.
#[must_use]
pub fn clean(text: &str) -> String {
    clean_to(text, LONGEST_LINE)
}

/// Cleans every string in `value`, keys included.
#[must_use]
pub fn clean_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean_to(&text, LONGEST_STRING)),
        Value::Array(items) => items.into_iter().map(clean_json).collect(),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (clean(&key), clean_json(value)))
                .collect(),
        ),
        other => other,
    }
}

fn clean_to(text: &str, longest: usize) -> String {
    let mut cleaned = String::with_capacity(text.len().min(longest));
    let mut count = 0;
    // Sequences first, as a whole (ECMA-48: CSI, OSC, DCS and the like):
    // without its introducer the rest of one would stand as text.
    let plain = anstream::adapter::strip_str(text);
    for c in plain.flat_map(str::chars) {
        let c = match c {
            '\n' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            c if is_hostile(c) => continue,
            c => c,
        };
        if count == longest {
            cleaned.push('…');
            break;
        }
        cleaned.push(c);
        count += 1;
    }
    cleaned.truncate(cleaned.trim_end().len());
    cleaned
}

/// Characters that change how others look, or that nobody can see. Joiners stay:
/// scripts and emoji need them.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Direction marks, embeddings, overrides, isolates (UAX #9).
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Nothing to see: zero-width space, byte order mark, invisible operators.
            | '\u{200b}' | '\u{feff}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            // Interlinear annotation and tags.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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
            ("a\u{9b}31mb", "a31mb"),
            ("a\rb\u{8}c\u{7f}d\0e", "abcde"),
            ("\u{202e}drow\u{202c} \u{2066}x\u{2069}\u{200f}", "drow x"),
            ("one\ntwo\tthree\u{2028}four", "one two three four"),
        ] {
            assert_eq!(clean(hostile), harmless, "{hostile:?}");
        }
    }

    #[test]
    fn honest_unicode_stays() {
        for honest in ["Zoë Ångström", "東京", "👩‍👩‍👧", "שלום", "مرحبا", "न्‍य"]
        {
            assert_eq!(clean(honest), honest);
        }
    }

    #[test]
    fn length_is_capped() {
        let cleaned = clean(&"x".repeat(1 << 20));
        assert_eq!(cleaned.chars().count(), LONGEST_LINE + 1);
        assert!(cleaned.ends_with('…'));
    }

    #[test]
    fn json_keys_and_values_are_cleaned() {
        let value = serde_json::json!({"a\u{1b}[1m": ["\u{202e}x", {"b": "\u{7}y"}], "n": 1});
        assert_eq!(
            clean_json(value),
            serde_json::json!({"a": ["x", {"b": "y"}], "n": 1})
        );
    }
}
