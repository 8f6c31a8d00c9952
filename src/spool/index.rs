//! The index: where each lane's blocks are, kept in sled. The only file that names sled.
//!
//! sled is fast and fragile: it panics on damaged files, loses what it says it has flushed unless its flush is replaced
//! (`sync_file_range` in `sys`), and its handle is dead once the disk was full. So nothing is in it that segments do not
//! hold as well, or whose loss costs more than sending something again; every call is fenced against panics, on a thread of its
//! own (`caller`), since it may never return; and what it answers is checked.
//!
//! A lane's tree holds *runs*: up to [`RUN_MAX`] blocks in one value, under the first one's seq. One value a block would
//! cost a page of sled's table in memory for every eight blocks; as runs, a million blocks take 18 MiB of memory at most
//! and 70 of disk. Runs are appended to and deleted whole: what is retired is written in the lane's record in the
//! catalogue.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::caller::{Caller, WHOLE};
use super::block::LaneName;
use crate::sys;

mod caller;

/// Blocks of a run. A leaf of sled holds 16 values and is rewritten whole: 17 runs must be less than a quarter of one of
/// its segments, or it makes files of them that it never deletes. And a thousand leaves stay in memory beside the cache,
/// whatever its size, because sled notes accesses before it counts them: 64 blocks a run are 34 MiB of memory, 16 are 10.
pub(super) const RUN_MAX: usize = 16;

/// Octets of a place in a run.
const PLACE: usize = 40;

/// sled's unit of allocation: the smallest that keeps the rule at [`RUN_MAX`], because a spool that holds little shall
/// take little.
pub(super) const SLED_SEGMENT: usize = 128 * 1024;

/// sled's cache. What a lane reads and releases is kept beside it, decoded: more would serve nobody.
const SLED_CACHE: u64 = 4 * 1024 * 1024;

/// Ranges of retired blocks that a lane's record holds, twice during an audit. The rest is sent again after a restart.
/// They must keep the rule at [`RUN_MAX`].
const RANGES_MAX: usize = 50;

/// sled lets go of its files on threads of its own: so often, with so long between, is opening them tried.
const OPEN_ATTEMPTS: u32 = 100;
const OPEN_PAUSE: Duration = Duration::from_millis(5);

const CATALOGUE: &[u8] = b"catalogue";
const CHECKPOINT: &[u8] = b"c";
const PROBE: &[u8] = b"p";

/// Where a block is, and what is to be known of it without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) segment: u64,
    pub(super) offset: u32,
    /// Octets of the whole block.
    pub(super) bytes: u32,
    pub(super) records: u32,
    pub(super) oldest_us: i64,
    pub(super) newest_us: i64,
}

/// Places of one lane in the order of their seqs, under the key that it has in the index.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    pub(super) key: u64,
    pub(super) places: Vec<Place>,
}

/// What the catalogue says of a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LaneRecord {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) records: u64,
    /// The highest seq that it ever had.
    pub(super) last: u64,
    /// Retired: first and last of each range.
    pub(super) retired: Vec<(u64, u64)>,
    /// What was retired when an audit began that has not come to its end.
    pub(super) before_audit: Option<Vec<(u64, u64)>>,
}

/// What the catalogue says of a segment: blocks that are not retired, and their octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SegmentRecord {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

/// All of the catalogue.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) lanes: Vec<(LaneName, LaneRecord)>,
    pub(super) segments: Vec<(u64, SegmentRecord)>,
    /// Everything before it (segment, offset) is in the index.
    pub(super) checkpoint: Option<(u64, u64)>,
}

/// Changes of the catalogue that become visible at once.
#[derive(Debug, Default)]
pub(super) struct Changes(sled::Batch);

/// Why the index does not answer. Its handle is dead then.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexFault {
    /// The disk does not work: the same files may, later.
    #[error("the index cannot be read or written: {0}")]
    Io(io::Error),
    /// Its files are damaged: it has to be made again.
    #[error("the index is damaged: {0}")]
    Damaged(String),
    /// It does not answer, and never will; its files are still open. Another has to be made elsewhere.
    #[error("the index does not answer")]
    Hung,
}

/// An open index.
#[derive(Debug)]
pub(super) struct Index {
    /// Makes all calls of sled, which may never return.
    caller: Caller,
    /// `None`: one did not.
    handles: Option<Handles>,
    dir: PathBuf,
    /// sled's flush does not come to `sys`: its files are synced behind it.
    sync_behind: bool,
}

/// sled's. The last one that is dropped writes, waits, and panics where the disk does not work.
#[derive(Debug, Clone)]
struct Handles {
    lanes: HashMap<LaneName, sled::Tree>,
    catalogue: sled::Tree,
    db: sled::Db,
}

