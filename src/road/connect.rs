//! Name to connection: resolve, connect, handshake; each step bounded.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Order, Output};
use crate::metrics::{Count, OutputMeters};
use crate::names::{LookupError, Names, Question, Source};
use crate::tls;

use super::proxy::{Refusal, Via};
use super::race::Race;
use super::targets::Targets;

/// What the addresses are given at least that are left when a handshake has failed: a retransmitted SYN.
const REST_MIN: Duration = Duration::from_millis(1_500);

/// What the kernel may hold unsent of a connection that new messages are to be sent through first: they queue behind it.
const UNSENT_MAX: u32 = 128 * 1024;

/// Why there is no connection. All of them are worth another attempt.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address now.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Why not.
        source: LookupError,
    },
    /// No address answered; the last one's error.
    #[error("{peer}: {source}")]
    Connect {
        /// The address tried last.
        peer: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The proxy is there, and there is no way through it.
    #[error("proxy {peer}: {source}")]
    Proxy {
        /// The proxy's address.
        peer: SocketAddr,
        /// Why not.
        source: Refusal,
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
    pub fn counter<'a>(&self, meters: &'a OutputMeters) -> &'a Count {
        match self {
            Self::Resolve { .. } => &meters.failed_resolve,
            Self::Connect { .. } => &meters.failed_connect,
            Self::Proxy { .. } => &meters.failed_proxy,
            Self::Handshake { .. } => &meters.failed_handshake,
        }
    }
}

/// Connects to one destination.
pub struct Connector<'a> {
    output: &'a Output,
    tls: Option<Arc<tls::Client>>,
    targets: &'a Targets,
    names: &'a Names,
    meters: Option<&'a OutputMeters>,
    /// By target: the proxy on the way there.
    via: Vec<Option<Via>>,
    /// The last attempt failed: its addresses may be out of date.
    is_in_doubt: AtomicBool,
}

/// An established connection.
pub struct Connection {
    /// The address that answered.
    pub peer: SocketAddr,
    /// What to write to.
    pub stream: Stream,
}

/// Plain or TLS.
pub enum Stream {
    /// As it is.
    Plain(Counted),
    /// Boxed: a session is over a kilobyte.
    Tls(Box<TlsStream<Counted>>),
}

impl<'a> Connector<'a> {
    /// To the `targets` of `output`, over TLS where a configuration is given. What names resolve to is counted in `meters`.
    pub fn new(
        output: &'a Output,
        tls: Option<Arc<tls::Client>>,
        targets: &'a Targets,
        names: &'a Names,
        meters: Option<&'a OutputMeters>,
    ) -> Self {
        let via = output.targets.iter().map(|target| Via::to(target, output)).collect();
        Self { output, tls, targets, names, meters, via, is_in_doubt: AtomicBool::new(false) }
    }

    /// Name and port of a target, by its index.
    fn place(&self, target: usize) -> (&'a str, u16) {
        self.targets.get(target).map_or(("", 0), |target| (&target.host, target.port))
    }

    fn via(&self, target: usize) -> Option<&Via> {
        self.via.get(target).and_then(Option::as_ref)
    }

    /// Where TCP goes: the target, or the proxy on the way there.
    fn next_hop(&self, target: usize) -> (&str, u16) {
        self.via(target).map_or(self.place(target), Via::place)
    }

    /// Resolves, connects to the address that answers first, does the handshake; where that fails, with the next.
    /// Cancel-safe.
    ///
    /// Takes at most `connect_timeout` to resolve, once more for all the addresses together, and `handshake_timeout` for
    /// each handshake that fails, with a second and a half for the addresses that are left after it.
    ///
    /// # Errors
    /// See [`ConnectError`]. Of several, the handshake's says most.
    pub async fn connect(&self, target: usize) -> Result<Connection, ConnectError> {
        let connected = self.attempt(target).await;
        self.is_in_doubt.store(connected.is_err(), Relaxed);
        connected
    }

