//! Text to tokens, as rsyslog's lexer cuts an expression (grammar/lexer.l, state EXPR): keywords and names in any case.

use super::ExpressionError;
use super::node::Operator;

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Octets of the text.
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Close,
    OpenArray,
    CloseArray,
    Comma,
    Minus,
    And,
    Or,
    Not,
    Compare(Operator),
    Number(i64),
    Text(Vec<u8>),
    /// Behind the `$`.
    Variable(String),
    /// A function's name, or what is taken for one.
    Word(String),
    End,
}

/// Words that compare. `isequal` is an operator of rsyslog's property filters; Sekoia's documentation writes it in `if`.
const WORDS: &[(&str, Kind)] = &[
    ("and", Kind::And),
    ("or", Kind::Or),
    ("not", Kind::Not),
    ("contains", Kind::Compare(Operator::Contains)),
    ("contains_i", Kind::Compare(Operator::ContainsAnyCase)),
    ("startswith", Kind::Compare(Operator::StartsWith)),
    ("startswith_i", Kind::Compare(Operator::StartsWithAnyCase)),
    ("endswith", Kind::Compare(Operator::EndsWith)),
    ("isequal", Kind::Compare(Operator::Equal)),
];

/// The words that may stand between two values.
pub(super) fn operator_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(word, _)| *word).filter(|word| *word != "not")
}

