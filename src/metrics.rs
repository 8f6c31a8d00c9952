//! Every metric, declared once.
//!
//! The data path adds to plain atomics ([`Meters`]), once per batch; a scrape copies them into the recorder. The counters
//! form a ledger: per input, received = rejected + discarded + unmatched + routed; per route, routed +
//! recovered = released + in flight + waiting + spooled + dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::config::{Config, Protocol};

pub use age::Ages;
pub use expiry::{Expiries, Expiry, OutputExpiries};
use histogram::Histogram;
pub use unmatched::UnmatchedPrograms;

mod age;
mod expiry;
mod histogram;
mod unmatched;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        if n != 0 {
            self.0.fetch_add(n, Relaxed);
        }
    }

    /// What it stands at.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// An amount that grows and shrinks.
#[derive(Debug, Default)]
pub struct Amount(AtomicI64);

impl Amount {
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        if n != 0 {
            self.0.fetch_add(n, Relaxed);
        }
    }

    /// Sets it: for what one thread measures.
    pub fn set(&self, value: u64) {
        self.0.store(value as i64, Relaxed);
    }

    /// What it stands at; never below zero to a reader, even in the middle of an update.
    pub fn value(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed)).unwrap_or(0)
    }
}

/// Declares a struct of meters together with the metrics they are exported as, so that one cannot be without the other.
macro_rules! meters {
    ($(#[$doc:meta])* $name:ident, $prefix:literal { $($field:ident: $kind:ident, $suffix:literal $labels:tt, $unit:ident, $help:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name { $(#[doc = $help] pub $field: $kind,)* }

        impl $name {
            /// Name, unit and meaning of each metric.
            const METRICS: &'static [Described] = &[$(Described {
                name: concat!("forebay_", $prefix, $suffix), kind: Kind::$kind, unit: Unit::$unit, help: $help,
            },)*];

            fn export(&self, recorder: &PrometheusRecorder, whose: Option<&Label>) {
                $($kind::export(&self.$field, recorder, concat!("forebay_", $prefix, $suffix), whose, &$labels);)*
            }
        }
    };
}

/// A metric as `# HELP` and docs/METRICS.md give it.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Full name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What is counted.
    pub unit: Unit,
    /// One sentence.
    pub help: &'static str,
}

/// What kind of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Count,
    /// Grows and shrinks.
    Amount,
    /// A distribution.
    Histogram,
}

meters! {
    /// One input's meters. Its ledger: received = rejected + discarded + unmatched + routed.
    InputMeters, "input_" {
        received: Count, "received_messages_total" [], Count, "Messages that arrived.";
        received_bytes: Count, "received_bytes_total" [], Bytes, "Octets of the messages that arrived, framing excluded.";
        rejected_oversize: Count, "rejected_messages_total" [("reason", "oversize")], Count, "Messages that were not taken, by reason: larger than max_message_size, or from a peer that allow does not list.";
        rejected_peer: Count, "rejected_messages_total" [("reason", "peer_not_allowed")], Count, "Messages that were not taken, by reason: larger than max_message_size, or from a peer that allow does not list.";
        discarded: Count, "discarded_messages_total" [], Count, "Messages that a route discards.";
        unmatched: Count, "unmatched_messages_total" [], Count, "Messages that no route takes; /status names their programs.";
        routed: Count, "routed_messages_total" [], Count, "Messages that at least one route forwards.";
        truncated: Count, "truncated_messages_total" [], Count, "Messages cut at max_message_size and forwarded.";
        unfinished: Count, "unfinished_messages_total" [], Count, "Last messages of a stream that ended before their trailer; forwarded.";
        kernel_drops: Count, "kernel_dropped_datagrams_total" [], Count, "Datagrams that the kernel dropped before we could read them (receive buffer full).";
        connections: Amount, "connections" [], Count, "Connections open now.";
        accepted: Count, "accepted_connections_total" [], Count, "Connections accepted.";
        refused_limit: Count, "refused_connections_total" [("reason", "max_connections")], Count, "Connections closed at once, by reason.";
        refused_peer_limit: Count, "refused_connections_total" [("reason", "max_connections_per_peer")], Count, "Connections closed at once, by reason.";
        refused_peer: Count, "refused_connections_total" [("reason", "peer_not_allowed")], Count, "Connections closed at once, by reason.";
        refused_handshake: Count, "refused_connections_total" [("reason", "tls_handshake")], Count, "Connections closed at once, by reason.";
        refused_protocol: Count, "refused_connections_total" [("reason", "tls_on_plain_port")], Count, "Connections closed at once, by reason.";
        refused_header: Count, "refused_connections_total" [("reason", "proxy_header")], Count, "Connections closed at once, by reason.";
        idle_closed: Count, "idle_closed_connections_total" [], Count, "Connections closed after idle_timeout.";
        partial_closed: Count, "partial_closed_connections_total" [], Count, "Connections closed because the unfinished messages of all connections took too much memory; what came of theirs is forwarded.";
        relp_errors: Count, "relp_errors_total" [], Count, "RELP connections closed because the sender does not keep to the protocol.";
        unread_closed: Count, "unread_closed_connections_total" [], Count, "RELP connections closed because the sender does not read what is answered.";
        acknowledged: Count, "acknowledged_messages_total" [], Count, "Messages that a RELP sender was told to be safe, as acknowledge says.";
        unacknowledged: Amount, "unacknowledged_messages" [], Count, "Messages taken over RELP connections that are open, and not acknowledged yet.";
        accept_errors: Count, "accept_errors_total" [], Count, "Failed accepts (open files exhausted, resets); accepting goes on.";
        blocked: Amount, "blocked_connections" [], Count, "Connections not read now because a route's queue is full.";
    }
}

