//! Lanes: one route's queue on one shard. Records wait here, unrendered, until a forwarder takes them.
//!
//! Nothing here waits or does I/O. A lane's memory is charged against its shard's [`Budget`]: a part that is the lane's
//! own, so that no other lane can take it, and a part that all lanes of the shard share.
//!
//! From the oldest to the newest, a lane is its *front*, what is on the disk (the pipeline knows), its *tail*, and its
//! open batch. Without a spool, and with one that holds nothing, sealed batches go to the front; on a *detour* they go to
//! the tail, and from there to the spool.

use std::collections::VecDeque;
use std::mem;

use crate::batch::{BATCH_BYTES, Batch, Seq, charge_of};
use crate::receipts::Receipts;
use crate::syslog::Message;

/// Memory for the queues of one shard: half of it is divided evenly among the lanes and guaranteed to each, the other
/// half is shared, first come first served.
#[derive(Debug)]
pub struct Budget {
    guaranteed: usize,
    /// Below zero while overdrawn.
    shared_free: isize,
}

impl Budget {
    /// Divides `bytes` among `lanes`.
    pub fn new(bytes: usize, lanes: usize) -> Self {
        Self { guaranteed: bytes / 2 / lanes.max(1), shared_free: (bytes / 2) as isize }
    }

    /// Divides `bytes` anew, among `lanes` lanes: all of them together hold `held`.
    pub fn divide(&mut self, bytes: usize, lanes: usize, held: impl Iterator<Item = usize>) {
        self.guaranteed = bytes / 2 / lanes.max(1);
        let taken: isize = held.map(|held| excess(held, self)).sum();
        self.shared_free = (bytes / 2) as isize - taken;
    }

    /// Bytes that no other lane can take from a lane.
    pub fn guaranteed(&self) -> usize {
        self.guaranteed
    }
}

/// One route's queue on one shard.
#[derive(Debug)]
pub struct Lane {
    open: Batch,
    /// Sealed, to be sent.
    front: VecDeque<Batch>,
    front_bytes: usize,
    /// Sealed, behind what is on the disk.
    tail: VecDeque<Batch>,
    /// Bytes charged: waiting, and written but not acknowledged.
    held: usize,
    /// Bytes waiting: open batch, front, tail, and what is on its way to the disk.
    waiting: usize,
    /// Where sealed batches go: to the tail.
    detour: bool,
    /// The open batch is sealed at so many bytes.
    seal_at: usize,
    /// Of the batch that was sealed last.
    last: Seq,
    shard: usize,
    /// Of messages that somebody waits to hear of.
    receipts: Receipts,
}

impl Lane {
    /// An empty lane of a shard.
    pub fn new(shard: usize) -> Self {
        Self {
            open: Batch::default(),
            front: VecDeque::new(),
            front_bytes: 0,
            tail: VecDeque::new(),
            held: 0,
            waiting: 0,
            detour: false,
            seal_at: BATCH_BYTES,
            last: Seq::default(),
            shard,
            receipts: Receipts::default(),
        }
    }

    /// Whether one more message may be appended: the lane is below what is guaranteed to it, or the shared half has
    /// something left. The message may go beyond that, by itself alone: no size of message can starve behind smaller ones.
    pub fn has_room(&self, budget: &Budget) -> bool {
        self.held < budget.guaranteed || budget.shared_free > 0
    }

    /// Whether there is room for more than one message: worth waking those who wait for it.
    pub fn has_slack(&self, budget: &Budget) -> bool {
        let slack = BATCH_BYTES.min(budget.guaranteed / 2);
        self.held + slack <= budget.guaranteed || budget.shared_free > slack as isize
    }

    /// Appends. The caller has asked [`Self::has_room`]; without room the budget is overdrawn, never the message lost.
    pub fn push(&mut self, message: &Message<'_>, input: u16, budget: &mut Budget) {
        let charge = charge_of(message);
        self.take_from(budget, charge);
        self.waiting += charge;
        self.open.push(message, input);
        if self.open.charge() >= self.seal_at {
            self.seal();
        }
    }

