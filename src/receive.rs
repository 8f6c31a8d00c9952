//! In: sockets to frames. One set of receivers a shard; nothing is shared between shards but counts of connections.

use std::cell::{Cell, Ref, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use crate::config::{Input, Listen};
use crate::metrics::{Amount, InputMeters};
use crate::pipeline::Pipeline;
use crate::stop::Stop;
use crate::sys::DatagramBatch;
use crate::tls;

pub use bind::{BACKLOG, BindError, Bound, DATAGRAM_BUFFER_BYTES, Socket, bind_all, bind_more};
pub use gate::{Gate, is_allowed};
pub use impstats::Impstats;
pub use inherit::{Claims, claim};
pub use kept::kept;

mod accept;
mod bind;
mod datagram;
mod gate;
mod impstats;
mod inherit;
mod kept;
pub mod proxied;
mod relp;
mod stream;

/// The receive buffer that all streams of a shard share: a read of several hundred messages, small enough to stay in
/// the core's cache together with what is made of it.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;

/// For how much of a stop receivers go on taking what arrives, at most: one of so many parts. The rest belongs to the far
/// end. A sender behind a balancer needs some milliseconds to hear that it should close, and to do so.
const DRAIN_PART: u32 = 3;

/// What is spoken on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Spoken {
    /// Frames of syslog, and no answers.
    #[default]
    Syslog,
    /// RELP.
    Relp,
}

/// What a listener's address says of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    spoken: Spoken,
    over_tls: bool,
}

impl Manner {
    /// Of connections to this address.
    pub fn of(listen: &Listen) -> Self {
        let spoken = if matches!(listen, Listen::Relp(_) | Listen::RelpTls(_)) { Spoken::Relp } else { Spoken::Syslog };
        Self { spoken, over_tls: matches!(listen, Listen::Tls(_) | Listen::RelpTls(_)) }
    }
}

/// A listener's receivers as the configuration has them now: connections that it accepts, and datagrams that it reads, are
/// taken with these. Connections that are open keep what they began with.
#[derive(Clone)]
pub struct Current {
    receivers: Rc<RefCell<Receivers>>,
    /// Where it tells our own counts: those to go on with.
    counts: Rc<RefCell<Option<Box<Impstats>>>>,
}

impl Current {
    fn of(receivers: Receivers) -> Self {
        Self { receivers: Rc::new(RefCell::new(receivers)), counts: Rc::default() }
    }

    /// To be dropped before the next await.
    fn now(&self) -> Ref<'_, Receivers> {
        self.receivers.borrow()
    }

    /// For one more connection, which may bring messages as long as the listener itself may.
    fn for_connection(&self, alive: Option<&mpsc::Sender<()>>) -> Receivers {
        Receivers { alive: alive.cloned(), ..self.now().clone() }
    }

    /// Changes them. Not to be called within a turn.
    pub fn change(&self, change: impl FnOnce(&mut Receivers)) {
        change(&mut self.receivers.borrow_mut());
    }

    /// Goes on with these counts.
    pub fn count(&self, counts: Box<Impstats>) {
        self.counts.replace(Some(counts));
    }
}

/// What an input's receivers on one shard need.
#[derive(Clone)]
pub struct Receivers {
    /// The `inputs:` entry.
    pub input: Arc<Input>,
    /// Which, in the configuration's order.
    pub input_index: usize,
    /// Counts and bounds its connections, over all shards.
    pub gate: Arc<Gate>,
    /// The socket outlives this process: see [`Bound::inherited`].
    pub inherited: bool,
    /// TLS of its `tls://` listeners.
    pub tls: Option<Arc<tls::Server>>,
    /// What the listener's address says.
    pub manner: Manner,
    /// The shard's pipeline.
    pub pipeline: Rc<Pipeline>,
    /// What all receivers of the shard share.
    pub shared: Rc<Shared>,
    /// When to end.
    pub stop: Stop,
    /// Held, as long as it is there, by every task that may still bring messages; the shard flushes once all are dropped.
    pub alive: Option<mpsc::Sender<()>>,
    /// Held by connections that still have messages to acknowledge, also when they bring none any more.
    pub settling: mpsc::Sender<()>,
    /// When those end: nothing more will be settled.
    pub closing: Stop,
}