impl Drop for Index {
    /// Who drops an index on the way out of an error, or of a panic, must not meet what its last handle does.
    fn drop(&mut self) {
        let Some(handles) = self.handles.take() else { return };
        match self.caller.call(1, move || catch_unwind(AssertUnwindSafe(move || drop(handles))).is_ok()) {
            Some(true) => {}
            Some(false) => tracing::debug!("the index panicked while it was closed"),
            None => tracing::debug!("the index does not close"),
        }
    }
}

impl Index {
    /// Opens or makes the one in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, IndexFault> {
        let caller = Caller::start().map_err(IndexFault::Io)?;
        let path = dir.to_owned();
        let opened = fence(&caller, WHOLE, move || {
            let config = sled::Config::new()
                .path(path)
                .cache_capacity(SLED_CACHE)
                .segment_size(SLED_SEGMENT)
                // No thread of its own: it would write when nobody counts. Measured: space is reused all the same.
                .flush_every_ms(None);
            let mut attempts = 0;
            let db = loop {
                match config.open() {
                    Err(error) if attempts < OPEN_ATTEMPTS && is_held(&error) => {
                        attempts += 1;
                        std::thread::park_timeout(OPEN_PAUSE);
                    }
                    opened => break opened?,
                }
            };
            let catalogue = db.open_tree(CATALOGUE)?;
            Ok(Handles { lanes: HashMap::new(), catalogue, db })
        });
        Ok(Self { handles: Some(opened?), caller, dir: dir.to_owned(), sync_behind: false })
    }

    /// Writes something new and looks whether its flush reaches `sys`; syncs behind sled from now on if not. Whether it
    /// does.
    pub(super) fn probe(&mut self, value: u64) -> Result<bool, IndexFault> {
        let before = sys::data_syncs();
        let Handles { catalogue, db, .. } = self.handles()?.clone();
        self.call(1, move || {
            catalogue.insert(PROBE, &value.to_le_bytes())?;
            db.flush()
        })?;
        self.sync_behind = sys::data_syncs() == before;
        Ok(!self.sync_behind)
    }

    /// Reads the catalogue.
    pub(super) fn catalogue(&mut self) -> Result<Catalogue, IndexFault> {
        let tree = self.handles()?.catalogue.clone();
        self.call(WHOLE, move || {
            let mut catalogue = Catalogue::default();
            for item in &tree {
                let (key, value) = item?;
                match key.split_first() {
                    Some((b'l', name)) => {
                        let lane = decode_name(name).zip(LaneRecord::decode(&value));
                        catalogue.lanes.push(lane.ok_or_else(|| odd("a lane's record"))?);
                    }
                    Some((b's', number)) => {
                        let number = number.try_into().map(u64::from_be_bytes).ok();
                        let segment = number.zip(SegmentRecord::decode(&value));
                        catalogue.segments.push(segment.ok_or_else(|| odd("a segment's record"))?);
                    }
                    _ if key == CHECKPOINT => {
                        catalogue.checkpoint = Some(decode_pair(&value).ok_or_else(|| odd("the checkpoint"))?);
                    }
                    _ if key == PROBE => {}
                    _ => return Err(odd("a key")),
                }
            }
            Ok(catalogue)
        })
    }

    /// The lane's run with the highest key up to `seq`.
    pub(super) fn run_at(&mut self, lane: &LaneName, seq: u64) -> Result<Option<Run>, IndexFault> {
        let tree = self.tree(lane)?;
        let item = self.call(1, move || tree.range(..=seq.to_be_bytes()).next_back().transpose())?;
        item.map(|(key, value)| Run::decode(&key, &value)).transpose()
    }

    /// The lane's run with the lowest key beyond `seq`.
    pub(super) fn run_after(&mut self, lane: &LaneName, seq: u64) -> Result<Option<Run>, IndexFault> {
        let tree = self.tree(lane)?;
        let Some(from) = seq.checked_add(1) else { return Ok(None) };
        let item = self.call(1, move || tree.range(from.to_be_bytes()..).next().transpose())?;
        item.map(|(key, value)| Run::decode(&key, &value)).transpose()
    }

    /// Writes a run over the one with its key.
    pub(super) fn put_run(&mut self, lane: &LaneName, run: &Run) -> Result<(), IndexFault> {
        let tree = self.tree(lane)?;
        let (key, value) = (run.key.to_be_bytes(), run.encode());
        self.call(1, move || tree.insert(key, value)).map(drop)
    }

    /// Deletes a run.
    pub(super) fn remove_run(&mut self, lane: &LaneName, key: u64) -> Result<(), IndexFault> {
        let tree = self.tree(lane)?;
        self.call(1, move || tree.remove(key.to_be_bytes())).map(drop)
    }

    /// Applies changes of the catalogue: all of them or none.
    pub(super) fn apply(&mut self, changes: Changes) -> Result<(), IndexFault> {
        let catalogue = self.handles()?.catalogue.clone();
        self.call(1, move || catalogue.apply_batch(changes.0))
    }

    /// All that was written survives a power cut afterwards.
    pub(super) fn flush(&mut self) -> Result<(), IndexFault> {
        let db = self.handles()?.db.clone();
        self.call(1, move || db.flush())?;
        if self.sync_behind {
            fs::File::open(self.dir.join("db")).and_then(|db| db.sync_all()).map_err(IndexFault::Io)?;
        }
        Ok(())
    }

    /// Copies everything to a new index in `dir`, without what sled keeps besides.
    pub(super) fn copy_to(&mut self, dir: &Path) -> Result<(), IndexFault> {
        let copy = Self::open(dir)?;
        let (from, to) = (self.handles()?.db.clone(), copy.handles()?.db.clone());
        self.call(WHOLE, move || {
            for name in from.tree_names() {
                let (from, to) = (from.open_tree(&name)?, to.open_tree(&name)?);
                for item in &from {
                    let (key, value) = item?;
                    to.insert(key, value)?;
                }
            }
            to.flush()
        })?;
        copy.close();
        Ok(())
    }

    /// Lets go of its files. What was not flushed may be lost.
    pub(super) fn close(self) {
        drop(self);
    }

    fn tree(&mut self, lane: &LaneName) -> Result<sled::Tree, IndexFault> {
        let handles = self.handles()?;
        if let Some(tree) = handles.lanes.get(lane) {
            return Ok(tree.clone());
        }
        let (db, name) = (handles.db.clone(), encode_name(b'q', lane));
        let tree = self.call(1, move || db.open_tree(name))?;
        if let Some(handles) = &mut self.handles {
            handles.lanes.insert(lane.clone(), tree.clone());
        }
        Ok(tree)
    }

    fn handles(&self) -> Result<&Handles, IndexFault> {
        self.handles.as_ref().ok_or(IndexFault::Hung)
    }

    /// Calls sled. Where it does not return its handles are never touched again: not even dropped.
    fn call<T: Send + 'static>(
        &mut self,
        times: u32,
        call: impl FnOnce() -> sled::Result<T> + Send + 'static,
    ) -> Result<T, IndexFault> {
        let called = fence(&self.caller, times, call);
        if matches!(called, Err(IndexFault::Hung)) {
            std::mem::forget(self.handles.take());
        }
        called
    }

    /// From now on no call returns.
    #[cfg(test)]
    pub(super) fn stall(&mut self) {
        self.caller.stall();
    }
}