/// Cuts `text`; the last token is [`Kind::End`].
///
/// # Errors
/// The first character that cannot be part of an expression.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ExpressionError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let start = lexer.at;
        let kind = lexer.token()?;
        let is_last = kind == Kind::End;
        tokens.push(Token { kind, start, end: lexer.at });
        if is_last {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl Lexer<'_> {
    fn octet(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Blanks and `/* comments */`.
    fn skip_blanks(&mut self) -> Result<(), ExpressionError> {
        loop {
            match (self.octet(0), self.octet(1)) {
                (Some(b' ' | b'\t' | b'\n' | b'\r'), _) => self.at += 1,
                (Some(b'/'), Some(b'*')) => {
                    let Some(len) = memchr::memmem::find(self.rest(), b"*/") else {
                        return ExpressionError::at(self.at, "this comment is not closed by `*/`");
                    };
                    self.at += len + 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn token(&mut self) -> Result<Kind, ExpressionError> {
        let start = self.at;
        let (kind, len) = match (self.octet(0), self.octet(1)) {
            (None, _) => (Kind::End, 0),
            (Some(b'('), _) => (Kind::Open, 1),
            (Some(b')'), _) => (Kind::Close, 1),
            (Some(b'['), _) => (Kind::OpenArray, 1),
            (Some(b']'), _) => (Kind::CloseArray, 1),
            (Some(b','), _) => (Kind::Comma, 1),
            (Some(b'-'), _) => (Kind::Minus, 1),
            (Some(b'='), Some(b'=')) => (Kind::Compare(Operator::Equal), 2),
            (Some(b'!'), Some(b'=')) | (Some(b'<'), Some(b'>')) => (Kind::Compare(Operator::NotEqual), 2),
            (Some(b'<'), Some(b'=')) => (Kind::Compare(Operator::LessOrEqual), 2),
            (Some(b'>'), Some(b'=')) => (Kind::Compare(Operator::GreaterOrEqual), 2),
            (Some(b'<'), _) => (Kind::Compare(Operator::Less), 1),
            (Some(b'>'), _) => (Kind::Compare(Operator::Greater), 1),
            (Some(quote @ (b'"' | b'\'')), _) => return self.quoted(quote),
            (Some(b'$'), _) => return Ok(self.variable()),
            (Some(b'0'..=b'9'), _) => return self.number(),
            (Some(octet), _) if octet.is_ascii_alphabetic() => return Ok(self.word()),
            _ => return self.stranger(start),
        };
        self.at += len;
        Ok(kind)
    }

    /// Octets from the cursor on that `takes` takes.
    fn run(&mut self, takes: impl Fn(u8) -> bool) -> &str {
        let start = self.at;
        self.at += self.rest().iter().take_while(|octet| takes(**octet)).count();
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// `$`, then `!`, `.`, `/` or another `$`, then a name.
    fn variable(&mut self) -> Kind {
        let start = self.at + 1;
        self.at = start;
        if matches!(self.octet(0), Some(b'$' | b'!' | b'.' | b'/')) {
            self.at += 1;
        }
        self.run(|octet| octet.is_ascii_alphanumeric() || b"!@-_.[]".contains(&octet));
        Kind::Variable(self.text.get(start..self.at).unwrap_or_default().to_owned())
    }

    fn word(&mut self) -> Kind {
        let word = self.run(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
        let known = WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        known.map_or_else(|| Kind::Word(word.to_owned()), |(_, kind)| kind.clone())
    }

    /// Decimal; octal with a leading 0; hexadecimal with `0x`. Beyond 64 bits it is the largest number, as in C.
    fn number(&mut self) -> Result<Kind, ExpressionError> {
        let start = self.at;
        let word = self.run(|octet| octet.is_ascii_alphanumeric());
        let lower = word.to_ascii_lowercase();
        let (digits, radix) = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
            (Some(digits), _) => (digits, 16),
            (None, Some(digits)) if !digits.is_empty() => (digits, 8),
            _ => (lower.as_str(), 10),
        };
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
            let hint = if radix == 8 { " (a leading 0 makes it octal)" } else { "" };
            return ExpressionError::at(start, format!("`{word}` is no number{hint}: texts are written in quotes"));
        }
        Ok(Kind::Number(i64::from_str_radix(digits, radix).unwrap_or(i64::MAX)))
    }

    /// A text in quotes. In double quotes a `$` needs a backslash.
    fn quoted(&mut self, quote: u8) -> Result<Kind, ExpressionError> {
        let start = self.at;
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.octet(0) {
                None => {
                    let quote = char::from(quote);
                    return ExpressionError::at(start, format!("the text that begins here has no closing {quote}"));
                }
                Some(octet) if octet == quote => {
                    self.at += 1;
                    return Ok(Kind::Text(text));
                }
                Some(b'$') if quote == b'"' => {
                    let message = "a `$` in double quotes is written `\\$` (in single quotes it stands for itself)";
                    return ExpressionError::at(self.at, message);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(octet) => {
                    self.at += 1;
                    text.push(octet);
                }
            }
        }
    }

    /// After a backslash: a quote, `\`, `$`, `b`, `n`, `t`, `r`, three octal digits, or `x` and two hexadecimal ones.
    fn escape(&mut self) -> Result<u8, ExpressionError> {
        let start = self.at;
        let numeric = |from: usize, to: usize, radix| {
            let digits = self.text.get(start + from..start + to)?;
            let all_digits = digits.chars().all(|digit| digit.is_digit(radix));
            // "\400" and above wrap round, as a C char does.
            u16::from_str_radix(digits, radix).ok().filter(|_| all_digits).map(|number| (number & 0xFF) as u8)
        };
        let (octet, len) = match self.octet(1) {
            Some(octet @ (b'"' | b'\'' | b'\\' | b'$')) => (Some(octet), 2),
            Some(b'b') => (Some(0x08), 2),
            Some(b'n') => (Some(b'\n'), 2),
            Some(b't') => (Some(b'\t'), 2),
            Some(b'r') => (Some(b'\r'), 2),
            Some(b'x' | b'X') => (numeric(2, 4, 16), 4),
            Some(b'0'..=b'7') => (numeric(1, 4, 8), 4),
            _ => (None, 0),
        };
        match octet {
            Some(0) => ExpressionError::at(start, "a NUL cannot be in a text: no message has one"),
            Some(octet) => {
                self.at += len;
                Ok(octet)
            }
            None => ExpressionError::at(
                start,
                "not an escape: expected \\\\, \\\", \\', \\$, \\n, \\t, \\r, \\b, \\x and two hexadecimal digits or \\ \
                 and three octal digits (a backslash of a regular expression is written `\\\\`)",
            ),
        }
    }

    /// What cannot begin a token; with what it may have been meant to be.
    fn stranger(&self, at: usize) -> Result<Kind, ExpressionError> {
        let rest = self.text.get(at..).unwrap_or_default();
        let message = match rest.chars().next().unwrap_or_default() {
            '=' => "`=` compares nothing: expected `==`".to_owned(),
            '!' => "`!` is not of this language: expected `not`, or `!=`".to_owned(),
            '&' if rest.starts_with("&&") => "`&&` is not of this language: expected `and`".to_owned(),
            '|' if rest.starts_with("||") => "`||` is not of this language: expected `or`".to_owned(),
            '`' => "texts in backticks are not supported: write ${VARIABLE} in the configuration instead".to_owned(),
            character @ ('+' | '*' | '/' | '%' | '&') => {
                format!("`{character}`: arithmetic and joining of texts are not supported in conditions")
            }
            ';' => "a condition ends without `;`".to_owned(),
            other => format!("`{other}` cannot stand here: texts are written in quotes"),
        };
        ExpressionError::at(at, message)
    }
}
