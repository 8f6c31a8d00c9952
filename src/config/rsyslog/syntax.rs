//! What rsyslog's configuration language is made of: statements, each with its place. Nothing is given a meaning here.

use crate::config::report::Position;

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Its first character.
    pub(super) at: Position,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a statement can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// `$Name value`, one line.
    Directive { name: String, value: String },
    /// `module(…)`, `action(…)`, `ruleset(…) {…}`.
    Object(Object),
    /// `if … then … else …`
    If { condition: String, then: Vec<Statement>, otherwise: Vec<Statement> },
    /// `auth,authpriv.*` and what is done then.
    Selector { text: String, then: Vec<Statement> },
    /// `:property, [!]operation, "value"` and what is done then.
    Property { filter: PropertyFilter, then: Vec<Statement> },
    /// `{ … }`, or several actions joined by `&`.
    Block(Vec<Statement>),
    /// An action in one word: `@@host:port;Template`, `/file`, `:omusrmsg:*`.
    Legacy(String),
    /// `stop` or `~`.
    Stop,
    /// `call NAME`
    Call(String),
    /// `set $.x = …;`
    Set { variable: String, value: String },
    /// What rsyslog knows and we do not: `foreach`, `unset`, `reset`, `call_indirect`.
    Other { what: String },
}

/// `name(parameter="value" …)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// In small letters.
    pub(super) name: String,
    /// As they stand.
    pub(super) params: Vec<Param>,
    /// A ruleset's statements, a list template's parts.
    pub(super) body: Option<Vec<Statement>>,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Param {
    /// In small letters.
    pub(super) name: String,
    /// Its first character.
    pub(super) at: Position,
    /// One, or those of `["…", "…"]`; escapes are still in them.
    pub(super) values: Vec<String>,
}

/// `:msg, !contains, "x"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PropertyFilter {
    /// Without the colon.
    pub(super) property: String,
    /// `!` stood before the operation.
    pub(super) negated: bool,
    /// In small letters.
    pub(super) operation: String,
    /// Escapes undone; nothing with `isempty`.
    pub(super) value: String,
}

impl Object {
    /// The parameter of that name; of two the last, as rsyslog has it.
    pub(super) fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().rev().find(|param| param.name == name)
    }

    /// `config.enabled="off"` turns it off.
    pub(super) fn is_enabled(&self) -> bool {
        self.text("config.enabled").is_none_or(|value| super::globals::is_on(&value))
    }

    /// Its value, escapes undone.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.param(name).map(Param::text)
    }
}

impl Param {
    /// The first value, escapes undone.
    pub(super) fn text(&self) -> String {
        self.values.first().map(|value| unescape(value)).unwrap_or_default()
    }

    /// All values, escapes undone.
    pub(super) fn texts(&self) -> Vec<String> {
        self.values.iter().map(|value| unescape(value)).collect()
    }
}

/// Undoes the escapes of libestr's strings (`es_unescapeStr`): what follows a backslash stands for itself, but for these.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(each) = chars.next() {
        match (each, each == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            (each, false) => out.push(each),
        }
    }
    out
}
