//! The meters of an input, a route, an output, the spool and of HTTPS, each with the metrics that it is exported as.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use metrics::{Counter, Gauge, Key, Label, Recorder, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::METADATA;

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
            pub(super) const METRICS: &'static [Described] = &[$(Described {
                name: concat!("forebay_", $prefix, $suffix), kind: Kind::$kind, unit: Unit::$unit, help: $help,
            },)*];

            pub(super) fn export(&self, recorder: &PrometheusRecorder, whose: Option<&Label>) {
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

meters! {
    /// What became of the configuration.
    ReloadMeters, "configuration_" {
        applied: Count, "reloads_total" [("result", "applied")], Count, "Times that the configuration was read again, by what came of it.";
        refused: Count, "reloads_total" [("result", "refused")], Count, "Times that the configuration was read again, by what came of it.";
        last_succeeded: Amount, "last_reload_success" [], Count, "0 when the configuration that was read last was refused, and an older one goes on; 1 otherwise.";
        applied_at: Amount, "applied_timestamp_seconds" [], Seconds, "When the configuration that runs was applied, since the Unix epoch.";
        generation: Amount, "generation" [], Count, "Which configuration runs: 1 is that of the start, each reload that was applied adds one.";
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
