//! The table, and whether the targets are met.

use crate::relays::{Kind, Relay};
use crate::run::{Outcome, Phases, Scenario};

/// CPU for each message over TCP, at most this share of rsyslog's.
const TCP_OF_RSYSLOG_MAX: f64 = 1.0 / 10.0;
/// And at most so many times the floor's.
const TCP_OF_FLOOR_MAX: f64 = 4.0;
/// CPU for each message over RELP, at most so many times that over TLS.
const RELP_OF_TLS_MAX: f64 = 2.0;
/// CPU for each message over UDP, at most this share of rsyslog's.
const UDP_OF_RSYSLOG_MAX: f64 = 1.0 / 3.0;
/// CPU for each message that went to disk and back, at most this share of the others'.
const OUTAGE_OF_OTHERS_MAX: f64 = 1.0 / 5.0;
/// Resident memory, MiB.
const IDLE_MIB_MAX: f64 = 12.0;
const LOADED_MIB_MAX: f64 = 64.0;
/// From sending to arrival at 1,000 messages a second, milliseconds.
const P99_MS_MAX: f64 = 25.0;
/// A generator that stays behind its rate by more has not offered it.
const OFFERED_SHARE_MIN: f64 = 0.99;

/// One line of the table.
pub struct Line {
    /// What was asked.
    pub scenario: Scenario,
    /// Who was asked.
    pub relay: Relay,
    /// Each figure the median of its runs; of losses and other faults the worst.
    pub outcome: Outcome,
    /// What the generator should have offered.
    pub rate: Option<u64>,
}

/// All runs of one relay and scenario as one.
pub fn summarize(runs: &[Outcome]) -> Outcome {
    let median = |figure: fn(&Outcome) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let worst = |figure: fn(&Outcome) -> u64| runs.iter().map(figure).max().unwrap_or_default();
    let timed = runs.iter().any(|run| run.p99_ms.is_some());
    Outcome {
        shown: median(|run| run.shown as f64) as u64,
        sent: median(|run| run.sent as f64) as u64,
        offered: median(|run| run.offered),
        delivered: median(|run| run.delivered),
        cpu_us: median(|run| run.cpu_us),
        memory_kib: worst(|run| run.memory_kib),
        lost: worst(|run| run.lost),
        repeated: worst(|run| run.repeated),
        out_of_order: worst(|run| run.out_of_order),
        wrong: worst(|run| run.wrong),
        p50_ms: timed.then(|| median(|run| run.p50_ms.unwrap_or_default())),
        p99_ms: timed.then(|| median(|run| run.p99_ms.unwrap_or_default())),
        outage: runs.iter().any(|run| run.outage.is_some()).then(|| {
            let median = |figure: fn(&Phases) -> f64| {
                let mut all: Vec<f64> = runs.iter().filter_map(|run| run.outage.as_ref()).map(figure).collect();
                all.sort_by(f64::total_cmp);
                all.get(all.len() / 2).copied().unwrap_or_default()
            };
            Phases {
                spooled: median(|phases| phases.spooled),
                spool_cpu_us: median(|phases| phases.spool_cpu_us),
                disk_bytes: median(|phases| phases.disk_bytes as f64) as u64,
                spool_memory_kib: median(|phases| phases.spool_memory_kib as f64) as u64,
                drained: median(|phases| phases.drained),
                drain_cpu_us: median(|phases| phases.drain_cpu_us),
                return_s: median(|phases| phases.return_s),
            }
        }),
    }
}

/// The lines as a Markdown table.
pub fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| scenario | relay | messages/s | CPU µs/message | × floor | × rsyslog | memory MiB | sent | lost | repeated \
         | out of order | wrong | p50 ms | p99 ms |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for line in lines {
        text.push_str(&row(line, lines));
    }
    if lines.iter().any(|line| line.outcome.outage.is_some()) {
        text.push_str(
            "\n| outage | spooled/s | CPU µs/message | drained/s | CPU µs/message | CPU µs, both | back after s | disk MB | \
             MiB, spooling | MiB, both | lost | repeated | out of order |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
    }
    for (line, phases) in lines.iter().filter_map(|line| Some((line, line.outcome.outage?))) {
        let outcome = &line.outcome;
        text.push_str(&format!(
            "| {} | {:.0} | {:.3} | {:.0} | {:.3} | {:.3} | {:.2} | {:.0} | {:.1} | {:.1} | {} | {} | {} |\n",
            line.relay.name,
            phases.spooled,
            phases.spool_cpu_us,
            phases.drained,
            phases.drain_cpu_us,
            outcome.cpu_us,
            phases.return_s,
            phases.disk_bytes as f64 / 1e6,
            phases.spool_memory_kib as f64 / 1024.0,
            outcome.memory_kib as f64 / 1024.0,
            outcome.lost,
            outcome.repeated,
            outcome.out_of_order,
        ));
    }
    text
}