/// What all partial frames of a shard's streams may take together, bytes: some 16,000 ordinary beginnings of messages, or
/// 30 very large ones. A connection may own up to `max_message_size`; without this bound ten thousand of them, each one
/// octet short of a message, would own gigabytes.
const PARTIALS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A connection that owns no more than this is left alone even then.
const PARTIAL_BYTES_FAIR: usize = 16 * 1024;

/// What all blocked connections of a shard may read ahead, bytes: each its part, so that thousands of them keep little.
const BLOCKED_BYTES_MAX: usize = 1024 * 1024;

/// What one connection reads at least: a message or two.
const READ_BYTES_MIN: usize = 512;

/// What all receivers of a shard share.
pub struct Shared {
    /// One buffer for all streams: a connection owns memory only while it holds a partial frame.
    buffer: RefCell<Box<[u8]>>,
    /// The same for all datagram sockets.
    datagrams: RefCell<DatagramBatch>,
    /// Bytes of memory that the shard's streams own.
    owned: Cell<usize>,
    /// Messages of the shard's RELP connections that are not settled.
    unsettled: Cell<usize>,
    /// How many of the shard's streams wait for room.
    blocked: Cell<usize>,
    /// Until when all drain that must have ended by the first, once a stop is ordered.
    drain_until: Cell<Option<(Instant, Instant)>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            buffer: RefCell::new(vec![0; STREAM_BUFFER_BYTES].into_boxed_slice()),
            datagrams: RefCell::new(DatagramBatch::new(datagram::BATCH_MAX)),
            owned: Cell::new(0),
            unsettled: Cell::new(0),
            blocked: Cell::new(0),
            drain_until: Cell::new(None),
        }
    }
}

impl Shared {
    /// A connection owned `before` bytes and now owns `after`: whether it may.
    fn moved(&self, before: usize, after: usize) -> bool {
        let all = self.owned.get() + after - before;
        self.owned.set(all);
        all <= PARTIALS_BYTES_MAX || after <= PARTIAL_BYTES_FAIR
    }

    /// What a stream may read at once. It keeps that where its lane turns out full; those that wait already have had
    /// parts of the same size or larger, so that all together keep a few times [`BLOCKED_BYTES_MAX`] at most.
    fn read_bytes_max(&self, whole: usize) -> usize {
        (BLOCKED_BYTES_MAX / self.blocked.get().max(1)).max(READ_BYTES_MIN).min(whole)
    }

    /// Until when receivers go on taking what arrives, where all must have ended by `deadline`: no longer than a third of
    /// what is left when the first of them asks.
    fn drain_until(&self, deadline: Instant) -> Instant {
        let now = Instant::now();
        let until = now + deadline.saturating_duration_since(now) / DRAIN_PART;
        let until = self.drain_until.get().filter(|known| known.0 == deadline).map_or(until, |known| known.1);
        self.drain_until.set(Some((deadline, until)));
        until
    }
}

/// A stream that waits for room, for as long as it lives.
struct Blocked {
    shared: Rc<Shared>,
    _counted: Counted,
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.shared.blocked.set(self.shared.blocked.get().saturating_sub(1));
    }
}

/// Counts one in a gauge of an input for as long as it lives: whatever ends the task that holds it.
struct Counted {
    pipeline: Rc<Pipeline>,
    input_index: usize,
    gauge: fn(&InputMeters) -> &Amount,
}

