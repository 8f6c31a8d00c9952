//! Name to connection: resolve, connect, handshake; each step bounded.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Output;
use crate::metrics::{Count, OutputMeters};

/// Addresses of a name that one attempt tries.
const ADDRESSES_MAX: usize = 8;

/// What each address is given at least: a retransmitted SYN.
const SHARE_MIN: Duration = Duration::from_millis(1_500);

/// Why there is no connection. All of them are worth another attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name has no address now.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// No address answered; the last one's error.
    #[error("{peer}: {source}")]
    Connect {
        /// The address tried last.
        peer: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// TCP works, TLS does not.
    #[error("TLS handshake with {peer} as {server_name} failed: {source}")]
    Handshake {
        /// The address.
        peer: SocketAddr,
        /// The name its certificate had to carry.
        server_name: String,
        /// Why not.
        source: io::Error,
    },
}

impl ConnectError {
    /// Its counter.
    pub(super) fn counter<'a>(&self, meters: &'a OutputMeters) -> &'a Count {
        match self {
            Self::Resolve { .. } => &meters.failed_resolve,
            Self::Connect { .. } => &meters.failed_connect,
            Self::Handshake { .. } => &meters.failed_handshake,
        }
    }
}

/// Connects to one destination.
pub(super) struct Connector<'a> {
    output: &'a Output,
    tls: Option<TlsConnector>,
}

/// An established connection.
pub(super) struct Connection {
    /// The address that answered.
    pub(super) peer: SocketAddr,
    /// What to write to.
    pub(super) stream: Stream,
}

/// Plain or TLS.
pub(super) enum Stream {
    /// As it is.
    Plain(Counted),
    /// Boxed: a session is over a kilobyte.
    Tls(Box<TlsStream<Counted>>),
}

impl<'a> Connector<'a> {
    /// For `output`, over TLS where a configuration is given.
    pub(super) fn new(output: &'a Output, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self { output, tls: tls.map(TlsConnector::from) }
    }

    /// Resolves, tries one address after another, does the handshake.
    ///
    /// Takes at most `connect_timeout` to resolve, and once more for all the addresses together: each but the last has
    /// an even share of what is left, so that one that does not answer does not use up the time of the others.
    pub(super) async fn connect(&self) -> Result<Connection, ConnectError> {
        let addresses = self.resolve().await.map_err(|source| {
            let source = if source.kind() == io::ErrorKind::TimedOut { timed_out("no answer") } else { source };
            ConnectError::Resolve { host: self.target().0.to_owned(), source }
        })?;
        let deadline = Instant::now() + self.output.connect_timeout;
        let mut last = None;
        for (tried, peer) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            match self.connect_to(*peer, share.max(SHARE_MIN)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::Resolve {
            host: self.target().0.to_owned(),
            source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        }))
    }

    /// The host and port that are connected to.
    fn target(&self) -> (&str, u16) {
        self.output.targets.first().map_or(("", 0), |target| (&target.host, target.port))
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = self.target();
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let addresses = timeout(self.output.connect_timeout, lookup_host((host, port))).await??;
        Ok(addresses.take(ADDRESSES_MAX).collect())
    }

    async fn connect_to(&self, peer: SocketAddr, limit: Duration) -> Result<Connection, ConnectError> {
        let connect_error = |source| ConnectError::Connect { peer, source };
        let tcp = within(limit, "no answer to the connect", TcpStream::connect(peer)).await;
        let tcp = tcp.map_err(connect_error)?;
        self.set_options(&tcp).map_err(connect_error)?;
        let counted = Counted { tcp, written: 0 };
        let (Some(connector), Some(tls)) = (&self.tls, &self.output.tls) else {
            return Ok(Connection { peer, stream: Stream::Plain(counted) });
        };
        let server_name = tls.server_name.clone().unwrap_or_else(|| self.target().0.to_owned());
        let handshake_error = |source| ConnectError::Handshake { peer, server_name: server_name.clone(), source };
        let name = ServerName::try_from(server_name.clone())
            .map_err(|error| handshake_error(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let handshake = connector.connect(name, counted);
        let stream = within(self.output.handshake_timeout, "the peer did not finish it in time", handshake).await;
        Ok(Connection { peer, stream: Stream::Tls(Box::new(stream.map_err(handshake_error)?)) })
    }

    fn set_options(&self, tcp: &TcpStream) -> io::Result<()> {
        // Blocks are written whole; waiting for more (Nagle) would only delay the last one.
        tcp.set_nodelay(true)?;
        let socket = socket2::SockRef::from(tcp);
        if let Some(idle) = self.output.keepalive {
            let probes = socket2::TcpKeepalive::new().with_time(idle).with_interval(idle / 4 + Duration::from_secs(1));
            socket.set_tcp_keepalive(&probes.with_retries(3))?;
        }
        socket.set_tcp_user_timeout(self.output.user_timeout)
    }
}

async fn within<T>(limit: Duration, missed: &str, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, step).await.unwrap_or_else(|_| Err(timed_out(missed)))
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what.to_owned())
}

/// A TCP stream that counts the octets it took: below TLS, so that they can be held against what the peer's kernel
/// acknowledges.
pub(super) struct Counted {
    tcp: TcpStream,
    written: u64,
}

impl Counted {
    /// Octets of the connection that the peer's kernel has acknowledged.
    fn acknowledged(&self) -> io::Result<u64> {
        use std::os::fd::AsFd;
        let queued = crate::sys::unacknowledged(self.tcp.as_fd())?;
        Ok(self.written.saturating_sub(queued))
    }
}

impl Stream {
    fn counted(&self) -> &Counted {
        match self {
            Self::Plain(counted) => counted,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Octets that the socket took.
    pub(super) fn written(&self) -> u64 {
        self.counted().written
    }

    /// Octets that the peer's kernel acknowledged.
    pub(super) fn acknowledged(&self) -> io::Result<u64> {
        self.counted().acknowledged()
    }
}

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.tcp).poll_write(cx, octets);
        if let Poll::Ready(Ok(count)) = &result {
            this.written += *count as u64;
        }
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.tcp).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(count)) = &result {
            this.written += *count as u64;
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

/// Calls the same poll function on whichever stream it is.
macro_rules! either {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream.get_mut() {
            Stream::Plain(plain) => Pin::new(plain).$method($($argument),*),
            Stream::Tls(tls) => Pin::new(&mut **tls).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, poll_write(cx, octets))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(cx))
    }
}
