//! Room: what the folder takes on the disk, what may still be written, what goes when that is nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::fault::{self, crash};
use super::folder::allocated;
use super::{Event, Store};
use crate::config::SpoolFull;
use crate::spool::block::{DEAD, LaneName, TOMBSTONE_OFFSET};
use crate::spool::index::{Place, SLED_SEGMENT};
use crate::spool::segment::{self, Found, PAGE, Walk};
use crate::sys;

/// Octets that the index may grow by before it is measured again: what one commit writes, in segments of sled's.
const INDEX_SLACK: u64 = 3 * SLED_SEGMENT as u64;

/// Octets of the index that a block not yet in it will take.
const PENDING_COST: u64 = 160;

/// So many octets are written before the disk's free space is asked for again.
const LOOK_EVERY: u64 = 8 * 1024 * 1024;

/// Octets that eviction takes at a time, if the spool is not too small for it: each time costs a sync.
const EVICT_BYTES: u64 = 1024 * 1024;

/// Octets that eviction takes at most at a time: shards wait for it, and which route has most may be another then.
const EVICT_MAX: u64 = 64 * 1024 * 1024;

/// Times that eviction is tried for one block.
const EVICT_ROUNDS: usize = 8;

/// Octets of a segment that must be dead before its holes are punched, when there is no hurry.
pub(super) const PUNCH_BYTES: u64 = 1024 * 1024;

/// The same when the spool is full.
const PUNCH_BYTES_FULL: u64 = 4 * PAGE;

/// What is known of the room there is.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Octets that segments take.
    pub(super) segment_bytes: u64,
    /// Octets that the index takes.
    pub(super) index_bytes: u64,
    /// Octets that quarantine takes.
    pub(super) quarantine_bytes: u64,
    /// Octets of all else: folders, small files, the reserve.
    pub(super) other_bytes: u64,
    /// Octets free on the disk when it was looked at last, less what was written since.
    pub(super) disk_free: u64,
    unlooked: u64,
    /// Segments in which blocks were marked as dropped since the last sync.
    pub(super) buried: BTreeSet<u64>,
    has_reserve: bool,
    /// Octets retired since there was nothing to be had; `None` while there is.
    exhausted: Option<u64>,
}

/// What becomes of a new block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Room,
    Full,
    Drop,
}

/// Octets that must be retired, if the spool is not too small for it, before room is looked for again: each time costs a
/// sync.
const RETRY_BYTES: u64 = 1024 * 1024;

impl Room {
    /// Blocks of so many octets were retired.
    pub(super) fn retired(&mut self, bytes: u64) {
        self.exhausted = self.exhausted.map(|retired| retired + bytes);
    }

    /// It is worth looking for room again.
    pub(super) fn is_new(&mut self) {
        self.exhausted = None;
    }

    pub(super) fn written(&mut self, bytes: u64) {
        self.unlooked += bytes;
        self.disk_free = self.disk_free.saturating_sub(bytes);
    }

    pub(super) fn look_at_disk(&mut self, dir: &Path) {
        // Unknown is as good as plenty: writing will tell.
        self.disk_free = sys::disk_free(dir).unwrap_or(u64::MAX);
        self.unlooked = 0;
    }

    pub(super) fn total(&self) -> u64 {
        self.segment_bytes + self.index_bytes + self.quarantine_bytes + self.other_bytes
    }
}

