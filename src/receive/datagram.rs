//! Datagrams: many in one system call, each a frame. A full lane drops them, counted: their sender cannot be made to
//! wait (a unix socket's could, and every program of the machine that logs would hang with it).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::warn;

use crate::pipeline::WhenFull;
use crate::sys::{self, DatagramBatch};
use crate::syslog::Frame;
use crate::syslog::frame::{self, Flaw};

use super::gate::is_allowed;
use super::{Current, Receivers};

/// Datagrams that one system call may bring.
pub(super) const BATCH_MAX: usize = 64;

/// What one system call may bring from a kind of socket: 4 MiB in all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    datagrams: usize,
    bytes_max: usize,
}

/// The largest datagram that UDP can carry.
pub(super) const UDP: Batch = Batch { datagrams: BATCH_MAX, bytes_max: 64 * 1024 };

/// More than a unix socket's default send buffer lets through (`net.core.wmem_default`, 208 KiB).
pub(super) const UNIX: Batch = Batch { datagrams: 16, bytes_max: 256 * 1024 };

/// After a read that brought several, the socket is left alone for so long, and is not watched meanwhile: every arrival
/// would wake this thread. At a high rate the next read then brings hundreds, which is what a datagram's cost is made
/// of. A kernel buffer of [`ROOMY_BYTES`] or more holds a million small datagrams a second for that long.
const GATHER: Duration = Duration::from_millis(5);

/// The same where the kernel's buffer is smaller.
const GATHER_CRAMPED: Duration = Duration::from_millis(1);

/// See [`GATHER`]; 10,000 datagrams of about 800 bytes each in the kernel's own accounting.
const ROOMY_BYTES: usize = 8 * 1024 * 1024;

/// Reads that brought no more than this end the gathering: the next arrival is waited for.
const GATHER_ABOVE: usize = 4;

/// System calls in a row before anything else gets its turn.
const BATCHES_MAX: usize = 64;

/// How often the kernel's drop counter is read, and memory of large datagrams given back.
const DROPS_EVERY: Duration = Duration::from_secs(1);

/// How long a socket whose reads fail is left alone.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

struct Receiver {
    current: Current,
    /// As it began: when to end does not change.
    receivers: Receivers,
    socket: OwnedFd,
    /// The socket once more, registered with the reactor; `None` while datagrams are gathered.
    watch: Option<AsyncFd<OwnedFd>>,
    gathering: bool,
    gather: Duration,
    batch: Batch,
    drops: u32,
    errors: u64,
}

/// Starts receiving from `socket`, which is non-blocking and of this kind.
///
/// # Errors
/// When it cannot be registered with the reactor.
pub(super) fn spawn(current: Current, socket: OwnedFd, batch: Batch, tasks: &mut JoinSet<()>) -> io::Result<()> {
    let receivers = current.now().clone();
    let watch = Some(sys::watch(socket.try_clone()?)?);
    let buffer = socket2::SockRef::from(&socket).recv_buffer_size().unwrap_or(0);
    let gather = if buffer < ROOMY_BYTES { GATHER_CRAMPED } else { GATHER };
    // What was dropped before us was told when the socket was taken over.
    let drops = if receivers.inherited { sys::kernel_drops(socket.as_fd()).unwrap_or(0) } else { 0 };
    let receiver = Receiver { current, receivers, socket, watch, gathering: false, gather, batch, drops, errors: 0 };
    tasks.spawn_local(receiver.run());
    Ok(())
}

impl Receiver {
    async fn run(mut self) {
        let mut stop = self.receivers.stop.clone();
        let mut drops_due = interval(DROPS_EVERY);
        drops_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = pin!(stop.ordered());
        let deadline = loop {
            let arrived = tokio::select! {
                biased;
                deadline = &mut stopping => break deadline,
                _ = drops_due.tick() => {
                    self.count_drops();
                    self.receivers.shared.datagrams.borrow_mut().trim();
                    continue;
                }
                arrived = self.arrival() => arrived,
            };
            let received = match arrived {
                Ok(()) => self.receive_all().await,
                Err(error) => Err(error),
            };
            match received {
                Ok(count) => self.gathering = count > GATHER_ABOVE,
                Err(error) => self.failed(&error).await,
            }
        };
        self.drain(self.receivers.shared.drain_until(deadline)).await;
        self.count_drops();
    }

    /// Waits until something has arrived; while gathering, until it is time to look. Cancel-safe.
    async fn arrival(&mut self) -> io::Result<()> {
        if self.gathering {
            self.watch = None;
            sleep(self.gather).await;
            return Ok(());
        }
        let watch = match self.watch.take() {
            Some(watch) => self.watch.insert(watch),
            None => self.watch.insert(sys::watch(self.socket.try_clone()?)?),
        };
        // Cleared before the socket is emptied: what arrives after that sets it again.
        watch.readable().await?.clear_ready();
        Ok(())
    }

    /// Takes what waits, until the socket's queue is empty or others must have their turn. Returns how many.
    async fn receive_all(&mut self) -> io::Result<usize> {
        let mut received = 0;
        for _ in 0..BATCHES_MAX {
            let count = self.receive()?;
            received += count;
            if count < self.batch.datagrams {
                break;
            }
            yield_now().await;
        }
        Ok(received)
    }

    /// Takes what waits, up to a batch. 0 when nothing did.
    fn receive(&mut self) -> io::Result<usize> {
        let shared = Rc::clone(&self.receivers.shared);
        let mut batch = shared.datagrams.borrow_mut();
        match batch.receive(self.socket.as_fd(), self.batch.datagrams, self.batch.bytes_max) {
            Ok(count) => {
                self.offer(&mut batch);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn offer(&self, batch: &mut DatagramBatch) {
        let receivers = self.current.now();
        let input = &receivers.input;
        let mut turn = receivers.pipeline.turn(receivers.input_index);
        batch.for_each(|datagram| {
            let Some((cut, is_cut)) = frame::of_datagram(datagram.bytes, input.max_message_size) else { return };
            if !is_allowed(input, datagram.peer) {
                turn.reject_peer(datagram.bytes);
                return;
            }
            let oversize = datagram.truncated || is_cut;
            let frame = Frame { bytes: cut, flaw: oversize.then_some(Flaw::Oversize) };
            turn.offer(frame, datagram.peer, WhenFull::Drop);
        });
    }

    /// The stop: takes what has arrived already.
    async fn drain(&mut self, until: Instant) {
        while Instant::now() < until && matches!(self.receive(), Ok(count) if count > 0) {
            yield_now().await;
        }
    }

    fn count_drops(&mut self) {
        // Unix sockets have no such counter: their senders wait or are told.
        let Ok(drops) = sys::kernel_drops(self.socket.as_fd()) else { return };
        let more = drops.wrapping_sub(self.drops);
        self.drops = drops;
        if more > 0 {
            let receivers = self.current.now();
            receivers.meters(|meters| meters.kernel_drops.add(u64::from(more)));
            warn!(
                input = %receivers.input.name, dropped = more,
                "the kernel dropped datagrams: its receive buffer was full; raise receive_buffer and net.core.rmem_max"
            );
        }
    }

    async fn failed(&mut self, error: &io::Error) {
        self.errors += 1;
        // What waits has announced itself already: look again without waiting for an arrival.
        self.gathering = true;
        if self.errors.is_power_of_two() {
            warn!(input = %self.receivers.input.name, errors = self.errors, "cannot receive: {error}; trying again");
        }
        sleep(ERROR_PAUSE).await;
    }
}
