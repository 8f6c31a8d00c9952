//! Where a configuration comes from: a file, a directory of fragments, a text, the environment. All become one tree.

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use super::expand::Environment;
use super::limits;
use super::path::Path;
use super::report::{Mistake, Mistakes, Position};
use super::tree::{self, Entry, Node, Value};

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One file.
    File(PathBuf),
    /// A directory whose `*.yaml` and `*.yml` files are merged in name order: maps merge, lists append, and what
    /// stands twice is a mistake.
    Directory(PathBuf),
    /// A text that is at hand already.
    Text {
        /// What a report calls it.
        name: String,
        /// The configuration.
        text: String,
    },
    /// rsyslog's files, beside another source or alone: as if `rsyslog:` named them there.
    Rsyslog {
        /// What else there is.
        base: Option<Box<Self>>,
        /// Paths or globs, relative to the working directory.
        files: Vec<PathBuf>,
        /// What is not supported is a mistake.
        strict: bool,
    },
    /// The `intakes.yaml` of Sekoia's forwarder, and the variables that go with it.
    Intakes {
        /// The file.
        path: PathBuf,
        /// What cannot be used is a mistake, and not left out.
        strict: bool,
    },
    /// No file at all: `FOREBAY_INTAKE_KEY`, and where set `FOREBAY_REGION`, `FOREBAY_LISTEN`, `FOREBAY_OUTPUT`,
    /// `FOREBAY_ADMIN`.
    Environment,
}

/// Where the environment's sidecar listens: the port that syslog relays use when they may not bind 514, which takes
/// privileges. All addresses, because in a container the port is published or shared by the pod, not the address.
pub const ENVIRONMENT_LISTEN: &str = "udp://0.0.0.0:5514,tcp://0.0.0.0:5514";

/// Where the containers of Sekoia's forwarder have their intakes.
pub const INTAKES: &str = "/intakes.yaml";

impl Source {
    /// A directory's fragments or the file, as the path is.
    pub fn from_path(path: &FilePath) -> Self {
        if path.is_dir() { Self::Directory(path.to_owned()) } else { Self::File(path.to_owned()) }
    }

    /// What relative paths in the configuration are relative to: its own directory.
    pub(crate) fn directory(&self) -> PathBuf {
        match self {
            Self::File(path) => path.parent().map(FilePath::to_owned).unwrap_or_default(),
            Self::Directory(path) => path.clone(),
            Self::Rsyslog { base: Some(base), .. } => base.directory(),
            Self::Rsyslog { base: None, .. } | Self::Text { .. } | Self::Intakes { .. } | Self::Environment => {
                PathBuf::new()
            }
        }
    }

    /// Files of rsyslog's that it names itself.
    pub(crate) fn rsyslog_files(&self) -> &[PathBuf] {
        match self {
            Self::Rsyslog { files, .. } => files,
            _ => &[],
        }
    }

    /// Whether what is not supported in another program's configuration is a mistake.
    pub(crate) fn is_strict(&self) -> bool {
        matches!(self, Self::Rsyslog { strict: true, .. })
    }

    /// Reads everything into one tree. `Err`: there is none.
    pub(crate) fn read(&self, environment: Environment<'_>, mistakes: &mut Mistakes) -> Result<Node, Mistake> {
        match self {
            Self::File(path) | Self::Intakes { path, .. } => read_file(path, 0, mistakes),
            Self::Directory(path) => read_directory(path, mistakes),
            Self::Text { name, text } => tree::read(text, &Arc::from(name.as_str()), 0, mistakes),
            Self::Rsyslog { base: Some(base), .. } => base.read(environment, mistakes),
            Self::Rsyslog { base: None, files, .. } => {
                let name = files.first().map(|file| display(file)).unwrap_or_else(|| Arc::from(""));
                Ok(Node { at: Position { rank: 0, file: name, line: 0, column: 0 }, value: Value::Map(Vec::new()) })
            }
            Self::Environment => {
                let mut root = tree::read(&environment_text(environment), &Arc::from("environment"), 0, mistakes)?;
                forget_lines(&mut root);
                Ok(root)
            }
        }
    }
}