    /// Seals the open batch, if there is something in it: to the front, or on a detour to the tail.
    pub fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let next = Batch::like(&self.open);
        let mut batch = mem::replace(&mut self.open, next);
        batch.trim();
        // The last record's arrival is the turn's clock: nobody has to look at it again.
        self.last = self.last.next(batch.last_received_at_us().unwrap_or(0), self.shard);
        batch.seq = self.last;
        self.receipts.seal(batch.seq);
        if self.detour {
            self.tail.push_back(batch);
        } else {
            self.push_back(batch);
        }
    }

    /// Batches that are sealed from now on come after `seq`.
    pub fn come_after(&mut self, seq: Seq) {
        self.last = self.last.max(seq);
    }

    /// The oldest batch, to be sent; its bytes stay charged until [`Self::acknowledge`].
    pub fn pop(&mut self) -> Option<Batch> {
        if self.front.is_empty() && !self.detour {
            self.seal();
        }
        let batch = self.front.pop_front()?;
        self.front_bytes -= batch.charge();
        self.waiting -= batch.charge();
        Some(batch)
    }

    /// Puts a batch back in front: what was sent and may be lost. `charged` says whether its bytes still are.
    pub fn push_front(&mut self, batch: Batch, charged: bool, budget: &mut Budget) {
        if !charged {
            self.take_from(budget, batch.charge());
        }
        self.waiting += batch.charge();
        self.front_bytes += batch.charge();
        self.front.push_front(batch);
    }

    /// A sent batch is acknowledged, or given up: its bytes are no longer this lane's.
    pub fn acknowledge(&mut self, charge: usize, budget: &mut Budget) {
        let before = excess(self.held, budget);
        self.held = self.held.saturating_sub(charge);
        budget.shared_free += before - excess(self.held, budget);
    }

    /// Bytes that a forwarder can be given now.
    pub fn sendable(&self) -> usize {
        if self.detour { self.front_bytes } else { self.front_bytes + self.open.charge() }
    }

    /// Bytes charged: waiting, and sent but not acknowledged.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes of batches in front.
    pub fn front_bytes(&self) -> usize {
        self.front_bytes
    }

    /// Bytes of the open batch.
    pub fn open_bytes(&self) -> usize {
        self.open.charge()
    }

    /// Arrival of the open batch's oldest record, microseconds since the Unix epoch.
    pub fn open_since_us(&self) -> Option<i64> {
        self.open.received_at_us()
    }

    /// Arrival of the oldest record that waits here, microseconds since the Unix epoch.
    pub fn waiting_since_us(&self) -> Option<i64> {
        let batches = [self.front.front(), self.tail.front(), Some(&self.open)];
        batches.into_iter().flatten().filter_map(Batch::received_at_us).min()
    }

    /// Whether everything that is charged waits here: nothing was sent that is not acknowledged.
    pub fn is_all_waiting(&self) -> bool {
        self.held == self.waiting
    }

    /// What senders wait to hear of.
    pub fn receipts(&mut self) -> &mut Receipts {
        &mut self.receipts
    }

    fn take_from(&mut self, budget: &mut Budget, charge: usize) {
        let before = excess(self.held, budget);
        self.held += charge;
        budget.shared_free -= excess(self.held, budget) - before;
    }

    fn push_back(&mut self, batch: Batch) {
        self.front_bytes += batch.charge();
        self.front.push_back(batch);
    }
}

/// A lane with a spool behind it.
impl Lane {
    /// Whether sealed batches go to the tail.
    pub fn is_on_detour(&self) -> bool {
        self.detour
    }

    /// From now on sealed batches, of about `seal_at` bytes, go to the tail. The open batch is one of them.
    pub fn leave_for_detour(&mut self, seal_at: usize) {
        self.detour = true;
        self.seal_at = seal_at;
    }

