//! From a frame to its lanes: sanitize, parse, route, append. One a shard, shared by its receivers and forwarders.
//!
//! Receivers open a [`Turn`] for what one system call brought; the clock is read and the meters are updated once a turn,
//! never per message. Forwarders take batches out and give them back as acknowledged, released or to be sent again.
//! Everything runs on the shard's thread: no locks, and no borrow is held across an await.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::config::{Acknowledge, Action, Config, Durability, Listen, Order, Oversize, Protocol, Route};
use crate::lane::{Budget, Lane};
use crate::metrics::Meters;
use crate::route::{Matcher, Rule};
use crate::spool::Port;
use crate::tap::{Side, Taps};

use clocks::Clocks;
pub use clocks::clock_at;
pub use queue::Queue;
pub use spooling::SPOOL_TICK;
use spooling::Spooling;
pub use turn::Turn;
use turn::{InputTally, Tally};

mod clocks;
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
    rooms: Vec<Notify>,
    /// By lane: route and queue.
    lanes: Vec<(usize, usize)>,
    queues: Vec<Queue>,
    /// What lies between the lanes and the disk; `None` without a spool.
    spooling: Option<Spooling>,
    /// The queue that the last turn gave plenty to.
    plenty: Cell<Option<usize>>,
    oversize: Vec<Oversize>,
    input_names: Vec<String>,
    meters: Arc<Meters>,
    taps: Arc<Taps>,
}

struct Inner {
    matcher: Matcher,
    hits: Vec<u16>,
    /// By route: its lane, or `None` where it discards.
    lane_of: Vec<Option<usize>>,
    scratch: Vec<u8>,
    clocks: Clocks,
    shelf: Shelf,
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
        let mut lanes = Vec::new();
        let mut lane_of = Vec::new();
        let mut queues: Vec<Queue> = Vec::new();
        for output in &config.outputs {
            // A request takes megabytes; there is no hurry to hold them in a core's cache.
            let plenty = if matches!(output.protocol, Protocol::Https(_)) { usize::MAX } else { PLENTY_BYTES };
            queues.extend((0..output.connections_per_shard.max(1)).map(|_| Queue::new(plenty)));
        }
        for (route_index, route) in config.routes.iter().enumerate() {
            let Action::Forward { output, .. } = &route.action else {
                lane_of.push(None);
                continue;
            };
            lane_of.push(Some(lanes.len()));
            let queue = queue_for(config, *output, route_index);
            if let Some(queue) = queues.get_mut(queue) {
                queue.lanes.push(lanes.len());
            }
            lanes.push((route_index, queue));
        }
        let of_spool = lanes.len();
        let lives = live_lanes(config, &mut lanes, &mut lane_of, &mut queues);
        let rules = config.routes.iter();
        let rules: Vec<Rule> =
            rules.map(|route| Rule { conditions: route.conditions.clone(), continues: route.continues }).collect();
        let spooling = config.spool.as_ref().zip(port);
        let spooling = spooling.map(|(spool, port)| {
            let durabilities = lanes.iter().take(of_spool).enumerate().map(|(own, (route, _))| {
                // Where new messages go first they go past the disk.
                let has_live = lives.iter().any(|pair| pair.1 == own);
                if has_live { spool.durability } else { durability_of(config, *route, spool.durability) }
            });
            let durabilities = durabilities.collect();
            Spooling::new(spool, port, durabilities, lives)
        });
        let pipeline = Self {
            inner: RefCell::new(Inner {
                matcher: Matcher::new(&rules),
                hits: Vec::new(),
                lane_of,
                scratch: Vec::new(),
                clocks: Clocks::new(config.inputs.iter().map(|input| input.timezone.clone()).collect()),
                shelf: Shelf {
                    lanes: lanes.iter().map(|_| Lane::new(shard)).collect(),
                    budget: Budget::new(budget_bytes, lanes.len()),
                    tallies: vec![Tally::default(); lanes.len()],
                    touched: Vec::new(),
                    blocked: Vec::new(),
                    receipts_dead: 0,
                },
                discards: vec![0; config.routes.len()],
                unmatched: Vec::new(),
            }),
            rooms: lanes.iter().map(|_| Notify::new()).collect(),
            lanes,
            queues,
            spooling,
            plenty: Cell::new(None),
            oversize: config.inputs.iter().map(|input| input.oversize).collect(),
            input_names: config.inputs.iter().map(|input| input.name.clone()).collect(),
            meters,
            taps: Arc::default(),
        };
        pipeline.start_behind();
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
    pub fn input_names(&self) -> &[String] {
        &self.input_names
    }

    /// How many lanes there are.
    pub fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// The route of a lane.
    pub fn route_of(&self, lane: usize) -> usize {
        self.lanes.get(lane).map(|(route, _)| *route).unwrap_or_default()
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

    /// The queue with this index (in the outputs' order, each output's connections in a row).
    pub fn queue(&self, index: usize) -> Option<&Queue> {
        self.queues.get(index)
    }
}

/// With `order: newest_first` a route has two lanes: new messages go to one that the disk is behind of, and is sent first.
/// Those that it has no room for go to the route's own, and by way of the disk. Returns pairs of both.
fn live_lanes(
    config: &Config,
    lanes: &mut Vec<(usize, usize)>,
    lane_of: &mut [Option<usize>],
    queues: &mut [Queue],
) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for own in 0..lanes.len() {
        let Some((route, index)) = lanes.get(own).copied() else { continue };
        let Some(queue) = queues.get_mut(index) else { continue };
        let order = match config.routes.get(route).map(|route| &route.action) {
            Some(Action::Forward { output, .. }) => config.outputs.get(*output).map(|output| output.order),
            _ => None,
        };
        let Some(Order::NewestFirst { backlog_share }) = order.filter(|_| config.spool.is_some()) else {
            queue.first.lanes.push(own);
            continue;
        };
        let live = lanes.len();
        lanes.push((route, index));
        if let Some(lane) = lane_of.get_mut(route) {
            *lane = Some(live);
        }
        queue.lanes.push(live);
        queue.first.lanes.push(live);
        queue.second.lanes.push(own);
        queue.second_share = usize::from(backlog_share);
        pairs.push((live, own));
    }
    pairs
}

/// How a route's lane is stored: always, where it may have messages that are acknowledged when they are.
fn durability_of(config: &Config, route: usize, usual: Durability) -> Durability {
    let asks = config.inputs.iter().filter(|input| {
        let is_relp = |listen: &Listen| matches!(listen, Listen::Relp(_) | Listen::RelpTls(_));
        input.acknowledge == Acknowledge::Spooled && input.listen.iter().any(is_relp)
    });
    let only = config.routes.get(route).map(|route| route.conditions.input.as_slice()).unwrap_or_default();
    let is_fed = asks.into_iter().any(|input| only.is_empty() || only.contains(&input.name));
    if is_fed { Durability::Always } else { usual }
}

/// Which queue serves a route: a route stays on one connection, so that its order is kept. Those of one output take its
/// queues in turn; with HTTPS there are as many queues as routes.
fn queue_for(config: &Config, output: usize, route: usize) -> usize {
    let per_shard = |output: &crate::config::Output| output.connections_per_shard.max(1);
    let before: usize = config.outputs.iter().take(output).map(per_shard).sum();
    let leads_there = |route: &&Route| matches!(route.action, Action::Forward { output: to, .. } if to == output);
    let nth = config.routes.iter().take(route).filter(leads_there).count();
    before + nth % config.outputs.get(output).map_or(1, per_shard)
}
