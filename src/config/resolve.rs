//! From what the file says to what it means: defaults, references between entries, files that it names.

use std::collections::HashMap;
use std::path::{Component, Path as FilePath, PathBuf};

use jiff::tz::TimeZone;

use super::leaf::{Is, Or, Span};
use super::path::{Path, Step};
use super::places::Places;
use super::report::{Mistakes, Position, Report};
use super::tree::{Node, Value};
use super::{
    Action, AdminListen, Config, Durability, HttpLimits, Input, KeyFiles, Listen, Loaded, Log, LogFormat, Order,
    Output, Protocol, Route,
};
use super::{Spool, limits, raw};

mod files;
mod inputs;
mod outputs;
mod protect;
mod routes;
mod spool;

pub(crate) use spool::read_spool_key;

/// Where the files are that a configuration names without saying where.
pub(crate) struct Folders {
    /// Its own.
    pub(crate) own: PathBuf,
    /// `$CREDENTIALS_DIRECTORY`: where systemd puts what `LoadCredential=` names, readable by the service alone.
    pub(crate) credentials: Option<PathBuf>,
    /// Those that hold keys.
    pub(crate) key_files: KeyFiles,
}

impl Folders {
    /// A bare name is a credential's where there is one of that name; other relative paths, and bare names of which there is
    /// none, are relative to the configuration.
    fn locate(&self, file: &FilePath) -> PathBuf {
        let is_bare = matches!(file.components().collect::<Vec<_>>().as_slice(), [Component::Normal(_)]);
        let credential = self.credentials.as_ref().filter(|_| is_bare).map(|folder| folder.join(file));
        credential.filter(|file| file.exists()).unwrap_or_else(|| self.own.join(file))
    }
}

/// Resolves everything, or reports everything.
pub(crate) fn resolve(
    tree: &Node,
    raw: raw::File,
    refused: Vec<Path>,
    folders: &Folders,
    mistakes: Mistakes,
) -> Result<Loaded, Report> {
    let key_files = folders.key_files;
    let (warnings, files) = (Mistakes::default(), Vec::new());
    let mut resolver = Resolver { tree, refused, folders, key_files, files, mistakes, warnings };
    let config = resolver.config(raw);
    let files = resolver.all_files();
    let Resolver { mistakes: Mistakes(mistakes, read_again), warnings: Mistakes(mut warnings, _), .. } = resolver;
    if mistakes.is_empty() {
        warnings.sort();
        Ok(Loaded { config, warnings, notes: Vec::new(), files, read_again, places: Places::default() })
    } else {
        Err(Report::new(mistakes))
    }
}

