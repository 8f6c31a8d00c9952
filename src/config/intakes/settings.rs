//! The variables: those of the forwarder, and our own beside them.

use std::path::PathBuf;

use super::entry::{Entries, Takes};
use super::{Findings, host};
use crate::config::expand::Environment;
use crate::config::report::{Position, did_you_mean};
use crate::config::{limits, units};

/// The forwarder's image trusts this file alone; whoever mounts another over it means it to be trusted.
const CA: &str = "/SEKOIA-IO-intake.pem";

/// Where the forwarder's containers have the certificates of `tls` intakes.
const CERTIFICATES: &str = "/certs";

/// `DISK_SPACE` of the forwarder's image.
const DISK_SPACE: u64 = 32 * limits::GIB;

/// `MEMORY_MESSAGES` of the forwarder's image.
const MEMORY_MESSAGES: u64 = 100_000;

/// What the forwarder's README counts a message as: 1.2 KB.
const MESSAGE_OCTETS: u64 = 1_200;

/// Of the machine's memory (or the container's), so many quarters at most are ours: the forwarder's own table promises
/// nine tenths of it to its queues, and the kernel and the page cache need theirs.
const MEMORY_QUARTERS: u64 = 3;

/// The forwarder's regions, in our words.
const REGIONS: [&str; 6] = ["fra1", "fra2", "mco1", "uae1", "usa1", "sgp1"];

/// What holds for all intakes.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) output: Destination,
    /// Certificate authorities to trust, in place of the Mozilla roots.
    pub(super) ca: Option<String>,
    /// The folder of the `tls` intakes' certificates.
    pub(super) certificates: PathBuf,
    /// Folder and octets.
    pub(super) spool: Option<(PathBuf, u64)>,
    /// Octets.
    pub(super) memory_max: u64,
    pub(super) admin: String,
    /// Where `stats` intakes have their time from; `None`: the default's.
    pub(super) stats_interval: Option<String>,
}

/// Where everything goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// A region of ours, over TLS.
    Region(String),
    /// URLs.
    To(Vec<String>),
}

/// Where a variable "stands".
pub(super) fn place(variable: &str) -> Position {
    Position { rank: usize::MAX, file: format!("the variable {variable}").into(), line: 0, column: 0 }
}

impl Settings {
    /// `None`: nobody knows where to send anything; `findings` say why.
    pub(super) fn of(entries: &Entries, environment: Environment<'_>, findings: &mut Findings) -> Option<Self> {
        let mut reader = Reader { environment, findings };
        Some(Self {
            output: reader.destination()?,
            ca: reader.given("FOREBAY_CA").or_else(|| std::path::Path::new(CA).is_file().then(|| CA.to_owned())),
            certificates: reader.given("FOREBAY_CERTS").unwrap_or_else(|| CERTIFICATES.to_owned()).into(),
            spool: reader.spool(),
            memory_max: reader.memory_max(entries),
            admin: reader.admin(entries),
            stats_interval: reader.given("FOREBAY_STATS_INTERVAL"),
        })
    }
}

struct Reader<'a, 'f> {
    environment: Environment<'a>,
    findings: &'f mut Findings,
}

