//! Configurations of other programs, read as what they would be here: a tree like any other, whose values stand in their
//! files, and a note for each construct that has no equal.

use std::collections::{HashMap, HashSet};
use std::path::{Path as FilePath, PathBuf};

use super::report::{Mistakes, Position, Report};
use super::rsyslog;
use super::source::Source;
use super::tree::{Entry, Node, Value};

pub use yaml::Keys;

mod yaml;

/// What has become of a construct of another program's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reading {
    /// It has an equal here.
    Mapped,
    /// What it says has no meaning here, and nothing is missing without it.
    Meaningless,
    /// What it does is not done here.
    Unsupported,
}

impl Reading {
    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Mapped => "taken over",
            Self::Meaningless => "no meaning here",
            Self::Unsupported => "not supported",
        }
    }
}

/// What is to be said of one construct. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Where it stands.
    pub at: Position,
    /// What has become of it.
    pub reading: Reading,
    /// The construct, as its language calls it.
    pub construct: String,
    /// What it is here, or why it is nothing.
    pub message: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}: {}: {}", self.at, self.construct, self.reading.in_words(), self.message)
    }
}

/// What a foreign configuration is here.
pub(crate) struct Foreign {
    /// `inputs`, `outputs`, `routes`, and what else it gives.
    pub(crate) root: Node,
    /// In the order of the files and of their lines.
    pub(crate) notes: Vec<Note>,
}

/// Reads the foreign files that the tree (its `rsyslog:`) and the source name, and merges them into the tree.
///
/// `Err`: they cannot be read; why is in `mistakes`, and nothing else can be said then.
pub(crate) fn merge_all(tree: &mut Node, source: &Source, mistakes: &mut Mistakes) -> Result<Vec<Note>, ()> {
    let patterns = patterns(tree, source);
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let alone = !has_entries(tree, "inputs");
    let Foreign { root, mut notes } = rsyslog::read(&patterns, alone, mistakes)?;
    notes.extend(merge(tree, root));
    notes.sort();
    notes.dedup();
    if source.is_strict() {
        for note in notes.iter().filter(|note| note.reading == Reading::Unsupported) {
            mistakes.add(&note.at, &"", format!("{}: not supported: {}", note.construct, note.message));
        }
    }
    Ok(notes)
}

/// rsyslog's files as a YAML file of ours: its text, with a comment for all that has no equal, and the notes. The text
/// holds intake keys as they were found, or names variables in their place.
///
/// # Errors
/// Files that cannot be read, and mistakes of syntax.
pub fn import_rsyslog(files: &[PathBuf], keys: Keys) -> Result<(String, Vec<Note>), Report> {
    let patterns: Vec<(Position, PathBuf)> = files.iter().map(|path| (nowhere(path), path.clone())).collect();
    let mut mistakes = Mistakes::default();
    let read = rsyslog::read(&patterns, true, &mut mistakes);
    match read {
        Ok(mut foreign) if mistakes.0.is_empty() => {
            foreign.notes.sort();
            foreign.notes.dedup();
            Ok((yaml::write(&foreign, keys), foreign.notes))
        }
        _ => Err(Report::new(mistakes.0)),
    }
}

/// Paths or globs, and where they are named.
fn patterns(tree: &Node, source: &Source) -> Vec<(Position, PathBuf)> {
    let directory = source.directory();
    let named = tree.get("rsyslog").map(|node| match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    });
    let in_tree = named.unwrap_or_default().iter().filter_map(|node| match &node.value {
        Value::Scalar(scalar) if !scalar.text.is_empty() => Some((node.at.clone(), directory.join(&scalar.text))),
        // Another shape is reported with everything else.
        _ => None,
    });
    in_tree.chain(source.rsyslog_files().iter().map(|path| (nowhere(path), path.clone()))).collect()
}

/// A file that the command line names stands in no other.
fn nowhere(path: &FilePath) -> Position {
    Position { rank: rsyslog::RANK, file: path.display().to_string().into(), line: 0, column: 0 }
}

fn has_entries(tree: &Node, key: &str) -> bool {
    matches!(tree.get(key).map(|node| &node.value), Some(Value::Map(entries)) if !entries.is_empty())
}