meters! {
    /// One route's meters. Its ledger: routed + recovered = released + in flight + waiting + spooled + dropped.
    RouteMeters, "route_" {
        routed: Count, "routed_messages_total" [], Count, "Messages that this route took.";
        discarded: Count, "discarded_messages_total" [], Count, "Messages that this route discarded (discard: true).";
        released: Count, "released_messages_total" [], Count, "Messages that the far end has: acknowledged by its kernel and out of the replay window, or by itself.";
        dropped_full: Count, "dropped_messages_total" [("reason", "queue_full")], Count, "Messages lost, by reason: datagrams that met a full queue, what was left when shutdown_timeout ended, what a full spool evicted or refused, what a damaged spool no longer holds, what an operator dropped from it, what the far end or a datagram does not take, what had no text to send over HTTPS.";
        dropped_spool_full: Count, "dropped_messages_total" [("reason", "spool_full")], Count, "Messages lost, by reason: datagrams that met a full queue, what was left when shutdown_timeout ended, what a full spool evicted or refused, what a damaged spool no longer holds, what an operator dropped from it, what the far end or a datagram does not take, what had no text to send over HTTPS.";
        dropped_spool_damaged: Count, "dropped_messages_total" [("reason", "spool_damaged")], Count, "Messages lost, by reason: datagrams that met a full queue, what was left when shutdown_timeout ended, what a full spool evicted or refused, what a damaged spool no longer holds, what an operator dropped from it, what the far end or a datagram does not take, what had no text to send over HTTPS.";
        dropped_operator: Count, "dropped_messages_total" [("reason", "operator")], Count, "Messages lost, by reason: datagrams that met a full queue, what was left when shutdown_timeout ended, what a full spool evicted or refused, what a damaged spool no longer holds, what an operator dropped from it, what the far end or a datagram does not take, what had no text to send over HTTPS.";
        dropped_shutdown: Count, "dropped_messages_total" [("reason", "shutdown")], Count, "Messages lost, by reason: datagrams that met a full queue, what was left when shutdown_timeout ended, what a full spool evicted or refused, what a damaged spool no longer holds, what an operator dropped from it, what the far end or a datagram does not take, what had no text to send over HTTPS.";
        dropped_refused: Count, "dropped_messages_total" [("reason", "refused")], Count, "Messages lost, by reason: datagrams that met a full queue, what was left when shutdown_timeout ended, what a full spool evicted or refused, what a damaged spool no longer holds, what an operator dropped from it, what the far end or a datagram does not take, what had no text to send over HTTPS.";
        dropped_empty: Count, "dropped_messages_total" [("reason", "empty")], Count, "Messages lost, by reason: datagrams that met a full queue, what was left when shutdown_timeout ended, what a full spool evicted or refused, what a damaged spool no longer holds, what an operator dropped from it, what the far end or a datagram does not take, what had no text to send over HTTPS.";
        spooled: Amount, "spooled_messages" [], Count, "Messages on the disk and not in memory.";
        recovered: Count, "recovered_messages_total" [], Count, "Messages that an earlier run left in the spool, or that were imported into it.";
        spool_bytes: Amount, "spool_bytes" [], Bytes, "Octets of the blocks in the spool.";
        spool_messages: Amount, "spool_messages" [], Count, "Messages in the spool, those included that are in memory as well and not released yet.";
        spool_oldest_seconds: Amount, "spool_oldest_seconds" [], Seconds, "Time since the oldest message in the spool was received; 0 when there is none.";
        waiting: Amount, "waiting_messages" [], Count, "Messages in memory, not written yet.";
        waiting_oldest: Amount, "waiting_oldest_seconds" [], Seconds, "Time since the oldest message that waits in memory was received; 0 when none does.";
        waiting_bytes: Amount, "waiting_bytes" [], Bytes, "Memory that the waiting messages take.";
        in_flight: Amount, "in_flight_messages" [], Count, "Messages written and not released yet: unacknowledged, or in the replay window.";
        resent: Count, "resent_messages_total" [], Count, "Messages sent again after a connection broke: possible duplicates.";
        cut: Count, "cut_messages_total" [], Count, "Messages cut at what an HTTPS intake takes, and sent.";
        parked: Amount, "parked" [], Count, "1 while the HTTPS intake does not take the route's key: its messages wait; /status says why.";
    }
}

