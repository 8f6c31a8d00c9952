//! One run: a relay and a collector are started, the generator sends, what happened is measured.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::generator::{Order, Sent};
use crate::outage;
use crate::relays::{Relay, Setting};
use crate::sink::{Arrivals, Expectation, Identity, Sink};
use crate::system;
use crate::tapped::Tapper;

/// A run is over when nothing has arrived for so long.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long a relay may take until it listens, and until it has stopped.
const START_MAX: Duration = Duration::from_secs(15);
const STOP_MAX: Duration = Duration::from_secs(10);
/// Threads start, libraries load: all that is not the work itself should be over.
const SETTLE: Duration = Duration::from_millis(500);
/// How long the generator may take to open its connections.
const OPEN_MAX: Duration = Duration::from_secs(30);
/// What a relay has not delivered so long after the last message was sent is lost, even where some still trickles.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// What is asked of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scenario {
    /// Streams at full speed.
    Tcp,
    /// The same, out over RELP.
    Relp,
    /// Tcp with thousands of silent connections open.
    Crowd,
    /// Datagrams at a given rate.
    Udp,
    /// Streams, 1,000 messages a second.
    Latency,
    /// Streams at full speed while the destination is down, which then comes up.
    Outage,
    /// Streams at full speed with all of it synced to disk before it is sent, and beside it with what memory does not hold.
    Durable,
    /// Tcp with somebody who taps, beside tcp without.
    Tapped,
    /// One, two and three relays behind HAProxy, each with a part of a processor. Takes root, and is run where it is named only.
    Scaled,
    /// Started, nothing sent.
    Idle,
}

impl Scenario {
    /// All that need nothing but a relay, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Tcp,
        Self::Relp,
        Self::Crowd,
        Self::Udp,
        Self::Latency,
        Self::Outage,
        Self::Durable,
        Self::Tapped,
        Self::Idle,
    ];

    /// As it is written in the table and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Relp => "relp",
            Self::Crowd => "crowd",
            Self::Udp => "udp",
            Self::Latency => "latency",
            Self::Outage => "outage",
            Self::Durable => "durable",
            Self::Tapped => "tapped",
            Self::Scaled => "scaled",
            Self::Idle => "idle",
        }
    }
}

/// Sizes of the load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Sending time.
    pub seconds: f64,
    /// And no more than so many messages.
    pub messages_max: Option<u64>,
    /// TCP connections that send.
    pub connections: usize,
    /// Silent ones of [`Scenario::Crowd`].
    pub idle: usize,
    /// Datagrams a second of [`Scenario::Udp`].
    pub udp_rate: u64,
    /// Messages a second of [`Scenario::Latency`].
    pub latency_rate: u64,
    /// Messages of [`Scenario::Outage`] and [`Scenario::Durable`].
    pub backlog: u64,
    /// What [`Scenario::Tapped`] asks the admin server for, if anything.
    pub tap: Option<&'static str>,
}

/// What one run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Messages sent.
    pub sent: u64,
    /// Messages sent a second; of a paced run, whether the generator kept its pace.
    pub offered: f64,
    /// Different messages that arrived a second, from the first one's sending to the last one's arrival.
    pub delivered: f64,
    /// Microseconds of the relay's CPU, user and system, for each message that arrived.
    pub cpu_us: f64,
    /// Peak resident memory (idle: resident after [`SETTLE`]), KiB.
    pub memory_kib: u64,
    /// Sent and never arrived.
    pub lost: u64,
    /// Arrived again.
    pub repeated: u64,
    /// Arrived behind a later one.
    pub out_of_order: u64,
    /// With a wrong key, or damaged.
    pub wrong: u64,
    /// Milliseconds from sending to arrival.
    pub p50_ms: Option<f64>,
    /// The same, all but one in a hundred.
    pub p99_ms: Option<f64>,
    /// Of [`Scenario::Outage`].
    pub outage: Option<Phases>,
    /// Octets that a tap was shown.
    pub shown: u64,
}

