//! The configuration as the program uses it: resolved, checked, impossible to misuse.
//!
//! `source` reads files into a `tree` that knows positions, `schema` holds it against the keys there are, `raw` shapes
//! what the file may say, `resolve` gives it meaning: [`load`] turns it into a [`Config`] or into one [`Report`] that holds *all*
//! mistakes. Nothing here opens a socket. `foreign` is for the configurations of other programs: `rsyslog` reads rsyslog's.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use crate::route::Conditions;
use crate::syslog::Framing;
use crate::template::Template;

pub use foreign::{Keys, Note, Reading, import_rsyslog};
#[doc(hidden)]
pub use fuzz::fuzz;
pub use load::{Loaded, load, load_with};
pub use places::Places;
pub use protect::{Account, AdminAccess, AdminOpen, Hardening, KeyFiles};
pub use report::{Mistake, Position, Report};
pub(crate) use resolve::read_spool_key;
#[doc(hidden)]
pub use rsyslog::fuzz as fuzz_rsyslog;
pub use schema::keys;
pub use secret::{AdminToken, IntakeKey, SpoolKey};
pub use source::{ENVIRONMENT_LISTEN, INTAKES, Source};

mod expand;
mod foreign;
mod fuzz;
mod intakes;
mod leaf;
pub mod limits;
mod load;
mod path;
mod places;
mod protect;
mod raw;
mod report;
mod resolve;
mod rsyslog;
mod schema;
pub mod secret;
mod source;
mod succession;
mod summary;
mod tree;
pub mod units;
mod url;

/// A whole configuration. Indices (`Route::action`'s output) point into these vectors. An entry's index is its number for as
/// long as the process runs: what a reload brings stands behind ([`Config::after`]), what it takes away is marked as retired.
#[derive(Debug)]
pub struct Config {
    /// Where messages come in, in the file's order.
    pub inputs: Vec<Input>,
    /// Where they go.
    pub outputs: Vec<Output>,
    /// By number.
    pub routes: Vec<Route>,
    /// Routes that take messages, in the order in which they are asked: first match wins, unless a route continues.
    pub order: Vec<usize>,
    /// The disk queue; `None`: messages wait in memory only.
    pub spool: Option<Spool>,
    /// Bytes that the whole process may hold resident, queues and replay windows included.
    pub memory_max: usize,
    /// How long an orderly stop may take.
    pub shutdown_timeout: Duration,
    /// How long the relay goes on as before once the stop is ordered, not ready any more: `shutdown_timeout` begins after it.
    pub shutdown_delay: Duration,
    /// Where the admin server listens; empty: nowhere, it is off.
    pub admin: Vec<AdminListen>,
    /// Whom it answers.
    pub admin_access: AdminAccess,
    /// Whom the process becomes once its sockets are bound; `None`: it stays whom it was started as.
    pub user: Option<Account>,
    /// What it gives up besides.
    pub hardening: Hardening,
    /// Shards: one thread each. At least 1.
    pub cores: usize,
    /// A changed file is read again by itself.
    pub watch: bool,
    /// Log level and format.
    pub log: Log,
    /// What all HTTPS outputs together keep to.
    pub http: HttpLimits,
    /// What the configuration asks for and is not done, each with its reason: bad entries of an intakes.yaml. The rest runs
    /// without them. Sorted as a report is.
    pub left_out: Vec<Mistake>,
    /// A listener that cannot be bound, or that has no usable certificate, is left out as well, where another one can be
    /// used: so it is with an intakes.yaml that is not taken strictly.
    pub lenient: bool,
}

/// `http:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Requests a second, over all outputs and shards.
    pub requests_per_second: u32,
}

