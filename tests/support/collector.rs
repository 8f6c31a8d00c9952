//! A collector in Sekoia's place: takes octet-counted frames over TLS or plain TCP, records them, and misbehaves on
//! order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::certificates::Certificates;
use super::records::Records;
use super::waiting::eventually;

/// How it treats connections. Handshakes that hang go on hanging when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Reads,
    /// Not more than some 6 MB/s.
    ReadsSlowly,
    /// Accepts, shakes hands, reads nothing.
    Stalls,
    /// Accepts, and says nothing.
    NeverShakesHands,
    /// Greets in plain text, as a mail server does.
    Greets,
    /// Presents a certificate that nobody has a reason to trust.
    PresentsAStrangersCertificate,
}

/// What it does once, to the connections that are open then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Closes its writing side (`close_notify` and FIN), and reads on.
    ClosesItsWritingSide,
    /// Closes its reading side: its kernel takes what still fits, its process nothing.
    ClosesItsReadingSide,
    /// Over TLS: reads half a record and resets the connection.
    ResetsInARecord,
}

#[derive(Debug, Clone, Copy)]
struct Orders {
    manner: Manner,
    listening: bool,
    /// Connections that were accepted before this counter last changed are reset.
    resets: u64,
    /// The same, closed as the kernel sees fit (a FIN where all was read).
    closes: u64,
    /// The same, with this.
    faults: (u64, Option<Fault>),
}

/// What is ordered to a connection.
enum Order {
    Reset,
    Close,
    Fault(Fault),
}

/// What it has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Frames in order of arrival, their MSG-LEN taken off.
    pub frames: Vec<Vec<u8>>,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections accepted and not ended, by their number.
    pub open: BTreeSet<u64>,
    /// Connections that the sender closed in order, between two frames, `close_notify` included where it is TLS.
    pub closed_in_order: u64,
    /// Whatever was no octet-counted frame.
    pub faults: Vec<String>,
    listening: bool,
}

/// Any port.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running collector; dropping it ends it.
pub struct Collector {
    /// Where it listens; the same after a restart.
    pub address: SocketAddr,
    orders: Option<watch::Sender<Orders>>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
    /// How it shakes hands.
    presents: Option<Arc<Mutex<TlsAcceptor>>>,
}

/// What one connection's task needs.
#[derive(Clone)]
struct Task {
    orders: watch::Receiver<Orders>,
    seen: Arc<Mutex<Seen>>,
    /// With the right certificate, and with the stranger's.
    acceptors: Option<(Arc<Mutex<TlsAcceptor>>, TlsAcceptor)>,
}

impl Collector {
    /// Over TLS, with the certificates' server.
    pub fn start(certificates: &Certificates) -> Self {
        Self::start_at(LOOPBACK, Some(certificates))
    }

    /// The same at this address; over plain TCP without certificates.
    pub fn start_at(address: SocketAddr, certificates: Option<&Certificates>) -> Self {
        let both = |all: &Certificates| {
            let [right, strange] = [&all.server, &all.stranger].map(|pair| TlsAcceptor::from(all.server_config(pair)));
            (Arc::new(Mutex::new(right)), strange)
        };
        Self::run(certificates.map(both), address)
    }

    /// Over plain TCP.
    pub fn start_plain() -> Self {
        Self::start_at(LOOPBACK, None)
    }

