//! What stands at the far end of the road. A protocol takes part in all scenarios through one more [`FarEnd`].

use std::fmt::{Display, Formatter};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use crate::namespaces::Namespace;
use crate::run::KERNEL_MAX;
use crate::support::certificates::Certificates;
use crate::support::collector::{Collector, Fault, Manner, number_of};
use crate::support::intake::{Answer, Intake};
use crate::support::rsyslogd::{Rsyslogd, with_driver};
use crate::support::waiting::pause;

/// Where every far end listens: as Sekoia does, and nobody else in a namespace of ours.
pub const PORT: u16 = 10514;

/// The relay's over syslog, bytes on the wire: above what the far end's kernel may hold unread.
const REPLAY_WINDOW: u64 = 2 << 20;
/// What the relay writes at once, and up to a batch more than its window asks for, bytes.
const WRITE: u64 = 512 << 10;
/// The relay's over RELP, messages. No more than whose answers the far end's kernel holds while the road is bad: where it takes
/// no more of them, librelp (1.11, OpenSSL) may read nothing any more, for ever.
const RELP_WINDOW: u64 = 512;

/// The relay's over HTTPS, octets of a request's body, and of the shortest event in one.
const BODY_MAX: u64 = 256 << 10;
const EVENT_MIN: u64 = 48;
/// From a request to its answer where that is late: long enough for deaths to fall between them.
const ANSWER_DELAY: Duration = Duration::from_millis(100);

/// What a far end is made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Ends as a killed process does: its connections with it, and what it had not read.
    Dies,
    /// Is started again, with what had arrived before.
    Returns,
    /// Resets the connections that are open.
    Resets,
    /// As [`Fault`] says.
    Commits(Fault),
    /// Takes what comes, and says so late, from now on.
    AnswersLate,
    /// Presents a certificate that nobody has a reason to trust, to whoever connects from now on.
    TakesAStrangersCertificate,
    /// Presents its own again.
    TakesItsOwnCertificate,
}

/// A destination that records what arrives and misbehaves on order.
pub trait FarEnd: Send + Sync {
    /// The keys of the relay's `outputs:` entry that leads to `host`, in flow style.
    fn output(&self, host: &str) -> String;
    /// The same for rsyslogd: parameters of its `action`, and of `global`; `None` where it does not speak this.
    fn action(&self, host: &str) -> Option<(String, String)>;
    /// Does as told; returns once it is done. Not every far end can do everything.
    fn act(&self, act: Act);
    /// Messages that have arrived, however often each.
    fn arrived(&self) -> usize;
    /// The numbers of what has arrived, in order where it has one.
    fn numbers(&self) -> Vec<u64>;
}

/// What the road leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Our own collector, octet-counted over TLS.
    Tls,
    /// The same over plain TCP.
    Tcp,
    /// A real rsyslogd: imtcp over TLS with this driver.
    Rsyslogd(&'static str),
    /// A real rsyslogd: imrelp over TLS.
    Relp,
    /// An intake in Sekoia's place.
    Https,
}

impl Display for Speaks {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tls => write!(to, "TLS"),
            Self::Tcp => write!(to, "TCP"),
            Self::Rsyslogd(driver) => write!(to, "TLS, rsyslogd ({driver})"),
            Self::Relp => write!(to, "RELP over TLS, rsyslogd"),
            Self::Https => write!(to, "HTTPS"),
        }
    }
}

impl Speaks {
    /// Starts one at this address inside.
    pub fn start(self, inside: &Namespace, address: Ipv4Addr, certificates: &Certificates) -> Box<dyn FarEnd> {
        let address = SocketAddr::from((address, PORT));
        let ca = certificates.ca.clone();
        match self {
            Self::Tls | Self::Tcp => {
                let ca = (self == Self::Tls).then_some(ca);
                let certificates = ca.is_some().then_some(certificates);
                Box::new(Syslog { collector: inside.inside(|| Collector::start_at(address, certificates)), ca })
            }
            Self::Rsyslogd(driver) => {
                let scheme = "tls";
                Box::new(RealRsyslogd::new(inside, scheme, &imtcp(address, driver, certificates), certificates))
            }
            Self::Relp => {
                let scheme = "relp+tls";
                Box::new(RealRsyslogd::new(inside, scheme, &imrelp(address, certificates), certificates))
            }
            Self::Https => {
                let is_late = Arc::new(AtomicBool::new(false));
                let asked = Arc::clone(&is_late);
                let script = move |_: &_| match asked.load(Relaxed) {
                    true => Answer::TakeAndSayLate(ANSWER_DELAY),
                    false => Answer::Take,
                };
                let intake = inside.inside(|| Intake::start_at(address, certificates, script));
                Box::new(Https { intake, is_late, ca })
            }
        }
    }

