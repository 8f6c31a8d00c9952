//! Senders of all kinds.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::waiting::PATIENCE;

/// A TLS sender.
pub type TlsSender = StreamOwned<ClientConnection, TcpStream>;

/// An octet-counted frame.
pub fn counted(message: &str) -> Vec<u8> {
    format!("{} {message}", message.len()).into_bytes()
}

/// Sends each message in a datagram of its own.
pub fn send_udp(to: SocketAddr, messages: &[&str]) {
    let from: SocketAddr = if to.is_ipv6() { (Ipv6Addr::LOCALHOST, 0).into() } else { (Ipv4Addr::LOCALHOST, 0).into() };
    let socket = UdpSocket::bind(from).unwrap();
    for message in messages {
        socket.send_to(message.as_bytes(), to).unwrap();
    }
}

/// Connects; reads give up when the test would.
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends over a connection of its own, and closes it once the relay has read everything and closed its side.
pub fn send_tcp(to: SocketAddr, octets: &[u8]) {
    let mut stream = connect(to);
    stream.write_all(octets).unwrap();
    finish(stream);
}

/// Closes our side; returns once the relay has read everything and closed its own.
pub fn finish(stream: TcpStream) {
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_closed(stream);
}

/// Waits until the relay closes the connection; it has nothing to say.
#[track_caller]
pub fn assert_closed(stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It goes on where a signal has interrupted it, other than `read`.
    match stream.take(16).read_to_end(&mut Vec::new()) {
        Ok(count) => assert_eq!(count, 0, "the relay answered"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Whether the connection stays open for `time`.
pub fn stays_open(stream: &mut TcpStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).unwrap();
    let read = stream.read(&mut [0; 16]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    matches!(read, Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
}

/// Connects and shakes hands. With TLS 1.3 a certificate that the relay refuses shows at the first read only.
pub fn connect_tls(to: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsSender> {
    let name = ServerName::from(to.ip());
    let client = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
    let mut sender = StreamOwned::new(client, connect(to));
    while sender.conn.is_handshaking() {
        sender.conn.complete_io(&mut sender.sock)?;
    }
    Ok(sender)
}

/// Sends `close_notify`, closes our side and waits for the relay's close.
pub fn finish_tls(mut sender: TlsSender) {
    sender.conn.send_close_notify();
    sender.flush().unwrap();
    sender.sock.shutdown(std::net::Shutdown::Write).unwrap();
    // What TLS still has to say (session tickets, close_notify) is of no interest.
    drop(sender.sock.read_to_end(&mut Vec::new()));
}

/// Sends over a unix stream of its own and waits for the relay's close.
pub fn send_unix(path: &Path, octets: &[u8]) {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(octets).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
}

/// Sends each message in a datagram of its own.
pub fn send_unixgram(path: &Path, messages: &[&str]) {
    let socket = UnixDatagram::unbound().unwrap();
    for message in messages {
        socket.send_to(message.as_bytes(), path).unwrap();
    }
}
