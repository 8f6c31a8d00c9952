//! The forwarders' side: batches out of the lanes, and back as acknowledged, released or to be sent again.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::timeout;

use crate::batch::{Batch, Seq, Stub};
use crate::lane::Lane;
use crate::receipts::Account;
use crate::tap::{Look, Side};

use super::queue::Ring;
use super::{PACE_MAX, Pipeline, Queue, Shelf};

/// Receipts of senders that have gone, which may lie in lanes: 64 KiB of them.
const RECEIPTS_DEAD_MAX: usize = 4096;

/// Lanes that are sent second are owed no more than this, and have had no more in advance.
const OWED_MAX: isize = 512 * 1024;

impl Pipeline {
    /// Takes batches of the queue's lanes, one a lane in turn, until `bytes` are reached or nothing waits. Lanes that are sent
    /// second have their share of the bytes, and what the first leave.
    pub fn take(&self, queue: &Queue, bytes: usize, mut to: impl FnMut(usize, Batch)) {
        if !self.taps.is_watched(Side::Sent) {
            return self.take_batches(queue, bytes, to);
        }
        let (mut look, names) = (self.look_at_sent(), self.input_names());
        self.take_batches(queue, bytes, |lane, batch| {
            if let Some(look) = &mut look {
                look.sent(self.route_of(lane) as u16, &batch, &names);
            }
            to(lane, batch);
        });
    }

    /// The present is read here: a turn may be long ago, where the backlog of a disk is sent.
    #[cold]
    fn look_at_sent(&self) -> Option<Box<Look>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.taps.look(Side::Sent, i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
    }

    fn take_batches(&self, queue: &Queue, bytes: usize, mut to: impl FnMut(usize, Batch)) {
        let mut inner = self.inner.borrow_mut();
        let shelf = &mut inner.shelf;
        let mut owed = queue.owed.get();
        let due = self.take_of(shelf, queue, &queue.second, bytes.min(owed.max(0) as usize), &mut to);
        let first = self.take_of(shelf, queue, &queue.first, bytes.saturating_sub(due), &mut to);
        let spare = self.take_of(shelf, queue, &queue.second, bytes.saturating_sub(due + first), &mut to);
        // Batches are larger than some writes, and than some shares of them: what one write cannot give, a later one does.
        let share = queue.second_share.get();
        owed += (first * share / (100 - share).max(1)) as isize - (due + spare) as isize;
        queue.owed.set(owed.clamp(-OWED_MAX, OWED_MAX));
        if self.live_bytes(shelf, queue) <= queue.plenty / 2 {
            queue.thinned.notify_waiters();
        }
        if let Some(spooling) = &self.spooling {
            self.work(spooling, shelf).read_ahead(queue);
        }
    }

    /// The same of some of its lanes; how many bytes.
    fn take_of(
        &self,
        shelf: &mut Shelf,
        queue: &Queue,
        lanes: &Ring,
        bytes: usize,
        to: &mut impl FnMut(usize, Batch),
    ) -> usize {
        let (mut taken, mut empty) = (0, 0);
        while taken < bytes && empty < lanes.len() {
            let popped = lanes.turn().and_then(|lane| Some((lane, shelf.lanes.get_mut(lane)?.pop()?)));
            let Some((lane, batch)) = popped else {
                empty += 1;
                continue;
            };
            empty = 0;
            let charge = batch.charge();
            taken += charge;
            queue.shrink(charge);
            self.count_moved(lane, &batch, -1);
            to(lane, batch);
        }
        taken
    }

    /// Bytes that wait in the queue and did not come from the disk: reading ahead is no reason for senders to wait.
    pub(super) fn live_bytes(&self, shelf: &Shelf, queue: &Queue) -> usize {
        let Some(spooling) = &self.spooling else { return queue.waiting() };
        let lanes = queue.lanes();
        let behind = lanes.iter().filter(|lane| spooling.is_behind(**lane));
        let read = behind.filter_map(|lane| shelf.lanes.get(*lane)).map(Lane::front_bytes);
        queue.waiting().saturating_sub(read.sum())
    }

    /// Tells the meters since when each route's messages wait on this shard, the `shard`-th.
    pub fn tell_ages(&self, shard: usize) {
        let inner = self.inner.borrow();
        let ages = &self.meters().ages;
        let mut oldest = vec![None; ages.len()];
        for (index, lane) in inner.shelf.lanes.iter().enumerate() {
            let in_transit = self.spooling.as_ref().and_then(|spooling| spooling.in_transit_since_us(index));
            // With `order: newest_first` a route has two lanes.
            let Some(oldest) = oldest.get_mut(self.route_of(index)) else { continue };
            *oldest = [*oldest, lane.waiting_since_us(), in_transit].into_iter().flatten().min();
        }
        ages.iter().zip(oldest).for_each(|(ages, oldest)| ages.set(shard, oldest));
    }

    /// Waits a moment where the turn that has just ended gave a forwarder plenty to do. Call it before any other await.
    pub async fn pace(&self) {
        let plenty = self.plenty.take().and_then(|queue| self.queues.get(queue));
        if let Some(queue) = plenty {
            // Late or not, reading goes on.
            let _elapsed = timeout(PACE_MAX, queue.thinned.notified()).await;
        }
    }

    /// Tells senders, and the spool, whether the queue's connection is up.
    pub fn set_flowing(&self, queue: &Queue, flowing: bool) {
        queue.set_flowing(flowing);
        self.with_spool(|work| work.read_ahead(queue));
    }