    /// From now on sealed batches go to the front, and the tail with them: nothing is on the disk that must go first.
    pub fn end_detour(&mut self) {
        self.detour = false;
        self.seal_at = BATCH_BYTES;
        while let Some(batch) = self.tail.pop_front() {
            self.push_back(batch);
        }
    }

    /// Seq of the oldest batch in the tail.
    pub fn tail_seq(&self) -> Option<Seq> {
        self.tail.front().map(|batch| batch.seq)
    }

    /// Takes the tail's oldest batch, to be stored. Its bytes stay charged, and count as waiting.
    pub fn pop_tail(&mut self) -> Option<Batch> {
        self.tail.pop_front()
    }

    /// Puts a batch that could not be stored into the tail, where its seq belongs.
    pub fn insert_tail(&mut self, batch: Batch) {
        let at = self.tail.partition_point(|other| other.seq < batch.seq);
        self.tail.insert(at, batch);
    }

    /// Puts a batch that could not be stored among those to be sent.
    pub fn insert_front(&mut self, batch: Batch) {
        self.front_bytes += batch.charge();
        let at = self.front.partition_point(|other| other.seq < batch.seq);
        self.front.insert(at, batch);
    }

    /// Appends to the front a batch whose bytes are charged and count as waiting.
    pub fn append_front(&mut self, batch: Batch) {
        self.push_back(batch);
    }

    /// Appends to the front a batch that came from the disk.
    pub fn push_read(&mut self, batch: Batch, budget: &mut Budget) {
        self.take_from(budget, batch.charge());
        self.waiting += batch.charge();
        // Where the clock went back between two runs, what comes now must still go behind.
        self.last = self.last.max(batch.seq);
        self.push_back(batch);
    }

    /// Cuts the front off behind its first `keep` bytes. What is cut stays charged, and counts as waiting. Keeps one
    /// batch at least unless `keep` is zero, so that no size of batch can starve.
    pub fn cut_front(&mut self, keep: usize) -> VecDeque<Batch> {
        let mut kept = 0;
        let mut beyond = |(at, batch): (usize, &Batch)| {
            kept += batch.charge();
            kept > keep && (at > 0 || keep == 0)
        };
        let at = self.front.iter().enumerate().position(&mut beyond).unwrap_or(self.front.len());
        self.cut_front_at(at)
    }

    /// Cuts off the front what is newer than `seq`. What is cut stays charged, and counts as waiting.
    pub fn cut_front_after(&mut self, seq: Seq) -> VecDeque<Batch> {
        let at = self.front.iter().position(|batch| batch.seq > seq).unwrap_or(self.front.len());
        self.cut_front_at(at)
    }

    /// Cuts the oldest off the front, so that at most the newest `keep` bytes of it stay. What is cut stays charged, and
    /// counts as waiting.
    pub fn cut_oldest(&mut self, keep: usize) -> VecDeque<Batch> {
        let mut left = self.front_bytes;
        let stays = |batch: &Batch| {
            let fits = left <= keep;
            left -= batch.charge();
            fits
        };
        let at = self.front.iter().position(stays).unwrap_or(self.front.len());
        let kept = self.cut_front_at(at);
        let cut = mem::replace(&mut self.front, kept);
        self.front_bytes = self.front.iter().map(Batch::charge).sum();
        cut
    }

    /// Batches of so many bytes are to come from another lane: they are charged to this one, and wait in it.
    pub fn adopt(&mut self, charge: usize, budget: &mut Budget) {
        self.take_from(budget, charge);
        self.waiting += charge;
    }

    fn cut_front_at(&mut self, at: usize) -> VecDeque<Batch> {
        let cut = self.front.split_off(at);
        self.front_bytes -= cut.iter().map(Batch::charge).sum::<usize>();
        cut
    }

    /// A batch that waited is stored, or gone: its bytes are no longer this lane's.
    pub fn forget(&mut self, charge: usize, budget: &mut Budget) {
        self.waiting = self.waiting.saturating_sub(charge);
        self.acknowledge(charge, budget);
    }

