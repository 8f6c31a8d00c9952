//! From a frame to its lanes: sanitize, parse, route, append. One a shard, shared by its receivers and forwarders.
//!
//! Receivers open a [`Turn`] for what one system call brought; the clock is read and the meters are updated once a turn,
//! never per message. Forwarders take batches out and give them back as acknowledged, released or to be sent again.
//! Everything runs on the shard's thread: no locks, and no borrow is held across an await.

use std::cell::{Cell, RefCell, RefMut};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::batch::{Batch, charge_of};
use crate::config::{Action, Config, Oversize};
use crate::lane::{Budget, Lane};
use crate::metrics::Meters;
use crate::route::{Matcher, Rule};
use crate::syslog::frame::Flaw;
use crate::syslog::{Frame, Message, parse, sanitize};

use clocks::Clocks;

mod clocks;

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

/// The batches of one forwarder: which lanes it serves, and how it wants to be woken.
#[derive(Debug)]
pub struct Queue {
    lanes: Vec<usize>,
    waiting: Cell<usize>,
    wake_above: Cell<usize>,
    wake: Notify,
    next: Cell<usize>,
    /// A connection is up and takes what it is given.
    flowing: Cell<bool>,
    thinned: Notify,
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
    /// The queue that the last turn gave plenty to.
    plenty: Cell<Option<usize>>,
    oversize: Vec<Oversize>,
    input_names: Vec<String>,
    meters: Arc<Meters>,
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
}

/// What one turn did to one lane.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    routed: u64,
    dropped: u64,
    bytes: usize,
}

/// What one turn did to its input.
#[derive(Debug, Default)]
struct InputTally {
    received: u64,
    bytes: u64,
    rejected_oversize: u64,
    rejected_peer: u64,
    discarded: u64,
    unmatched: u64,
    routed: u64,
    truncated: u64,
    unfinished: u64,
}

