//! Conditions in rsyslog's language, RainerScript: text to a compiled expression, and what that makes of a message.
//!
//! Pure: no I/O, no waiting, no logging, no counting. What an expression means is what rsyslog 8.2302 makes of it in
//! `if … then`: grammar/grammar.y, grammar/lexer.l and cnfexprEval in grammar/rainerscript.c; docs/COMPATIBILITY.md lists the
//! differences. Evaluating allocates nothing, and cannot fail.
//!
//! *Who writes conditions* (the importer of rsyslog's files) has, besides all that `if` takes: `isequal` as `==`, `endswith`,
//! and `re_match_bre(value, 'BRE')` for a property filter's `regex`; `ereregex` is `re_match`, and `isempty` is
//! `value == ''`. `not` binds tighter than comparisons, and `and` no tighter than `or`: parentheses around each part.
//! Texts go through [`quoted`].
//!
//! *Who explains them* asks [`Expression::explain`]: each part with its text, what it gives, and whether it was asked at all.

mod lexer;
mod node;
mod parse;
mod priorities;
mod property;
mod suggest;
#[cfg(test)]
mod tests;
mod trace;

use std::sync::Arc;

use super::view::View;
use crate::syslog::Message;
use node::{Kind, Node, Program};

pub use trace::Step;

/// Octets of an expression.
const TEXT_LEN_MAX: usize = 65_536;

/// Conditions within each other: what is deeper would take a stack that nobody has measured.
const DEPTH_MAX: usize = 64;

/// A compiled regular expression may take this much memory: a hundred times what the usual one takes.
const REGEX_SIZE_MAX: usize = 2 << 20;

/// A compiled condition. Cheap to clone.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    text: String,
    root: Node,
    /// Where the root is an `and`: which of its parts ask for more than the program name.
    beyond_program: Option<Vec<usize>>,
    warnings: Vec<Warning>,
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at octet {at}: {message}")]
pub struct ExpressionError {
    /// Octet offset into the expression's text.
    pub at: usize,
    /// What is wrong and what was expected, with a suggestion where a name is close.
    pub message: String,
}

impl ExpressionError {
    fn at<T>(at: usize, message: impl Into<String>) -> Result<T, Self> {
        Err(Self { at, message: message.into() })
    }
}

/// What is allowed, and likely not what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Octet offset into the expression's text.
    pub at: usize,
    /// What it means.
    pub message: String,
}

impl Expression {
    /// Compiles what stands between rsyslog's `if` and `then`.
    ///
    /// # Errors
    /// The first mistake: syntax, names, regular expressions, selectors, sizes (64 KiB of text, 64 parts within each
    /// other, 2 MiB for each compiled regular expression).
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > TEXT_LEN_MAX {
            return ExpressionError::at(TEXT_LEN_MAX, format!("a condition of more than {TEXT_LEN_MAX} octets"));
        }
        let (root, warnings) = parse::parse(text)?;
        let beyond_program = match &root.kind {
            Kind::All(nodes) => {
                let beyond = |(index, node): (usize, &Node)| (!node.is_by_program_only()).then_some(index);
                Some(nodes.iter().enumerate().filter_map(beyond).collect())
            }
            _ => None,
        };
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), root, beyond_program, warnings })))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// What is allowed, and likely not what was meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.0.warnings
    }

    /// Whether it holds for `message`.
    pub fn matches(&self, message: &Message<'_>) -> bool {
        self.holds(&View::new(message))
    }

    /// Each part of it, from the whole to the smallest, with what it gives for `message`. Not for the hot path.
    pub fn explain(&self, message: &Message<'_>) -> Vec<Step<'_>> {
        trace::steps(&self.0.root, &self.0.text, &View::new(message))
    }

    pub(super) fn holds(&self, view: &View<'_>) -> bool {
        // With a message, all is known.
        self.0.root.holds(view).unwrap_or_default()
    }

    /// Whether it holds for all messages of that program (`true`) or for none (`false`); `None` where that depends on more.
    pub(super) fn holds_for_program(&self, program: &[u8]) -> Option<bool> {
        self.0.root.holds(&Program(program))
    }

    /// The same as [`Self::holds`], for a message whose program [does not exclude it](Self::holds_for_program).
    pub(super) fn holds_beyond_program(&self, view: &View<'_>) -> bool {
        match (&self.0.root.kind, &self.0.beyond_program) {
            (Kind::All(nodes), Some(beyond)) => {
                beyond.iter().filter_map(|index| nodes.get(*index)).all(|node| node.holds(view).unwrap_or_default())
            }
            _ => self.holds(view),
        }
    }
}

/// `text` as a literal of this language. Control characters and what is not ASCII stay as they are, as rsyslog has it.
pub fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for character in text.chars() {
        if matches!(character, '\'' | '\\') {
            literal.push('\\');
        }
        literal.push(character);
    }
    literal.push('\'');
    literal
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Expression({:?})", self.0.text)
    }
}

impl PartialEq for Expression {
    /// By their text.
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Expression {}
