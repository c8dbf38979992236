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

/// Offers the cookies of the wanted name, of each command in the text.
pub(super) fn read(text: &str, search: &mut Search<'_>) {
    let is_cmd = text.contains("^\"") || text.lines().any(|line| line.trim_end().ends_with(" ^"));
    let unescaped;
    let mut words = if is_cmd {
        unescaped = without_carets(text);
        Words::new(&unescaped, Quoting::Windows)
    } else {
        Words::new(text, Quoting::Posix)
    };
    let mut command = Command::default();
    while words.read_next() {
        if words.begins_command {
            std::mem::take(&mut command).offer(search);
        }
        command.read(&words.word);
    }
    command.offer(search);
}

/// What one curl command says.
#[derive(Default)]
struct Command {
    option: Option<Kind>,
    url: Option<url::Url>,
    cookies: Vec<Zeroizing<String>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Cookie,
    Header,
    Url,
    /// An option whose value may look like a URL.
    Other,
}

/// Options with a value, in both spellings.
const OPTIONS: [(&str, &str, Kind); 9] = [
    ("-b", "--cookie", Kind::Cookie),
    ("-H", "--header", Kind::Header),
    ("", "--url", Kind::Url),
    ("-d", "--data", Kind::Other),
    ("", "--data-raw", Kind::Other),
    ("", "--data-binary", Kind::Other),
    ("-e", "--referer", Kind::Other),
    ("-A", "--user-agent", Kind::Other),
    ("-x", "--proxy", Kind::Other),
];

impl Command {
    fn read(&mut self, word: &str) {
        let known = |(short, long, kind): &(&str, &'static str, Kind)| {
            if word == *long || !short.is_empty() && word == *short {
                return Some((*kind, None));
            }
            let joined = word
                .strip_prefix(long)
                .and_then(|rest| rest.strip_prefix('='));
            let short = Some(*short).filter(|short| !short.is_empty());
            let joined = joined.or_else(|| word.strip_prefix(short?));
            joined.map(|value| (*kind, Some(value)))
        };
        match self.option.take() {
            Some(kind) => self.value_of(kind, word),
            None => match OPTIONS.iter().find_map(known) {
                Some((kind, Some(value))) => self.value_of(kind, value),
                Some((kind, None)) => self.option = Some(kind),
                None if word.starts_with("http") => self.value_of(Kind::Url, word),
                None => {}
            },
        }
    }

    fn value_of(&mut self, kind: Kind, value: &str) {
        let header = match kind {
            Kind::Cookie => Some(value),
            Kind::Header => header_value(value, "cookie"),
            Kind::Url => {
                self.url = self.url.take().or_else(|| url::Url::parse(value).ok());
                None
            }
            Kind::Other => None,
        };
        let header = header.map(|header| Zeroizing::new(header.to_owned()));
        self.cookies.extend(header);
    }

    fn offer(self, search: &mut Search<'_>) {
        let host = self.url.as_ref().and_then(url::Url::host_str);
        for header in &self.cookies {
            search.offer_header(header, host.map_or(Scope::Unknown, Scope::SentTo));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// Bash, `$'…'` included.
    Posix,
    /// The rules of Microsoft's C runtime, after cmd has read its own.
    Windows,
}

/// The words of a command line, one at a time in one buffer.
struct Words<'t> {
    chars: Peekable<Chars<'t>>,
    quoting: Quoting,
    word: Zeroizing<String>,
    /// Whether the word is the first one of another command.
    begins_command: bool,
    /// Whether the last word ended at a separator of commands.
    separated: bool,
}

impl<'t> Words<'t> {
    fn new(text: &'t str, quoting: Quoting) -> Self {
        Self {
            chars: text.chars().peekable(),
            quoting,
            word: buffer(text.len()),
            begins_command: false,
            separated: false,
        }
    }

    /// Reads the next word. Returns false at the end of the text.
    fn read_next(&mut self) -> bool {
        self.word.clear();
        self.begins_command = std::mem::take(&mut self.separated);
        let posix = self.quoting == Quoting::Posix;
        let mut begun = false;
        while let Some(c) = self.chars.next() {
            match c {
                ' ' | '\t' | '\r' if begun => return true,
                ' ' | '\t' | '\r' => continue,
                '\n' | ';' | '&' | '|' if begun => {
                    self.separated = true;
                    return true;
                }
                '\n' | ';' | '&' | '|' => {
                    self.begins_command = true;
                    continue;
                }
                '\'' if posix => self.single_quoted(),
                '$' if posix && self.chars.next_if_eq(&'\'').is_some() => self.ansi_quoted(),
                '"' => self.double_quoted(),
                '\\' if posix => match self.chars.next() {
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
        let posix = self.quoting == Quoting::Posix;
        while let Some(c) = self.chars.next() {
            match c {
                // Two quotes inside of quotes are one (Windows).
                '"' if !posix && self.chars.next_if_eq(&'"').is_some() => self.word.push('"'),
                '"' => return,
                '\\' if posix => match self.chars.next_if(|c| "$`\"\\\n".contains(*c)) {
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
