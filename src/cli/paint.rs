//! Colour on a terminal, and nowhere else.

use std::io::IsTerminal;

/// A style of the terminal (ECMA-48 SGR parameters).
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

/// Paints text where that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    colour: bool,
}

impl Paint {
    /// For standard output: only where a person looks and has not asked for none (<https://no-color.org>).
    pub(super) fn of_stdout() -> Self {
        let unwanted = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: std::io::stdout().is_terminal() && !unwanted("NO_COLOR") && !dumb }
    }

    /// The text in this style.
    pub(super) fn styled(self, style: Style, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", style as u8) } else { text.to_owned() }
    }
}
