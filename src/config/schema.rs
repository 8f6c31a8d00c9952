//! Which keys there are, and the walk that holds a document against them: every unknown key, every value of a wrong
//! type, wherever they stand, in one pass. What is right goes on to `raw` as a `serde_yaml` value.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::tz::TimeZone;
use serde_yaml::Value as Yaml;

use super::leaf::{
    AllOff, Contains, EveryBatch, FirstInLine, Idle, Leaf, LogLevel, Pattern, Region, SecretText, Spoken, Text,
    Timeout, Wrong, mask_keys,
};
use super::path::Path;
use super::raw;
use super::report::{Mistakes, nearest};
use super::tree::{Entry, Node, Scalar, Value};
use super::url::To;
use super::{Acknowledge, Compression, Durability, Listen, LogFormat, Mode, OutputFraming, Oversize, SpoolFull};
use crate::route::{Expression, FacilitySet, Name, SeveritySet};
use crate::syslog::Framing;
use crate::template::Template;

/// What a value must look like.
pub(crate) enum Shape {
    /// A single value.
    Leaf(Kind),
    /// One of these or a list of them; never an empty list.
    Many(&'static Shape),
    /// A list.
    List(&'static Shape),
    /// A map with these keys.
    Map(&'static [&'static [Key]]),
    /// A map with any names for keys.
    Names(&'static Shape),
    /// A map with these keys; a single value is short for a map with the first of them.
    Short(&'static [Key]),
    /// A single value, or a map with these keys.
    Either(Kind, &'static [Key]),
}

/// A key and its value's shape.
pub(crate) struct Key(pub(crate) &'static str, pub(crate) Shape);

/// A [`Leaf`] type, as a value.
pub(crate) struct Kind {
    expected: fn() -> String,
    check: fn(&str) -> Result<(), Wrong>,
}

const fn leaf<T: Leaf>() -> Shape {
    Shape::Leaf(kind::<T>())
}

const fn kind<T: Leaf>() -> Kind {
    Kind { expected: T::expected, check: check::<T> }
}

fn check<T: Leaf>(text: &str) -> Result<(), Wrong> {
    T::parse(text).map(drop)
}

/// The document.
pub(crate) static ROOT: Shape = Shape::Map(&[&[
    Key("inputs", Shape::Names(&INPUT)),
    Key("outputs", Shape::Names(&OUTPUT)),
    Key("routes", Shape::List(&ROUTE)),
    Key("spool", SPOOL),
    Key("memory", Shape::Map(&[&[Key("max", leaf::<raw::MemoryMax>())]])),
    Key("shutdown_timeout", leaf::<raw::ShutdownTimeout>()),
    Key("shutdown_delay", leaf::<raw::ShutdownDelay>()),
    Key("admin", ADMIN),
    Key("cores", leaf::<raw::Cores>()),
    Key("log", Shape::Map(&[&[Key("level", leaf::<LogLevel>()), Key("format", leaf::<LogFormat>())]])),
    Key("watch", leaf::<bool>()),
    Key("rsyslog", Shape::Many(&leaf::<PathBuf>())),
    Key("http", Shape::Map(&[&[Key("requests_per_second", leaf::<raw::RequestsPerSecond>())]])),
    Key("user", leaf::<Text>()),
    Key("group", leaf::<Text>()),
    Key(
        "hardening",
        Shape::Either(
            kind::<AllOff>(),
            &[
                Key("no_new_privs", leaf::<raw::Switch>()),
                Key("seccomp", leaf::<raw::Switch>()),
                Key("landlock", leaf::<raw::Switch>()),
            ],
        ),
    ),
]]);

const ADMIN: Shape = Shape::Map(&[&[
    Key("listen", Shape::Many(&leaf::<raw::AdminListen>())),
    Key("token_file", leaf::<PathBuf>()),
    Key("tls", SERVER_TLS),
    Key("open", Shape::Many(&leaf::<raw::AdminOpen>())),
    Key("taps", leaf::<raw::Switch>()),
    Key("hosts", Shape::Many(&leaf::<Text>())),
]]);

const SERVER_TLS: Shape = Shape::Map(&[&[
    Key("cert", leaf::<PathBuf>()),
    Key("key", leaf::<PathBuf>()),
    Key("client_ca", leaf::<PathBuf>()),
]]);

const SPOOL: Shape = Shape::Map(&[&[
    Key("dir", leaf::<PathBuf>()),
    Key("max_size", leaf::<raw::SpoolSize>()),
    Key("when_full", leaf::<SpoolFull>()),
    Key("durability", leaf::<Durability>()),
    Key("sync", Shape::Either(kind::<EveryBatch>(), &[Key("interval", leaf::<raw::SyncInterval>())])),
    Key("min_free", leaf::<raw::MinFree>()),
    Key("compression", leaf::<Compression>()),
    Key("spill_after", leaf::<raw::SpillAfter>()),
    Key("encryption_key_file", leaf::<PathBuf>()),
]]);

static INPUT: Shape = Shape::Map(&[&[
    Key("listen", Shape::Many(&leaf::<Listen>())),
    Key("framing", leaf::<Framing>()),
    Key("max_message_size", leaf::<raw::MessageSize>()),
    Key("oversize", leaf::<Oversize>()),
    Key("timezone", leaf::<TimeZone>()),
    Key("allow", Shape::Many(&leaf::<IpNet>())),
    Key("proxy_protocol", Shape::Many(&leaf::<IpNet>())),
    Key("max_connections", leaf::<raw::Connections>()),
    Key("max_connections_per_peer", leaf::<raw::Connections>()),
    Key("idle_timeout", leaf::<Idle>()),
    Key("receive_buffer", leaf::<raw::ReceiveBuffer>()),
    Key("tls", SERVER_TLS),
    Key("acknowledge", leaf::<Acknowledge>()),
    Key("impstats", Shape::Map(&[&[Key("interval", leaf::<raw::ImpstatsInterval>())]])),
]]);

static OUTPUT: Shape = Shape::Map(&[&[
    Key("region", leaf::<Region>()),
    Key("protocol", leaf::<Spoken>()),
    Key("to", Shape::Many(&leaf::<To>())),
    Key("mode", leaf::<Mode>()),
    Key("prefer_after", leaf::<Timeout>()),
    Key("fallback_addresses", Shape::Many(&leaf::<IpAddr>())),
    Key("framing", leaf::<OutputFraming>()),
    Key(
        "tls",
        Shape::Map(&[&[
            Key("ca", leaf::<PathBuf>()),
            Key("server_name", leaf::<Text>()),
            Key("client_cert", leaf::<PathBuf>()),
            Key("client_key", leaf::<PathBuf>()),
        ]]),
    ),
    Key("connections", leaf::<raw::OutputConnections>()),
    Key("connect_timeout", leaf::<Timeout>()),
    Key("handshake_timeout", leaf::<Timeout>()),
    Key("stall_timeout", leaf::<Timeout>()),
    Key("idle_timeout", leaf::<Idle>()),
    Key("keepalive", leaf::<Idle>()),
    Key("user_timeout", leaf::<raw::OptionalTimeout>()),
    Key("replay_window", leaf::<raw::ReplayWindow>()),
    Key("replay_quiet", leaf::<Timeout>()),
    Key("order", leaf::<FirstInLine>()),
    Key("backlog_share", leaf::<raw::BacklogShare>()),
    Key("relp_window", leaf::<raw::RelpWindow>()),
    Key("proxy", leaf::<raw::OptionalProxy>()),
    Key("max_body", leaf::<raw::MaxBody>()),
    Key("request_timeout", leaf::<Timeout>()),
    Key(
        "rotate",
        Shape::Map(&[&[
            Key("size", leaf::<raw::RotateSize>()),
            Key("age", leaf::<raw::RotateAge>()),
            Key("keep", leaf::<raw::RotateKeep>()),
            Key("compress", leaf::<bool>()),
        ]]),
    ),
    Key("reveal_keys", leaf::<bool>()),
]]);

static ROUTE: Shape = Shape::Map(&[
    CONDITIONS,
    &[
        Key("name", leaf::<Text>()),
        Key("not", Shape::Map(&[CONDITIONS])),
        Key("intake_key", leaf::<SecretText>()),
        Key("intake_key_file", leaf::<PathBuf>()),
        Key("output", leaf::<Text>()),
        Key("template", leaf::<Template>()),
        Key("http_template", leaf::<Template>()),
        Key("discard", leaf::<bool>()),
        Key("continue", leaf::<bool>()),
        Key(
            "spool",
            Shape::Map(&[&[Key("max_size", leaf::<raw::SpoolSize>()), Key("when_full", leaf::<SpoolFull>())]]),
        ),
    ],
]);

const CONDITIONS: &[Key] = &[
    Key("program", Shape::Many(&leaf::<Name>())),
    Key("hostname", Shape::Many(&leaf::<Name>())),
    Key("peer", Shape::Many(&leaf::<IpNet>())),
    Key("input", Shape::Many(&leaf::<Text>())),
    Key("facility", Shape::Many(&leaf::<FacilitySet>())),
    Key("severity", Shape::Many(&leaf::<SeveritySet>())),
    Key("when", leaf::<Expression>()),
    Key("message", Shape::Many(&Shape::Short(&[Key("contains", leaf::<Contains>()), Key("regex", leaf::<Pattern>())]))),
];

/// The paths of all keys: `inputs.NAME.listen`, `routes[].program`.
pub fn keys() -> Vec<String> {
    let mut found = Vec::new();
    collect(&ROOT, "", &mut found);
    found
}

fn collect(shape: &Shape, path: &str, found: &mut Vec<String>) {
    let mut map = |keys: &'static [Key]| {
        for Key(name, shape) in keys {
            let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
            found.push(path.clone());
            collect(shape, &path, found);
        }
    };
    match shape {
        Shape::Leaf(_) => {}
        Shape::Map(groups) => groups.iter().copied().for_each(map),
        Shape::Short(keys) | Shape::Either(_, keys) => map(keys),
        Shape::Names(shape) => collect(shape, &format!("{path}.NAME"), found),
        Shape::List(shape) => collect(shape, &format!("{path}[]"), found),
        Shape::Many(shape) => collect(shape, path, found),
    }
}

/// Holds a document against [`ROOT`].
pub(crate) struct Check<'m> {
    pub(crate) mistakes: &'m mut Mistakes,
    /// Values that could not be expanded: reported already.
    pub(crate) unexpanded: HashSet<Path>,
    /// Values that were refused: what they would have meant is not asked for again.
    pub(crate) refused: Vec<Path>,
}

impl Check<'_> {
    /// The value as `serde_yaml` has it, without what was refused; `None` where nothing is left.
    pub(crate) fn value(&mut self, node: &Node, shape: &Shape, path: &Path) -> Option<Yaml> {
        if self.unexpanded.contains(path) {
            self.refused.push(path.clone());
            return None;
        }
        match (shape, &node.value) {
            (Shape::Leaf(kind) | Shape::Either(kind, _), Value::Scalar(scalar)) => {
                self.scalar(node, scalar, kind, path)
            }
            (Shape::Many(shape), Value::List(items)) => self.many(node, items, shape, path),
            (Shape::Many(shape), _) => Some(Yaml::Sequence(vec![self.value(node, shape, path)?])),
            (Shape::List(shape), Value::List(items)) => {
                let item = |(index, item)| self.value(item, shape, &path.index(index)).unwrap_or_else(empty);
                Some(Yaml::Sequence(items.iter().enumerate().map(item).collect()))
            }
            (Shape::Map(groups), Value::Map(entries)) => Some(self.map(entries, groups, path)),
            (Shape::Short(keys) | Shape::Either(_, keys), Value::Map(entries)) => {
                Some(self.map(entries, &[keys], path))
            }
            (Shape::Short([Key(name, shape), ..]), Value::Scalar(_)) => {
                let mut map = serde_yaml::Mapping::new();
                map.insert((*name).into(), self.value(node, shape, path)?);
                Some(Yaml::Mapping(map))
            }
            (Shape::Names(shape), Value::Map(entries)) => {
                let mut map = serde_yaml::Mapping::new();
                for Entry { key, node, .. } in entries {
                    map.insert(key.as_str().into(), self.value(node, shape, &path.key(key)).unwrap_or_else(empty));
                }
                Some(Yaml::Mapping(map))
            }
            _ => self.refuse(node, path, format!("found {}, {}", node.kind(), expected(shape))),
        }
    }

    fn scalar(&mut self, node: &Node, scalar: &Scalar, kind: &Kind, path: &Path) -> Option<Yaml> {
        let wrong = match (kind.check)(&scalar.text) {
            Ok(()) => return Some(Yaml::String(scalar.text.clone())),
            Err(wrong) => wrong,
        };
        // A template's mistake does not show the template.
        let shown = wrong.at.is_some() && scalar.variables.is_empty();
        if let Some(masked) = masked(scalar).filter(|_| !shown) {
            return self.refuse(node, path, format!("found {masked}, {}", (kind.expected)()));
        }
        let Some(octet) = wrong.at else {
            return self.refuse(node, path, wrong.message);
        };
        let mut node = node.clone();
        let mut message = format!("{} (at octet {octet} of the text)", wrong.message);
        if let (Some(column), Some(before)) = (scalar.text_column, scalar.text.get(..octet)) {
            node.at.column = column + before.chars().count();
            message = wrong.message;
        }
        self.refuse(&node, path, message)
    }

    fn many(&mut self, node: &Node, items: &[Node], shape: &Shape, path: &Path) -> Option<Yaml> {
        if items.is_empty() {
            return self.refuse(node, path, "found an empty list, expected at least one entry".to_owned());
        }
        let values: Vec<Yaml> =
            items.iter().enumerate().filter_map(|(index, item)| self.value(item, shape, &path.index(index))).collect();
        if values.len() < items.len() {
            // What the rest of the list would mean alone is not what was written.
            self.refused.push(path.clone());
            return None;
        }
        Some(Yaml::Sequence(values))
    }

    fn map(&mut self, entries: &[Entry], groups: &[&[Key]], parent: &Path) -> Yaml {
        let known = || groups.iter().copied().flatten();
        let mut map = serde_yaml::Mapping::new();
        for Entry { key, key_at, node } in entries {
            let path = parent.key(key);
            match known().find(|Key(name, _)| name == key) {
                Some(Key(_, shape)) => {
                    if let Some(value) = self.value(node, shape, &path) {
                        map.insert(key.as_str().into(), value);
                    }
                }
                None => {
                    let names = || known().map(|Key(name, _)| *name);
                    let message = match nearest(key, names()) {
                        Some(meant) => {
                            // What was meant is not missing.
                            self.refused.push(parent.key(meant));
                            format!("unknown key (did you mean \"{meant}\"?)")
                        }
                        None => format!("unknown key, expected one of {}", names().collect::<Vec<_>>().join(", ")),
                    };
                    self.mistakes.add(key_at, &parent.key(&mask_keys(key)), message);
                }
            }
        }
        Yaml::Mapping(map)
    }

    fn refuse(&mut self, node: &Node, path: &Path, message: String) -> Option<Yaml> {
        self.mistakes.add(&node.at, path, message);
        self.refused.push(path.clone());
        None
    }
}

/// How a report speaks of a scalar that it must not show.
pub(crate) fn masked(scalar: &Scalar) -> Option<String> {
    let names: Vec<String> = scalar.variables.iter().map(|name| format!("${{{name}}}")).collect();
    match (names.is_empty(), scalar.one_line) {
        (false, _) => Some(format!("the value of {}", names.join(" and "))),
        (true, false) => Some("a text of several lines".to_owned()),
        (true, true) => None,
    }
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Leaf(kind) | Shape::Either(kind, _) => (kind.expected)(),
        Shape::Many(shape) => format!("{}, or a list of such", expected(shape)),
        Shape::List(_) => "expected a list".to_owned(),
        Shape::Map(_) => "expected a map".to_owned(),
        Shape::Names(_) => "expected a map of names".to_owned(),
        Shape::Short(_) => "expected some text or a map".to_owned(),
    }
}

fn empty() -> Yaml {
    Yaml::Mapping(serde_yaml::Mapping::new())
}
