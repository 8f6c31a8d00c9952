//! Binding: every socket of every shard, before any of them is read.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Type};
use tracing::warn;

use super::inherit::{Claims, divide};
use crate::config::{Config, Input, Listen};
use crate::sys;

use super::impstats::Impstats;

/// Kernel receive buffer that datagram sockets ask for: at 200,000 small datagrams a second (about 800 bytes each in
/// the kernel's own accounting) it holds 100 ms.
pub const DATAGRAM_BUFFER_BYTES: usize = 16 * 1024 * 1024;

/// Connections that may wait to be accepted, a listener.
pub const BACKLOG: i32 = 1024;

/// Anyone on the machine may log, as with every syslog daemon's `/dev/log`.
const UNIX_SOCKET_MODE: u32 = 0o666;

/// A bound socket, not read yet.
#[derive(Debug)]
pub enum Socket {
    /// UDP.
    Udp(UdpSocket),
    /// TCP, whatever is spoken on its connections.
    Tcp(TcpListener),
    /// A unix stream.
    Unix(UnixListener),
    /// Unix datagrams.
    UnixDatagram(UnixDatagram),
    /// No socket: our own counts.
    Impstats(Box<Impstats>),
}

/// A bound socket, and where it belongs.
#[derive(Debug)]
pub struct Bound {
    /// Which input.
    pub input: usize,
    /// Which shard.
    pub shard: usize,
    /// What to read.
    pub socket: Socket,
    /// As a URL, the port that the kernel chose included.
    pub url: String,
    /// The service manager has bound it and keeps it: what we leave in it waits for the next process.
    pub inherited: bool,
    /// As the configuration has it; `None` where it is no socket.
    pub listen: Option<Listen>,
}

/// Why a socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("inputs.{input}: cannot listen on {url}: {source}{}", advice(source))]
pub struct BindError {
    /// Name of the input.
    pub input: String,
    /// What was to be bound.
    pub url: String,
    /// Why not.
    pub source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process has it: `ss -lntup` says which)",
        io::ErrorKind::PermissionDenied => " (ports under 1024 need root or CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
        _ => "",
    }
}

/// Binds everything that is not claimed already, but the inputs of `without`: each UDP and TCP address once a shard
/// (`SO_REUSEPORT`), unix sockets once. Returns what is bound, and all failures.
pub fn bind_all(config: &Config, mut claims: Claims, without: &[usize]) -> (Vec<Bound>, Vec<BindError>) {
    let mut bound = Vec::new();
    let mut errors = Vec::new();
    for (index, input) in config.inputs.iter().enumerate().filter(|(index, _)| !without.contains(index)) {
        for (at, listen) in input.listen.iter().enumerate() {
            let sockets = match claims.take(index, at) {
                Some(sockets) => divide(index, input, listen, sockets, config.cores),
                None => bind(index, input, listen, config.cores),
            };
            match sockets {
                Ok(sockets) => bound.extend(sockets),
                Err(source) => errors.push(BindError { input: input.name.clone(), url: listen.to_string(), source }),
            }
        }
    }
    // Last: their lines name the ports that the kernel chose.
    let listening: Vec<_> = bound.iter().map(|bound| (bound.input, bound.url.clone())).collect();
    bound.extend(counted(config, &listening));
    (bound, errors)
}

/// Binds these addresses of inputs, as [`bind_all`] does, and makes anew what counts for inputs that tell our own counts.
/// `listening` are those that listen already.
pub fn bind_more(
    config: &Config,
    wanted: &[(usize, Listen)],
    listening: &[(usize, String)],
) -> (Vec<Bound>, Vec<BindError>) {
    let (mut bound, mut errors) = (Vec::new(), Vec::new());
    for (index, listen) in wanted {
        let Some(input) = config.inputs.get(*index) else { continue };
        match bind(*index, input, listen, config.cores) {
            Ok(sockets) => bound.extend(sockets),
            Err(source) => errors.push(BindError { input: input.name.clone(), url: listen.to_string(), source }),
        }
    }
    let new = bound.iter().map(|bound: &Bound| (bound.input, bound.url.clone()));
    let listening: Vec<_> = listening.iter().cloned().chain(new).collect();
    bound.extend(counted(config, &listening));
    (bound, errors)
}

fn counted(config: &Config, listening: &[(usize, String)]) -> Vec<Bound> {
    let inputs = config.inputs.iter().enumerate().filter(|(_, input)| !input.retired);
    let counted = inputs.filter_map(|(index, input)| {
        let socket = Socket::Impstats(Box::new(Impstats::of(config, listening, input.impstats?)));
        let shard = index % config.cores;
        Some(Bound { input: index, shard, socket, url: String::new(), inherited: false, listen: None })
    });
    counted.collect()
}

