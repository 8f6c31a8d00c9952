//! An outage: the collector is away while messages come at full speed, and then it is there. What each half costs.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::generator::{Order, Sent};
use crate::message::now_us;
use crate::relays::{Relay, Setting};
use crate::run::{Generator, Load, Outcome, Phases, Running, add_arrivals, free_port, start, status_kib};
use crate::sink::{Expectation, Identity, Sink};
use crate::system;

/// A relay that took less than this of its time for [`REST`] is at rest: all that it was sent is where it shall be.
const REST_SHARE: f64 = 0.03;
const REST: Duration = Duration::from_secs(1);
/// One that never is (it tries to connect all the time) is not waited for longer.
const REST_MAX: Duration = Duration::from_secs(30);
/// How long until something arrives once the collector is there, and between two arrivals.
const RETURN_MAX: Duration = Duration::from_secs(70);
const SILENCE_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// Nothing sends for as long as this.
pub const SENDING_MAX_S: f64 = 3_600.0;

/// Reads `340MB`, `5GB`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000)];
    let read = |(unit, factor): (&str, u64)| Some(text.strip_suffix(unit)?.trim().parse::<u64>().ok()? * factor);
    units.into_iter().find_map(read).ok_or_else(|| "expected MB or GB behind a whole number".to_owned())
}

/// Runs it once. `dir` is an empty directory for the relay.
pub fn run(relay: &Relay, load: &Load, identity: &Identity, dir: &Path) -> anyhow::Result<Outcome> {
    let (port, away) = (free_port(false)?, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(false)?)));
    let setting = Setting {
        dir,
        udp: false,
        port,
        admin_port: free_port(false)?,
        sink: away,
        ca: &identity.ca,
        crowded: false,
        spools: true,
        always: false,
        relp: false,
    };
    let expectation = Expectation { keys: relay.routes(), untimed: 0, time_all: false, relp: false };
    let relay = start(relay, &setting)?;
    let order = Order {
        to: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        udp: false,
        connections: load.connections,
        idle: 0,
        rate: None,
        seconds: SENDING_MAX_S,
        messages_max: Some(load.backlog),
    };
    let mut phases = Phases::default();
    let (sent, spooling) = spool(&relay, &order)?;
    let messages = sent.total().max(1) as f64;
    phases.spooled = messages / sent.seconds.max(f64::EPSILON);
    phases.spool_cpu_us = spooling.as_secs_f64() * 1e6 / messages;
    phases.disk_bytes = disk_bytes(dir);
    phases.spool_memory_kib = status_kib(relay.0.id(), "VmHWM")?;
    let (returned_us, before) = (now_us(), system::cpu_time(relay.0.id())?);
    let sink = Sink::start_at(away, identity, expectation)?;
    let first_us = drain(&sink, sent.total())?;
    let draining = system::cpu_time(relay.0.id()).context("the relay has died")?.saturating_sub(before);
    let mut outcome = Outcome { memory_kib: status_kib(relay.0.id(), "VmHWM")?, ..Outcome::default() };
    relay.stop()?;
    let arrivals = sink.finish()?;
    add_arrivals(&mut outcome, &sent, &arrivals);
    let unique = arrivals.unique.max(1) as f64;
    let drained_s = arrivals.last_us.saturating_sub(first_us) as f64 / 1e6;
    phases.drained = unique / drained_s.max(f64::EPSILON);
    phases.drain_cpu_us = draining.as_secs_f64() * 1e6 / unique;
    phases.return_s = first_us.saturating_sub(returned_us) as f64 / 1e6;
    outcome.delivered = unique / (sent.seconds + drained_s).max(f64::EPSILON);
    outcome.cpu_us = (spooling + draining).as_secs_f64() * 1e6 / unique;
    // From sending to arrival it is an outage.
    (outcome.p50_ms, outcome.p99_ms) = (None, None);
    outcome.outage = Some(phases);
    Ok(outcome)
}

/// Lets the generator send, and the relay come to rest. Returns what was sent and the relay's CPU time.
fn spool(relay: &Running, order: &Order) -> anyhow::Result<(Sent, Duration)> {
    let pid = relay.0.id();
    let mut generator = Generator::start(order)?;
    let before = system::cpu_time(pid)?;
    generator.go()?;
    let sent = loop {
        thread::sleep(POLL);
        if let Some(sent) = generator.sent()? {
            break sent;
        }
    };
    Ok((sent, rest(pid)?.saturating_sub(before)))
}

/// Waits until a relay is at rest. Returns the CPU time that it has used by then.
pub fn rest(pid: u32) -> anyhow::Result<Duration> {
    let until = Instant::now() + REST_MAX;
    let mut last = system::cpu_time(pid)?;
    loop {
        thread::sleep(REST);
        let now = system::cpu_time(pid).context("the relay has died")?;
        let rests = now.saturating_sub(last) < REST.mul_f64(REST_SHARE);
        if rests || Instant::now() >= until {
            return Ok(now);
        }
        last = now;
    }
}

/// Waits until all has arrived, or nothing does any more. Returns when the first did, microseconds since the Unix epoch.
pub fn drain(sink: &Sink, messages: u64) -> anyhow::Result<u64> {
    let (mut received, mut progress, mut first_us) = (0, Instant::now(), None);
    loop {
        thread::sleep(POLL);
        let now = sink.received();
        if now != received {
            (received, progress) = (now, Instant::now());
            first_us.get_or_insert_with(now_us);
        }
        let patience = if received == 0 { RETURN_MAX } else { SILENCE_MAX };
        if received >= messages || progress.elapsed() > patience {
            return first_us.context("nothing arrived");
        }
    }
}

/// What a folder takes of the disk.
fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
