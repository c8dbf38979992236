//! Decides when colours are used, and paints the labels.

use console::Color;

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless the environment forbids them.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl ColorChoice {
    /// Whether colours are used. A choice on the command line takes precedence over
    /// the environment, which wants none if `plain`.
    pub(super) fn allows(self, plain: bool, is_terminal: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => !plain && is_terminal(),
        }
    }
}

/// The start of a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Label {
    Error,
    Warning,
    Hint,
}

impl Label {
    pub(super) fn paint(self, colored: bool) -> String {
        let (text, color) = match self {
            Self::Error => ("error:", Color::Red),
            Self::Warning => ("warning:", Color::Yellow),
            Self::Hint => ("hint:", Color::Cyan),
        };
        // console would decide by itself whether to use colours.
        let style = console::Style::new().fg(color).bold();
        style.force_styling(colored).apply_to(text).to_string()
    }
}

pub(super) fn dim(text: &str, colored: bool) -> String {
    let style = console::Style::new().dim();
    style.force_styling(colored).apply_to(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_wins_over_the_environment() {
        for (choice, plain, terminal, expected) in [
            (ColorChoice::Auto, false, true, true),
            (ColorChoice::Auto, true, true, false),
            (ColorChoice::Auto, false, false, false),
            (ColorChoice::Always, true, false, true),
            (ColorChoice::Never, false, true, false),
        ] {
            assert_eq!(choice.allows(plain, || terminal), expected, "{choice:?}");
        }
    }

    #[test]
    fn labels_are_painted_or_plain() {
        assert_eq!(Label::Error.paint(false), "error:");
        assert_eq!(
            Label::Error.paint(true),
            "\u{1b}[31m\u{1b}[1merror:\u{1b}[0m"
        );
        assert_eq!(dim("* x", false), "* x");
    }
}