/// Inputs and outputs are added, routes follow those that are there, names give way; of all else what is there stays.
fn merge(tree: &mut Node, foreign: Node) -> Vec<Note> {
    let mut notes = Vec::new();
    if matches!(tree.value, Value::Nothing) {
        tree.value = Value::Map(Vec::new());
    }
    let (Value::Map(here), Value::Map(mut there)) = (&mut tree.value, foreign.value) else { return notes };
    for key in ["inputs", "outputs"] {
        let renamed = rename(here, &mut there, key);
        let reference = key.trim_end_matches('s');
        for route in routes(&mut there) {
            refer(route, reference, &renamed);
        }
    }
    rename_routes(here, &mut there);
    for entry in there {
        let Some(first) = here.iter_mut().find(|first| first.key == entry.key) else {
            here.push(entry);
            continue;
        };
        match (&mut first.node.value, entry.node.value) {
            (Value::List(items), Value::List(more)) => items.extend(more),
            (Value::Map(entries), Value::Map(more)) if matches!(entry.key.as_str(), "inputs" | "outputs") => {
                entries.extend(more);
            }
            (Value::Nothing, value) => first.node.value = value,
            _ => notes.push(Note {
                at: entry.node.at,
                reading: Reading::Meaningless,
                construct: format!("what would be \"{}\"", entry.key),
                message: format!("{} says it already", first.key_at),
            }),
        }
    }
    notes
}

fn routes(entries: &mut [Entry]) -> &mut [Node] {
    match entries.iter_mut().find(|entry| entry.key == "routes").map(|entry| &mut entry.node.value) {
        Some(Value::List(routes)) => routes,
        _ => &mut [],
    }
}

/// Names of `key` in `there` that `here` has as well get a number; gives old and new.
fn rename(here: &[Entry], there: &mut [Entry], key: &str) -> HashMap<String, String> {
    let names = |entries: &[Entry]| -> HashSet<String> {
        match entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
            _ => HashSet::new(),
        }
    };
    let taken = names(here);
    let mut all: HashSet<String> = taken.union(&names(there)).cloned().collect();
    let mut renamed = HashMap::new();
    let mine = there.iter_mut().find(|entry| entry.key == key);
    if let Some(Value::Map(entries)) = mine.map(|entry| &mut entry.node.value) {
        for entry in entries.iter_mut().filter(|entry| taken.contains(&entry.key)) {
            let name = unique(&entry.key, &mut all);
            renamed.insert(std::mem::replace(&mut entry.key, name.clone()), name);
        }
    }
    renamed
}

fn rename_routes(here: &mut [Entry], there: &mut [Entry]) {
    let name = |route: &Node| match route.get("name").map(|node| &node.value) {
        Some(Value::Scalar(scalar)) => Some(scalar.text.clone()),
        _ => None,
    };
    let taken: HashSet<String> = routes(here).iter().filter_map(name).collect();
    let mut all: HashSet<String> = routes(there).iter().filter_map(name).chain(taken.iter().cloned()).collect();
    for route in routes(there) {
        if let Some(old) = name(route).filter(|name| taken.contains(name)) {
            refer(route, "name", &HashMap::from([(old.clone(), unique(&old, &mut all))]));
        }
    }
}

/// A name that `all` does not have yet, and from now on has.
pub(crate) fn unique(name: &str, all: &mut HashSet<String>) -> String {
    let mut unique = name.to_owned();
    // Ends: there are finitely many names, and each round tries another.
    let mut round = 2;
    while !all.insert(unique.clone()) {
        unique = format!("{name}-{round}");
        round += 1;
    }
    unique
}

fn refer(route: &mut Node, key: &str, renamed: &HashMap<String, String>) {
    let Value::Map(entries) = &mut route.value else { return };
    for entry in entries.iter_mut().filter(|entry| entry.key == key) {
        let each = |node: &mut Node| {
            if let Value::Scalar(scalar) = &mut node.value
                && let Some(name) = renamed.get(&scalar.text)
            {
                scalar.text.clone_from(name);
            }
        };
        match &mut entry.node.value {
            Value::List(items) => items.iter_mut().for_each(each),
            _ => each(&mut entry.node),
        }
    }
}
