//! The store: blocks of all lanes in one folder, appended, read back, released. Synchronous, for one thread; knows octets
//! and seqs, no batches and no shards.
//!
//! Bytes are in segments (`segment`), places in sled (`index`). What holds whatever dies at any point:
//!
//! * A block is in its segment, synced, before the index says so. What an index does not know is found again by reading
//!   headers: from the checkpoint at every start, all of them in the background (`audit`).
//! * A segment's bytes go only after the index says, synced, that all its blocks are retired; and never before the audit
//!   has looked for blocks in it that the index has lost.
//! * Retired blocks leave the index only when nothing older in their lane is live: "not in the index" and "retired" are
//!   told apart by ranges of seqs.
//!
//! Damage fails nothing: what is damaged is put aside, counted and told as an [`Event`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::batch::Seq;
use crate::config::{Compression, Share, Spool, SpoolFull, SpoolKey};

use self::audit::Audit;
use self::folder::Folder;
use self::lane::Lane;
use super::block::{Coder, LaneName};
use super::index::{Index, SegmentRecord};

mod append;
mod audit;
mod events;
mod fault;
mod folder;
mod indexing;
mod lane;
mod list;
mod open;
mod ranges;
mod read;
mod release;
mod retry;
mod room;
mod sync;
mod taken;

pub use self::append::AppendError;
pub use self::events::Event;
pub(super) use self::folder::holder;
pub use self::list::{BlockInfo, Dropped, LaneState, Selection, Usage};
pub use self::open::OpenError;
pub use self::read::Unread;
pub use self::taken::Taken;

/// Segments of a spool of the usual size: enough that releasing the oldest gives back space all the time.
const SEGMENTS_WANTED: u64 = 64;

/// Octets of a segment: below, files cost more than they hold; above, one block keeps much space from being given back.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 1024 * 1024..=64 * 1024 * 1024;

/// Files that are kept open for reading: lanes read about the same segments, or a few that lie apart.
const FILES_KEPT: usize = 8;

/// What a store is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its folder.
    pub dir: PathBuf,
    /// Bytes that everything in it may take on the disk.
    pub max_size: u64,
    /// What happens to new blocks when it is full, where their route does not say so.
    pub when_full: SpoolFull,
    /// Bytes of the disk that are left to others.
    pub min_free: u64,
    /// How blocks are compressed.
    pub compression: Compression,
    /// What they are encrypted with.
    pub encryption_key: Option<SpoolKey>,
    /// What is said of single routes, by name.
    pub shares: HashMap<String, Share>,
    /// A segment is closed before it grows beyond it. At most 1 GiB.
    pub segment_bytes: u64,
    /// Bytes of the file that is given up when the disk is full, so that releasing can go on.
    pub reserve_bytes: u64,
}

impl Options {
    /// As the configuration has it; `shares` by name of route.
    pub fn new(spool: &Spool, shares: HashMap<String, Share>) -> Self {
        Self {
            dir: spool.dir.clone(),
            max_size: spool.max_size,
            when_full: spool.when_full,
            min_free: spool.min_free,
            compression: spool.compression,
            encryption_key: spool.encryption_key.clone(),
            shares,
            segment_bytes: (spool.max_size / SEGMENTS_WANTED).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end()),
            reserve_bytes: 1024 * 1024,
        }
    }

    fn when_full(&self, route: &str) -> SpoolFull {
        self.shares.get(route).and_then(|share| share.when_full).unwrap_or(self.when_full)
    }
}

