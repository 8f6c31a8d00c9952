//! From what the file says to what it means: defaults, references between entries, files that it names.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};

use jiff::tz::TimeZone;

use super::leaf::{Is, Or, Region, Span};
use super::path::{Path, Step};
use super::report::{Mistakes, Position, Report};
use super::tree::{Node, Value};
use super::url::To;
use super::{Config, Input, InputTls, Listen, Loaded, Log, LogFormat, Output, OutputTls, Oversize, limits, raw};

mod routes;
mod spool;

pub(crate) use spool::read_spool_key;

/// Resolves everything, or reports everything.
pub(crate) fn resolve(
    tree: &Node,
    raw: raw::File,
    refused: Vec<Path>,
    directory: &FilePath,
    mistakes: Mistakes,
) -> Result<Loaded, Report> {
    let mut resolver = Resolver { tree, refused, directory, mistakes, warnings: Mistakes::default() };
    let config = resolver.config(raw);
    let Resolver { mistakes: Mistakes(mistakes), warnings: Mistakes(mut warnings), .. } = resolver;
    if mistakes.is_empty() {
        warnings.sort();
        Ok(Loaded { config, warnings })
    } else {
        Err(Report::new(mistakes))
    }
}

struct Resolver<'a> {
    tree: &'a Node,
    refused: Vec<Path>,
    directory: &'a FilePath,
    mistakes: Mistakes,
    warnings: Mistakes,
}