impl Counted {
    fn add(&self, n: i64) {
        if let Some(meters) = self.pipeline.meters().inputs.get(self.input_index) {
            (self.gauge)(meters).add(n);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.add(-1);
    }
}

impl Receivers {
    /// Starts receiving on one bound socket, in a task of the current shard that joins `tasks`. It ends at the stop only;
    /// each connection has a task of its own besides. What is returned changes them.
    ///
    /// # Errors
    /// When it cannot be registered with the reactor: the kernel is out of memory or watches.
    pub fn start(self, socket: Socket, tasks: &mut JoinSet<()>) -> std::io::Result<Current> {
        let current = Current::of(self);
        match socket {
            Socket::Udp(socket) => datagram::spawn(current.clone(), socket.into(), datagram::UDP, tasks),
            Socket::UnixDatagram(socket) => datagram::spawn(current.clone(), socket.into(), datagram::UNIX, tasks),
            Socket::Tcp(listener) => accept::spawn_tcp(current.clone(), listener, tasks),
            Socket::Unix(listener) => accept::spawn_unix(current.clone(), listener, tasks),
            Socket::Impstats(counts) => {
                impstats::spawn(current.clone(), *counts, tasks);
                Ok(())
            }
        }?;
        Ok(current)
    }

    /// Counts one in `gauge` until what it returns is dropped.
    fn counted(&self, gauge: fn(&InputMeters) -> &Amount) -> Counted {
        let counted = Counted { pipeline: Rc::clone(&self.pipeline), input_index: self.input_index, gauge };
        counted.add(1);
        counted
    }

    /// Counts a stream as blocked until what it returns is dropped.
    fn blocked(&self) -> Blocked {
        let shared = Rc::clone(&self.shared);
        shared.blocked.set(shared.blocked.get() + 1);
        Blocked { shared, _counted: self.counted(|meters| &meters.blocked) }
    }

    /// A TLS client has come to a plain port: its handshake is no message, and it would never send one.
    fn refuse_tls(&self, peer: Option<IpAddr>) {
        let mut refused = 0;
        self.meters(|meters| {
            meters.refused_protocol.add(1);
            refused = meters.refused_protocol.value();
        });
        if refused.is_power_of_two() {
            warn!(
                input = %self.input.name, ?peer, refused,
                "connection refused: the client speaks TLS to a plain port; give it a listener with TLS"
            );
        }
    }

    /// Unfinished messages of all connections take so much memory that this one is closed.
    fn close_for_memory(&self, peer: Option<IpAddr>) {
        let mut closed = 0;
        self.meters(|meters| {
            meters.partial_closed.add(1);
            closed = meters.partial_closed.value();
        });
        if closed.is_power_of_two() {
            warn!(
                input = %self.input.name, ?peer, closed,
                "connection closed: unfinished messages take too much memory; set idle_timeout, or a smaller \
                 max_message_size"
            );
        }
    }

    fn meters(&self, update: impl FnOnce(&InputMeters)) {
        if let Some(meters) = self.pipeline.meters().inputs.get(self.input_index) {
            update(meters);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_more_streams_wait_the_less_each_reads_ahead() {
        let shared = Shared::default();
        let mut kept = 0;
        let mut last = STREAM_BUFFER_BYTES;
        for blocked in 0..10_000 {
            shared.blocked.set(blocked);
            let size = shared.read_bytes_max(STREAM_BUFFER_BYTES);
            assert!((READ_BYTES_MIN..=last).contains(&size), "{size} where {blocked} wait");
            kept += size;
            last = size;
        }
        assert_eq!(last, READ_BYTES_MIN);
        assert!(kept < 10 * BLOCKED_BYTES_MAX, "{kept}");
    }

    #[test]
    fn all_receivers_of_one_stop_drain_until_the_same_moment_within_a_third_of_it() {
        let now = Instant::now();
        for (rest, drain) in [(30_000, 10_000), (900, 300), (0, 0)] {
            let shared = Shared::default();
            let until = shared.drain_until(now + Duration::from_millis(rest));
            assert!(until <= Instant::now() + Duration::from_millis(drain), "{rest} ms");
            assert!(until + Duration::from_millis(200) >= now + Duration::from_millis(drain), "{rest} ms");
            assert_eq!(shared.drain_until(now + Duration::from_millis(rest)), until);
        }
    }
}
