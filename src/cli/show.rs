//! Text of strangers, made safe for a terminal.

use std::borrow::Cow;

/// The octets as text in which nothing acts on a terminal: control characters and those that turn the direction of
/// writing are escaped, what is no UTF-8 is replaced.
pub(super) fn safe(octets: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(octets);
    if !text.contains(acts) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if acts(char) {
            safe.extend(char.escape_unicode());
        } else {
            safe.push(char);
        }
    }
    Cow::Owned(safe)
}

/// Whether it acts on a terminal: moves, colours, turns the direction of writing.
pub(super) fn acts(char: char) -> bool {
    let turns = matches!(char, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(char, '\u{2028}' | '\u{2029}');
    char.is_control() || turns || breaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_a_terminal() {
        let rows: [(&[u8], &str); 6] = [
            (b"a plain text", "a plain text"),
            ("grün \u{1f40a}".as_bytes(), "grün \u{1f40a}"),
            (b"\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            (b"\xc2\x9b31m\x7f", "\\u{9b}31m\\u{7f}"),
            ("a\u{202e}b\nc".as_bytes(), "a\\u{202e}b\\u{a}c"),
            (b"\xff", "\u{fffd}"),
        ];
        for (octets, expected) in rows {
            assert_eq!(safe(octets), expected);
        }
        assert!(matches!(safe(b"a plain text"), Cow::Borrowed(_)));
    }
}
