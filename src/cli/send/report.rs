//! What became of a run, in words and as JSON.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::grouped;

use super::books::Books;
use super::sender::Tally;

/// What was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) to: String,
    pub(super) connections: u32,
    pub(super) messages: u64,
    pub(super) octets: u64,
    pub(super) failed: u64,
    /// Why the last of them did.
    pub(super) why: Option<String>,
    pub(super) reconnects: u64,
    pub(super) blocked: Duration,
    /// From the first message to the last.
    pub(super) took: Duration,
    /// What was asked for; `None`: as much as is taken.
    pub(super) rate: Option<f64>,
    /// Why connections ended early.
    pub(super) errors: Vec<String>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Received {
    arrived: u64,
    different: u64,
    missing: u64,
    repeated: u64,
    out_of_order: u64,
    foreign: u64,
    /// Smallest, median, 99th of a hundred, largest.
    latency: Option<[Duration; 4]>,
}

impl Sent {
    /// Of what the connections counted.
    pub(super) fn new(to: String, connections: u32, rate: Option<f64>, took: Duration, tally: &Tally) -> Self {
        Self {
            to,
            connections,
            messages: tally.sent.load(Relaxed),
            octets: tally.octets.load(Relaxed),
            failed: tally.failed.load(Relaxed),
            why: tally.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            reconnects: tally.reconnects.load(Relaxed),
            blocked: Duration::from_micros(tally.blocked_us.load(Relaxed)),
            took,
            rate,
            errors: Vec::new(),
        }
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64().max(1e-6)
    }
}

impl Received {
    /// Of the books, when `sent` messages were.
    pub(super) fn new(books: &Books, sent: u64) -> Self {
        let latencies = &books.latencies;
        let all = [latencies.min(), latencies.quantile(0.5), latencies.quantile(0.99), latencies.max()];
        let latency = match all {
            [Some(min), Some(median), Some(p99), Some(max)] => Some([min, median, p99, max]),
            _ => None,
        };
        let different = books.different();
        Self {
            arrived: books.arrived,
            different,
            missing: sent.saturating_sub(different),
            repeated: books.repeated,
            out_of_order: books.out_of_order,
            foreign: books.foreign,
            latency,
        }
    }
}

/// Whether everything went well.
pub(super) fn is_clean(sent: &Sent, received: Option<&Received>) -> bool {
    sent.failed == 0 && sent.errors.is_empty() && received.is_none_or(|received| received.missing == 0)
}

/// For people.
pub(super) fn text(sent: &Sent, received: Option<&Received>) -> String {
    let rate = sent.rate.map(|rate| format!(" (asked for: {})", grouped(rate.round() as u64))).unwrap_or_default();
    let over = match sent.connections {
        1 => String::new(),
        connections => format!(" over {connections} connections"),
    };
    let why = sent.why.as_ref().map(|why| format!(", the last: {why}")).unwrap_or_default();
    let mut lines = vec![
        format!("sent      {}, {} to {}{over}", counted(sent.messages, "message"), octets(sent.octets as f64), sent.to),
        format!(
            "in        {:.2} s: {} messages a second{rate}, {} a second",
            sent.took.as_secs_f64(),
            grouped(sent.per_second(sent.messages).round() as u64),
            octets(sent.per_second(sent.octets)),
        ),
        format!("blocked   {:.2} s, in which the receiver took nothing", sent.blocked.as_secs_f64()),
        format!("failed    {}{why}", counted(sent.failed, "message")),
    ];
    if sent.reconnects > 0 {
        lines.push(format!("broken    {}, made again", counted(sent.reconnects, "connection")));
    }
    lines.extend(sent.errors.iter().map(|error| format!("error     {error}")));
    if let Some(received) = received {
        let Received { arrived: _, different, missing, repeated, out_of_order, foreign, latency } = received;
        let share = 100.0 * *different as f64 / sent.messages.max(1) as f64;
        lines.push(format!("received  {} of {}, {share:.1}%", grouped(*different), grouped(sent.messages)));
        lines.push(format!(
            "missing   {}; repeated {}, out of order {}, not ours {}",
            grouped(*missing),
            grouped(*repeated),
            grouped(*out_of_order),
            grouped(*foreign)
        ));
        if let Some([min, median, p99, max]) = latency {
            let [min, median, p99, max] = [min, median, p99, max].map(|latency| milliseconds(*latency));
            lines.push(format!("latency   min {min}, median {median}, p99 {p99}, max {max}"));
        }
    }
    lines.join("\n") + "\n"
}

/// For programs.
pub(super) fn object(sent: &Sent, received: Option<&Received>) -> Value {
    let latency = |latency: &[Duration; 4]| {
        let [min, median, p99, max] = latency.map(|latency| latency.as_micros() as u64);
        json!({ "min_us": min, "median_us": median, "p99_us": p99, "max_us": max })
    };
    let received = received.map(|received| {
        json!({
            "messages": received.different,
            "arrived": received.arrived,
            "missing": received.missing,
            "repeated": received.repeated,
            "out_of_order": received.out_of_order,
            "not_ours": received.foreign,
            "latency": received.latency.as_ref().map(latency),
        })
    });
    json!({
        "to": sent.to,
        "connections": sent.connections,
        "sent": sent.messages,
        "octets": sent.octets,
        "failed": sent.failed,
        "failed_last": sent.why,
        "reconnects": sent.reconnects,
        "seconds": sent.took.as_secs_f64(),
        "blocked_seconds": sent.blocked.as_secs_f64(),
        "rate": sent.per_second(sent.messages),
        "errors": sent.errors,
        "received": received,
    })
}

fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

fn octets(number: f64) -> String {
    match number {
        _ if number < 1e3 => format!("{number:.0} B"),
        _ if number < 1e6 => format!("{:.1} kB", number / 1e3),
        _ if number < 1e9 => format!("{:.1} MB", number / 1e6),
        _ => format!("{:.2} GB", number / 1e9),
    }
}

fn milliseconds(latency: Duration) -> String {
    let ms = latency.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}
