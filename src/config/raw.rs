//! What the file may say: serde shapes, filled by `serde_yaml`. Nothing is resolved or defaulted here.
//!
//! `schema` names the same keys with the same types and has reported every misfit before these shapes are filled, all
//! of them at once where serde would stop at the first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::leaf::{
    AllOff, Auto, Contains, Count, EveryBatch, FirstInLine, Idle, Is, LogLevel, Off, Or, Pattern, Region, SecretText,
    Size, Span, Spoken, Text, Timeout,
};
use super::url::{ProxyUrl, To};
use super::{
    Acknowledge, Compression, Durability, Listen, LogFormat, Mode, OutputFraming, Oversize, SpoolFull, limits,
};
use crate::route::{Expression, FacilitySet, Name, SeveritySet};
use crate::syslog::Framing;
use crate::template::Template;

pub(crate) type MessageSize = Size<{ limits::MESSAGE_SIZE_MIN }, { limits::MESSAGE_SIZE_MAX }>;
pub(crate) type Connections = Count<1, { limits::CONNECTIONS_MAX }>;
pub(crate) type OutputConnections = Count<1, { limits::OUTPUT_CONNECTIONS_MAX }>;
pub(crate) type ReceiveBuffer = Size<{ limits::RECEIVE_BUFFER_MIN }, { limits::RECEIVE_BUFFER_MAX }>;
pub(crate) type ReplayWindow = Size<0, { limits::REPLAY_WINDOW_MAX }>;
pub(crate) type MemoryMax = Size<{ limits::MEMORY_MAX_MIN }, { limits::MEMORY_MAX_MAX }>;
pub(crate) type Cores = Or<Auto, Count<1, { limits::CORES_MAX }>>;
pub(crate) type OptionalTimeout = Or<Off, Timeout>;
pub(crate) type ShutdownTimeout = Span<{ limits::TIMEOUT_MIN_MS }, { limits::TIMEOUT_MAX_MS }>;
pub(crate) type ShutdownDelay = Span<0, { limits::TIMEOUT_MAX_MS }>;
pub(crate) type SpoolSize = Size<{ limits::SPOOL_SIZE_MIN }, { limits::SPOOL_SIZE_MAX }>;
pub(crate) type MinFree = Size<0, { limits::SPOOL_SIZE_MAX }>;
pub(crate) type SyncInterval = Span<{ limits::SPOOL_SYNC_MIN_MS }, { limits::SPOOL_SYNC_MAX_MS }>;
pub(crate) type SpillAfter = Span<{ limits::SPILL_AFTER_MIN_MS }, { limits::SPILL_AFTER_MAX_MS }>;
pub(crate) type ImpstatsInterval = Span<{ limits::IMPSTATS_INTERVAL_MIN_MS }, { limits::IMPSTATS_INTERVAL_MAX_MS }>;
pub(crate) type AdminListen = Or<Off, super::AdminListen>;
pub(crate) type AdminOpen = Or<Off, AdminOpening>;
pub(crate) type Switch = Or<Off, bool>;
pub(crate) type BacklogShare = Count<1, 100>;
pub(crate) type RelpWindow = Count<1, { limits::RELP_WINDOW_MAX }>;
pub(crate) type MaxBody = Size<{ limits::BODY_MIN }, { limits::BODY_MAX }>;
pub(crate) type OptionalProxy = Or<Off, ProxyUrl>;
pub(crate) type RotateSize = Or<Off, Size<{ limits::ROTATE_SIZE_MIN }, { limits::ROTATE_SIZE_MAX }>>;
pub(crate) type RotateAge = Or<Off, Span<{ limits::ROTATE_AGE_MIN_MS }, { limits::ROTATE_AGE_MAX_MS }>>;
pub(crate) type RotateKeep = Count<0, { limits::ROTATE_KEEP_MAX }>;
pub(crate) type RequestsPerSecond = Count<1, { limits::REQUESTS_PER_SECOND_MAX }>;

