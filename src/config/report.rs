//! Mistakes: where, at which key, what was found and what was expected. All of them, in one report.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in a configuration file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Place of the file among the fragments: reports follow the order in which they were read.
    pub rank: usize,
    /// The file's name as the report shows it.
    pub file: Arc<str>,
    /// 0 where lines mean nothing to the reader (the environment).
    pub line: usize,
    /// 0 where `line` is.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => formatter.write_str(&self.file),
            line => write!(formatter, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// One mistake, or one warning. Never holds a secret: what came out of a variable is named, not shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where.
    pub at: Position,
    /// The key's path (`routes[2].output`); empty where the whole file is meant.
    pub path: String,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(formatter, "{}: {}", self.at, self.message),
            path => write!(formatter, "{}: {path}: {}", self.at, self.message),
        }
    }
}

/// Why a configuration is refused: every mistake in it, in the order of the files and of their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(Vec<Mistake>);

impl Report {
    /// Sorts and takes away repetitions.
    pub fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort();
        mistakes.dedup();
        Self(mistakes)
    }

    /// The mistakes, sorted.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Collects mistakes while the work goes on, and which files and folders it depended on.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(pub(crate) Vec<Mistake>, pub(crate) Vec<PathBuf>);

impl Mistakes {
    /// What this file or folder says is in the configuration.
    pub(crate) fn depends_on(&mut self, path: &Path) {
        if !self.1.iter().any(|known| known == path) {
            self.1.push(path.to_owned());
        }
    }

    pub(crate) fn add(&mut self, at: &Position, path: &impl fmt::Display, message: impl Into<String>) {
        let (path, message) = (on_one_line(path.to_string()), on_one_line(message.into()));
        self.0.push(Mistake { at: at.clone(), path, message });
    }
}

/// A mistake is one line, and what a file holds does not steer the terminal that shows it.
fn on_one_line(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    let escape = |each: char| if each.is_control() { each.escape_default().to_string() } else { each.to_string() };
    text.chars().map(escape).collect()
}

/// ` (did you mean "…"?)` where one of `known` is near, nothing otherwise.
pub(crate) fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(found, known).map(|name| format!(" (did you mean \"{name}\"?)")).unwrap_or_default()
}

/// The one of `known` that `found` may have been meant to be.
pub(crate) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Half of a short name may be wrong before another name is as good a guess; beyond three edits it is guessing.
    let near = (found.chars().count() / 2).clamp(1, 3);
    let found = found.to_lowercase();
    let distances = known.into_iter().map(|name| (strsim::osa_distance(&found, &name.to_lowercase()), name));
    distances.filter(|(distance, _)| *distance <= near).min().map(|(_, name)| name)
}
