//! Where the admin server listens: TCP, and unix sockets that their owner and group may use.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::config::AdminListen;
use crate::tls;

use super::access::Way;

/// Messages can be read through it: its owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Bound, and not served yet.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A unix socket.
    Unix(StdUnixListener),
}

/// Binds. Returns the listener and its address (the kernel's choice where the port was 0).
///
/// # Errors
/// When the address is taken, or is none of this machine's.
pub fn bind(listen: &AdminListen) -> io::Result<(Bound, AdminListen)> {
    match listen {
        AdminListen::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((Bound::Tcp(listener), AdminListen::Tcp(address)))
        }
        AdminListen::Unix(path) => {
            remove_stale(path)?;
            let listener = StdUnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
            Ok((Bound::Unix(listener), listen.clone()))
        }
    }
}

/// A socket file outlives its process. One that nobody answers on is removed; anything else is left alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() || StdUnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    fs::remove_file(path)
}

/// What a connection is read from and written to.
pub(super) trait Octets: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Octets for T {}

/// A client.
pub(super) struct Accepted {
    pub(super) stream: Pin<Box<dyn Octets>>,
    pub(super) way: Way,
}

/// Shakes hands where there is `tls` to do it. Returns what the client is asked and answered by, and whether it has presented a
/// certificate, which is a good one then.
///
/// # Errors
/// When the handshake fails.
pub(super) async fn secure(
    stream: Pin<Box<dyn Octets>>,
    tls: Option<&Arc<tls::Server>>,
) -> io::Result<(Pin<Box<dyn Octets>>, bool)> {
    let Some(tls) = tls else { return Ok((stream, false)) };
    let shaken = tokio_rustls::TlsAcceptor::from(tls.config()).accept(stream).await;
    let stream = shaken.map_err(|error| io::Error::other(tls.explain(&error)))?;
    let is_certified = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
    Ok((Box::pin(stream), is_certified))
}

/// A listener within its runtime.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Takes what is bound into the runtime that the caller has entered.
    ///
    /// # Errors
    /// When the process is out of files or memory.
    pub(super) fn new(bound: Bound) -> io::Result<Self> {
        match bound {
            Bound::Tcp(listener) => TcpListener::from_std(listener).map(Self::Tcp),
            Bound::Unix(listener) => UnixListener::from_std(listener).map(Self::Unix),
        }
    }

    /// The next client. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted { stream: Box::pin(stream), way: way_of(peer) })
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted { stream: Box::pin(stream), way: Way::Unix })
            }
        }
    }
}

fn way_of(peer: SocketAddr) -> Way {
    if peer.ip().to_canonical().is_loopback() { Way::Loopback } else { Way::Network }
}