/// The two halves of [`Scenario::Outage`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Messages taken a second while the destination was down.
    pub spooled: f64,
    /// Microseconds of CPU for each, until the relay was at rest.
    pub spool_cpu_us: f64,
    /// Bytes of disk then, as `du` counts them.
    pub disk_bytes: u64,
    /// Peak resident memory until then, KiB.
    pub spool_memory_kib: u64,
    /// Messages that arrived a second, from the first one's arrival to the last one's.
    pub drained: f64,
    /// Microseconds of CPU for each, from the destination's return on.
    pub drain_cpu_us: f64,
    /// Seconds from the destination's return to the first one's arrival.
    pub return_s: f64,
}

/// A child that does not outlive us.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Running {
    /// As a service manager stops it; killed where it takes too long.
    pub fn stop(mut self) -> anyhow::Result<()> {
        system::terminate(self.0.id());
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until {
            if self.0.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

/// Runs `scenario` once. `dir` is an empty directory for the relay.
pub fn run(relay: &Relay, scenario: Scenario, load: &Load, identity: &Identity, dir: &Path) -> anyhow::Result<Outcome> {
    if scenario == Scenario::Outage {
        return outage::run(relay, load, identity, dir);
    }
    let udp = scenario == Scenario::Udp;
    let latency = scenario == Scenario::Latency;
    let expectation = Expectation {
        keys: relay.routes(),
        untimed: if latency { load.latency_rate / load.connections as u64 } else { 0 },
        time_all: latency,
        relp: scenario == Scenario::Relp,
    };
    let sink = Sink::start(identity, expectation)?;
    let port = free_port(udp)?;
    let setting = Setting {
        dir,
        udp,
        port,
        admin_port: free_port(false)?,
        sink: sink.address,
        ca: &identity.ca,
        crowded: scenario == Scenario::Crowd,
        spools: false,
        always: false,
        relp: scenario == Scenario::Relp,
    };
    let relay = start(relay, &setting)?;
    let tapper = load.tap.map(|path| Tapper::start(setting.admin_port, path)).transpose()?;
    let mut outcome = Outcome::default();
    if scenario == Scenario::Idle {
        outcome.memory_kib = status_kib(relay.0.id(), "VmRSS")?;
        relay.stop()?;
        return Ok(outcome);
    }
    let order = Order {
        to: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        udp,
        connections: load.connections,
        idle: if scenario == Scenario::Crowd { load.idle } else { 0 },
        rate: if udp { Some(load.udp_rate) } else { latency.then_some(load.latency_rate) },
        seconds: load.seconds,
        messages_max: load.messages_max,
    };
    let (sent, cpu) = send(&relay, &sink, &order, &mut outcome)?;
    outcome.shown = tapper.as_ref().map_or(0, Tapper::octets);
    drop(tapper);
    relay.stop()?;
    let arrivals = sink.finish()?;
    add_arrivals(&mut outcome, &sent, &arrivals);
    let seconds = arrivals.last_us.saturating_sub(sent.began_us) as f64 / 1e6;
    outcome.delivered = arrivals.unique as f64 / seconds.max(f64::EPSILON);
    outcome.cpu_us = cpu.as_secs_f64() * 1e6 / arrivals.unique.max(1) as f64;
    Ok(outcome)
}

/// Starts `relay`; it listens when this returns.
pub fn start(relay: &Relay, setting: &Setting<'_>) -> anyhow::Result<Running> {
    let mut relay = Running(relay.start(setting)?);
    if let Err(error) = wait_until_listening(&mut relay, setting.udp, setting.port) {
        bail!("{error}; it said:\n{}", std::fs::read_to_string(setting.dir.join("log")).unwrap_or_default());
    }
    thread::sleep(SETTLE);
    Ok(relay)
}

/// Enters what arrived of what was sent.
pub fn add_arrivals(outcome: &mut Outcome, sent: &Sent, arrivals: &Arrivals) {
    outcome.sent = sent.total();
    outcome.offered = outcome.sent as f64 / sent.seconds.max(f64::EPSILON);
    outcome.lost = outcome.sent.saturating_sub(arrivals.unique);
    if outcome.lost > 0 {
        arrivals.errors.iter().for_each(|error| eprintln!("a connection to the sink ended with: {error}"));
    }
    outcome.wrong = arrivals.misrouted + arrivals.damaged;
    outcome.repeated = arrivals.received.saturating_sub(arrivals.unique + arrivals.damaged);
    outcome.out_of_order = arrivals.out_of_order;
    let ms = |quantile: Option<u64>| quantile.map(|us| us as f64 / 1e3);
    outcome.p50_ms = ms(arrivals.latency.quantile(0.5));
    outcome.p99_ms = ms(arrivals.latency.quantile(0.99));
}

/// The generator's process with its connections open.
pub struct Generator {
    _child: Running,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Generator {
    /// Returns when it is ready to send.
    pub fn start(order: &Order) -> anyhow::Result<Self> {
        let mut child = Running(
            Command::new(std::env::current_exe()?)
                .arg(super::ROLE_GENERATE)
                .arg(serde_json::to_string(order)?)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let (lines_tx, lines) = mpsc::sync_channel(2);
        let out = child.0.stdout.take().context("the generator's output")?;
        thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| lines_tx.send(line))
        });
        let input = child.0.stdin.take().context("the generator's input")?;
        lines.recv_timeout(OPEN_MAX).context("the generator could not open its connections")?;
        thread::sleep(SETTLE);
        Ok(Self { _child: child, input, lines })
    }

    /// Lets it send.
    pub fn go(&mut self) -> anyhow::Result<()> {
        Ok(writeln!(self.input, "go")?)
    }

    /// What it has sent, once it has.
    pub fn sent(&self) -> anyhow::Result<Option<Sent>> {
        match self.lines.try_recv() {
            Ok(line) => Ok(Some(serde_json::from_str(&line)?)),
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => bail!("the generator failed"),
        }
    }
}

/// Lets the generator send, waits until all has arrived or nothing does any more. Returns what was sent and the relay's
/// CPU time meanwhile.
fn send(relay: &Running, sink: &Sink, order: &Order, outcome: &mut Outcome) -> anyhow::Result<(Sent, Duration)> {
    let pid = relay.0.id();
    let mut generator = Generator::start(order)?;
    let before = system::cpu_time(pid)?;
    generator.go()?;
    let mut sent: Option<Sent> = None;
    let mut sent_at = Instant::now();
    let (mut received, mut progress) = (0, Instant::now());
    loop {
        thread::sleep(POLL);
        if sent.is_none() {
            (sent, sent_at) = (generator.sent()?, Instant::now());
        }
        let now = sink.received();
        if now != received {
            (received, progress) = (now, Instant::now());
        }
        let over = progress.elapsed() > SILENCE_MAX || sent_at.elapsed() > DRAIN_MAX;
        if let Some(sent) = sent.take_if(|sent| received >= sent.total() || over) {
            let cpu = system::cpu_time(pid).context("the relay has died")?.saturating_sub(before);
            outcome.memory_kib = status_kib(pid, "VmHWM")?;
            return Ok((sent, cpu));
        }
    }
}

/// A port that is free now. Another program may take it before the relay does; the run fails then.
pub fn free_port(udp: bool) -> anyhow::Result<u16> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let address = if udp { UdpSocket::bind(any)?.local_addr()? } else { TcpListener::bind(any)?.local_addr()? };
    Ok(address.port())
}

/// Asks the kernel, not the relay: a probing connection would be one that it has to serve.
pub fn wait_until_listening(relay: &mut Running, udp: bool, port: u16) -> anyhow::Result<()> {
    // `sl local_address rem_address st`: LISTEN is 0A; a datagram socket is as good as it gets at 07.
    let (tables, state) =
        if udp { (["/proc/net/udp", "/proc/net/udp6"], "07") } else { (["/proc/net/tcp", "/proc/net/tcp6"], "0A") };
    let port = format!(":{port:04X}");
    let until = Instant::now() + START_MAX;
    while Instant::now() < until {
        if let Some(status) = relay.0.try_wait()? {
            bail!("it ended at once: {status}");
        }
        let listens = tables.iter().filter_map(|table| std::fs::read_to_string(table).ok()).any(|table| {
            table.lines().any(|line| {
                let mut words = line.split_ascii_whitespace().skip(1);
                words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some(state)
            })
        });
        if listens {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    bail!("it does not listen after {START_MAX:?}")
}

/// A line of `/proc/PID/status` that counts KiB.
pub fn status_kib(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.split_ascii_whitespace().next())
        .with_context(|| format!("{field} of the relay"))?;
    Ok(value.parse()?)
}
