//! What was found, for programs (serde) and for people.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// How a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As this configuration needs it.
    Ok,
    /// It cannot be read here, and is not guessed.
    Unreadable,
    /// It works, and would work better or for longer.
    Advice,
    /// Messages will be lost, or the relay will not start or not live.
    Problem,
}

/// One thing of the machine.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at: `receive_buffer`, `clock`, …
    pub subject: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was read.
    pub read: String,
    /// What this configuration wants, and why.
    pub wanted: String,
    /// Lines that change it, each whole; empty where nothing is to be changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// In an order that does not change.
    pub findings: Vec<Finding>,
    /// What is to be known besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Report {
    /// Findings of this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

impl Finding {
    pub(super) fn ok(subject: &'static str, read: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Ok, read: read.into(), wanted: wanted.into(), next: Vec::new() }
    }

    /// `what` could not be read.
    pub(super) fn unreadable(subject: &'static str, what: &str, wanted: impl Into<String>) -> Self {
        let read = format!("{what}: not readable here");
        Self { subject, verdict: Verdict::Unreadable, read, wanted: wanted.into(), next: Vec::new() }
    }

    /// The same, and to be changed.
    pub(super) fn but(self, verdict: Verdict, next: Vec<String>) -> Self {
        Self { verdict, next, ..self }
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| finding.fmt(out))?;
        self.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))
    }
}

impl Display for Finding {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Unreadable => "not readable here",
            Verdict::Advice => "advice",
            Verdict::Problem => "PROBLEM",
        };
        writeln!(out, "{}: {verdict}\n  {}\n  wanted: {}", self.subject.replace('_', " "), self.read, self.wanted)?;
        self.next.iter().try_for_each(|line| writeln!(out, "  next: {line}"))
    }
}
