//! The stop: what memory holds goes to the disk.

use crate::batch::Stub;
use crate::lane::Lane;
use crate::pipeline::Pipeline;

use super::{Mode, Phase, Work};

impl Pipeline {
    /// Whether there is a spool, answering or not.
    pub fn has_spool(&self) -> bool {
        self.spooling.is_some()
    }

    /// Whether there is a spool that answers: what memory holds at the end of a stop can go there.
    pub fn can_spool(&self) -> bool {
        self.with_spool(|work| work.can_answer()).unwrap_or(false)
    }

    /// Whether messages that are to be sent next are still on their way to the disk.
    pub fn is_settling(&self) -> bool {
        self.with_spool(|work| work.is_settling()).unwrap_or(false)
    }

    /// The stop has begun. Nothing is read from the disk any more, and lanes that have something there go there whole:
    /// forwarders need not wait for them.
    pub fn close_spool(&self) {
        self.with_spool(|work| {
            work.places.phase = Phase::Closing;
            for lane in 0..work.places.lanes.len() {
                let is_behind = work.places.lanes.get(lane).is_some_and(|place| place.mode == Mode::Behind);
                if is_behind {
                    work.on(lane, Work::empty);
                }
            }
        });
    }

    /// Forwarders have ended: everything goes to the disk. Go on with [`Self::spool_answers`] and [`Self::spool_tick`]
    /// until [`Self::is_spooled`].
    pub fn empty_into_spool(&self) {
        self.with_spool(|work| {
            work.places.phase = Phase::Emptying;
            work.empty_all();
        });
    }

    /// Whether nothing is in memory alone, and the spool knows all that it must. Also where nothing more can be done.
    pub fn is_spooled(&self) -> bool {
        self.with_spool(|work| work.is_done()).unwrap_or(true)
    }

    /// A batch that is on the disk, and was sent: it is left there, to be sent again.
    pub fn leave(&self, lane: usize, stub: Stub) {
        if let Some(meters) = self.meters.routes.get(self.route_of(lane)) {
            meters.in_flight.add(-(stub.records as i64));
            meters.spooled.add(stub.records as i64);
        }
    }
}

impl Work<'_> {
    /// Everything goes to the disk.
    pub(super) fn empty_all(&mut self) {
        let spooling = self.spooling;
        for (live, _) in spooling.lives.borrow().iter() {
            self.spill_live_beyond(*live, 0);
        }
        for lane in 0..self.places.lanes.len() {
            self.on(lane, Self::empty);
        }
    }

    /// Everything of a lane goes to the disk.
    pub(super) fn empty(&mut self, index: usize) {
        if self.places.is_gone || self.places.is_stalled {
            return;
        }
        if let Some(place) = self.places.lanes.get_mut(index) {
            place.is_refused = false;
        }
        self.spill_beyond(index, 0);
        self.go_behind(index);
        if let Some(lane) = self.shelf.lanes.get_mut(index) {
            lane.seal();
        }
        self.store_tail(index);
    }

    fn is_settling(&self) -> bool {
        let is_waiting = |(index, lane): (usize, &Lane)| {
            let Some(place) = self.places.lanes.get(index) else { return false };
            let waits = lane.tail_seq().is_some() || !place.transit.is_empty();
            self.spooling.is_always(index) && place.mode == Mode::Direct && waits
        };
        self.can_answer() && self.shelf.lanes.iter().enumerate().any(is_waiting)
    }

    fn is_done(&self) -> bool {
        let is_on_its_way = |place: &super::Place| !place.transit.is_empty();
        let is_waiting = self.shelf.lanes.iter().any(Lane::has_unstored);
        let is_empty = !is_waiting && !self.places.lanes.iter().any(is_on_its_way);
        self.places.is_gone || (is_empty && (self.places.unsent.is_empty() || self.places.is_stalled))
    }

    fn can_answer(&self) -> bool {
        !self.places.is_gone && !self.places.is_stalled
    }
}