impl Resolver<'_> {
    fn config(&mut self, mut raw: raw::File) -> Config {
        let root = Path::root();
        let cores = match raw.cores {
            Some(Is(Or::Value(cores))) => cores.0,
            // Asks the scheduler's affinity mask and the cgroup's quota.
            Some(Is(Or::Word(_))) | None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let inputs_path = root.key("inputs");
        let mut inputs = Vec::new();
        for name in self.names(&inputs_path) {
            let input = raw.inputs.remove(&name).unwrap_or_default();
            inputs.push(self.input(&name, input));
        }
        let outputs_path = root.key("outputs");
        let mut outputs = Vec::new();
        for name in self.names(&outputs_path) {
            let output = raw.outputs.remove(&name).unwrap_or_default();
            outputs.push(self.output(&name, output, cores));
        }
        if inputs.is_empty() {
            self.missing(&inputs_path, "no inputs, expected at least one");
        }
        self.warn_of_large_messages(&inputs, &outputs);
        let admin = self.admin(raw.admin);
        self.distinct_addresses(&inputs, admin);
        let spool = raw.spool.and_then(|spool| self.spool(spool));
        let routes = self.routes(raw.routes, &inputs, &outputs, spool.as_ref());
        Config {
            inputs,
            outputs,
            routes,
            spool,
            memory_max: raw.memory.max.map_or(limits::MEMORY_MAX, |max| max.0.0),
            shutdown_timeout: raw.shutdown_timeout.map_or(limits::SHUTDOWN_TIMEOUT, |timeout| timeout.0.0),
            admin,
            cores,
            log: Log {
                level: raw.log.level.map_or_else(|| limits::LOG_LEVEL.to_owned(), |level| level.0.0),
                format: raw.log.format.map_or(LogFormat::Text, |format| format.0),
            },
        }
    }

    fn input(&mut self, name: &str, raw: raw::Input) -> Input {
        let path = Path::root().key("inputs").key(name);
        self.check_name(name, &path);
        let listen: Vec<Listen> = raw.listen.into_iter().map(|Is(listen)| listen).collect();
        if listen.is_empty() {
            self.missing(&path.key("listen"), "missing, expected a URL or a list of them");
        }
        let tls_path = path.key("tls");
        let uses_tls = listen.iter().any(|listen| matches!(listen, Listen::Tls(_)));
        let tls = match raw.tls {
            Some(tls) => {
                if !uses_tls && !listen.is_empty() {
                    self.mistake(&tls_path, "given, but none of \"listen\" is a tls:// URL");
                }
                self.input_tls(tls, &tls_path)
            }
            None => {
                if uses_tls {
                    self.missing(&tls_path, "missing, expected \"cert\" and \"key\" for the tls:// URL");
                }
                None
            }
        };
        Input {
            name: name.to_owned(),
            listen,
            framing: raw.framing.map(|framing| framing.0).unwrap_or_default(),
            max_message_size: raw.max_message_size.map_or(limits::MESSAGE_SIZE, |size| size.0.0),
            oversize: raw.oversize.map_or(Oversize::Truncate, |oversize| oversize.0),
            timezone: raw.timezone.map_or_else(TimeZone::system, |zone| zone.0),
            allow: raw.allow.into_iter().map(|Is(network)| network).collect(),
            max_connections: raw.max_connections.map_or(limits::CONNECTIONS, |count| count.0.0),
            max_connections_per_peer: raw
                .max_connections_per_peer
                .map_or(limits::CONNECTIONS_PER_PEER, |count| count.0.0),
            idle_timeout: raw.idle_timeout.and_then(|idle| value(idle.0)).map(|Span(time)| time),
            receive_buffer: raw.receive_buffer.map(|size| size.0.0),
            tls,
        }
    }

    /// Sekoia drops what is over its limit and tells nobody.
    fn warn_of_large_messages(&mut self, inputs: &[Input], outputs: &[Output]) {
        let to_sekoia = outputs.iter().any(|output| output.host.ends_with(".sekoia.io"));
        for input in inputs.iter().filter(|input| to_sekoia && input.max_message_size > limits::MESSAGE_SIZE) {
            let path = Path::root().key("inputs").key(&input.name).key("max_message_size");
            let limit = super::units::show_size(limits::MESSAGE_SIZE as u64);
            self.warning(&path, format!("Sekoia drops events over {limit} without a word"));
        }
    }

    fn input_tls(&mut self, raw: raw::InputTls, path: &Path) -> Option<InputTls> {
        let cert = self.file(raw.cert, &path.key("cert"));
        let key = self.file(raw.key, &path.key("key"));
        let client_ca = self.file(raw.client_ca, &path.key("client_ca"));
        if cert.is_none() {
            self.missing(&path.key("cert"), "missing, expected the path of a PEM file");
        }
        if key.is_none() {
            self.missing(&path.key("key"), "missing, expected the path of a PEM file");
        }
        Some(InputTls { cert: cert?, key: key?, client_ca })
    }

    fn output(&mut self, name: &str, raw: raw::Output, cores: usize) -> Output {
        let path = Path::root().key("outputs").key(name);
        self.check_name(name, &path);
        let to = match (raw.region, raw.to) {
            (Some(_), Some(_)) => {
                self.mistake(&path.key("to"), "given besides \"region\", expected one of the two");
                None
            }
            (Some(Is(Region(host))), None) => Some(To { tls: true, host: host.to_owned(), port: limits::REGION_PORT }),
            (None, Some(Is(to))) => Some(to),
            (None, None) => {
                if !self.is_refused(&path.key("region")) && !self.is_refused(&path.key("to")) {
                    self.missing(&path, "neither \"region\" nor \"to\", expected one of the two");
                }
                None
            }
        };
        // Where there is none, a mistake was reported and nobody sees this one.
        let to = to.unwrap_or(To { tls: false, host: String::new(), port: 0 });
        let tls = self.output_tls(raw.tls, &to, &path.key("tls"));
        let connections_per_shard = raw.connections.map_or(1, |count| count.0.0.div_ceil(cores.max(1)));
        Output {
            name: name.to_owned(),
            host: to.host,
            port: to.port,
            tls,
            connections_per_shard,
            connect_timeout: raw.connect_timeout.map_or(limits::CONNECT_TIMEOUT, |time| time.0.0),
            handshake_timeout: raw.handshake_timeout.map_or(limits::HANDSHAKE_TIMEOUT, |time| time.0.0),
            write_timeout: raw.write_timeout.map_or(limits::WRITE_TIMEOUT, |time| time.0.0),
            idle_timeout: raw.idle_timeout.and_then(|idle| value(idle.0)).map(|Span(time)| time),
            keepalive: or_default(raw.keepalive, Span(limits::KEEPALIVE)).map(|Span(time)| time),
            user_timeout: or_default(raw.user_timeout, Span(limits::USER_TIMEOUT)).map(|Span(time)| time),
            replay_window: raw.replay_window.map_or(limits::REPLAY_WINDOW, |size| size.0.0),
            replay_quiet: raw.replay_quiet.map_or(limits::REPLAY_QUIET, |time| time.0.0),
        }
    }

    fn output_tls(&mut self, raw: Option<raw::OutputTls>, to: &To, path: &Path) -> Option<OutputTls> {
        let given = raw.is_some();
        let raw = raw.unwrap_or_default();
        let ca = self.file(raw.ca, &path.key("ca"));
        let client_cert = self.file(raw.client_cert, &path.key("client_cert"));
        let client_key = self.file(raw.client_key, &path.key("client_key"));
        let client = match (client_cert, client_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(_), None) => {
                self.missing(&path.key("client_key"), "missing, expected the key of \"client_cert\"");
                None
            }
            (None, Some(_)) => {
                self.missing(&path.key("client_cert"), "missing, expected the certificate of \"client_key\"");
                None
            }
            (None, None) => None,
        };
        if !to.tls {
            if given && !to.host.is_empty() {
                self.mistake(path, "given, but \"to\" is not a tls:// URL");
            }
            return None;
        }
        let server_name = raw.server_name.map_or_else(|| to.host.clone(), |name| name.0.0);
        if rustls::pki_types::ServerName::try_from(server_name.as_str()).is_err() {
            let path = path.key("server_name");
            self.wrong(&path, "expected a host name or an address", "not the name of a server");
        }
        Some(OutputTls { ca, server_name, client })
    }

    fn admin(&mut self, raw: raw::Admin) -> Option<SocketAddr> {
        match raw.listen {
            Some(Is(listen)) => value(listen),
            None => limits::ADMIN.parse().ok(),
        }
    }

    /// Two listeners on one address would share its messages between them, kernel's choice.
    fn distinct_addresses(&mut self, inputs: &[Input], admin: Option<SocketAddr>) {
        let mut places: HashMap<String, Path> = HashMap::new();
        let mut repeated = Vec::new();
        let root = Path::root();
        for input in inputs {
            let path = root.key("inputs").key(&input.name).key("listen");
            for (index, listen) in input.listen.iter().enumerate() {
                let Some(address) = exclusive(listen) else { continue };
                // A single URL stands without a list.
                let path = Some(path.index(index)).filter(|path| self.node(path).is_some()).unwrap_or(path.clone());
                match places.get(&address) {
                    Some(first) => repeated.push((path, first.clone())),
                    None => _ = places.insert(address, path),
                }
            }
        }
        let admin = admin.and_then(|admin| exclusive(&Listen::Tcp(admin)));
        if let Some(path) = admin.and_then(|admin| places.get(&admin)) {
            self.mistake(path, "found the address of the admin server (\"admin.listen\")");
        }
        for (path, first) in repeated {
            let message = format!("found an address that {first} ({}) has already", self.position(&first));
            self.mistake(&path, message);
        }
    }

    /// A file's path: relative ones are relative to the configuration. Reports what is not there.
    fn file(&mut self, raw: Option<Is<PathBuf>>, path: &Path) -> Option<PathBuf> {
        let Is(file) = raw?;
        let file = self.directory.join(file);
        match std::fs::metadata(&file) {
            // Opened only where that does not wait for a writer.
            Ok(metadata) if metadata.is_file() => match std::fs::File::open(&file) {
                Ok(_) => Some(file),
                Err(error) => self.no_file(path, &file, &format!("cannot be read: {error}")),
            },
            Ok(_) => self.no_file(path, &file, "is not a file"),
            Err(error) => self.no_file(path, &file, &format!("cannot be read: {error}")),
        }
    }

    fn no_file(&mut self, path: &Path, file: &FilePath, why: &str) -> Option<PathBuf> {
        let shown = match self.masked(path) {
            Some(masked) => masked,
            None => format!("{}", file.display()),
        };
        self.mistake(path, format!("{shown} {why}"));
        self.refused.push(path.clone());
        None
    }

    /// Names become labels of metrics and parts of paths.
    fn check_name(&mut self, name: &str, path: &Path) {
        let good = |each: char| each.is_ascii_alphanumeric() || matches!(each, '-' | '_' | '.');
        if name.is_empty() || name.len() > limits::NAME_LEN_MAX || !name.chars().all(good) {
            let max = limits::NAME_LEN_MAX;
            let message = format!("not a name, expected at most {max} letters, digits, \"-\", \"_\" and \".\"");
            let at = self.key_position(path);
            self.mistakes.add(&at, path, message);
        }
    }

    /// The keys of a map, in the file's order.
    fn names(&self, path: &Path) -> Vec<String> {
        match self.node(path).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// A mistake about something that should be there, unless what is there was refused already.
    fn missing(&mut self, path: &Path, message: &str) {
        if !self.is_refused(path) {
            self.mistake(path, message);
        }
    }

    /// The same, also where something inside of it was refused.
    fn missing_below(&mut self, path: &Path, message: &str) {
        if !self.refused.iter().any(|refused| refused.is_below(path)) {
            self.missing(path, message);
        }
    }

    /// A mistake about a value: shows it where it is not out of a variable.
    fn wrong(&mut self, path: &Path, expected: &str, why: &str) {
        let message = match (self.masked(path), self.node(path).map(|node| &node.value)) {
            (Some(masked), _) => format!("found {masked}, {expected}"),
            (None, Some(Value::Scalar(scalar))) => format!("found \"{}\", {why}, {expected}", scalar.text),
            _ => format!("{why}, {expected}"),
        };
        self.mistake(path, message);
    }

    fn mistake(&mut self, path: &Path, message: impl Into<String>) {
        let at = self.position(path);
        self.mistakes.add(&at, path, message);
    }

    fn warning(&mut self, path: &Path, message: impl Into<String>) {
        let at = self.position(path);
        self.warnings.add(&at, path, message);
    }

    fn masked(&self, path: &Path) -> Option<String> {
        match &self.node(path)?.value {
            Value::Scalar(scalar) => super::schema::masked(scalar),
            _ => None,
        }
    }

    fn is_refused(&self, path: &Path) -> bool {
        self.refused.iter().any(|refused| path.is_below(refused))
    }

    fn node(&self, path: &Path) -> Option<&Node> {
        path.steps().iter().try_fold(self.tree, child)
    }

    /// Where the key of `path` stands.
    fn key_position(&self, path: &Path) -> Position {
        let split = path.steps().split_last();
        let parent = split.and_then(|(_, parents)| parents.iter().try_fold(self.tree, child));
        let entry = match (parent.map(|node| &node.value), split) {
            (Some(Value::Map(entries)), Some((Step::Key(key), _))) => entries.iter().find(|entry| entry.key == *key),
            _ => None,
        };
        entry.map_or_else(|| self.position(path), |entry| entry.key_at.clone())
    }

    /// Where the value of `path` stands, or the nearest value around it.
    fn position(&self, path: &Path) -> Position {
        let mut node = self.tree;
        for step in path.steps() {
            match child(node, step) {
                Some(child) => node = child,
                None => break,
            }
        }
        node.at.clone()
    }
}

fn child<'a>(node: &'a Node, step: &Step) -> Option<&'a Node> {
    match (step, &node.value) {
        (Step::Key(key), _) => node.get(key),
        (Step::Index(index), Value::List(items)) => items.get(*index),
        (Step::Index(_), _) => None,
    }
}

/// What may be bound once only; `None` for port 0, which the kernel replaces by a free one.
fn exclusive(listen: &Listen) -> Option<String> {
    match listen {
        Listen::Udp(address) | Listen::Tcp(address) | Listen::Tls(address) if address.port() == 0 => None,
        Listen::Udp(address) => Some(format!("udp {address}")),
        Listen::Tcp(address) | Listen::Tls(address) => Some(format!("tcp {address}")),
        Listen::Unix(path) | Listen::UnixDatagram(path) => Some(format!("unix {}", path.display())),
    }
}

fn value<W, T>(given: Or<W, T>) -> Option<T> {
    match given {
        Or::Word(_) => None,
        Or::Value(value) => Some(value),
    }
}

/// `off` is none, nothing is the default.
fn or_default<W, T>(given: Option<Is<Or<W, T>>>, default: T) -> Option<T> {
    match given {
        Some(Is(given)) => value(given),
        None => Some(default),
    }
}
