//! A file's text, read from front to back: blanks, comments, words and quoted texts, each with its place.

use std::sync::Arc;

use crate::config::leaf::mask_keys;
use crate::config::report::{Mistake, Position};

/// A place in a text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Octets at which lines begin.
    lines: Vec<usize>,
    file: &'a Arc<str>,
    rank: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, file: &'a Arc<str>, rank: usize) -> Self {
        let begins = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, at: 0, lines: std::iter::once(0).chain(begins).collect(), file, rank }
    }

    /// Octets read so far: to come back to with [`Self::go_to`].
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn go_to(&mut self, offset: usize) {
        self.at = offset;
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// What has been read since `from`.
    pub(super) fn since(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// Goes on by one character.
    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    pub(super) fn eat(&mut self, what: char) -> bool {
        let found = self.peek() == Some(what);
        self.at += if found { what.len_utf8() } else { 0 };
        found
    }

    /// Where the reading is.
    pub(super) fn here(&self) -> Position {
        self.position(self.at)
    }

    /// The place of an octet.
    pub(super) fn position(&self, octet: usize) -> Position {
        let line = self.lines.partition_point(|begin| *begin <= octet);
        let begin = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let column = self.text.get(begin..octet).unwrap_or_default().chars().count() + 1;
        Position { rank: self.rank, file: Arc::clone(self.file), line: line.max(1), column }
    }

    pub(super) fn fault(&self, at: Position, message: impl Into<String>) -> Mistake {
        Mistake { at, path: String::new(), message: message.into() }
    }

    /// `found …, expected …`, here.
    pub(super) fn unexpected(&self, expected: &str) -> Mistake {
        self.fault(self.here(), format!("found {}, expected {expected}", self.found()))
    }

    /// What stands here, for a report: a word, or a character. Where a template's quotes are not escaped, the word is a key.
    fn found(&self) -> String {
        let word: String = self.rest().chars().take_while(|each| is_word(*each)).take(40).collect();
        match (word.is_empty(), self.peek()) {
            (_, None) => "the end of the file".to_owned(),
            (_, Some('\n')) => "the end of the line".to_owned(),
            (true, Some(other)) => format!("\"{}\"", other.escape_default()),
            (false, _) => format!("\"{}\"", mask_keys(&word)),
        }
    }

    /// Goes past blanks, line ends and comments.
    pub(super) fn skip_blanks(&mut self) -> Result<(), Mistake> {
        loop {
            let rest = self.rest();
            if rest.starts_with("/*") {
                let end = rest.find("*/").ok_or_else(|| self.fault(self.here(), "found \"/*\" without its \"*/\""))?;
                self.at += end + 2;
            } else if rest.starts_with('#') {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("\\\n") {
                self.at += 2;
            } else if rest.starts_with(char::is_whitespace) {
                self.at += rest.len() - rest.trim_start().len();
            } else {
                return Ok(());
            }
        }
    }

    /// Goes past blanks of this line.
    pub(super) fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r')) || self.rest().starts_with("\\\n") {
            self.at += if self.rest().starts_with('\\') { 2 } else { 1 };
        }
    }

    /// The word here (letters, digits, `_`, `-`, `.`), which stays unread.
    pub(super) fn peek_word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|each| !is_word(each)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// Goes past `word`, in any case, where it stands here and ends.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.peek_word().eq_ignore_ascii_case(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Everything up to a blank.
    pub(super) fn run(&mut self) -> &'a str {
        let rest = self.rest();
        let run = rest.get(..rest.find(char::is_whitespace).unwrap_or(rest.len())).unwrap_or_default();
        self.at += run.len();
        run
    }

    /// The rest of the line, continued where it ends in a backslash.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        loop {
            let rest = self.rest();
            let part = rest.get(..rest.find('\n').unwrap_or(rest.len())).unwrap_or_default();
            self.at += part.len();
            let part = part.strip_suffix('\r').unwrap_or(part);
            let continued = part.strip_suffix('\\').filter(|_| !self.is_at_end());
            line.push_str(continued.unwrap_or(part));
            if continued.is_none() {
                return line;
            }
            self.at += 1;
        }
    }

    /// A text between quotes, which are `quote`; escapes stay in it.
    pub(super) fn quoted(&mut self, quote: char) -> Result<&'a str, Mistake> {
        let opening = self.here();
        if !self.eat(quote) {
            return Err(self.unexpected(&format!("{quote}")));
        }
        let from = self.at;
        while let Some(each) = self.next() {
            if each == '\\' {
                self.next();
            } else if each == quote {
                let text = self.text.get(from..self.at.saturating_sub(1)).unwrap_or_default();
                return match text.contains(char::REPLACEMENT_CHARACTER) {
                    true => Err(self.fault(opening, "found an octet in this text that is not UTF-8")),
                    false => Ok(text),
                };
            }
        }
        Err(self.fault(opening, format!("found {quote} without its closing {quote}")))
    }
}

fn is_word(each: char) -> bool {
    each.is_alphanumeric() || matches!(each, '_' | '-' | '.')
}
