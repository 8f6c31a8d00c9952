//! The link between two namespaces: carries packets from one TUN device to the other, and loses, delays or swallows them
//! on order, all or those of certain connections.
//!
//! Not `tc netem`: many kernels have none (it is a module of its own, which cloud and container kernels leave out), and
//! what it loses is different in each run. This link needs `/dev/net/tun` and nothing else, and its losses come from a
//! seed. Both directions are treated alike.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::namespaces::watch as watch_device;

/// The largest packet: a TUN device's MTU is 1,500.
const PACKET_MAX: usize = 2048;
/// Packets under way in one direction; what comes on top is lost, as in a router's queue. At 1,500 octets this is more
/// than any socket here has in flight.
const UNDER_WAY_MAX: usize = 4096;
/// Of the losses.
const SEED: u64 = 0x0066_6f72_6562_6179;

/// What it does to packets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Of each packet, the chance to be lost, percent.
    pub loss_percent: u8,
    /// One way.
    pub delay: Duration,
    /// Nothing gets through, and nobody is told.
    pub swallows: bool,
}

/// What the link is told.
#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    weather: Weather,
    /// How often it was to forget its connections.
    forgets: u64,
}

/// The TCP connections that were seen, by the ports of both sides, as a router with a table of them has it.
#[derive(Debug, Default)]
struct Connections {
    known: HashSet<[u16; 2]>,
    /// Of which it carries nothing any more.
    forgotten: HashSet<[u16; 2]>,
    forgets: u64,
}

impl Connections {
    /// Whether the packet belongs to a connection that was forgotten.
    fn are_without(&mut self, packet: &[u8], forgets: u64) -> bool {
        if self.forgets != forgets {
            self.forgets = forgets;
            self.forgotten.extend(self.known.drain());
        }
        let Some(ports) = tcp_ports(packet) else { return false };
        let is_forgotten = self.forgotten.contains(&ports);
        if !is_forgotten {
            self.known.insert(ports);
        }
        is_forgotten
    }
}

/// The ports of an IPv4 packet that carries TCP, the lower one first (RFC 791 section 3.1, RFC 9293 section 3.1).
fn tcp_ports(packet: &[u8]) -> Option<[u16; 2]> {
    let header = usize::from(packet.first()? & 15) * 4;
    let is_tcp = packet[0] >> 4 == 4 && *packet.get(9)? == 6;
    let port = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let (from, to) = (port(header)?, port(header + 2)?);
    is_tcp.then_some([from.min(to), from.max(to)])
}

/// A running link; dropping it ends it.
pub struct Link {
    orders: Option<watch::Sender<Orders>>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

/// Packets of both directions.
#[derive(Debug, Default)]
struct Counts {
    carried: AtomicU64,
    lost: AtomicU64,
}

impl Link {
    /// Carries packets between these two from now on.
    pub fn start(one: File, other: File) -> Self {
        let (orders_tx, orders) = watch::channel(Orders::default());
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (one, other) = (watch_device(one), watch_device(other));
                let connections = RefCell::default();
                let direction = |from, to| Direction {
                    from,
                    to,
                    orders: orders.clone(),
                    connections: &connections,
                    counts: &counted,
                };
                let (there, back) = (direction(&one, &other), direction(&other, &one));
                tokio::join!(there.carry(SEED), back.carry(!SEED));
            });
        });
        Self { orders: Some(orders_tx), counts, thread: Some(thread) }
    }

    /// From now on; packets that are under way arrive when they would have.
    pub fn turn(&self, weather: Weather) {
        self.orders.as_ref().unwrap().send_modify(|orders| orders.weather = weather);
    }

    /// Carries nothing any more of the TCP connections there are, and tells nobody; new ones it carries. So do firewalls
    /// and address translators that were restarted or whose tables are full.
    pub fn forget_connections(&self) {
        self.orders.as_ref().unwrap().send_modify(|orders| orders.forgets += 1);
    }

    /// Packets carried and lost so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.carried.load(Relaxed), self.counts.lost.load(Relaxed))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Without anybody who gives orders its thread ends.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Direction<'a> {
    from: &'a AsyncFd<File>,
    to: &'a AsyncFd<File>,
    orders: watch::Receiver<Orders>,
    connections: &'a RefCell<Connections>,
    counts: &'a Counts,
}

impl Direction<'_> {
    /// Until nobody gives orders any more.
    async fn carry(mut self, seed: u64) {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut buffer = [0; PACKET_MAX];
        loop {
            let due = under_way.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = async { sleep_until(due.unwrap()).await }, if due.is_some() => {
                    if let Some((_, packet)) = under_way.pop_front() {
                        self.deliver(&packet);
                    }
                }
                readable = self.from.readable() => {
                    let read = readable.unwrap().try_io(|from| from.get_ref().read(&mut buffer));
                    let Ok(length) = read else { continue };
                    let packet = &buffer[..length.unwrap()];
                    let Orders { weather, forgets } = *self.orders.borrow();
                    let is_forgotten = self.connections.borrow_mut().are_without(packet, forgets);
                    let is_lost = is_forgotten || weather.swallows || chance.u8(..100) < weather.loss_percent;
                    if is_lost || under_way.len() >= UNDER_WAY_MAX {
                        self.counts.lost.fetch_add(1, Relaxed);
                    } else if weather.delay.is_zero() && under_way.is_empty() {
                        self.deliver(packet);
                    } else {
                        let due = Instant::now() + weather.delay;
                        // Never before the packet ahead of it: a link does not change their order.
                        let due = under_way.back().map_or(due, |(last, _)| due.max(*last));
                        under_way.push_back((due, packet.to_vec()));
                    }
                }
            }
        }
    }

    fn deliver(&self, packet: &[u8]) {
        // A device takes a packet whole or, with its queue full or itself gone, not at all.
        let count = if self.to.get_ref().write_all(packet).is_ok() { &self.counts.carried } else { &self.counts.lost };
        count.fetch_add(1, Relaxed);
    }
}
