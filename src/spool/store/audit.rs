//! The audit: reads the headers of all segments of earlier runs, in small steps, and puts back what the index has lost.
//! With an empty index that is what makes it again.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::{Duration, Instant};

use super::fault::crash;
use super::lane::Totals;
use super::ranges::Ranges;
use super::{Event, Store};
use crate::spool::block::{Header, LaneName};
use crate::spool::index::{Place, SegmentRecord};
use crate::spool::segment::{self, Found, Walk};

/// How long a step may take, about: commands of shards wait for it.
const STEP: Duration = Duration::from_millis(4);

/// Headers between two looks at the clock.
const HEADERS: usize = 32;

/// Blocks found that are written to the index together.
const FOUND_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Audit {
    /// The index began empty: what is not in it is no news.
    pub(super) rebuilds: bool,
    /// Segments from here on were written since, and are known.
    pub(super) floor: u64,
    /// The index did not say that it knows what lies behind it (segment, offset).
    checkpoint: (u64, u64),
    /// What was retired when it began. What was retired since says nothing: the index did not know what lies between.
    retired: HashMap<LaneName, Ranges>,
    nothing: Ranges,
    todo: BTreeSet<u64>,
    walk: Option<Walking>,
    /// What is live of what was looked at.
    totals: HashMap<LaneName, Totals>,
    /// Something could not be read: what the index says counts more than what was counted.
    has_gap: bool,
    found: u64,
    unwritten: usize,
}

#[derive(Debug)]
struct Walking {
    number: u64,
    walk: Walk,
    live: SegmentRecord,
    /// Where those are, rising.
    offsets: Vec<u32>,
    has_gap: bool,
}

/// What a block is to the index.
enum Standing {
    Live,
    Dead,
    /// It is here, and not where the index says.
    Moved,
    Lost,
}

impl Audit {
    /// What was retired of the lane when it began.
    pub(super) fn retired_before(&self, name: &LaneName) -> &Ranges {
        self.retired.get(name).unwrap_or(&self.nothing)
    }

    /// A release of a block that is not in the index.
    pub(super) fn retired(&mut self, name: &LaneName, seq: u64) {
        self.retired.entry(name.clone()).or_default().insert(seq, seq);
    }

    /// A block was retired: it may have been counted.
    pub(super) fn subtract(&mut self, name: &LaneName, place: &Place) {
        let walking = self.walk.as_mut().filter(|walking| walking.number == place.segment);
        let is_behind = match walking {
            Some(walking) => {
                let is_behind = u64::from(place.offset) < walking.walk.at();
                if is_behind {
                    walking.live.blocks = walking.live.blocks.saturating_sub(1);
                    walking.live.bytes = walking.live.bytes.saturating_sub(u64::from(place.bytes));
                }
                is_behind
            }
            None => place.segment < self.floor && !self.todo.contains(&place.segment),
        };
        if let Some(totals) = self.totals.get_mut(name).filter(|_| is_behind) {
            totals.subtract(place);
        }
    }
}

impl Store {
    /// Begins one over all segments that there are. None is written to any more.
    pub(super) fn begin_audit(&mut self, rebuilds: bool, checkpoint: (u64, u64)) {
        let retired = self.lanes.iter_mut().map(|(name, lane)| {
            let before = lane.before_audit.take().unwrap_or_else(|| lane.retired.clone());
            (name.clone(), before)
        });
        let retired = retired.collect();
        self.audit = Some(Audit {
            rebuilds,
            floor: self.next_segment,
            checkpoint,
            retired,
            nothing: Ranges::default(),
            todo: self.segments.keys().copied().collect(),
            walk: None,
            totals: HashMap::new(),
            has_gap: false,
            found: 0,
            unwritten: 0,
        });
    }

    /// One step. Whether it went well: if not, it begins again at the next.
    pub(super) fn audit_step(&mut self) -> bool {
        let until = Instant::now() + STEP;
        let stepped = loop {
            match self.audit_some() {
                Ok(true) if Instant::now() < until && self.audit.is_some() => {}
                stepped => break stepped,
            }
        };
        let Err(error) = stepped else { return true };
        tracing::debug!(%error, "the audit waits");
        if let Some(audit) = &mut self.audit {
            audit.walk = None;
            audit.totals.clear();
            audit.todo = self.segments.range(..audit.floor).map(|(number, _)| *number).collect();
        }
        false
    }

    /// A few headers. Whether there is more.
    fn audit_some(&mut self) -> io::Result<bool> {
        if self.audit.as_ref().is_some_and(|audit| audit.unwritten >= FOUND_MAX) {
            self.write_found()?;
        }
        let Some(mut walking) = self.next_walk() else {
            self.end_audit()?;
            return Ok(false);
        };
        for _ in 0..HEADERS {
            let found = match walking.walk.next() {
                Ok(found) => found,
                Err(_) => {
                    walking.walk.skip();
                    walking.has_gap = true;
                    continue;
                }
            };
            let Some(found) = found else {
                self.search_for_missing(&mut walking)?;
                self.end_walk(&walking);
                return Ok(true);
            };
            // Put back at once: the index may be lost on the way, and a new audit begun.
            let counted = self.audit_found(&mut walking, found)?;
            if !counted {
                return Ok(true);
            }
        }
        if let Some(audit) = &mut self.audit {
            audit.walk = Some(walking);
        }
        Ok(true)
    }

