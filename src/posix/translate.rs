//! BRE and ERE, as glibc's `regcomp` reads them, to the syntax of the `regex` crate (octets, no Unicode).

use std::fmt::Write as _;

use super::{Dialect, Fault};

/// glibc's limit (RE_DUP_MAX) is 32767; automata of that size are not built here.
const REPEAT_MAX: u32 = 1000;
/// Repetitions of one thing behind each other (`a**`).
const STACK_MAX: usize = 10;
/// Groups within groups.
const DEPTH_MAX: usize = 50;

/// The translation.
pub(crate) struct Translated {
    pub(crate) pattern: String,
    /// First alternative and longest match may differ: there are alternatives, or repeated groups.
    pub(crate) ambiguous: bool,
}

/// Whether upper and lower case are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Kept,
    /// glibc's `REG_ICASE`: both the expression and the text are taken in upper case. The pattern is to be compiled
    /// without regard to case, too.
    Ignored,
}

/// Translates; a fault carries its offset.
pub(crate) fn translate(expression: &[u8], dialect: Dialect, case: Case) -> Result<Translated, Fault> {
    let extended = dialect == Dialect::Extended;
    let mut translator = Translator { text: expression, at: 0, extended, case, depth: 0, ambiguous: false };
    let mut pattern = String::with_capacity(expression.len() * 2);
    translator.alternatives(&mut pattern)?;
    Ok(Translated { pattern, ambiguous: translator.ambiguous })
}

struct Translator<'a> {
    text: &'a [u8],
    at: usize,
    extended: bool,
    case: Case,
    depth: usize,
    ambiguous: bool,
}

