//! One entry of `intakes`: its keys, held against what the forwarder makes of them.

use std::collections::HashSet;

use super::Findings;
use crate::config::leaf::mask_keys;
use crate::config::limits;
use crate::config::path::Path;
use crate::config::report::{Mistakes, Position, did_you_mean};
use crate::config::tree::{Node, Value};

const KEYS: [&str; 10] = [
    "name",
    "protocol",
    "port",
    "intake_key",
    "debug",
    "queue_size",
    "stats",
    "tls_key_name",
    "tls_cert_name",
    "tls_ca_name",
];

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "tls"];

/// The stem of the certificates' files where an entry names none.
const CERTIFICATE: &str = "server";

/// All entries that can be used so far.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) intakes: Vec<Intake>,
    /// Of all entries, also those that cannot be used: `MEMORY_MESSAGES` is divided by it.
    pub(super) count: usize,
}

/// An entry that can be used. Holds a secret, and does not show it.
pub(super) struct Intake {
    /// Where the entry begins.
    pub(super) at: Position,
    /// Its name in the file.
    pub(super) shown: String,
    /// Its name here: the input's, the route's.
    pub(super) name: String,
    pub(super) key: (Position, String),
    pub(super) takes: Takes,
    /// Messages.
    pub(super) queue_size: Option<u64>,
}

/// What an intake's messages are.
#[derive(Debug, Clone)]
pub(super) enum Takes {
    /// What comes in at a port.
    Listener {
        at: Position,
        /// `tcp`, `udp` or `tls`.
        protocol: &'static str,
        port: u16,
        /// Names of the files of key and certificate, without their extensions.
        tls: Option<[(Position, String); 2]>,
    },
    /// Our own counts.
    Stats,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Intake({} at {}: {:?})", self.name, self.at, self.takes)
    }
}

impl Intake {
    /// Whether what is wrong at this place is about this intake: all that is made of it stands where its values do.
    pub(super) fn holds(&self, place: &Position) -> bool {
        let of_listener = match &self.takes {
            Takes::Listener { at, tls, .. } => *at == *place || tls.iter().flatten().any(|(at, _)| at == place),
            Takes::Stats => false,
        };
        of_listener || self.at == *place || self.key.0 == *place
    }

    /// What it listens at: two listeners of one kind cannot share a port.
    fn socket(&self) -> Option<(bool, u16)> {
        match &self.takes {
            // 0 is any port that is free.
            Takes::Listener { protocol, port, .. } if *port > 0 => Some((*protocol == "udp", *port)),
            _ => None,
        }
    }
}

impl Entries {
    /// Understands all entries; what cannot be used is in `findings`. `doubled` are keys that stand twice.
    pub(super) fn of(items: &[Node], doubled: Mistakes, findings: &mut Findings) -> Self {
        let mut intakes: Vec<Intake> = Vec::new();
        let mut names = HashSet::new();
        for mistake in doubled.0.iter().filter(|mistake| !mistake.path.starts_with("intakes[")) {
            findings.bad.add(&mistake.at, &mask_keys(&mistake.path), mistake.message.clone());
        }
        for (index, item) in items.iter().enumerate() {
            let path = Path::root().key("intakes").index(index);
            let mut reader = Reader { item, path, shown: shown(item, index), findings: &mut *findings, good: true };
            let inside = format!("{}.", reader.path);
            for mistake in doubled.0.iter().filter(|mistake| mistake.path.starts_with(&inside)) {
                reader.bad_at(&mistake.at, &mask_keys(&mistake.path), mistake.message.clone());
            }
            let Some(mut intake) = reader.intake(index) else { continue };
            let rival = intakes.iter().find(|other| other.socket().is_some() && other.socket() == intake.socket());
            if let (Some(rival), Takes::Listener { at, port, .. }) = (rival, &intake.takes) {
                let message = format!("found port {port}, which \"{}\" ({}) has already", rival.shown, rival.at);
                let path = reader.path.key("port");
                reader.bad_at(at, &path, message);
                continue;
            }
            intake.name = unique(&intake.name, &mut names);
            if intake.name != plain_name(&intake.shown) {
                let message = format!("\"{}\" is called {} here", intake.shown, intake.name);
                findings.notes.add(&intake.at, &Path::root().key("intakes").index(index).key("name"), message);
            }
            intakes.push(intake);
        }
        Self { intakes, count: items.len() }
    }
}

