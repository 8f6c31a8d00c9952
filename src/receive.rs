//! In: sockets to frames. One set of receivers a shard; nothing is shared between shards but counts of connections.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::config::Input;
use crate::pipeline::Pipeline;
use crate::stop::Stop;

pub use bind::{BindError, Bound, Socket, bind_all};
pub use gate::Gate;

mod accept;
mod bind;
mod datagram;
mod gate;
mod stream;

/// The receive buffer that all streams of a shard share: a read of several hundred messages, small enough to stay in
/// the core's cache together with what is made of it.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;

/// How long receivers go on taking what has arrived once the stop is ordered, at most.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Until when receivers go on taking what has arrived, where all must have ended by `deadline`: no longer than a third
/// of what is left. The rest belongs to the far end.
fn drain_until(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + (deadline.saturating_duration_since(now) / 3).min(DRAIN_TIME_MAX)
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
    /// TLS of its `tls://` listeners.
    pub tls: Option<TlsAcceptor>,
    /// The shard's pipeline.
    pub pipeline: Rc<Pipeline>,
    /// The shard's receive buffer.
    pub buffer: SharedBuffer,
    /// What the shard's streams own.
    pub partials: Partials,
    /// When to end.
    pub stop: Stop,
    /// Held by every task that may still bring messages; the shard flushes once all are dropped.
    pub alive: mpsc::Sender<()>,
}

/// Memory that the partial frames of a shard's streams take together. A connection may own up to `max_message_size`;
/// without this bound ten thousand of them, each one octet short of a message, would own gigabytes.
#[derive(Clone, Default)]
pub struct Partials(Rc<Cell<usize>>);

/// What all of them may take, bytes: some 16,000 ordinary beginnings of messages, or 30 very large ones.
const PARTIALS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A connection that owns no more than this is left alone even then.
const PARTIAL_BYTES_FAIR: usize = 16 * 1024;

impl Partials {
    /// A connection owned `before` bytes and now owns `after`: whether it may.
    fn moved(&self, before: usize, after: usize) -> bool {
        let all = self.0.get() + after - before;
        self.0.set(all);
        all <= PARTIALS_BYTES_MAX || after <= PARTIAL_BYTES_FAIR
    }
}

/// One buffer for all streams of a shard: a connection owns memory only while it holds a partial frame.
#[derive(Clone)]
pub struct SharedBuffer(Rc<RefCell<Box<[u8]>>>);

impl Default for SharedBuffer {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; STREAM_BUFFER_BYTES].into_boxed_slice())))
    }
}

impl Receivers {
    /// Starts receiving on one bound socket, in tasks of the current shard.
    ///
    /// # Errors
    /// When it cannot be registered with the reactor: the kernel is out of memory or watches.
    pub fn start(self, socket: Socket) -> std::io::Result<()> {
        match socket {
            Socket::Udp(socket) => datagram::spawn(self, socket.into(), datagram::UDP_BYTES_MAX),
            Socket::UnixDatagram(socket) => datagram::spawn(self, socket.into(), datagram::UNIX_BYTES_MAX),
            Socket::Tcp(listener) => accept::spawn_tcp(self, listener),
            Socket::Tls(listener) => accept::spawn_tls(self, listener),
            Socket::Unix(listener) => accept::spawn_unix(self, listener),
        }
    }

    fn meters(&self, update: impl FnOnce(&crate::metrics::InputMeters)) {
        if let Some(meters) = self.pipeline.meters().inputs.get(self.input_index) {
            update(meters);
        }
    }
}
