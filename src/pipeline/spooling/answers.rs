//! What the spool answers, and what follows from it.

use tracing::error;

use crate::batch::{Batch, Seq};
use crate::spool::{Command, Refusal, Reply, Rest};

use super::{Mode, Phase, Place, Work};

impl Work<'_> {
    /// Takes one answer.
    pub(super) fn answer(&mut self, reply: Reply) {
        self.places.silent_ticks = 0;
        let was_stalled = std::mem::take(&mut self.places.is_stalled);
        if was_stalled {
            for place in self.places.lanes.iter_mut().filter(|place| place.mode == Mode::Without) {
                place.is_unsure = true;
            }
        }
        let was_stalled = was_stalled && self.places.phase == Phase::Emptying;
        match reply {
            Reply::Stored { lane, batch, kept } => self.on(lane, |work, lane| work.stored(lane, batch, kept)),
            Reply::Refused { lane, batch, why } => self.on(lane, |work, lane| work.refused(lane, batch, why)),
            Reply::Dropped { lane, seq, records, charge } => {
                self.on(lane, |work, lane| work.dropped(lane, seq, records, charge));
            }
            Reply::Read { lane, batches, rest } => self.on(lane, |work, lane| work.read(lane, batches, rest)),
            Reply::Resume { lane } => self.on(lane, |work, lane| work.resume(lane)),
        }
        // What had to stay in memory can go to the disk after all.
        if was_stalled {
            self.empty_all();
        }
    }

    /// All answers are taken: asks for more.
    pub(super) fn after_answers(&mut self) {
        if self.spooling.port.is_gone() && !self.places.is_gone {
            self.lose_the_spool();
        }
        for lane in 0..self.places.lanes.len() {
            self.on(lane, Self::store_tail);
        }
        for queue in self.pipeline.queues.iter() {
            self.read_ahead(queue);
        }
    }

    /// It is on the disk; in memory too where it comes back.
    fn stored(&mut self, index: usize, mut batch: Batch, kept: bool) {
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else { return };
        let (seq, records, charge) = (batch.seq, batch.len(), batch.charge());
        place.transit.retain(|transit| transit.seq != seq);
        place.is_probing = false;
        lane.receipts().stored(seq);
        // One that was refused, and is older, must not be overtaken.
        let is_next = lane.tail_seq().is_none_or(|tail| seq < tail);
        if kept && place.mode == Mode::Direct && is_next {
            place.cursor = place.cursor.max(seq);
            batch.stored = true;
            lane.append_front(batch);
            return;
        }
        place.has_unread = true;
        let mode = place.mode;
        // It may have been read back before this answer came.
        lane.receipts().set_away(seq, seq > place.cursor);
        lane.forget(charge, &mut self.shelf.budget);
        if kept {
            place.forgotten = Some(place.forgotten.map_or(seq, |forgotten| forgotten.min(seq)));
            self.tell(Command::Forget { lane: index, seq });
        }
        self.count_spooled(index, records as i64, charge as i64);
        match mode {
            Mode::Direct => self.go_behind(index),
            Mode::Behind => {}
            Mode::Without => self.be_unsure(index),
        }
        self.pipeline.wake_blocked(self.shelf);
    }

    fn refused(&mut self, index: usize, batch: Batch, why: Refusal) {
        self.returned(index, batch);
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else { return };
        place.is_refused = true;
        place.is_probing = true;
        if lane.is_on_detour() {
            self.relax(index, why == Refusal::Failing);
        }
    }

    /// The spool has counted its messages; only the memory is ours.
    fn dropped(&mut self, index: usize, seq: Seq, records: usize, charge: usize) {
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else { return };
        place.transit.retain(|transit| transit.seq != seq);
        place.is_probing = false;
        lane.receipts().settle(seq);
        lane.forget(charge, &mut self.shelf.budget);
        if let Some(meters) = self.pipeline.meters.routes.get(self.pipeline.route_of(index)) {
            meters.waiting.add(-(records as i64));
            meters.waiting_bytes.add(-(charge as i64));
        }
        self.relax(index, false);
        self.pipeline.wake_blocked(self.shelf);
    }

    fn resume(&mut self, index: usize) {
        let Some(place) = self.places.lanes.get_mut(index) else { return };
        place.is_refused = false;
        place.is_unsure |= place.is_later || place.mode != Mode::Behind;
        place.is_later = false;
    }

    fn be_unsure(&mut self, index: usize) {
        if let Some(place) = self.places.lanes.get_mut(index) {
            place.is_unsure = true;
        }
    }

    fn read(&mut self, index: usize, batches: Vec<Batch>, rest: Rest) {
        let is_running = self.places.phase == Phase::Running;
        let Some(place) = self.places.lanes.get_mut(index) else { return };
        let after = place.reading.take();
        let cursor = place.cursor;
        if after != Some(cursor) || !is_running {
            // The lane has forgotten what lies before these: they are read again when it is their turn.
            place.has_unread |= !batches.is_empty();
            return self.forget_all(index, batches.iter().map(|batch| batch.seq));
        }
        let is_empty = batches.is_empty();
        let floor = self.spooling.port.floor();
        let live = self.spooling.lives.borrow().iter().find(|pair| pair.1 == index).map(|pair| pair.0);
        for lane in [Some(index), live].into_iter().flatten() {
            if let Some(lane) = self.shelf.lanes.get_mut(lane) {
                lane.come_after(floor);
            }
        }
        let newest = batches.last().map(|batch| batch.seq).unwrap_or_default();
        let refused = self.accept(index, batches);
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else { return };
        // What was forgotten since was in memory when the spool looked.
        let end = if rest == Rest::End { Seq(u64::MAX) } else { newest };
        if refused.is_empty() {
            lane.receipts().read_up_to(end.min(place.forgotten.unwrap_or(end)));
        }
        place.is_unsure = false;
        place.is_later = false;
        if !refused.is_empty() {
            place.has_unread = true;
            self.go_behind(index);
            return self.forget_all(index, refused.into_iter());
        }
        match rest {
            Rest::More => {
                place.has_unread = true;
                place.is_paused = is_empty;
                self.go_behind(index);
            }
            // As far as the spool knew: of what was on its way, and of what was forgotten since, it did not.
            Rest::End if place.has_appended || place.forgotten.is_some() => {
                let was_behind = place.mode == Mode::Behind;
                place.has_unread = true;
                self.go_behind(index);
                if let Some(place) = self.places.lanes.get_mut(index) {
                    place.is_catching_up = was_behind;
                }
            }
            Rest::End => self.go_direct(index),
            Rest::Later => {
                place.is_later = true;
                self.go_behind(index);
            }
            Rest::Unknown => {
                place.is_unsure = true;
                self.go_without(index);
            }
        }
    }

    /// These are to be read again.
    pub(super) fn forget_all(&mut self, index: usize, batches: impl Iterator<Item = Seq>) {
        batches.for_each(|seq| self.tell(Command::Forget { lane: index, seq }));
    }

    /// Puts what was read into the front, in order; those that it does not take yet.
    fn accept(&mut self, index: usize, batches: Vec<Batch>) -> Vec<Seq> {
        let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get_mut(index)) else {
            return Vec::new();
        };
        // What is on its way and older was refused once, and overtaken; what was forgotten was in memory when the spool
        // looked: they go first.
        let limit = place.transit.iter().map(|transit| transit.seq).chain(place.forgotten).min();
        let (mut refused, mut taken) = (Vec::new(), (0, 0));
        for mut batch in batches {
            if limit.is_some_and(|limit| batch.seq > limit) {
                refused.push(batch.seq);
                continue;
            }
            // So does what was refused and waits: nothing on the disk alone is older.
            while lane.tail_seq().is_some_and(|seq| seq < batch.seq)
                && let Some(older) = lane.pop_tail()
            {
                lane.append_front(older);
            }
            place.cursor = place.cursor.max(batch.seq);
            taken = (taken.0 + batch.len(), taken.1 + batch.charge());
            batch.stored = true;
            lane.receipts().set_away(batch.seq, false);
            lane.push_read(batch, &mut self.shelf.budget);
        }
        self.count_spooled(index, -(taken.0 as i64), -(taken.1 as i64));
        refused
    }

    /// The spool's thread has ended: what was on its way is lost to us, and perhaps on the disk.
    fn lose_the_spool(&mut self) {
        self.places.is_gone = true;
        self.places.unsent.clear();
        let mut lost = 0;
        for lane in 0..self.places.lanes.len() {
            self.on(lane, |work, lane| lost += work.lose(lane));
        }
        error!(
            messages = lost,
            "the spool has ended: messages on their way to it are lost; the others wait in memory only"
        );
        self.pipeline.wake_blocked(self.shelf);
    }

    fn lose(&mut self, index: usize) -> usize {
        // Senders that wait to hear of it, or of what only the next run can send, have it still.
        if let Some((lane, place)) = self.shelf.lanes.get_mut(index).zip(self.places.lanes.get(index)) {
            place.transit.iter().for_each(|transit| lane.receipts().void(transit.seq));
            lane.receipts().void_away();
        }
        let (records, charge) = self.places.lanes.get_mut(index).map_or((0, 0), Place::give_up);
        if let Some(lane) = self.shelf.lanes.get_mut(index) {
            lane.forget(charge, &mut self.shelf.budget);
        }
        if let Some(meters) = self.pipeline.meters.routes.get(self.pipeline.route_of(index)) {
            meters.waiting.add(-(records as i64));
            meters.waiting_bytes.add(-(charge as i64));
            meters.dropped_spool_damaged.add(records as u64);
        }
        if let Some(place) = self.places.lanes.get_mut(index) {
            place.reading = None;
            place.is_unsure = true;
        }
        self.go_without(index);
        records
    }
}
