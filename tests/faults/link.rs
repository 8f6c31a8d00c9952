//! The link between two namespaces: carries packets from one TUN device to the other, and loses, delays or swallows them
//! on order.
//!
//! Not `tc netem`: many kernels have none (it is a module of its own, which cloud and container kernels leave out), and
//! what it loses is different in each run. This link needs `/dev/net/tun` and nothing else, and its losses come from a
//! seed. Both directions are treated alike.

use std::collections::VecDeque;
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

/// A running link; dropping it ends it.
pub struct Link {
    weather: Option<watch::Sender<Weather>>,
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
        let (weather_tx, weather) = watch::channel(Weather::default());
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (one, other) = (watch_device(one), watch_device(other));
                let there = Direction { from: &one, to: &other, weather: weather.clone(), counts: &counted };
                let back = Direction { from: &other, to: &one, weather, counts: &counted };
                tokio::join!(there.carry(SEED), back.carry(!SEED));
            });
        });
        Self { weather: Some(weather_tx), counts, thread: Some(thread) }
    }

    /// From now on; packets that are under way arrive when they would have.
    pub fn turn(&self, weather: Weather) {
        self.weather.as_ref().unwrap().send_replace(weather);
    }

    /// Packets carried and lost so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.carried.load(Relaxed), self.counts.lost.load(Relaxed))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Without anybody who makes the weather its thread ends.
        self.weather = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Direction<'a> {
    from: &'a AsyncFd<File>,
    to: &'a AsyncFd<File>,
    weather: watch::Receiver<Weather>,
    counts: &'a Counts,
}

impl Direction<'_> {
    /// Until nobody makes the weather any more.
    async fn carry(mut self, seed: u64) {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut buffer = [0; PACKET_MAX];
        loop {
            let due = under_way.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                changed = self.weather.changed() => {
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
                    let weather = *self.weather.borrow();
                    let is_lost = weather.swallows || chance.u8(..100) < weather.loss_percent;
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