impl Reader<'_, '_> {
    /// A variable that is set, and not to nothing.
    fn given(&self, name: &str) -> Option<String> {
        (self.environment)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn bad(&mut self, variable: &str, message: String) {
        self.findings.bad.add(&place(variable), &"", message);
    }

    fn note(&mut self, variable: &str, message: &str) {
        self.findings.notes.add(&place(variable), &"", message);
    }

    fn destination(&mut self) -> Option<Destination> {
        let region = self.given("REGION").map_or_else(|| "fra1".to_owned(), |region| region.to_lowercase());
        let relp = self.given("RELP_OUTPUT");
        if relp.as_ref().is_some_and(|relp| ["false", "no", "off", "0"].contains(&relp.to_lowercase().as_str())) {
            self.note(
                "RELP_OUTPUT",
                "set, which the forwarder takes for yes whatever it says: unset it to send syslog",
            );
        }
        let endpoint = match region.as_str() {
            "other" => self.given("ENDPOINT"),
            _ => None,
        };
        Some(match (region.as_str(), endpoint, relp.is_some()) {
            ("other", Some(endpoint), relp) => Destination::To(targets(&endpoint, relp)),
            ("other", None, _) => {
                self.bad("ENDPOINT", "not set, expected a host, because REGION is OTHER".to_owned());
                return None;
            }
            (region, _, relp) if REGIONS.contains(&region) => in_region(region, relp),
            (region, _, relp) => {
                let near = did_you_mean(region, REGIONS.into_iter().chain(["other"]));
                let known = "FRA1, FRA2, MCO1, UAE1, USA1, SGP1 or OTHER";
                let message =
                    format!("found \"{region}\", expected {known}{near}; sent to FRA1, as the forwarder does");
                self.bad("REGION", message);
                in_region("fra1", relp)
            }
        })
    }

    /// The disk queue, of which `DISK_SPACE` is all that it may take.
    fn spool(&mut self) -> Option<(PathBuf, u64)> {
        let size = match self.given("DISK_SPACE") {
            None => DISK_SPACE,
            Some(text) => rsyslog_size(&text).unwrap_or_else(|| {
                let message = format!("found \"{text}\", expected a size such as 32g; 32g is taken");
                self.bad("DISK_SPACE", message);
                DISK_SPACE
            }),
        };
        let bounded = size.clamp(limits::SPOOL_SIZE_MIN, limits::SPOOL_SIZE_MAX);
        if bounded != size {
            let shown = units::show_size(bounded);
            self.note("DISK_SPACE", &format!("out of the bounds of a disk queue: {shown} is taken"));
        }
        let home = self
            .given("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| self.given("HOME").map(|home| PathBuf::from(home).join(".local/state")));
        match self.given("FOREBAY_SPOOL") {
            Some(off) if off == "off" => None,
            Some(dir) => Some((dir.into(), bounded)),
            None => host::spool_folder(home, &mut self.findings.notes).map(|dir| (dir, bounded)),
        }
    }

    /// What the messages in memory take by the forwarder's own arithmetic, beside what the program takes itself.
    fn memory_max(&mut self, entries: &Entries) -> u64 {
        let messages = match self.given("MEMORY_MESSAGES") {
            None => MEMORY_MESSAGES,
            Some(text) => text.parse().unwrap_or_else(|_| {
                let message = format!("found \"{text}\", expected a count of messages; {MEMORY_MESSAGES} is taken");
                self.bad("MEMORY_MESSAGES", message);
                MEMORY_MESSAGES
            }),
        };
        let each = messages / (entries.count as u64).max(1);
        let sizes = entries.intakes.iter().map(|intake| intake.queue_size.unwrap_or(each));
        let messages = sizes.fold(0_u64, u64::saturating_add);
        let (wanted, available) = (memory_of(messages), host::memory());
        let given = bounded_memory(wanted, available);
        if given < wanted {
            let (wanted, given) = (wanted / limits::MIB, given / limits::MIB);
            self.note(
                "MEMORY_MESSAGES",
                &format!("{wanted} MiB are more than this machine gives: {given} MiB are taken"),
            );
        }
        given
    }

    fn admin(&mut self, entries: &Entries) -> String {
        if let Some(admin) = self.given("FOREBAY_ADMIN") {
            return admin;
        }
        let port = limits::ADMIN.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let takes_it = |takes: &Takes| match takes {
            Takes::Listener { protocol, port: taken, .. } => *protocol != "udp" && Some(*taken) == port,
            Takes::Stats => false,
        };
        if let Some(intake) = entries.intakes.iter().find(|intake| takes_it(&intake.takes)) {
            let message = format!("there is no admin server: \"{}\" has its port; set FOREBAY_ADMIN", intake.shown);
            self.findings.notes.add(&intake.at, &"", message);
            return "off".to_owned();
        }
        limits::ADMIN.to_owned()
    }
}

fn in_region(region: &str, relp: bool) -> Destination {
    match (relp, region) {
        (false, region) => Destination::Region(region.to_owned()),
        (true, "fra1") => Destination::To(targets("intake.sekoia.io", true)),
        (true, region) => Destination::To(targets(&format!("intake.{region}.sekoia.io"), true)),
    }
}

/// A host, or `HOST:PORT`. Over RELP the forwarder speaks with `relp.intake…` where the host is `intake…`; Sekoia's
/// documentation has `intake…` itself since 2026: the first that is well takes everything.
fn targets(endpoint: &str, relp: bool) -> Vec<String> {
    let has_port = endpoint.rsplit_once(':').is_some_and(|(host, port)| {
        (!host.contains(':') || host.ends_with(']')) && port.bytes().all(|each| each.is_ascii_digit())
    });
    let host =
        if endpoint.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{endpoint}]") } else { endpoint.to_owned() };
    let url = |scheme: &str, host: &str, port: u16| match has_port {
        true => format!("{scheme}://{host}"),
        false => format!("{scheme}://{host}:{port}"),
    };
    if !relp {
        return vec![url("tls", &host, limits::REGION_PORT)];
    }
    let of = |host: &str| url("relp+tls", host, limits::REGION_RELP_PORT);
    let today = host.starts_with("intake").then(|| of(&format!("relp.{host}")));
    today.into_iter().chain([of(&host)]).collect()
}

/// rsyslog's sizes: small letters are powers of 1,024, capital ones of 1,000.
fn rsyslog_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|each: char| !each.is_ascii_digit());
    let (base, letter) = match text.get(digits.len()..)? {
        "" => return digits.parse().ok(),
        letter if letter == letter.to_lowercase() => (1_024_u64, letter.to_owned()),
        letter => (1_000, letter.to_lowercase()),
    };
    let power = ["k", "m", "g", "t", "p", "e"].iter().position(|known| *known == letter)?;
    digits.parse::<u64>().ok()?.checked_mul(base.checked_pow(power as u32 + 1)?)
}