    fn run(acceptors: Option<(Arc<Mutex<TlsAcceptor>>, TlsAcceptor)>, address: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let presents = acceptors.as_ref().map(|(right, _)| Arc::clone(right));
        let first = Orders { manner: Manner::Reads, listening: true, resets: 0, closes: 0, faults: (0, None) };
        let (orders_tx, orders) = watch::channel(first);
        let seen = Arc::new(Mutex::new(Seen { listening: true, ..Seen::default() }));
        let task = Task { orders, seen: Arc::clone(&seen), acceptors };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(listen(listener, task));
        });
        Self { address, orders: Some(orders_tx), seen, thread: Some(thread), presents }
    }

    /// The keys of an `outputs:` entry that leads here, in flow style, and `more`.
    pub fn output(&self, certificates: &Certificates, more: &str) -> String {
        let comma = if more.is_empty() { "" } else { ", " };
        if self.presents.is_some() {
            format!("to: 'tls://{}', tls: {{ca: {}}}{comma}{more}", self.address, certificates.ca.display())
        } else {
            format!("to: 'tcp://{}'{comma}{more}", self.address)
        }
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.as_ref().unwrap().send_modify(change);
    }

    /// Treats connections this way from now on, those that are open included.
    pub fn behave(&self, manner: Manner) {
        self.order(|orders| orders.manner = manner);
    }

    /// Shakes hands like this from the next connection on.
    pub fn present(&self, config: Arc<ServerConfig>) {
        *self.presents.as_ref().expect("one that speaks TLS").lock().unwrap() = TlsAcceptor::from(config);
    }

    /// Resets every open connection (RST); what was not read is lost. Returns, once they are gone, how many there were.
    pub fn reset(&self) -> usize {
        let open = self.look(|seen| seen.open.clone());
        self.order(|orders| orders.resets += 1);
        eventually("connections to be reset", || {
            let left = self.look(|seen| seen.open.intersection(&open).count());
            if left == 0 { Ok(()) } else { Err(format!("{left} are open")) }
        });
        open.len()
    }

    /// Does this to every open connection, once there is one.
    #[track_caller]
    pub fn commit(&self, fault: Fault) {
        let is_open = || self.look(|seen| !seen.open.is_empty());
        eventually("a connection", || if is_open() { Ok(()) } else { Err("nothing is connected".to_owned()) });
        self.order(|orders| orders.faults = (orders.faults.0 + 1, Some(fault)));
    }

    /// Stops listening and closes every connection, as when its process ends.
    pub fn stop(&self) {
        self.order(|orders| {
            orders.listening = false;
            orders.closes += 1;
        });
        eventually("the collector to stop", || {
            self.look(
                |seen| if !seen.listening && seen.open.is_empty() { Ok(()) } else { Err("it listens".to_owned()) },
            )
        });
    }

    /// Listens again.
    pub fn restart(&self) {
        self.order(|orders| orders.listening = true);
        eventually("the collector to listen", || {
            self.look(|seen| if seen.listening { Ok(()) } else { Err("it does not".to_owned()) })
        });
    }

    /// Looks at what it has seen.
    pub fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.lock().unwrap())
    }

    /// The frames so far, as text.
    pub fn texts(&self) -> Vec<String> {
        self.look(|seen| seen.frames.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect())
    }

    /// The frames as text, once there are `count`; fails when there are more.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} frames"), || {
            let so_far = self.look(|seen| seen.frames.len());
            if so_far >= count { Ok(()) } else { Err(format!("{so_far} arrived: {:#?}", self.last_few())) }
        });
        let texts = self.texts();
        assert_eq!(texts.len(), count, "{:#?}", self.last_few());
        texts
    }

    /// What stands behind the key in each frame, once there are `count`: the message as the template prints it,
    /// without its leading blank and its LF. Sorted: over several connections frames have no order.
    #[track_caller]
    pub fn wait_for_messages(&self, count: usize) -> Vec<String> {
        let mut messages: Vec<String> = self.wait_for(count).iter().map(|frame| message_of(frame).to_owned()).collect();
        messages.sort();
        messages
    }

    /// How often each number (`n=…`) has arrived.
    pub fn numbers(&self) -> BTreeMap<u64, u64> {
        let mut numbers = BTreeMap::new();
        self.look(|seen| {
            for number in seen.frames.iter().filter_map(|frame| number_of(frame)) {
                *numbers.entry(number).or_default() += 1;
            }
        });
        numbers
    }

    /// Numbers in order of arrival.
    pub fn in_order(&self) -> Vec<u64> {
        self.look(|seen| seen.frames.iter().filter_map(|frame| number_of(frame)).collect())
    }

    fn last_few(&self) -> Vec<String> {
        let texts = self.texts();
        texts[texts.len().saturating_sub(10)..].to_vec()
    }
}