impl Changes {
    pub(super) fn put_lane(&mut self, lane: &LaneName, record: &LaneRecord) {
        self.0.insert(encode_name(b'l', lane), record.encode());
    }

    pub(super) fn put_segment(&mut self, number: u64, record: SegmentRecord) {
        let value = [record.blocks.to_le_bytes(), record.bytes.to_le_bytes()].concat();
        self.0.insert(segment_key(number), value);
    }

    pub(super) fn remove_segment(&mut self, number: u64) {
        self.0.remove(segment_key(number));
    }

    pub(super) fn put_checkpoint(&mut self, (segment, offset): (u64, u64)) {
        self.0.insert(CHECKPOINT, [segment.to_le_bytes(), offset.to_le_bytes()].concat());
    }
}

impl Run {
    /// The last place's seq; its key where it has none.
    pub(super) fn last(&self) -> u64 {
        self.places.last().map_or(self.key, |place| place.seq)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.places.len() * PLACE);
        for place in &self.places {
            // A spool of 2^32 segments would hold four petabytes.
            let segment = place.segment as u32;
            out.extend_from_slice(&place.seq.to_le_bytes());
            for field in [segment, place.offset, place.bytes, place.records] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(&place.oldest_us.to_le_bytes());
            out.extend_from_slice(&place.newest_us.to_le_bytes());
        }
        out
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, IndexFault> {
        let run = || {
            let key = key.try_into().map(u64::from_be_bytes).ok()?;
            let (places, rest) = value.as_chunks::<PLACE>();
            let places: Vec<Place> = places.iter().map(Place::decode).collect();
            let rises = places.is_sorted_by(|a, b| a.seq < b.seq);
            let begins = places.first().is_some_and(|first| first.seq == key);
            (rest.is_empty() && rises && begins).then_some(Self { key, places })
        };
        run().ok_or_else(|| odd_fault("a run"))
    }
}

