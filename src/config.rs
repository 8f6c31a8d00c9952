//! The configuration as the program uses it: resolved, checked, impossible to misuse.
//!
//! `source` reads files into a `tree` that knows positions, `schema` holds it against the keys there are, `raw` shapes
//! what the file may say, `resolve` gives it meaning: [`load`] turns it into a [`Config`] or into one [`Report`] that holds *all*
//! mistakes. Nothing here opens a socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use crate::route::Conditions;
use crate::syslog::Framing;
use crate::template::Template;

#[doc(hidden)]
pub use fuzz::fuzz;
pub use report::{Mistake, Position, Report};
pub(crate) use resolve::read_spool_key;
pub use schema::keys;
pub use secret::{IntakeKey, SpoolKey};
pub use source::{ENVIRONMENT_LISTEN, Source};

mod expand;
mod fuzz;
mod leaf;
pub mod limits;
mod path;
mod raw;
mod report;
mod resolve;
mod schema;
pub mod secret;
mod source;
mod summary;
mod tree;
pub mod units;
mod url;

/// A configuration, and what is odd about it without being wrong.
#[derive(Debug)]
pub struct Loaded {
    /// Ready to run.
    pub config: Config,
    /// Sorted as a report is.
    pub warnings: Vec<Mistake>,
}

/// Reads, checks and resolves a configuration. `environment` looks variables up. Opens no socket and writes nothing;
/// reads the files that the configuration names.
///
/// A syntax error or an unreadable file is reported alone; all other mistakes are reported together.
pub fn load(source: &Source, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Report> {
    let mut mistakes = report::Mistakes::default();
    let mut tree = match source.read(environment, &mut mistakes) {
        Ok(tree) => tree,
        Err(fault) => return Err(Report::new(vec![fault])),
    };
    let unexpanded = expand::expand_all(&mut tree, environment, &mut mistakes);
    let mut check = schema::Check { mistakes: &mut mistakes, unexpanded, refused: Vec::new() };
    let value = check.value(&tree, &schema::ROOT, &path::Path::root()).unwrap_or(serde_yaml::Value::Null);
    let refused = check.refused;
    let raw: raw::File = match serde_yaml::from_value(value) {
        Ok(raw) => raw,
        Err(error) => {
            // A document that is no map at all was reported; besides, the schema lets nothing through that the shapes refuse.
            if mistakes.0.is_empty() {
                mistakes.add(&tree.at, &"", format!("not understood: {error}"));
            }
            raw::File::default()
        }
    };
    resolve::resolve(&tree, raw, refused, &source.directory(), mistakes)
}

/// A whole configuration. Indices (`Route::action`'s output) point into these vectors.
#[derive(Debug)]
pub struct Config {
    /// Where messages come in, in the file's order.
    pub inputs: Vec<Input>,
    /// Where they go.
    pub outputs: Vec<Output>,
    /// First match wins, unless a route continues.
    pub routes: Vec<Route>,
    /// The disk queue; `None`: messages wait in memory only.
    pub spool: Option<Spool>,
    /// Bytes that the whole process may hold resident, queues and replay windows included.
    pub memory_max: usize,
    /// How long an orderly stop may take.
    pub shutdown_timeout: Duration,
    /// Where the admin server listens; `None` turns it off.
    pub admin: Option<SocketAddr>,
    /// Shards: one thread each. At least 1.
    pub cores: usize,
    /// Log level and format.
    pub log: Log,
}

/// An `inputs:` entry.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its key in the file; `%inputname%` and the metrics' `input` label.
    pub name: String,
    /// At least one.
    pub listen: Vec<Listen>,
    /// How streams are cut into frames (datagrams are a frame each).
    pub framing: Framing,
    /// Octets; at least 480 (RFC 5424 section 6.1).
    pub max_message_size: usize,
    /// What happens to a larger one.
    pub oversize: Oversize,
    /// Zone of stamps that name none.
    pub timezone: TimeZone,
    /// Peers that may send; empty allows all.
    pub allow: Vec<IpNet>,
    /// Open connections, over all listeners of this input.
    pub max_connections: usize,
    /// Open connections from one address.
    pub max_connections_per_peer: usize,
    /// A connection that sends nothing for so long is closed; `None` never.
    pub idle_timeout: Option<Duration>,
    /// Kernel receive buffer in bytes (`SO_RCVBUF`); `None`: 4 MiB or more for datagrams, the kernel's choice for streams.
    pub receive_buffer: Option<usize>,
    /// Present when one of `listen` is `tls://`.
    pub tls: Option<InputTls>,
}