/// Reads one entry; everything that is wrong with it, not only the first.
struct Reader<'a, 'f> {
    item: &'a Node,
    path: Path,
    shown: String,
    findings: &'f mut Findings,
    good: bool,
}

impl Reader<'_, '_> {
    fn intake(&mut self, index: usize) -> Option<Intake> {
        let Value::Map(entries) = &self.item.value else {
            let message =
                format!("found {}, expected a map with name, protocol, port and intake_key", self.item.kind());
            self.bad_at(&self.item.at, &self.path.clone(), message);
            return None;
        };
        for entry in entries.iter().filter(|entry| !KEYS.contains(&entry.key.as_str())) {
            let message = format!("unknown key{}, passed over", did_you_mean(&entry.key, KEYS));
            self.findings.odd.add(&entry.key_at, &self.path.key(&mask_keys(&entry.key)), message);
        }
        let name = self.required("name", "expected a name");
        let key = self.key();
        let takes = if self.is_true("stats", false) { Some(Takes::Stats) } else { self.listener() };
        let queue_size = self.queue_size();
        if self.is_true("debug", true) && self.good {
            self.note(
                "debug",
                format!("messages are not printed: `forebay tap {}` shows them", plain_name(&self.shown)),
            );
        }
        let (name, key, takes) = (name?.1, key?, takes?);
        let intake = Intake {
            at: self.item.at.clone(),
            name: if holds_key(&name) { tame("", index) } else { tame(&plain_name(&name), index) },
            shown: self.shown.clone(),
            key,
            takes,
            queue_size,
        };
        self.good.then_some(intake)
    }

    /// The forwarder's own check: sixteen letters and digits at its start. No message shows any of it.
    fn key(&mut self) -> Option<(Position, String)> {
        let (at, key) = self.required("intake_key", "expected an intake key")?;
        let start = key.bytes().take(limits::KEY_LEN_MIN).filter(u8::is_ascii_alphanumeric).count();
        if start < limits::KEY_LEN_MIN {
            let min = limits::KEY_LEN_MIN;
            self.bad("intake_key", format!("its key does not begin with {min} letters and digits"));
            return None;
        }
        Some((at, key))
    }

    fn listener(&mut self) -> Option<Takes> {
        let expected = "expected tcp, udp or tls";
        let protocol = self.required("protocol", expected).and_then(|(_, text)| {
            let found = PROTOCOLS.into_iter().find(|name| name.eq_ignore_ascii_case(&text));
            if found.is_none() {
                let near = did_you_mean(&text, PROTOCOLS);
                self.bad("protocol", format!("found \"{}\", {expected}{near}", mask_keys(&text)));
            }
            found
        });
        let expected = "expected a number up to 65535";
        let port = self.required("port", expected).and_then(|(at, text)| {
            let port = text.parse::<u16>().ok();
            if port.is_none() {
                self.bad("port", format!("found \"{}\", {expected}", mask_keys(&text)));
            }
            port.map(|port| (at, port))
        });
        let files = ["tls_key_name", "tls_cert_name"].map(|key| {
            let found = self.text(key);
            if found.as_ref().is_some_and(|(_, text)| holds_key(text)) {
                self.bad(key, "found what looks like an intake key, expected the name of a file in /certs".to_owned());
            }
            found.unwrap_or_else(|| (self.item.at.clone(), CERTIFICATE.to_owned()))
        });
        let (protocol, (at, port)) = (protocol?, port?);
        if protocol == "tls" && self.text("tls_ca_name").is_some() {
            self.note(
                "tls_ca_name",
                "clients are not asked for certificates, as with the forwarder: passed over".to_owned(),
            );
        }
        Some(Takes::Listener { at, protocol, port, tls: (protocol == "tls").then_some(files) })
    }

    fn queue_size(&mut self) -> Option<u64> {
        let (_, text) = self.text("queue_size")?;
        let size = text.parse().ok();
        if size.is_none() {
            let text = mask_keys(&text);
            self.odd("queue_size", format!("found \"{text}\", expected a count of messages: passed over"));
        }
        size
    }

