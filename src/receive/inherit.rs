//! Sockets that the service manager has bound: which input reads each of them, on which shards.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use socket2::{SockRef, Socket};
use tracing::warn;

use super::bind::{Bound, DATAGRAM_BUFFER_BYTES, socket_of};
use crate::config::{Config, Input, Listen};
use crate::sys;
use crate::systemd::{Inherited, Place};

/// The inherited sockets of one of an input's addresses.
#[derive(Debug)]
struct Claim {
    input: usize,
    listen: usize,
    /// None where a socket of another address of the same input takes this one's connections as well.
    sockets: Vec<Inherited>,
}

/// Inherited sockets, and who reads them.
#[derive(Debug, Default)]
pub struct Claims(Vec<Claim>);

/// Gives each socket to the address that it is bound to.
///
/// # Errors
/// Those that no input asks for, all of them: what is sent there would wait in the kernel, and nobody would know.
pub fn claim(config: &Config, mut inherited: Vec<Inherited>) -> Result<Claims, Vec<String>> {
    let mut claims = Vec::new();
    let all = || {
        let inputs = config.inputs.iter().enumerate();
        inputs.flat_map(|(input, of)| of.listen.iter().enumerate().map(move |(listen, url)| (input, listen, url)))
    };
    for (input, listen, url) in all() {
        let sockets: Vec<_> = inherited.extract_if(.., |given| is_at(url, &given.place)).collect();
        if !sockets.is_empty() {
            claims.push(Claim { input, listen, sockets });
        }
    }
    // `ListenStream=514` is `[::]:514`, and IPv4 as well.
    for (input, listen, url) in all() {
        if claims.iter().any(|claim| claim.input == input && claim.listen == listen) {
            continue;
        }
        let sockets: Vec<_> = inherited.extract_if(.., |given| covers(given, url)).collect();
        let of_the_input = |claim: &Claim| claim.input == input && claim.sockets.iter().any(|given| covers(given, url));
        if !sockets.is_empty() || claims.iter().any(of_the_input) {
            claims.push(Claim { input, listen, sockets });
        }
    }
    let unclaimed = inherited.iter().map(|given| {
        format!(
            "socket {} of the service manager (\"{}\"): no input listens there; add it to an input's \"listen\", or take \
             it out of the socket unit",
            given.place, given.name
        )
    });
    let unclaimed: Vec<String> = unclaimed.collect();
    if unclaimed.is_empty() { Ok(Claims(claims)) } else { Err(unclaimed) }
}

fn inet(listen: &Listen) -> Option<SocketAddr> {
    match listen {
        Listen::Udp(address)
        | Listen::Tcp(address)
        | Listen::Tls(address)
        | Listen::Relp(address)
        | Listen::RelpTls(address) => Some(*address),
        Listen::Unix(_) | Listen::UnixDatagram(_) => None,
    }
}

fn is_at(listen: &Listen, place: &Place) -> bool {
    match (listen, place) {
        (Listen::Udp(wanted), Place::Udp(address)) => wanted == address,
        (Listen::Udp(_), _) | (_, Place::Udp(_)) => false,
        (Listen::Unix(wanted), Place::Unix(path)) => wanted == path,
        (Listen::UnixDatagram(wanted), Place::UnixDatagram(path)) => wanted == path,
        (listen, Place::Tcp(address)) => inet(listen) == Some(*address),
        _ => false,
    }
}

/// Whether a socket of all IPv6 addresses takes what comes to this one of IPv4: those of any, and one of its own.
fn covers(given: &Inherited, listen: &Listen) -> bool {
    let (Some(wanted), Place::Tcp(at) | Place::Udp(at)) = (inet(listen), &given.place) else { return false };
    let same_kind = matches!(listen, Listen::Udp(_)) == matches!(given.place, Place::Udp(_));
    let any = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    same_kind
        && at.is_ipv6()
        && at.ip().is_unspecified()
        && wanted.ip() == any
        && wanted.port() == at.port()
        && matches!(given.socket.only_v6(), Ok(false))
}

impl Claims {
    /// What is to be read of an input's address, where it was inherited.
    pub(super) fn take(&mut self, input: usize, listen: usize) -> Option<Vec<Inherited>> {
        let at = self.0.iter().position(|claim| claim.input == input && claim.listen == listen)?;
        Some(self.0.swap_remove(at).sockets)
    }
}

/// Divides an address's sockets among the shards. Connections are accepted by all of them, from one queue where there is
/// one socket. Of datagrams each socket is read by one shard, as two would change their order: a socket for each shard wants
/// as many lines in the unit, and `ReusePort=yes`.
pub(super) fn divide(
    index: usize,
    input: &Input,
    listen: &Listen,
    sockets: Vec<Inherited>,
    shards: usize,
) -> io::Result<Vec<Bound>> {
    let bound = |socket: Socket, url: &str, shard| Bound {
        input: index,
        shard,
        socket: socket_of(listen, socket),
        url: url.to_owned(),
        inherited: true,
        listen: Some(listen.clone()),
    };
    let url = listen.to_string();
    let count = sockets.len();
    let mut all = Vec::new();
    for (at, given) in sockets.into_iter().enumerate() {
        // Unix sockets of several inputs are spread over the shards, as those that we bind are.
        let first = if inet(listen).is_some() { at } else { index };
        match given.place {
            Place::Udp(_) | Place::UnixDatagram(_) => look_at_buffer(&given, input)?,
            Place::Tcp(_) => {
                // Beside this one's own shard those that have no socket of their own.
                for shard in (at + count..shards).step_by(count.max(1)) {
                    all.push(bound(given.socket.try_clone()?, &url, shard));
                }
            }
            Place::Unix(_) => {}
        }
        all.push(bound(given.socket, &url, first % shards));
    }
    Ok(all)
}

/// The buffer is the unit's to set: asked for by us it might become smaller, as we may do less than systemd.
fn look_at_buffer(given: &Inherited, input: &Input) -> io::Result<()> {
    let wanted = input.receive_buffer.unwrap_or(DATAGRAM_BUFFER_BYTES);
    let has = SockRef::from(&given.socket).recv_buffer_size()?;
    if has < wanted {
        warn!(
            input = %input.name, socket = %given.place, unit = %given.name, wanted, has,
            "the receive buffer of the service manager's socket is smaller than wanted: bursts may be dropped before they \
             can be read; set ReceiveBuffer= in the socket unit"
        );
    }
    // An earlier process may have told of them: they are not counted here.
    let dropped = sys::kernel_drops(given.socket.as_fd()).unwrap_or(0);
    if dropped > 0 {
        warn!(
            input = %input.name, socket = %given.place, dropped,
            "the kernel dropped datagrams of the service manager's socket before this process began to read it"
        );
    }
    Ok(())
}
