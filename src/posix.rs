//! POSIX regular expressions (IEEE 1003.1 chapter 9, BRE and ERE as glibc reads them) in the syntax of the `regex` crate.
//!
//! Pure: no I/O, no waiting, no logging, no counting. Octets, no Unicode. Templates want the leftmost-longest match and
//! build on [`translate`]; a condition asks only whether there is a match, which is the same in both worlds: [`search`].

mod translate;

use regex::bytes::{Regex, RegexBuilder};

pub(crate) use translate::{Case, Translated, translate};

/// Which of the two POSIX grammars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Basic,
    Extended,
}

/// Why an expression is refused.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Octet offset into the expression.
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// What tells whether `expression` is found in a text; compiled, it takes at most `size_max` octets.
///
/// # Errors
/// What is wrong with the expression and where, or that it is too large.
pub(crate) fn search(expression: &[u8], dialect: Dialect, case: Case, size_max: usize) -> Result<Regex, Fault> {
    let Translated { pattern, .. } = translate(expression, dialect, case)?;
    RegexBuilder::new(&pattern)
        .unicode(false)
        .dot_matches_new_line(true)
        .case_insensitive(case == Case::Ignored)
        .size_limit(size_max)
        .build()
        .map_err(|error| {
            let message = match error {
                regex::Error::CompiledTooBig(limit) => {
                    format!("the regular expression takes more than {limit} octets when compiled")
                }
                error => format!("cannot use this regular expression: {error}"),
            };
            Fault { at: 0, message }
        })
}
