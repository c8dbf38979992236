//! Decides whether output is coloured, and formats the labels of messages.

use console::Color;

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` or `TERM=dumb` is set.
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Whether output is coloured. `disabled_by_env` says whether the environment disables
    /// colours; `Always` and `Never` take precedence over it.
    pub(super) fn allows_color(
        self,
        disabled_by_env: bool,
        is_terminal: impl FnOnce() -> bool,
    ) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => !disabled_by_env && is_terminal(),
        }
    }
}

/// The label at the start of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Label {
    Error,
    Warning,
    Hint,
}

impl Label {
    /// Returns the label's text, with escape sequences for its colour if `colored`.
    pub(super) fn paint(self, colored: bool) -> String {
        let (text, color) = match self {
            Self::Error => ("error:", Color::Red),
            Self::Warning => ("warning:", Color::Yellow),
            Self::Hint => ("hint:", Color::Cyan),
        };
        // Without `force_styling`, console would decide itself whether to use colours.
        let style = console::Style::new().fg(color).bold();
        style.force_styling(colored).apply_to(text).to_string()
    }
}

/// Formats a text as dim, if `colored`.
pub(super) fn dim(text: &str, colored: bool) -> String {
    let style = console::Style::new().dim();
    style.force_styling(colored).apply_to(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_takes_precedence_over_the_environment() {
        for (choice, disabled_by_env, is_terminal, expected) in [
            (ColorChoice::Auto, false, true, true),
            (ColorChoice::Auto, true, true, false),
            (ColorChoice::Auto, false, false, false),
            (ColorChoice::Always, true, false, true),
            (ColorChoice::Never, false, true, false),
        ] {
            assert_eq!(
                choice.allows_color(disabled_by_env, || is_terminal),
                expected,
                "{choice:?}"
            );
        }
    }

    #[test]
    fn labels_are_painted_or_plain() {
        const PLAIN: bool = false;
        const COLORED: bool = true;
        assert_eq!(Label::Error.paint(PLAIN), "error:");
        assert_eq!(
            Label::Error.paint(COLORED),
            "\u{1b}[31m\u{1b}[1merror:\u{1b}[0m"
        );
        assert_eq!(dim("* x", PLAIN), "* x");
    }
}