impl Pipeline {
    /// One shard's pipeline. `budget_bytes` are its queues' memory.
    pub fn new(config: &Config, budget_bytes: usize, meters: Arc<Meters>) -> Self {
        let mut lanes = Vec::new();
        let mut lane_of = Vec::new();
        let mut queues: Vec<Queue> = Vec::new();
        for output in &config.outputs {
            queues.extend((0..output.connections_per_shard.max(1)).map(|_| Queue::new()));
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
        let rules = config.routes.iter();
        let rules: Vec<Rule> =
            rules.map(|route| Rule { conditions: route.conditions.clone(), continues: route.continues }).collect();
        Self {
            inner: RefCell::new(Inner {
                matcher: Matcher::new(&rules),
                hits: Vec::new(),
                lane_of,
                scratch: Vec::new(),
                clocks: Clocks::new(config.inputs.iter().map(|input| input.timezone.clone()).collect()),
                shelf: Shelf {
                    lanes: lanes.iter().map(|_| Lane::default()).collect(),
                    budget: Budget::new(budget_bytes, lanes.len()),
                    tallies: vec![Tally::default(); lanes.len()],
                    touched: Vec::new(),
                    blocked: Vec::new(),
                },
                discards: vec![0; config.routes.len()],
                unmatched: Vec::new(),
            }),
            rooms: lanes.iter().map(|_| Notify::new()).collect(),
            lanes,
            queues,
            plenty: Cell::new(None),
            oversize: config.inputs.iter().map(|input| input.oversize).collect(),
            input_names: config.inputs.iter().map(|input| input.name.clone()).collect(),
            meters,
        }
    }

    /// The meters it counts into.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// Names of the inputs, by index.
    pub fn input_names(&self) -> &[String] {
        &self.input_names
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
        Turn { pipeline: self, inner, input, tally: InputTally::default() }
    }

    /// Completes once `lane` has room again. Create it right after [`Offer::Full`], before any await.
    pub fn room_in(&self, lane: usize) -> impl Future<Output = ()> + '_ {
        let room = self.rooms.get(lane).map(Notify::notified);
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

    /// Takes batches of the queue's lanes, one a lane in turn, until `bytes` are reached or nothing waits.
    pub fn take(&self, queue: &Queue, bytes: usize, mut to: impl FnMut(usize, Batch)) {
        let mut inner = self.inner.borrow_mut();
        let shelf = &mut inner.shelf;
        let mut taken = 0;
        let mut empty = 0;
        while taken < bytes && empty < queue.lanes.len() {
            let turn = queue.next.get();
            queue.next.set((turn + 1) % queue.lanes.len());
            let popped = queue.lanes.get(turn).and_then(|lane| Some((*lane, shelf.lanes.get_mut(*lane)?.pop()?)));
            let Some((lane, batch)) = popped else {
                empty += 1;
                continue;
            };
            empty = 0;
            let charge = batch.charge();
            taken += charge;
            queue.waiting.set(queue.waiting.get().saturating_sub(charge));
            self.count_moved(lane, &batch, -1);
            to(lane, batch);
        }
        if queue.waiting.get() <= PLENTY_BYTES / 2 {
            queue.thinned.notify_waiters();
        }
    }

    /// Waits a moment where the turn that has just ended gave a forwarder plenty to do. Call it before any other await.
    pub async fn pace(&self) {
        let plenty = self.plenty.take().and_then(|queue| self.queues.get(queue));
        if let Some(queue) = plenty {
            // Late or not, reading goes on.
            let _elapsed = timeout(PACE_MAX, queue.thinned.notified()).await;
        }
    }

    /// A batch of `lane` is acknowledged, or given up: its memory no longer counts against the lane.
    pub fn acknowledge(&self, lane: usize, charge: usize) {
        let mut inner = self.inner.borrow_mut();
        let Shelf { lanes, budget, blocked, .. } = &mut inner.shelf;
        if let Some(lane) = lanes.get_mut(lane) {
            lane.acknowledge(charge, budget);
        }
        // Room for many messages, not for one: thousands of blocked connections must not be woken in vain.
        blocked.retain(|blocked| {
            let has_room = lanes.get(*blocked).is_none_or(|lane| lane.has_slack(budget));
            if has_room && let Some(room) = self.rooms.get(*blocked) {
                room.notify_waiters();
            }
            !has_room
        });
    }

    /// Puts a sent batch back in front of its lane, to be sent again. `charged` says whether its memory still counts
    /// against the lane. Give batches back newest first: order within the lane is kept then.
    pub fn put_back(&self, lane: usize, batch: Batch, charged: bool) {
        let mut inner = self.inner.borrow_mut();
        let shelf = &mut inner.shelf;
        self.count_moved(lane, &batch, 1);
        let queue = self.lanes.get(lane).and_then(|(_, queue)| self.queues.get(*queue));
        if let Some(queue) = queue {
            queue.waiting.set(queue.waiting.get() + batch.charge());
        }
        if let Some(lane) = shelf.lanes.get_mut(lane) {
            lane.push_front(batch, charged, &mut shelf.budget);
        }
    }

    /// Counts what still waits in any queue as dropped: see [`Self::drop_waiting`].
    pub fn drop_all_waiting(&self) -> u64 {
        self.queues.iter().map(|queue| self.drop_waiting(queue)).sum()
    }

    /// Counts what still waits in the queue as dropped: the stop's deadline has passed. Returns how many messages.
    pub fn drop_waiting(&self, queue: &Queue) -> u64 {
        let mut dropped = 0;
        self.take(queue, usize::MAX, |lane, batch| {
            dropped += batch.len() as u64;
            if let Some(meters) = self.meters.routes.get(self.route_of(lane)) {
                meters.in_flight.add(-(batch.len() as i64));
                meters.dropped_shutdown.add(batch.len() as u64);
            }
        });
        dropped
    }

    /// Moves a batch's messages between `waiting` and `in flight`; `sign` 1 is towards waiting.
    fn count_moved(&self, lane: usize, batch: &Batch, sign: i64) {
        if let Some(meters) = self.meters.routes.get(self.route_of(lane)) {
            let messages = sign * batch.len() as i64;
            meters.waiting.add(messages);
            meters.waiting_bytes.add(sign * batch.charge() as i64);
            meters.in_flight.add(-messages);
        }
    }
}

/// Which queue serves a route: a route stays on one connection, so that its order is kept.
fn queue_for(config: &Config, output: usize, route: usize) -> usize {
    let per_shard = |output: &crate::config::Output| output.connections_per_shard.max(1);
    let before: usize = config.outputs.iter().take(output).map(per_shard).sum();
    before + route % config.outputs.get(output).map_or(1, per_shard)
}

impl Queue {
    fn new() -> Self {
        Self {
            lanes: Vec::new(),
            waiting: Cell::new(0),
            wake_above: Cell::new(usize::MAX),
            wake: Notify::new(),
            next: Cell::new(0),
            flowing: Cell::new(false),
            thinned: Notify::new(),
        }
    }

