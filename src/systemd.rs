//! What a service manager gives and wants to hear, in systemd's protocols: listening sockets (`sd_listen_fds(3)`), and
//! readiness, a sign of life and the state in words (`sd_notify(3)`). Without one nothing of it happens.

use std::env;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Socket, Type};
use tracing::warn;

use crate::sys;

/// Where a socket that was handed over listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// A unix stream.
    Unix(PathBuf),
    /// Unix datagrams.
    UnixDatagram(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::UnixDatagram(path) => write!(f, "unixgram://{}", path.display()),
        }
    }
}

/// A socket that the service manager has bound and keeps open, whatever becomes of this process: what waits in it waits
/// for the next one.
#[derive(Debug)]
pub struct Inherited {
    /// `FileDescriptorName=` of its unit: the unit's own name by default.
    pub name: String,
    /// Where it listens.
    pub place: Place,
    /// Non-blocking.
    pub socket: Socket,
}

/// The sockets that this process was started with. To be asked before it opens anything; a second call finds none.
///
/// # Errors
/// All of them that are no socket to receive from, and a count that is no number.
pub fn inherited() -> Result<Vec<Inherited>, Vec<String>> {
    let text = |name| env::var(name).ok();
    // They may be a parent's: such variables are inherited.
    if text("LISTEN_PID").is_none_or(|pid| pid != std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let given = text("LISTEN_FDS").unwrap_or_default();
    let Ok(count) = given.parse::<u16>() else {
        return Err(vec![format!("LISTEN_FDS is \"{given}\", expected a number of sockets")]);
    };
    let names = text("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let (mut sockets, mut mistakes) = (Vec::new(), Vec::new());
    for (index, file) in sys::inherited_files(count).into_iter().enumerate() {
        let name = names.next().unwrap_or_default().to_owned();
        let found = file.and_then(|file| looked_at(name.clone(), file));
        match found {
            Ok(inherited) => sockets.push(inherited),
            Err(why) => mistakes.push(format!("socket {index} of the service manager (\"{name}\"): {why}")),
        }
    }
    if mistakes.is_empty() { Ok(sockets) } else { Err(mistakes) }
}

fn looked_at(name: String, file: OwnedFd) -> io::Result<Inherited> {
    let socket = Socket::from(file);
    let kind = socket.r#type()?;
    let address = socket.local_addr()?;
    let odd = |what: &str| io::Error::other(format!("{what}, expected one that listens for syslog"));
    if kind == Type::STREAM && !socket.is_listener()? {
        return Err(odd("is a connection (Accept=yes?)"));
    }
    let place = match (kind, address.as_socket(), address.as_pathname()) {
        (Type::STREAM, Some(address), _) => Place::Tcp(address),
        (Type::DGRAM, Some(address), _) => Place::Udp(address),
        (Type::STREAM, _, Some(path)) => Place::Unix(path.to_owned()),
        (Type::DGRAM, _, Some(path)) => Place::UnixDatagram(path.to_owned()),
        _ => return Err(odd("is of a kind that is not known here")),
    };
    socket.set_nonblocking(true)?;
    Ok(Inherited { name, place, socket })
}

/// Who started us, where that is a service manager that listens.
#[derive(Debug, Default)]
pub struct Manager {
    to: Option<(UnixDatagram, UnixAddress)>,
    watchdog: Option<Duration>,
    /// Words that did not reach it.
    lost: AtomicU64,
}

impl Manager {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    ///
    /// # Errors
    /// When the socket's name is none, or no socket is to be had.
    pub fn find() -> io::Result<Self> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let socket = UnixDatagram::unbound()?;
        // Nobody waits for a service manager that does not read.
        socket.set_nonblocking(true)?;
        Ok(Self { to: Some((socket, address(&name)?)), watchdog: watchdog(), lost: AtomicU64::new(0) })
    }

    /// How often [`Self::alive`] wants to be called, at most: four times as often as systemd looks, so that neither a busy
    /// machine nor a clock that was set ends a relay that is well. `None`: nobody listens.
    pub fn interval(&self, at_most: Duration) -> Option<Duration> {
        /// What a busy loop is not.
        const SHORTEST: Duration = Duration::from_millis(10);
        self.to.as_ref()?;
        Some(self.watchdog.map_or(at_most, |watchdog| (watchdog / 4).clamp(SHORTEST, at_most)))
    }

    /// All sockets are bound and read.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is read again; [`Self::ready`] follows.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_us()));
    }

    /// Everything turns.
    pub fn alive(&self, status: &str) {
        self.tell(&format!("WATCHDOG=1\nSTATUS={status}"));
    }

    /// Something does not turn: the watchdog is not told that it does.
    pub fn troubled(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// The stop is ordered, and may take that long: whatever `TimeoutStopSec=` says, what waits is delivered first.
    pub fn stopping(&self, within: Duration) {
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS=delivering what waits", within.as_micros()));
    }

    fn tell(&self, what: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(what.as_bytes(), address)
        {
            let times = self.lost.fetch_add(1, Relaxed) + 1;
            if times.is_power_of_two() {
                warn!(times, "the service manager cannot be told: {error}");
            }
        }
    }
}

fn address(name: &OsString) -> io::Result<UnixAddress> {
    match name.as_bytes() {
        [b'@', name @ ..] => UnixAddress::from_abstract_name(name),
        _ => UnixAddress::from_pathname(Path::new(name)),
    }
}

/// In what time it wants to hear of us, where it does.
fn watchdog() -> Option<Duration> {
    let of_us = |pid: String| pid == std::process::id().to_string();
    if !env::var("WATCHDOG_PID").map_or(true, of_us) {
        return None;
    }
    let microseconds: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (microseconds > 0).then(|| Duration::from_micros(microseconds))
}