/// An `inputs:` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its key in the file; `%inputname%` and the metrics' `input` label.
    pub name: String,
    /// At least one, unless there is `impstats`.
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
    /// Load balancers: connections from these begin with a header of the PROXY protocol, whose sender is the peer.
    pub proxy_protocol: Vec<IpNet>,
    /// Open connections, over all listeners of this input.
    pub max_connections: usize,
    /// Open connections from one address.
    pub max_connections_per_peer: usize,
    /// A connection that sends nothing for so long is closed; `None` never.
    pub idle_timeout: Option<Duration>,
    /// Kernel receive buffer in bytes (`SO_RCVBUF`); `None`: 4 MiB or more for datagrams, the kernel's choice for streams.
    pub receive_buffer: Option<usize>,
    /// Present when one of `listen` is `tls://` or `relp+tls://`.
    pub tls: Option<InputTls>,
    /// When a RELP sender is told that its message has arrived.
    pub acknowledge: Acknowledge,
    /// It takes nothing from outside: its messages are the relay's own counts, in the shape of rsyslog's impstats, once in
    /// so long. `listen` is empty then.
    pub impstats: Option<Duration>,
    /// The configuration has it no more.
    pub retired: bool,
}

/// `acknowledge`: what has become of a message when its RELP sender may forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// It was read and is in memory.
    Received,
    /// It is on the disk, or released before it got there. Only where there is a spool.
    Spooled,
    /// Every destination that it goes to has acknowledged it.
    Released,
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
    /// `relp+tcp://ADDRESS:PORT`
    Relp(SocketAddr),
    /// `relp+tls://ADDRESS:PORT`
    RelpTls(SocketAddr),
    /// `unix:///PATH`, a stream.
    Unix(PathBuf),
    /// `unixgram:///PATH`, datagrams: what `/dev/log` is.
    UnixDatagram(PathBuf),
}

/// One address of the admin server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminListen {
    /// `ADDRESS:PORT`, HTTP.
    Tcp(SocketAddr),
    /// `unix:///PATH`, HTTP over a stream.
    Unix(PathBuf),
}

/// `max_message_size` exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversize {
    /// Cut at a UTF-8 boundary, counted, forwarded.
    Truncate,
    /// Counted as rejected, not forwarded.
    Reject,
}

/// Certificates of a `tls://` or `relp+tls://` listener: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTls {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Clients must present a certificate that chains to one of these.
    pub client_ca: Option<PathBuf>,
}

/// An `outputs:` entry: a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its key in the file, the metrics' `output` label.
    pub name: String,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// At least one, in the order of preference; empty with [`Protocol::File`].
    pub targets: Vec<Target>,
    /// How several targets share the work.
    pub mode: Mode,
    /// With [`Mode::Failover`]: how long a preferred target must have been well before it is returned to.
    pub prefer_after: Duration,
    /// Tried with a target's port when its name does not resolve.
    pub fallback_addresses: Vec<IpAddr>,
    /// `None` is plain TCP, UDP or a file.
    pub tls: Option<OutputTls>,
    /// Connections that each shard keeps (`connections` divided by the shards, rounded up); 1 for a file.
    pub connections_per_shard: usize,
    /// Bound on name resolution and on each TCP connect.
    pub connect_timeout: Duration,
    /// Bound on the TLS handshake.
    pub handshake_timeout: Duration,
    /// A connection that is up and makes no progress for so long (octets not taken, or not acknowledged) is ended.
    pub stall_timeout: Duration,
    /// A connection without traffic for so long is closed in order; `None` never.
    pub idle_timeout: Option<Duration>,
    /// TCP keepalive: idle time before the first probe; `None` turns it off.
    pub keepalive: Option<Duration>,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged.
    pub user_timeout: Option<Duration>,
    /// Bytes kept behind the acknowledged point and sent again after a break; 0 turns it off. 0 unless
    /// [`Protocol::Syslog`]: the others acknowledge messages themselves.
    pub replay_window: usize,
    /// How long they are kept once all is acknowledged.
    pub replay_quiet: Duration,
    /// What goes first when there is a backlog.
    pub order: Order,
    /// The configuration has it no more: what waits for it still goes there.
    pub retired: bool,
}

impl Output {
    /// Where it goes, for people: `HOST:PORT` of each target, or the file's path.
    pub fn address(&self) -> String {
        if let Protocol::File(file) = &self.protocol {
            return file.path.display().to_string();
        }
        let addresses: Vec<String> = self.targets.iter().map(Target::address).collect();
        addresses.join(", ")
    }

    /// The name that a target's certificate must carry.
    pub fn server_name<'a>(&'a self, target: &'a Target) -> &'a str {
        self.tls.as_ref().and_then(|tls| tls.server_name.as_deref()).unwrap_or(&target.host)
    }
}