/// The whole document.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) inputs: HashMap<String, Input>,
    pub(crate) outputs: HashMap<String, Output>,
    pub(crate) routes: Vec<Route>,
    pub(crate) spool: Option<Spool>,
    pub(crate) memory: Memory,
    pub(crate) shutdown_timeout: Option<Is<ShutdownTimeout>>,
    pub(crate) shutdown_delay: Option<Is<ShutdownDelay>>,
    pub(crate) admin: Admin,
    pub(crate) watch: Option<Is<bool>>,
    pub(crate) cores: Option<Is<Cores>>,
    pub(crate) log: Log,
    pub(crate) http: Http,
    pub(crate) user: Option<Is<Text>>,
    pub(crate) group: Option<Is<Text>>,
    pub(crate) hardening: Option<Hardening>,
}

/// `hardening`: a word, or a map.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Hardening {
    Off(Is<AllOff>),
    Each(Protections),
}

/// `hardening` as a map.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Protections {
    pub(crate) no_new_privs: Option<Is<Switch>>,
    pub(crate) seccomp: Option<Is<Switch>>,
    pub(crate) landlock: Option<Is<Switch>>,
}

/// `inputs.NAME`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Input {
    pub(crate) listen: Vec<Is<Listen>>,
    pub(crate) framing: Option<Is<Framing>>,
    pub(crate) max_message_size: Option<Is<MessageSize>>,
    pub(crate) oversize: Option<Is<Oversize>>,
    pub(crate) timezone: Option<Is<TimeZone>>,
    pub(crate) allow: Vec<Is<IpNet>>,
    pub(crate) proxy_protocol: Vec<Is<IpNet>>,
    pub(crate) max_connections: Option<Is<Connections>>,
    pub(crate) max_connections_per_peer: Option<Is<Connections>>,
    pub(crate) idle_timeout: Option<Is<Idle>>,
    pub(crate) receive_buffer: Option<Is<ReceiveBuffer>>,
    pub(crate) tls: Option<InputTls>,
    pub(crate) acknowledge: Option<Is<Acknowledge>>,
    pub(crate) impstats: Option<Impstats>,
}

/// `inputs.NAME.impstats`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Impstats {
    pub(crate) interval: Option<Is<ImpstatsInterval>>,
}

/// `inputs.NAME.tls`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct InputTls {
    pub(crate) cert: Option<Is<PathBuf>>,
    pub(crate) key: Option<Is<PathBuf>>,
    pub(crate) client_ca: Option<Is<PathBuf>>,
}

/// `outputs.NAME`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Output {
    pub(crate) region: Option<Is<Region>>,
    pub(crate) protocol: Option<Is<Spoken>>,
    pub(crate) to: Vec<Is<To>>,
    pub(crate) mode: Option<Is<Mode>>,
    pub(crate) prefer_after: Option<Is<Timeout>>,
    pub(crate) fallback_addresses: Vec<Is<IpAddr>>,
    pub(crate) framing: Option<Is<OutputFraming>>,
    pub(crate) tls: Option<OutputTls>,
    pub(crate) connections: Option<Is<OutputConnections>>,
    pub(crate) connect_timeout: Option<Is<Timeout>>,
    pub(crate) handshake_timeout: Option<Is<Timeout>>,
    pub(crate) stall_timeout: Option<Is<Timeout>>,
    pub(crate) idle_timeout: Option<Is<Idle>>,
    pub(crate) keepalive: Option<Is<Idle>>,
    pub(crate) user_timeout: Option<Is<OptionalTimeout>>,
    pub(crate) replay_window: Option<Is<ReplayWindow>>,
    pub(crate) replay_quiet: Option<Is<Timeout>>,
    pub(crate) order: Option<Is<FirstInLine>>,
    pub(crate) backlog_share: Option<Is<BacklogShare>>,
    pub(crate) relp_window: Option<Is<RelpWindow>>,
    pub(crate) proxy: Option<Is<OptionalProxy>>,
    pub(crate) max_body: Option<Is<MaxBody>>,
    pub(crate) request_timeout: Option<Is<Timeout>>,
    pub(crate) rotate: Rotate,
    pub(crate) reveal_keys: Option<Is<bool>>,
}