    /// A batch of `lane` is acknowledged, or given up: its memory no longer counts against the lane.
    pub fn acknowledge(&self, lane: usize, charge: usize) {
        let mut inner = self.inner.borrow_mut();
        let shelf = &mut inner.shelf;
        if let Some(lane) = shelf.lanes.get_mut(lane) {
            lane.acknowledge(charge, &mut shelf.budget);
        }
        self.wake_blocked(shelf);
    }

    /// Lets senders go on whose lanes have room again.
    pub(super) fn wake_blocked(&self, shelf: &mut Shelf) {
        let Shelf { lanes, budget, blocked, .. } = shelf;
        // Room for many messages, not for one: thousands of blocked connections must not be woken in vain.
        blocked.retain(|blocked| {
            let has_room = lanes.get(*blocked).is_none_or(|lane| lane.has_slack(budget));
            if has_room && let Some(room) = self.rooms.get(*blocked) {
                room.notify_waiters();
            }
            !has_room
        });
    }

    /// A batch was acknowledged for the first time. See [`Batch::inherited`].
    pub fn settle(&self, lane: usize, batch: &Batch) {
        if batch.inherited {
            self.with_spool(|work| work.settle(lane, batch.seq));
        }
    }

    /// A batch is released: the far end has it, but for so many messages that it refused. Where the spool holds it, it may
    /// forget it.
    pub fn release(&self, lane: usize, stub: Stub, refused: usize) {
        if let Some(meters) = self.meters.routes.get(self.route_of(lane)) {
            meters.in_flight.add(-(stub.records as i64));
            meters.released.add(stub.records.saturating_sub(refused) as u64);
            meters.dropped_refused.add(refused as u64);
        }
        if let Some(lane) = self.inner.borrow_mut().shelf.lanes.get_mut(lane) {
            lane.receipts().settle(stub.seq);
        }
        if stub.stored {
            self.with_spool(|work| work.release(lane, stub.seq));
        }
    }

    /// A sender has gone: nobody waits for what it is not told yet. Its receipts go when they are many, all at once.
    pub fn forget(&self, account: &Account) {
        let mut inner = self.inner.borrow_mut();
        let shelf = &mut inner.shelf;
        shelf.receipts_dead += account.outstanding();
        account.close();
        let receipts: usize = shelf.lanes.iter_mut().map(|lane| lane.receipts().len()).sum();
        if shelf.receipts_dead > RECEIPTS_DEAD_MAX.max(receipts / 2) {
            shelf.receipts_dead = 0;
            shelf.lanes.iter_mut().for_each(|lane| lane.receipts().sweep());
        }
    }

    /// Sent batches of a lane, oldest first, of which the disk alone has the records: they are to be sent again, and what
    /// is newer behind them. Call it once all that memory has of them was [put back](Self::put_back).
    pub fn read_again(&self, lane: usize, stubs: impl Iterator<Item = Stub>) {
        let seqs: Vec<Seq> = stubs.inspect(|stub| self.leave(lane, *stub)).map(|stub| stub.seq).collect();
        self.with_spool(|work| work.read_again(lane, &seqs));
    }

    /// Puts a sent batch back in front of its lane, to be sent again. `charged` says whether its memory still counts
    /// against the lane. Give batches back newest first: order within the lane is kept then.
    pub fn put_back(&self, lane: usize, batch: Batch, charged: bool) {
        let mut inner = self.inner.borrow_mut();
        let shelf = &mut inner.shelf;
        self.count_moved(lane, &batch, 1);
        let queue = self.lanes.get(lane).and_then(|way| self.queues.get(way.queue.get()));
        if let Some(queue) = queue {
            queue.grow(batch.charge());
        }
        if let Some(lane) = shelf.lanes.get_mut(lane) {
            lane.push_front(batch, charged, &mut shelf.budget);
        }
    }

    /// Counts what still waits in any queue as dropped: see [`Self::drop_waiting`].
    pub fn drop_all_waiting(&self) -> u64 {
        self.queues.iter().map(|queue| self.drop_waiting(queue)).sum()
    }

    /// Counts what still waits in the queue, and is not on the disk, as dropped: the stop's deadline has passed. Returns
    /// how many messages.
    pub fn drop_waiting(&self, queue: &Queue) -> u64 {
        let mut inner = self.inner.borrow_mut();
        let shelf = &mut inner.shelf;
        let mut dropped = 0;
        for index in queue.lanes().iter() {
            let in_transit = self.spooling.as_ref().map_or((0, 0), |spooling| spooling.give_up(*index));
            let (Some(lane), Some(meters)) =
                (shelf.lanes.get_mut(*index), self.meters.routes.get(self.route_of(*index)))
            else {
                continue;
            };
            queue.shrink(lane.sendable());
            let (mut records, mut bytes) = in_transit;
            let mut stored = 0;
            for batch in lane.drain() {
                if batch.stored {
                    stored += batch.len();
                } else {
                    records += batch.len();
                }
                bytes += batch.charge();
            }
            lane.forget(bytes, &mut shelf.budget);
            meters.waiting.add(-((records + stored) as i64));
            meters.waiting_bytes.add(-(bytes as i64));
            meters.spooled.add(stored as i64);
            meters.dropped_shutdown.add(records as u64);
            dropped += records as u64;
        }
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
