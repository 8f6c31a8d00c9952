//! The end-to-end comparison: forebay, rsyslog and syslog-ng as processes between a generator and a TLS collector, on
//! loopback and two cores; and the floor, a copy from TCP to TLS that looks at nothing.
//!
//! `cargo bench --bench relay` runs all; `-- --help` says what can be chosen. Relays that are not installed are left out
//! and named. Order is checked for each source and program on each connection to the collector.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::string_slice,
    unreachable_pub,
    reason = "a bench sleeps between looks, speaks to its terminal, and may panic: nothing depends on it"
)]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use relays::Relay;
use run::{Load, Outcome, Scenario};

#[path = "relay/durable.rs"]
mod durable;
#[path = "relay/floor.rs"]
mod floor;
#[path = "relay/generator.rs"]
mod generator;
#[path = "relay/message.rs"]
mod message;
#[path = "relay/outage.rs"]
mod outage;
#[path = "relay/relays.rs"]
mod relays;
#[path = "relay/report.rs"]
mod report;
#[path = "relay/rounds.rs"]
mod rounds;
#[path = "relay/run.rs"]
mod run;
#[path = "relay/scaled.rs"]
mod scaled;
#[path = "relay/sink.rs"]
mod sink;
#[path = "relay/system.rs"]
mod system;
#[path = "relay/tapped.rs"]
mod tapped;

/// First argument of the generator's process; its second is a [`generator::Order`] as JSON.
const ROLE_GENERATE: &str = "role-generate";
/// First argument of the floor's process; its second is a [`floor::Order`] as JSON.
const ROLE_COPY: &str = "role-copy";
/// What all measurements are made on.
const CORES: usize = 2;

/// All that the table can show.
const RELAYS: [&str; 6] = ["floor", "forebay", "rsyslog", "rsyslog-documented", "syslog-ng", "syslog-ng-reliable"];

/// Compares relays: syslog in, octet-counted TLS or RELP out.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which scenarios.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scenario::ALL)]
    scenario: Vec<Scenario>,
    /// floor, forebay, rsyslog, rsyslog-documented, syslog-ng, syslog-ng-reliable, or NAME=PATH for another build of forebay.
    #[arg(long, value_delimiter = ',', default_values = RELAYS)]
    relay: Vec<String>,
    /// Sending time of a run.
    #[arg(long, env = "RELAY_BENCH_SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// No more messages than these in a run.
    #[arg(long)]
    messages: Option<u64>,
    /// The median of so many is shown.
    #[arg(long, env = "RELAY_BENCH_RUNS", default_value_t = 3)]
    runs: usize,
    /// One run of two seconds.
    #[arg(long)]
    quick: bool,
    /// TCP connections that send.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Silent TCP connections of the crowd scenario.
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// Datagrams a second of the udp scenario.
    #[arg(long, default_value_t = 200_000)]
    udp_rate: u64,
    /// Messages a second of the latency scenario.
    #[arg(long, default_value_t = 1_000)]
    latency_rate: u64,
    /// What the outage and durable scenarios send, as 170 MB or 5 GB: messages of all octets together. The others' queues
    /// take up to four times as much disk.
    #[arg(long, default_value = "340MB", value_parser = outage::parse_bytes)]
    backlog: u64,
    /// Percent of a processor that each relay of the scaled scenario may use.
    #[arg(long, default_value_t = 5)]
    share: u64,
    /// Ends with 1 where a target is missed or a run of ours failed.
    #[arg(long)]
    check: bool,
    /// `cargo bench` says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let words: Vec<String> = std::env::args().skip(1).take(2).collect();
    if let [role, order] = words.as_slice() {
        match role.as_str() {
            ROLE_GENERATE => return generator::main(&serde_json::from_str(order)?).map(|()| ExitCode::SUCCESS),
            ROLE_COPY => return floor::main(&serde_json::from_str(order)?).map(|()| ExitCode::SUCCESS),
            _ => {}
        }
    }
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.runs, arguments.seconds) = (1, 2.0);
    }
    compare(&arguments)
}