/// `outputs.NAME.rotate`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rotate {
    pub(crate) size: Option<Is<RotateSize>>,
    pub(crate) age: Option<Is<RotateAge>>,
    pub(crate) keep: Option<Is<RotateKeep>>,
    pub(crate) compress: Option<Is<bool>>,
}

/// `outputs.NAME.tls`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OutputTls {
    pub(crate) ca: Option<Is<PathBuf>>,
    pub(crate) server_name: Option<Is<Text>>,
    pub(crate) client_cert: Option<Is<PathBuf>>,
    pub(crate) client_key: Option<Is<PathBuf>>,
}

/// `routes[]`. (`deny_unknown_fields` and `flatten` exclude each other; the schema refuses unknown keys.)
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Route {
    pub(crate) name: Option<Is<Text>>,
    #[serde(flatten)]
    pub(crate) conditions: Conditions,
    pub(crate) not: Option<Conditions>,
    pub(crate) intake_key: Option<Is<SecretText>>,
    pub(crate) intake_key_file: Option<Is<PathBuf>>,
    pub(crate) output: Option<Is<Text>>,
    pub(crate) template: Option<Is<Template>>,
    pub(crate) http_template: Option<Is<Template>>,
    pub(crate) discard: Option<Is<bool>>,
    #[serde(rename = "continue")]
    pub(crate) continues: Option<Is<bool>>,
    pub(crate) spool: Option<Share>,
}

/// `routes[].spool`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Share {
    pub(crate) max_size: Option<Is<SpoolSize>>,
    pub(crate) when_full: Option<Is<SpoolFull>>,
}

/// What a message must be like.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Conditions {
    pub(crate) program: Vec<Is<Name>>,
    pub(crate) hostname: Vec<Is<Name>>,
    pub(crate) peer: Vec<Is<IpNet>>,
    pub(crate) input: Vec<Is<Text>>,
    pub(crate) facility: Vec<Is<FacilitySet>>,
    pub(crate) severity: Vec<Is<SeveritySet>>,
    pub(crate) message: Vec<MessageTest>,
    pub(crate) when: Option<Is<Expression>>,
}

/// `routes[].message[]`: exactly one of the two.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MessageTest {
    pub(crate) contains: Option<Is<Contains>>,
    pub(crate) regex: Option<Is<Pattern>>,
}

/// `spool`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Spool {
    pub(crate) dir: Option<Is<PathBuf>>,
    pub(crate) max_size: Option<Is<SpoolSize>>,
    pub(crate) when_full: Option<Is<SpoolFull>>,
    pub(crate) durability: Option<Is<Durability>>,
    pub(crate) sync: Option<Syncing>,
    pub(crate) min_free: Option<Is<MinFree>>,
    pub(crate) compression: Option<Is<Compression>>,
    pub(crate) spill_after: Option<Is<SpillAfter>>,
    pub(crate) encryption_key_file: Option<Is<PathBuf>>,
}

/// `spool.sync`: a word, or a map.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Syncing {
    EveryBatch(Is<EveryBatch>),
    Interval { interval: Option<Is<SyncInterval>> },
}

/// `memory`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Memory {
    pub(crate) max: Option<Is<MemoryMax>>,
}

/// `admin`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admin {
    pub(crate) listen: Vec<Is<AdminListen>>,
    pub(crate) token_file: Option<Is<PathBuf>>,
    pub(crate) tls: Option<InputTls>,
    pub(crate) open: Vec<Is<AdminOpen>>,
    pub(crate) taps: Option<Is<Switch>>,
    pub(crate) hosts: Vec<Is<Text>>,
}

/// `admin.open[]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminOpening {
    Metrics,
    Probes,
}

/// `log`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) level: Option<Is<LogLevel>>,
    pub(crate) format: Option<Is<LogFormat>>,
}

/// `http`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    pub(crate) requests_per_second: Option<Is<RequestsPerSecond>>,
}