struct Resolver<'a> {
    tree: &'a Node,
    refused: Vec<Path>,
    folders: &'a Folders,
    key_files: KeyFiles,
    /// Those that are read, the configuration's own among them.
    files: Vec<PathBuf>,
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
        let spool = raw.spool.and_then(|spool| self.spool(spool));
        // Where it stands and was refused, that is told already.
        let may_spool = spool.is_some() || self.node(&root.key("spool")).is_some();
        let inputs_path = root.key("inputs");
        let mut inputs = Vec::new();
        for name in self.names(&inputs_path) {
            let input = raw.inputs.remove(&name).unwrap_or_default();
            inputs.push(self.input(&name, input, may_spool));
        }
        let outputs_path = root.key("outputs");
        let mut outputs = Vec::new();
        for name in self.names(&outputs_path) {
            let output = raw.outputs.remove(&name).unwrap_or_default();
            outputs.push(self.output(&name, output, cores, may_spool));
        }
        if inputs.is_empty() {
            self.missing(&inputs_path, "no inputs, expected at least one");
        }
        self.distinct_files(&outputs);
        self.newest_first_in_memory(&outputs, spool.as_ref());
        self.warn_of_large_messages(&inputs, &outputs);
        self.warn_of_late_answers(&inputs, &outputs);
        self.warn_of_datagrams(&outputs);
        let admin = self.admin(std::mem::take(&mut raw.admin.listen));
        let admin_access = self.admin_access(raw.admin);
        self.distinct_addresses(&inputs, &admin);
        self.warn_of_open_keys(&raw.routes);
        let user = self.account(raw.user, raw.group);
        let hardening = self.hardening(raw.hardening);
        let routes = self.routes(raw.routes, &inputs, &outputs, spool.as_ref());
        give_each_route_a_connection(&mut outputs, &routes);
        Config {
            inputs,
            outputs,
            order: (0..routes.len()).collect(),
            routes,
            spool,
            memory_max: raw.memory.max.map_or(limits::MEMORY_MAX, |max| max.0.0),
            shutdown_timeout: raw.shutdown_timeout.map_or(limits::SHUTDOWN_TIMEOUT, |timeout| timeout.0.0),
            shutdown_delay: raw.shutdown_delay.map_or(limits::SHUTDOWN_DELAY, |delay| delay.0.0),
            admin,
            admin_access,
            user,
            hardening,
            cores,
            watch: raw.watch.is_some_and(|watch| watch.0),
            log: Log {
                level: raw.log.level.map_or_else(|| limits::LOG_LEVEL.to_owned(), |level| level.0.0),
                format: raw.log.format.map_or(LogFormat::Text, |format| format.0),
            },
            http: HttpLimits {
                requests_per_second: raw
                    .http
                    .requests_per_second
                    .map_or(limits::REQUESTS_PER_SECOND, |count| u32::try_from(count.0.0).unwrap_or(u32::MAX)),
            },
            left_out: Vec::new(),
            lenient: false,
        }
    }

    /// What must be stored before it is sent goes behind what is stored.
    fn newest_first_in_memory(&mut self, outputs: &[Output], spool: Option<&Spool>) {
        if spool.is_none_or(|spool| spool.durability == Durability::Overflow) {
            return;
        }
        for output in outputs.iter().filter(|output| output.order != Order::OldestFirst) {
            let path = Path::root().key("outputs").key(&output.name).key("order");
            self.mistake(&path, "found \"newest_first\", but \"spool.durability\" is always, expected overflow");
        }
    }

    fn admin(&mut self, raw: Vec<Is<raw::AdminListen>>) -> Vec<AdminListen> {
        let path = Path::root().key("admin").key("listen");
        if raw.is_empty() && self.node(&path).is_none() {
            return limits::ADMIN.parse().map(AdminListen::Tcp).into_iter().collect();
        }
        let given = raw.len();
        let listen: Vec<AdminListen> = raw.into_iter().filter_map(|Is(listen)| value(listen)).collect();
        if !listen.is_empty() && listen.len() < given {
            self.mistake(&path, "found \"off\" beside an address, expected one or the other");
        }
        listen
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

    /// Where the octet of a value's text stands, and what a message has to add where that is not known.
    fn position_within(&self, path: &Path, octet: usize) -> (Position, String) {
        let mut at = self.position(path);
        let place = match self.node(path).map(|node| &node.value) {
            Some(Value::Scalar(scalar)) => scalar.text_column.zip(scalar.text.get(..octet)),
            _ => None,
        };
        match place {
            Some((column, before)) => {
                at.column = column + before.chars().count();
                (at, String::new())
            }
            None => (at, format!(" (at octet {octet} of the text)")),
        }
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

    /// Where an entry of a list stands; a single value stands without a list.
    fn item(&self, path: &Path, index: usize) -> Path {
        Some(path.index(index)).filter(|path| self.node(path).is_some()).unwrap_or_else(|| path.clone())
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

/// A request carries one key: routes to HTTPS do not share connections, so that one with a bad key holds up no other.
pub(super) fn give_each_route_a_connection(outputs: &mut [Output], routes: &[Route]) {
    for (index, output) in outputs.iter_mut().enumerate() {
        if matches!(output.protocol, Protocol::Https(_)) {
            let leads_here = |route: &&Route| matches!(route.action, Action::Forward { output, .. } if output == index);
            output.connections_per_shard = routes.iter().filter(leads_here).count().max(1);
        }
    }
}
