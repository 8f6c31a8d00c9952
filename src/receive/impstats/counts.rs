//! From our meters to what impstats would count: each number is one that we have, or is left out.

use crate::config::{Action, Config, Input, Listen, Output, Protocol, Route};
use crate::metrics::{Meters, OutputMeters, RouteMeters};
use crate::sys::{self, Usage};

use super::line::Line;

/// The name of the queue that rsyslog's own counts go through in Sekoia's forwarder, whatever the intake is called.
const STATS_QUEUE: &str = "stats";

/// All that is counted.
#[derive(Debug)]
pub(super) struct Counts {
    sources: Vec<Source>,
    queues: Vec<Queue>,
    outputs: Vec<Sending>,
    has_spool: bool,
}

/// A count since the last report, of a meter that grows for ever.
#[derive(Debug, Default)]
struct Since(u64);

impl Since {
    /// What came since the last call. Sums of several meters may seem to shrink while they are read one by one: what is
    /// missing then comes with a later call.
    fn take(&mut self, now: u64) -> u64 {
        let more = now.saturating_sub(self.0);
        self.0 = self.0.max(now);
        more
    }
}

/// An input.
#[derive(Debug)]
struct Source {
    index: usize,
    name: String,
    origin: &'static str,
    submitted: Since,
    disallowed: Since,
}

/// A route's queue and its action.
#[derive(Debug)]
struct Queue {
    route: usize,
    name: String,
    action: String,
    output: usize,
    /// The inputs that feed it and no other route, as far as the configuration says.
    inputs: Vec<usize>,
    enqueued: Since,
    discarded: Since,
    full: Since,
    size_max: u64,
    stored: u64,
    stored_last: u64,
    stored_max: u64,
    processed: Since,
    failed: Since,
}

/// An output, which all actions that lead to it share.
#[derive(Debug)]
struct Sending {
    index: usize,
    /// Of an omfwd; `None`: rsyslog has no such counter for what this output speaks.
    name: Option<String>,
    bytes: Since,
    /// Failures when it was last well.
    failures: u64,
    is_down: bool,
    /// Since the last report.
    suspended: u64,
    seconds: u64,
    resumed: u64,
}

impl Counts {
    pub(super) fn of(config: &Config, listening: &[(usize, String)]) -> Self {
        let source = |(index, input)| source(index, input, listening);
        Self {
            sources: config.inputs.iter().enumerate().filter(|(_, input)| !input.retired).filter_map(source).collect(),
            queues: config.routes.iter().enumerate().filter_map(|(route, of)| queue(config, route, of)).collect(),
            outputs: config.outputs.iter().enumerate().map(|(index, output)| sending(index, output)).collect(),
            has_spool: config.spool.is_some(),
        }
    }

    /// These in the place of others: what both count goes on from where those are.
    pub(super) fn behind(mut self, before: Self) -> Self {
        for source in before.sources {
            if let Some(now) = self.sources.iter_mut().find(|now| now.index == source.index) {
                *now = Source { name: std::mem::take(&mut now.name), origin: now.origin, ..source };
            }
        }
        for queue in before.queues {
            if let Some(now) = self.queues.iter_mut().find(|now| now.route == queue.route) {
                let (inputs, output) = (std::mem::take(&mut now.inputs), now.output);
                *now = Queue { name: std::mem::take(&mut now.name), inputs, output, ..queue };
            }
        }
        for sending in before.outputs {
            if let Some(now) = self.outputs.iter_mut().find(|now| now.index == sending.index) {
                *now = Sending { name: now.name.take(), ..sending };
            }
        }
        self
    }

    /// Looks at what rises and falls.
    pub(super) fn look(&mut self, meters: &Meters) {
        for queue in &mut self.queues {
            let Some(route) = meters.routes.get(queue.route) else { continue };
            queue.look(route);
        }
        for sending in &mut self.outputs {
            let leads_here = self.queues.iter().filter(|queue| queue.output == sending.index);
            let routes = leads_here.filter_map(|queue| meters.routes.get(queue.route));
            let has_backlog = routes.map(|route| route.waiting.value() + route.spooled.value()).sum::<u64>() > 0;
            if let Some(output) = meters.outputs.get(sending.index) {
                sending.look(output, has_backlog);
            }
        }
    }

