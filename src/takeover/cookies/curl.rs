//! Parses curl commands, as the "Copy as cURL" function of browsers creates them, with the
//! quoting of a POSIX shell or of Windows cmd. Chrome writes the cookies as `-b '…'`,
//! Firefox as `-H 'Cookie: …'`.

use std::iter::Peekable;
use std::str::Chars;

use zeroize::Zeroizing;

use super::{Scope, Search, header_value, zeroizing_buffer};

/// Returns whether the text starts with a curl command.
pub(super) fn is_command(text: &str) -> bool {
    let text = text.strip_prefix("$ ").unwrap_or(text);
    let word = text.split_whitespace().next().unwrap_or_default();
    ["curl", "curl.exe"]
        .iter()
        .any(|curl| word.eq_ignore_ascii_case(curl))
}

/// Offers the cookies of each command in the text.
pub(super) fn read(text: &str, search: &mut Search<'_>) {
    let is_windows_cmd =
        text.contains("^\"") || text.lines().any(|line| line.trim_end().ends_with(" ^"));
    let commands = if is_windows_cmd {
        Splitter::new(&unescape_cmd(text), Quoting::Windows).split_commands()
    } else {
        Splitter::new(text, Quoting::Posix).split_commands()
    };
    for words in commands {
        offer_cookies(&words, search);
    }
}

#[derive(Clone, Copy)]
enum OptionKind {
    Cookie,
    Header,
    Url,
    /// The value is skipped, because it may look like a URL.
    Other,
}

/// The curl options that take a value. Other options are skipped.
const OPTIONS: [(&str, OptionKind); 15] = [
    ("-b", OptionKind::Cookie),
    ("--cookie", OptionKind::Cookie),
    ("-H", OptionKind::Header),
    ("--header", OptionKind::Header),
    ("--url", OptionKind::Url),
    ("-d", OptionKind::Other),
    ("--data", OptionKind::Other),
    ("--data-raw", OptionKind::Other),
    ("--data-binary", OptionKind::Other),
    ("-e", OptionKind::Other),
    ("--referer", OptionKind::Other),
    ("-A", OptionKind::Other),
    ("--user-agent", OptionKind::Other),
    ("-x", OptionKind::Other),
    ("--proxy", OptionKind::Other),
];

/// Returns the kind of an option, and the value if it is in the same word.
fn parse_option(word: &str) -> Option<(OptionKind, Option<&str>)> {
    OPTIONS.iter().find_map(|(name, kind)| {
        let rest = word.strip_prefix(name)?;
        let joined_value = if name.starts_with("--") {
            rest.strip_prefix('=')
        } else {
            Some(rest)
        };
        (rest.is_empty() || joined_value.is_some())
            .then_some((*kind, joined_value.filter(|_| !rest.is_empty())))
    })
}

/// Offers the cookies of one command.
fn offer_cookies(words: &[Zeroizing<String>], search: &mut Search<'_>) {
    let (mut url, mut headers) = (None, Vec::new());
    let mut words = words.iter().map(|word| word.as_str());
    while let Some(word) = words.next() {
        let (kind, value) = match parse_option(word) {
            Some((kind, joined_value)) => (kind, joined_value.or_else(|| words.next())),
            None if word.starts_with("http") => (OptionKind::Url, Some(word)),
            None => continue,
        };
        let Some(value) = value else {
            break;
        };
        match kind {
            OptionKind::Cookie => headers.push(value),
            OptionKind::Header => headers.extend(header_value(value, "cookie")),
            OptionKind::Url => url = url.or_else(|| url::Url::parse(value).ok()),
            OptionKind::Other => {}
        }
    }
    let host = url.as_ref().and_then(url::Url::host_str);
    for header in headers {
        search.offer_header(header, host.map_or(Scope::Unknown, Scope::RequestHost));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// The quoting of bash, including `$'…'`.
    Posix,
    /// The quoting of Microsoft's C runtime. The escapes of cmd must have been removed.
    Windows,
}

/// Splits a text into commands, and each command into words.
struct Splitter<'t> {
    chars: Peekable<Chars<'t>>,
    quoting: Quoting,
    word: Zeroizing<String>,
}

impl<'t> Splitter<'t> {
    fn new(text: &'t str, quoting: Quoting) -> Self {
        Self {
            chars: text.chars().peekable(),
            quoting,
            word: zeroizing_buffer(text.len()),
        }
    }

    fn split_commands(mut self) -> Vec<Vec<Zeroizing<String>>> {
        let (mut commands, mut words) = (Vec::new(), Vec::new());
        loop {
            if self.read_word() {
                words.push(self.word.clone());
                self.word.clear();
            }
            match self.chars.next() {
                Some('\n' | ';' | '&' | '|') => commands.push(std::mem::take(&mut words)),
                Some(_) => {}
                None => break,
            }
        }
        commands.push(words);
        commands
    }

