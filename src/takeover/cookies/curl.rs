//! "Copy as cURL" of browsers, quoted for a POSIX shell or for Windows' cmd.
//! Chrome writes the cookies as `-b '…'`, Firefox as `-H 'Cookie: …'`.

use std::iter::Peekable;
use std::str::Chars;

use zeroize::Zeroizing;

use super::{Scope, Search, buffer, header_value};

/// Whether the text is a curl command.
pub(super) fn is_command(text: &str) -> bool {
    let text = text.strip_prefix("$ ").unwrap_or(text);
    let word = text.split_whitespace().next().unwrap_or_default();
    ["curl", "curl.exe"]
        .iter()
        .any(|curl| word.eq_ignore_ascii_case(curl))
}

/// Offers the cookies of each command in the text.
pub(super) fn read(text: &str, search: &mut Search<'_>) {
    let is_cmd = text.contains("^\"") || text.lines().any(|line| line.trim_end().ends_with(" ^"));
    let commands = if is_cmd {
        Splitter::new(&without_carets(text), false).commands()
    } else {
        Splitter::new(text, true).commands()
    };
    for words in commands {
        offer(&words, search);
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Cookie,
    Header,
    Url,
    /// An option whose value may look like a URL.
    Other,
}

/// Options with a value.
const OPTIONS: [(&str, Kind); 15] = [
    ("-b", Kind::Cookie),
    ("--cookie", Kind::Cookie),
    ("-H", Kind::Header),
    ("--header", Kind::Header),
    ("--url", Kind::Url),
    ("-d", Kind::Other),
    ("--data", Kind::Other),
    ("--data-raw", Kind::Other),
    ("--data-binary", Kind::Other),
    ("-e", Kind::Other),
    ("--referer", Kind::Other),
    ("-A", Kind::Other),
    ("--user-agent", Kind::Other),
    ("-x", Kind::Other),
    ("--proxy", Kind::Other),
];

/// Returns the kind of an option, and its value if it is in the same word.
fn option(word: &str) -> Option<(Kind, Option<&str>)> {
    OPTIONS.iter().find_map(|(name, kind)| {
        let rest = word.strip_prefix(name)?;
        let joined = if name.starts_with("--") {
            rest.strip_prefix('=')
        } else {
            Some(rest)
        };
        (rest.is_empty() || joined.is_some())
            .then_some((*kind, joined.filter(|_| !rest.is_empty())))
    })
}

/// Offers the cookies of one command.
fn offer(words: &[Zeroizing<String>], search: &mut Search<'_>) {
    let (mut url, mut headers) = (None, Vec::new());
    let mut words = words.iter().map(|word| word.as_str());
    while let Some(word) = words.next() {
        let (kind, value) = match option(word) {
            Some((kind, joined)) => (kind, joined.or_else(|| words.next())),
            None if word.starts_with("http") => (Kind::Url, Some(word)),
            None => continue,
        };
        let Some(value) = value else {
            break;
        };
        match kind {
            Kind::Cookie => headers.push(value),
            Kind::Header => headers.extend(header_value(value, "cookie")),
            Kind::Url => url = url.or_else(|| url::Url::parse(value).ok()),
            Kind::Other => {}
        }
    }
    let host = url.as_ref().and_then(url::Url::host_str);
    for header in headers {
        search.offer_header(header, host.map_or(Scope::Unknown, Scope::SentTo));
    }
}

/// Splits a text into commands, and these into words.
struct Splitter<'t> {
    chars: Peekable<Chars<'t>>,
    /// Whether the quoting is that of bash, `$'…'` included. Otherwise it is that of
    /// Microsoft's C runtime, after cmd has read its own.
    posix: bool,
    word: Zeroizing<String>,
}

impl<'t> Splitter<'t> {
    fn new(text: &'t str, posix: bool) -> Self {
        Self {
            chars: text.chars().peekable(),
            posix,
            word: buffer(text.len()),
        }
    }

