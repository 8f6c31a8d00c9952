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
use crate::run::{self, Load, Running};
use crate::sink::{Expectation, Identity, Sink};

/// As many as are started at most.
const RELAYS_MAX: usize = 3;

/// Connections that send: HAProxy gives each of one, two or three relays the same count.
const CONNECTIONS: usize = 12;

/// How often a quota is refilled: short, so that a relay pauses for milliseconds only.
const PERIOD_US: u64 = 20_000;

/// `n` relays do at least so much of `n` times what one does.
const OF_LINEAR_MIN: f64 = 0.85;

/// Buffers between generator and relays are full by then.
const WARM_UP: Duration = Duration::from_secs(3);

/// Octets of HAProxy's buffers in the kernel: small, so that a relay with a small quota has read them in milliseconds.
const BUFFER: usize = 64 * 1024;

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
    /// Messages a second of one, two and three.
    rounds: Vec<Vec<f64>>,
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
            let rate = run(relay, relays, load, percent, (&haproxy, identity, dir.path()))?;
            println!("scaled {count}: {relays} relays: {rate:.0}/s");
            round.push(rate);
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
) -> anyhow::Result<f64> {
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
        // Dropped in this order: a group that has a process cannot be removed.
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
        // It is still sending when all has been measured.
        seconds: 2.0 * (WARM_UP.as_secs_f64() + load.seconds),
        messages_max: None,
    };
    let mut generator = run::Generator::start(&order)?;
    generator.go()?;
    thread::sleep(WARM_UP);
    let (before, began) = (sink.received(), Instant::now());
    thread::sleep(Duration::from_secs_f64(load.seconds));
    let (after, took) = (sink.received(), began.elapsed());
    if generator.sent()?.is_some() || after == before {
        bail!("the generator has ended, or nothing arrives");
    }
    // What still waits in all the buffers on the way is nobody's concern here.
    Ok((after - before) as f64 / took.as_secs_f64())
}

/// HAProxy in front of relays at these ports.
fn balancer(executable: &Path, dir: &Path, port: u16, relays: &[u16]) -> anyhow::Result<Running> {
    let servers: String = relays.iter().map(|relay| format!("    server relay-{relay} 127.0.0.1:{relay}\n")).collect();
    let file = dir.join("haproxy.cfg");
    let text = format!(
        "global\n    maxconn 100\n    tune.rcvbuf.client {BUFFER}\n    tune.sndbuf.server {BUFFER}\ndefaults\n    mode tcp\n    balance roundrobin\n    timeout connect 5s\n    \
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
        let mut all: Vec<f64> = self.rounds.iter().map(|round| round[relays - 1] / round[0]).collect();
        all.sort_by(f64::total_cmp);
        [all[all.len() / 2], all[0], all[all.len() - 1]]
    }

    /// As a Markdown table.
    pub fn table(&self) -> String {
        let mut text = format!(
            "| relays, each {} % of a processor | messages/s | × one | lowest | highest |\n\
             |--:|--:|--:|--:|--:|\n",
            self.percent
        );
        for relays in 1..=RELAYS_MAX {
            let [median, lowest, highest] = self.ratios(relays);
            let mut delivered: Vec<f64> = self.rounds.iter().map(|round| round[relays - 1]).collect();
            delivered.sort_by(f64::total_cmp);
            text.push_str(&format!(
                "| {relays} | {:.0} | {median:.2} | {lowest:.2} | {highest:.2} |\n",
                delivered[delivered.len() / 2],
            ));
        }
        text
    }

    /// Whether it adds up.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let of = |relays: usize| {
            let [ratio, ..] = self.ratios(relays);
            let least = OF_LINEAR_MIN * relays as f64;
            let text = format!("scaled: {relays} relays do {ratio:.2} times what one does (at least {least:.2})");
            Verdict { met: ratio >= least, text }
        };
        (2..=RELAYS_MAX).map(of).collect()
    }
}