/// What the FAQ's template prints behind the key, without its leading blank and its LF.
pub fn message_of(frame: &str) -> &str {
    let (_, message) = frame.split_once("\"] ").unwrap_or_else(|| panic!("no structured data in {frame:?}"));
    message.trim_start_matches(' ').trim_end_matches('\n')
}

/// The number that a [`super::load::numbered`] message carries; `None` where the message was cut inside of it.
pub fn number_of(frame: &[u8]) -> Option<u64> {
    let at = memchr::memmem::find(frame, b" n=")? + 3;
    let mut octets = frame[at..].iter();
    let mut number = 0;
    loop {
        match octets.next()? {
            digit @ b'0'..=b'9' => number = number * 10 + u64::from(digit - b'0'),
            b' ' => return Some(number),
            _ => return None,
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Without orders its thread ends.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        let faults = self.look(|seen| seen.faults.clone());
        if !thread::panicking() {
            assert!(faults.is_empty(), "the collector got what is no octet-counted frame: {faults:?}");
        }
    }
}

/// Accepts until nobody gives orders any more.
async fn listen(listener: std::net::TcpListener, mut task: Task) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(TcpListener::from_std(listener).unwrap());
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => {
                let (stream, _) = accepted.unwrap();
                let mut task = task.clone();
                // What was ordered before this connection is not meant for it.
                task.orders.mark_unchanged();
                let number = {
                    let mut seen = task.seen.lock().unwrap();
                    seen.accepted += 1;
                    let number = seen.accepted;
                    seen.open.insert(number);
                    number
                };
                #[expect(clippy::disallowed_methods, reason = "the collector's runtime ends with the test")]
                tokio::spawn(async move {
                    serve(&mut task, stream).await;
                    task.seen.lock().unwrap().open.remove(&number);
                });
            }
            changed = task.orders.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = task.orders.borrow().listening;
                if wanted && listener.is_none() {
                    listener = Some(TcpListener::bind(address).await.unwrap());
                } else if !wanted {
                    listener = None;
                }
                task.seen.lock().unwrap().listening = wanted;
            }
        }
    }
}

async fn serve(task: &mut Task, stream: TcpStream) {
    let first = *task.orders.borrow();
    // Accepted while the order to stop was on its way.
    if !first.listening {
        return;
    }
    if first.manner == Manner::NeverShakesHands {
        ordered(&mut task.orders, first).await;
        return;
    }
    if first.manner == Manner::Greets {
        let mut stream = stream;
        // Who hangs up meanwhile has seen enough.
        drop(stream.write_all(b"220 mail.example ready\r\n").await);
        ordered(&mut task.orders, first).await;
        return;
    }
    let Some((right, strange)) = task.acceptors.clone() else {
        return read(task, first, Records::new(stream, None), |records| records).await;
    };
    let acceptor =
        if first.manner == Manner::PresentsAStrangersCertificate { strange } else { right.lock().unwrap().clone() };
    let orders = task.orders.clone();
    let cuts = move || {
        let now = orders.borrow().faults;
        now.0 != first.faults.0 && now.1 == Some(Fault::ResetsInARecord)
    };
    let handshake = tokio::select! {
        handshake = acceptor.accept(Records::new(stream, Some(Box::new(cuts)))) => handshake,
        _ = ordered(&mut task.orders, first) => return,
    };
    // The other side ended it; its own log says why.
    if let Ok(stream) = handshake {
        read(task, first, stream, |stream| stream.get_ref().0).await;
    }
}