fn compare(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let cores = system::keep_to_cores(CORES)?;
    system::raise_open_files()?;
    println!(
        "{cores} cores, {} octets a message, {} runs of {} s",
        message::MESSAGE_LEN,
        arguments.runs,
        arguments.seconds
    );
    let mut relays = Vec::new();
    for name in &arguments.relay {
        match Relay::find(name) {
            Ok(relay) => relays.push(relay),
            Err(reason) => println!("left out: {name}: {reason}"),
        }
    }
    let home = tempfile::tempdir()?;
    let identity = sink::Identity::new(home.path())?;
    let mut lines = Vec::new();
    let mut durable = Vec::new();
    let mut tapped = Vec::new();
    let mut scaled = Vec::new();
    let mut failed = false;
    for &scenario in &arguments.scenario {
        for relay in relays.iter().filter(|relay| relay.takes(scenario)) {
            if scenario == Scenario::Tapped {
                match tapped::compare(relay, &load(arguments), arguments.runs, &identity, home.path()) {
                    Ok(comparison) => tapped.push(comparison),
                    Err(error) => {
                        failed = true;
                        eprintln!("{}, {}: {error:#}", scenario.name(), relay.name);
                    }
                }
                continue;
            }
            if scenario == Scenario::Scaled {
                match scaled::compare(relay, &load(arguments), arguments.runs, arguments.share, &identity, home.path())
                {
                    Ok(comparison) => scaled.push(comparison),
                    Err(error) => {
                        failed = true;
                        eprintln!("{}, {}: {error:#}", scenario.name(), relay.name);
                    }
                }
                continue;
            }
            if scenario == Scenario::Durable {
                match durable::compare(relay, &load(arguments), arguments.runs, &identity, home.path()) {
                    Ok(comparison) => durable.push(comparison),
                    Err(error) => {
                        failed = true;
                        eprintln!("{}, {}: {error:#}", scenario.name(), relay.name);
                    }
                }
                continue;
            }
            match repeat(arguments, scenario, relay, &identity, home.path()) {
                Ok(line) => lines.push(line),
                Err(error) => {
                    failed |= matches!(relay.kind, relays::Kind::Forebay(_) | relays::Kind::Floor);
                    eprintln!("{}, {}: {error:#}", scenario.name(), relay.name);
                }
            }
        }
    }
    let missed = print(&lines, &durable, &tapped, &scaled)?;
    let bad = arguments.check && (failed || missed);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What every run sends.
fn load(arguments: &Arguments) -> Load {
    Load {
        seconds: arguments.seconds,
        messages_max: arguments.messages,
        connections: arguments.connections.clamp(1, message::SOURCES_MAX),
        idle: arguments.idle,
        udp_rate: arguments.udp_rate,
        latency_rate: arguments.latency_rate,
        backlog: arguments.backlog / message::MESSAGE_LEN as u64,
        tap: None,
    }
}

/// All runs of one relay and scenario.
fn repeat(
    arguments: &Arguments,
    scenario: Scenario,
    relay: &Relay,
    identity: &sink::Identity,
    home: &std::path::Path,
) -> anyhow::Result<report::Line> {
    let load = load(arguments);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for count in 0..arguments.runs.max(1) {
        let dir = tempfile::tempdir_in(home)?;
        let outcome = run::run(relay, scenario, &load, identity, dir.path()).context("a run failed")?;
        println!(
            "{} {} {}: {:.0}/s, {:.3} µs/message, lost {}",
            scenario.name(),
            relay.name,
            count + 1,
            outcome.delivered,
            outcome.cpu_us,
            outcome.lost
        );
        outcomes.push(outcome);
    }
    let rate = match scenario {
        Scenario::Udp => Some(load.udp_rate),
        Scenario::Latency => Some(load.latency_rate),
        Scenario::Tcp
        | Scenario::Relp
        | Scenario::Crowd
        | Scenario::Outage
        | Scenario::Durable
        | Scenario::Tapped
        | Scenario::Scaled
        | Scenario::Idle => None,
    };
    Ok(report::Line { scenario, relay: relay.clone(), outcome: report::summarize(&outcomes), rate })
}

/// Prints the result. Returns whether a target was missed.
fn print(
    lines: &[report::Line],
    durable: &[durable::Comparison],
    tapped: &[tapped::Comparison],
    scaled: &[scaled::Comparison],
) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    if !lines.is_empty() {
        writeln!(out, "\n{}", report::table(lines))?;
    }
    for comparison in durable {
        writeln!(out, "\n{}", comparison.table())?;
    }
    for comparison in tapped {
        writeln!(out, "\n{}", comparison.table())?;
    }
    for comparison in scaled {
        writeln!(out, "\n{}", comparison.table())?;
    }
    for doubt in report::doubts(lines) {
        writeln!(out, "DOUBT {doubt}")?;
    }
    let mut missed = false;
    let of_durable = durable.iter().flat_map(durable::Comparison::verdicts);
    let of_tapped = tapped.iter().flat_map(tapped::Comparison::verdicts);
    let of_scaled = scaled.iter().flat_map(scaled::Comparison::verdicts);
    for verdict in report::verdicts(lines).into_iter().chain(of_durable).chain(of_tapped).chain(of_scaled) {
        missed |= !verdict.met;
        writeln!(out, "{} {}", if verdict.met { "PASS" } else { "FAIL" }, verdict.text)?;
    }
    Ok(missed)
}