    fn commands(mut self) -> Vec<Vec<Zeroizing<String>>> {
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

    /// Reads up to what separates words. Returns whether there is a word.
    fn read_word(&mut self) -> bool {
        let mut begun = false;
        while let Some(c) = self.chars.next_if(|c| !" \t\r\n;&|".contains(*c)) {
            match c {
                '\'' if self.posix => self.single_quoted(),
                '$' if self.posix && self.chars.next_if_eq(&'\'').is_some() => self.ansi_quoted(),
                '"' => self.double_quoted(),
                '\\' if self.posix => match self.chars.next() {
                    Some('\n') | None => continue,
                    // A line that ends in CRLF goes on as well.
                    Some('\r') if self.chars.next_if_eq(&'\n').is_some() => continue,
                    Some(escaped) => self.word.push(escaped),
                },
                '\\' => self.backslashes(),
                c => self.word.push(c),
            }
            begun = true;
        }
        begun
    }

    fn single_quoted(&mut self) {
        let quoted = self.chars.by_ref().take_while(|c| *c != '\'');
        self.word.extend(quoted);
    }

    fn double_quoted(&mut self) {
        while let Some(c) = self.chars.next() {
            match c {
                // Two quotes inside of quotes are one (Windows).
                '"' if !self.posix && self.chars.next_if_eq(&'"').is_some() => self.word.push('"'),
                '"' => return,
                '\\' if self.posix => match self.chars.next_if(|c| "$`\"\\\n".contains(*c)) {
                    Some('\n') => {}
                    Some(escaped) => self.word.push(escaped),
                    None => self.word.push('\\'),
                },
                '\\' => self.backslashes(),
                c => self.word.push(c),
            }
        }
    }

    /// Reads `\` and those after it: they are an escape only before a quote (Windows).
    fn backslashes(&mut self) {
        let mut count = 1;
        while self.chars.next_if_eq(&'\\').is_some() {
            count += 1;
        }
        let before_quote = self.chars.peek() == Some(&'"');
        let kept = if before_quote { count / 2 } else { count };
        self.word.extend(std::iter::repeat_n('\\', kept));
        if before_quote && count % 2 == 1 {
            self.word.extend(self.chars.next());
        }
    }

    /// Reads the rest of `$'…'` (bash(1), QUOTING).
    fn ansi_quoted(&mut self) {
        while let Some(c) = self.chars.next() {
            match c {
                '\'' => return,
                '\\' => match self.chars.next() {
                    Some('n') => self.word.push('\n'),
                    Some('r') => self.word.push('\r'),
                    Some('t') => self.word.push('\t'),
                    Some('x') => self.number("", 16, 2),
                    Some('u') => self.number("", 16, 4),
                    Some('U') => self.number("", 16, 8),
                    Some(digit @ '0'..='7') => self.number(digit.encode_utf8(&mut [0; 4]), 8, 3),
                    // `\\`, `\'`, `\"`, and what no cookie has.
                    other => self.word.extend(other),
                },
                c => self.word.push(c),
            }
        }
    }

    fn number(&mut self, first: &str, radix: u32, longest: usize) {
        let mut digits = first.to_owned();
        while digits.len() < longest
            && let Some(digit) = self.chars.next_if(|c| c.is_digit(radix))
        {
            digits.push(digit);
        }
        let code = u32::from_str_radix(&digits, radix).ok();
        self.word.extend(code.and_then(char::from_u32));
    }
}

/// Undoes the escapes of cmd: outside of its quotes `^` stands before a character
/// that means nothing special, and before a line break that is none.
fn without_carets(text: &str) -> Zeroizing<String> {
    let mut plain = buffer(text.len());
    let mut quoted = false;
    let mut chars = text.chars().filter(|c| *c != '\r');
    while let Some(c) = chars.next() {
        match c {
            '^' if !quoted => match chars.next() {
                Some('\n') => plain.extend(chars.next()),
                other => plain.extend(other),
            },
            '"' => {
                quoted = !quoted;
                plain.push(c);
            }
            c => plain.push(c),
        }
    }
    plain
}