/// One token; what an octet means depends on the dialect and (BRE) on its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(u8),
    Any,
    Bracket,
    Open,
    Close,
    Or,
    Repeat(u8),
    OpenBrace,
    /// An assertion, in the target's syntax.
    Assert(&'static str),
    /// A class, in the target's syntax.
    Class(&'static str),
    BackReference,
    LoneBackslash,
}

impl Translator<'_> {
    fn octet(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn fault<T>(&self, at: usize, message: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { at, message: message.into() })
    }

    /// The token at the cursor and its length. `first`: `^` is an anchor here even in a BRE.
    fn peek(&self, first: bool) -> Option<(Token, usize)> {
        let octet = self.octet(0)?;
        let token = match octet {
            b'\\' => return Some(self.peek_escape()),
            b'.' => Token::Any,
            b'[' => Token::Bracket,
            b'*' => Token::Repeat(b'*'),
            b'^' if self.extended || first => Token::Assert("^"),
            b'$' if self.extended || self.dollar_ends() => Token::Assert("$"),
            b'(' if self.extended => Token::Open,
            // glibc takes a ) without a ( as an ordinary character.
            b')' if self.extended && self.depth > 0 => Token::Close,
            b'|' if self.extended => Token::Or,
            b'+' | b'?' if self.extended => Token::Repeat(octet),
            b'{' if self.extended => Token::OpenBrace,
            _ => Token::Literal(octet),
        };
        Some((token, 1))
    }

    fn peek_escape(&self) -> (Token, usize) {
        let Some(octet) = self.octet(1) else {
            return (Token::LoneBackslash, 1);
        };
        let basic = !self.extended;
        let token = match octet {
            b'(' if basic => Token::Open,
            b')' if basic => Token::Close,
            b'|' if basic => Token::Or,
            b'{' if basic => Token::OpenBrace,
            b'+' | b'?' if basic => Token::Repeat(octet),
            b'1'..=b'9' => Token::BackReference,
            b'w' => Token::Class(r"[0-9A-Za-z_]"),
            b'W' => Token::Class(r"[^0-9A-Za-z_]"),
            b's' => Token::Class(r"[\x09-\x0D\x20]"),
            b'S' => Token::Class(r"[^\x09-\x0D\x20]"),
            b'b' => Token::Assert(r"\b"),
            b'B' => Token::Assert(r"\B"),
            b'<' => Token::Assert(r"\b{start}"),
            b'>' => Token::Assert(r"\b{end}"),
            b'`' => Token::Assert(r"\A"),
            b'\'' => Token::Assert(r"\z"),
            // Among them \d, which glibc reads as "d".
            _ => Token::Literal(octet),
        };
        (token, 2)
    }

    /// BRE: `$` is an anchor at the end, before `\)` and before `\|`.
    fn dollar_ends(&self) -> bool {
        matches!((self.octet(1), self.octet(2)), (None, _) | (Some(b'\\'), Some(b')' | b'|')))
    }

    /// Alternatives up to the end or the closing parenthesis.
    fn alternatives(&mut self, out: &mut String) -> Result<(), Fault> {
        loop {
            self.sequence(out)?;
            match self.peek(false) {
                Some((Token::Or, len)) => {
                    self.at += len;
                    self.ambiguous = true;
                    out.push('|');
                }
                Some((Token::Close, _)) if self.depth == 0 => {
                    return self.fault(self.at, "a \\) without its \\( in the regular expression");
                }
                _ => return Ok(()),
            }
        }
    }

    fn sequence(&mut self, out: &mut String) -> Result<(), Fault> {
        let mut first = true;
        while let Some((token, len)) = self.peek(first) {
            if matches!(token, Token::Or | Token::Close) {
                return Ok(());
            }
            let at = self.at;
            let mut atom = String::new();
            let mut group = false;
            match token {
                Token::Assert(assertion) => {
                    self.at += len;
                    out.push_str(assertion);
                    first = false;
                    continue;
                }
                Token::Repeat(_) | Token::OpenBrace if self.extended => {
                    return self.fault(at, "nothing to repeat in the regular expression");
                }
                Token::OpenBrace => {
                    return self.fault(at, "nothing to repeat in the regular expression");
                }
                // BRE: an asterisk that has nothing before it is an asterisk.
                Token::Repeat(octet) => {
                    self.at += len;
                    literal(octet, &mut atom);
                }
                Token::Open => {
                    self.at += len;
                    self.group(at, &mut atom)?;
                    group = true;
                }
                _ => self.single(token, len, &mut atom)?,
            }
            first = false;
            self.repeats(group, &mut atom)?;
            out.push_str(&atom);
        }
        Ok(())
    }

    /// What stands for one octet.
    fn single(&mut self, token: Token, len: usize, atom: &mut String) -> Result<(), Fault> {
        let at = self.at;
        self.at += len;
        match token {
            Token::Literal(octet) => literal(octet, atom),
            Token::Any => atom.push('.'),
            Token::Class(class) => atom.push_str(class),
            Token::Bracket => self.bracket(at, atom)?,
            Token::BackReference => {
                return self.fault(at, "back-references (\\1 to \\9) are not supported in regular expressions");
            }
            _ => return self.fault(at, "the regular expression ends in a backslash"),
        }
        Ok(())
    }

    /// After the opening parenthesis.
    fn group(&mut self, at: usize, atom: &mut String) -> Result<(), Fault> {
        if self.depth >= DEPTH_MAX {
            return self.fault(at, format!("more than {DEPTH_MAX} groups within each other in the regular expression"));
        }
        self.depth += 1;
        atom.push('(');
        self.alternatives(atom)?;
        let Some((Token::Close, len)) = self.peek(false) else {
            return self.fault(at, "this group of the regular expression is not closed");
        };
        self.at += len;
        self.depth -= 1;
        atom.push(')');
        Ok(())
    }

    /// All repetitions after an atom.
    fn repeats(&mut self, group: bool, atom: &mut String) -> Result<(), Fault> {
        for repeated in 0.. {
            let suffix = match self.peek(false) {
                Some((Token::Repeat(b'*') | Token::OpenBrace, _)) if repeated > 0 && !self.extended => {
                    return self.fault(self.at, "a repetition of a repetition in a basic regular expression");
                }
                Some((Token::Repeat(octet), len)) => {
                    self.at += len;
                    char::from(octet).to_string()
                }
                Some((Token::OpenBrace, len)) => {
                    let at = self.at;
                    self.at += len;
                    self.interval(at)?
                }
                _ => return Ok(()),
            };
            if repeated >= STACK_MAX {
                return self.fault(self.at, format!("more than {STACK_MAX} repetitions behind each other"));
            }
            self.ambiguous |= group;
            // In its own group: "a*?" would be a lazy repetition.
            *atom = format!("(?:{atom}){suffix}");
        }
        Ok(())
    }

    /// After `{`: `m}`, `m,}`, `,n}` or `m,n}`.
    fn interval(&mut self, at: usize) -> Result<String, Fault> {
        let least = self.count(at)?;
        let comma = self.octet(0) == Some(b',');
        self.at += usize::from(comma);
        let most = if comma { self.count(at)? } else { least };
        let close: &[u8] = if self.extended { b"}" } else { b"\\}" };
        if !self.text.get(self.at..).unwrap_or_default().starts_with(close) || (least.is_none() && !comma) {
            return self.fault(at, "not a repetition: expected {m}, {m,} or {m,n} (BRE: with \\ before the braces)");
        }
        self.at += close.len();
        let least = least.unwrap_or(0);
        match most {
            None => Ok(format!("{{{least},}}")),
            Some(most) if most < least => {
                self.fault(at, format!("repetition {{{least},{most}}} is the wrong way round"))
            }
            Some(most) => Ok(format!("{{{least},{most}}}")),
        }
    }

    fn count(&mut self, at: usize) -> Result<Option<u32>, Fault> {
        let mut value = None;
        while let Some(digit) = self.octet(0).filter(u8::is_ascii_digit) {
            let next = value.unwrap_or(0) * 10 + u32::from(digit - b'0');
            if next > REPEAT_MAX {
                return self.fault(at, format!("repetition over {REPEAT_MAX} in the regular expression"));
            }
            value = Some(next);
            self.at += 1;
        }
        Ok(value)
    }

    /// After `[`.
    fn bracket(&mut self, at: usize, atom: &mut String) -> Result<(), Fault> {
        let negated = self.octet(0) == Some(b'^');
        self.at += usize::from(negated);
        let mut members = [false; 256];
        let mut first = true;
        loop {
            let Some(octet) = self.octet(0) else {
                return self.fault(at, "this bracket expression is not closed");
            };
            if octet == b']' && !first {
                self.at += 1;
                break;
            }
            if octet == b'-' && !first && self.octet(1) != Some(b']') {
                return self.fault(self.at, "a - that is no range belongs first or last in a bracket expression");
            }
            first = false;
            if octet == b'[' && self.octet(1) == Some(b':') {
                self.class(&mut members)?;
                continue;
            }
            let low_at = self.at;
            let low = self.member(at)?;
            let is_range = self.octet(0) == Some(b'-') && self.octet(1).is_some_and(|next| next != b']');
            let mut high = low;
            if is_range {
                self.at += 1;
                high = self.member(at)?;
            }
            if high < low {
                return self.fault(low_at, "the range in this bracket expression is the wrong way round");
            }
            members.iter_mut().take(usize::from(high) + 1).skip(usize::from(low)).for_each(|slot| *slot = true);
        }
        emit_set(&members, negated, self.case, atom);
        Ok(())
    }

    /// One character of a bracket expression: itself (a backslash too), `[.x.]` or `[=x=]`.
    fn member(&mut self, at: usize) -> Result<u8, Fault> {
        let octet = self.octet(0);
        if let (Some(b'['), Some(mark @ (b'.' | b'='))) = (octet, self.octet(1)) {
            let (Some(member), true) = (self.octet(2), self.octet(3) == Some(mark) && self.octet(4) == Some(b']'))
            else {
                return self.fault(self.at, "collating elements of more than one octet are not supported");
            };
            self.at += 5;
            return Ok(self.folded(member));
        }
        match octet {
            Some(octet) => {
                self.at += 1;
                Ok(self.folded(octet))
            }
            None => self.fault(at, "this bracket expression is not closed"),
        }
    }

    fn folded(&self, octet: u8) -> u8 {
        if self.case == Case::Ignored { octet.to_ascii_uppercase() } else { octet }
    }

    /// `[:name:]`, in the C locale.
    fn class(&mut self, members: &mut [bool; 256]) -> Result<(), Fault> {
        let at = self.at;
        let rest = self.text.get(at + 2..).unwrap_or_default();
        let Some(len) = memchr::memmem::find(rest, b":]") else {
            return self.fault(at, "this character class is not closed by :]");
        };
        let holds: fn(u8) -> bool = match rest.get(..len).unwrap_or_default() {
            b"alnum" => |octet| octet.is_ascii_alphanumeric(),
            b"alpha" => |octet| octet.is_ascii_alphabetic(),
            b"lower" | b"upper" if self.case == Case::Ignored => |octet| octet.is_ascii_alphabetic(),
            b"blank" => |octet| matches!(octet, b' ' | b'\t'),
            b"cntrl" => |octet| octet.is_ascii_control(),
            b"digit" => |octet| octet.is_ascii_digit(),
            b"graph" => |octet| octet.is_ascii_graphic(),
            b"lower" => |octet| octet.is_ascii_lowercase(),
            b"print" => |octet| octet == b' ' || octet.is_ascii_graphic(),
            b"punct" => |octet| octet.is_ascii_punctuation(),
            b"space" => |octet| matches!(octet, b' ' | 0x09..=0x0D),
            b"upper" => |octet| octet.is_ascii_uppercase(),
            b"xdigit" => |octet| octet.is_ascii_hexdigit(),
            name => {
                return self.fault(at, format!("unknown character class [:{}:]", String::from_utf8_lossy(name)));
            }
        };
        for (octet, slot) in (0..=u8::MAX).zip(members.iter_mut()) {
            *slot |= holds(octet);
        }
        self.at += len + 4;
        Ok(())
    }
}

/// An octet as itself; any that might mean something, as `\xHH`.
fn literal(octet: u8, out: &mut String) {
    if octet.is_ascii_alphanumeric() {
        out.push(char::from(octet));
    } else {
        // Writing to a String cannot fail.
        let _infallible = write!(out, "\\x{octet:02X}");
    }
}

/// A set of octets as a class.
fn emit_set(members: &[bool; 256], negated: bool, case: Case, out: &mut String) {
    out.push('[');
    let mut empty = true;
    for octet in 0..=u8::MAX {
        // All members are in upper case where case does not count.
        let looked_up = if case == Case::Ignored { octet.to_ascii_uppercase() } else { octet };
        if members.get(usize::from(looked_up)).is_some_and(|member| *member != negated) {
            empty = false;
            let _infallible = write!(out, "\\x{octet:02X}");
        }
    }
    if empty {
        // Only a negated set of everything gets here: nothing matches.
        out.push_str("^\\x00-\\xFF");
    }
    out.push(']');
}