fn row(line: &Line, lines: &[Line]) -> String {
    let Line { scenario, relay, outcome, .. } = line;
    let memory = outcome.memory_kib as f64 / 1024.0;
    if *scenario == Scenario::Idle {
        return format!("| idle | {} |||||{memory:.1} |||||||||\n", relay.name);
    }
    let times = |base: Option<f64>| base.map_or(String::new(), |base| format!("{:.2}", outcome.cpu_us / base));
    let lost = match outcome.lost {
        0 => "0".to_owned(),
        lost => format!("{lost} ({:.1} %)", lost as f64 * 100.0 / outcome.sent.max(1) as f64),
    };
    let ms = |ms: Option<f64>| ms.map_or(String::new(), |ms| format!("{ms:.2}"));
    format!(
        "| {} | {} | {:.0} | {:.3} | {} | {} | {memory:.1} | {} | {lost} | {} | {} | {} | {} | {} |\n",
        scenario.name(),
        relay.name,
        outcome.delivered,
        outcome.cpu_us,
        times(base(lines, *scenario, is_floor)),
        times(base(lines, *scenario, is_rsyslog)),
        outcome.sent,
        outcome.repeated,
        outcome.out_of_order,
        outcome.wrong,
        ms(outcome.p50_ms),
        ms(outcome.p99_ms),
    )
}

fn is_floor(kind: &Kind) -> bool {
    matches!(kind, Kind::Floor)
}

fn is_rsyslog(kind: &Kind) -> bool {
    matches!(kind, Kind::Rsyslog(_))
}

fn is_syslog_ng(kind: &Kind) -> bool {
    matches!(kind, Kind::SyslogNg(..))
}

/// CPU for each message of the one that others are compared with.
fn base(lines: &[Line], scenario: Scenario, is: fn(&Kind) -> bool) -> Option<f64> {
    lines.iter().find(|line| line.scenario == scenario && is(&line.relay.kind)).map(|line| line.outcome.cpu_us)
}

/// Runs that do not show what they should.
pub fn doubts(lines: &[Line]) -> Vec<String> {
    let mut doubts = Vec::new();
    for line in lines {
        let (scenario, relay, offered) = (line.scenario.name(), &line.relay.name, line.outcome.offered);
        if let Some(rate) = line.rate.filter(|rate| offered < *rate as f64 * OFFERED_SHARE_MIN) {
            doubts.push(format!("{scenario}, {relay}: the generator offered {offered:.0} of {rate} messages a second"));
        }
    }
    doubts
}

/// A target, and whether it is met.
pub struct Verdict {
    /// `false` is a failure.
    pub met: bool,
    /// What was measured and what is allowed.
    pub text: String,
}

/// The targets for our own builds.
pub fn verdicts(lines: &[Line]) -> Vec<Verdict> {
    let mut all = Vec::new();
    for line in lines.iter().filter(|line| matches!(line.relay.kind, Kind::Forebay(_))) {
        let Line { scenario, relay, outcome, .. } = line;
        let mut judge = |what: &str, value: f64, max: f64| {
            let text = format!("{}, {}: {what} {value:.2}, at most {max:.2}", scenario.name(), relay.name);
            all.push(Verdict { met: value <= max, text });
        };
        let memory = outcome.memory_kib as f64 / 1024.0;
        if *scenario == Scenario::Idle {
            judge("memory in MiB", memory, IDLE_MIB_MAX);
            continue;
        }
        judge("memory in MiB", memory, LOADED_MIB_MAX);
        judge("messages lost", outcome.lost as f64, 0.0);
        judge("messages wrong, repeated or out of order", faults(outcome), 0.0);
        let rsyslog = base(lines, *scenario, is_rsyslog);
        let floor = base(lines, *scenario, is_floor);
        match scenario {
            Scenario::Tcp => {
                rsyslog.inspect(|base| judge("CPU as a share of rsyslog's", outcome.cpu_us / base, TCP_OF_RSYSLOG_MAX));
                floor
                    .inspect(|base| judge("CPU as a multiple of the floor's", outcome.cpu_us / base, TCP_OF_FLOOR_MAX));
            }
            Scenario::Relp => {
                let over_tls =
                    lines.iter().find(|other| other.scenario == Scenario::Tcp && other.relay.name == relay.name);
                let over_tls = over_tls.map(|line| line.outcome.cpu_us);
                over_tls.inspect(|base| judge("CPU as a multiple of TLS's", outcome.cpu_us / base, RELP_OF_TLS_MAX));
            }
            Scenario::Udp => {
                rsyslog.inspect(|base| judge("CPU as a share of rsyslog's", outcome.cpu_us / base, UDP_OF_RSYSLOG_MAX));
            }
            Scenario::Latency => judge("p99 in ms", outcome.p99_ms.unwrap_or(f64::INFINITY), P99_MS_MAX),
            Scenario::Outage => {
                let others = [("rsyslog's", rsyslog), ("syslog-ng's", base(lines, *scenario, is_syslog_ng))];
                for (whose, base) in others.into_iter().filter_map(|(whose, base)| Some((whose, base?))) {
                    judge(&format!("CPU as a share of {whose}"), outcome.cpu_us / base, OUTAGE_OF_OTHERS_MAX);
                }
            }
            Scenario::Crowd | Scenario::Durable | Scenario::Tapped | Scenario::Scaled | Scenario::Idle => {}
        }
    }
    all
}

fn faults(outcome: &Outcome) -> f64 {
    (outcome.wrong + outcome.repeated + outcome.out_of_order) as f64
}
