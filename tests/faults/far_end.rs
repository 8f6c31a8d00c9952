//! What stands at the far end of the road. A protocol takes part in all scenarios through one more [`FarEnd`].

use std::fmt::{Display, Formatter};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use crate::namespaces::Namespace;
use crate::support::certificates::Certificates;
use crate::support::collector::{Collector, Fault, Manner, number_of};
use crate::support::rsyslogd::{Rsyslogd, with_driver};
use crate::support::waiting::pause;

/// Where every far end listens: as Sekoia does, and nobody else in a namespace of ours.
pub const PORT: u16 = 10514;

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
}

impl Display for Speaks {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tls => write!(to, "TLS"),
            Self::Tcp => write!(to, "TCP"),
            Self::Rsyslogd(driver) => write!(to, "TLS, rsyslogd ({driver})"),
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
            Self::Rsyslogd(driver) => Box::new(Imtcp::new(inside, address, driver, certificates)),
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

fn tls_output(host: &str, ca: &Path) -> String {
    format!("to: 'tls://{host}:{PORT}', tls: {{ca: {}, server_name: {SERVER_NAME}}}", ca.display())
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
        match &self.ca {
            Some(ca) => tls_output(host, ca),
            None => format!("to: 'tcp://{host}:{PORT}'"),
        }
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
struct Imtcp {
    namespace: String,
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

impl Imtcp {
    fn new(inside: &Namespace, address: SocketAddr, driver: &str, certificates: &Certificates) -> Self {
        let received = tempfile::tempdir().unwrap();
        let configuration = format!(
            "{}module(load=\"imtcp\" StreamDriver.Name=\"{driver}\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
             input(type=\"imtcp\" address=\"{}\" port=\"{}\")\n\
             template(name=\"all\" type=\"string\" string=\"%msg%\\n\")\n\
             if $inputname == 'imtcp' then action(type=\"omfile\" file=\"{}/LIFE\" template=\"all\")\n",
            with_driver(driver, certificates),
            address.ip(),
            address.port(),
            received.path().display(),
        );
        let namespace = inside.name().to_owned();
        let started = Self { namespace, ca: certificates.ca.clone(), configuration, received, life: Mutex::default() };
        started.act(Act::Returns);
        started
    }
}

impl Imtcp {
    fn received_in(&self, life: usize) -> Vec<u64> {
        let text = std::fs::read(self.received.path().join(life.to_string())).unwrap_or_default();
        text.split(|octet| *octet == b'\n').filter_map(number_of).collect()
    }
}

impl FarEnd for Imtcp {
    fn output(&self, host: &str) -> String {
        tls_output(host, &self.ca)
    }

    fn action(&self, host: &str) -> Option<(String, String)> {
        Some(tls_action(host, &self.ca))
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