/// One address of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `udp://ADDRESS:PORT`
    Udp(SocketAddr),
    /// `tcp://ADDRESS:PORT`
    Tcp(SocketAddr),
    /// `tls://ADDRESS:PORT`
    Tls(SocketAddr),
    /// `unix:///PATH`, a stream.
    Unix(PathBuf),
    /// `unixgram:///PATH`, datagrams: what `/dev/log` is.
    UnixDatagram(PathBuf),
}

/// `max_message_size` exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversize {
    /// Cut at a UTF-8 boundary, counted, forwarded.
    Truncate,
    /// Counted as rejected, not forwarded.
    Reject,
}

/// Certificates of a `tls://` listener: PEM files.
#[derive(Debug, Clone)]
pub struct InputTls {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Clients must present a certificate that chains to one of these.
    pub client_ca: Option<PathBuf>,
}

/// An `outputs:` entry: a destination.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its key in the file, the metrics' `output` label.
    pub name: String,
    /// Name or address; resolved at every connect.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `None` is plain TCP.
    pub tls: Option<OutputTls>,
    /// Connections that each shard keeps (`connections` divided by the shards, rounded up).
    pub connections_per_shard: usize,
    /// Bound on name resolution and on each TCP connect.
    pub connect_timeout: Duration,
    /// Bound on the TLS handshake.
    pub handshake_timeout: Duration,
    /// A write that makes no progress for so long ends the connection.
    pub write_timeout: Duration,
    /// A connection without traffic for so long is closed in order; `None` never.
    pub idle_timeout: Option<Duration>,
    /// TCP keepalive: idle time before the first probe; `None` turns it off.
    pub keepalive: Option<Duration>,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged.
    pub user_timeout: Option<Duration>,
    /// Bytes kept behind the acknowledged point and sent again after a break; 0 turns it off.
    pub replay_window: usize,
    /// How long they are kept once all is acknowledged.
    pub replay_quiet: Duration,
}

impl Output {
    /// `HOST:PORT`, for people.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// How to trust and be trusted by a `tls://` destination.
#[derive(Debug, Clone)]
pub struct OutputTls {
    /// PEM file of trust anchors; `None`: the Mozilla roots.
    pub ca: Option<PathBuf>,
    /// Name the certificate must carry; the output's host by default.
    pub server_name: String,
    /// PEM files of our certificate chain and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A `routes:` entry.
#[derive(Debug)]
pub struct Route {
    /// Unique; the metrics' `route` label.
    pub name: String,
    /// All must hold.
    pub conditions: Conditions,
    /// Later routes are tried as well.
    pub continues: bool,
    /// What happens to a matching message.
    pub action: Action,
    /// Its part of the spool.
    pub spool: Share,
}

/// What a route does.
#[derive(Debug)]
pub enum Action {
    /// Counted as discarded, not forwarded.
    Discard,
    /// Rendered with the template and the key, sent to the output.
    Forward {
        /// Index into [`Config::outputs`].
        output: usize,
        /// Compiled.
        template: Template,
        /// What `%intake_key%` prints; `None` where the template has no such property.
        intake_key: Option<IntakeKey>,
    },
}

/// `spool:`
#[derive(Debug, Clone)]
pub struct Spool {
    /// Its folder, which one process owns.
    pub dir: PathBuf,
    /// Bytes that everything in `dir` may take on the disk, as `du` counts them.
    pub max_size: u64,
    /// What happens to messages that find it full.
    pub when_full: SpoolFull,
    /// Which batches go through it.
    pub durability: Durability,
    /// When what was written is made to survive a power cut.
    pub sync: SpoolSync,
    /// Bytes of the disk that are left to others.
    pub min_free: u64,
    /// How blocks are compressed.
    pub compression: Compression,
    /// A lane whose oldest waiting batch is older goes to the disk.
    pub spill_after: Duration,
    /// Blocks are encrypted with it.
    pub encryption_key: Option<SpoolKey>,
}

/// `when_full`: the spool, or a route's share of it, is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolFull {
    /// Streams are not read any more; datagrams that find no memory are dropped.
    Block,
    /// The oldest blocks make room.
    DropOldest,
    /// The new messages are dropped.
    DropNewest,
}

/// `durability`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Batches that memory does not hold, or that wait too long.
    Overflow,
    /// All of them, before they are forwarded.
    Always,
}

/// `sync`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolSync {
    /// At most so long after it was written.
    Interval(Duration),
    /// Before a batch counts as stored; one `fdatasync` serves all that arrived meanwhile.
    EveryBatch,
}

/// `compression`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// Fast.
    Lz4,
    /// Small (level 1).
    Zstd,
}

/// A route's part of the spool.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    /// Bytes on the disk; `None`: as much as there is.
    pub max_size: Option<u64>,
    /// `None`: as the spool has it.
    pub when_full: Option<SpoolFull>,
}

/// `log:`
#[derive(Debug, Clone)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, or a `tracing` filter.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}
