//! What it costs to look: the tcp load with nobody looking, with a tap of all that is sent, and with one whose filter is held
//! against what arrives and takes nothing; turn about in the same run.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use anyhow::{Context, ensure};

use crate::relays::Relay;
use crate::report::Verdict;
use crate::rounds::{Rounds, median};
use crate::run::{self, Load, Outcome, Scenario};
use crate::sink::Identity;

/// CPU for each message with a tap open, at most so many times that without.
const OF_UNTAPPED_MAX: f64 = 1.02;

/// What is looked at.
const CASES: [(&str, Option<&str>); 3] = [
    ("nobody", None),
    ("all that is sent", Some("/tap")),
    ("text that never comes", Some("/tap?received=1&text=never-in-any-message")),
];

/// Somebody who looks, and reads what he is shown.
pub struct Tapper {
    stream: TcpStream,
    octets: Arc<AtomicU64>,
}

impl Tapper {
    /// The tap is open when this returns.
    pub fn start(port: u16, path: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut piece = [0; 64 * 1024];
        let count = stream.read(&mut piece)?;
        ensure!(piece[..count].starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&piece[..count]));
        let octets = Arc::new(AtomicU64::new(0));
        let (mut reader, sum) = (stream.try_clone()?, Arc::clone(&octets));
        thread::spawn(move || {
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                sum.fetch_add(count as u64, Relaxed);
            }
        });
        Ok(Self { stream, octets })
    }

    /// Octets that it was shown.
    pub fn octets(&self) -> u64 {
        self.octets.load(Relaxed)
    }
}

impl Drop for Tapper {
    fn drop(&mut self) {
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }
}

/// All runs of one relay, by case.
pub struct Comparison(Rounds<Outcome>);

/// Runs all cases in turn, so often.
pub fn compare(
    relay: &Relay,
    load: &Load,
    runs: usize,
    identity: &Identity,
    home: &Path,
) -> anyhow::Result<Comparison> {
    let rounds = Rounds::run(relay, CASES.len(), runs, |case, count| {
        let (name, tap) = CASES[case];
        let dir = tempfile::tempdir_in(home)?;
        let load = Load { tap, ..load.clone() };
        let outcome = run::run(relay, Scenario::Tapped, &load, identity, dir.path()).context(name)?;
        println!(
            "tapped {} {count}: {name}: {:.0}/s, {:.4} µs/message, lost {}, {} octets shown",
            relay.name, outcome.delivered, outcome.cpu_us, outcome.lost, outcome.shown
        );
        Ok(outcome)
    })?;
    Ok(Comparison(rounds))
}

impl Comparison {
    /// CPU of a case beside nobody's in the same round, by round.
    fn ratios(&self, case: usize) -> impl Iterator<Item = f64> + Clone {
        self.0.ratios(case, 0, |outcome| outcome.cpu_us)
    }

    /// As a Markdown table.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| tap | messages/s | CPU µs/message | × nobody | lowest | highest | KB shown | lost |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for (case, (name, _)) in CASES.iter().enumerate() {
            let of = |figure: fn(&Outcome) -> f64| self.0.median(case, figure);
            let ratios = self.ratios(case);
            text.push_str(&format!(
                "| {name} | {:.0} | {:.4} | {:.3} | {:.3} | {:.3} | {:.0} | {} |\n",
                of(|outcome| outcome.delivered),
                of(|outcome| outcome.cpu_us),
                median(ratios.clone()),
                ratios.clone().fold(f64::INFINITY, f64::min),
                ratios.fold(0.0, f64::max),
                of(|outcome| outcome.shown as f64 / 1e3),
                self.0.of(case).map(|outcome| outcome.lost).sum::<u64>(),
            ));
        }
        text
    }

    /// Whether looking costs no more than it may.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let of_case = |case: usize| {
            let ratio = median(self.ratios(case));
            let text = format!(
                "tapped {}: {}: {ratio:.3} times the CPU of nobody looking (at most {OF_UNTAPPED_MAX})",
                self.0.relay, CASES[case].0
            );
            Verdict { met: ratio <= OF_UNTAPPED_MAX, text }
        };
        (1..CASES.len()).map(of_case).collect()
    }
}
