//! Appending blocks.

use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::fault::{self, crash};
use super::folder::allocated;
use super::room::Admission;
use super::{Lane, Segment, Store, Writer, pages};
use crate::spool::block::{LaneName, Meta};
use crate::spool::index::Place;
use crate::spool::segment;

/// Why a block was not appended. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No room; try again after something was released.
    #[error("the spool is full")]
    Full,
    /// No room, and the route's newest are dropped then.
    #[error("the spool is full, and the newest are dropped")]
    Dropped,
    /// The disk does not take it; try again after [`Store::retry`].
    #[error("the spool cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl Store {
    /// Writes a block behind all others of its lane. It survives the process at once, a power cut after the next sync.
    ///
    /// # Errors
    /// Says why not; the store is as it was. A seq that is not above [`Store::last_seq`] is `InvalidInput`.
    pub fn append(&mut self, lane: &LaneName, meta: Meta, plain: &[u8]) -> Result<(), AppendError> {
        if meta.seq <= self.last_seq(lane) {
            return Err(invalid("the seq is not above the lane's last").into());
        }
        self.block.clear();
        let mut block = std::mem::take(&mut self.block);
        let sealed = self.coder.seal(lane, meta, plain, &mut block);
        let appended = match sealed {
            Ok(()) => self.append_block(lane, meta, &block),
            Err(fault) => Err(invalid(fault).into()),
        };
        // One large message must not keep its memory.
        if block.capacity() <= 4 * crate::batch::BATCH_BYTES {
            self.block = block;
        }
        appended
    }

    fn append_block(&mut self, name: &LaneName, meta: Meta, block: &[u8]) -> Result<(), AppendError> {
        let bytes = block.len() as u64;
        match self.admit(&name.route, bytes)? {
            Admission::Room => {}
            Admission::Full => return Err(AppendError::Full),
            Admission::Drop => return Err(AppendError::Dropped),
        }
        let (segment, offset) = self.write(block)?;
        let place = Place {
            seq: meta.seq.0,
            segment,
            offset: offset as u32,
            bytes: bytes as u32,
            records: meta.records,
            oldest_us: meta.oldest_us,
            newest_us: meta.newest_us,
        };
        if !self.lanes.contains_key(name) {
            self.lanes.insert(name.clone(), Lane::default());
        }
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.push(place);
            lane.totals.add(&place);
            lane.since.add(&place);
            lane.is_dirty = true;
        }
        let segment = self.segments.entry(segment).or_default();
        segment.live_blocks += 1;
        segment.live_bytes += bytes;
        segment.is_dirty = true;
        self.empty.remove(&place.segment);
        Ok(())
    }

    /// Appends octets to the segment at hand; says where they are.
    fn write(&mut self, block: &[u8]) -> io::Result<(u64, u64)> {
        let bytes = block.len() as u64;
        if self.writer.as_ref().is_some_and(|writer| writer.len + bytes > self.options.segment_bytes && writer.len > 0)
        {
            self.roll();
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.begin_segment()?,
        };
        let (number, offset) = (writer.number, writer.len);
        // A file without a name takes everything, and keeps nothing.
        let metadata = writer.file.metadata()?;
        if metadata.nlink() == 0 {
            self.writer = Some(writer);
            return Err(io::Error::new(io::ErrorKind::NotFound, "the segment was deleted"));
        }
        let written = fault::point("segment.write").and_then(|()| writer.file.write_all_at(block, offset));
        if let Err(error) = written {
            // Whatever got there is nothing; where it cannot be cut off, nothing is written behind it.
            if writer.file.set_len(offset).is_ok() {
                self.writer = Some(writer);
            } else {
                self.seal(&writer);
                self.unsynced.push((number, writer.file));
            }
            return Err(error);
        }
        crash("append.written");
        writer.len = offset + bytes;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.len = writer.len;
        }
        self.set_allocated(number, pages(writer.len).max(allocated(&metadata)));
        self.room.written(bytes);
        self.writer = Some(writer);
        Ok((number, offset))
    }

    fn begin_segment(&mut self) -> io::Result<Writer> {
        fault::point("segment.create")?;
        let number = self.next_segment;
        let file = segment::create(&self.folder.segments(), number)?;
        crash("append.created");
        self.next_segment += 1;
        self.is_folder_unsynced = true;
        self.segments.insert(number, Segment { is_audited: true, is_ours: true, is_dirty: true, ..Segment::default() });
        Ok(Writer { number, file, len: 0, synced: 0 })
    }

    /// Closes the segment at hand. The next block begins another.
    pub(super) fn roll(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        crash("roll.before");
        self.seal(&writer);
        if writer.synced < writer.len {
            self.unsynced.push((writer.number, writer.file));
        }
    }

    fn seal(&mut self, writer: &Writer) {
        if let Ok(metadata) = writer.file.metadata() {
            self.set_allocated(writer.number, allocated(&metadata));
        }
        if self.segments.get(&writer.number).is_some_and(|segment| segment.live_blocks == 0) {
            self.empty.insert(writer.number);
        }
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