/// What so many messages make of `memory.max`.
fn memory_of(messages: u64) -> u64 {
    let octets = messages.saturating_mul(MESSAGE_OCTETS).saturating_add(limits::MEMORY_MAX as u64);
    whole_mib(octets.min(limits::MEMORY_MAX_MAX))
}

/// Not more than a part of what there is, where that is known, and not less than usual.
fn bounded_memory(wanted: u64, available: Option<u64>) -> u64 {
    let most = available.map_or(u64::MAX, |available| available / 4 * MEMORY_QUARTERS);
    whole_mib(wanted.min(most.max(limits::MEMORY_MAX as u64)))
}

/// A report shows it so.
fn whole_mib(octets: u64) -> u64 {
    octets / limits::MIB * limits::MIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rsyslogs() {
        let rows = [
            ("32g", Some(32 << 30)),
            ("180g", Some(180 << 30)),
            ("4980g", Some(4_980 << 30)),
            ("1m", Some(1 << 20)),
            ("5G", Some(5_000_000_000)),
            ("7k", Some(7_168)),
            ("7K", Some(7_000)),
            ("512", Some(512)),
            ("", None),
            ("g", None),
            ("-1g", None),
            ("32gb", None),
            ("1.5g", None),
            ("32 g", None),
            ("99999999999999g", None),
        ];
        for (text, octets) in rows {
            assert_eq!(rsyslog_size(text), octets, "{text}");
        }
    }

    #[test]
    fn memory_is_the_readmes_arithmetic_within_what_there_is() {
        let usual = limits::MEMORY_MAX as u64;
        assert_eq!(memory_of(0), usual);
        assert_eq!(memory_of(2_000_000), usual + (2_288 << 20));
        assert_eq!(memory_of(u64::MAX), limits::MEMORY_MAX_MAX);
        assert_eq!(bounded_memory(usual + (5 << 20), None), usual + (5 << 20));
        assert_eq!(bounded_memory(10 << 30, Some(8 << 30)), 6 << 30);
        assert_eq!(bounded_memory(10 << 30, Some(1 << 20)), usual);
        assert_eq!(bounded_memory(1 << 30, Some(8 << 30)), 1 << 30);
    }

    #[test]
    fn a_host_becomes_the_targets_that_the_forwarder_and_the_documentation_name() {
        let rows: [(&str, bool, &[&str]); 7] = [
            ("intake.sekoia.io", false, &["tls://intake.sekoia.io:10514"]),
            ("intake.local", true, &["relp+tls://relp.intake.local:11514", "relp+tls://intake.local:11514"]),
            ("logs.local", true, &["relp+tls://logs.local:11514"]),
            ("logs.local:6514", false, &["tls://logs.local:6514"]),
            ("logs.local:2514", true, &["relp+tls://logs.local:2514"]),
            ("::1", false, &["tls://[::1]:10514"]),
            ("[::1]:5", false, &["tls://[::1]:5"]),
        ];
        for (endpoint, relp, expected) in rows {
            assert_eq!(targets(endpoint, relp), expected, "{endpoint}");
        }
    }
}