impl InputMeters {
    /// Connections closed at once, for any reason.
    pub fn refused(&self) -> u64 {
        let by_gate = [&self.refused_limit, &self.refused_peer_limit, &self.refused_peer];
        let by_octets = [&self.refused_handshake, &self.refused_protocol, &self.refused_header];
        by_gate.iter().chain(&by_octets).map(|reason| reason.value()).sum()
    }
}

impl RouteMeters {
    /// Messages lost, by reason.
    pub fn dropped_by_reason(&self) -> [(&'static str, u64); 7] {
        [
            ("queue_full", self.dropped_full.value()),
            ("spool_full", self.dropped_spool_full.value()),
            ("spool_damaged", self.dropped_spool_damaged.value()),
            ("operator", self.dropped_operator.value()),
            ("shutdown", self.dropped_shutdown.value()),
            ("refused", self.dropped_refused.value()),
            ("empty", self.dropped_empty.value()),
        ]
    }

    /// Messages lost, for any reason.
    pub fn dropped(&self) -> u64 {
        self.dropped_by_reason().iter().map(|(_, messages)| messages).sum()
    }
}

meters! {
    /// One output's meters.
    OutputMeters, "output_" {
        connections: Amount, "connections" [], Count, "Connections established now.";
        connects: Count, "connects_total" [], Count, "Connections established.";
        failed_resolve: Count, "connect_failures_total" [("reason", "resolve")], Count, "Failed attempts to connect, by reason.";
        failed_connect: Count, "connect_failures_total" [("reason", "connect")], Count, "Failed attempts to connect, by reason.";
        failed_proxy: Count, "connect_failures_total" [("reason", "proxy")], Count, "Failed attempts to connect, by reason.";
        failed_handshake: Count, "connect_failures_total" [("reason", "tls_handshake")], Count, "Failed attempts to connect, by reason.";
        failed_open: Count, "connect_failures_total" [("reason", "relp_open")], Count, "Failed attempts to connect, by reason.";
        resolved_dns: Count, "resolutions_total" [("source", "dns")], Count, "Addresses found for a new connection, by source: the name servers, the last good answer because they failed, fallback_addresses because there is none.";
        resolved_last_good: Count, "resolutions_total" [("source", "last_good")], Count, "Addresses found for a new connection, by source: the name servers, the last good answer because they failed, fallback_addresses because there is none.";
        resolved_fallback: Count, "resolutions_total" [("source", "fallback")], Count, "Addresses found for a new connection, by source: the name servers, the last good answer because they failed, fallback_addresses because there is none.";
        broken: Count, "broken_connections_total" [], Count, "Connections that ended without an orderly close of ours.";
        written_messages: Count, "written_messages_total" [], Count, "Messages written, those sent again included.";
        written_bytes: Count, "written_bytes_total" [], Bytes, "Octets written, before encryption.";
        acknowledged_bytes: Count, "acknowledged_bytes_total" [], Bytes, "Octets on the wire that the peer's kernel acknowledged, after encryption.";
    }
}

impl OutputMeters {
    /// Failed attempts to connect, for any reason.
    pub fn failed_connects(&self) -> u64 {
        let reasons =
            [&self.failed_resolve, &self.failed_connect, &self.failed_proxy, &self.failed_handshake, &self.failed_open];
        reasons.iter().map(|reason| reason.value()).sum()
    }
}

meters! {
    /// The spool's meters.
    SpoolMeters, "spool_" {
        opening: Amount, "state" [("state", "opening")], Count, "How the spool is: the one with 1.";
        ready: Amount, "state" [("state", "ready")], Count, "How the spool is: the one with 1.";
        full: Amount, "state" [("state", "full")], Count, "How the spool is: the one with 1.";
        failing: Amount, "state" [("state", "failing")], Count, "How the spool is: the one with 1.";
        disk_bytes: Amount, "disk_bytes" [], Bytes, "What the spool's folder takes on the disk, all of it.";
        max_bytes: Amount, "max_bytes" [], Bytes, "What it may take (max_size).";
        disk_free_bytes: Amount, "disk_free_bytes" [], Bytes, "What is free on its disk.";
        orphan_messages: Amount, "orphan_messages" [], Count, "Messages of routes that are not in the configuration any more; /status names them.";
        written_blocks: Count, "written_blocks_total" [], Count, "Blocks written.";
        written_messages: Count, "written_messages_total" [], Count, "Messages written (with sync: every_batch, and safe from a power cut).";
        written_bytes: Count, "written_bytes_total" [], Bytes, "Octets of messages written, before compression.";
        read_blocks: Count, "read_blocks_total" [], Count, "Blocks read back to be sent.";
        released_blocks: Count, "released_blocks_total" [], Count, "Blocks whose messages are all released.";
        evicted_blocks: Count, "evicted_blocks_total" [], Count, "Blocks that made room for newer ones (when_full: drop_oldest).";
        damaged_blocks: Count, "damaged_blocks_total" [], Count, "Blocks that could not be read back, as far as they are known.";
        damaged_bytes: Count, "damaged_bytes_total" [], Bytes, "Octets on the disk that were no readable block.";
        quarantined_files: Count, "quarantined_files_total" [], Count, "Files moved to quarantine/.";
        index_rebuilds: Count, "index_rebuilds_total" [], Count, "Times that the index was made again from the segments.";
        errors: Count, "errors_total" [], Count, "Calls to the disk that failed.";
    }
}

meters! {
    /// What all HTTPS outputs do together.
    HttpMeters, "http_" {
        succeeded: Count, "requests_total" [("status", "2xx")], Count, "Requests by the class of their answer's status; none: no whole answer came.";
        redirected: Count, "requests_total" [("status", "3xx")], Count, "Requests by the class of their answer's status; none: no whole answer came.";
        refused: Count, "requests_total" [("status", "4xx")], Count, "Requests by the class of their answer's status; none: no whole answer came.";
        failed: Count, "requests_total" [("status", "5xx")], Count, "Requests by the class of their answer's status; none: no whole answer came.";
        unanswered: Count, "requests_total" [("status", "none")], Count, "Requests by the class of their answer's status; none: no whole answer came.";
        plain_bytes: Count, "plain_bytes_total" [], Bytes, "Octets of requests' bodies before compression.";
        queued: Amount, "queued_requests" [], Count, "Requests that wait for the limiter now.";
        held_up: Count, "held_up_requests_total" [], Count, "Requests that the limiter made wait.";
        paused: Amount, "paused" [], Count, "1 from the second error within 10 s until the next request may go.";
        pauses: Count, "pauses_total" [], Count, "Pauses after two errors within 10 s.";
        miscounted: Count, "miscounted_requests_total" [], Count, "Answers whose event_ids are more or less than the events that were sent.";
    }
}

/// Seconds that a request took.
const REQUEST_SECONDS: Described = Described {
    name: "forebay_http_request_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Time from a request's first octet to its whole answer.",
};

/// Seconds that making the spool's octets safe took.
const SYNC_SECONDS: Described = Described {
    name: "forebay_spool_sync_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Time that one fdatasync of the spool took.",
};

/// Seconds from reception to release, by route.
const RELEASE_SECONDS: Described = Described {
    name: "forebay_route_release_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Time from a message's reception to its release, the oldest of each batch; the replay window's wait included.",
};

/// Seconds from reception to acknowledgement, by route.
const ACKNOWLEDGE_SECONDS: Described = Described {
    name: "forebay_route_acknowledge_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Time from a message's reception to its acknowledgement by the peer's kernel, or by itself, the oldest of each batch.",
};

const CERTIFICATE_EXPIRY: Described = Described {
    name: "forebay_tls_certificate_expiry_timestamp_seconds",
    kind: Kind::Amount,
    unit: Unit::Seconds,
    help: "When the certificate ends, since the Unix epoch: ours (side=ours), or the one that an output's peer presented last, trusted or not (side=peer).",
};

const READY: Described = Described {
    name: "forebay_ready",
    kind: Kind::Amount,
    unit: Unit::Count,
    help: "1 while every socket is bound and the relay is not stopping.",
};

const LEFT_OUT: Described = Described {
    name: "forebay_configuration_left_out",
    kind: Kind::Amount,
    unit: Unit::Count,
    help: "What the configuration asks for and is not done: entries of an intakes.yaml that cannot be used; /status names them.",
};

const BUILD: Described = Described {
    name: "forebay_build_info",
    kind: Kind::Amount,
    unit: Unit::Count,
    help: "Always 1; the label says which version runs.",
};

const SHARDS: Described = Described {
    name: "forebay_shards",
    kind: Kind::Amount,
    unit: Unit::Count,
    help: "Shards: threads that each receive, parse, route and forward.",
};

/// Every metric that is exported, in the order of docs/METRICS.md.
pub fn described() -> impl Iterator<Item = Described> {
    let single = [
        RELEASE_SECONDS,
        ACKNOWLEDGE_SECONDS,
        SYNC_SECONDS,
        REQUEST_SECONDS,
        CERTIFICATE_EXPIRY,
        READY,
        LEFT_OUT,
        BUILD,
        SHARDS,
    ];
    let all = InputMeters::METRICS
        .iter()
        .chain(RouteMeters::METRICS)
        .chain(OutputMeters::METRICS)
        .chain(HttpMeters::METRICS)
        .chain(SpoolMeters::METRICS);
    let mut seen: Vec<&'static str> = Vec::new();
    let mut listed = Vec::new();
    for metric in all.copied().chain(single) {
        // A metric with a `reason` label is declared once a reason.
        if !seen.contains(&metric.name) {
            seen.push(metric.name);
            listed.push(metric);
        }
    }
    listed.into_iter()
}

/// All meters of the process, shared by the shards and the admin server. Indices are the configuration's.
#[derive(Debug)]
pub struct Meters {
    /// By input.
    pub inputs: Vec<InputMeters>,
    /// By route.
    pub routes: Vec<RouteMeters>,
    /// By output.
    pub outputs: Vec<OutputMeters>,
    /// The spool, where there is one.
    pub spool: Option<SpoolMeters>,
    spool_sync: Histogram,
    /// HTTPS, where an output speaks it.
    pub http: Option<HttpMeters>,
    http_request: Histogram,
    /// Programs that no route takes.
    pub unmatched_programs: UnmatchedPrograms,
    /// When certificates end.
    pub expiries: Expiries,
    /// By route: since when messages wait in memory.
    pub ages: Vec<Ages>,
    /// Every socket is bound, and the relay is not stopping.
    pub ready: AtomicBool,
    /// What the configuration asks for and is not done.
    pub left_out: Amount,
    names: Names,
    histograms: Vec<RouteHistograms>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

/// Label values.
#[derive(Debug)]
struct Names {
    inputs: Vec<Label>,
    routes: Vec<Label>,
    outputs: Vec<Label>,
    shards: usize,
}

#[derive(Debug, Default)]
struct RouteHistograms {
    acknowledge: Histogram,
    release: Histogram,
}

const METADATA: Metadata<'static> = Metadata::new("forebay", Level::INFO, None);

impl Meters {
    /// Meters for all that `config` names.
    pub fn new(config: &Config) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for metric in described() {
            let (name, unit, help) = (KeyName::from(metric.name), Some(metric.unit), metric.help.into());
            match metric.kind {
                Kind::Count => recorder.describe_counter(name, unit, help),
                Kind::Amount => recorder.describe_gauge(name, unit, help),
                // Rendered beside the recorder, see [`Histogram`].
                Kind::Histogram => {}
            }
        }
        let is_http = config.outputs.iter().any(|output| matches!(output.protocol, Protocol::Https(_)));
        let names = Names {
            inputs: config.inputs.iter().map(|input| Label::new("input", input.name.clone())).collect(),
            routes: config.routes.iter().map(|route| Label::new("route", route.name.clone())).collect(),
            outputs: config.outputs.iter().map(|output| Label::new("output", output.name.clone())).collect(),
            shards: config.cores,
        };
        Self {
            inputs: config.inputs.iter().map(|_| InputMeters::default()).collect(),
            routes: config.routes.iter().map(|_| RouteMeters::default()).collect(),
            outputs: config.outputs.iter().map(|_| OutputMeters::default()).collect(),
            spool: config.spool.as_ref().map(|spool| {
                let meters = SpoolMeters::default();
                meters.max_bytes.set(spool.max_size);
                meters
            }),
            spool_sync: Histogram::default(),
            http: is_http.then(HttpMeters::default),
            http_request: Histogram::default(),
            unmatched_programs: UnmatchedPrograms::default(),
            expiries: Expiries {
                inputs: config.inputs.iter().map(|_| Arc::default()).collect(),
                outputs: config.outputs.iter().map(|_| OutputExpiries::default()).collect(),
            },
            ages: config.routes.iter().map(|_| Ages::new(config.cores)).collect(),
            ready: AtomicBool::new(false),
            left_out: Amount::default(),
            histograms: config.routes.iter().map(|_| RouteHistograms::default()).collect(),
            handle: recorder.handle(),
            names,
            recorder,
        }
    }