    /// One report's lines, in rsyslog's order. Counters begin anew.
    pub(super) fn report(&mut self, meters: &Meters) -> Vec<Line> {
        let mut lines = Vec::new();
        for sending in &mut self.outputs {
            let sent = meters.outputs.get(sending.index).map_or(0, |output| output.written_bytes.value());
            let sent = sending.bytes.take(sent);
            if let Some(name) = &sending.name {
                lines.push(Line::new(name, "omfwd").with("bytes.sent", sent));
            }
        }
        for queue in &mut self.queues {
            let sending = self.outputs.get(queue.output);
            if let Some(route) = meters.routes.get(queue.route) {
                lines.push(queue.action(route, sending));
            }
        }
        lines.extend(self.sources.iter_mut().filter_map(|source| source.line(meters)));
        // A kernel that does not answer leaves this one line out.
        lines.extend(sys::usage().ok().map(|usage| usage_line(&usage)));
        for queue in &mut self.queues {
            queue.lines(meters, self.has_spool, &mut lines);
        }
        for sending in &mut self.outputs {
            (sending.suspended, sending.seconds, sending.resumed) = (0, 0, 0);
        }
        lines
    }
}

impl Source {
    fn line(&mut self, meters: &Meters) -> Option<Line> {
        let input = meters.inputs.get(self.index)?;
        let disallowed = input.rejected_peer.value();
        let submitted = input.received.value().saturating_sub(disallowed + input.rejected_oversize.value());
        let line = Line::new(&self.name, self.origin).with("submitted", self.submitted.take(submitted));
        let disallowed = self.disallowed.take(disallowed);
        Some(if self.origin == "imudp" { line.with("disallowed", disallowed) } else { line })
    }
}

impl Queue {
    fn look(&mut self, route: &RouteMeters) {
        let (size, stored) = (route.waiting.value(), route.spooled.value());
        self.size_max = self.size_max.max(size);
        self.stored_max = self.stored_max.max(stored);
        self.stored += stored.saturating_sub(self.stored_last);
        self.stored_last = stored;
    }

    /// What was written, and what the far end or the disk made of it.
    fn action(&mut self, route: &RouteMeters, sending: Option<&Sending>) -> Line {
        let refused = route.dropped_refused.value();
        // What is sent again was written before, and is in flight no more.
        let written = route.released.value() + route.in_flight.value() + route.resent.value() + refused;
        let lost =
            [&route.dropped_spool_damaged, &route.dropped_operator, &route.dropped_empty, &route.dropped_shutdown];
        let lost = lost.iter().map(|reason| reason.value()).sum::<u64>();
        let (suspended, seconds, resumed) =
            sending.map_or((0, 0, 0), |sending| (sending.suspended, sending.seconds, sending.resumed));
        Line::new(&self.action, "core.action")
            .with("processed", self.processed.take(written))
            .with("failed", self.failed.take(refused + lost))
            .with("suspended", suspended)
            .with("suspended.duration", seconds)
            .with("resumed", resumed)
    }

    fn lines(&mut self, meters: &Meters, has_spool: bool, lines: &mut Vec<Line>) {
        let Some(route) = meters.routes.get(self.route) else { return };
        let line = |name: &str, [size, enqueued, full, discarded, size_max]: [u64; 5]| {
            Line::new(name, "core.queue")
                .with("size", size)
                .with("enqueued", enqueued)
                .with("full", full)
                .with("discarded.full", discarded)
                // There is no nearly full: what is taken is kept, or dropped because nothing more fits.
                .with("discarded.nf", 0)
                .with("maxqsize", size_max)
        };
        if has_spool {
            let stored = std::mem::take(&mut self.stored);
            let disk = [route.spooled.value(), stored, 0, 0, self.stored_max];
            lines.push(line(&format!("{}[DA]", self.name), disk));
        }
        let dropped_full = route.dropped_full.value();
        // A full queue is met by datagrams, which are dropped, and by connections, which wait.
        let waiting = self.inputs.iter().filter_map(|input| meters.inputs.get(*input));
        let waiting = waiting.map(|input| input.blocked.value()).sum::<u64>();
        let memory = [
            route.waiting.value(),
            self.enqueued.take(route.routed.value()),
            self.full.take(dropped_full) + waiting,
            self.discarded.take(dropped_full + route.dropped_spool_full.value()),
            self.size_max,
        ];
        lines.push(line(&self.name, memory));
    }
}

