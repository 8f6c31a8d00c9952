//! What it costs to have every message synced to disk before it is sent, beside keeping there only what memory does not
//! hold: the same load in the same run, turn about, once with the collector away and once with it there.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::generator::{Order, Sent};
use crate::message::now_us;
use crate::outage::{SENDING_MAX_S, drain, rest};
use crate::relays::{Relay, Setting};
use crate::report::Verdict;
use crate::rounds::{Rounds, median};
use crate::run::{Generator, Load, Outcome, Running, add_arrivals, free_port, start};
use crate::sink::{Expectation, Identity, Sink};
use crate::system;

/// What `durability: always` must keep of the throughput of `overflow` while all goes to disk in both.
const SHARE_MIN: f64 = 0.5;
/// What a commit may take, all but one in a hundred, where the disk's own does.
const COMMIT_P99_MS_MAX: f64 = 10.0;
/// Syncs of a bare file after each run with commits.
const PROBES: usize = 200;
/// The most that is written before each of them.
const PROBE_OCTETS_MAX: u64 = 16 << 20;
/// How long until all that was sent has been taken, and until an answer of the admin server.
const TAKEN_MAX: Duration = Duration::from_secs(30);
const ANSWER_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// A load, and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    /// The collector is there from the start; else it comes once the relay is at rest.
    up: bool,
    /// `durability: always` with `sync: every_batch`; else `durability: overflow`.
    always: bool,
}

impl Case {
    /// In the order of the table; see [`Case::place`].
    const ALL: [Self; 4] = [
        Self { up: false, always: false },
        Self { up: false, always: true },
        Self { up: true, always: false },
        Self { up: true, always: true },
    ];

    /// Its place among all.
    fn place(self) -> usize {
        usize::from(self.up) * 2 + usize::from(self.always)
    }

    fn far_end(self) -> &'static str {
        if self.up { "up" } else { "down" }
    }

    fn durability(self) -> &'static str {
        if self.always { "always" } else { "overflow" }
    }
}

/// forebay's own histogram of syncs: bounds in milliseconds and how many took no longer, and the sum of all.
#[derive(Clone, Debug, Default)]
struct Syncs {
    buckets: Vec<(f64, u64)>,
    seconds: f64,
}

impl Syncs {
    fn read(meters: &Meters) -> Self {
        let buckets = meters.of("forebay_spool_sync_seconds_bucket").filter_map(|(labels, value)| {
            let bound = labels.split_once("le=\"")?.1.split_once('"')?.0;
            Some((bound.parse::<f64>().ok()? * 1e3, value as u64))
        });
        let seconds = meters.of("forebay_spool_sync_seconds_sum").map(|(_, value)| value).sum();
        Self { buckets: buckets.collect(), seconds }
    }

    fn add(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets = other.buckets.iter().map(|(bound, _)| (*bound, 0)).collect();
        }
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, (_, count))| sum.1 += count);
        self.seconds += other.seconds;
    }

    fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }

    fn mean_ms(&self) -> f64 {
        self.seconds * 1e3 / self.count() as f64
    }

    /// The upper bound of the bucket that holds the `share` of all: it took no longer. NaN of nothing.
    fn quantile_ms(&self, share: f64) -> f64 {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        self.buckets.iter().find(|(_, count)| *count >= rank).map_or(f64::NAN, |(bound, _)| *bound)
    }
}

/// What `/metrics` said.
struct Meters(String);

impl Meters {
    fn read(port: u16) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(text.split("\r\n").next().is_some_and(|status| status.contains(" 200")), "/metrics: {text}");
        Ok(Self(text))
    }

    /// The series of one name, their labels and values.
    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            let (labels, value) = rest.rsplit_once(' ')?;
            Some((labels, value.parse().ok()?))
        })
    }

    /// The sum of the series of a counter that has to be there.
    fn sum(&self, name: &str) -> anyhow::Result<u64> {
        let sum = self.of(name).map(|(_, value)| value as u64).reduce(|sum, value| sum + value);
        sum.with_context(|| format!("no {name} in /metrics"))
    }
}

/// What one run came to.
#[derive(Debug, Default)]
pub struct Figures {
    /// Messages taken a second, from the first one's sending to the last one's reception.
    taken: f64,
    /// Microseconds of CPU for each: until the relay was at rest, or until all had arrived.
    cpu_us: f64,
    /// Messages written to disk for each that was sent.
    on_disk: f64,
    /// Of the disk, octets for each sync.
    octets_a_sync: u64,
    syncs: Syncs,
    /// Syncs of a bare file, milliseconds.
    bare: Vec<f64>,
    outcome: Outcome,
}

/// All runs of one relay, by case.
pub struct Comparison(Rounds<Figures>);