impl Store {
    /// Whether a block of so many octets may be written for the route; makes room where it can.
    pub(super) fn admit(&mut self, route: &str, bytes: u64) -> io::Result<Admission> {
        let policy = self.options.when_full(route);
        let refused = if policy == SpoolFull::Block { Admission::Full } else { Admission::Drop };
        if let Some(max) = self.options.shares.get(route).and_then(|share| share.max_size) {
            let over = (self.route_bytes(route) + bytes).saturating_sub(max);
            if over > 0 && (policy != SpoolFull::DropOldest || self.evict(route, over, max, false)? < over) {
                return Ok(refused);
            }
        }
        let need = bytes + 2 * PAGE;
        // Where there is no room, somebody else may have made some since.
        if self.room.unlooked > LOOK_EVERY || !self.has_room(need) {
            self.room.look_at_disk(self.folder.dir());
        }
        if self.has_room(need) {
            return Ok(Admission::Room);
        }
        if self.room.exhausted.is_none_or(|retired| retired >= RETRY_BYTES.min(self.options.max_size / 64)) {
            self.make_room(need)?;
            if self.has_room(need) {
                self.room.exhausted = None;
                return Ok(Admission::Room);
            }
            self.room.exhausted = Some(0);
        }
        let at_first = self.lacking(need);
        for _ in 0..EVICT_ROUNDS {
            let victim = self.victim(route, policy);
            let Some(victim) = victim else { return Ok(refused) };
            // Over the limit is only one that was lowered. Until the audit is through it is not known what can be given
            // back without dropping anything.
            if self.audit.is_some() && self.room.total() > self.options.max_size {
                return Ok(Admission::Full);
            }
            let lacking = self.lacking(need);
            // What is not in blocks does not get less by dropping them.
            if lacking > self.room.segment_bytes
                || self.evict(&victim, lacking.min(EVICT_MAX), self.options.max_size, true)? == 0
            {
                return Ok(refused);
            }
            if self.has_room(need) {
                return Ok(Admission::Room);
            }
        }
        // Much is to be dropped, and the next call goes on with it: nothing new need be.
        Ok(if self.lacking(need) < at_first { Admission::Full } else { refused })
    }

    /// Whose oldest blocks make room: the route's that is most above its part, or else the one that appends; where that
    /// is to be done.
    fn victim(&self, route: &str, policy: SpoolFull) -> Option<String> {
        let mut routes: Vec<(&str, u64)> = Vec::new();
        for (name, lane) in &self.lanes {
            match routes.last_mut() {
                Some((route, bytes)) if *route == name.route => *bytes += lane.totals.bytes,
                _ => routes.push((&name.route, lane.totals.bytes)),
            }
        }
        let largest = routes.into_iter().max_by_key(|(_, bytes)| *bytes);
        let may_evict = |route: &str| self.options.when_full(route) == SpoolFull::DropOldest;
        let largest = largest.filter(|(largest, _)| may_evict(largest)).map(|(largest, _)| largest);
        largest.or((policy == SpoolFull::DropOldest).then_some(route)).map(str::to_owned)
    }

    pub(super) fn has_room(&self, need: u64) -> bool {
        self.lacking(need) == 0
    }

    /// How much must be given back before there is room for `need`.
    fn lacking(&self, need: u64) -> u64 {
        let pending: usize = self.lanes.values().map(|lane| lane.pending.len()).sum();
        let index = INDEX_SLACK + PENDING_COST * pending as u64;
        let over = (self.room.total() + need + index).saturating_sub(self.options.max_size);
        // Without a reserve nothing else would keep the disk's last octets for the index, and nothing leaves without that.
        let reserve = if self.room.has_reserve { 0 } else { self.options.reserve_bytes };
        let left = self.options.min_free.max(reserve).saturating_add(need + index);
        over.max(left.saturating_sub(self.room.disk_free))
    }

    /// Room for a second index of what is in the first.
    pub(super) fn has_room_for_copy(&self) -> bool {
        self.has_room(self.room.index_bytes / 2)
    }

    /// Gives back what nobody needs: segments and parts of segments that are released, what is in quarantine.
    fn make_room(&mut self, need: u64) -> io::Result<()> {
        self.folder.bound_quarantine(0)?;
        self.sync()?;
        while !self.has_room(need) {
            if self.writer.as_ref().is_some_and(|writer| self.is_worth_punching(writer.number, PUNCH_BYTES_FULL)) {
                self.roll();
            }
            if !self.punch_one(PUNCH_BYTES_FULL) {
                break;
            }
        }
        Ok(())
    }