    /// Tells senders whether a connection is up.
    pub fn set_flowing(&self, flowing: bool) {
        self.flowing.set(flowing);
        self.thinned.notify_waiters();
    }

    /// Bytes of memory that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Completes once more than `bytes` wait.
    ///
    /// Cancel-safe. One waiter at a time.
    pub async fn more_than(&self, bytes: usize) {
        while self.waiting.get() <= bytes {
            self.wake_above.set(bytes);
            self.wake.notified().await;
        }
        self.wake_above.set(usize::MAX);
    }

    fn grow(&self, bytes: usize) {
        let waiting = self.waiting.get() + bytes;
        self.waiting.set(waiting);
        if waiting > self.wake_above.get() {
            self.wake_above.set(usize::MAX);
            self.wake.notify_one();
        }
    }
}

/// What one read brought, on its way into the lanes. Dropping it updates the meters and wakes the forwarders.
pub struct Turn<'a> {
    pipeline: &'a Pipeline,
    inner: RefMut<'a, Inner>,
    input: usize,
    tally: InputTally,
}

impl Turn<'_> {
    /// Takes one frame from `peer`: counts it, parses it, finds its routes and appends it to their lanes.
    pub fn offer(&mut self, frame: Frame<'_>, peer: Option<IpAddr>, when_full: WhenFull) -> Offer {
        let oversize = frame.flaw == Some(Flaw::Oversize);
        if oversize && self.pipeline.oversize.get(self.input) == Some(&Oversize::Reject) {
            self.tally.rejected_oversize += 1;
            self.count_received(frame.bytes);
            return Offer::Taken;
        }
        let Inner { matcher, hits, lane_of, scratch, clocks, shelf, discards, unmatched } = &mut *self.inner;
        let raw = sanitize(frame.bytes, scratch);
        if raw.is_empty() {
            // A bare line end is a trailer without a message.
            return Offer::Taken;
        }
        let fields = parse(raw, clocks.of(self.input));
        let input_name = self.pipeline.input_names.get(self.input).map(String::as_str).unwrap_or_default();
        let message = Message { fields: &fields, raw, received_at_us: clocks.now_us(), peer, input: input_name };
        matcher.route(&message, hits);
        let charge = charge_of(&message);
        let lanes_hit = || hits.iter().filter_map(|route| lane_of.get(usize::from(*route)).copied().flatten());
        if when_full == WhenFull::Wait
            && let Some(full) = lanes_hit().find(|lane| !shelf.has_room(*lane))
        {
            shelf.wait_for(full);
            return Offer::Full(full);
        }
        let mut forwarded = false;
        for lane in lanes_hit() {
            shelf.push(lane, &message, self.input as u16, charge, when_full);
            forwarded = true;
        }
        if forwarded {
            self.tally.routed += 1;
        } else if let Some(route) = hits.first() {
            self.tally.discarded += 1;
            if let Some(discards) = discards.get_mut(usize::from(*route)) {
                *discards += 1;
            }
        } else {
            self.tally.unmatched += 1;
            count_name(unmatched, message.program_name());
        }
        self.tally.truncated += u64::from(oversize);
        self.tally.unfinished += u64::from(frame.flaw == Some(Flaw::Unfinished));
        self.count_received(frame.bytes);
        Offer::Taken
    }

    /// Counts a message from a peer that may not send.
    pub fn reject_peer(&mut self, bytes: &[u8]) {
        self.tally.rejected_peer += 1;
        self.count_received(bytes);
    }

    fn count_received(&mut self, bytes: &[u8]) {
        self.tally.received += 1;
        self.tally.bytes += bytes.len() as u64;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let meters = &self.pipeline.meters;
        if let Some(input) = meters.inputs.get(self.input) {
            let tally = &self.tally;
            input.received.add(tally.received);
            input.received_bytes.add(tally.bytes);
            input.rejected_oversize.add(tally.rejected_oversize);
            input.rejected_peer.add(tally.rejected_peer);
            input.discarded.add(tally.discarded);
            input.unmatched.add(tally.unmatched);
            input.routed.add(tally.routed);
            input.truncated.add(tally.truncated);
            input.unfinished.add(tally.unfinished);
        }
        let Inner { shelf, discards, unmatched, .. } = &mut *self.inner;
        if self.tally.discarded > 0 {
            for (route, discarded) in meters.routes.iter().zip(discards) {
                route.discarded.add(std::mem::take(discarded));
            }
        }
        if !unmatched.is_empty() {
            meters.unmatched_programs.add(unmatched);
            unmatched.clear();
        }
        for lane in shelf.touched.drain(..) {
            let tally = shelf.tallies.get_mut(lane).map(std::mem::take).unwrap_or_default();
            self.pipeline.publish(lane, tally);
        }
    }
}

