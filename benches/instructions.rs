//! Instructions a message of each pure stage, counted by callgrind and compared with `benches/instructions.txt`: exact
//! where nanoseconds on a shared machine are not. A rise over 5 % fails.
//!
//! `cargo bench --bench instructions` compares, `-- --bless` writes the counts down as the new ones. They depend on the
//! compiler (the toolchain is pinned) and on the target, so they are compared on x86-64 Linux only. Without valgrind it
//! says so and passes, except in CI (`CI` is set), where it fails.
#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a bench speaks to its terminal, and may panic"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

use routing::Routing;
use workload::{MESSAGES, STAGES, Workload};

#[path = "stages/routing.rs"]
mod routing;
#[path = "stages/workload.rs"]
mod workload;

/// First argument of the process that callgrind watches; then come a stage and a number of passes.
const ROLE: &str = "role-pass";
/// Two counts of passes: their difference is free of what starting costs.
const PASSES: (u64, u64) = (2, 10);
/// With a thousand routes starting costs more, and not always the same: hashes are seeded at random.
const ROUTING_PASSES: (u64, u64) = (2, 402);
/// A message to one of 1,000 routes costs at most so much of what one to the only route does.
const ROUTES_RATIO_MAX: f64 = 1.5;
/// A rise over this share fails.
const RISE_MAX: f64 = 0.05;
/// A fall over this share is worth writing down.
const FALL_NOTED: f64 = 0.05;
const HEADER: &str = "\
# Instructions a message on x86-64 Linux, release build, counted by callgrind over RFC 3164 messages of 170 octets.
# Written by `cargo bench --bench instructions -- --bless`; a change over 5 % must be explained in its commit.
";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, stage, passes] = arguments.as_slice()
        && role == ROLE
    {
        let passes = 0..passes.parse()?;
        let count: usize = if routing::STAGES.contains(&stage.as_str()) {
            let mut routing = Routing::new(stage);
            passes.map(|_| routing.pass()).sum()
        } else {
            let mut workload = Workload::new();
            passes.map(|_| workload.pass(stage)).sum()
        };
        println!("{count}");
        return Ok(ExitCode::SUCCESS);
    }
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        println!("skipped: the counts kept are those of x86-64 Linux");
        return Ok(ExitCode::SUCCESS);
    }
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        let ci = std::env::var_os("CI").is_some();
        println!("{}: valgrind is not installed", if ci { "failed" } else { "skipped" });
        return Ok(if ci { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let stages = STAGES.iter().chain(&routing::STAGES);
    let counted = stages.map(|stage| Ok((*stage, count(stage)?))).collect::<anyhow::Result<Vec<_>>>()?;
    if arguments.iter().any(|argument| argument == "--bless") {
        return bless(&counted);
    }
    compare(&counted)
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

/// Instructions a message of `stage`.
fn count(stage: &str) -> anyhow::Result<f64> {
    let passes = if routing::STAGES.contains(&stage) { ROUTING_PASSES } else { PASSES };
    let (few, many) = (watch(stage, passes.0)?, watch(stage, passes.1)?);
    let messages = (passes.1 - passes.0) * MESSAGES as u64;
    Ok(many.saturating_sub(few) as f64 / messages as f64)
}

/// All instructions of a process that makes so many passes.
fn watch(stage: &str, passes: u64) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([ROLE, stage, &passes.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("callgrind over {stage}: {}\n{text}", output.status);
    }
    // `==PID== Collected : 123456`
    let collected = text.lines().find_map(|line| line.split_once("Collected :")).context("callgrind's count")?;
    Ok(collected.1.trim().parse()?)
}

fn bless(counted: &[(&str, f64)]) -> anyhow::Result<ExitCode> {
    let mut text = HEADER.to_owned();
    for (stage, count) in counted {
        writeln!(text, "{stage} {count:.1}")?;
    }
    std::fs::write(file(), &text)?;
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Whether a thousand routes cost about what one does.
fn scales(counted: &[(&str, f64)]) -> bool {
    let count_of = |stage: &str| counted.iter().find(|(name, _)| *name == stage).map_or(f64::NAN, |(_, count)| *count);
    let scales = |kind: &&str| {
        let ratio = count_of(&format!("{kind}_1000")) / count_of(&format!("{kind}_1"));
        let holds = ratio <= ROUTES_RATIO_MAX;
        let word = if holds { "PASS" } else { "FAIL" };
        println!("{word} {kind}: 1,000 routes cost {ratio:.2} times what one does, at most {ROUTES_RATIO_MAX}");
        holds
    };
    // All are to be said.
    ["program", "mixed"].iter().filter(|kind| !scales(kind)).count() == 0
}

fn compare(counted: &[(&str, f64)]) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(file()).context("benches/instructions.txt")?;
    let mut kept = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (stage, count) = line.split_once(' ').with_context(|| format!("not a stage and its count: {line}"))?;
        kept.insert(stage, count.parse::<f64>()?);
    }
    let mut failed = !scales(counted);
    for (stage, count) in counted {
        if routing::STAGES.contains(stage) && !kept.contains_key(stage) {
            println!("NEW {stage}: {count:.1} instructions a message; bless");
            continue;
        }
        let before = kept.get(stage).with_context(|| format!("no count of {stage} is kept; bless"))?;
        let rise = count / before - 1.0;
        let word = match rise {
            rise if rise > RISE_MAX => "FAIL",
            rise if rise < -FALL_NOTED => "PASS (bless the gain)",
            _ => "PASS",
        };
        failed |= rise > RISE_MAX;
        println!("{word} {stage}: {count:.1} instructions a message, {before:.1} before ({:+.1} %)", rise * 100.0);
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