    async fn attempt(&self, target: usize) -> Result<Connection, ConnectError> {
        let mut race = Race::new(self.resolve(target).await?);
        let deadline = Instant::now() + self.output.connect_timeout;
        let mut refused = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = if refused.is_none() { left } else { left.max(REST_MIN) };
            let failed = match race.winner(limit, TcpStream::connect).await {
                Some((peer, Ok(tcp))) => match self.established(target, peer, tcp).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => {
                        refused = Some(error);
                        continue;
                    }
                },
                Some((peer, Err(source))) => Some(ConnectError::Connect { peer, source }),
                None => None,
            };
            return Err(refused.or(failed).unwrap_or_else(|| self.no_address(target)));
        }
    }

    fn no_address(&self, target: usize) -> ConnectError {
        let source = LookupError::Failed("it has no address".into());
        ConnectError::Resolve { host: self.next_hop(target).0.to_owned(), source }
    }

    /// A socket for datagrams to the first address that there is a way to; to those behind `unwell` first, where the last
    /// one was of no use. Takes at most `connect_timeout`, to resolve. Cancel-safe.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn datagrams(
        &self,
        target: usize,
        unwell: Option<SocketAddr>,
    ) -> Result<(SocketAddr, UdpSocket), ConnectError> {
        self.is_in_doubt.store(unwell.is_some(), Relaxed);
        let mut addresses = self.resolve(target).await?;
        if let Some(place) = addresses.iter().position(|address| Some(*address) == unwell) {
            addresses.rotate_left(place + 1);
        }
        let mut failed = None;
        for peer in addresses {
            match datagrams_to(peer).await {
                Ok(socket) => return Ok((peer, socket)),
                Err(source) => failed = Some(ConnectError::Connect { peer, source }),
            }
        }
        Err(failed.unwrap_or_else(|| self.no_address(target)))
    }

    /// Completes when the name of a target has moved away from `peer`; see [`Names::moved`]. An address never does.
    pub async fn moved(&self, target: usize, peer: SocketAddr) {
        let (host, _) = self.next_hop(target);
        if host.parse::<IpAddr>().is_ok() {
            return std::future::pending().await;
        }
        self.names.moved(host, peer).await;
    }

    async fn resolve(&self, target: usize) -> Result<Vec<SocketAddr>, ConnectError> {
        let (host, port) = self.next_hop(target);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let is_doubted = self.is_in_doubt.load(Relaxed);
        // They are the target's, and no proxy's.
        let fallback = if self.via(target).is_some() { &[] } else { self.targets.fallback() };
        let question = Question { host, port, fallback, limit: self.output.connect_timeout, is_doubted };
        let answer = self.names.lookup(question).await;
        let answer = answer.map_err(|source| ConnectError::Resolve { host: host.to_owned(), source })?;
        if let Some(meters) = self.meters {
            let resolved = match answer.source {
                Source::Dns => &meters.resolved_dns,
                Source::LastGood => &meters.resolved_last_good,
                Source::Fallback => &meters.resolved_fallback,
            };
            resolved.add(1);
        }
        Ok(answer.addresses)
    }

    async fn established(&self, target: usize, peer: SocketAddr, tcp: TcpStream) -> Result<Connection, ConnectError> {
        self.set_options(&tcp).map_err(|source| ConnectError::Connect { peer, source })?;
        let mut counted = Counted { tcp, written: 0 };
        if let Some(via) = self.via(target) {
            let (host, port) = self.place(target);
            let opened = timeout(self.output.handshake_timeout, via.open(&mut counted, host, port)).await;
            let opened = opened.unwrap_or(Err(Refusal::Late));
            opened.map_err(|source| ConnectError::Proxy { peer, source })?;
        }
        let (Some(client), Some(tls)) = (&self.tls, &self.output.tls) else {
            return Ok(Connection { peer, stream: Stream::Plain(counted) });
        };
        let server_name = tls.server_name.clone().unwrap_or_else(|| self.place(target).0.to_owned());
        let handshake_error = |source| ConnectError::Handshake { peer, server_name: server_name.clone(), source };
        let name = ServerName::try_from(server_name.clone())
            .map_err(|error| handshake_error(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let handshake = TlsConnector::from(client.config()).connect(name, counted);
        let stream = within(self.output.handshake_timeout, "the peer did not finish it in time", handshake).await;
        let stream = stream.map_err(|error| io::Error::new(error.kind(), client.explain(&error)));
        Ok(Connection { peer, stream: Stream::Tls(Box::new(stream.map_err(handshake_error)?)) })
    }

    fn set_options(&self, tcp: &TcpStream) -> io::Result<()> {
        // Blocks are written whole; waiting for more (Nagle) would only delay the last one.
        tcp.set_nodelay(true)?;
        let socket = socket2::SockRef::from(tcp);
        if self.output.order != Order::OldestFirst {
            socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
        }
        if let Some(idle) = self.output.keepalive {
            let probes = socket2::TcpKeepalive::new().with_time(idle).with_interval(idle / 4 + Duration::from_secs(1));
            socket.set_tcp_keepalive(&probes.with_retries(3))?;
        }
        socket.set_tcp_user_timeout(self.output.user_timeout)
    }
}

/// A socket of its own port, so that what ICMP has to say of `peer` is said to it.
async fn datagrams_to(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(peer).await?;
    Ok(socket)
}

async fn within<T>(limit: Duration, missed: &str, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, step).await.unwrap_or_else(|_| Err(timed_out(missed)))
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what.to_owned())
}

/// A TCP stream that counts the octets it took: below TLS, so that they can be held against what the peer's kernel
/// acknowledges.
pub struct Counted {
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
    pub fn written(&self) -> u64 {
        self.counted().written
    }

    /// Octets that the peer's kernel acknowledged.
    pub fn acknowledged(&self) -> io::Result<u64> {
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
