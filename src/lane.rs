//! Lanes: one route's queue on one shard. Records wait here, unrendered, until a forwarder takes them.
//!
//! Nothing here waits or does I/O. A lane's memory is charged against its shard's [`Budget`]: a part that is the lane's
//! own, so that no other lane can take it, and a part that all lanes of the shard share.

use std::collections::VecDeque;
use std::mem;

use crate::batch::{BATCH_BYTES, Batch, charge_of};
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
}

/// One route's queue on one shard.
#[derive(Debug, Default)]
pub struct Lane {
    open: Batch,
    sealed: VecDeque<Batch>,
    /// Bytes charged: waiting, and written but not acknowledged.
    held: usize,
    /// Bytes waiting, open batch included.
    waiting: usize,
}

impl Lane {
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
        if self.open.charge() >= BATCH_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let next = Batch::like(&self.open);
        let mut batch = mem::replace(&mut self.open, next);
        batch.trim();
        self.sealed.push_back(batch);
    }

    /// The oldest batch, to be sent; its bytes stay charged until [`Self::acknowledge`].
    pub fn pop(&mut self) -> Option<Batch> {
        if self.sealed.is_empty() && !self.open.is_empty() {
            self.seal();
        }
        let batch = self.sealed.pop_front()?;
        self.waiting -= batch.charge();
        Some(batch)
    }

    /// Puts a batch back in front: what was sent and may be lost. `charged` says whether its bytes still are.
    pub fn push_front(&mut self, batch: Batch, charged: bool, budget: &mut Budget) {
        if !charged {
            self.take_from(budget, batch.charge());
        }
        self.waiting += batch.charge();
        self.sealed.push_front(batch);
    }

    /// A sent batch is acknowledged, or given up: its bytes are no longer this lane's.
    pub fn acknowledge(&mut self, charge: usize, budget: &mut Budget) {
        let before = excess(self.held, budget);
        self.held = self.held.saturating_sub(charge);
        budget.shared_free += before - excess(self.held, budget);
    }

    /// Bytes waiting to be sent.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn take_from(&mut self, budget: &mut Budget, charge: usize) {
        let before = excess(self.held, budget);
        self.held += charge;
        budget.shared_free -= excess(self.held, budget) - before;
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
        let (mut broken, mut healthy) = (Lane::default(), Lane::default());
        while broken.has_room(&budget) {
            push(&mut broken, 1_000, &mut budget);
        }
        // Its connection breaks: what was acknowledged, and charged to nobody, comes back.
        let mut window = Lane::default();
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
        let mut lane = Lane::default();
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
        assert_eq!((popped, lane.waiting(), lane.held), (pushed, 0, 0));
        assert_eq!(budget.shared_free, 50_000);
    }

    #[test]
    fn batches_come_back_in_order_after_a_break() {
        let mut budget = Budget::new(10 << 20, 1);
        let mut lane = Lane::default();
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
