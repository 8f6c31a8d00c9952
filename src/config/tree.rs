//! A YAML document as a tree that knows where each of its values stands.
//!
//! Made from parser events, because a tree made by a YAML library has forgotten positions and takes the last of two
//! equal keys without a word. Every dimension is bounded: octets, nodes (aliases counted as what they expand to), depth.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::path::Path;
use super::report::{Mistake, Mistakes, Position};

/// The deepest key (`routes[0].not.message[0].regex`) needs 7; the rest is room for a mistake to be reported as what it is.
const DEPTH_MAX: usize = 32;

/// Values of one file, aliases expanded: 2,000 routes of 10 values with room. A bomb of aliases ends here.
const NODES_MAX: usize = 50_000;

/// A text counts as one value more for each so many octets, so that aliases of a long text are bounded as well (12 MiB).
const OCTETS_PER_NODE: usize = 256;

/// A value and its place.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// The first character of the value.
    pub(crate) at: Position,
    /// The value.
    pub(crate) value: Value,
}

/// What a value can be.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing after the colon, `~` or `null`.
    Nothing,
    /// A number, word or text: all are text until the schema says otherwise.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order, without duplicates.
    Map(Vec<Entry>),
}

/// One scalar's text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    /// Variables expanded.
    pub(crate) text: String,
    /// Variables whose values are in `text`: a report names them and does not show the text.
    pub(crate) variables: Vec<String>,
    /// It begins and ends in one line of the file. A text that does not may be a quote that was never closed, with
    /// anything in it.
    pub(crate) one_line: bool,
    /// Column of the text's first octet where the text stands in one line of the file exactly as it is here.
    pub(crate) text_column: Option<usize>,
}

/// A key and its value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: String,
    /// The key's first character.
    pub(crate) key_at: Position,
    /// Its value.
    pub(crate) node: Node,
}

impl Node {
    /// A text that stands at `at` in a file of another kind: a report says where, and names no column inside it.
    pub(crate) fn text(at: &Position, text: impl Into<String>) -> Self {
        let scalar = Scalar { text: text.into(), variables: Vec::new(), one_line: true, text_column: None };
        Self { at: at.clone(), value: Value::Scalar(scalar) }
    }

    /// A list.
    pub(crate) fn list(at: &Position, items: Vec<Self>) -> Self {
        Self { at: at.clone(), value: Value::List(items) }
    }

    /// An empty map; see [`Self::set`].
    pub(crate) fn map(at: &Position) -> Self {
        Self { at: at.clone(), value: Value::Map(Vec::new()) }
    }

    /// Adds an entry to a map that has no such key yet; its key stands where its value does.
    pub(crate) fn set(&mut self, key: impl Into<String>, node: Self) {
        if let Value::Map(entries) = &mut self.value {
            entries.push(Entry { key: key.into(), key_at: node.at.clone(), node });
        }
    }

    /// Tells where this value and all below it stand.
    pub(crate) fn for_each_place(&self, tell: &mut impl FnMut(&Position)) {
        tell(&self.at);
        match &self.value {
            Value::Nothing | Value::Scalar(_) => {}
            Value::List(items) => items.iter().for_each(|item| item.for_each_place(tell)),
            Value::Map(entries) => entries.iter().for_each(|entry| entry.node.for_each_place(tell)),
        }
    }

    /// What a report calls it. Does not show scalars: a key in the wrong place is still a key.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Nothing => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The value of `key`, where this is a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// Values in this tree, itself included.
    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Nothing => 0,
            Value::Scalar(scalar) => scalar.text.len() / OCTETS_PER_NODE,
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.count()).sum(),
        }
    }
}

impl fmt::Debug for Node {
    /// The place only: values may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Node({} at {})", self.kind(), self.at)
    }
}

/// Reads one document. `Err`: the syntax is wrong, or a bound was passed; nothing else can be said then.
/// Duplicate keys are added to `mistakes`, the first of them stays.
pub(crate) fn read(text: &str, file: &Arc<str>, rank: usize, mistakes: &mut Mistakes) -> Result<Node, Mistake> {
    // A byte order mark is an editor's habit, no part of the configuration.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        lines: text.lines().collect(),
        file,
        rank,
        anchors: HashMap::new(),
        nodes: 0,
        one_line: true,
        mistakes,
    };
    reader.document()
}

struct Reader<'a, 'm> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    lines: Vec<&'a str>,
    file: &'a Arc<str>,
    rank: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// The last event began and ended in one line.
    one_line: bool,
    mistakes: &'m mut Mistakes,
}

