//! From a frame to its lanes: sanitize, parse, route, append. One a shard, shared by its receivers and forwarders.
//!
//! Receivers open a [`Turn`] for what one system call brought; the clock is read and the meters are updated once a turn,
//! never per message. Forwarders take batches out and give them back as acknowledged, released or to be sent again.
//! Everything runs on the shard's thread: no locks, and no borrow is held across an await.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::config::{Config, Oversize};
use crate::lane::{Budget, Lane};
use crate::metrics::Meters;
use crate::route::Matcher;
use crate::slots::Slots;
use crate::spool::Port;
use crate::tap::{Side, Taps};

use clocks::Clocks;
pub use clocks::clock_at;
use layout::Layout;
pub use queue::Queue;
pub use spooling::SPOOL_TICK;
use spooling::Spooling;
pub use turn::Turn;
use turn::{InputTally, Tally};

mod clocks;
mod layout;
mod outward;
mod queue;
mod spooling;
mod turn;

/// What became of an offered frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It ended in exactly one counted place.
    Taken,
    /// This lane has no room: nothing was counted, offer it again when [`Pipeline::room_in`] says so.
    Full(usize),
}

/// What to do with a message whose lane is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Answer [`Offer::Full`]: the sender can be made to wait.
    Wait,
    /// Count it as dropped: the sender cannot.
    Drop,
    /// Take it all the same: it is in memory already, and its sender will not be asked again.
    Take,
}

/// While a forwarder writes, streams whose messages it gets are not read beyond this: what is read would wait anyway,
/// outside of the core's cache. When it cannot write, streams are read on until the lanes are full.
const PLENTY_BYTES: usize = 512 * 1024;

/// How long a stream waits for that at most: its messages may be for a faster destination as well. 64 KiB in that time are
/// 3 MB/s for each connection that feeds a destination which does not keep up.
const PACE_MAX: Duration = Duration::from_millis(20);

/// One shard's parsing, routing and queues.
pub struct Pipeline {
    inner: RefCell<Inner>,
    /// By lane.
    rooms: Slots<Notify>,
    lanes: Slots<Way>,
    queues: Slots<Queue>,
    /// What lies between the lanes and the disk; `None` without a spool.
    spooling: Option<Spooling>,
    /// The queue that the last turn gave plenty to.
    plenty: Cell<Option<usize>>,
    layout: RefCell<Layout>,
    input_names: RefCell<Rc<[String]>>,
    meters: Arc<Meters>,
    taps: Arc<Taps>,
}

/// A lane's way out.
#[derive(Debug)]
struct Way {
    route: usize,
    queue: Cell<usize>,
}

struct Inner {
    matcher: Matcher,
    hits: Vec<u16>,
    /// By route: its lane, or `None` where it takes nothing, or discards it.
    lane_of: Vec<Option<usize>>,
    scratch: Vec<u8>,
    clocks: Clocks,
    shelf: Shelf,
    /// By input.
    oversize: Vec<Oversize>,
    /// The same as the pipeline's.
    input_names: Rc<[String]>,
    /// By route: messages discarded in this turn.
    discards: Vec<u64>,
    /// Program names that no route took in this turn.
    unmatched: Vec<(Box<[u8]>, u64)>,
}

/// The lanes, their memory, and what this turn did to them.
struct Shelf {
    lanes: Vec<Lane>,
    budget: Budget,
    tallies: Vec<Tally>,
    touched: Vec<usize>,
    /// Lanes whose senders wait for room.
    blocked: Vec<usize>,
    /// Receipts in lanes whose senders have gone, at most.
    receipts_dead: usize,
}

impl Pipeline {
    /// One shard's pipeline. `budget_bytes` are its queues' memory, `port` is the shard's end of the spool, where the
    /// configuration has one.
    pub fn new(config: &Config, budget_bytes: usize, meters: Arc<Meters>, port: Option<Port>) -> Self {
        let shard = port.as_ref().map_or(0, Port::shard);
        let spooling = config.spool.as_ref().zip(port);
        let pipeline = Self {
            inner: RefCell::new(Inner {
                matcher: Matcher::new(&[]),
                hits: Vec::new(),
                lane_of: Vec::new(),
                scratch: Vec::new(),
                clocks: Clocks::new(Vec::new()),
                shelf: Shelf {
                    lanes: Vec::new(),
                    budget: Budget::new(budget_bytes, 1),
                    tallies: Vec::new(),
                    touched: Vec::new(),
                    blocked: Vec::new(),
                    receipts_dead: 0,
                },
                oversize: Vec::new(),
                input_names: Rc::new([]),
                discards: Vec::new(),
                unmatched: Vec::new(),
            }),
            rooms: Slots::default(),
            lanes: Slots::default(),
            queues: Slots::default(),
            spooling: spooling.map(|(spool, port)| Spooling::new(spool, port)),
            plenty: Cell::new(None),
            layout: RefCell::new(Layout::of_shard(shard)),
            input_names: RefCell::new(Rc::new([])),
            meters,
            taps: Arc::default(),
        };
        pipeline.arrange(config, budget_bytes);
        pipeline
    }

    /// Shows what passes to these taps.
    #[must_use]
    pub fn tapped_by(self, taps: &Arc<Taps>) -> Self {
        Self { taps: Arc::clone(taps), ..self }
    }

    /// The meters it counts into.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// Names of the inputs, by index.
    pub fn input_names(&self) -> Rc<[String]> {
        Rc::clone(&self.input_names.borrow())
    }

    /// How many lanes there are.
    pub fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// The route of a lane.
    pub fn route_of(&self, lane: usize) -> usize {
        self.lanes.get(lane).map(|way| way.route).unwrap_or_default()
    }

    /// Opens a turn for `input`: what one read brought. Must be dropped before the next await.
    pub fn turn(&self, input: usize) -> Turn<'_> {
        let mut inner = self.inner.borrow_mut();
        inner.clocks.set(SystemTime::now());
        // What another turn gave to its forwarders is no reason for this one's sender to wait.
        self.plenty.set(None);
        let is_watched = self.taps.is_watched(Side::Received);
        let look = if is_watched { self.taps.look(Side::Received, inner.clocks.now_us()) } else { None };
        Turn { pipeline: self, inner, input, tally: InputTally::default(), look }
    }

    /// Completes once `lane` has room again. Create it right after the turn that ended with [`Offer::Full`], before any
    /// await.
    pub fn room_in(&self, lane: usize) -> impl Future<Output = ()> + '_ {
        // The turn's own end may have made room, by spilling: then nobody will call again.
        let is_blocked = self.inner.borrow().shelf.blocked.contains(&lane);
        let room = self.rooms.get(lane).filter(|_| is_blocked).map(Notify::notified);
        async move {
            if let Some(room) = room {
                room.await;
            }
        }
    }

    /// The queue with this index.
    pub fn queue(&self, index: usize) -> Option<&Queue> {
        self.queues.get(index)
    }
}