    /// The walk at hand, or over the next segment. One that cannot be opened is gone.
    fn next_walk(&mut self) -> Option<Walking> {
        if let Some(walking) = self.audit.as_mut()?.walk.take() {
            return Some(walking);
        }
        let dir = self.folder.segments();
        let audit = self.audit.as_mut()?;
        while let Some(number) = audit.todo.pop_first() {
            let walk = segment::open(&dir, number).and_then(|file| Walk::new(file, 0, false));
            if let Ok(walk) = walk {
                return Some(Walking {
                    number,
                    walk,
                    live: SegmentRecord::default(),
                    offsets: Vec::new(),
                    has_gap: false,
                });
            }
            audit.has_gap = true;
        }
        None
    }

    /// Whether the audit is still the same.
    fn audit_found(&mut self, walking: &mut Walking, found: Found) -> io::Result<bool> {
        let (offset, header) = match found {
            Found::Block { offset, header } => (offset, header),
            Found::Torn { offset, header } => {
                // What the index knows there is counted when it is read.
                let place = place_of(&header, walking.number, offset);
                let is_known = matches!(self.standing(&header.lane, &place)?, Standing::Live);
                if let Some(segment) = self.segments.get_mut(&walking.number).filter(|_| is_known) {
                    segment.is_damaged = true;
                    walking.has_gap = true;
                }
                return Ok(true);
            }
            Found::Gap { is_zero: true, .. } => return Ok(true),
            Found::Gap { offset, bytes, .. } => {
                walking.has_gap = true;
                self.gap(walking, offset, bytes);
                return Ok(true);
            }
        };
        let place = place_of(&header, walking.number, offset);
        let standing = self.standing(&header.lane, &place);
        if self.audit.as_ref().is_none_or(|audit| audit.walk.is_some() || audit.todo.contains(&walking.number)) {
            // The index was lost meanwhile.
            return Ok(false);
        }
        match standing? {
            Standing::Dead => return Ok(true),
            Standing::Live if header.tombstone => {
                // It was dropped, and the index was not told before the process died.
                if let Some(audit) = &mut self.audit {
                    audit.totals.entry(header.lane.clone()).or_default().add(&place);
                }
                self.retire(&header.lane, place.seq)?;
                return Ok(true);
            }
            Standing::Moved | Standing::Lost if header.tombstone => return Ok(true),
            Standing::Live => {}
            Standing::Moved => self.move_place(&header.lane, place),
            Standing::Lost => self.put_back(&header.lane, place),
        }
        walking.offsets.push(place.offset);
        self.count(walking, header.lane, &place);
        Ok(true)
    }

    fn count(&mut self, walking: &mut Walking, lane: LaneName, place: &Place) {
        walking.live.blocks += 1;
        walking.live.bytes += u64::from(place.bytes);
        if let Some(audit) = &mut self.audit {
            audit.totals.entry(lane).or_default().add(place);
        }
    }

    fn standing(&mut self, name: &LaneName, place: &Place) -> io::Result<Standing> {
        self.lanes.entry(name.clone()).or_default();
        let known = self.indexed(|store| {
            let Some(lane) = store.lanes.get_mut(name) else { return Ok(None) };
            lane.find(super::indexing::open(&mut store.index)?, name, place.seq)
        })?;
        let is_retired = self.lanes.get(name).is_some_and(|lane| lane.retired.contains(place.seq));
        Ok(match known {
            Some(_) if is_retired => Standing::Dead,
            Some(known) if (known.segment, known.offset) == (place.segment, place.offset) => Standing::Live,
            // Written twice, as the first time went wrong; or the file has lost or won octets.
            Some(known) if self.is_block_at(name, &known) => Standing::Dead,
            Some(_) => Standing::Moved,
            None => {
                let Some(audit) = &self.audit else { return Ok(Standing::Dead) };
                // What lies behind the checkpoint never was in the index, so that nobody has retired it there.
                let is_behind = (place.segment, u64::from(place.offset)) >= audit.checkpoint && !audit.rebuilds;
                let was_retired = audit.retired_before(name).contains(place.seq);
                if was_retired && !is_behind { Standing::Dead } else { Standing::Lost }
            }
        })
    }

    pub(super) fn is_block_at(&mut self, name: &LaneName, place: &Place) -> bool {
        let mut block = Vec::new();
        let read = self.file(place.segment).and_then(|file| {
            let bytes = place.bytes as usize;
            segment::read(file, u64::from(place.offset), bytes, &mut block)
        });
        let header = read.ok().and_then(|()| Header::parse(&block).ok());
        header.is_some_and(|(header, len)| {
            header.lane == *name
                && header.meta.seq.0 == place.seq
                && header.is_payload(block.get(len..).unwrap_or_default())
        })
    }

