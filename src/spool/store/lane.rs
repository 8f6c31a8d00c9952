//! One lane in the store: what is retired, what the index does not hold yet, and the runs of the index in use.

use std::collections::VecDeque;

use super::ranges::Ranges;
use super::taken::Taken;
use crate::spool::block::LaneName;
use crate::spool::index::{Index, IndexFault, LaneRecord, Place, RUN_MAX, Run};

/// Runs that a lane keeps decoded: where it appends, where it reads, where it releases.
const RUNS_KEPT: usize = 3;

/// Blocks, and what they hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) records: u64,
}

impl Totals {
    pub(super) fn add(&mut self, place: &Place) {
        self.blocks += 1;
        self.bytes += u64::from(place.bytes);
        self.records += u64::from(place.records);
    }

    /// Never below zero: the index may have lost count.
    pub(super) fn subtract(&mut self, place: &Place) {
        self.blocks = self.blocks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(place.bytes));
        self.records = self.records.saturating_sub(u64::from(place.records));
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            blocks: self.blocks + other.blocks,
            bytes: self.bytes + other.bytes,
            records: self.records + other.records,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Released, evicted, dropped or damaged.
    pub(super) retired: Ranges,
    /// What was retired when the last run's audit began, where that did not come to its end.
    pub(super) before_audit: Option<Ranges>,
    /// Of the blocks that are not retired.
    pub(super) totals: Totals,
    /// Those of them that lie behind the audit's end.
    pub(super) since: Totals,
    /// The highest seq that it ever had.
    pub(super) last: u64,
    pub(super) taken: Taken,
    /// Not in the index for sure, by seq.
    pub(super) pending: VecDeque<Place>,
    /// The catalogue's record is out of date.
    pub(super) is_dirty: bool,
    /// A block that the disk refused to read; damaged if it does so again.
    pub(super) unread: Option<u64>,
    runs: VecDeque<Run>,
}

impl Lane {
    pub(super) fn new(record: LaneRecord) -> Self {
        let LaneRecord { blocks, bytes, records, last, retired, before_audit } = record;
        let totals = Totals { blocks, bytes, records };
        let before_audit = before_audit.map(Ranges::from);
        Self { retired: retired.into(), before_audit, totals, last, ..Self::default() }
    }

    /// For the catalogue; with what was retired when the audit that is going on began.
    pub(super) fn record(&self, before_audit: Option<&Ranges>) -> LaneRecord {
        let Totals { blocks, bytes, records } = self.totals;
        let before_audit = before_audit.map(Ranges::to_vec);
        LaneRecord { blocks, bytes, records, last: self.last, retired: self.retired.to_vec(), before_audit }
    }

    /// Adds a block that is not in the index; instead of the one that has its seq, if any.
    pub(super) fn push(&mut self, place: Place) {
        let at = self.pending.partition_point(|known| known.seq < place.seq);
        match self.pending.get_mut(at) {
            Some(known) if known.seq == place.seq => *known = place,
            _ => self.pending.insert(at, place),
        }
        self.last = self.last.max(place.seq);
    }

    /// Forgets what it knows of the index.
    pub(super) fn forget_runs(&mut self) {
        self.runs.clear();
    }

    /// The block, retired or not.
    pub(super) fn find(&mut self, index: &mut Index, name: &LaneName, seq: u64) -> Result<Option<Place>, IndexFault> {
        if let Ok(at) = self.pending.binary_search_by_key(&seq, |place| place.seq) {
            return Ok(self.pending.get(at).copied());
        }
        let in_run = |run: &Run| {
            let at = run.places.binary_search_by_key(&seq, |place| place.seq).ok()?;
            run.places.get(at).copied()
        };
        if let Some(run) = self.runs.iter().find(|run| run.key <= seq && seq <= run.last()) {
            return Ok(in_run(run));
        }
        let run = index.run_at(name, seq)?;
        let place = run.as_ref().and_then(in_run);
        if let Some(run) = run.filter(|_| place.is_some()) {
            self.keep(run);
        }
        Ok(place)
    }

    /// The oldest block after `after` that is not retired.
    pub(super) fn live_after(
        &mut self,
        index: &mut Index,
        name: &LaneName,
        mut after: u64,
    ) -> Result<Option<Place>, IndexFault> {
        loop {
            let Some(next) = after.checked_add(1) else { return Ok(None) };
            if let Some(end) = self.retired.end_of(next) {
                after = end;
                continue;
            }
            let at = self.pending.partition_point(|place| place.seq <= after);
            let pending = self.pending.get(at).copied();
            let indexed = self.indexed_after(index, name, after)?;
            let place = match (pending, indexed) {
                (Some(pending), Some(indexed)) if indexed.seq < pending.seq => indexed,
                (Some(pending), _) => pending,
                (None, Some(indexed)) => indexed,
                (None, None) => return Ok(None),
            };
            match self.retired.end_of(place.seq) {
                Some(end) => after = end,
                None => return Ok(Some(place)),
            }
        }
    }