    /// Arrival of the oldest record that is to be sent and is in memory alone, microseconds since the Unix epoch.
    pub fn oldest_unstored_us(&self) -> Option<i64> {
        let open = if self.detour { None } else { Some(&self.open) };
        self.front.iter().chain(open).find(|batch| !batch.stored && !batch.is_empty())?.received_at_us()
    }

    /// Arrival of the tail's oldest record, microseconds since the Unix epoch.
    pub fn tail_since_us(&self) -> Option<i64> {
        self.tail.front()?.received_at_us()
    }

    /// Whether something is in memory alone, what is on its way to the disk apart.
    pub fn has_unstored(&self) -> bool {
        !self.open.is_empty() || !self.tail.is_empty() || self.front.iter().any(|batch| !batch.stored)
    }

    /// Takes everything out: front, tail and open batch. What is taken stays charged, and counts as waiting.
    pub fn drain(&mut self) -> impl Iterator<Item = Batch> {
        self.seal();
        self.front_bytes = 0;
        mem::take(&mut self.front).into_iter().chain(mem::take(&mut self.tail))
    }
}

/// What a lane that holds `held` bytes takes of the shared half.
fn excess(held: usize, budget: &Budget) -> isize {
    held.saturating_sub(budget.guaranteed) as isize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syslog::Fields;

    fn push(lane: &mut Lane, octets: usize, budget: &mut Budget) {
        let (fields, raw) = (Fields::default(), vec![b'x'; octets]);
        let message = Message { fields: &fields, raw: &raw, received_at_us: 0, peer: None, input: "lan" };
        lane.push(&message, 0, budget);
    }

    #[test]
    fn a_lane_keeps_what_is_guaranteed_to_it_when_another_has_overdrawn_the_shared_half() {
        let mut budget = Budget::new(400_000, 2);
        let (mut broken, mut healthy) = (Lane::new(0), Lane::new(0));
        while broken.has_room(&budget) {
            push(&mut broken, 1_000, &mut budget);
        }
        // Its connection breaks: what was acknowledged, and charged to nobody, comes back.
        let mut window = Lane::new(0);
        push(&mut window, 150_000, &mut Budget::new(1 << 30, 1));
        broken.push_front(window.pop().unwrap(), false, &mut budget);
        assert!(budget.shared_free < 0 && !broken.has_room(&budget));
        for _ in 0..30 {
            assert!(healthy.has_room(&budget));
            push(&mut healthy, 1_000, &mut budget);
        }
        assert!(healthy.has_slack(&budget));
    }

    #[test]
    fn what_is_taken_is_given_back_to_the_byte() {
        let mut budget = Budget::new(100_000, 1);
        let mut lane = Lane::new(0);
        let mut pushed = 0;
        while lane.has_room(&budget) {
            push(&mut lane, 300 + pushed, &mut budget);
            pushed += 1;
        }
        let mut popped = 0;
        while let Some(batch) = lane.pop() {
            popped += batch.len();
            lane.acknowledge(batch.charge(), &mut budget);
        }
        assert_eq!((popped, lane.waiting, lane.held), (pushed, 0, 0));
        assert_eq!(budget.shared_free, 50_000);
    }

    #[test]
    fn batches_come_back_in_order_after_a_break() {
        let mut budget = Budget::new(10 << 20, 1);
        let mut lane = Lane::new(0);
        for octets in [70_000, 80_000, 90_000] {
            push(&mut lane, octets, &mut budget);
        }
        let sent = [lane.pop().unwrap(), lane.pop().unwrap()];
        let order: Vec<usize> = sent.iter().map(Batch::charge).collect();
        for batch in sent.into_iter().rev() {
            lane.push_front(batch, true, &mut budget);
        }
        assert_eq!([lane.pop().unwrap().charge(), lane.pop().unwrap().charge()][..], order);
        assert_eq!(lane.pop().unwrap().len(), 1);
        assert!(lane.pop().is_none());
    }
}