    fn put_back(&mut self, name: &LaneName, place: Place) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        lane.retired.remove(place.seq);
        lane.push(place);
        lane.taken.found(place.seq);
        lane.totals.add(&place);
        lane.is_dirty = true;
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_blocks += 1;
            segment.live_bytes += u64::from(place.bytes);
            segment.is_dirty = true;
            self.empty.remove(&place.segment);
        }
        let Some(audit) = &mut self.audit else { return };
        audit.found += 1;
        audit.unwritten += 1;
        if !audit.rebuilds {
            let route = name.route.clone();
            self.tell(Event::Recovered { route, records: u64::from(place.records) });
        }
    }

    /// Octets that are no block. At the end of what a killed process wrote last they are nothing.
    fn gap(&mut self, walking: &Walking, offset: u64, bytes: u64) {
        let Some(segment) = self.segments.get_mut(&walking.number) else { return };
        if offset + bytes >= segment.len && walking.number + 1 == self.audit.as_ref().map_or(0, |audit| audit.floor) {
            return;
        }
        segment.is_damaged = true;
        if self.audit.as_ref().is_some_and(|audit| audit.rebuilds) {
            self.tell(Event::Damaged { route: None, records: None, bytes });
        }
    }

    /// Headers that lead from one to the next up to the end may lead past blocks all the same: where octets are missing
    /// within a payload. Fewer blocks than there should be are looked for octet by octet.
    fn search_for_missing(&mut self, walking: &mut Walking) -> io::Result<()> {
        let Some(segment) = self.segments.get_mut(&walking.number) else { return Ok(()) };
        if walking.has_gap || walking.live.blocks >= segment.live_blocks || segment.is_searched {
            return Ok(());
        }
        segment.is_searched = true;
        for (lane, place) in self.search(walking.number)? {
            if walking.offsets.binary_search(&place.offset).is_err() {
                self.count(walking, lane, &place);
                if let Some(segment) = self.segments.get_mut(&walking.number) {
                    segment.is_damaged = true;
                }
            }
        }
        Ok(())
    }

    fn end_walk(&mut self, walking: &Walking) {
        let Some(audit) = &mut self.audit else { return };
        audit.has_gap |= walking.has_gap;
        let Some(segment) = self.segments.get_mut(&walking.number) else { return };
        segment.is_audited = true;
        if !walking.has_gap || walking.live.blocks > segment.live_blocks {
            (segment.live_blocks, segment.live_bytes) = (walking.live.blocks, walking.live.bytes);
            segment.is_dirty = true;
        }
        if segment.live_blocks == 0 {
            self.empty.insert(walking.number);
        }
    }

    fn write_found(&mut self) -> io::Result<()> {
        self.sync_data()?;
        crash("rebuild.found");
        self.commit()?;
        if let Some(audit) = &mut self.audit {
            audit.unwritten = 0;
        }
        Ok(())
    }

    fn end_audit(&mut self) -> io::Result<()> {
        // From here on nothing is missing: what lies between two retired blocks without a live one is retired as well.
        let names: Vec<LaneName> = self.lanes.keys().cloned().collect();
        for name in names {
            self.close_ranges(&name)?;
        }
        self.write_found()?;
        let Some(audit) = self.audit.take() else { return Ok(()) };
        for (name, lane) in &mut self.lanes {
            lane.is_dirty = true;
            if !audit.has_gap {
                lane.totals = audit.totals.get(name).copied().unwrap_or_default().plus(lane.since);
            }
        }
        if audit.rebuilds {
            self.tell(Event::Rebuilt { blocks: audit.found });
        }
        // What is dead in its segments may be given back now.
        self.room.is_new();
        // What was found is safe; that it was all of it is told to the index now.
        self.commit()?;
        crash("audit.end");
        Ok(())
    }

    fn close_ranges(&mut self, name: &LaneName) -> io::Result<()> {
        let mut live = self.live_after(name, 0)?;
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.retired.insert(0, live.map_or(lane.last, |live| live.seq.saturating_sub(1)));
        }
        while let Some(before) = live {
            let Some(first) = self.lanes.get(name).and_then(|lane| lane.retired.first_above(before.seq)) else { break };
            live = self.live_after(name, first)?;
            if let Some(lane) = self.lanes.get_mut(name) {
                let last = lane.retired.last_below(live.map_or(u64::MAX, |live| live.seq));
                lane.retired.insert(first, last.unwrap_or(first));
            }
        }
        Ok(())
    }
}

fn place_of(header: &Header, segment: u64, offset: u64) -> Place {
    let meta = header.meta;
    Place {
        seq: meta.seq.0,
        segment,
        offset: offset as u32,
        bytes: header.block_len() as u32,
        records: meta.records,
        oldest_us: meta.oldest_us,
        newest_us: meta.newest_us,
    }
}

/// The place of a block that a walk has found.
pub(super) fn place_found(header: &Header, segment: u64, offset: u64) -> Place {
    place_of(header, segment, offset)
}
