//! Between a shard's lanes and the disk: which batches go there, and when they come back.
//!
//! By the age of its batches, a lane is what is in flight, its front, what is on the disk and not in memory, what is on
//! its way there, its tail, and its open batch. The lane's *cursor* is the border in the middle: whatever is stored and in
//! memory as well is not after it, whatever is on the disk alone is. Reading raises the cursor; forgetting what was read
//! lowers it. Nothing here waits for the disk.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::batch::{BATCH_BYTES, Seq};
use crate::config::{self, Durability};
use crate::lane::Lane;
use crate::spool::{Command, Port};

use super::{Pipeline, Queue, Shelf};
use layout::ByLane;

mod answers;
mod layout;
mod moves;
mod stopping;
#[cfg(test)]
mod tests;

/// A lane reads ahead until so much is in front of it: a few writes' worth, which a disk needs to be ahead of the network.
const AHEAD_BYTES: usize = 512 * 1024;

/// Memory that one read may bring.
const READ_BYTES: usize = 256 * 1024;

/// Reads of one queue that are under way at most.
const READS_MAX: usize = 4;

/// A lane that spills keeps so much in front while its connection is up. A read more than a lane may read ahead, so that
/// what was just read is not forgotten at once.
const KEEP_BYTES: usize = AHEAD_BYTES + READ_BYTES;

/// What goes to the disk anyway is sealed at up to so many bytes: larger blocks compress better, and are fewer.
const BLOCK_BYTES: usize = 256 * 1024;

/// An open batch that goes to the disk is worth a block before its time when it holds so much and memory is short.
const SMALL_BYTES: usize = 16 * 1024;

/// How long a record may wait in an open batch that goes to the disk.
const OPEN_MAX: Duration = Duration::from_secs(1);

/// How often [`Pipeline::spool_tick`] is to be called.
pub const SPOOL_TICK: Duration = Duration::from_millis(100);

/// Ticks after which a lane that goes on without the spool asks whether it is back.
const RETRY_TICKS: u32 = 10;

/// One shard's side of the spool.
pub(super) struct Spooling {
    port: Port,
    /// By lane.
    durabilities: RefCell<Vec<Durability>>,
    /// A lane goes to the disk when its oldest waiting record is older, and on without the spool when that has not
    /// answered for so long.
    patience: Duration,
    /// Something lies in an open batch that must be stored before it is sent.
    lingering: Notify,
    is_lingering: Cell<bool>,
    /// Lanes of new messages that nothing on the disk goes before, each with the lane that what it has no room for goes to.
    lives: RefCell<Vec<(usize, usize)>>,
    places: RefCell<Places>,
}

struct Places {
    lanes: ByLane,
    /// Releases and the like that found no room: sent before anything else. As many as there are stored batches in memory,
    /// at most.
    unsent: VecDeque<Command>,
    /// Ticks since the spool last answered, or was asked while it owed nothing.
    silent_ticks: u32,
    /// It has not answered for longer than our patience.
    is_stalled: bool,
    /// Its thread has ended.
    is_gone: bool,
    phase: Phase,
}

/// How far the stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Nothing is read any more; forwarders still send what is in memory.
    Closing,
    /// Forwarders have ended: everything goes to the disk.
    Emptying,
}

/// Where new batches of a lane go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// To the front: nothing is on the disk that is not in memory. With `durability: always` by way of the disk.
    Direct,
    /// To the disk: it has older ones, or may have.
    Behind,
    /// To the front: the disk does not answer, or does not take them.
    Without,
}

