//! The relay's own counts as messages, in the shapes of rsyslog's impstats: what watches rsyslog, and Sekoia's forwarder,
//! reads them as it read those.
//!
//! They are an input like the others: counted as received, routed, and dropped (counted) where their lane is full. The meters
//! are looked at once a second and nothing else is asked; counters begin anew with each report, as with
//! `ResetCounters="on"`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jiff::Zoned;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::config::Config;
use crate::metrics::Meters;
use crate::pipeline::WhenFull;
use crate::syslog::Frame;

use super::{Current, Receivers};
use counts::Counts;

mod counts;
mod line;

/// How often the meters are looked at: what rises and falls between two reports is seen to the second.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What rsyslog says of its own messages: facility syslog, severity informational.
const PRI: u8 = 46;

/// The program that the messages are from, for whoever looks for rsyslog's.
const PROGRAM: &str = "rsyslogd-pstats";

/// The counts of a relay, and when they are told.
#[derive(Debug)]
pub struct Impstats {
    interval: Duration,
    counts: Counts,
}

impl Impstats {
    /// Of what `config` names, and of what of it listens: input and URL.
    pub fn of(config: &Config, listening: &[(usize, String)], interval: Duration) -> Self {
        Self { interval, counts: Counts::of(config, listening) }
    }
}

/// Starts telling. Ends at the stop.
pub(super) fn spawn(current: Current, impstats: Impstats, tasks: &mut JoinSet<()>) {
    tasks.spawn_local(run(current, impstats));
}

async fn run(current: Current, Impstats { mut interval, mut counts }: Impstats) {
    // It takes nothing from outside: all that may change is what is counted.
    let receivers = current.now().clone();
    let meters = std::sync::Arc::clone(receivers.pipeline.meters());
    let mut stop = receivers.stop.clone();
    let began = Instant::now();
    let mut looks = interval_at(began + LOOK_EVERY, LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = began + interval;
    loop {
        tokio::select! {
            biased;
            _ = stop.ordered() => return,
            _ = looks.tick() => {}
        }
        if let Some(next) = current.counts.take() {
            due = due - interval + next.interval;
            interval = next.interval;
            counts = next.counts.behind(counts);
        }
        counts.look(&meters);
        let now = Instant::now();
        if now >= due {
            tell(&receivers, &mut counts, &meters);
            // A machine that slept owes no report for each interval that it slept.
            due = (due + interval).max(now);
        }
    }
}

/// Offers a report: a message a line.
fn tell(receivers: &Receivers, counts: &mut Counts, meters: &Meters) {
    let head = head();
    let mut turn = receivers.pipeline.turn(receivers.input_index);
    for line in counts.report(meters) {
        let message = format!("{head}{line}");
        let frame = Frame { bytes: message.as_bytes(), flaw: None };
        turn.offer(frame, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), WhenFull::Drop);
    }
}

/// A report's header: RFC 5424, so that the text begins with the object.
fn head() -> String {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hostname = match hostname.trim() {
        "" => "-",
        hostname => hostname,
    };
    let now = Zoned::now();
    format!("<{PRI}>1 {} {hostname} {PROGRAM} - - - ", now.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z"))
}