impl<'a> Reader<'a, '_> {
    fn document(&mut self) -> Result<Node, Mistake> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                _ if root.is_some() => return Err(self.fault(at, "found a second document, expected one in a file")),
                event => root = Some(self.node(event, at, &Path::root())?),
            }
        }
        Ok(root.unwrap_or_else(|| Node { at: self.position(1, 1), value: Value::Nothing }))
    }

    fn next(&mut self) -> Result<(Event<'a>, Position), Mistake> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.one_line = span.start.line() == span.end.line();
                Ok((event, self.place(&span.start)))
            }
            Some(Err(error)) => Err(self.fault(self.place(error.marker()), &format!("not YAML: {}", error.info()))),
            None => Ok((Event::StreamEnd, self.position(1, 1))),
        }
    }

    fn node(&mut self, event: Event<'a>, at: Position, path: &Path) -> Result<Node, Mistake> {
        self.count(1, &at)?;
        if path.depth() > DEPTH_MAX {
            return Err(self.fault(at, &format!("nested deeper than {DEPTH_MAX} levels")));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &at)?;
                let value = self.scalar(&text, style, &at);
                Ok(self.anchored(anchor, Node { at, value }))
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &at)?;
                let value = Value::List(self.list(path)?);
                Ok(self.anchored(anchor, Node { at, value }))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &at)?;
                let value = Value::Map(self.map(path)?);
                Ok(self.anchored(anchor, Node { at, value }))
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| self.fault(at.clone(), "an alias inside of what it stands for"))?;
                self.count(node.count(), &at)?;
                Ok(Node { at, ..node })
            }
            _ => Err(self.fault(at, "not YAML: a value is missing")),
        }
    }

    fn list(&mut self, path: &Path) -> Result<Vec<Node>, Mistake> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, at) => items.push(self.node(event, at, &path.index(items.len()))?),
            }
        }
    }

    fn map(&mut self, path: &Path) -> Result<Vec<Entry>, Mistake> {
        let mut entries = Vec::new();
        let mut places: HashMap<String, Position> = HashMap::new();
        loop {
            let (event, key_at) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(entries),
                next => next,
            };
            let Event::Scalar(key, ..) = event else {
                return Err(self.fault(key_at, "found a list or a map as a key, expected a single word"));
            };
            let (event, at) = self.next()?;
            let node = self.node(event, at, &path.key(&key))?;
            if let Some(first) = places.get(key.as_ref()) {
                let message = format!("found this key a second time; the first is at {first}");
                self.mistakes.add(&key_at, &path.key(&key), message);
                continue;
            }
            places.insert(key.to_string(), key_at.clone());
            entries.push(Entry { key: key.into_owned(), key_at, node });
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, at: &Position) -> Value {
        if style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Value::Nothing;
        }
        let quote = usize::from(matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted));
        let column = at.column + quote;
        let line = self.lines.get(at.line.saturating_sub(1)).copied().unwrap_or_default();
        let here = line.char_indices().nth(column.saturating_sub(1)).and_then(|(octet, _)| line.get(octet..));
        let as_it_is = here.is_some_and(|here| here.starts_with(text));
        Value::Scalar(Scalar {
            text: text.to_owned(),
            variables: Vec::new(),
            one_line: self.one_line,
            text_column: as_it_is.then_some(column),
        })
    }

    fn anchored(&mut self, anchor: usize, node: Node) -> Node {
        // 0 means that there is none.
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        node
    }

    fn refuse_tag(&self, tag: Option<&Tag>, at: &Position) -> Result<(), Mistake> {
        match tag {
            None => Ok(()),
            Some(tag) if tag.is_yaml_core_schema() => Ok(()),
            Some(_) => Err(self.fault(at.clone(), "found a tag (\"!…\"), expected a plain value")),
        }
    }

    fn count(&mut self, nodes: usize, at: &Position) -> Result<(), Mistake> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return Err(self.fault(at.clone(), &format!("more than {NODES_MAX} values, aliases expanded")));
        }
        Ok(())
    }

    fn fault(&self, at: Position, message: &str) -> Mistake {
        Mistake { at, path: String::new(), message: message.to_owned() }
    }

    fn place(&self, marker: &Marker) -> Position {
        self.position(marker.line(), marker.col() + 1)
    }

    fn position(&self, line: usize, column: usize) -> Position {
        Position { rank: self.rank, file: Arc::clone(self.file), line, column }
    }
}
