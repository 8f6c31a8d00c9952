//! Which sockets stay open when the configuration changes.

use std::net::SocketAddr;
use std::path::Path;

use crate::config::{Config, Listen};

/// What a socket is bound to, whatever is spoken on its connections.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    Unix(&'a Path),
    UnixDatagram(&'a Path),
}

fn place(listen: &Listen) -> Place<'_> {
    match listen {
        Listen::Udp(address) => Place::Udp(*address),
        Listen::Tcp(address) | Listen::Tls(address) | Listen::Relp(address) | Listen::RelpTls(address) => {
            Place::Tcp(*address)
        }
        Listen::Unix(path) => Place::Unix(path),
        Listen::UnixDatagram(path) => Place::UnixDatagram(path),
    }
}

/// Which input of `config` has the socket that is bound for this address of `input`, and as what; `None`: none has.
///
/// A port that the kernel chose stays with its input; any other socket may go to another one.
pub fn kept(config: &Config, input: usize, listen: &Listen) -> Option<(usize, Listen)> {
    let is_here = |other: &&Listen| place(other) == place(listen);
    let own = config.inputs.get(input).filter(|own| !own.retired);
    if let Some(same) = own.and_then(|own| own.listen.iter().find(is_here)) {
        return Some((input, same.clone()));
    }
    if let Place::Udp(address) | Place::Tcp(address) = place(listen)
        && address.port() == 0
    {
        return None;
    }
    let mut inputs = config.inputs.iter().enumerate().filter(|(_, other)| !other.retired);
    inputs.find_map(|(index, other)| Some((index, other.listen.iter().find(is_here)?.clone())))
}