/// A lane's relation to the disk.
#[derive(Debug)]
struct Place {
    mode: Mode,
    /// What is stored and in memory is not after it, what is on the disk alone is.
    cursor: Seq,
    /// Something is on the disk alone.
    has_unread: bool,
    /// Nobody knows whether there is: ask.
    is_unsure: bool,
    /// What there is must not be read yet; the spool says when.
    is_later: bool,
    /// A read is under way, from here on.
    reading: Option<Seq>,
    /// Something was sent to the disk since that read was asked for.
    has_appended: bool,
    /// The oldest batch that was forgotten since: the read may have passed it over.
    forgotten: Option<Seq>,
    /// The reader is close behind the writer: what is sealed waits in memory for the two to meet.
    is_catching_up: bool,
    /// The spool refused a batch: no more until it says so, or a moment has passed.
    is_refused: bool,
    /// It refused the last one: the next goes alone.
    is_probing: bool,
    /// A read gave nothing though there is more: not at once again.
    is_paused: bool,
    /// On their way to the disk, in order.
    transit: VecDeque<Transit>,
    /// Ticks until a lane without the spool asks for it again.
    retry_ticks: u32,
}

/// A batch on its way to the disk.
#[derive(Debug, Clone, Copy)]
struct Transit {
    seq: Seq,
    records: usize,
    charge: usize,
}

impl Spooling {
    /// For a shard without lanes.
    pub(super) fn new(spool: &config::Spool, port: Port) -> Self {
        Self {
            port,
            patience: spool.spill_after,
            lingering: Notify::new(),
            is_lingering: Cell::new(false),
            lives: RefCell::default(),
            places: RefCell::new(Places {
                lanes: ByLane::default(),
                unsent: VecDeque::new(),
                silent_ticks: 0,
                is_stalled: false,
                is_gone: false,
                phase: Phase::Running,
            }),
            durabilities: RefCell::default(),
        }
    }

    /// A lane of new messages, with the one that what it has no room for goes to.
    fn live_pair(&self, live: usize) -> Option<(usize, usize)> {
        self.lives.borrow().iter().find(|pair| pair.0 == live).copied()
    }

    /// Whether all of the lane is stored before it is sent.
    fn is_always(&self, lane: usize) -> bool {
        self.durabilities.borrow().get(lane) == Some(&Durability::Always)
    }

    /// Whether what is in front of the lane came from the disk, or is followed by what is there.
    pub(super) fn is_behind(&self, lane: usize) -> bool {
        self.places.borrow().lanes.get(lane).is_some_and(|place| place.mode == Mode::Behind)
    }

    /// When the oldest that is on its way to the disk was sealed, microseconds since the Unix epoch.
    pub(super) fn in_transit_since_us(&self, lane: usize) -> Option<i64> {
        Some(self.places.borrow().lanes.get(lane)?.transit.front()?.seq.sealed_at_us())
    }

    /// Gives up what is on its way to the disk: messages and bytes.
    pub(super) fn give_up(&self, lane: usize) -> (usize, usize) {
        self.places.borrow_mut().lanes.get_mut(lane).map_or((0, 0), Place::give_up)
    }
}

impl Place {
    /// Nobody knows what earlier runs left: a lane begins behind it.
    fn new() -> Self {
        Self {
            mode: Mode::Behind,
            cursor: Seq::default(),
            has_unread: false,
            is_unsure: true,
            is_later: false,
            reading: None,
            has_appended: false,
            forgotten: None,
            is_catching_up: false,
            is_refused: false,
            is_probing: false,
            is_paused: false,
            transit: VecDeque::new(),
            retry_ticks: 0,
        }
    }

    fn give_up(&mut self) -> (usize, usize) {
        self.transit.drain(..).fold((0, 0), |sum, batch| (sum.0 + batch.records, sum.1 + batch.charge))
    }

    /// A read was asked for, from the cursor on.
    fn begin_reading(&mut self) {
        self.reading = Some(self.cursor);
        self.has_appended = false;
        self.forgotten = None;
    }

    /// Whether a connection would bring something from the disk.
    fn has_backlog(&self) -> bool {
        self.mode == Mode::Behind && self.has_unread && !self.is_later
    }

    /// Whether nothing is on the disk alone, nor may be.
    fn is_clear(&self) -> bool {
        let knows = !self.has_unread && !self.is_unsure && !self.is_later && self.reading.is_none();
        knows && self.transit.is_empty()
    }
}