    /// Whether the far end says which messages it has, so that the relay has to have released all of them at the end.
    pub fn acknowledges(self) -> bool {
        matches!(self, Self::Relp | Self::Https)
    }

    /// How many messages of so many octets each the relay may send again after so many breaks.
    pub fn again_max(self, breaks: u64, octets: u64) -> u64 {
        match self {
            Self::Tls | Self::Tcp | Self::Rsyslogd(_) => breaks * (REPLAY_WINDOW + KERNEL_MAX + WRITE) / octets,
            Self::Relp => breaks * RELP_WINDOW,
            // The request that had no answer yet.
            Self::Https => breaks * BODY_MAX / EVENT_MIN,
        }
    }
}

/// Our own collector.
struct Syslog {
    collector: Collector,
    /// Over TLS, whom to trust.
    ca: Option<PathBuf>,
}

/// The names in the certificates of all far ends; addresses are not among them.
const SERVER_NAME: &str = "localhost";

/// How the relay's output over this scheme leads to `host`; with a certificate authority over TLS.
fn output(scheme: &str, host: &str, ca: Option<&Path>) -> String {
    let tls = ca.map_or_else(String::new, |ca| format!(", tls: {{ca: {}, server_name: {SERVER_NAME}}}", ca.display()));
    let window = match scheme {
        "relp+tls" => format!("relp_window: {RELP_WINDOW}"),
        "https" => format!("max_body: {BODY_MAX}"),
        _ => format!("replay_window: {REPLAY_WINDOW}"),
    };
    format!("to: '{scheme}://{host}:{PORT}'{tls}, {window}")
}

/// As Sekoia's pages have customers write it.
fn tls_action(host: &str, ca: &Path) -> (String, String) {
    let global = format!("global(DefaultNetstreamDriverCAFile=\"{}\")\n", ca.display());
    let action = format!(
        "target=\"{host}\" port=\"{PORT}\" StreamDriver=\"gtls\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" \
         StreamDriverPermittedPeers=\"{SERVER_NAME}\""
    );
    (action, global)
}

impl FarEnd for Syslog {
    fn output(&self, host: &str) -> String {
        let scheme = if self.ca.is_some() { "tls" } else { "tcp" };
        output(scheme, host, self.ca.as_deref())
    }

    fn action(&self, host: &str) -> Option<(String, String)> {
        Some(match &self.ca {
            Some(ca) => tls_action(host, ca),
            None => (format!("target=\"{host}\" port=\"{PORT}\""), String::new()),
        })
    }

    fn act(&self, act: Act) {
        match act {
            Act::Dies => self.collector.stop(),
            Act::Returns => self.collector.restart(),
            Act::Resets => drop(self.collector.reset()),
            Act::Commits(fault) => {
                // Its kernel acknowledges for a moment what its process does not read: that is lost with the connection.
                self.collector.behave(Manner::Stalls);
                pause(Duration::from_millis(50));
                self.collector.commit(fault);
                self.collector.behave(Manner::Reads);
            }
            Act::TakesAStrangersCertificate => self.collector.behave(Manner::PresentsAStrangersCertificate),
            Act::TakesItsOwnCertificate => self.collector.behave(Manner::Reads),
            Act::AnswersLate => panic!("syslog has no answers"),
        }
    }

    fn arrived(&self) -> usize {
        self.collector.look(|seen| seen.frames.len())
    }

    fn numbers(&self) -> Vec<u64> {
        self.collector.in_order()
    }
}

/// A real rsyslogd, which is killed with SIGKILL.
struct RealRsyslogd {
    namespace: String,
    /// Of the relay's output.
    scheme: &'static str,
    ca: PathBuf,
    configuration: String,
    /// What it receives, a file for each of its lives: a line that its death cut short stays alone.
    received: TempDir,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    /// Which, from 1.
    number: usize,
    process: Option<Rsyslogd>,
    /// What arrived in those before.
    before: Vec<u64>,
}

