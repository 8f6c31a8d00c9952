//! Making safe what was written, and giving up what is no longer needed.

use std::fs;
use std::io;

use super::fault::{self, crash};
use super::indexing::to_io;
use super::{Store, folder};
use crate::spool::index::SegmentRecord;
use crate::spool::segment::{self, Found, Walk};

/// Octets that an index may take beyond what its blocks need before it is copied, or renewed when there are none.
const INDEX_SPARE: u64 = 4 * 1024 * 1024;

/// Octets of the index that a block needs, generously.
const INDEX_PER_BLOCK: u64 = 256;

impl Store {
    /// What was appended survives a power cut afterwards.
    ///
    /// # Errors
    /// What the disk says. What was appended since the last sync may be damaged then; nothing more is appended to the
    /// same file.
    pub fn sync_data(&mut self) -> io::Result<()> {
        let synced = self.sync_files();
        if synced.is_err() {
            // The kernel forgets that it has failed: the next one would say that all is well.
            self.roll();
            self.unsynced.clear();
            self.failed_syncs += 1;
        }
        synced
    }

    /// How often octets could not be synced, by whatever call. What was appended before the last time, and after the last
    /// sync that went well, is not safe, and no later sync makes it so.
    pub fn failed_syncs(&self) -> u64 {
        self.failed_syncs
    }

    fn sync_files(&mut self) -> io::Result<()> {
        while let Some((_, file)) = self.unsynced.last() {
            fault::point("segment.sync")?;
            file.sync_data()?;
            self.unsynced.pop();
        }
        self.room.buried.clear();
        if let Some(writer) = self.writer.as_mut().filter(|writer| writer.synced < writer.len) {
            fault::point("segment.sync")?;
            writer.file.sync_data()?;
            writer.synced = writer.len;
        }
        if self.is_folder_unsynced {
            self.folder.sync_segments()?;
            self.is_folder_unsynced = false;
        }
        crash("sync.data");
        Ok(())
    }

    /// What was appended and released survives a power cut afterwards; segments that hold nothing more are deleted.
    ///
    /// # Errors
    /// What the disk says; go on with [`Self::retry`].
    pub fn sync(&mut self) -> io::Result<()> {
        self.sync_data()?;
        super::indexing::open(&mut self.index).map_err(to_io)?;
        if self.is_changed() {
            self.commit()?;
        }
        self.reclaim()?;
        self.tidy_index()
    }

    fn is_changed(&self) -> bool {
        self.lanes.values().any(|lane| lane.is_dirty || !lane.pending.is_empty())
            || self.segments.values().any(|segment| segment.is_dirty)
            || !self.gone.is_empty()
    }

    /// Deletes the segments that hold nothing live, or puts them aside. Only after a commit: the index must know before.
    fn reclaim(&mut self) -> io::Result<()> {
        let is_drained = self.segments.values().all(|segment| segment.live_blocks == 0);
        if is_drained && self.audit.is_none() {
            self.roll();
        }
        let at_hand = self.writer.as_ref().map(|writer| writer.number);
        let empty: Vec<u64> = self.empty.iter().copied().filter(|number| Some(*number) != at_hand).collect();
        for number in empty {
            let Some(segment) = self.segments.get(&number).copied() else {
                self.empty.remove(&number);
                continue;
            };
            if !segment.is_audited || segment.live_blocks > 0 || segment.is_dirty {
                continue;
            }
            // Counts of earlier runs, and such where something could not be read, are not trusted with this.
            if (segment.is_damaged || !segment.is_ours) && self.holds_something(number, segment.is_damaged)? {
                continue;
            }
            self.give_up(number, segment.is_damaged)?;
        }
        Ok(())
    }

    /// Counts the live blocks of a segment. Whether there are any.
    fn holds_something(&mut self, number: u64, is_damaged: bool) -> io::Result<bool> {
        let Ok(file) = self.file(number).and_then(fs::File::try_clone) else { return Ok(false) };
        let mut walk = Walk::new(file, 0, is_damaged)?;
        let mut live = SegmentRecord::default();
        loop {
            match walk.next() {
                Ok(Some(Found::Block { offset, header })) => {
                    if self.is_live(&header.lane, header.meta.seq.0, number, offset)? {
                        live.blocks += 1;
                        live.bytes += header.block_len();
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => walk.skip(),
            }
        }
        if live.blocks == 0 {
            return Ok(false);
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            (segment.live_blocks, segment.live_bytes) = (live.blocks, live.bytes);
            segment.is_dirty = true;
        }
        self.empty.remove(&number);
        Ok(true)
    }

    fn give_up(&mut self, number: u64, is_damaged: bool) -> io::Result<()> {
        let path = segment::path(&self.folder.segments(), number);
        crash("reclaim.before");
        let done = if is_damaged {
            self.folder.put_aside(&path).map(|path| self.tell(super::Event::Quarantined { path }))
        } else {
            fault::point("segment.remove").and_then(|()| fs::remove_file(&path))
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        crash("reclaim.removed");
        self.files.retain(|(known, _)| *known != number);
        self.set_allocated(number, 0);
        self.segments.remove(&number);
        self.empty.remove(&number);
        self.gone.insert(number);
        if is_damaged {
            self.measure();
        }
        Ok(())
    }

    /// Gives back what sled takes beyond need.
    fn tidy_index(&mut self) -> io::Result<()> {
        if self.audit.is_some() || self.room.index_bytes < INDEX_SPARE {
            return Ok(());
        }
        let blocks: u64 = self.lanes.values().map(|lane| lane.totals.blocks).sum();
        if blocks == 0 && self.segments.is_empty() {
            self.renew_index()?;
            self.commit()?;
        } else if self.room.index_bytes > 2 * (INDEX_SPARE + blocks * INDEX_PER_BLOCK) && self.has_room_for_copy() {
            self.compact_index()?;
            self.measure();
        }
        Ok(())
    }

    /// Measures what is in the folder besides segments.
    pub(super) fn measure(&mut self) {
        let dir = self.folder.dir();
        let own = fs::symlink_metadata(dir).map(|metadata| folder::allocated(&metadata)).unwrap_or_default();
        let (mut other, mut index) = (own, 0);
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_name().to_str() {
                Some("segments") => other += entry.metadata().map_or(0, |metadata| folder::allocated(&metadata)),
                Some("index") => index = folder::disk_use(&entry.path()),
                Some("quarantine") => self.room.quarantine_bytes = folder::disk_use(&entry.path()),
                _ => other += folder::disk_use(&entry.path()),
            }
        }
        self.room.index_bytes = index;
        self.room.other_bytes = other;
        self.room.look_at_disk(dir);
    }
}
