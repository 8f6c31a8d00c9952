//! A program name or HOSTNAME to look for: exact, or a glob. Octets and their case count; nothing is decoded.

use std::fmt;

/// A name or a glob: `*` is any number of octets, `?` is one, `[a-z]` is one of a set (`[!a-z]` is one that is not in it),
/// and `\` takes the next character as it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    text: String,
    pattern: Pattern,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pattern {
    Exact(Vec<u8>),
    Glob(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Token {
    Octet(u8),
    One,
    Many,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Name {
    /// Reads a name or glob. An empty name is one: the program name of a message that has none.
    ///
    /// # Errors
    /// What is wrong with the glob, and where it is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            rest = after;
            let token = match first {
                b'*' => Token::Many,
                b'?' => Token::One,
                b'[' => class(text, &mut rest)?,
                b'\\' => {
                    let [escaped, after @ ..] = rest else {
                        return Err(format!("the `\\` at the end of \"{text}\" has nothing to escape (write `\\\\`)"));
                    };
                    rest = after;
                    Token::Octet(*escaped)
                }
                octet => Token::Octet(*octet),
            };
            // `**` means no more than `*`, and would cost more.
            if token != Token::Many || tokens.last() != Some(&Token::Many) {
                tokens.push(token);
            }
        }
        let exact = |token: &Token| if let Token::Octet(octet) = token { Some(*octet) } else { None };
        let pattern = match tokens.iter().map(exact).collect::<Option<Vec<u8>>>() {
            Some(octets) => Pattern::Exact(octets),
            None => Pattern::Glob(tokens),
        };
        Ok(Self { text: text.to_owned(), pattern })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `name` is this one, or one of these.
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.pattern {
            Pattern::Exact(octets) => octets == name,
            Pattern::Glob(tokens) => glob_matches(tokens, name),
        }
    }

    /// Whether this surely matches all that `other` matches. `false` where that takes more than a look.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (&self.pattern, &other.pattern) {
            (_, Pattern::Exact(octets)) => self.matches(octets),
            (Pattern::Exact(_), Pattern::Glob(_)) => false,
            (Pattern::Glob(ours), Pattern::Glob(theirs)) => match ours.as_slice() {
                [prefix @ .., Token::Many] => theirs.starts_with(prefix),
                _ => ours == theirs,
            },
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Name({:?})", self.text)
    }
}

/// Reads a class; `rest` is what follows its `[`, and moves behind its `]`.
fn class(text: &str, rest: &mut &[u8]) -> Result<Token, String> {
    let unclosed = || format!("the `[` in \"{text}\" has no `]` (a `[` that is meant as such is written `\\[`)");
    let negated = matches!(rest, [b'!' | b'^', ..]);
    if let [_, after @ ..] = *rest
        && negated
    {
        *rest = after;
    }
    let mut ranges = Vec::new();
    loop {
        // A `]` that comes first is a member.
        let (low, high) = match *rest {
            [b']', after @ ..] if !ranges.is_empty() => {
                *rest = after;
                return Ok(Token::Class { negated, ranges });
            }
            [low, b'-', high, after @ ..] if *high != b']' => {
                *rest = after;
                (*low, *high)
            }
            [octet, after @ ..] => {
                *rest = after;
                (*octet, *octet)
            }
            [] => return Err(unclosed()),
        };
        if !(low.is_ascii() && high.is_ascii()) {
            return Err(format!(
                "the `[…]` in \"{text}\" has a character that is not ASCII, which is more than one octet"
            ));
        }
        if low > high {
            let (low, high) = (char::from(low), char::from(high));
            return Err(format!("the range `{low}-{high}` in \"{text}\" is the wrong way round"));
        }
        ranges.push((low, high));
    }
}

/// Backtracks to the last `*` only, so the time is at most the product of both lengths.
fn glob_matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut tokens, mut name) = (tokens, name);
    // Where to go on when the octets after the last `*` do not match: it takes one octet more.
    let mut retry: Option<(&[Token], &[u8])> = None;
    loop {
        match (tokens, name) {
            ([], []) => return true,
            ([Token::Many, after @ ..], _) => {
                retry = Some((after, name));
                tokens = after;
                continue;
            }
            ([token, after @ ..], [octet, rest @ ..]) if token.takes(*octet) => {
                (tokens, name) = (after, rest);
                continue;
            }
            _ => {}
        }
        let Some((after, [_, longer @ ..])) = retry else { return false };
        retry = Some((after, longer));
        (tokens, name) = (after, longer);
    }
}

impl Token {
    fn takes(&self, octet: u8) -> bool {
        match self {
            Self::Octet(wanted) => *wanted == octet,
            Self::One | Self::Many => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&octet)) != *negated
            }
        }
    }
}