/// Its input for syslog over TLS.
fn imtcp(address: SocketAddr, driver: &str, certificates: &Certificates) -> String {
    format!(
        "{}module(load=\"imtcp\" StreamDriver.Name=\"{driver}\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
         input(type=\"imtcp\" address=\"{}\" port=\"{}\")\n",
        with_driver(driver, certificates),
        address.ip(),
        address.port(),
    )
}

/// Its input for RELP over TLS. Without a queue it writes each message to its file before it acknowledges it: what a queue in
/// memory held would be gone with the process, acknowledged or not.
fn imrelp(address: SocketAddr, certificates: &Certificates) -> String {
    format!(
        "main_queue(queue.type=\"Direct\")\nmodule(load=\"imrelp\" tls.tlslib=\"openssl\")\n\
         input(type=\"imrelp\" address=\"{}\" port=\"{}\" tls=\"on\" tls.caCert=\"{}\" tls.myCert=\"{}\" \
         tls.myPrivKey=\"{}\")\n",
        address.ip(),
        address.port(),
        certificates.ca.display(),
        certificates.server.cert.display(),
        certificates.server.key.display()
    )
}

impl RealRsyslogd {
    fn new(inside: &Namespace, scheme: &'static str, input: &str, certificates: &Certificates) -> Self {
        let received = tempfile::tempdir().unwrap();
        let configuration = format!(
            "{input}template(name=\"all\" type=\"string\" string=\"%msg%\\n\")\n\
             if $inputname startswith 'im' then action(type=\"omfile\" file=\"{}/LIFE\" template=\"all\")\n",
            received.path().display(),
        );
        let (namespace, ca) = (inside.name().to_owned(), certificates.ca.clone());
        let started = Self { namespace, scheme, ca, configuration, received, life: Mutex::default() };
        started.act(Act::Returns);
        started
    }

    fn received_in(&self, life: usize) -> Vec<u64> {
        let text = std::fs::read(self.received.path().join(life.to_string())).unwrap_or_default();
        text.split(|octet| *octet == b'\n').filter_map(number_of).collect()
    }
}

impl FarEnd for RealRsyslogd {
    fn output(&self, host: &str) -> String {
        output(self.scheme, host, Some(&self.ca))
    }

    fn action(&self, host: &str) -> Option<(String, String)> {
        (self.scheme == "tls").then(|| tls_action(host, &self.ca))
    }

    fn act(&self, act: Act) {
        let mut life = self.life.lock().unwrap();
        match act {
            Act::Dies => {
                life.process = None;
                let arrived = self.received_in(life.number);
                life.before.extend(arrived);
            }
            Act::Returns => {
                life.number += 1;
                let configuration = self.configuration.replace("LIFE", &life.number.to_string());
                let rsyslogd = Rsyslogd::start_inside(&self.namespace, &configuration);
                rsyslogd.listens(PORT);
                life.process = Some(rsyslogd);
            }
            _ => panic!("rsyslogd does no such thing: {act:?}"),
        }
    }

    fn arrived(&self) -> usize {
        let life = self.life.lock().unwrap();
        life.before.len() + life.process.as_ref().map_or(0, |_| self.received_in(life.number).len())
    }

    fn numbers(&self) -> Vec<u64> {
        let life = self.life.lock().unwrap();
        let now = life.process.as_ref().map_or_else(Vec::new, |_| self.received_in(life.number));
        [life.before.as_slice(), &now].concat()
    }
}

/// An intake that takes everything.
struct Https {
    intake: Intake,
    is_late: Arc<AtomicBool>,
    ca: PathBuf,
}

impl FarEnd for Https {
    fn output(&self, host: &str) -> String {
        output("https", host, Some(&self.ca))
    }

    fn action(&self, _host: &str) -> Option<(String, String)> {
        None
    }

    fn act(&self, act: Act) {
        match act {
            Act::Dies => self.intake.stop(),
            Act::Returns => self.intake.restart(),
            Act::AnswersLate => self.is_late.store(true, Relaxed),
            _ => panic!("this intake does no such thing: {act:?}"),
        }
    }

    fn arrived(&self) -> usize {
        self.intake.look(|seen| seen.taken.len())
    }

    fn numbers(&self) -> Vec<u64> {
        self.intake.look(|seen| seen.taken.iter().filter_map(|(_, event)| number_of(event.as_bytes())).collect())
    }
}