/// Runs all cases in turn, so often.
pub fn compare(
    relay: &Relay,
    load: &Load,
    runs: usize,
    identity: &Identity,
    home: &Path,
) -> anyhow::Result<Comparison> {
    let rounds = Rounds::run(relay, Case::ALL.len(), runs, |case, count| {
        let case = Case::ALL[case];
        let dir = tempfile::tempdir_in(home)?;
        let (up, always) = (case.far_end(), case.durability());
        let figures =
            run(relay, case, load, identity, dir.path()).with_context(|| format!("far end {up}, {always}"))?;
        println!(
            "durable {} {count}: far end {up}, {always}: {:.0}/s, {:.3} µs/message, lost {}",
            relay.name, figures.taken, figures.cpu_us, figures.outcome.lost
        );
        Ok(figures)
    })?;
    Ok(Comparison(rounds))
}

fn run(relay: &Relay, case: Case, load: &Load, identity: &Identity, dir: &Path) -> anyhow::Result<Figures> {
    let (port, admin_port) = (free_port(false)?, free_port(false)?);
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(false)?));
    let expectation = Expectation { keys: true, untimed: 0, time_all: false, relp: false };
    let connect = || Sink::start_at(to, identity, expectation);
    let mut sink = if case.up { Some(connect()?) } else { None };
    let setting = Setting {
        dir,
        udp: false,
        port,
        admin_port,
        sink: to,
        ca: &identity.ca,
        crowded: false,
        spools: true,
        always: case.always,
        relp: false,
    };
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
    let pid = relay.0.id();
    let mut generator = Generator::start(&order)?;
    let (before, octets_before) = (system::cpu_time(pid)?, disk_octets(pid)?);
    let (sent, seconds) = send(&mut generator, admin_port)?;
    let after = match &sink {
        Some(sink) => {
            drain(sink, sent.total())?;
            system::cpu_time(pid).context("the relay has died")?
        }
        None => rest(pid)?,
    };
    let meters = Meters::read(admin_port)?;
    let total = sent.total().max(1) as f64;
    let syncs = Syncs::read(&meters);
    let mut figures = Figures {
        taken: total / seconds.max(f64::EPSILON),
        cpu_us: after.saturating_sub(before).as_secs_f64() * 1e6 / total,
        on_disk: meters.sum("forebay_spool_written_messages_total")? as f64 / total,
        octets_a_sync: disk_octets(pid)?.saturating_sub(octets_before) / syncs.count().max(1),
        syncs,
        ..Figures::default()
    };
    if case.always {
        figures.bare = bare_syncs(dir, figures.octets_a_sync)?;
    }
    let sink = match sink.take() {
        Some(sink) => sink,
        None => {
            let sink = connect()?;
            drain(&sink, sent.total())?;
            sink
        }
    };
    finish(relay, sink, &sent, &mut figures.outcome)?;
    Ok(figures)
}

/// Lets the generator send. Returns what it sent, and how many seconds it took until the relay had received it: what is
/// written last waits in the kernel's buffers for a while.
fn send(generator: &mut Generator, admin_port: u16) -> anyhow::Result<(Sent, f64)> {
    generator.go()?;
    let sent = loop {
        thread::sleep(POLL);
        if let Some(sent) = generator.sent()? {
            break sent;
        }
    };
    let until = Instant::now() + TAKEN_MAX;
    while Meters::read(admin_port)?.sum("forebay_input_received_messages_total")? < sent.total() {
        ensure!(Instant::now() < until, "not all that was sent has been received");
        thread::sleep(POLL);
    }
    let seconds = now_us().saturating_sub(sent.began_us) as f64 / 1e6;
    Ok((sent, seconds))
}

fn finish(relay: Running, sink: Sink, sent: &Sent, outcome: &mut Outcome) -> anyhow::Result<()> {
    relay.stop()?;
    add_arrivals(outcome, sent, &sink.finish()?);
    Ok(())
}

/// What a process has had written to disks.
fn disk_octets(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let octets = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(octets.context("write_bytes of the relay")?.parse()?)
}