    /// Drops the route's oldest blocks, `bytes` of them and some more, but none that is out. How many octets.
    fn evict(&mut self, route: &str, bytes: u64, of: u64, gives_back: bool) -> io::Result<u64> {
        let target = bytes.max(EVICT_BYTES.min(of / 32));
        let lanes: Vec<LaneName> = self.lanes_of(route).map(|(name, _)| name.clone()).collect();
        let mut evicted: Vec<Place> = Vec::new();
        let (mut taken, mut records) = (0, 0);
        while taken < target {
            let mut oldest: Option<(&LaneName, Place)> = None;
            for name in &lanes {
                let place = self.unread(name)?;
                if let Some(place) = place.filter(|place| oldest.is_none_or(|(_, oldest)| place.seq < oldest.seq)) {
                    oldest = Some((name, place));
                }
            }
            let Some((name, place)) = oldest else { break };
            self.bury(&place);
            self.retire(name, place.seq)?;
            taken += u64::from(place.bytes);
            records += u64::from(place.records);
            evicted.push(place);
        }
        if evicted.is_empty() {
            return Ok(0);
        }
        crash("evict.buried");
        self.tell(Event::Evicted { route: route.to_owned(), blocks: evicted.len() as u64, records });
        if gives_back {
            self.sync()?;
            crash("evict.synced");
            // Not every file system can: whole segments go sooner or later.
            if let Err(error) = self.punch_places(evicted) {
                tracing::debug!(%error, "dropped blocks give back no space yet");
            }
        }
        Ok(taken)
    }

    /// Marks a block in its segment, so that a scan does not bring it back. Where that fails the index still knows.
    pub(super) fn bury(&mut self, place: &Place) {
        let Ok(file) = self.file(place.segment) else { return };
        let marked = file.write_all_at(&[DEAD], u64::from(place.offset) + TOMBSTONE_OFFSET);
        match marked.and_then(|()| file.try_clone()) {
            // Synced with the next sync, once a segment.
            Ok(file) if self.room.buried.insert(place.segment) => self.unsynced.push((place.segment, file)),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a dropped block is not marked"),
        }
    }