impl Place {
    fn decode(octets: &[u8; PLACE]) -> Self {
        let mut numbers = octets.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(*four));
        let mut next = || numbers.next().unwrap_or_default();
        let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        Self {
            seq: wide(next(), next()),
            segment: u64::from(next()),
            offset: next(),
            bytes: next(),
            records: next(),
            oldest_us: wide(next(), next()) as i64,
            newest_us: wide(next(), next()) as i64,
        }
    }
}

impl LaneRecord {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40 + 16 * self.retired.len().min(RANGES_MAX));
        for number in [self.blocks, self.bytes, self.records, self.last] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let before = self.before_audit.as_deref();
        let count = before.map_or(u64::MAX, |before| before.len().min(RANGES_MAX) as u64);
        out.extend_from_slice(&count.to_le_bytes());
        let before = before.unwrap_or_default().iter().take(RANGES_MAX);
        for (first, last) in before.chain(self.retired.iter().take(RANGES_MAX)) {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        out
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        let (numbers, rest) = octets.as_chunks::<8>();
        let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
        let [blocks, bytes, records, last, count, ranges @ ..] = numbers.as_slice() else { return None };
        let (ranges, odd) = ranges.as_chunks::<2>();
        let ranges: Vec<(u64, u64)> = ranges.iter().map(|[first, last]| (*first, *last)).collect();
        let (before_audit, retired) = match *count {
            u64::MAX => (None, ranges),
            count => {
                let (before, retired) = ranges.split_at_checked(usize::try_from(count).ok()?)?;
                (Some(before.to_vec()), retired.to_vec())
            }
        };
        let rises = |ranges: &[(u64, u64)]| {
            ranges.iter().all(|(first, last)| first <= last) && ranges.is_sorted_by(|a, b| a.1 < b.0)
        };
        let is_sound = rises(&retired) && before_audit.as_deref().is_none_or(rises);
        (rest.is_empty() && odd.is_empty() && is_sound).then_some(Self {
            blocks: *blocks,
            bytes: *bytes,
            records: *records,
            last: *last,
            retired,
            before_audit,
        })
    }
}

impl SegmentRecord {
    fn decode(octets: &[u8]) -> Option<Self> {
        decode_pair(octets).map(|(blocks, bytes)| Self { blocks, bytes })
    }
}

fn decode_pair(octets: &[u8]) -> Option<(u64, u64)> {
    let (numbers, rest) = octets.as_chunks::<8>();
    let [first, second] = numbers else { return None };
    rest.is_empty().then(|| (u64::from_le_bytes(*first), u64::from_le_bytes(*second)))
}

fn segment_key(number: u64) -> Vec<u8> {
    let mut key = vec![b's'];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn encode_name(kind: u8, lane: &LaneName) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&lane.shard.to_be_bytes());
    key.extend_from_slice(lane.route.as_bytes());
    key
}

fn decode_name(octets: &[u8]) -> Option<LaneName> {
    let (shard, route) = octets.split_first_chunk()?;
    Some(LaneName { route: std::str::from_utf8(route).ok()?.to_owned(), shard: u16::from_be_bytes(*shard) })
}

/// Something in the index that we never wrote.
fn odd(what: &str) -> sled::Error {
    sled::Error::ReportableBug(format!("{what} makes no sense"))
}

fn odd_fault(what: &str) -> IndexFault {
    IndexFault::Damaged(format!("{what} makes no sense"))
}

/// Another handle, being dropped, still has the files.
fn is_held(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// Calls sled, which may panic, and may not return.
fn fence<T: Send + 'static>(
    caller: &Caller,
    times: u32,
    call: impl FnOnce() -> sled::Result<T> + Send + 'static,
) -> Result<T, IndexFault> {
    match caller.call(times, move || catch_unwind(AssertUnwindSafe(call))).ok_or(IndexFault::Hung)? {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if is_held(&error) => Err(IndexFault::Io(io::Error::new(io::ErrorKind::ResourceBusy, error))),
        Ok(Err(sled::Error::Io(error))) if is_damage(&error) => Err(IndexFault::Damaged(error.to_string())),
        Ok(Err(sled::Error::Io(error))) => Err(IndexFault::Io(error)),
        Ok(Err(error)) => Err(IndexFault::Damaged(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(IndexFault::Damaged(format!("panic: {}", text.unwrap_or("without a message"))))
        }
    }
}

/// sled tells damage as an I/O error of its own making in places. (What the kernel says loses its number inside sled, and
/// keeps its kind.)
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    error.raw_os_error().is_none() && matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
}

/// sled makes its files as the process's mask has it; ours are nobody else's.
pub(super) fn own(dir: &Path) -> io::Result<()> {
    own_one(dir)?;
    for entry in fs::read_dir(dir)? {
        own_one(&entry?.path())?;
    }
    Ok(())
}

fn own_one(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
    if metadata.permissions().mode() & 0o777 != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
