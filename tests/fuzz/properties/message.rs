//! Parses the body of an error response into the text that is printed. The first byte
//! determines the content type.

use rememberizer_cli::terminal::clean;

#[path = "../../../src/api"]
mod api {
    mod error_body;

    pub(crate) fn read(
        content_type: Option<&str>,
        body: &[u8],
    ) -> (Option<String>, Vec<(String, Vec<String>)>) {
        let parsed = error_body::parse(content_type, body);
        (parsed.message, parsed.fields)
    }
}

/// Panics if the property does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    let content_type = match kind % 4 {
        0 => None,
        1 => Some("application/json"),
        2 => Some("text/html; charset=utf-8"),
        _ => Some("text/plain"),
    };
    let (message, fields) = api::read(content_type, body);
    let texts = fields
        .iter()
        .flat_map(|(name, texts)| std::iter::once(name).chain(texts));
    for text in message.iter().chain(texts) {
        assert!(text.chars().count() <= 600, "the text is short: {text:?}");
        let shown = clean(text);
        assert!(
            !shown.chars().any(|c| c.is_control() && c != '\n'),
            "the text has no control characters: {shown:?}"
        );
        assert!(
            !shown
                .chars()
                .any(|c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')),
            "the text has no characters that change its direction: {shown:?}"
        );
    }
}
