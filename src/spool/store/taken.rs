//! What of a lane shards have: blocks that are in memory, and those that are to be given yet.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Store};
use crate::batch::Seq;
use crate::spool::block::LaneName;
use crate::spool::index::Place;

/// What was given of a lane. Plain data: it outlives the store that it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// All up to here was looked at: it is out, or late, or not to be given in this run.
    pub(super) mark: u64,
    /// In memory: neither given again nor evicted. Some may lie behind the mark.
    pub(super) out: BTreeMap<u64, Out>,
    /// Not behind the mark, and to be given: memory has forgotten them, or the index had.
    pub(super) late: BTreeSet<u64>,
}

/// A block that is out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out {
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// It is on the disk no more: memory alone has it.
    pub(super) is_lost: bool,
}

impl Taken {
    /// A block is in memory from now on.
    pub(super) fn give(&mut self, place: &Place) {
        self.late.remove(&place.seq);
        let (records, bytes) = (u64::from(place.records), u64::from(place.bytes));
        self.out.insert(place.seq, Out { records, bytes, is_lost: false });
    }

    /// A block is there that the index did not know of.
    pub(super) fn found(&mut self, seq: u64) {
        if seq <= self.mark && !self.out.contains_key(&seq) {
            self.late.insert(seq);
        }
    }

    /// A block is not to be given in this run.
    pub(super) fn skip(&mut self, seq: u64) {
        self.late.remove(&seq);
        self.mark = self.mark.max(seq);
    }

    /// A block is in memory no more, and to be given again; it comes back where it cannot be.
    fn forget(&mut self, seq: Seq) -> Option<Out> {
        let out = self.out.remove(&seq.0)?;
        if out.is_lost {
            return Some(out);
        }
        if seq.0 <= self.mark {
            self.late.insert(seq.0);
            // Where all behind one is to be given, the mark says so.
            let last_out = self.out.range(..=self.mark).next_back().map_or(0, |(last, _)| *last);
            if let Some(first) = self.late.range(last_out + 1..).next().copied() {
                self.late.split_off(&first);
                self.mark = first - 1;
            }
        }
        None
    }

    /// The block was not given after all.
    pub fn undo(&mut self, seq: Seq) {
        self.forget(seq);
    }

    /// A block is no more.
    pub(super) fn retire(&mut self, seq: u64) {
        self.out.remove(&seq);
        self.late.remove(&seq);
    }
}

impl Store {
    /// The block, which was appended just now, is in memory: it is neither given nor evicted.
    pub fn protect(&mut self, lane: &LaneName, seq: Seq) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        let at = lane.pending.binary_search_by_key(&seq.0, |place| place.seq);
        if let Some(place) = at.ok().and_then(|at| lane.pending.get(at)) {
            lane.taken.give(place);
        }
    }

    /// The block is in memory no more: it may be evicted, and is given again.
    pub fn forget(&mut self, lane: &LaneName, seq: Seq) {
        let lost = self.lanes.get_mut(lane).and_then(|lane| lane.taken.forget(seq));
        if let Some(Out { records, bytes, .. }) = lost {
            self.tell(Event::Damaged { route: Some(lane.route.clone()), records: Some(records), bytes });
        }
    }

    /// What is out of each lane, for [`Self::take_back`] of a store that is opened instead of this one.
    pub fn taken(&mut self) -> Vec<(LaneName, Taken)> {
        let taken = self.lanes.iter_mut().map(|(name, lane)| (name.clone(), std::mem::take(&mut lane.taken)));
        taken.collect()
    }

    /// The same folder was open before, and this was out of it.
    pub fn take_back(&mut self, taken: Vec<(LaneName, Taken)>) {
        for (name, taken) in taken {
            self.lanes.entry(name).or_default().taken = taken;
        }
    }
}