    /// The next block to be given: what is late first.
    pub(super) fn unread(&mut self, index: &mut Index, name: &LaneName) -> Result<Option<Place>, IndexFault> {
        while let Some(seq) = self.taken.late.first().copied() {
            let place = if self.retired.contains(seq) { None } else { self.find(index, name, seq)? };
            if place.is_some() {
                return Ok(place);
            }
            self.taken.late.remove(&seq);
        }
        loop {
            let next = self.live_after(index, name, self.taken.mark)?;
            match next {
                Some(place) if self.taken.out.contains_key(&place.seq) => self.taken.mark = place.seq,
                next => return Ok(next),
            }
        }
    }

    fn indexed_after(&mut self, index: &mut Index, name: &LaneName, after: u64) -> Result<Option<Place>, IndexFault> {
        let in_run = |run: &Run| {
            let at = run.places.partition_point(|place| place.seq <= after);
            run.places.get(at).copied()
        };
        if let Some(run) = self.runs.iter().find(|run| run.key <= after && after < run.last()) {
            return Ok(in_run(run));
        }
        let run = match index.run_at(name, after)?.filter(|run| after < run.last()) {
            Some(run) => Some(run),
            None => index.run_after(name, after)?,
        };
        let place = run.as_ref().and_then(in_run);
        if let Some(run) = run {
            self.keep(run);
        }
        Ok(place)
    }

    /// Writes all that is pending into runs of the index, retired ones only where `all` says so. It stays pending until
    /// [`Self::written`].
    pub(super) fn write_pending(&mut self, index: &mut Index, name: &LaneName, all: bool) -> Result<(), IndexFault> {
        let wanted = |place: &&Place| all || !self.retired.contains(place.seq);
        let pending: Vec<Place> = self.pending.iter().filter(wanted).copied().collect();
        let mut run: Option<Run> = None;
        for place in pending {
            // Most often it goes behind the last.
            let fits = run.as_ref().is_some_and(|run| run.last() < place.seq && run.places.len() < RUN_MAX)
                && run.as_ref().is_some_and(|run| self.pending_fits(index, name, run, place.seq).unwrap_or(false));
            if !fits {
                self.put(index, name, run.take())?;
                run = Some(self.run_for(index, name, &place)?);
            }
            if let Some(run) = &mut run {
                match run.places.binary_search_by_key(&place.seq, |known| known.seq) {
                    Ok(at) => {
                        if let Some(known) = run.places.get_mut(at) {
                            *known = place;
                        }
                    }
                    Err(at) => run.places.insert(at, place),
                }
            }
        }
        self.put(index, name, run)
    }

    /// All that was pending is in the index, and safe there.
    pub(super) fn written(&mut self) {
        self.pending.clear();
        if self.pending.capacity() > 4 * RUN_MAX {
            self.pending.shrink_to(RUN_MAX);
        }
    }

    /// Whether no other run begins between the run's last and `seq`.
    fn pending_fits(&self, index: &mut Index, name: &LaneName, run: &Run, seq: u64) -> Result<bool, IndexFault> {
        Ok(index.run_after(name, run.key)?.is_none_or(|next| next.key > seq))
    }

    /// The run that `place` belongs into, with room for it.
    fn run_for(&mut self, index: &mut Index, name: &LaneName, place: &Place) -> Result<Run, IndexFault> {
        let fresh = Run { key: place.seq, places: Vec::new() };
        let Some(mut run) = index.run_at(name, place.seq)? else { return Ok(fresh) };
        if run.places.len() < RUN_MAX || run.places.iter().any(|known| known.seq == place.seq) {
            return Ok(run);
        }
        if run.last() < place.seq {
            return Ok(fresh);
        }
        // In the middle of a full one: its upper half becomes a run of its own, written first.
        let upper = run.places.split_off(RUN_MAX / 2);
        let upper = Run { key: upper.first().map_or(place.seq, |first| first.seq), places: upper };
        let (lower_key, upper_key) = (run.key, upper.key);
        self.put(index, name, Some(upper))?;
        self.put(index, name, Some(run))?;
        let key = if place.seq < upper_key { lower_key } else { upper_key };
        Ok(index.run_at(name, key)?.unwrap_or(fresh))
    }

    fn put(&mut self, index: &mut Index, name: &LaneName, run: Option<Run>) -> Result<(), IndexFault> {
        let Some(run) = run.filter(|run| !run.places.is_empty()) else { return Ok(()) };
        index.put_run(name, &run)?;
        self.keep(run);
        Ok(())
    }

    /// Deletes the oldest runs while they hold nothing but retired blocks.
    pub(super) fn sweep(&mut self, index: &mut Index, name: &LaneName) -> Result<(), IndexFault> {
        let Some(retired) = self.retired.end_of(0) else { return Ok(()) };
        while let Some(run) = index.run_after(name, 0)?.filter(|run| run.last() <= retired) {
            index.remove_run(name, run.key)?;
            self.runs.retain(|known| known.key != run.key);
        }
        Ok(())
    }

    fn keep(&mut self, run: Run) {
        self.runs.retain(|known| known.key != run.key);
        self.runs.truncate(RUNS_KEPT - 1);
        self.runs.push_front(run);
    }
}