fn read_directory(directory: &FilePath, mistakes: &mut Mistakes) -> Result<Node, Mistake> {
    mistakes.depends_on(directory);
    let whole = || Position { rank: 0, file: display(directory), line: 0, column: 0 };
    let fault = |message: String| Mistake { at: whole(), path: String::new(), message };
    let entries = std::fs::read_dir(directory).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fault(format!("cannot be read: {error}")))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(fault("holds no *.yaml or *.yml file".to_owned()));
    }
    if files.len() > limits::FRAGMENTS_MAX {
        return Err(fault(format!("holds more than {} fragments", limits::FRAGMENTS_MAX)));
    }
    let mut root = Node { at: whole(), value: Value::Map(Vec::new()) };
    for (rank, file) in files.iter().enumerate() {
        let fragment = read_file(file, rank, mistakes)?;
        match fragment.value {
            Value::Nothing => {}
            Value::Map(entries) => merge(&mut root, entries, &Path::root(), mistakes),
            _ => mistakes.add(&fragment.at, &"", format!("found {}, expected a map", fragment.kind())),
        }
    }
    Ok(root)
}

/// The first level's maps (`inputs`, `memory`) merge and its lists (`routes`) append; below, a name stands once.
fn merge(into: &mut Node, entries: Vec<Entry>, path: &Path, mistakes: &mut Mistakes) {
    let Value::Map(merged) = &mut into.value else { return };
    for entry in entries {
        let path = path.key(&entry.key);
        let Some(first) = merged.iter_mut().find(|first| first.key == entry.key) else {
            merged.push(entry);
            continue;
        };
        match (&mut first.node.value, entry.node.value) {
            (Value::List(items), Value::List(more)) if path.depth() == 1 => items.extend(more),
            (Value::Map(_), Value::Map(more)) if path.depth() == 1 => merge(&mut first.node, more, &path, mistakes),
            _ => {
                let message = format!("found this key a second time; the first is at {}", first.key_at);
                mistakes.add(&entry.key_at, &path, message);
            }
        }
    }
}

fn read_file(path: &FilePath, rank: usize, mistakes: &mut Mistakes) -> Result<Node, Mistake> {
    mistakes.depends_on(path);
    let file = display(path);
    let at = |line, column| Position { rank, file: Arc::clone(&file), line, column };
    let fault = |at: Position, message: String| Mistake { at, path: String::new(), message };
    let octets = read_bounded(path).map_err(|error| fault(at(0, 0), format!("cannot be read: {error}")))?;
    if octets.len() as u64 > limits::FILE_SIZE_MAX {
        let max = super::units::show_size(limits::FILE_SIZE_MAX);
        return Err(fault(at(0, 0), format!("is larger than {max}, expected a configuration")));
    }
    match String::from_utf8(octets) {
        Ok(text) => tree::read(&text, &file, rank, mistakes),
        Err(error) => {
            let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let good = String::from_utf8_lossy(good);
            let line = good.matches('\n').count() + 1;
            let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            Err(fault(at(line, column), "found an octet that is not UTF-8".to_owned()))
        }
    }
}

/// One octet beyond the maximum at most.
fn read_bounded(path: &FilePath) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    std::fs::File::open(path)?.take(limits::FILE_SIZE_MAX + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

/// The configuration that the environment's variables stand for. Values come in as variables, so that no report shows them.
fn environment_text(environment: Environment<'_>) -> String {
    let listen = environment("FOREBAY_LISTEN").filter(|urls| !urls.is_empty());
    let urls = listen.as_deref().unwrap_or(ENVIRONMENT_LISTEN).split(',').map(|url| {
        // A JSON string is a YAML string.
        let url = serde_json::Value::from(url.trim().replace("${", "$${"));
        format!("      - {url}\n")
    });
    let to = match environment("FOREBAY_OUTPUT").filter(|to| !to.is_empty()) {
        Some(_) => "to: '${FOREBAY_OUTPUT}'",
        None => "region: '${FOREBAY_REGION:-fra1}'",
    };
    format!(
        "inputs:\n  syslog:\n    listen:\n{}outputs:\n  sekoia:\n    {to}\nroutes:\n  - name: default\n    \
         intake_key: '${{FOREBAY_INTAKE_KEY}}'\nadmin:\n  listen: '${{FOREBAY_ADMIN:-{}}}'\n",
        urls.collect::<String>(),
        limits::ADMIN
    )
}

/// There is no file whose lines the reader could look up.
fn forget_lines(node: &mut Node) {
    node.at.line = 0;
    node.at.column = 0;
    match &mut node.value {
        Value::Nothing => {}
        Value::Scalar(scalar) => scalar.text_column = None,
        Value::List(items) => items.iter_mut().for_each(forget_lines),
        Value::Map(entries) => {
            for entry in entries {
                entry.key_at.line = 0;
                entry.key_at.column = 0;
                forget_lines(&mut entry.node);
            }
        }
    }
}

fn display(path: &FilePath) -> Arc<str> {
    Arc::from(path.display().to_string())
}