    /// Reads one word, up to a separator. Returns whether there is a word; a word in quotes may
    /// be empty.
    fn read_word(&mut self) -> bool {
        let mut has_word = false;
        while let Some(c) = self.chars.next_if(|c| !" \t\r\n;&|".contains(*c)) {
            match c {
                '\'' if self.quoting == Quoting::Posix => self.read_single_quoted(),
                '$' if self.quoting == Quoting::Posix && self.chars.next_if_eq(&'\'').is_some() => {
                    self.read_ansi_quoted()
                }
                '"' => self.read_double_quoted(),
                '\\' if self.quoting == Quoting::Posix => match self.chars.next() {
                    Some('\n') | None => continue,
                    // Also accept a line continuation that ends in CRLF.
                    Some('\r') if self.chars.next_if_eq(&'\n').is_some() => continue,
                    Some(escaped) => self.word.push(escaped),
                },
                '\\' => self.read_backslashes(),
                c => self.word.push(c),
            }
            has_word = true;
        }
        has_word
    }

    fn read_single_quoted(&mut self) {
        let quoted = self.chars.by_ref().take_while(|c| *c != '\'');
        self.word.extend(quoted);
    }

    fn read_double_quoted(&mut self) {
        while let Some(c) = self.chars.next() {
            match c {
                // On Windows, `""` inside quotes is one quote character.
                '"' if self.quoting == Quoting::Windows
                    && self.chars.next_if_eq(&'"').is_some() =>
                {
                    self.word.push('"')
                }
                '"' => return,
                '\\' if self.quoting == Quoting::Posix => {
                    match self.chars.next_if(|c| "$`\"\\\n".contains(*c)) {
                        Some('\n') => {}
                        Some(escaped) => self.word.push(escaped),
                        None => self.word.push('\\'),
                    }
                }
                '\\' => self.read_backslashes(),
                c => self.word.push(c),
            }
        }
    }

    /// Reads a run of backslashes with the rules of Windows: backslashes are escapes only
    /// before a quote.
    fn read_backslashes(&mut self) {
        let mut count = 1;
        while self.chars.next_if_eq(&'\\').is_some() {
            count += 1;
        }
        let is_before_quote = self.chars.peek() == Some(&'"');
        let kept_count = if is_before_quote { count / 2 } else { count };
        self.word.extend(std::iter::repeat_n('\\', kept_count));
        if is_before_quote && count % 2 == 1 {
            self.word.extend(self.chars.next());
        }
    }

    /// Reads a `$'…'` string after its first quote (bash(1), QUOTING).
    fn read_ansi_quoted(&mut self) {
        while let Some(c) = self.chars.next() {
            match c {
                '\'' => return,
                '\\' => match self.chars.next() {
                    Some('n') => self.word.push('\n'),
                    Some('r') => self.word.push('\r'),
                    Some('t') => self.word.push('\t'),
                    Some('x') => self.read_char_code("", 16, 2),
                    Some('u') => self.read_char_code("", 16, 4),
                    Some('U') => self.read_char_code("", 16, 8),
                    Some(digit @ '0'..='7') => {
                        self.read_char_code(digit.encode_utf8(&mut [0; 4]), 8, 3)
                    }
                    // `\\`, `\'` and `\"`. Other escapes do not occur in cookies.
                    other => self.word.extend(other),
                },
                c => self.word.push(c),
            }
        }
    }

    /// Reads the remaining digits of a character code, and appends the character.
    fn read_char_code(&mut self, first_digits: &str, radix: u32, max_digits: usize) {
        let mut digits = first_digits.to_owned();
        while digits.len() < max_digits
            && let Some(digit) = self.chars.next_if(|c| c.is_digit(radix))
        {
            digits.push(digit);
        }
        let code = u32::from_str_radix(&digits, radix).ok();
        self.word.extend(code.and_then(char::from_u32));
    }
}

/// Removes the escapes of cmd: outside quotes, `^` escapes the next character, and `^` before
/// a line break continues the line.
fn unescape_cmd(text: &str) -> Zeroizing<String> {
    let mut unescaped = zeroizing_buffer(text.len());
    let mut in_quotes = false;
    let mut chars = text.chars().filter(|c| *c != '\r');
    while let Some(c) = chars.next() {
        match c {
            '^' if !in_quotes => match chars.next() {
                Some('\n') => unescaped.extend(chars.next()),
                other => unescaped.extend(other),
            },
            '"' => {
                in_quotes = !in_quotes;
                unescaped.push(c);
            }
            c => unescaped.push(c),
        }
    }
    unescaped
}
