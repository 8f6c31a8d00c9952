//! One connection: its messages at their pace.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel as channel;

use super::Framing;
use super::message::{Manner, Writer};
use super::target::{Target, Tls, Wire};

/// Octets that are gathered for one write of a stream.
const WRITE_BYTES: usize = 64 * 1024;

/// Messages that are due are gathered for so long where they are many: a wait is no shorter on a machine that does
/// something else as well.
const TICK: Duration = Duration::from_millis(1);

/// A write that takes longer waits for the receiver.
const BLOCKED_AFTER: Duration = Duration::from_millis(1);

/// Between two attempts to connect.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// How long a datagram is offered again that the kernel has no room for.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// `ENOBUFS` of Linux (asm-generic/errno.h).
const ENOBUFS: i32 = 105;

/// What all connections together have done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages handed to the kernel.
    pub(super) sent: AtomicU64,
    /// Their octets, with framing.
    pub(super) octets: AtomicU64,
    /// Messages that could not be handed over, or were in a write that failed.
    pub(super) failed: AtomicU64,
    /// Why the last of them did.
    pub(super) why: Mutex<Option<String>>,
    /// Connections that broke and were made again.
    pub(super) reconnects: AtomicU64,
    /// Time in writes that waited for the receiver, microseconds.
    pub(super) blocked_us: AtomicU64,
}

impl Tally {
    fn fail(&self, messages: u64, error: &io::Error) {
        self.failed.fetch_add(messages, Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }
}

/// What one connection is to do.
pub(super) struct Order<'a> {
    pub(super) target: &'a Target,
    pub(super) tls: Option<&'a Tls>,
    pub(super) framing: Framing,
    pub(super) manner: &'a Manner,
    /// Which connection, of how many.
    pub(super) source: u32,
    pub(super) sources: u32,
    /// Messages a second of all connections; `None`: as many as are taken.
    pub(super) rate: Option<f64>,
    /// Messages of this connection at most.
    pub(super) count: Option<u64>,
    /// When to end.
    pub(super) until: Option<Instant>,
    /// How long an attempt to connect is repeated.
    pub(super) patience: Duration,
    /// When the run began: what marks count from.
    pub(super) began: Instant,
    /// Its other end is dropped when everybody is to end.
    pub(super) stop: channel::Receiver<()>,
}

/// What a connection came to.
#[derive(Debug)]
pub(super) struct Ended {
    /// When its last message was handed over.
    pub(super) at: Instant,
    /// Why it ended before it was done.
    pub(super) error: Option<io::Error>,
}

/// Connects, for as long as `patience` allows where nobody is there yet. `None`: it is to stop.
pub(super) fn connect(order: &Order<'_>, patience: Duration) -> Option<io::Result<Wire>> {
    let until = Instant::now() + patience;
    loop {
        let error = match Wire::open(order.target, order.tls) {
            Ok(wire) => return Some(Ok(wire)),
            Err(error) => error,
        };
        if Instant::now() + RETRY_EVERY > until {
            return Some(Err(error));
        }
        if has_stopped(&order.stop, RETRY_EVERY) {
            return None;
        }
    }
}

/// Waits for so long: true where it is to stop.
fn has_stopped(stop: &channel::Receiver<()>, wait: Duration) -> bool {
    // Nothing is ever sent on it.
    !matches!(stop.recv_timeout(wait), Err(channel::RecvTimeoutError::Timeout))
}

/// Sends over `wire` until all is sent, the time is over, or it is to stop.
pub(super) fn run(order: &Order<'_>, wire: Wire, tally: &Tally) -> Ended {
    let mut sender = Sender {
        order,
        tally,
        wire: Some(wire),
        writer: Writer::new(order.manner, order.source, order.began),
        message: Vec::new(),
        block: Vec::new(),
        gathered: 0,
        numbered: 0,
    };
    let error = sender.send_all().err();
    let at = Instant::now();
    let wire = sender.wire.take();
    let closed = wire.map(|wire| wire.close(order.patience)).transpose();
    // A receiver that resets a connection has not read everything.
    let closed = closed.err().filter(|error| error.kind() == io::ErrorKind::ConnectionReset);
    Ended { at, error: error.or(closed) }
}

struct Sender<'a> {
    order: &'a Order<'a>,
    tally: &'a Tally,
    wire: Option<Wire>,
    writer: Writer<'a>,
    message: Vec<u8>,
    /// Frames to be written at once.
    block: Vec<u8>,
    gathered: u64,
    numbered: u64,
}