impl Pipeline {
    /// Adds a turn's tally of one lane to the meters, and wakes its forwarder.
    fn publish(&self, lane: usize, tally: Tally) {
        let Some((route, queue)) = self.lanes.get(lane) else { return };
        if let Some(meters) = self.meters.routes.get(*route) {
            meters.routed.add(tally.routed);
            meters.dropped_full.add(tally.dropped);
            meters.waiting.add((tally.routed - tally.dropped) as i64);
            meters.waiting_bytes.add(tally.bytes as i64);
        }
        if let Some(wakes) = self.queues.get(*queue) {
            wakes.grow(tally.bytes);
            if tally.bytes > 0 && wakes.flowing.get() && wakes.waiting.get() > PLENTY_BYTES {
                self.plenty.set(Some(*queue));
            }
        }
    }
}

impl Shelf {
    fn has_room(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.has_room(&self.budget))
    }

    fn wait_for(&mut self, lane: usize) {
        if !self.blocked.contains(&lane) {
            self.blocked.push(lane);
        }
    }

    /// Appends to the lane, or drops the message where it has no room.
    fn push(&mut self, index: usize, message: &Message<'_>, input: u16, charge: usize, when_full: WhenFull) {
        let (Some(lane), Some(tally)) = (self.lanes.get_mut(index), self.tallies.get_mut(index)) else { return };
        if tally.routed == 0 {
            self.touched.push(index);
        }
        tally.routed += 1;
        if when_full == WhenFull::Take || lane.has_room(&self.budget) {
            lane.push(message, input, &mut self.budget);
            tally.bytes += charge;
        } else {
            tally.dropped += 1;
        }
    }
}

/// Names that one turn counts: a turn has a few hundred messages of a few programs. A sender who makes up more must not
/// make the search long; frequent names come again in the next turn.
const NAMES_A_TURN: usize = 32;

/// Octets of a name that are kept: RFC 5424 allows 48, a hostile sender sends more.
const NAME_OCTETS_MAX: usize = 64;

/// Counts a name in a turn's short list.
fn count_name(counts: &mut Vec<(Box<[u8]>, u64)>, name: &[u8]) {
    let name = name.get(..NAME_OCTETS_MAX).unwrap_or(name);
    let has_place = counts.len() < NAMES_A_TURN;
    match counts.iter_mut().find(|(known, _)| **known == *name) {
        Some((_, count)) => *count += 1,
        None if has_place => counts.push((name.into(), 1)),
        None => {}
    }
}
