//! Where messages are sent to, and the socket that leads there.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// One attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A receiver that takes nothing for so long has failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `udp://HOST:PORT`
    Udp(String, u16),
    /// `tcp://HOST:PORT`
    Tcp(String, u16),
    /// `tls://HOST:PORT`
    Tls(String, u16),
    /// `unix:///PATH`
    Unix(PathBuf),
    /// `unixgram:///PATH`
    UnixDatagram(PathBuf),
}

/// syslog's own ports: RFC 5426 section 3.3, what relays use for TCP, RFC 5425 section 4.1.
const PORTS: [(&str, u16); 3] = [("udp", 514), ("tcp", 514), ("tls", 6514)];

impl Target {
    /// Whether each message is a datagram.
    pub(super) fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(..) | Self::UnixDatagram(_))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected udp://, tcp:// or tls:// with HOST:PORT, or unix:// or unixgram:// with /PATH";
        let wrong = || EXPECTED.to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if let ("unix" | "unixgram", true) = (scheme, rest.starts_with('/')) {
            let path = PathBuf::from(rest);
            return Ok(if scheme == "unix" { Self::Unix(path) } else { Self::UnixDatagram(path) });
        }
        let default = PORTS.iter().find(|(name, _)| *name == scheme).map(|(_, port)| *port).ok_or_else(wrong)?;
        let (host, port) = match rest.rsplit_once(':') {
            // The last colon of an address in brackets may be inside of them.
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (rest, default),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        let host = host.to_owned();
        Ok(match scheme {
            "udp" => Self::Udp(host, port),
            "tcp" => Self::Tcp(host, port),
            _ => Self::Tls(host, port),
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |host: &str, port: u16| {
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        match self {
            Self::Udp(host, port) => write!(formatter, "udp://{}", of(host, *port)),
            Self::Tcp(host, port) => write!(formatter, "tcp://{}", of(host, *port)),
            Self::Tls(host, port) => write!(formatter, "tls://{}", of(host, *port)),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::UnixDatagram(path) => write!(formatter, "unixgram://{}", path.display()),
        }
    }
}

/// TLS towards the target.
#[derive(Clone)]
pub(super) struct Tls {
    /// How it is spoken.
    pub(super) config: Arc<ClientConfig>,
    /// The name that the certificate must carry, where it is not the target's.
    pub(super) server_name: Option<String>,
}

/// An open socket.
pub(super) enum Wire {
    Udp(UdpSocket),
    UnixDatagram(UnixDatagram),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Wire {
    /// Opens a socket of its own to the target, over TLS shakes hands.
    pub(super) fn open(target: &Target, tls: Option<&Tls>) -> io::Result<Self> {
        Ok(match target {
            Target::Udp(host, port) => {
                let to = first_address(host, *port)?;
                let from: SocketAddr = if to.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0_u8; 4], 0).into() };
                let socket = UdpSocket::bind(from)?;
                socket.connect(to)?;
                Self::Udp(socket)
            }
            Target::UnixDatagram(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Self::UnixDatagram(socket)
            }
            Target::Tcp(host, port) => Self::Tcp(connect(host, *port)?),
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                Self::Unix(stream)
            }
            Target::Tls(host, port) => {
                let tls = tls.ok_or_else(|| io::Error::other("no TLS was set up"))?;
                let name = tls.server_name.as_ref().unwrap_or(host).clone();
                let name = ServerName::try_from(name).map_err(io::Error::other)?;
                let client = ClientConnection::new(Arc::clone(&tls.config), name).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(client, connect(host, *port)?);
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock)?;
                }
                Self::Tls(Box::new(stream))
            }
        })
    }

    /// Sends all of it: a datagram, or octets of a stream.
    pub(super) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(octets).map(drop),
            Self::UnixDatagram(socket) => socket.send(octets).map(drop),
            Self::Tcp(stream) => stream.write_all(octets),
            Self::Tls(stream) => stream.write_all(octets).and_then(|()| stream.flush()),
            Self::Unix(stream) => stream.write_all(octets),
        }
    }

    /// Ends a stream in order, and waits until the receiver has read all of it and ended its side, no longer than `limit`.
    pub(super) fn close(self, limit: Duration) -> io::Result<()> {
        let limit = Some(limit.max(Duration::from_millis(1)));
        match self {
            Self::Udp(_) | Self::UnixDatagram(_) => Ok(()),
            Self::Tcp(mut stream) => {
                stream.shutdown(std::net::Shutdown::Write)?;
                stream.set_read_timeout(limit)?;
                io::copy(&mut stream, &mut io::sink()).map(drop)
            }
            Self::Unix(mut stream) => {
                stream.shutdown(std::net::Shutdown::Write)?;
                stream.set_read_timeout(limit)?;
                io::copy(&mut stream, &mut io::sink()).map(drop)
            }
            Self::Tls(mut stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock.shutdown(std::net::Shutdown::Write)?;
                stream.sock.set_read_timeout(limit)?;
                // What it still says in TLS is of no interest.
                io::copy(&mut stream.sock, &mut io::sink()).map(drop)
            }
        }
    }
}

fn first_address(host: &str, port: u16) -> io::Result<SocketAddr> {
    let found = (host, port).to_socket_addrs()?.next();
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                // Messages are gathered here already.
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_printed() {
        for text in [
            "udp://127.0.0.1:514",
            "tcp://[::1]:601",
            "tls://gate.example:6514",
            "unix:///run/x",
            "unixgram:///dev/log",
        ] {
            assert_eq!(text.parse::<Target>().expect("a target").to_string(), text);
        }
        assert_eq!("tls://gate".parse(), Ok(Target::Tls("gate".to_owned(), 6514)));
        assert_eq!("udp://[::1]".parse(), Ok(Target::Udp("::1".to_owned(), 514)));
        for text in ["gate", "http://gate:1", "tcp://", "tcp://:1", "tcp://gate:x", "unix://x", "tcp://gate:1/x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