    /// A batch of `count` messages of `route` was acknowledged `seconds` after its first message's arrival.
    pub fn acknowledged(&self, route: usize, seconds: f64, count: usize) {
        if let Some(histograms) = self.histograms.get(route) {
            histograms.acknowledge.record(seconds, count as u64);
        }
    }

    /// A batch of `count` messages of `route` was released `seconds` after its first message's arrival.
    pub fn released(&self, route: usize, seconds: f64, count: usize) {
        if let Some(histograms) = self.histograms.get(route) {
            histograms.release.record(seconds, count as u64);
        }
    }

    /// One `fdatasync` of the spool took `seconds`.
    pub fn spool_synced(&self, seconds: f64) {
        self.spool_sync.record(seconds, 1);
    }

    /// A request took `seconds` to be answered.
    pub fn http_answered(&self, seconds: f64) {
        self.http_request.record(seconds, 1);
    }

    /// Brings `waiting_oldest` of all routes up to now: to be called before it is shown.
    pub fn look_at_ages(&self) {
        for (ages, meters) in self.ages.iter().zip(&self.routes) {
            meters.waiting_oldest.set(ages.seconds());
        }
    }

    /// The Prometheus text format of everything.
    pub fn render(&self) -> String {
        let recorder = &self.recorder;
        self.look_at_ages();
        export_all(&self.inputs, &self.names.inputs, |meters, label| meters.export(recorder, Some(label)));
        export_all(&self.routes, &self.names.routes, |meters, label| meters.export(recorder, Some(label)));
        export_all(&self.outputs, &self.names.outputs, |meters, label| meters.export(recorder, Some(label)));
        if let Some(spool) = &self.spool {
            spool.export(recorder, None);
        }
        if let Some(http) = &self.http {
            http.export(recorder, None);
        }
        let version = Label::new("version", env!("CARGO_PKG_VERSION"));
        let gauge = |name: &'static str, labels: Vec<Label>, value: f64| {
            recorder.register_gauge(&Key::from_parts(name, labels), &METADATA).set(value);
        };
        gauge(BUILD.name, vec![version], 1.0);
        gauge(READY.name, vec![], f64::from(u8::from(self.ready.load(Relaxed))));
        gauge(LEFT_OUT.name, vec![], self.left_out.value() as f64);
        gauge(SHARDS.name, vec![], self.names.shards as f64);
        self.export_expiries();
        let mut text = self.handle.render();
        self.render_histograms(ACKNOWLEDGE_SECONDS, |histograms| &histograms.acknowledge, &mut text);
        self.render_histograms(RELEASE_SECONDS, |histograms| &histograms.release, &mut text);
        if self.spool.is_some() {
            head_of_histogram(SYNC_SECONDS, &mut text);
            self.spool_sync.render(SYNC_SECONDS.name, None, &mut text);
            text.push('\n');
        }
        if self.http.is_some() {
            head_of_histogram(REQUEST_SECONDS, &mut text);
            self.http_request.render(REQUEST_SECONDS.name, None, &mut text);
            text.push('\n');
        }
        text
    }

