//! POSIX regular expressions, matched leftmost-longest.
//!
//! The expression is translated to the syntax of the `regex` crate ([`crate::posix`]). That crate prefers the first
//! alternative where POSIX wants the longest match; where the two can differ, a second automaton finds the end.

use std::sync::Arc;

use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::pool::Pool;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, nfa::thompson};

use crate::posix::{Case, Dialect, Fault, Translated, translate};

/// What Sekoia's own forwarder writes in every template: MSG without its leading blanks. Told apart because it is
/// common, and needs no automaton: it matches any value, and submatch 1 is what follows the blanks.
const TRIM_START: &[u8] = b"^[ \t]*(.*)$";

/// A compiled expression and the submatch that is wanted.
#[derive(Clone)]
pub(super) enum Posix {
    /// [`TRIM_START`], submatch 1.
    TrimStart,
    /// `.*(text.*)$`, submatch 1 (so does Sekoia's documentation find CEF): from the last `text` to the end.
    FromLast(Arc<memmem::FinderRev<'static>>),
    /// First alternative and longest match are the same.
    Plain { regex: Regex, submatch: usize },
    /// They may differ.
    Longest(Arc<Longest>),
}

/// What finds a leftmost-longest match, in three steps: the start, the longest end from there, the submatches between.
pub(super) struct Longest {
    leftmost: Regex,
    longest: DFA,
    caches: Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>>,
    /// The same expression, bound to the end of what it is given.
    whole: Regex,
    submatch: usize,
}

impl Posix {
    pub(super) fn new(expression: &[u8], dialect: Dialect, submatch: u8) -> Result<Self, Fault> {
        if expression == TRIM_START && dialect == Dialect::Extended && submatch == 1 {
            return Ok(Self::TrimStart);
        }
        if let (Dialect::Extended, 1, Some(text)) = (dialect, submatch, from_last(expression)) {
            return Ok(Self::FromLast(Arc::new(memmem::FinderRev::new(text).into_owned())));
        }
        let Translated { pattern, ambiguous } = translate(expression, dialect, Case::Kept)?;
        let submatch = usize::from(submatch);
        let regex = build(&pattern)?;
        if !ambiguous {
            return Ok(Self::Plain { regex, submatch });
        }
        let whole = build(&format!("(?:{pattern})\\z"))?;
        let longest = DFA::builder()
            .configure(DFA::config().match_kind(MatchKind::All).skip_cache_capacity_check(true))
            .syntax(syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true))
            .thompson(thompson::Config::new().utf8(false))
            .build(&pattern)
            .map_err(|error| Fault { at: 0, message: format!("cannot use this regular expression: {error}") })?;
        let for_caches = longest.clone();
        let caches: Box<dyn Fn() -> Cache + Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe> =
            Box::new(move || for_caches.create_cache());
        Ok(Self::Longest(Arc::new(Longest { leftmost: regex, longest, caches: Pool::new(caches), whole, submatch })))
    }

    /// Where the wanted submatch of match `number` (from 0) lies. As in rsyslog, each further match is sought as if the
    /// value began where the last one ended (`^` matches there).
    pub(super) fn find(&self, value: &[u8], number: u8) -> Found {
        let mut offset = 0;
        for _ in 0..number {
            let Some((_, end)) = self.whole_match(value.get(offset..).unwrap_or_default()) else {
                return Found::Nothing;
            };
            offset += end;
        }
        match self.submatch(value.get(offset..).unwrap_or_default()) {
            Found::At(start, end) => Found::At(offset + start, offset + end),
            found => found,
        }
    }

    fn whole_match(&self, value: &[u8]) -> Option<(usize, usize)> {
        match self {
            Self::TrimStart => Some((0, value.len())),
            Self::FromLast(text) => text.rfind(value).map(|_| (0, value.len())),
            Self::Plain { regex, .. } => regex.find(value).map(|found| (found.start(), found.end())),
            Self::Longest(longest) => longest.find(value),
        }
    }

    fn submatch(&self, value: &[u8]) -> Found {
        match self {
            Self::TrimStart => {
                let blanks = value.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
                Found::At(blanks, value.len())
            }
            Self::FromLast(text) => text.rfind(value).map_or(Found::Nothing, |start| Found::At(start, value.len())),
            Self::Plain { regex, submatch: 0 } => {
                regex.find(value).map_or(Found::Nothing, |found| Found::At(found.start(), found.end()))
            }
            Self::Plain { regex, submatch } => captured(regex, value, 0, *submatch),
            Self::Longest(longest) => match longest.find(value) {
                None => Found::Nothing,
                Some((start, end)) if longest.submatch == 0 => Found::At(start, end),
                Some((start, end)) => {
                    captured(&longest.whole, value.get(..end).unwrap_or(value), start, longest.submatch)
                }
            },
        }
    }
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    At(usize, usize),
    /// The expression matched, the wanted submatch took no part in it.
    NoSubmatch,
    Nothing,
}

impl Longest {
    fn find(&self, value: &[u8]) -> Option<(usize, usize)> {
        let first = self.leftmost.find(value)?;
        let mut cache = self.caches.get();
        let input = Input::new(value).range(first.start()..).anchored(Anchored::Yes);
        // The automaton gives up only on a cache that is thrashed: the first alternative's match is then the answer.
        let end = self.longest.try_search_fwd(&mut cache, &input).ok().flatten();
        Some((first.start(), end.map_or(first.end(), |half| half.offset())))
    }
}

/// The plain text in `.*(text.*)$`.
fn from_last(expression: &[u8]) -> Option<&[u8]> {
    let text = expression.strip_prefix(b".*(")?.strip_suffix(b".*)$")?;
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b' ' | b'_' | b'-' | b':' | b'=');
    (!text.is_empty() && text.iter().all(plain)).then_some(text)
}

fn build(pattern: &str) -> Result<Regex, Fault> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .dot_matches_new_line(true)
        .build()
        .map_err(|error| Fault { at: 0, message: format!("cannot use this regular expression: {error}") })
}

fn captured(regex: &Regex, value: &[u8], start: usize, submatch: usize) -> Found {
    let mut locations = regex.capture_locations();
    if regex.captures_read_at(&mut locations, value, start).is_none() {
        return Found::Nothing;
    }
    locations.get(submatch).map_or(Found::NoSubmatch, |(start, end)| Found::At(start, end))
}