fn bind(index: usize, input: &Input, listen: &Listen, shards: usize) -> io::Result<Vec<Bound>> {
    let once = |socket| {
        let url = listen.to_string();
        vec![Bound { input: index, shard: index % shards, socket, url, inherited: false, listen: Some(listen.clone()) }]
    };
    match listen {
        Listen::Unix(path) => Ok(once(Socket::Unix(bind_unix(path, |path| UnixListener::bind(path))?))),
        Listen::UnixDatagram(path) => {
            let socket = bind_unix(path, |path| UnixDatagram::bind(path))?;
            socket.set_nonblocking(true)?;
            grow(&socket, input)?;
            Ok(once(Socket::UnixDatagram(socket)))
        }
        Listen::Udp(address)
        | Listen::Tcp(address)
        | Listen::Tls(address)
        | Listen::Relp(address)
        | Listen::RelpTls(address) => {
            let mut address = *address;
            check_free(listen, address)?;
            let bind_one = |shard| {
                let (socket, actual) = bind_inet(input, listen, address)?;
                // The kernel chose a port for the first shard: the others take the same.
                address = actual;
                let url = at(listen, actual).to_string();
                Ok(Bound { input: index, shard, socket, url, inherited: false, listen: Some(listen.clone()) })
            };
            (0..shards).map(bind_one).collect()
        }
    }
}

fn at(listen: &Listen, address: SocketAddr) -> Listen {
    match listen {
        Listen::Udp(_) => Listen::Udp(address),
        Listen::Tls(_) => Listen::Tls(address),
        Listen::Relp(_) => Listen::Relp(address),
        Listen::RelpTls(_) => Listen::RelpTls(address),
        _ => Listen::Tcp(address),
    }
}

/// With `SO_REUSEPORT` a second relay would bind the same port and take half of the messages without a word; a bind
/// without it finds out.
fn check_free(listen: &Listen, address: SocketAddr) -> io::Result<()> {
    let (kind, protocol) = kind_of(listen);
    let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if kind == Type::STREAM {
        // Connections of a relay that has just stopped may linger in TIME_WAIT; they are no second relay.
        socket.set_reuse_address(true)?;
    }
    only_v6(&socket, address)?;
    socket.bind(&address.into())
}

fn kind_of(listen: &Listen) -> (Type, Protocol) {
    match listen {
        Listen::Udp(_) => (Type::DGRAM, Protocol::UDP),
        _ => (Type::STREAM, Protocol::TCP),
    }
}

/// An IPv6 address means IPv6 only, so that `0.0.0.0:514` and `[::]:514` can stand side by side.
fn only_v6(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(true) } else { Ok(()) }
}

fn bind_inet(input: &Input, listen: &Listen, address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let (kind, protocol) = kind_of(listen);
    let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    only_v6(&socket, address)?;
    if kind == Type::DGRAM {
        grow(&socket, input)?;
    } else {
        socket.set_reuse_address(true)?;
        if let Some(bytes) = input.receive_buffer {
            sys::grow_receive_buffer(socket.as_fd(), bytes)?;
        }
    }
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    let actual = socket.local_addr()?.as_socket().unwrap_or(address);
    let socket = socket_of(listen, socket);
    Ok((socket, actual))
}

/// A bound socket as what its address says that it is.
pub(super) fn socket_of(listen: &Listen, socket: socket2::Socket) -> Socket {
    match listen {
        Listen::Udp(_) => Socket::Udp(socket.into()),
        Listen::Tcp(_) | Listen::Tls(_) | Listen::Relp(_) | Listen::RelpTls(_) => Socket::Tcp(socket.into()),
        Listen::Unix(_) => Socket::Unix(socket.into()),
        Listen::UnixDatagram(_) => Socket::UnixDatagram(socket.into()),
    }
}

fn grow(socket: &impl AsFd, input: &Input) -> io::Result<()> {
    let wanted = input.receive_buffer.unwrap_or(DATAGRAM_BUFFER_BYTES);
    let given = sys::grow_receive_buffer(socket.as_fd(), wanted)?;
    if given < wanted {
        warn!(
            input = %input.name, wanted, given,
            "the kernel gives a smaller receive buffer than wanted: bursts may be dropped before they can be read; \
             raise net.core.rmem_max, or give CAP_NET_ADMIN"
        );
    }
    Ok(())
}

fn bind_unix<S: AsFd>(path: &Path, bind: impl FnOnce(&PathBuf) -> io::Result<S>) -> io::Result<S> {
    remove_stale(path)?;
    let socket = bind(&path.to_path_buf())?;
    fs::set_permissions(path, fs::Permissions::from_mode(UNIX_SOCKET_MODE))?;
    Ok(socket)
}

/// A socket file outlives its process. One that nobody answers on is removed; anything else is left alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let answers = match UnixStream::connect(path) {
        Ok(_) => true,
        // A datagram socket refuses a stream's connect with EPROTOTYPE while it lives.
        Err(error) => error.raw_os_error() == Some(libc::EPROTOTYPE) && unix_datagram_answers(path),
    };
    if !metadata.file_type().is_socket() || answers {
        return Err(io::Error::from(io::ErrorKind::AddrInUse));
    }
    fs::remove_file(path)
}

fn unix_datagram_answers(path: &Path) -> bool {
    UnixDatagram::unbound().and_then(|probe| probe.connect(path)).is_ok()
}
