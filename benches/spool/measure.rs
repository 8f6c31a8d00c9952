//! The measurements themselves: one round of the store, one of a bare file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use forebay::batch::Seq;
use forebay::config::SpoolFull;
use forebay::spool::block::{LaneName, Meta};
use forebay::spool::store::{Options, Store};

use crate::blocks::Blocks;
use crate::{SYNC_INTERVAL, Way, system};

/// Two shards' lanes of as many routes as the blocks have programs.
const ROUTES: u64 = 8;
const SHARDS: u64 = 2;
/// Of 2026, microseconds since the Unix epoch.
const NOW_US: i64 = 1_795_348_800_000_000;
const SEGMENT_BYTES: u64 = 64 << 20;

/// One round. Octets are those before compression.
#[derive(Debug, Default)]
pub struct Figures {
    /// Octets a second, the last sync included.
    pub written: f64,
    /// Seconds of CPU for each 10⁹ octets.
    pub write_cpu: f64,
    /// Octets of disk for each octet.
    pub disk: f64,
    /// Octets a second read and released.
    pub read: f64,
    /// Seconds of CPU for each 10⁹ octets read and released.
    pub read_cpu: f64,
    /// Peak of the whole process over the round, MiB.
    pub memory_mib: f64,
}

/// The middle one.
pub fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Wall and CPU time since it was started.
struct Stopwatch {
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    fn start() -> io::Result<Self> {
        Ok(Self { began: Instant::now(), cpu: system::cpu_time(std::process::id())? })
    }

    /// Octets a second, and seconds of CPU for each 10⁹ octets.
    fn rates(&self, octets: u64) -> io::Result<(f64, f64)> {
        let cpu = system::cpu_time(std::process::id())?.saturating_sub(self.cpu);
        Ok((octets as f64 / self.began.elapsed().as_secs_f64(), cpu.as_secs_f64() * 1e9 / octets as f64))
    }
}

/// Lets the kernel forget this process's peak, or read it, in MiB.
fn forget_peak() -> io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

fn peak_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.split_whitespace().next().context("a number")?.parse::<f64>()? / 1024.0)
}

fn lanes() -> Vec<LaneName> {
    let lane = |number: u64| LaneName { route: format!("route{}", number / SHARDS), shard: (number % SHARDS) as u16 };
    (0..ROUTES * SHARDS).map(lane).collect()
}

fn meta(number: u64, records: u32) -> Meta {
    let now_us = NOW_US + number as i64 * 1000;
    let lane = number % (ROUTES * SHARDS);
    let seq = Seq::default().next(now_us, (lane % SHARDS) as usize);
    Meta { seq, records, oldest_us: now_us, newest_us: now_us + 900 }
}

fn open(dir: &Path, way: Way) -> anyhow::Result<Store> {
    Ok(Store::open(Options {
        dir: dir.join("spool"),
        max_size: 100 << 30,
        when_full: SpoolFull::Block,
        min_free: 0,
        compression: way.compression,
        encryption_key: way.key(),
        shares: HashMap::new(),
        segment_bytes: SEGMENT_BYTES,
        reserve_bytes: 1 << 20,
    })?)
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

/// Fills a store with so many octets, empties it after a restart.
pub fn store(dir: &Path, way: Way, blocks: &Blocks, octets: u64) -> anyhow::Result<Figures> {
    forget_peak()?;
    let lanes = lanes();
    let mut figures = Figures::default();
    let mut store = open(dir, way)?;
    let (mut number, mut written) = (0, 0);
    let watch = Stopwatch::start()?;
    let mut synced = Instant::now();
    while written < octets {
        let (plain, records) = blocks.get(number);
        store.append(&lanes[(number % lanes.len() as u64) as usize], meta(number, records), plain)?;
        written += plain.len() as u64;
        number += 1;
        if synced.elapsed() >= SYNC_INTERVAL {
            store.sync()?;
            synced = Instant::now();
        }
    }
    store.sync()?;
    (figures.written, figures.write_cpu) = watch.rates(written)?;
    figures.disk = disk_bytes(dir) as f64 / written as f64;
    store.close()?;
    let mut store = open(dir, way)?;
    let watch = Stopwatch::start()?;
    let read = drain(&mut store, &lanes, number)?;
    ensure!(read == written, "{read} of {written} octets came back");
    (figures.read, figures.read_cpu) = watch.rates(read)?;
    figures.memory_mib = peak_mib()?;
    store.close()?;
    std::fs::remove_dir_all(dir.join("spool"))?;
    Ok(figures)
}

/// Reads and releases all, a block of each lane in turn. Returns how many octets those were.
fn drain(store: &mut Store, lanes: &[LaneName], blocks: u64) -> anyhow::Result<u64> {
    let mut after = vec![Seq::default(); lanes.len()];
    let (mut plain, mut read, mut count) = (Vec::new(), 0, 0);
    let mut synced = Instant::now();
    while count < blocks {
        let before = count;
        for (lane, after) in lanes.iter().zip(&mut after) {
            let Some(meta) = store.next(lane, *after, &mut plain)? else { continue };
            *after = meta.seq;
            read += plain.len() as u64;
            count += 1;
            store.release(lane, meta.seq);
        }
        ensure!(count > before, "{} blocks are missing", blocks - count);
        if synced.elapsed() >= SYNC_INTERVAL {
            store.sync()?;
            synced = Instant::now();
        }
    }
    store.sync()?;
    Ok(read)
}

/// Appends the same octets to one file.
pub fn file(dir: &Path, blocks: &Blocks, octets: u64) -> anyhow::Result<Figures> {
    let path = dir.join("file");
    let mut file = File::create_new(&path)?;
    let (mut number, mut written) = (0, 0);
    let watch = Stopwatch::start()?;
    let mut synced = Instant::now();
    while written < octets {
        let (plain, _) = blocks.get(number);
        file.write_all(plain)?;
        written += plain.len() as u64;
        number += 1;
        if synced.elapsed() >= SYNC_INTERVAL {
            file.sync_data()?;
            synced = Instant::now();
        }
    }
    file.sync_data()?;
    let (written, write_cpu) = watch.rates(written)?;
    std::fs::remove_file(path)?;
    Ok(Figures { written, write_cpu, ..Figures::default() })
}

/// Times, in order of their length.
pub struct Latencies(Vec<Duration>);

impl Latencies {
    fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The shortest that `share` (0 to 1) of all do not exceed, milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Single blocks made safe, by the spool and by a bare file in turn.
pub fn commits(dir: &Path, blocks: &Blocks, count: usize) -> anyhow::Result<(Latencies, Latencies)> {
    let lanes = lanes();
    let mut store = open(dir, Way::ALL[0])?;
    let mut file = File::create_new(dir.join("file"))?;
    let (mut of_store, mut of_file) = (Vec::new(), Vec::new());
    let mut synced = Instant::now();
    for number in 0..count as u64 {
        let (plain, records) = blocks.get(number);
        let began = Instant::now();
        store.append(&lanes[(number % lanes.len() as u64) as usize], meta(number, records), plain)?;
        store.sync_data()?;
        // The index is flushed as often as ever, and whoever commits then waits for that too.
        if synced.elapsed() >= SYNC_INTERVAL {
            store.sync()?;
            synced = Instant::now();
        }
        of_store.push(began.elapsed());
        let began = Instant::now();
        file.write_all(plain)?;
        file.sync_data()?;
        of_file.push(began.elapsed());
    }
    store.close()?;
    Ok((Latencies::new(of_store), Latencies::new(of_file)))
}
