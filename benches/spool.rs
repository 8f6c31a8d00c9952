//! What the spool costs beside a bare file: the same octets appended and synced at the same cadence, in the same run, turn
//! about, so that both meet the same disk; each figure is the median of its rounds.
//!
//! `cargo bench --bench spool` runs all; `-- --help` says what can be chosen. `--dir` names the disk that is measured.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench speaks to its terminal, and may panic: nothing depends on it"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use forebay::config::{Compression, SpoolKey};

use blocks::Blocks;
use measure::{Figures, Latencies};

#[path = "spool/blocks.rs"]
mod blocks;
#[path = "spool/measure.rs"]
mod measure;
#[allow(dead_code, reason = "most of it is for other benches")]
#[path = "relay/system.rs"]
mod system;

/// Between two syncs, of the spool and of the file: the default of `sync: {interval: …}`.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(200);
/// What the spool must reach of the file's throughput, uncompressed.
const SHARE_MIN: f64 = 0.7;
/// What a commit may take where each batch waits for its own, if the disk allows it.
const COMMIT_P99_MS_MAX: f64 = 10.0;
const MB: f64 = 1e6;

/// Measures the store: throughput beside a bare file, CPU, reading back, commits, memory.
#[derive(Debug, Parser)]
struct Arguments {
    /// On the disk to measure.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Megabytes of a round, before compression.
    #[arg(long, default_value_t = 500)]
    megabytes: u64,
    /// Rounds of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Commits that are timed.
    #[arg(long, default_value_t = 1_000)]
    commits: usize,
    /// One round of 100 MB, 200 commits.
    #[arg(long)]
    quick: bool,
    /// Ends with 1 where a target is missed.
    #[arg(long)]
    check: bool,
    /// `cargo bench` says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What becomes of blocks.
#[derive(Clone, Copy)]
pub struct Way {
    name: &'static str,
    compression: Compression,
    encrypted: bool,
}

impl Way {
    const ALL: [Self; 5] = [
        Self { name: "uncompressed", compression: Compression::None, encrypted: false },
        Self { name: "lz4", compression: Compression::Lz4, encrypted: false },
        Self { name: "zstd", compression: Compression::Zstd, encrypted: false },
        Self { name: "uncompressed, encrypted", compression: Compression::None, encrypted: true },
        Self { name: "lz4, encrypted", compression: Compression::Lz4, encrypted: true },
    ];

    /// A key that is none.
    fn key(self) -> Option<SpoolKey> {
        self.encrypted.then(|| SpoolKey::new([7; SpoolKey::OCTETS]))
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.megabytes, arguments.rounds, arguments.commits) = (100, 1, 200);
    }
    let blocks = Blocks::new();
    println!(
        "blocks of {} octets ({} messages), {} MB a round, {} rounds, synced every {} ms, in {}",
        blocks.mean_len(),
        blocks.mean_records(),
        arguments.megabytes,
        arguments.rounds,
        SYNC_INTERVAL.as_millis(),
        arguments.dir.display()
    );
    let mut missed = throughput(&arguments, &blocks)?;
    missed |= commits(&arguments, &blocks)?;
    Ok(if missed && arguments.check { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A folder on the disk to measure that goes away.
fn folder(dir: &Path) -> anyhow::Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("forebay-bench-").tempdir_in(dir)?)
}

/// Prints the table. Returns whether the target was missed.
fn throughput(arguments: &Arguments, blocks: &Blocks) -> anyhow::Result<bool> {
    let octets = arguments.megabytes * 1_000_000;
    println!(
        "\n| blocks | written MB/s | bare file MB/s | share | CPU s/GB | bare file CPU s/GB | disk / octets \
         | read MB/s | CPU s/GB | peak memory MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    let mut missed = false;
    for way in Way::ALL {
        let mut rounds = Vec::new();
        for round in 0..arguments.rounds.max(1) {
            let home = folder(&arguments.dir)?;
            // Turn about: neither always meets the disk that the other has left behind.
            let (store, file) = if round % 2 == 0 {
                let store = measure::store(home.path(), way, blocks, octets)?;
                (store, measure::file(home.path(), blocks, octets)?)
            } else {
                let file = measure::file(home.path(), blocks, octets)?;
                (measure::store(home.path(), way, blocks, octets)?, file)
            };
            rounds.push((store, file));
        }
        let median = |figure: fn(&(Figures, Figures)) -> f64| measure::median(rounds.iter().map(figure).collect());
        let share = median(|(store, file)| store.written / file.written);
        println!(
            "| {} | {:.0} | {:.0} | {share:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.2} | {:.1} |",
            way.name,
            median(|(store, _)| store.written / MB),
            median(|(_, file)| file.written / MB),
            median(|(store, _)| store.write_cpu),
            median(|(_, file)| file.write_cpu),
            median(|(store, _)| store.disk),
            median(|(store, _)| store.read / MB),
            median(|(store, _)| store.read_cpu),
            median(|(store, _)| store.memory_mib),
        );
        if way.compression == Compression::None && !way.encrypted {
            missed = share < SHARE_MIN;
        }
    }
    let verdict = if missed { "FAIL" } else { "PASS" };
    println!("\n{verdict} uncompressed: at least {SHARE_MIN} of a bare file");
    Ok(missed)
}

/// Prints how long it takes until a single batch is safe. Returns whether that is too long, and not the disk's fault.
fn commits(arguments: &Arguments, blocks: &Blocks) -> anyhow::Result<bool> {
    let home = folder(&arguments.dir)?;
    let (store, file) = measure::commits(home.path(), blocks, arguments.commits)?;
    println!("\n| one batch, synced | p50 ms | p99 ms | max ms |\n|---|--:|--:|--:|");
    let row = |name: &str, all: &Latencies| {
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} |",
            all.quantile_ms(0.5),
            all.quantile_ms(0.99),
            all.quantile_ms(1.0)
        );
    };
    row("spool", &store);
    row("bare file", &file);
    let allowed = file.quantile_ms(0.99) < COMMIT_P99_MS_MAX / 2.0;
    let missed = allowed && store.quantile_ms(0.99) > COMMIT_P99_MS_MAX;
    let verdict = if missed { "FAIL" } else { "PASS" };
    println!("\n{verdict} p99 of a commit under {COMMIT_P99_MS_MAX} ms where the disk allows it");
    Ok(missed)
}