impl Sending {
    /// It is down when it has failed since it was last connected, and something waits.
    fn look(&mut self, output: &OutputMeters, has_backlog: bool) {
        let failures = output.failed_connects() + output.broken.value();
        let is_connected = output.connections.value() > 0;
        let is_down = !is_connected && has_backlog && failures > self.failures;
        if is_connected {
            self.failures = failures;
        }
        self.suspended += u64::from(is_down && !self.is_down);
        self.resumed += u64::from(!is_down && self.is_down);
        self.seconds += u64::from(is_down);
        self.is_down = is_down;
    }
}

/// An input counts all its listeners together: it is named after the first of them that is bound.
fn source(index: usize, input: &Input, listening: &[(usize, String)]) -> Option<Source> {
    let listen = input.listen.first()?;
    let (_, url) = listening.iter().find(|(of, _)| *of == index)?;
    let port = url.rsplit(':').next().unwrap_or_default();
    let name = format!("input-{}", input.name);
    let (name, origin) = match listen {
        Listen::Udp(address) => {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let host = if address.ip().is_unspecified() { "*".to_owned() } else { address.ip().to_string() };
            (format!("{name}({host}/{port}/{family})"), "imudp")
        }
        Listen::Tcp(_) | Listen::Tls(_) => (format!("{name}({port})"), "imtcp"),
        Listen::Relp(_) | Listen::RelpTls(_) => (format!("{name}({port})"), "imrelp"),
        Listen::Unix(_) | Listen::UnixDatagram(_) => (name, "imuxsock"),
    };
    Some(Source { index, name, origin, submitted: Since::default(), disallowed: Since::default() })
}

fn queue(config: &Config, index: usize, route: &Route) -> Option<Queue> {
    let Action::Forward { output, .. } = route.action else { return None };
    let is_fed_by = |input: &Input| route.conditions.input.contains(&input.name);
    let fed = || config.inputs.iter().enumerate().filter(|(_, input)| is_fed_by(input));
    let is_stats = fed().next().is_some() && fed().all(|(_, input)| input.impstats.is_some());
    Some(Queue {
        route: index,
        name: if is_stats { STATS_QUEUE.to_owned() } else { format!("ruleset-{}", route.name) },
        action: format!("output-{}", route.name),
        output,
        inputs: fed().map(|(index, _)| index).collect(),
        enqueued: Since::default(),
        discarded: Since::default(),
        full: Since::default(),
        size_max: 0,
        stored: 0,
        stored_last: 0,
        stored_max: 0,
        processed: Since::default(),
        failed: Since::default(),
    })
}

fn sending(index: usize, output: &Output) -> Sending {
    let transport = match output.protocol {
        Protocol::Syslog(_) => Some("TCP"),
        Protocol::Udp => Some("UDP"),
        _ => None,
    };
    Sending {
        index,
        name: transport
            .zip(output.targets.first())
            .map(|(transport, target)| format!("{transport}-{}-{}", target.host, target.port)),
        bytes: Since::default(),
        failures: 0,
        is_down: false,
        suspended: 0,
        seconds: 0,
        resumed: 0,
    }
}

fn usage_line(usage: &Usage) -> Line {
    // Since Linux 6.2 the folder's size is the count; before it is 0, and they are counted.
    let counted = || std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    let open = std::fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
    let [minor, major] = usage.faults;
    let [read, written] = usage.blocks;
    let [voluntary, others] = usage.switches;
    Line::new("resource-usage", "impstats")
        .with("utime", usage.user_us)
        .with("stime", usage.system_us)
        .with("maxrss", usage.resident_kib_max)
        .with("minflt", minor)
        .with("majflt", major)
        .with("inblock", read)
        .with("oublock", written)
        .with("nvcsw", voluntary)
        .with("nivcsw", others)
        .with("openfiles", if open > 0 { open } else { counted() })
}