/// Completes when there is an order for this connection; what is done to records below TLS is none.
async fn ordered(orders: &mut watch::Receiver<Orders>, first: Orders) -> Order {
    loop {
        if orders.changed().await.is_err() {
            return Order::Close;
        }
        let now = *orders.borrow();
        match now.faults {
            _ if now.resets != first.resets => return Order::Reset,
            _ if now.closes != first.closes => return Order::Close,
            (number, Some(fault)) if number != first.faults.0 && fault != Fault::ResetsInARecord => {
                return Order::Fault(fault);
            }
            _ => {}
        }
    }
}

/// Reads until the end; `below` gives what carries the stream.
async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    task: &mut Task,
    mut first: Orders,
    mut stream: S,
    below: impl Fn(&S) -> &Records,
) {
    let mut orders = task.orders.clone();
    let mut manners = task.orders.clone();
    let mut held = Vec::new();
    let is_reset = loop {
        let order = tokio::select! {
            () = read_frames(&task.seen, &mut manners, &mut stream, &mut held) => break below(&stream).is_cut,
            order = ordered(&mut orders, first) => order,
        };
        first.faults = orders.borrow().faults;
        match order {
            Order::Reset => break true,
            Order::Close => break false,
            Order::Fault(Fault::ClosesItsWritingSide) => drop(stream.shutdown().await),
            Order::Fault(_) => {
                drop(socket2::SockRef::from(&below(&stream).tcp).shutdown(Shutdown::Read));
                break matches!(ordered(&mut orders, first).await, Order::Reset);
            }
        }
    };
    if is_reset {
        socket2::SockRef::from(&below(&stream).tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Reads frames until the stream ends; pauses while the manner is to stall.
async fn read_frames(
    seen: &Mutex<Seen>,
    manners: &mut watch::Receiver<Orders>,
    stream: &mut (impl AsyncRead + Unpin),
    held: &mut Vec<u8>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if manners.wait_for(|orders| orders.manner != Manner::Stalls).await.is_err() {
            return;
        }
        let stalls = async {
            // Nobody to give orders: the other branch will see the end.
            if manners.wait_for(|orders| orders.manner == Manner::Stalls).await.is_err() {
                std::future::pending().await
            }
        };
        let read = tokio::select! {
            biased;
            () = stalls => continue,
            read = stream.read(&mut buffer) => read,
        };
        if manners.borrow().manner == Manner::ReadsSlowly {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut seen = seen.lock().unwrap();
        match read {
            Ok(0) => {
                seen.closed_in_order += u64::from(held.is_empty());
                return;
            }
            Ok(count) => held.extend_from_slice(&buffer[..count]),
            // The sender's close_notify is missing, or it reset the connection.
            Err(_) => return,
        }
        match split(held) {
            Ok(frames) => seen.frames.extend(frames),
            Err(error) => {
                seen.faults.push(error.to_string());
                return;
            }
        }
    }
}

/// Takes whole frames, `MSG-LEN SP MSG`, off the front.
fn split(held: &mut Vec<u8>) -> io::Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    let mut taken = 0;
    loop {
        let rest = &held[taken..];
        let Some(blank) = rest.iter().position(|octet| *octet == b' ') else {
            if rest.len() > 8 {
                return Err(io::Error::other(format!("no MSG-LEN: {:?}", String::from_utf8_lossy(rest))));
            }
            break;
        };
        let length = str::from_utf8(&rest[..blank]).ok().and_then(|digits| digits.parse::<usize>().ok());
        let Some(length) = length.filter(|_| rest[0] != b'0') else {
            return Err(io::Error::other(format!("no MSG-LEN: {:?}", String::from_utf8_lossy(&rest[..blank]))));
        };
        let Some(frame) = rest.get(blank + 1..blank + 1 + length) else { break };
        if !frame.starts_with(b"<") || !frame.ends_with(b"\n") {
            return Err(io::Error::other(format!("no message: {:?}", String::from_utf8_lossy(frame))));
        }
        frames.push(frame.to_vec());
        taken += blank + 1 + length;
    }
    held.drain(..taken);
    Ok(frames)
}
