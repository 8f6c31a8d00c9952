//! Sets of facilities and severities, as the configuration writes them: `err..emerg`, `auth`, `16..23`, `*`.

use crate::syslog::{Facility, Severity};

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be suggested for the other.
const ALIKE_MIN: f64 = 0.75;

/// A set of facilities. The empty set is the absence of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FacilitySet(u32);

/// A set of severities. The empty set is the absence of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeveritySet(u8);

impl FacilitySet {
    /// All 24.
    pub const ALL: Self = Self((1 << 24) - 1);

    /// Reads a name, a number, a range of either (`local0..local7`, either way round) or `*`.
    ///
    /// # Errors
    /// What was found, what it may have been meant to be, and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let code = |name: &str| Facility::parse(name).map(Facility::code);
        let expected =
            "expected a name such as auth or local0, a number from 0 to 23, a range such as local0..local7, or *";
        Ok(match range(text, "facility", code, Facility::names(), expected)? {
            None => Self::ALL,
            Some((low, high)) => Self((low..=high).fold(0, |bits, code| bits | 1 << code)),
        })
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `facility` is in it.
    pub const fn contains(self, facility: Facility) -> bool {
        self.0 >> facility.code() & 1 == 1
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As a condition: whether it always holds.
    pub(super) const fn always_holds(self) -> bool {
        self.0 == 0 || self.0 == Self::ALL.0
    }

    /// As a condition: whether it holds for all that `other` holds for.
    pub(super) const fn covers(self, other: Self) -> bool {
        self.always_holds() || (other.0 != 0 && other.0 & !self.0 == 0)
    }
}

impl SeveritySet {
    /// All eight.
    pub const ALL: Self = Self(u8::MAX);

    /// Reads a name, a number, a range of either (`err..emerg`, either way round) or `*`.
    ///
    /// # Errors
    /// What was found, what it may have been meant to be, and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let code = |name: &str| Severity::parse(name).map(Severity::code);
        let expected = "expected a name such as err or warning, a number from 0 to 7, a range such as err..emerg, or *";
        Ok(match range(text, "severity", code, Severity::names(), expected)? {
            None => Self::ALL,
            Some((low, high)) => Self((low..=high).fold(0, |bits, code| bits | 1 << code)),
        })
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `severity` is in it.
    pub const fn contains(self, severity: Severity) -> bool {
        self.0 >> severity.code() & 1 == 1
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As a condition: whether it always holds.
    pub(super) const fn always_holds(self) -> bool {
        self.0 == 0 || self.0 == Self::ALL.0
    }

    /// As a condition: whether it holds for all that `other` holds for.
    pub(super) const fn covers(self, other: Self) -> bool {
        self.always_holds() || (other.0 != 0 && other.0 & !self.0 == 0)
    }
}

impl FromIterator<FacilitySet> for FacilitySet {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        sets.into_iter().fold(Self::default(), Self::union)
    }
}

impl FromIterator<SeveritySet> for SeveritySet {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        sets.into_iter().fold(Self::default(), Self::union)
    }
}

/// The lowest and the highest code that `text` names; `None` for `*`.
fn range(
    text: &str,
    noun: &str,
    code: impl Fn(&str) -> Option<u8>,
    names: &[&str],
    expected: &str,
) -> Result<Option<(u8, u8)>, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(None);
    }
    let code = |name: &str| {
        let name = name.trim();
        code(name).ok_or_else(|| {
            if name.is_empty() {
                return format!("\"{text}\" lacks a {noun}: {expected}");
            }
            let suggestion =
                suggest(name, names).map(|name| format!(" (did you mean \"{name}\"?)")).unwrap_or_default();
            format!("no {noun} \"{name}\"{suggestion}: {expected}")
        })
    };
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (code(first)?, code(last)?),
        None => (code(text)?, code(text)?),
    };
    Ok(Some((first.min(last), first.max(last))))
}

fn suggest<'n>(found: &str, names: &[&'n str]) -> Option<&'n str> {
    let found = found.to_lowercase();
    let alike = names.iter().map(|name| (strsim::jaro_winkler(&found, name), *name));
    alike.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(alike, _)| *alike >= ALIKE_MIN).map(|(_, name)| name)
}
