//! Retiring blocks: released, evicted, dropped, damaged.

use std::io;

use super::{Dropped, Selection, Store};
use crate::batch::Seq;
use crate::spool::block::LaneName;
use crate::spool::index::{IndexFault, Place};

impl Store {
    /// The block is delivered: it goes. One that is unknown is none. Errors show at the next sync.
    pub fn release(&mut self, lane: &LaneName, seq: Seq) {
        if let Err(error) = self.retire(lane, seq.0) {
            // The index is closed then: the next sync says so, and the block will be sent again.
            tracing::debug!(%error, "a release is not noted");
        }
    }

    /// Takes back a block whose append shall not count: it may not be there at all. Its seq is not taken again by this
    /// lane.
    ///
    /// # Errors
    /// What the index says; call it again then, before anything is read.
    pub fn retract(&mut self, lane: &LaneName, seq: Seq) -> io::Result<()> {
        let live = self.live_after(lane, seq.0.saturating_sub(1))?;
        if let Some(place) = live.filter(|place| place.seq == seq.0) {
            self.bury(&place);
        }
        self.lanes.entry(lane.clone()).or_default();
        self.retire(lane, seq.0)?;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.last = lane.last.max(seq.0);
        }
        Ok(())
    }

    /// Drops what an operator has chosen: blocks that lie wholly in the range of time, `max` at the most. What is out stays.
    ///
    /// # Errors
    /// What the index says; some may be dropped then.
    pub fn drop_blocks(&mut self, select: &Selection, max: u64) -> io::Result<Dropped> {
        let mut dropped = Dropped::default();
        for name in self.selected(select) {
            let mut after = 0;
            while let Some(place) = self.live_after(&name, after)? {
                if dropped.blocks >= max {
                    return Ok(dropped);
                }
                after = place.seq;
                if !select.encloses(&place) {
                    continue;
                }
                if self.lanes.get(&name).is_some_and(|lane| lane.taken.out.contains_key(&place.seq)) {
                    dropped.out += 1;
                    continue;
                }
                self.bury(&place);
                self.retire(&name, place.seq)?;
                dropped.blocks += 1;
                dropped.records += u64::from(place.records);
                dropped.bytes += u64::from(place.bytes);
            }
        }
        Ok(dropped)
    }

    /// Takes a block out of its lane. The place that it had, if it had one.
    pub(super) fn retire(&mut self, name: &LaneName, seq: u64) -> io::Result<Option<Place>> {
        let place = self.indexed(|store| store.retire_in_lane(name, seq))?;
        if let Some(place) = place {
            self.subtract(name, &place);
        }
        Ok(place)
    }

    fn retire_in_lane(&mut self, name: &LaneName, seq: u64) -> Result<Option<Place>, IndexFault> {
        let Some(lane) = self.lanes.get_mut(name) else { return Ok(None) };
        if lane.retired.contains(seq) {
            lane.taken.retire(seq);
            return Ok(None);
        }
        let index = super::indexing::open(&mut self.index)?;
        let place = lane.find(index, name, seq)?;
        // Not before: where the index does not answer it stays out, or it would be given again.
        lane.taken.retire(seq);
        let Some(place) = place else {
            // It may be one that the index has lost, and that the audit will find.
            if let Some(audit) = &mut self.audit {
                audit.retired(name, seq);
                lane.retired.insert(seq, seq);
                lane.is_dirty = true;
            }
            return Ok(None);
        };
        let rebuilds = self.audit.as_ref().is_some_and(|audit| audit.rebuilds);
        // The range grows over what lies between where no block is live there. While blocks may be missing from the
        // index, nothing is known of what lies below all.
        let below = lane.retired.last_below(seq);
        let first = match below {
            None if rebuilds => seq,
            _ => {
                let after = below.unwrap_or(0);
                let is_next = lane.live_after(index, name, after)?.is_some_and(|next| next.seq == seq);
                if is_next { below.map_or(0, |below| below + 1) } else { seq }
            }
        };
        let last = match lane.retired.first_above(seq) {
            None => seq,
            Some(above) => {
                let next = lane.live_after(index, name, seq)?;
                if next.is_none_or(|next| next.seq > above) { above } else { seq }
            }
        };
        lane.retired.insert(first, last);
        lane.is_dirty = true;
        Ok(Some(place))
    }

    fn subtract(&mut self, name: &LaneName, place: &Place) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.totals.subtract(place);
            if self.audit.as_ref().is_some_and(|audit| place.segment >= audit.floor) {
                lane.since.subtract(place);
            }
        }
        if let Some(audit) = &mut self.audit {
            audit.subtract(name, place);
        }
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_blocks = segment.live_blocks.saturating_sub(1);
            segment.live_bytes = segment.live_bytes.saturating_sub(u64::from(place.bytes));
            segment.is_dirty = true;
            if segment.live_blocks == 0 {
                self.empty.insert(place.segment);
            }
        }
        self.room.retired(u64::from(place.bytes));
    }
}
