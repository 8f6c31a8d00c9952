//! Senders that stay: each has one connection at a time, looks for the relay's close before it writes, as rsyslog does, and
//! connects again when it has gone.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay::relp::client::Client;
use forebay::relp::frame::{Command, Encoder};
use socket2::{Domain, Socket, Type};

use super::support::waiting::{PATIENCE, pause};

/// Numbers that a sender has for itself.
pub const EACH: u64 = 1_000_000;

/// Messages of one write, and the pause behind it: some 500 a second for each sender.
pub const PER_WRITE: u64 = 5;
const PACE: Duration = Duration::from_millis(10);

/// Messages that a RELP sender has unacknowledged at most, as librelp's client.
const WINDOW: u32 = 128;

/// What a sender has sent over one connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Numbers that were written, or of which nobody knows: the write failed.
    pub sent: Range<u64>,
    /// It has ended before the sender wanted.
    pub is_ended_by_relay: bool,
}

impl Connection {
    pub fn numbers(&self) -> Range<u64> {
        self.sent.clone()
    }
}

/// Where a sender comes from.
pub fn address(sender: u64) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(sender + 1).unwrap()).into()
}

fn message(number: u64) -> String {
    format!("<134>1 - gate counter - - - n={number} the gate let the water through to the wheel")
}

/// From the sender's own address; `None` where nobody takes it now.
fn connect(sender: u64, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address(sender), 0).into()).unwrap();
    socket.connect(&to.into()).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

/// Senders of lines, which nobody acknowledges.
pub struct Load {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Connection>>>,
}

impl Load {
    pub fn start(to: SocketAddr, senders: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let start = |sender| {
            let over = Arc::clone(&over);
            thread::spawn(move || send(sender, to, &over))
        };
        Self { threads: (0..senders as u64).map(start).collect(), over }
    }

    /// Ends all of them in order; returns their connections once the relays have read everything.
    pub fn finish(self) -> Vec<Connection> {
        self.over.store(true, Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("a sender")).collect()
    }
}

fn send(sender: u64, to: SocketAddr, over: &AtomicBool) -> Vec<Connection> {
    let mut next = sender * EACH;
    let mut connections = Vec::new();
    while !over.load(Relaxed) {
        let Some(mut stream) = connect(sender, to) else {
            pause(PACE);
            continue;
        };
        let first = next;
        let mut is_ended_by_relay = false;
        while !over.load(Relaxed) && !is_ended_by_relay {
            is_ended_by_relay = is_closed(&stream);
            if !is_ended_by_relay {
                let octets: String = (next..next + PER_WRITE).map(|number| message(number) + "\n").collect();
                next += PER_WRITE;
                is_ended_by_relay = stream.write_all(octets.as_bytes()).is_err();
            }
            pause(PACE);
        }
        // Whatever is on its way arrives before the end does; a relay that was killed answers with a reset.
        drop(stream.shutdown(Shutdown::Write));
        drop(stream.read_to_end(&mut Vec::new()));
        if next > first {
            connections.push(Connection { sent: first..next, is_ended_by_relay });
        }
    }
    connections
}

/// Whether the other side has closed, or is gone.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let looked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    !matches!(looked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Senders that keep what is not acknowledged, and send it again.
pub struct RelpLoad {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Connection>>,
}

impl RelpLoad {
    pub fn start(to: SocketAddr, senders: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let start = |sender| {
            let over = Arc::clone(&over);
            thread::spawn(move || send_relp(sender, to, &over))
        };
        Self { threads: (0..senders as u64).map(start).collect(), over }
    }

    /// Ends all of them; returns what was acknowledged to each.
    pub fn finish(self) -> Vec<Connection> {
        self.over.store(true, Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("a sender")).collect()
    }
}

fn send_relp(sender: u64, to: SocketAddr, over: &AtomicBool) -> Connection {
    let first = sender * EACH;
    let (mut next, mut kept) = (first, VecDeque::new());
    while !over.load(Relaxed) {
        let Some(stream) = connect(sender, to) else {
            pause(PACE);
            continue;
        };
        // Any end of the connection but our own: what is kept goes over the next one.
        drop(session(stream, over, &mut next, &mut kept));
    }
    // Acknowledged, in order, is all that is not kept.
    let acknowledged = kept.front().copied().unwrap_or(next);
    Connection { sent: first..acknowledged, is_ended_by_relay: false }
}

/// Sends what is kept, then new messages, until it is over or the connection ends.
fn session(mut stream: TcpStream, over: &AtomicBool, next: &mut u64, kept: &mut VecDeque<u64>) -> std::io::Result<()> {
    let mut client = Client::new(WINDOW);
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    client.open(&mut out);
    // Of `kept`, those that this connection has sent are in front.
    let mut acknowledged = 0;
    while !over.load(Relaxed) {
        while let Some(txnr) = client.next_txnr() {
            let at = usize::try_from(client.outstanding()).unwrap() - 1;
            if at == kept.len() {
                kept.push_back(*next);
                *next += 1;
            }
            let mark = encoder.begin(txnr, Command::Syslog, &mut out);
            out.extend_from_slice(message(kept[at]).as_bytes());
            encoder.end(mark, &mut out);
        }
        stream.write_all(&out)?;
        out.clear();
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer)?;
        let mut input = &buffer[..len];
        while client.next_event(&mut input).map_err(std::io::Error::other)?.is_some() {}
        kept.drain(..usize::try_from(client.acknowledged() - acknowledged).unwrap());
        acknowledged = client.acknowledged();
        if len == 0 {
            return Ok(());
        }
    }
    Ok(())
}