    /// A word for true, as YAML 1.1 has them. With `only_true` anything else is false, otherwise all but the words for false.
    fn is_true(&self, key: &str, only_true: bool) -> bool {
        match self.item.get(key).map(|node| &node.value) {
            None | Some(Value::Nothing) => false,
            Some(Value::Scalar(scalar)) => {
                let is_any = |words: [&str; 3]| words.iter().any(|word| scalar.text.eq_ignore_ascii_case(word));
                if only_true { is_any(["true", "yes", "on"]) } else { !is_any(["false", "no", "off"]) }
            }
            Some(_) => !only_true,
        }
    }

    fn required(&mut self, key: &str, expected: &str) -> Option<(Position, String)> {
        let found = self.text(key);
        if found.is_none() {
            match self.item.get(key) {
                Some(Node { value: Value::List(_) | Value::Map(_), .. }) => {}
                _ => self.bad(key, format!("missing, {expected}")),
            }
        }
        found
    }

    /// A single value that is not empty.
    fn text(&mut self, key: &str) -> Option<(Position, String)> {
        let node = self.item.get(key)?;
        match &node.value {
            Value::Scalar(scalar) => {
                Some((node.at.clone(), scalar.text.trim().to_owned())).filter(|(_, text)| !text.is_empty())
            }
            Value::Nothing => None,
            Value::List(_) | Value::Map(_) => {
                self.bad(key, format!("found {}, expected a single value", node.kind()));
                None
            }
        }
    }

    /// Something for which the whole intake is left out.
    fn bad(&mut self, key: &str, message: String) {
        let at = self.item.get(key).unwrap_or(self.item).at.clone();
        self.bad_at(&at, &self.path.key(key), message);
    }

    fn bad_at(&mut self, at: &Position, path: &impl std::fmt::Display, message: String) {
        self.findings.bad.add(at, path, format!("\"{}\" is left out: {message}", self.shown));
        self.good = false;
    }

    fn note(&mut self, key: &str, message: String) {
        let at = self.item.get(key).unwrap_or(self.item).at.clone();
        self.findings.notes.add(&at, &self.path.key(key), message);
    }

    fn odd(&mut self, key: &str, message: String) {
        let at = self.item.get(key).unwrap_or(self.item).at.clone();
        self.findings.odd.add(&at, &self.path.key(key), message);
    }
}

/// What a report calls an entry.
fn shown(item: &Node, index: usize) -> String {
    match item.get("name").map(|node| &node.value) {
        Some(Value::Scalar(scalar)) if holds_key(&scalar.text) => mask_keys(&scalar.text),
        Some(Value::Scalar(scalar)) if !scalar.text.trim().is_empty() => scalar.text.trim().to_owned(),
        _ => format!("entry {} of intakes", index + 1),
    }
}

/// Whether a text holds what looks like an intake key in a place where none belongs. Names of products are words, or short.
fn holds_key(text: &str) -> bool {
    text.split(|each: char| !each.is_ascii_alphanumeric()).any(|word| {
        let has = |kind: fn(&char) -> bool| word.chars().any(|each| kind(&each));
        word.len() >= limits::KEY_LEN_MIN && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic)
    })
}

/// The forwarder's own rule.
fn plain_name(shown: &str) -> String {
    shown.replace(' ', "_").to_lowercase()
}

/// What an input's name may hold.
fn tame(name: &str, index: usize) -> String {
    let good = |each: char| each.is_ascii_alphanumeric() || matches!(each, '-' | '_' | '.');
    let tame: String =
        name.chars().map(|each| if good(each) { each } else { '_' }).take(limits::NAME_LEN_MAX).collect();
    if tame.is_empty() { format!("intake_{}", index + 1) } else { tame }
}

/// The name, or the name with a number where another has it.
fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let mut found = name.to_owned();
    let mut round = 2;
    // Ends: there are finitely many names, and each round tries another.
    while !taken.insert(found.clone()) {
        let suffix = format!("_{round}");
        found = name.chars().take(limits::NAME_LEN_MAX - suffix.len()).collect::<String>() + &suffix;
        round += 1;
    }
    found
}
