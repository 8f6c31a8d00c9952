//! Every metric, declared once.
//!
//! The data path adds to plain atomics ([`Meters`]), once per batch; a scrape copies them into the recorder. The counters
//! form a ledger: per input, received = rejected + discarded + unmatched + routed; per route, routed +
//! recovered = released + in flight + waiting + spooled + dropped.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::config::{Config, Protocol};
use crate::slots::Slots;
use crate::time::since_epoch;

pub use age::Ages;
pub use declared::{
    Amount, Count, Described, HttpMeters, InputMeters, Kind, OutputMeters, ReloadMeters, RouteMeters, SpoolMeters,
};
pub use expiry::{Expiries, Expiry, OutputExpiries};
use histogram::Histogram;
pub use unmatched::UnmatchedPrograms;

mod age;
mod declared;
mod expiry;
mod histogram;
mod unmatched;

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
    for metric in all.copied().chain(single).chain(ReloadMeters::METRICS.iter().copied()) {
        // A metric with a `reason` label is declared once a reason.
        if !seen.contains(&metric.name) {
            seen.push(metric.name);
            listed.push(metric);
        }
    }
    listed.into_iter()
}

/// All meters of the process, shared by the shards and the admin server. Indices are the configuration's; what a reload adds
/// comes behind, and nothing ever goes.
#[derive(Debug)]
pub struct Meters {
    /// By input.
    pub inputs: Slots<InputMeters>,
    /// By route.
    pub routes: Slots<RouteMeters>,
    /// By output.
    pub outputs: Slots<OutputMeters>,
    /// The spool, where there is one.
    pub spool: Option<SpoolMeters>,
    spool_sync: Histogram,
    /// HTTPS, where an output speaks it.
    pub http: OnceLock<HttpMeters>,
    http_request: Histogram,
    /// Programs that no route takes.
    pub unmatched_programs: UnmatchedPrograms,
    /// When certificates end.
    pub expiries: Expiries,
    /// By route: since when messages wait in memory.
    pub ages: Slots<Ages>,
    /// Every socket is bound, and the relay is not stopping.
    pub ready: AtomicBool,
    /// What the configuration asks for and is not done.
    pub left_out: Amount,
    /// Which configuration runs, and what became of others.
    pub reloads: ReloadMeters,
    names: Names,
    histograms: Slots<RouteHistograms>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

/// Label values.
#[derive(Debug)]
struct Names {
    inputs: Slots<Label>,
    routes: Slots<Label>,
    outputs: Slots<Label>,
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
        let names = Names {
            inputs: Slots::default(),
            routes: Slots::default(),
            outputs: Slots::default(),
            shards: config.cores,
        };
        let meters = Self {
            inputs: Slots::default(),
            routes: Slots::default(),
            outputs: Slots::default(),
            spool: config.spool.as_ref().map(|spool| {
                let meters = SpoolMeters::default();
                meters.max_bytes.set(spool.max_size);
                meters
            }),
            spool_sync: Histogram::default(),
            http: OnceLock::new(),
            http_request: Histogram::default(),
            unmatched_programs: UnmatchedPrograms::default(),
            expiries: Expiries::default(),
            ages: Slots::default(),
            ready: AtomicBool::new(false),
            left_out: Amount::default(),
            reloads: ReloadMeters::default(),
            histograms: Slots::default(),
            handle: recorder.handle(),
            names,
            recorder,
        };
        meters.grow(config, &Expiries::default());
        meters.reloads.last_succeeded.set(1);
        meters.reloads.generation.set(1);
        meters.reloads.applied_at.set(since_epoch().as_secs());
        meters
    }

    /// When certificates end, of all that `config` names: of what is there already the same.
    pub fn expiries_for(&self, config: &Config) -> Expiries {
        let inputs = (0..config.inputs.len()).map(|at| self.expiries.inputs.get(at).cloned().unwrap_or_default());
        let outputs = (0..config.outputs.len()).map(|at| self.expiries.outputs.get(at).cloned().unwrap_or_default());
        Expiries { inputs: inputs.collect(), outputs: outputs.collect() }
    }

    /// Adds what `config` names behind what is there already, certificates' ends from `expiries`. One call at a time.
    pub fn grow(&self, config: &Config, expiries: &Expiries) {
        let (inputs, routes, outputs) = (config.inputs.len(), config.routes.len(), config.outputs.len());
        if config.outputs.iter().any(|output| matches!(output.protocol, Protocol::Https(_))) {
            self.http.get_or_init(HttpMeters::default);
        }
        self.inputs.fill(inputs, |_| InputMeters::default());
        self.expiries.inputs.fill(inputs, |at| expiries.inputs.get(at).cloned().unwrap_or_default());
        self.routes.fill(routes, |_| RouteMeters::default());
        self.ages.fill(routes, |_| Ages::new(config.cores));
        self.histograms.fill(routes, |_| RouteHistograms::default());
        self.outputs.fill(outputs, |_| OutputMeters::default());
        self.expiries.outputs.fill(outputs, |at| expiries.outputs.get(at).cloned().unwrap_or_default());
        let label = |key, name: Option<&str>| Label::new(key, name.unwrap_or_default().to_owned());
        self.names.inputs.fill(inputs, |at| label("input", config.inputs.get(at).map(|input| input.name.as_str())));
        self.names.routes.fill(routes, |at| label("route", config.routes.get(at).map(|route| route.name.as_str())));
        self.names
            .outputs
            .fill(outputs, |at| label("output", config.outputs.get(at).map(|output| output.name.as_str())));
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
        for (ages, meters) in self.ages.iter().zip(self.routes.iter()) {
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
        self.reloads.export(recorder, None);
        if let Some(http) = self.http.get() {
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
        if self.http.get().is_some() {
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
        for (histograms, route) in self.histograms.iter().zip(self.names.routes.iter()) {
            which(histograms).render(metric.name, Some(route), text);
        }
        text.push('\n');
    }
}

fn head_of_histogram(Described { name, help, .. }: Described, text: &mut String) {
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} histogram\n"));
}

fn export_all<M>(meters: &Slots<M>, labels: &Slots<Label>, export: impl Fn(&M, &Label)) {
    for (meters, label) in meters.iter().zip(labels.iter()) {
        export(meters, label);
    }
}