/// A spool's folder, open. See the module.
pub struct Store {
    options: Options,
    folder: Folder,
    coder: Coder,
    /// `None`: it failed, and waits for [`Store::retry`].
    index: Option<Index>,
    lanes: BTreeMap<LaneName, Lane>,
    segments: BTreeMap<u64, Segment>,
    /// The segment that is appended to.
    writer: Option<Writer>,
    /// Number of the next segment.
    next_segment: u64,
    /// Written to since they were synced.
    unsynced: Vec<(u64, File)>,
    /// See [`Store::failed_syncs`].
    failed_syncs: u64,
    /// What each route had when the folder was deleted, until it is told what of that is lost.
    deleted: Option<BTreeMap<String, lane::Totals>>,
    /// The folder of segments has changed since it was synced.
    is_folder_unsynced: bool,
    /// Segments without live blocks, to be deleted.
    empty: BTreeSet<u64>,
    /// Segments that are gone, to be taken from the catalogue.
    gone: BTreeSet<u64>,
    audit: Option<Audit>,
    room: room::Room,
    events: events::Events,
    /// Files that were read last.
    files: Vec<(u64, File)>,
    /// A block on its way.
    block: Vec<u8>,
}

/// What is known of a segment.
#[derive(Debug, Clone, Copy, Default)]
struct Segment {
    /// Octets of the file.
    len: u64,
    /// Octets that it takes on the disk.
    allocated: u64,
    /// Blocks that are not retired.
    live_blocks: u64,
    /// Their octets.
    live_bytes: u64,
    /// Its headers were all looked at in this run, or written by it.
    is_audited: bool,
    /// Written by this run, so that its counts are right for sure.
    is_ours: bool,
    /// It goes to quarantine once it is empty.
    is_damaged: bool,
    /// Its blocks were searched for, payloads and all.
    is_searched: bool,
    /// The catalogue's record is out of date.
    is_dirty: bool,
    /// Octets that were live when its holes were punched.
    punched_at: Option<u64>,
}

impl Segment {
    fn record(&self) -> SegmentRecord {
        SegmentRecord { blocks: self.live_blocks, bytes: self.live_bytes }
    }
}

/// The segment that is appended to.
#[derive(Debug)]
struct Writer {
    number: u64,
    file: File,
    /// Where the next block goes.
    len: u64,
    /// All before it is synced.
    synced: u64,
}

impl Store {
    /// A route may have this of the disk from now on.
    pub fn set_share(&mut self, route: &str, share: Share) {
        self.options.shares.insert(route.to_owned(), share);
    }

    /// The highest seq that the lane ever had here, zero if none. [`Self::append`] takes higher ones only.
    pub fn last_seq(&self, lane: &LaneName) -> Seq {
        Seq(self.lanes.get(lane).map_or(0, |lane| lane.last))
    }

    /// Whether the index is being made again: until then what is told of older runs' blocks is not all there is.
    pub fn is_rebuilding(&self) -> bool {
        self.audit.as_ref().is_some_and(|audit| audit.rebuilds)
    }

    /// What happened since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        self.events.take()
    }

    /// One bounded step of what is to be done in the background: looking for blocks that the index has lost, making the
    /// index again, giving back space. Whether there is more to do now.
    pub fn work(&mut self) -> bool {
        if self.index.is_none() {
            return false;
        }
        if self.audit.is_some() {
            return self.audit_step() && self.index.is_some();
        }
        self.make_reserve();
        self.punch_one(room::PUNCH_BYTES)
    }

    /// Syncs and lets go of the folder.
    ///
    /// # Errors
    /// As [`Self::sync`]; the folder is let go nevertheless.
    pub fn close(mut self) -> io::Result<()> {
        let synced = self.sync();
        if let Some(index) = self.index.take() {
            index.close();
        }
        synced
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Store")
            .field("dir", &self.options.dir)
            .field("lanes", &self.lanes.len())
            .field("segments", &self.segments)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

/// Octets of whole pages.
const fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(super::segment::PAGE) * super::segment::PAGE
}

#[cfg(test)]
pub(super) use self::fault::tests::{PANICS, arm};

#[cfg(test)]
mod model {
    pub(super) mod tests;
}

#[cfg(test)]
mod damage {
    mod tests;
}

#[cfg(test)]
mod large {
    mod tests;
}

#[cfg(test)]
mod shares {
    mod tests;
}

#[cfg(test)]
mod crashes {
    mod tests;
}

#[cfg(test)]
mod disk {
    mod tests;
}

#[cfg(test)]
mod tests;
