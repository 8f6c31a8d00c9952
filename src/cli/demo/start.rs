//! The demo's relay: the real one, on ports that can be typed.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::path::Path;

use anyhow::{Context, bail};

use crate::config::{self, Config, Loaded, Source};
use crate::relay::{Relay, StartError};

use super::samples::Ports;

/// Tried in this order, then the kernel chooses: 5514 is what relays use that may not bind 514.
const PORTS: [u16; 5] = [5514, 5515, 5516, 5517, 0];

/// Tried in this order: the default of `admin.listen`, then the kernel's choice.
const ADMIN: [&str; 2] = [config::limits::ADMIN, "127.0.0.1:0"];

/// What it does; `forebay.yaml` next to this file.
const CONFIGURATION: &str = include_str!("forebay.yaml");

/// A running relay, and the claim to its ports.
pub(super) struct Started {
    /// The relay.
    pub(super) relay: Relay,
    /// Where it listens.
    pub(super) ports: Ports,
    _claim: Option<UnixListener>,
}

/// Starts it on the first ports that are free.
pub(super) fn start(ca: &Path, collector_port: u16) -> anyhow::Result<Started> {
    for port in PORTS {
        let claim = if port == 0 { None } else { claim(port) };
        if port != 0 && claim.is_none() {
            continue;
        }
        for admin in ADMIN {
            match Relay::start(configuration(ca, collector_port, port, admin)?) {
                Ok(relay) => {
                    let ports = ports(&relay).context("the relay does not say where it listens")?;
                    return Ok(Started { relay, ports, _claim: claim });
                }
                Err(StartError::Admin { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
                Err(StartError::Bind(errors)) if errors.iter().all(|error| is_in_use(&error.source)) => break,
                Err(error) => return Err(error).context("cannot start the relay"),
            }
        }
    }
    bail!("found no free port on 127.0.0.1 (`ss -lntu` lists those in use)")
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Makes a port ours among demos. The relay's sockets can be shared (`SO_REUSEPORT`), and its check for others looks
/// before it binds: of two demos that start in the same millisecond, each would get half of the other's messages. An
/// abstract unix socket belongs to one process, needs no file, and vanishes with its process.
fn claim(port: u16) -> Option<UnixListener> {
    let address = UnixAddress::from_abstract_name(format!("forebay-demo-{port}")).ok()?;
    UnixListener::bind_addr(&address).ok()
}

fn configuration(ca: &Path, collector_port: u16, port: u16, admin: &str) -> anyhow::Result<Config> {
    let source = Source::Text { name: "the demo's configuration".to_owned(), text: CONFIGURATION.to_owned() };
    let variable = |name: &str| match name {
        "DEMO_CA" => ca.to_str().map(str::to_owned),
        "DEMO_COLLECTOR_PORT" => Some(collector_port.to_string()),
        "DEMO_PORT" => Some(port.to_string()),
        "DEMO_ADMIN" => Some(admin.to_owned()),
        _ => None,
    };
    let Loaded { config, .. } = config::load(&source, &variable).map_err(anyhow::Error::new)?;
    Ok(config)
}

/// The ports of what listens: the kernel may have chosen them.
fn ports(relay: &Relay) -> Option<Ports> {
    let port = |scheme: &str| {
        let url = relay.listening.iter().find_map(|(_, url)| url.strip_prefix(scheme))?;
        url.rsplit_once(':')?.1.parse().ok()
    };
    Some(Ports { udp: port("udp://")?, tcp: port("tcp://")? })
}
