//! What the tests share that run the relay as a process: the relay, a collector in Sekoia's place, senders of all
//! kinds, certificates. Everything listens on loopback at ports that the kernel chooses.
#![allow(dead_code, reason = "each test binary uses its own part of the harness")]

pub mod browser;
pub mod certificates;
pub mod collector;
pub mod disk;
pub mod intake;
pub mod load;
pub mod machine;
pub mod records;
pub mod relay;
pub mod relp;
pub mod rsyslogd;
pub mod senders;
pub mod waiting;

use std::path::PathBuf;

use certificates::Certificates;
use collector::Collector;
use relay::Relay;

/// A relay with one output, the collector behind it, and the certificates that both use.
pub struct Bench {
    pub relay: Relay,
    pub collector: Collector,
    pub certificates: Certificates,
}

impl Bench {
    /// Starts a TLS collector, and a relay whose only output it is. `configuration` holds `inputs`, `routes`, and what
    /// else is not `outputs`.
    pub fn start(configuration: &str) -> Self {
        let certificates = Certificates::new();
        Self::with(certificates, configuration, "")
    }

    /// As [`Self::start`]; `output` are more keys of the output, in flow style (`replay_window: 0, …`).
    pub fn with_output(configuration: &str, output: &str) -> Self {
        Self::with(Certificates::new(), configuration, output)
    }

    /// With certificates that `configuration` names already.
    pub fn with(certificates: Certificates, configuration: &str, output: &str) -> Self {
        let collector = Collector::start(&certificates);
        let outputs = format!("outputs:\n  sekoia: {{{}}}\n", collector.output(&certificates, output));
        let relay = Relay::start(&format!("{outputs}{configuration}"));
        Self { relay, collector, certificates }
    }
}

/// A route that takes everything, with a key by which its messages can be told.
pub const ROUTE_ALL: &str = "routes: [{name: all, intake_key: key-of-all}]\n";

/// The program on this machine, or `None`, said, where it is not installed.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = directories.map(|directory: PathBuf| directory.join(program)).find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: {program} is not installed");
    }
    found
}

/// The same of a program that `.ci/run` installs: there its absence is a failure.
pub fn installed_in_ci(program: &str) -> Option<PathBuf> {
    let found = installed(program);
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "{program} is not installed, and CI is set");
    found
}
