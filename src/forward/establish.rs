//! From a target to a connection that takes messages.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use crate::config::Protocol;
use crate::metrics::{Count, OutputMeters};
use crate::road::{ConnectError, Connection, Connector};

use super::Forwarder;
use super::relp::{self, OpenError, Opened};

/// A connection, by what is spoken on it.
pub(super) enum Established {
    /// Frames, and no answers.
    Syslog(Connection),
    /// Datagrams, to this address.
    Udp(SocketAddr, UdpSocket),
    /// Messages may be sent.
    Relp(Opened),
}

impl Established {
    /// The address that answered.
    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            Self::Syslog(connection) => connection.peer,
            Self::Udp(peer, _) => *peer,
            Self::Relp(opened) => opened.peer,
        }
    }

    /// Closes it without having used it.
    pub(super) async fn close(self) {
        match self {
            Self::Syslog(mut connection) => relp::shut(&mut connection.stream).await,
            Self::Udp(..) => {}
            Self::Relp(opened) => opened.close().await,
        }
    }
}

/// Why there is no such connection. All of them are worth another attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody to speak with.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not want to.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl Failure {
    /// Its counter.
    pub(super) fn counter<'a>(&self, meters: &'a OutputMeters) -> &'a Count {
        match self {
            Self::Connect(error) => error.counter(meters),
            Self::Open(_) => &meters.failed_open,
        }
    }
}

impl Forwarder {
    /// Connects, and agrees on what is spoken. Cancel-safe.
    pub(super) async fn establish(&self, connector: &Connector<'_>, target: usize) -> Result<Established, Failure> {
        if self.output.protocol == Protocol::Udp {
            let (peer, socket) = connector.datagrams(target, self.unwell_address.get()).await?;
            return Ok(Established::Udp(peer, socket));
        }
        let connection = connector.connect(target).await?;
        match self.output.protocol {
            Protocol::Relp { window } => Ok(Established::Relp(relp::open(self, connection, window).await?)),
            _ => Ok(Established::Syslog(connection)),
        }
    }
}
