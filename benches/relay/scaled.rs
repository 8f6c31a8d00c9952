//! Whether throughput adds up: one, two and three relays behind HAProxy. Each may use the same small part of a processor (a
//! quota of its control group), so that what one relay can do is the limit, and not what this machine can.
//!
//! Takes HAProxy, and root: control groups are made.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::generator::Order;
use crate::relays::{Relay, Setting, on_path};
use crate::report::Verdict;
use crate::run::{self, Load, Outcome, Running};
use crate::sink::{Expectation, Identity, Sink};

/// As many as are started at most.
const RELAYS_MAX: usize = 3;

/// Connections that send: HAProxy gives each of one, two or three relays the same count.
const CONNECTIONS: usize = 12;

/// How often a quota is refilled: short, so that a relay pauses for milliseconds only.
const PERIOD_US: u64 = 20_000;

/// `n` relays do at least so much of `n` times what one does.
const OF_LINEAR_MIN: f64 = 0.85;

/// A run is over when nothing has arrived for so long.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A control group with a processor quota, for as long as it lives.
struct Quota(PathBuf);

impl Quota {
    /// `percent` of one processor for this process and its threads.
    fn of(name: &str, percent: u64, pid: u32) -> anyhow::Result<Self> {
        let quota = PERIOD_US * percent / 100;
        let (one, two) = (Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup"));
        let (root, files) = if one.join("cpu.cfs_quota_us").is_file() || one.join("cpu.shares").is_file() {
            (one, [("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota.to_string())].to_vec())
        } else {
            (two, [("cpu.max", format!("{quota} {PERIOD_US}"))].to_vec())
        };
        let folder = root.join(format!("forebay-bench-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("{}: it takes root", folder.display()))?;
        let group = Self(folder);
        for (file, value) in files.into_iter().chain([("cgroup.procs", pid.to_string())]) {
            let file = group.0.join(file);
            std::fs::write(&file, value).with_context(|| file.display().to_string())?;
        }
        Ok(group)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Empty once the kernel has buried its process.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(POLL);
        }
        eprintln!("{} could not be removed", self.0.display());
    }
}

/// All runs, by count of relays.
pub struct Comparison {
    percent: u64,
    rounds: Vec<Vec<Outcome>>,
}

/// Runs one, two and three relays in turn, so often, each with `percent` of a processor.
pub fn compare(
    relay: &Relay,
    load: &Load,
    runs: usize,
    percent: u64,
    identity: &Identity,
    home: &Path,
) -> anyhow::Result<Comparison> {
    let haproxy = on_path("HAPROXY", "haproxy").context("haproxy is not installed")?;
    let mut rounds = Vec::new();
    for count in 1..=runs.max(1) {
        let mut round = Vec::new();
        for relays in 1..=RELAYS_MAX {
            let dir = tempfile::tempdir_in(home)?;
            let outcome = run(relay, relays, load, percent, (&haproxy, identity, dir.path()))?;
            println!("scaled {count}: {relays} relays: {:.0}/s, lost {}", outcome.delivered, outcome.lost);
            round.push(outcome);
        }
        rounds.push(round);
    }
    Ok(Comparison { percent, rounds })
}

fn run(
    relay: &Relay,
    relays: usize,
    load: &Load,
    percent: u64,
    (haproxy, identity, dir): (&Path, &Identity, &Path),
) -> anyhow::Result<Outcome> {
    let sink = Sink::start(identity, Expectation { keys: true, untimed: 0, time_all: false, relp: false })?;
    let mut ports = Vec::new();
    let mut running = Vec::new();
    for index in 0..relays {
        let dir = dir.join(format!("relay-{index}"));
        std::fs::create_dir(&dir)?;
        let port = run::free_port(false)?;
        let setting = Setting {
            dir: &dir,
            udp: false,
            port,
            admin_port: run::free_port(false)?,
            sink: sink.address,
            ca: &identity.ca,
            crowded: false,
            spools: false,
            always: false,
            relp: false,
        };
        let process = run::start(relay, &setting)?;
        let quota = Quota::of(&index.to_string(), percent, process.0.id())?;
        ports.push(port);
        running.push((process, quota));
    }
    let port = run::free_port(false)?;
    let _balancer = balancer(haproxy, dir, port, &ports)?;
    let order = Order {
        to: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        udp: false,
        connections: CONNECTIONS,
        idle: 0,
        rate: None,
        seconds: load.seconds,
        messages_max: load.messages_max,
    };
    let mut generator = run::Generator::start(&order)?;
    generator.go()?;
    let (mut sent, mut received, mut progress) = (None, 0, Instant::now());
    let sent = loop {
        thread::sleep(POLL);
        if sent.is_none() {
            sent = generator.sent()?;
        }
        let now = sink.received();
        if now != received {
            (received, progress) = (now, Instant::now());
        }
        let over = progress.elapsed() > SILENCE_MAX;
        match sent.take() {
            Some(sent) if received >= crate::generator::Sent::total(&sent) || over => break sent,
            None if over => bail!("nothing arrives"),
            still => sent = still,
        }
    };
    for (process, quota) in running {
        process.stop()?;
        drop(quota);
    }
    let arrivals = sink.finish()?;
    let mut outcome = Outcome::default();
    run::add_arrivals(&mut outcome, &sent, &arrivals);
    let seconds = arrivals.last_us.saturating_sub(sent.began_us) as f64 / 1e6;
    outcome.delivered = arrivals.unique as f64 / seconds.max(f64::EPSILON);
    Ok(outcome)
}

/// HAProxy in front of relays at these ports.
fn balancer(executable: &Path, dir: &Path, port: u16, relays: &[u16]) -> anyhow::Result<Running> {
    let servers: String = relays.iter().map(|relay| format!("    server relay-{relay} 127.0.0.1:{relay}\n")).collect();
    let file = dir.join("haproxy.cfg");
    let text = format!(
        "global\n    maxconn 100\ndefaults\n    mode tcp\n    balance roundrobin\n    timeout connect 5s\n    \
         timeout client 1h\n    timeout server 1h\nlisten bench\n    bind 127.0.0.1:{port}\n{servers}"
    );
    std::fs::write(&file, text)?;
    let log = std::fs::File::create(dir.join("haproxy.log"))?;
    let mut command = Command::new(executable);
    command.args(["-db", "-f"]).arg(file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut running = Running(command.spawn().context("starting haproxy")?);
    run::wait_until_listening(&mut running, false, port)?;
    Ok(running)
}

impl Comparison {
    /// What `relays` do of what one does in the same round: the median, the lowest and the highest of all rounds.
    fn ratios(&self, relays: usize) -> [f64; 3] {
        let mut all: Vec<f64> =
            self.rounds.iter().map(|round| round[relays - 1].delivered / round[0].delivered).collect();
        all.sort_by(f64::total_cmp);
        [all[all.len() / 2], all[0], all[all.len() - 1]]
    }

    /// As a Markdown table.
    pub fn table(&self) -> String {
        let mut text = format!(
            "| relays, each {} % of a processor | messages/s | × one | lowest | highest | lost |\n\
             |--:|--:|--:|--:|--:|--:|\n",
            self.percent
        );
        for relays in 1..=RELAYS_MAX {
            let [median, lowest, highest] = self.ratios(relays);
            let mut delivered: Vec<f64> = self.rounds.iter().map(|round| round[relays - 1].delivered).collect();
            delivered.sort_by(f64::total_cmp);
            text.push_str(&format!(
                "| {relays} | {:.0} | {median:.2} | {lowest:.2} | {highest:.2} | {} |\n",
                delivered[delivered.len() / 2],
                self.rounds.iter().map(|round| round[relays - 1].lost).sum::<u64>(),
            ));
        }
        text
    }

    /// Whether it adds up.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let of = |relays: usize| {
            let [ratio, ..] = self.ratios(relays);
            let lost: u64 = self.rounds.iter().map(|round| round[relays - 1].lost).sum();
            let met = ratio >= OF_LINEAR_MIN * relays as f64 && lost == 0;
            let text = format!(
                "scaled: {relays} relays do {ratio:.2} times what one does (at least {:.2}), lost {lost}",
                OF_LINEAR_MIN * relays as f64
            );
            Verdict { met, text }
        };
        (2..=RELAYS_MAX).map(of).collect()
    }
}
