//! Opening: takes the folder, and finds what is in it. Damage fails nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use super::fault::crash;
use super::folder::{self, Folder, FolderFault, allocated};
use super::indexing::{is_full, open_index, settle_index, to_io};
use super::lane::Lane;
use super::retry::PROBE;
use super::{Event, Options, Segment, Store, audit, events, room};
use crate::spool::block::Coder;
use crate::spool::index::{Catalogue, IndexFault, SegmentRecord};
use crate::spool::segment::{self, Found, Walk};

/// Octets behind the checkpoint that are looked through before the store is open; more than that is left to the audit.
const TAIL_MAX: u64 = 128 * 1024 * 1024;

/// Why a store cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("in use by {by}")]
    Held {
        /// What that says of itself.
        by: String,
    },
    /// A later version has made it.
    #[error("it has format {version}, and this version of forebay knows up to 1: a later one has written it")]
    Newer {
        /// Its format.
        version: u64,
    },
    /// The disk does not work; try again.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<FolderFault> for OpenError {
    fn from(fault: FolderFault) -> Self {
        match fault {
            FolderFault::Held(by) => Self::Held { by },
            FolderFault::Newer(version) => Self::Newer { version },
            FolderFault::Io(error) => Self::Io(error),
        }
    }
}

impl Store {
    /// Opens the folder, or makes it. How long that takes depends on what was written since the last sync, not on the
    /// backlog: [`Self::work`] does the rest.
    ///
    /// # Errors
    /// Another process has it, a later version has made it, or the disk does not work.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let (folder, aside) = Folder::open(&options.dir, options.max_size)?;
        let coder = Coder::new(options.compression, options.encryption_key.as_ref());
        let mut store = Self {
            options,
            folder,
            coder,
            index: None,
            lanes: BTreeMap::new(),
            segments: BTreeMap::new(),
            writer: None,
            next_segment: 1,
            unsynced: Vec::new(),
            failed_syncs: 0,
            deleted: None,
            is_folder_unsynced: true,
            empty: BTreeSet::new(),
            gone: BTreeSet::new(),
            audit: None,
            room: room::Room::default(),
            events: events::Events::default(),
            files: Vec::new(),
            block: Vec::new(),
        };
        for path in aside {
            store.tell(Event::Quarantined { path });
        }
        store.load()?;
        Ok(store)
    }

    /// Reads what is in the folder.
    pub(super) fn load(&mut self) -> io::Result<()> {
        settle_index(&self.folder)?;
        let was_there = self.folder.index().exists();
        self.find_segments()?;
        self.find_reserve();
        let load = |store: &mut Self| open_index(store).and_then(|mut index| Ok((index.catalogue()?, index)));
        let opened = match load(self) {
            // A disk that filled up before the last run ended.
            Err(IndexFault::Io(error)) if is_full(&error) && self.give_up_reserve() => load(self),
            opened => opened,
        };
        let catalogue = match opened {
            Ok((catalogue, index)) => {
                self.index = Some(index);
                catalogue
            }
            Err(IndexFault::Damaged(why)) => {
                self.lose_index(&why)?;
                self.measure();
                return Ok(());
            }
            Err(fault @ IndexFault::Hung) => {
                self.lose_index(&fault.to_string())?;
                self.measure();
                return Ok(());
            }
            Err(fault) => return Err(to_io(fault)),
        };
        crash("open.indexed");
        let known = catalogue.checkpoint;
        self.take_catalogue(catalogue);
        let is_new = known.is_none() && self.segments.is_empty();
        match known {
            Some(checkpoint) if self.tail_bytes(checkpoint) <= TAIL_MAX => {
                self.read_tail(checkpoint)?;
                self.begin_audit(false, checkpoint);
            }
            None if is_new => self.begin_audit(false, (0, 0)),
            // It is far behind, or new, or has lost all.
            _ => {
                let why = if was_there { "it does not hold what was written last" } else { "it is missing" };
                self.tell(Event::Rebuilding { why: why.to_owned() });
                self.begin_audit(true, known.unwrap_or_default());
            }
        }
        if is_new {
            // From here on it is known what the index does not hold.
            self.commit()?;
        }
        crash("open.tail");
        self.measure();
        Ok(())
    }

    /// Looks which segments there are. What is no segment is put aside.
    pub(super) fn find_segments(&mut self) -> io::Result<()> {
        let dir = self.folder.segments();
        folder::remove(&dir.join(PROBE))?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(segment::number);
            let metadata = entry.metadata()?;
            let Some(number) = number.filter(|_| metadata.is_file()) else {
                let path = self.folder.put_aside(&entry.path())?;
                self.tell(Event::Quarantined { path });
                continue;
            };
            let segment = Segment { len: metadata.len(), ..Segment::default() };
            self.segments.insert(number, segment);
            self.set_allocated(number, allocated(&metadata));
            self.next_segment = self.next_segment.max(number + 1);
        }
        Ok(())
    }

    fn take_catalogue(&mut self, catalogue: Catalogue) {
        for (name, record) in catalogue.lanes {
            self.lanes.insert(name, Lane::new(record));
        }
        for (number, record) in catalogue.segments {
            self.next_segment = self.next_segment.max(number + 1);
            let SegmentRecord { blocks, bytes } = record;
            match self.segments.get_mut(&number) {
                Some(segment) => (segment.live_blocks, segment.live_bytes) = (blocks, bytes),
                None => {
                    self.gone.insert(number);
                }
            }
        }
        if let Some((segment, _)) = catalogue.checkpoint {
            self.next_segment = self.next_segment.max(segment);
        }
    }

    /// Octets behind the checkpoint.
    fn tail_bytes(&self, (number, offset): (u64, u64)) -> u64 {
        let tail: u64 = self.segments.range(number..).map(|(_, segment)| segment.allocated.min(segment.len)).sum();
        tail.saturating_sub(offset)
    }

    /// Takes in what was appended after the index was written last.
    fn read_tail(&mut self, (checkpoint, offset): (u64, u64)) -> io::Result<()> {
        let numbers: Vec<u64> = self.segments.range(checkpoint..).map(|(number, _)| *number).collect();
        for number in numbers {
            let from = if number == checkpoint { offset } else { 0 };
            // What cannot be read now is left to the audit.
            let Ok(file) = segment::open(&self.folder.segments(), number) else { continue };
            let mut walk = Walk::new(file.try_clone()?, from, false)?;
            while let Ok(Some(found)) = walk.next() {
                if let Found::Block { offset, header } = found
                    && !header.tombstone
                {
                    let place = audit::place_found(&header, number, offset);
                    self.take_in(&header.lane, place)?;
                }
            }
            self.unsynced.push((number, file));
        }
        Ok(())
    }

    fn take_in(&mut self, name: &super::LaneName, place: crate::spool::index::Place) -> io::Result<()> {
        self.lanes.entry(name.clone()).or_default();
        let known = self.indexed(|store| {
            let Some(lane) = store.lanes.get_mut(name) else { return Ok(None) };
            lane.find(super::indexing::open(&mut store.index)?, name, place.seq)
        })?;
        // The same block may be in the index already, and not in the catalogue's counts; or be written twice.
        if known.is_some_and(|known| (known.segment, known.offset) != (place.segment, place.offset)) {
            return Ok(());
        }
        let Some(lane) = self.lanes.get_mut(name) else { return Ok(()) };
        lane.retired.remove(place.seq);
        lane.push(place);
        lane.totals.add(&place);
        lane.is_dirty = true;
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_blocks += 1;
            segment.live_bytes += u64::from(place.bytes);
            segment.is_dirty = true;
        }
        Ok(())
    }
}
