//! Datagrams: many in one system call, each a frame. A full lane drops them, counted: their sender cannot be made to
//! wait (a unix socket's could, and every program of the machine that logs would hang with it).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::warn;

use crate::pipeline::WhenFull;
use crate::sys::{self, DatagramBatch};
use crate::syslog::Frame;
use crate::syslog::frame::{Flaw, truncate};

use super::Receivers;
use super::gate::is_allowed;

/// Datagrams that one system call may bring.
const BATCH: usize = 64;

/// The largest datagram that UDP can carry.
pub(super) const UDP_BYTES_MAX: usize = 64 * 1024;

/// More than a unix socket's default send buffer lets through (`net.core.wmem_default`, 208 KiB).
pub(super) const UNIX_BYTES_MAX: usize = 256 * 1024;

/// After a read that brought several, the socket is left alone for so long: at a high rate the next read brings
/// hundreds instead of two, which is what a datagram's cost is made of. The kernel's buffer holds far more.
const GATHER: Duration = Duration::from_millis(1);

/// Reads that brought fewer than this do not pause.
const GATHER_ABOVE: usize = 4;

/// How often the kernel's drop counter is read.
const DROPS_EVERY: Duration = Duration::from_secs(1);

/// How long the socket is drained once the stop is ordered.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// How long a socket whose reads fail is left alone.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A datagram that holds a line end and nothing else is no message.
fn is_empty(bytes: &[u8]) -> bool {
    matches!(bytes, [] | b"\n" | b"\r\n" | [0])
}

struct Receiver {
    receivers: Receivers,
    socket: AsyncFd<OwnedFd>,
    batch: DatagramBatch,
    drops: u32,
    errors: u64,
}

/// Starts receiving from `socket`, which is non-blocking and whose datagrams have at most `bytes_max` octets.
pub(super) fn spawn(receivers: Receivers, socket: OwnedFd, bytes_max: usize) -> io::Result<()> {
    let socket = sys::watch(socket)?;
    let batch = DatagramBatch::new(BATCH, bytes_max);
    let receiver = Receiver { receivers, socket, batch, drops: 0, errors: 0 };
    spawn_local(receiver.run());
    Ok(())
}

impl Receiver {
    async fn run(mut self) {
        let mut stop = self.receivers.stop.clone();
        let mut drops_due = interval(DROPS_EVERY);
        drops_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stop.ordered() => break,
                _ = drops_due.tick() => self.count_drops(),
                readable = self.socket.readable() => {
                    if let Err(error) = readable {
                        self.failed(&error).await;
                    }
                }
            }
            match self.receive_all().await {
                Ok(count) if count > GATHER_ABOVE => sleep(GATHER).await,
                Ok(_) => {}
                Err(error) => self.failed(&error).await,
            }
        }
        self.drain().await;
        self.count_drops();
    }

    /// Takes what waits, until the socket's queue is empty. Returns how many.
    async fn receive_all(&mut self) -> io::Result<usize> {
        let mut received = 0;
        loop {
            let count = self.receive()?;
            received += count;
            if count < self.batch.slots() {
                return Ok(received);
            }
            // More waits: the forwarders and the other connections of this core come in between.
            yield_now().await;
        }
    }

    /// Takes what waits, up to a batch. 0 when nothing did.
    fn receive(&mut self) -> io::Result<usize> {
        let batch = &mut self.batch;
        let received = self.socket.try_io(tokio::io::Interest::READABLE, |socket| batch.receive(socket.as_fd()));
        match received {
            Ok(count) => {
                self.offer();
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn offer(&mut self) {
        let input = &self.receivers.input;
        let mut turn = self.receivers.pipeline.turn(self.receivers.input_index);
        self.batch.for_each(|datagram| {
            if is_empty(datagram.bytes) {
                return;
            }
            if !is_allowed(input, datagram.peer) {
                turn.reject_peer(datagram.bytes);
                return;
            }
            let cut = truncate(datagram.bytes, input.max_message_size);
            let oversize = datagram.truncated || cut.len() < datagram.bytes.len();
            let frame = Frame { bytes: cut, flaw: oversize.then_some(Flaw::Oversize) };
            turn.offer(frame, datagram.peer, WhenFull::Drop);
        });
    }

    /// The stop: takes what has arrived already.
    async fn drain(&mut self) {
        let until = Instant::now() + DRAIN_TIME;
        while Instant::now() < until && matches!(self.receive(), Ok(count) if count > 0) {
            yield_now().await;
        }
    }

    fn count_drops(&mut self) {
        // Unix sockets have no such counter: their senders wait or are told.
        let Ok(drops) = sys::kernel_drops(self.socket.get_ref().as_fd()) else { return };
        let more = drops.wrapping_sub(self.drops);
        self.drops = drops;
        if more > 0 {
            self.receivers.meters(|meters| meters.kernel_drops.add(u64::from(more)));
            warn!(
                input = %self.receivers.input.name, dropped = more,
                "the kernel dropped datagrams: its receive buffer was full; raise receive_buffer and net.core.rmem_max"
            );
        }
    }

    async fn failed(&mut self, error: &io::Error) {
        self.errors += 1;
        if self.errors.is_power_of_two() {
            warn!(input = %self.receivers.input.name, errors = self.errors, "cannot receive: {error}; trying again");
        }
        sleep(ERROR_PAUSE).await;
    }
}
