//! Prints results on stdout and messages on stderr.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::clean::{escape_unsafe, to_json_line};
use super::color::{Label, dim};
use super::{Terminal, clean, clean_json, lock};
use crate::model::Secret;

impl Terminal {
    /// Prints one line on stdout.
    pub(crate) fn print_line(&self, line: &str) -> io::Result<()> {
        self.print_bytes(format!("{}\n", clean(line)).as_bytes())
    }

    /// Prints a JSON value as one line on stdout. The member `error` is a message: unsafe
    /// characters are removed from it. In all other members they are escaped.
    pub(crate) fn print_json(&self, mut value: Value) -> io::Result<()> {
        if let Some(error) = value.get_mut("error") {
            clean_json(error);
        }
        self.print_bytes(&Zeroizing::new(to_json_line(&value)?))
    }

    /// Prints a document as one line of JSON on stdout. Unsafe characters are escaped.
    pub(crate) fn print_json_document(&self, document: &impl Serialize) -> io::Result<()> {
        self.print_bytes(&to_json_line(document)?)
    }

    /// Prints `prefix` and a secret as one line on stdout.
    pub(crate) fn print_secret(&self, prefix: &str, secret: &Secret) -> io::Result<()> {
        let secret = secret.expose();
        let mut line = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.len() + 1));
        line.extend_from_slice(prefix.as_bytes());
        line.extend_from_slice(secret.as_bytes());
        line.push(b'\n');
        self.print_bytes(&line)
    }

    /// Prints a JSON object on stdout with `prefix` and the secret under `key`. Leaves no copy
    /// of the secret in memory.
    pub(crate) fn print_secret_json(
        &self,
        key: &str,
        prefix: &str,
        secret: &Secret,
        expires_at: Option<Value>,
    ) -> io::Result<()> {
        let value = Zeroizing::new([prefix, secret.expose()].concat());
        let capacity = 2 * value.len() + 1024;
        let mut line = Zeroizing::new(Vec::with_capacity(capacity));
        line.push(b'{');
        serde_json::to_writer(&mut *line, key)?;
        line.push(b':');
        serde_json::to_writer(&mut *line, value.as_str())?;
        if let Some(expires_at) = expires_at {
            line.extend_from_slice(format!(",\"expires_at\":{expires_at}").as_bytes());
        }
        line.extend_from_slice(b"}\n");
        self.print_bytes(&line)
    }

    /// Prints a chunk of a document on stdout. Unsafe characters are escaped if stdout is a
    /// terminal; then a chunk should consist of whole lines.
    pub(crate) fn print_document(&self, chunk: &[u8]) -> io::Result<()> {
        if self.stdout_is_terminal() {
            let text = String::from_utf8_lossy(chunk);
            self.print_bytes(escape_unsafe(&text).as_bytes())
        } else {
            self.print_bytes(chunk)
        }
    }

    /// Prints bytes unchanged on stdout. Fails with `BrokenPipe` if the reader has closed the
    /// pipe.
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        lock(&self.state.screen).hide();
        let mut stdout = lock(&self.state.stdout);
        stdout.write_all(bytes)?;
        // A secret without a line break must not stay in the buffer of stdout.
        stdout.flush()
    }

    /// Prints a confirmation on stderr, unless `--quiet` is set.
    pub(crate) fn note(&self, line: &str) {
        if !self.options().quiet {
            self.print_instruction(line);
        }
    }

    /// Prints an instruction on stderr, even with `--quiet`: the run cannot continue until
    /// the user follows it.
    pub(crate) fn print_instruction(&self, line: &str) {
        self.write_stderr(&format!("{}\n", clean(line)));
    }

    /// Prints a warning on stderr.
    pub(crate) fn warn(&self, line: &str) {
        let label = Label::Warning.paint(self.stderr_has_color());
        self.write_stderr(&format!("{label} {}\n", clean(line)));
    }

    /// Prints an error on stderr, and a hint about what to do next.
    pub(crate) fn error(&self, message: &str, hint: Option<&str>) {
        let colored = self.stderr_has_color();
        let mut text = format!("{} {}\n", Label::Error.paint(colored), clean(message));
        if let Some(hint) = hint {
            text += &format!("{} {}\n", Label::Hint.paint(colored), clean(hint));
        }
        self.write_stderr(&text);
    }

    /// Logs a request or a decision on stderr, if `--verbose` is set.
    pub(crate) fn verbose(&self, line: &str) {
        if self.is_verbose() {
            let line = format!("* {}", clean(line));
            self.write_stderr(&format!("{}\n", dim(&line, self.stderr_has_color())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::terminal::{ColorChoice, PromptError, TerminalOptions, Terminals};

    /// A stream in memory that the test reads after the terminal has written to it.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8_lossy(&lock(&self.0)).into_owned()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn terminal(stdin: &'static [u8], terminals: Terminals) -> (Terminal, Buffer, Buffer) {
        let (stdout, stderr) = (Buffer::default(), Buffer::default());
        let terminal = Terminal::new(stdin, stdout.clone(), stderr.clone(), terminals);
        (terminal, stdout, stderr)
    }

    #[test]
    fn output_is_cleaned_and_written_to_the_right_stream() {
        let (terminal, stdout, stderr) = terminal(b"line\n", Terminals::default());
        terminal.configure(TerminalOptions {
            verbose: true,
            ..TerminalOptions::default()
        });
        terminal.print_line("a\u{1b}[31mb\nc").unwrap();
        terminal
            .print_json(serde_json::json!({"k\u{202e}": "\u{7}v", "error": "\u{7}v"}))
            .unwrap();
        terminal
            .print_secret("Bearer ", &Secret::new("s3cret".to_owned()))
            .unwrap();
        terminal.print_bytes(b"\x1b[1mours\n").unwrap();
        terminal.note("noted\u{9b}2J");
        terminal.warn("careful\n");
        terminal.verbose("GET /");
        terminal.error("no\u{1b}]0;x\u{7} way", Some("try\r\nthis"));
        assert_eq!(
            stdout.text(),
            "ab c\n{\"k\\u202e\":\"\\u0007v\",\"error\":\"v\"}\nBearer s3cret\n\u{1b}[1mours\n"
        );
        assert_eq!(
            stderr.text(),
            "noted\nwarning: careful\n* GET /\nerror: no way\nhint: try this\n"
        );
        assert_eq!(&**terminal.read_stdin(3).unwrap(), b"lin");
        assert!(!terminal.can_prompt());
    }

    #[test]
    fn quiet_suppresses_notes_but_not_warnings() {
        let (terminal, _, stderr) = terminal(b"", Terminals::default());
        terminal.configure(TerminalOptions {
            quiet: true,
            color: ColorChoice::Always,
            ..TerminalOptions::default()
        });
        terminal.note("noted");
        terminal.verbose("told");
        terminal.warn("careful");
        assert_eq!(
            stderr.text(),
            "\u{1b}[33m\u{1b}[1mwarning:\u{1b}[0m careful\n"
        );
        assert!(matches!(
            terminal.ask("Name:", None),
            Err(PromptError::Closed)
        ));
    }

    #[test]
    fn documents_are_escaped_only_on_a_terminal() {
        for (is_terminal, shown) in [(false, "\u{1b}[2Ja\n"), (true, "^[[2Ja\n")] {
            let terminals = Terminals {
                stdout: is_terminal,
                ..Terminals::default()
            };
            let (terminal, stdout, _) = terminal(b"", terminals);
            terminal.print_document(b"\x1b[2Ja\n").unwrap();
            assert_eq!(stdout.text(), shown);
        }
    }
}