/// One place that an output connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name or address, without brackets; resolved at every connect.
    pub host: String,
    /// TCP or UDP port.
    pub port: u16,
    /// With [`Protocol::Https`] what stands before the intake's own paths: empty, or `/…` without a slash at the end.
    pub path: String,
}

impl Target {
    /// `HOST:PORT`, for people; IPv6 addresses in brackets.
    pub fn address(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What an output speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// Frames on a stream (RFC 6587, RFC 5425): nothing is acknowledged but by TCP.
    Syslog(OutputFraming),
    /// A message a datagram (RFC 5426): nothing is acknowledged at all.
    Udp,
    /// RELP: each message is acknowledged.
    Relp {
        /// Messages unacknowledged at most, a connection.
        window: usize,
    },
    /// Sekoia's HTTP intake: each request is answered. Plain HTTP where the output has no `tls`.
    Https(Http),
    /// Lines in a file of this machine.
    File(FileOutput),
}

impl Protocol {
    /// `syslog`, `udp`, `relp`, `https` or `file`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Syslog(_) => "syslog",
            Self::Udp => "udp",
            Self::Relp { .. } => "relp",
            Self::Https(_) => "https",
            Self::File(_) => "file",
        }
    }
}

/// What HTTPS outputs have besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// The way out.
    pub proxy: Proxy,
    /// Octets of a request's body at most, before it is compressed.
    pub max_body: usize,
    /// Bound on an answer: from the request's last octet to the answer's.
    pub request_timeout: Duration,
}

/// `proxy`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// As `HTTPS_PROXY`, `https_proxy`, `NO_PROXY` and `no_proxy` say when the relay runs.
    FromEnvironment,
    /// None, whatever the environment says.
    Off,
    /// Host (without brackets) and port of an HTTP proxy.
    Url(String, u16),
}

/// A `file://` destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOutput {
    /// Absolute.
    pub path: PathBuf,
    /// When a new file is begun.
    pub rotate: Rotate,
    /// Intake keys are written as they are, and not as `***`.
    pub reveal_keys: bool,
}

/// `rotate`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotate {
    /// Octets of a file; `None`: any number.
    pub size: Option<u64>,
    /// Age of a file; `None`: any.
    pub age: Option<Duration>,
    /// Old files that stay.
    pub keep: usize,
    /// Old files are compressed (gzip).
    pub compress: bool,
}

/// `framing` of an output: how messages are told apart on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFraming {
    /// A count of octets in front of each (RFC 6587 section 3.4.1).
    Octet,
    /// LF behind each (RFC 6587 section 3.4.2), as rsyslog's `@@` without `(o)`.
    Lf,
}

/// `mode`: how an output's targets share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The first that is well takes everything.
    Failover,
    /// Connections are spread over all that are well.
    Balance,
}

/// `order`: what goes first when there is a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The backlog.
    OldestFirst,
    /// What comes in now.
    NewestFirst {
        /// Percent of what is sent that the backlog may take at least while live messages wait; 1 to 100.
        backlog_share: u8,
    },
}

/// How to trust and be trusted by a destination over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTls {
    /// PEM file of trust anchors; `None`: the Mozilla roots.
    pub ca: Option<PathBuf>,
    /// Name the certificates must carry; `None`: the target's host ([`Output::server_name`]).
    pub server_name: Option<String>,
    /// PEM files of our certificate chain and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A `routes:` entry.
#[derive(Debug, Clone)]
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
    /// The configuration has it no more: it takes nothing, and what waits in it still goes out.
    pub retired: bool,
}

/// What a route does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Counted as discarded, not forwarded.
    Discard,
    /// Rendered with the template and the key, sent to the output.
    Forward {
        /// Index into [`Config::outputs`].
        output: usize,
        /// Compiled. The route's `http_template` where the output is HTTPS.
        template: Template,
        /// What `%intake_key%` prints, and the header of HTTPS requests; `None` where neither is asked for.
        intake_key: Option<IntakeKey>,
    },
}

/// `spool:`
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Bytes on the disk; `None`: as much as there is.
    pub max_size: Option<u64>,
    /// `None`: as the spool has it.
    pub when_full: Option<SpoolFull>,
}

/// `log:`
#[derive(Debug, Clone, PartialEq, Eq)]
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
