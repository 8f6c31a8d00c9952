//! What `/status` and `/top` say, as far as it is shown. Unknown fields are of newer relays, missing ones of older.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `/status`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) ready: bool,
    pub(super) shards: u64,
    pub(super) uptime_seconds: u64,
    pub(super) inputs: Vec<Input>,
    pub(super) routes: Vec<Route>,
    pub(super) outputs: Vec<Output>,
    pub(super) spool: Option<Spool>,
    pub(super) unmatched_programs: Vec<Unmatched>,
    pub(super) configuration: Configuration,
}

/// `configuration`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Configuration {
    pub(super) last_reload: Option<String>,
}

impl Status {
    /// Without what has left the configuration and has nothing any more.
    pub(super) fn of_now(mut self) -> Self {
        self.inputs.retain(|input| !input.retired || input.connections > 0);
        self.routes.retain(|route| !route.retired || route.waiting + route.in_flight + route.spooled > 0);
        self.outputs.retain(|output| !output.retired || output.connections > 0);
        self
    }
}

/// One of `inputs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) retired: bool,
    pub(super) listening: Vec<String>,
    pub(super) connections: u64,
    pub(super) blocked_connections: u64,
    pub(super) refused_connections: u64,
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    pub(super) rejected: u64,
    pub(super) discarded: u64,
    pub(super) unmatched: u64,
    pub(super) kernel_dropped: u64,
}

/// One of `routes`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) retired: bool,
    pub(super) discard: bool,
    pub(super) discarded: u64,
    pub(super) output: Option<String>,
    pub(super) routed: u64,
    pub(super) released: u64,
    pub(super) in_flight: u64,
    pub(super) waiting: u64,
    pub(super) spooled: u64,
    pub(super) oldest_waiting_seconds: u64,
    pub(super) dropped: u64,
    pub(super) dropped_by_reason: BTreeMap<String, u64>,
    pub(super) resent: u64,
    pub(super) parked: Option<Parked>,
}

/// Why a route's key is not taken.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Parked {
    pub(super) why: String,
}

/// One of `outputs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) retired: bool,
    pub(super) to: String,
    pub(super) connections: u64,
    pub(super) failed_connects: u64,
    pub(super) broken_connections: u64,
    pub(super) written_messages: u64,
    pub(super) written_bytes: u64,
}

/// `spool`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spool {
    pub(super) state: String,
    pub(super) disk_bytes: Option<u64>,
    pub(super) max_bytes: Option<u64>,
}

/// One of `unmatched_programs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Unmatched {
    pub(super) program: String,
    pub(super) messages: u64,
}

/// `/top`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    pub(super) passed: u64,
    pub(super) sampled: u64,
    pub(super) programs: Vec<Sampled>,
    pub(super) peers: Vec<Sampled>,
}

/// A name in it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sampled {
    pub(super) name: String,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) unmatched: u64,
}