/// How long the disk itself takes, milliseconds: a file grows by what a commit brings, and is synced. As with the relay
/// only the sync is timed.
fn bare_syncs(dir: &Path, octets: u64) -> anyhow::Result<Vec<f64>> {
    let path = dir.join("bare");
    let mut file = File::create_new(&path)?;
    let octets = vec![0x5A; octets.clamp(1, PROBE_OCTETS_MAX) as usize];
    let mut all = Vec::new();
    for _ in 0..PROBES {
        file.write_all(&octets)?;
        let began = Instant::now();
        file.sync_data()?;
        all.push(began.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(path)?;
    Ok(all)
}

impl Comparison {
    fn of(&self, case: Case) -> impl Iterator<Item = &Figures> {
        self.0.of(case.place())
    }

    fn median(&self, case: Case, figure: fn(&Figures) -> f64) -> f64 {
        self.0.median(case.place(), figure)
    }

    /// What `always` does a second of what `overflow` does: the median of the rounds' shares.
    fn share(&self, up: bool, figure: fn(&Figures) -> f64) -> f64 {
        let [always, overflow] = [true, false].map(|always| Case { up, always }.place());
        median(self.0.ratios(always, overflow, figure))
    }

    /// The syncs of all rounds together.
    fn syncs(&self, case: Case) -> Syncs {
        self.of(case).fold(Syncs::default(), |mut sum, figures| {
            sum.add(&figures.syncs);
            sum
        })
    }

    /// The bare file's of all rounds together: in order of their length.
    fn bare(&self, case: Case) -> Vec<f64> {
        let mut all: Vec<f64> = self.of(case).flat_map(|figures| figures.bare.iter().copied()).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// As Markdown: each figure the median of its rounds, of syncs all together, of losses and other faults the worst.
    pub fn table(&self) -> String {
        let mut text = format!(
            "| {}: far end | durability | messages/s | CPU µs/message | on disk / sent | KB a sync | syncs | mean ms \
             | p99 ms at most | bare file's mean ms | p99 ms | lost | repeated | out of order |\n\
             |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            self.0.relay
        );
        for case in Case::ALL {
            let syncs = self.syncs(case);
            let bare = self.bare(case);
            let of_spool = match syncs.count() {
                0 => "|".to_owned(),
                _ => format!("{:.2} | {}", syncs.mean_ms(), syncs.quantile_ms(0.99)),
            };
            let of_bare = if bare.is_empty() {
                "|".to_owned()
            } else {
                format!("{:.2} | {:.2}", bare.iter().sum::<f64>() / bare.len() as f64, quantile(&bare, 0.99))
            };
            let worst = |fault: fn(&Outcome) -> u64| self.of(case).map(|one| fault(&one.outcome)).max().unwrap_or(0);
            text.push_str(&format!(
                "| {} | {} | {:.0} | {:.3} | {:.2} | {:.0} | {} | {of_spool} | {of_bare} | {} | {} | {} |\n",
                case.far_end(),
                case.durability(),
                self.median(case, |figures| figures.taken),
                self.median(case, |figures| figures.cpu_us),
                self.median(case, |figures| figures.on_disk),
                self.median(case, |figures| figures.octets_a_sync as f64 / 1e3),
                syncs.count(),
                worst(|outcome| outcome.lost),
                worst(|outcome| outcome.repeated),
                worst(|outcome| outcome.out_of_order),
            ));
        }
        for (up, name) in [(false, "down"), (true, "up")] {
            text.push_str(&format!(
                "\nfar end {name}: always has {:.2} of overflow's messages a second, and {:.2} times its CPU a message\n",
                self.share(up, |figures| figures.taken),
                self.share(up, |figures| figures.cpu_us),
            ));
        }
        text
    }

    /// Whether the targets are met.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let name = &self.0.relay;
        let share = self.share(false, |figures| figures.taken);
        let text = format!("durable, {name}: far end down, share of overflow {share:.2}, at least {SHARE_MIN:.2}");
        let mut all = vec![Verdict { met: share >= SHARE_MIN, text }];
        for case in Case::ALL {
            let (up, always) = (case.far_end(), case.durability());
            let faults: u64 = self.of(case).map(|figures| faults(&figures.outcome)).sum();
            let text =
                format!("durable, {name}: far end {up}, {always}: lost, repeated, out of order or wrong {faults}");
            all.push(Verdict { met: faults == 0, text });
            if case.always {
                let (p99, bare) = (self.syncs(case).quantile_ms(0.99), quantile(&self.bare(case), 0.99));
                let allowed = if bare <= COMMIT_P99_MS_MAX { "allows it" } else { "does not allow it" };
                let text = format!(
                    "durable, {name}: far end {up}, p99 of a commit in ms {p99}, at most {COMMIT_P99_MS_MAX} where the \
                     disk allows it; its own is {bare:.2} and {allowed}"
                );
                // A histogram without a commit has no p99, and then nothing was shown.
                let met = p99 <= COMMIT_P99_MS_MAX || (p99.is_finite() && bare > COMMIT_P99_MS_MAX);
                all.push(Verdict { met, text });
            }
        }
        all
    }
}

fn faults(outcome: &Outcome) -> u64 {
    outcome.lost + outcome.repeated + outcome.out_of_order + outcome.wrong
}

/// The shortest that `share` (0 to 1) of all do not exceed; they are in order.
fn quantile(all: &[f64], share: f64) -> f64 {
    let rank = (all.len() as f64 * share).ceil() as usize;
    all.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