impl Sender<'_> {
    fn send_all(&mut self) -> io::Result<()> {
        let began = Instant::now();
        let all = self.order.count.unwrap_or(u64::MAX);
        while self.numbered < all {
            let due = self.due(began.elapsed()).min(all);
            while self.numbered < due {
                self.add()?;
                // A receiver that blocks is no reason to send for longer than was asked for.
                if self.order.rate.is_none() && self.block.is_empty() && self.is_over() {
                    break;
                }
            }
            self.flush()?;
            if self.is_over() || has_stopped(&self.order.stop, self.next_in(began.elapsed())) {
                break;
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.order.until.is_some_and(|until| Instant::now() >= until)
    }

    /// How many messages are due so long after the start: the connections take turns, the first one begins at once.
    fn due(&self, elapsed: Duration) -> u64 {
        let (source, sources) = (f64::from(self.order.source), f64::from(self.order.sources));
        match self.order.rate {
            Some(rate) => ((elapsed.as_secs_f64() * rate - source) / sources + 1.0).max(0.0) as u64,
            None => self.numbered + self.order.count.unwrap_or(u64::MAX).min(WRITE_BYTES as u64 / 64),
        }
    }

    /// How long it is until the next one is due.
    fn next_in(&self, elapsed: Duration) -> Duration {
        let Some(rate) = self.order.rate else { return Duration::ZERO };
        let turn = self.numbered as f64 * f64::from(self.order.sources) + f64::from(self.order.source);
        let at = Duration::try_from_secs_f64(turn / rate).unwrap_or(Duration::MAX);
        let wait = at.saturating_sub(elapsed).max(TICK);
        // The end of the run is not overslept.
        match self.order.until {
            Some(until) => wait.min(until.saturating_duration_since(Instant::now())),
            None => wait,
        }
    }

    /// Sends a datagram, or appends a frame to what is written next.
    fn add(&mut self) -> io::Result<()> {
        let number = self.numbered;
        self.numbered += 1;
        let Order { source, sources, .. } = *self.order;
        let of_all = number.wrapping_mul(u64::from(sources)).wrapping_add(u64::from(source));
        self.writer.write(number, of_all, &mut self.message);
        if self.order.target.is_datagram() {
            return self.datagram();
        }
        match self.order.framing {
            Framing::Octet => {
                self.block.extend_from_slice(itoa::Buffer::new().format(self.message.len()).as_bytes());
                self.block.push(b' ');
                self.block.extend_from_slice(&self.message);
            }
            Framing::Lf => {
                self.block.extend_from_slice(&self.message);
                self.block.push(b'\n');
            }
        }
        self.gathered += 1;
        if self.block.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn datagram(&mut self) -> io::Result<()> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let began = Instant::now();
        let sent = loop {
            match wire.send(&self.message) {
                // The interface's queue is full, which passes.
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {
                    if has_stopped(&self.order.stop, FULL_PAUSE) {
                        break Err(error);
                    }
                }
                other => break other,
            }
        };
        self.note_blocked(began);
        match sent {
            Ok(()) => self.count(1, self.message.len()),
            // Nobody listens (ICMP says so), or it is too long: the next one may fare better.
            Err(error) => self.tally.fail(1, &error),
        }
        Ok(())
    }

    /// Writes what was gathered. Where the connection breaks, another one is made.
    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let sent = match &mut self.wire {
            Some(wire) => wire.send(&self.block),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        self.note_blocked(began);
        let (messages, octets) = (std::mem::take(&mut self.gathered), self.block.len());
        self.block.clear();
        let Err(error) = sent else {
            self.count(messages, octets);
            return Ok(());
        };
        // How much of it arrived is not known.
        self.tally.fail(messages, &error);
        self.wire = None;
        match connect(self.order, self.order.patience) {
            Some(Ok(wire)) => {
                self.tally.reconnects.fetch_add(1, Relaxed);
                self.wire = Some(wire);
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn count(&self, messages: u64, octets: usize) {
        self.tally.sent.fetch_add(messages, Relaxed);
        self.tally.octets.fetch_add(octets as u64, Relaxed);
    }

    fn note_blocked(&self, began: Instant) {
        let took = began.elapsed();
        if took > BLOCKED_AFTER {
            self.tally.blocked_us.fetch_add(took.as_micros() as u64, Relaxed);
        }
    }
}
