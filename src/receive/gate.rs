//! Who may connect, and how many: over all shards and listeners of an input.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::config::Input;
use crate::metrics::{Count, InputMeters};

/// Counts an input's open connections. Touched when a connection opens and closes, never by messages.
#[derive(Debug, Default)]
pub struct Gate {
    open: AtomicUsize,
    /// By [`counted_as`].
    by_peer: Mutex<HashMap<IpAddr, usize>>,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// `allow` does not list the peer.
    #[error("allow does not list the peer")]
    PeerNotAllowed,
    /// `max_connections` are open.
    #[error("max_connections are open")]
    Full,
    /// `max_connections_per_peer` are open.
    #[error("max_connections_per_peer are open")]
    PeerFull,
}

impl Refusal {
    pub(super) fn counter(self, meters: &InputMeters) -> &Count {
        match self {
            Self::PeerNotAllowed => &meters.refused_peer,
            Self::Full => &meters.refused_limit,
            Self::PeerFull => &meters.refused_peer_limit,
        }
    }
}

/// One open connection's place; dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    peer: Option<IpAddr>,
}

/// Whether the input takes anything from `peer`. Unix sockets are guarded by the file system.
pub fn is_allowed(input: &Input, peer: Option<IpAddr>) -> bool {
    input.allow.is_empty() || peer.is_none_or(|peer| input.allow.iter().any(|net| net.contains(&peer)))
}

/// Whether connections from `peer` begin with a header of the PROXY protocol.
pub(super) fn is_balancer(input: &Input, peer: IpAddr) -> bool {
    input.proxy_protocol.iter().any(|net| net.contains(&peer))
}

/// What stands for `peer` where connections of one peer are counted: its address, or the network of 2⁶⁴ addresses that an
/// IPv6 host has for itself.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

impl Gate {
    /// Takes a place for a connection from `peer`.
    pub(super) fn enter(self: &Arc<Self>, input: &Input, peer: Option<IpAddr>) -> Result<Place, Refusal> {
        if !is_allowed(input, peer) {
            return Err(Refusal::PeerNotAllowed);
        }
        if self.open.fetch_add(1, Relaxed) >= input.max_connections {
            self.open.fetch_sub(1, Relaxed);
            return Err(Refusal::Full);
        }
        // From here on dropping the place gives it back, whatever follows.
        let mut place = Place { gate: Arc::clone(self), peer: None };
        if let Some(peer) = peer {
            place.count_for(input, peer)?;
        }
        Ok(place)
    }
}

impl Place {
    /// A load balancer has said who is behind the connection, which had a place for nobody in particular.
    pub(super) fn take_for(&mut self, input: &Input, peer: IpAddr) -> Result<(), Refusal> {
        if !is_allowed(input, Some(peer)) {
            return Err(Refusal::PeerNotAllowed);
        }
        self.count_for(input, peer)
    }

    fn count_for(&mut self, input: &Input, peer: IpAddr) -> Result<(), Refusal> {
        let peer = counted_as(peer);
        let Ok(mut by_peer) = self.gate.by_peer.lock() else { return Ok(()) };
        let open = by_peer.entry(peer).or_default();
        if *open >= input.max_connections_per_peer {
            return Err(Refusal::PeerFull);
        }
        *open += 1;
        self.peer = Some(peer);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Relaxed);
        let Some(peer) = self.peer else { return };
        let Ok(mut by_peer) = self.gate.by_peer.lock() else { return };
        if let Some(open) = by_peer.get_mut(&peer) {
            *open -= 1;
            if *open == 0 {
                by_peer.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_one_peer_whichever_of_its_addresses_it_takes() {
        let counted = |peer: &str| counted_as(peer.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:2::9"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:3::9"), "2001:db8:1:3::");
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
    }
}