    /// Those that are known: a certificate that nobody has must not look like one that ended in 1970.
    fn export_expiries(&self) {
        let export = |expiry: &Expiry, side: &'static str, whose: &Label| {
            if let Some(seconds) = expiry.value() {
                let labels = vec![Label::from_static_parts("side", side), whose.clone()];
                let gauge = self.recorder.register_gauge(&Key::from_parts(CERTIFICATE_EXPIRY.name, labels), &METADATA);
                gauge.set(seconds as f64);
            }
        };
        export_all(&self.expiries.inputs, &self.names.inputs, |expiry, label| export(expiry, "ours", label));
        export_all(&self.expiries.outputs, &self.names.outputs, |expiries, label| {
            export(&expiries.ours, "ours", label);
            export(&expiries.peer, "peer", label);
        });
    }

    fn render_histograms(&self, metric: Described, which: impl Fn(&RouteHistograms) -> &Histogram, text: &mut String) {
        head_of_histogram(metric, text);
        for (histograms, route) in self.histograms.iter().zip(&self.names.routes) {
            which(histograms).render(metric.name, Some(route), text);
        }
        text.push('\n');
    }
}

fn head_of_histogram(Described { name, help, .. }: Described, text: &mut String) {
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} histogram\n"));
}

fn export_all<M>(meters: &[M], labels: &[Label], export: impl Fn(&M, &Label)) {
    for (meters, label) in meters.iter().zip(labels) {
        export(meters, label);
    }
}

fn key(name: &'static str, whose: Option<&Label>, more: &[(&'static str, &'static str)]) -> Key {
    let more = more.iter().map(|(key, value)| Label::from_static_parts(key, value));
    Key::from_parts(name, whose.cloned().into_iter().chain(more).collect::<Vec<_>>())
}

impl Count {
    fn export(
        &self,
        to: &PrometheusRecorder,
        name: &'static str,
        whose: Option<&Label>,
        more: &[(&'static str, &'static str)],
    ) {
        let counter: Counter = to.register_counter(&key(name, whose, more), &METADATA);
        counter.absolute(self.value());
    }
}

impl Amount {
    fn export(
        &self,
        to: &PrometheusRecorder,
        name: &'static str,
        whose: Option<&Label>,
        more: &[(&'static str, &'static str)],
    ) {
        let gauge: Gauge = to.register_gauge(&key(name, whose, more), &METADATA);
        gauge.set(self.value() as f64);
    }
}