/// The lanes and their places, while something is done to them.
pub(super) struct Work<'a> {
    pipeline: &'a Pipeline,
    spooling: &'a Spooling,
    shelf: &'a mut Shelf,
    places: RefMut<'a, Places>,
}

impl Pipeline {
    pub(super) fn work<'a>(&'a self, spooling: &'a Spooling, shelf: &'a mut Shelf) -> Work<'a> {
        Work { pipeline: self, spooling, shelf, places: spooling.places.borrow_mut() }
    }

    /// Does something to the lanes and their places; nothing without a spool.
    pub(super) fn with_spool<R>(&self, what: impl FnOnce(&mut Work<'_>) -> R) -> Option<R> {
        let spooling = self.spooling.as_ref()?;
        let mut inner = self.inner.borrow_mut();
        Some(what(&mut self.work(spooling, &mut inner.shelf)))
    }

    /// Completes when the spool may have answered: call [`Self::spool_answers`] then. Never without a spool. Cancel-safe;
    /// one waiter at a time.
    pub async fn spool_answered(&self) {
        match &self.spooling {
            Some(spooling) => spooling.port.answered().await,
            None => std::future::pending().await,
        }
    }

    /// Does what the spool's answers ask for.
    pub fn spool_answers(&self) {
        let Some(spooling) = &self.spooling else { return };
        while let Some(reply) = spooling.port.reply() {
            self.with_spool(|work| work.answer(reply));
        }
        self.with_spool(|work| work.after_answers());
    }

    /// To be called each [`SPOOL_TICK`]: looks at what has waited for too long, and tries again what was refused.
    /// `now` is the present of the records' clock.
    pub fn spool_tick(&self, now: SystemTime) {
        let now_us = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        self.spool_answers();
        self.with_spool(|work| work.tick(i64::try_from(now_us).unwrap_or(i64::MAX)));
    }

    /// Completes when there are messages that must be stored before they are sent, and whose batch is still open: give
    /// them a moment for company, then call [`Self::seal_lingering`]. Cancel-safe; one waiter at a time.
    pub async fn lingering(&self) {
        match &self.spooling {
            Some(spooling) => spooling.lingering.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Sends to the disk what [`Self::lingering`] told of.
    pub fn seal_lingering(&self) {
        self.with_spool(|work| work.seal_lingering());
    }
}

impl Work<'_> {
    /// Does something to a lane, and tells its queue what that changed.
    fn on(&mut self, lane: usize, what: impl FnOnce(&mut Self, usize)) {
        let before = self.seen_from_queue(lane);
        what(self, lane);
        let after = self.seen_from_queue(lane);
        let Some(queue) = self.queue_of(lane) else { return };
        if after.0 >= before.0 {
            queue.grow(after.0 - before.0);
        } else {
            queue.shrink(before.0 - after.0);
        }
        queue.count_backlog(before.1, after.1);
    }

    fn seen_from_queue(&self, lane: usize) -> (usize, bool) {
        let sendable = self.shelf.lanes.get(lane).map_or(0, Lane::sendable);
        (sendable, self.places.lanes.get(lane).is_some_and(Place::has_backlog))
    }

    fn queue_of(&self, lane: usize) -> Option<&Queue> {
        self.pipeline.queues.get(self.pipeline.lanes.get(lane)?.queue.get())
    }

    fn is_flowing(&self, lane: usize) -> bool {
        self.queue_of(lane).is_some_and(Queue::is_flowing)
    }

    fn has_slack(&self, lane: usize) -> bool {
        self.shelf.lanes.get(lane).is_some_and(|lane| lane.has_slack(&self.shelf.budget))
    }

    /// Messages of a lane go from memory to the disk alone, or back where negative.
    fn count_spooled(&self, lane: usize, records: i64, bytes: i64) {
        if let Some(meters) = self.pipeline.meters.routes.get(self.pipeline.route_of(lane)) {
            meters.waiting.add(-records);
            meters.waiting_bytes.add(-bytes);
            meters.spooled.add(records);
        }
    }

    /// A turn has touched these lanes.
    pub(super) fn after_turn(&mut self, touched: &[usize]) {
        for lane in touched {
            let is_short = !self.has_slack(*lane);
            let Some(state) = self.shelf.lanes.get(*lane).zip(self.places.lanes.get(*lane)) else {
                if is_short {
                    self.spill_live(*lane);
                }
                continue;
            };
            let (lane_state, place) = state;
            let must_be_stored = lane_state.is_on_detour() && lane_state.open_bytes() > 0;
            if self.spooling.is_always(*lane) && must_be_stored && !self.spooling.is_lingering.get() {
                self.spooling.is_lingering.set(true);
                self.spooling.lingering.notify_one();
            }
            let may_spill = is_short && !place.is_refused && place.mode != Mode::Without;
            let has_tail = lane_state.tail_seq().is_some();
            if may_spill {
                self.on(*lane, Self::spill);
            }
            if may_spill || has_tail {
                self.on(*lane, Self::store_tail);
            }
        }
    }

    fn seal_lingering(&mut self) {
        self.spooling.is_lingering.set(false);
        for lane in (0..self.shelf.lanes.len()).filter(|lane| self.spooling.is_always(*lane)) {
            self.on(lane, |work, lane| {
                if let Some(lane) = work.shelf.lanes.get_mut(lane).filter(|lane| lane.is_on_detour()) {
                    lane.seal();
                }
                work.store_tail(lane);
            });
        }
    }

    /// Looks at the clock.
    fn tick(&mut self, now_us: i64) {
        self.send_unsent();
        let owes = self.spooling.port.outstanding() > 0;
        self.places.silent_ticks = if owes { self.places.silent_ticks.saturating_add(1) } else { 0 };
        if !self.places.is_stalled && SPOOL_TICK * self.places.silent_ticks > self.spooling.patience {
            self.places.is_stalled = true;
            for lane in 0..self.places.lanes.len() {
                self.on(lane, Self::go_without);
            }
            self.take_back();
        }
        if self.places.is_stalled {
            self.ask_for_a_sign();
        }
        for lane in 0..self.places.lanes.len() {
            self.on(lane, |work, lane| work.tick_lane(lane, now_us));
        }
        let spooling = self.spooling;
        for (live, _) in spooling.lives.borrow().iter() {
            self.tick_live(*live, now_us);
        }
        for queue in self.pipeline.queues.iter() {
            self.read_ahead(queue);
        }
    }

    fn tick_live(&mut self, live: usize, now_us: i64) {
        let oldest_us = self.shelf.lanes.get(live).and_then(Lane::oldest_unstored_us);
        if !self.has_slack(live) || is_older(oldest_us, now_us, self.spooling.patience) {
            self.spill_live(live);
        }
    }

    fn tick_lane(&mut self, index: usize, now_us: i64) {
        let is_short = !self.has_slack(index);
        let older_than = |since_us: Option<i64>, limit: Duration| is_older(since_us, now_us, limit);
        let patience = self.spooling.patience;
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else { return };
        place.is_refused = false;
        place.is_paused = false;
        if place.mode == Mode::Without {
            place.retry_ticks = place.retry_ticks.saturating_sub(1);
            if place.retry_ticks == 0 {
                place.is_unsure = true;
                place.retry_ticks = RETRY_TICKS;
            }
            return;
        }
        if lane.is_on_detour() && older_than(lane.open_since_us(), OPEN_MAX) {
            lane.seal();
        }
        if older_than(lane.tail_since_us(), patience) {
            place.is_catching_up = false;
        }
        if is_short || older_than(lane.oldest_unstored_us(), patience) {
            self.spill(index);
        }
        self.store_tail(index);
        self.relax(index, false);
    }

    /// An inherited batch is acknowledged.
    pub(super) fn settle(&mut self, lane: usize, seq: Seq) {
        self.tell(Command::Acknowledge { lane, seq });
    }

    /// A stored batch is released.
    pub(super) fn release(&mut self, lane: usize, seq: Seq) {
        self.tell(Command::Release { lane, seq });
    }

    /// Asks for what the queue's lanes have on the disk, one lane after another.
    pub(super) fn read_ahead(&mut self, queue: &Queue) {
        if self.places.phase != Phase::Running || self.places.is_stalled || self.places.is_gone {
            return;
        }
        let lanes = queue.lanes();
        let count = lanes.len();
        let is_reading = |lane: &&usize| self.places.lanes.get(**lane).is_some_and(|place| place.reading.is_some());
        let mut reads = lanes.iter().filter(is_reading).count();
        let first = queue.next_read.get();
        for turn in (0..count).map(|at| (first + at) % count) {
            let Some(lane) = lanes.get(turn).copied() else { continue };
            let Some(bytes) = self.wanted(lane, queue.is_flowing() && reads < READS_MAX) else { continue };
            if self.send(Command::Read { lane, bytes }).is_err() {
                return;
            }
            reads += 1;
            queue.next_read.set((turn + 1) % count);
            if let Some(place) = self.places.lanes.get_mut(lane) {
                place.begin_reading();
            }
        }
    }

    /// How many bytes of the lane are to be read now. `may_read`: there is somebody to send it.
    fn wanted(&self, index: usize, may_read: bool) -> Option<usize> {
        let (lane, place) = self.shelf.lanes.get(index).zip(self.places.lanes.get(index))?;
        if place.reading.is_some() || place.is_later || place.is_paused {
            return None;
        }
        // Progress must always be possible, however little memory there is.
        let has_slack = lane.has_slack(&self.shelf.budget);
        let has_memory = has_slack || (lane.front_bytes() == 0 && lane.is_all_waiting());
        let wants = match place.mode {
            Mode::Behind => {
                place.is_unsure || (place.has_unread && may_read && has_memory && lane.front_bytes() < AHEAD_BYTES)
            }
            // What is on its way may have to be read again otherwise.
            Mode::Direct => place.is_unsure && place.transit.is_empty(),
            Mode::Without => place.is_unsure,
        };
        // One batch tells whether there is something.
        wants.then_some(if may_read && has_slack { READ_BYTES } else { 1 })
    }

    /// Sends a command; it comes back where there is no room.
    fn send(&mut self, command: Command) -> Result<(), Command> {
        self.send_unsent();
        if !self.places.unsent.is_empty() {
            return Err(command);
        }
        self.send_now(command)
    }

    fn send_now(&mut self, command: Command) -> Result<(), Command> {
        if self.spooling.port.outstanding() == 0 {
            self.places.silent_ticks = 0;
        }
        self.spooling.port.send(command)
    }

    fn send_unsent(&mut self) {
        while let Some(command) = self.places.unsent.pop_front() {
            if let Err(command) = self.send_now(command) {
                self.places.unsent.push_front(command);
                return;
            }
        }
    }

    /// Sends what must not be lost: later, where there is no room.
    fn tell(&mut self, command: Command) {
        if self.places.is_gone {
            return;
        }
        if let Err(command) = self.send(command) {
            self.places.unsent.push_back(command);
        }
    }

    /// What goes to the disk anyway is sealed at so many bytes.
    fn block_bytes(&self, lane: usize) -> usize {
        if self.spooling.is_always(lane) {
            return BATCH_BYTES;
        }
        (self.shelf.budget.guaranteed() / 4).clamp(BATCH_BYTES, BLOCK_BYTES)
    }
}

/// Whether what arrived at `since_us` has waited for `limit`.
fn is_older(since_us: Option<i64>, now_us: i64, limit: Duration) -> bool {
    since_us.is_some_and(|since| u128::try_from(now_us - since).unwrap_or(0) >= limit.as_micros())
}