    /// Punches holes where blocks were.
    fn punch_places(&mut self, mut places: Vec<Place>) -> io::Result<()> {
        places.sort_by_key(|place| (place.segment, place.offset));
        for run in places.chunk_by(|a, b| a.segment == b.segment && a.offset + a.bytes == b.offset) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            if !self.segments.contains_key(&first.segment) {
                continue;
            }
            let (from, to) = (u64::from(first.offset), u64::from(last.offset) + u64::from(last.bytes));
            let file = self.file(first.segment)?;
            sys::punch_hole(file.as_fd(), from, to - from)?;
            let taken = allocated(&file.metadata()?);
            self.set_allocated(first.segment, taken);
        }
        Ok(())
    }

    /// Punches holes into one segment, if one has so many dead octets. Whether one had.
    pub(super) fn punch_one(&mut self, bytes: u64) -> bool {
        let Some(number) = self.worth_punching(bytes) else { return false };
        match self.punch(number) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, number, "the segment gives back no space");
                if let Some(segment) = self.segments.get_mut(&number) {
                    segment.punched_at = Some(segment.live_bytes);
                }
                false
            }
        }
    }

    fn worth_punching(&self, bytes: u64) -> Option<u64> {
        let at_hand = self.writer.as_ref().map(|writer| writer.number);
        let mut numbers = self.segments.keys().copied().filter(|number| Some(*number) != at_hand);
        numbers.find(|number| self.is_worth_punching(*number, bytes))
    }

    fn is_worth_punching(&self, number: u64, bytes: u64) -> bool {
        self.segments.get(&number).is_some_and(|segment| {
            let dead = segment.allocated.saturating_sub(segment.live_bytes + segment.live_blocks * PAGE);
            let is_new = segment.punched_at.is_none_or(|live| live >= segment.live_bytes + bytes);
            segment.is_audited && !segment.is_damaged && dead >= bytes && is_new
        })
    }

    /// Punches holes into a segment where no block is live. What is retired is synced before.
    pub(super) fn punch(&mut self, number: u64) -> io::Result<()> {
        self.sync()?;
        if !self.segments.contains_key(&number) {
            return Ok(());
        }
        let mut walk = Walk::new(self.file(number)?.try_clone()?, 0, false)?;
        let mut dead: Option<(u64, u64)> = None;
        loop {
            let found = walk.next()?;
            if let Some(Found::Block { offset, header }) = &found
                && !self.is_live(&header.lane, header.meta.seq.0, number, *offset)?
            {
                let end = offset + header.block_len();
                dead = Some((dead.map_or(*offset, |(from, _)| from), end));
                continue;
            }
            if let Some((from, to)) = dead.take()
                && to - from >= PAGE
            {
                sys::punch_hole(walk.file().as_fd(), from, to - from)?;
                crash("punch.half");
            }
            if found.is_none() {
                break;
            }
        }
        let taken = allocated(&walk.file().metadata()?);
        self.set_allocated(number, taken);
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.punched_at = Some(segment.live_bytes);
        }
        Ok(())
    }

    pub(super) fn is_live(&mut self, name: &LaneName, seq: u64, segment: u64, offset: u64) -> io::Result<bool> {
        self.indexed(|store| {
            let Some(lane) = store.lanes.get_mut(name) else { return Ok(false) };
            if lane.retired.contains(seq) {
                return Ok(false);
            }
            let place = lane.find(super::indexing::open(&mut store.index)?, name, seq)?;
            Ok(place.is_some_and(|place| place.segment == segment && u64::from(place.offset) == offset))
        })
    }

    pub(super) fn set_allocated(&mut self, number: u64, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            self.room.segment_bytes = (self.room.segment_bytes + bytes).saturating_sub(segment.allocated);
            segment.allocated = bytes;
        }
    }

    /// Octets of the route's live blocks.
    pub(super) fn route_bytes(&self, route: &str) -> u64 {
        self.lanes_of(route).map(|(_, lane)| lane.totals.bytes).sum()
    }

    pub(super) fn lanes_of(&self, route: &str) -> impl Iterator<Item = (&LaneName, &super::Lane)> {
        let first = LaneName { route: route.to_owned(), shard: 0 };
        let last = LaneName { route: route.to_owned(), shard: u16::MAX };
        self.lanes.range(first..=last)
    }

    /// Makes the reserve where it is missing and there is room for it.
    pub(super) fn make_reserve(&mut self) {
        let bytes = self.options.reserve_bytes;
        if self.room.has_reserve || !self.has_room(4 * bytes) {
            return;
        }
        let path = self.folder.reserve();
        let made = fault::point("reserve.write").and_then(|()| {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            let page = [0x5a; PAGE as usize];
            (0..bytes / PAGE).try_for_each(|_| file.write_all(&page))?;
            file.sync_data()
        });
        if made.is_err() {
            // It will be made again.
            drop(super::folder::remove(&path));
        }
        self.room.has_reserve = made.is_ok();
        self.measure();
    }

    /// Looks whether there is one from an earlier run.
    pub(super) fn find_reserve(&mut self) {
        let found = fs::metadata(self.folder.reserve());
        self.room.has_reserve = found.is_ok_and(|found| allocated(&found) >= self.options.reserve_bytes);
    }

    /// Gives the reserve up; whether there was one.
    pub(super) fn give_up_reserve(&mut self) -> bool {
        let had = std::mem::take(&mut self.room.has_reserve);
        let removed = fs::remove_file(self.folder.reserve());
        self.measure();
        had && removed.is_ok()
    }

    /// The segment's file, opened for reading.
    pub(super) fn file(&mut self, number: u64) -> io::Result<&fs::File> {
        if let Some(writer) = self.writer.as_ref().filter(|writer| writer.number == number) {
            return Ok(&writer.file);
        }
        match self.files.iter().position(|(known, _)| *known == number) {
            Some(at) => self.files.swap(0, at),
            None => {
                let file = segment::open(&self.folder.segments(), number)?;
                self.files.truncate(super::FILES_KEPT - 1);
                self.files.insert(0, (number, file));
            }
        }
        self.files.first().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
