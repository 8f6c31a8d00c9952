//! A lane's ways to the disk and away from it.

use std::collections::VecDeque;

use crate::batch::{Batch, Seq};
use crate::spool::Command;

use super::{BATCH_BYTES, KEEP_BYTES, Mode, Phase, RETRY_TICKS, SMALL_BYTES, Transit, Work};

impl Work<'_> {
    /// New batches go behind what is on the disk.
    pub(super) fn go_behind(&mut self, index: usize) {
        let block_bytes = self.block_bytes(index);
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else { return };
        place.mode = Mode::Behind;
        place.is_catching_up = false;
        lane.leave_for_detour(block_bytes);
    }

    /// The spool's thread hangs: batches that it has not begun with are sent from memory.
    pub(super) fn take_back(&mut self) {
        for (lane, batch) in self.spooling.port.take_back() {
            self.on(lane, |work, lane| work.returned(lane, batch));
        }
    }

    /// The spool's next answer says that it is back: it must owe one.
    pub(super) fn ask_for_a_sign(&mut self) {
        if self.spooling.port.outstanding() > 0 || self.send(Command::Read { lane: 0, bytes: 1 }).is_err() {
            return;
        }
        if let Some(place) = self.places.lanes.get_mut(0) {
            place.begin_reading();
        }
    }

    /// A batch that was on its way is in memory alone again.
    pub(super) fn returned(&mut self, index: usize, batch: Batch) {
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else { return };
        place.transit.retain(|transit| transit.seq != batch.seq);
        if lane.is_on_detour() {
            lane.insert_tail(batch);
        } else {
            lane.insert_front(batch);
        }
    }

    /// Nothing is on the disk that is not in memory: new batches go to the front.
    pub(super) fn go_direct(&mut self, index: usize) {
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else { return };
        place.mode = Mode::Direct;
        place.has_unread = false;
        place.is_unsure = false;
        place.is_later = false;
        place.is_catching_up = false;
        if self.spooling.is_always(index) {
            lane.leave_for_detour(BATCH_BYTES);
        } else {
            lane.end_detour();
        }
    }

    /// The disk does not answer, or takes nothing: new batches go to the front, stored or not.
    pub(super) fn go_without(&mut self, index: usize) {
        let is_always = self.spooling.is_always(index);
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else { return };
        if place.mode == Mode::Direct && !is_always && !place.is_unsure {
            // It needs no disk, and is asked for one when it does.
            return;
        }
        place.mode = Mode::Without;
        place.is_unsure = false;
        place.is_later = false;
        place.is_catching_up = false;
        place.retry_ticks = RETRY_TICKS;
        lane.end_detour();
    }

    /// Goes direct where nothing is on the disk alone after all, and nothing is to be stored: refused, or dropped, or not
    /// there. `fails`: the disk takes nothing.
    pub(super) fn relax(&mut self, index: usize, fails: bool) {
        if self.places.phase == Phase::Emptying {
            return;
        }
        let Some((lane, place)) = self.shelf.lanes.get(index).zip(self.places.lanes.get(index)) else { return };
        let is_settled = place.is_clear() && (place.is_refused || lane.tail_seq().is_none());
        if !is_settled {
            return;
        }
        if fails {
            self.go_without(index);
        } else if place.mode == Mode::Behind {
            self.go_direct(index);
        }
    }

    /// Sends the tail to the disk, as far as that is wanted and there is room on the way.
    pub(super) fn store_tail(&mut self, index: usize) {
        if self.places.is_stalled || self.places.is_gone {
            return;
        }
        let is_flowing = self.is_flowing(index);
        loop {
            let has_slack = self.has_slack(index);
            let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else {
                return;
            };
            place.is_catching_up &= has_slack && (is_flowing || place.is_unsure);
            let keep = match place.mode {
                Mode::Direct if self.spooling.is_always(index) && !place.is_unsure => has_slack,
                Mode::Behind if !place.is_catching_up => false,
                _ => return,
            };
            if place.is_refused || (place.is_probing && !place.transit.is_empty()) {
                return;
            }
            let Some(batch) = lane.pop_tail() else { return };
            let first = place.transit.is_empty();
            let transit = Transit { seq: batch.seq, records: batch.len(), charge: batch.charge() };
            let durable = lane.receipts().wait_for_disk(batch.seq);
            if !keep && place.mode == Mode::Direct {
                self.go_behind(index);
            }
            match self.send(Command::Append { lane: index, batch, keep, durable, first }) {
                Ok(()) => {
                    let Some(place) = self.places.lanes.get_mut(index) else { return };
                    place.transit.push_back(transit);
                    place.has_appended |= place.reading.is_some();
                }
                Err(command) => {
                    if let (Command::Append { batch, .. }, Some(lane)) = (command, self.shelf.lanes.get_mut(index)) {
                        lane.insert_tail(batch);
                    }
                    return;
                }
            }
        }
    }

    /// A lane whose new messages go first has no room, or something has waited in it for too long: the oldest of it go to
    /// the route's own lane, which sends them by way of the disk.
    pub(super) fn spill_live(&mut self, live: usize) {
        let keep = if self.is_flowing(live) { KEEP_BYTES } else { 0 };
        self.spill_live_beyond(live, keep);
    }

    /// The same, with so much of the newest kept.
    pub(super) fn spill_live_beyond(&mut self, live: usize, keep: usize) {
        if self.places.is_stalled || self.places.is_gone {
            return;
        }
        let Some((_, own)) = self.spooling.live_pair(live) else { return };
        // What the disk does not take stays here, and senders wait.
        if self.places.phase != Phase::Emptying && !self.has_slack(own) {
            return;
        }
        let (mut cut, mut receipts) = (VecDeque::new(), Vec::new());
        self.on(live, |work, live| {
            let Some(lane) = work.shelf.lanes.get_mut(live) else { return };
            if keep == 0 {
                lane.seal();
            }
            cut = lane.cut_oldest(keep);
            receipts.extend(cut.iter().filter_map(|batch| Some((batch.seq, lane.receipts().take(batch.seq)?))));
            lane.forget(cut.iter().map(Batch::charge).sum(), &mut work.shelf.budget);
        });
        if cut.is_empty() {
            return;
        }
        self.on(own, |work, own| {
            work.go_behind(own);
            if let Some(lane) = work.shelf.lanes.get_mut(own) {
                lane.adopt(cut.iter().map(Batch::charge).sum(), &mut work.shelf.budget);
                receipts.into_iter().for_each(|(seq, receipts)| lane.receipts().put(seq, receipts));
            }
            work.put_away(own, cut);
            work.store_tail(own);
        });
        self.pipeline.wake_blocked(self.shelf);
    }

    /// Memory is short, or something has waited for too long: what is not about to be sent goes to the disk.
    pub(super) fn spill(&mut self, index: usize) {
        let keep = if self.is_flowing(index) { KEEP_BYTES } else { 0 };
        self.spill_beyond(index, keep);
    }

    /// The same, with so much kept in front.
    pub(super) fn spill_beyond(&mut self, index: usize, keep: usize) {
        if self.places.is_stalled || self.places.is_gone {
            return;
        }
        let small = SMALL_BYTES.min(self.shelf.budget.guaranteed() / 4);
        let Some(lane) = self.shelf.lanes.get_mut(index) else { return };
        let cut = lane.cut_front(keep);
        let (open, on_detour) = (lane.open_bytes(), lane.is_on_detour());
        // The open batch goes along where nobody would send it soon, or where it takes much of what there is.
        let is_stuck = keep == 0 && !on_detour && open > 0;
        let leaves = is_stuck || !cut.is_empty();
        let seals = is_stuck || ((leaves || on_detour) && open >= small);
        if !leaves && !seals {
            return;
        }
        if leaves {
            self.go_behind(index);
        }
        if seals && let Some(lane) = self.shelf.lanes.get_mut(index) {
            lane.seal();
        }
        self.put_away(index, cut);
    }

    /// Sent batches of the lane, oldest first, are to be read from the disk again: what is newer goes behind them.
    pub(in crate::pipeline) fn read_again(&mut self, index: usize, seqs: &[Seq]) {
        let Some(lowest) = seqs.first() else { return };
        let is_reachable = !self.places.is_stalled && !self.places.is_gone;
        self.on(index, |work, index| {
            if let Some(place) = work.places.lanes.get_mut(index) {
                place.has_unread = true;
                place.cursor = place.cursor.min(lowest.before());
                // Where the disk does not answer, it is asked when it does.
                place.is_unsure |= !is_reachable;
            }
            if is_reachable && let Some(lane) = work.shelf.lanes.get_mut(index) {
                let cut = lane.cut_front_after(*lowest);
                work.go_behind(index);
                work.put_away(index, cut);
            }
            work.is_away(index, seqs);
            work.forget_all(index, seqs.iter().copied());
        });
    }

    /// These are on the disk alone.
    fn is_away(&mut self, index: usize, seqs: &[Seq]) {
        if let Some(lane) = self.shelf.lanes.get_mut(index) {
            seqs.iter().for_each(|seq| lane.receipts().set_away(*seq, true));
        }
    }

    /// What was cut off the front goes to the disk: forgotten where that has it, else into the tail.
    fn put_away(&mut self, index: usize, cut: VecDeque<Batch>) {
        let lowest = cut.iter().map(|batch| batch.seq).min();
        let (mut forgotten, mut seqs) = ((0, 0), Vec::new());
        if let Some(lane) = self.shelf.lanes.get_mut(index) {
            for batch in cut {
                if batch.stored {
                    forgotten = (forgotten.0 + batch.len(), forgotten.1 + batch.charge());
                    seqs.push(batch.seq);
                } else {
                    lane.insert_tail(batch);
                }
            }
            lane.forget(forgotten.1, &mut self.shelf.budget);
        }
        if let (Some(place), Some(lowest)) = (self.places.lanes.get_mut(index), lowest) {
            place.has_unread |= forgotten.0 > 0;
            // A read that is under way from the old cursor on will not be taken.
            place.cursor = place.cursor.min(lowest.before());
        }
        self.is_away(index, &seqs);
        self.forget_all(index, seqs.into_iter());
        self.count_spooled(index, forgotten.0 as i64, forgotten.1 as i64);
        self.pipeline.wake_blocked(self.shelf);
    }
}
