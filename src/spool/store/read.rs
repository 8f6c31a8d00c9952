//! Reading blocks back.

use std::io;

use super::{Event, Store};
use crate::batch::Seq;
use crate::spool::block::{BlockFault, Header, LaneName, Meta};
use crate::spool::index::Place;
use crate::spool::segment::{self, Found, Walk};

/// What [`Store::next_unread`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// This block; it is out now.
    Block(Meta),
    /// A block that stays where it is, for want of the right key; it is passed over in this run.
    Locked,
    /// A block that is damaged, or elsewhere than it should be: what comes next may be another.
    Gone,
    /// Nothing.
    End,
}

/// Why a block does not come out.
enum ReadFault {
    Damaged,
    /// It was dropped, and the index does not know it.
    Dead,
    /// There is no key for it.
    Locked,
    Io(io::Error),
}

impl Store {
    /// The lane's oldest block after `after`, its octets in `plain`. It is out then. Damaged ones are skipped and told.
    ///
    /// # Errors
    /// What the disk says; go on with [`Self::retry`].
    pub fn next(&mut self, lane: &LaneName, after: Seq, plain: &mut Vec<u8>) -> io::Result<Option<Meta>> {
        let mut after = after.0;
        while let Some(place) = self.live_after(lane, after)? {
            match self.give(lane, &place, plain)? {
                Unread::Block(meta) => return Ok(Some(meta)),
                Unread::Locked => after = place.seq,
                Unread::Gone | Unread::End => {}
            }
        }
        Ok(None)
    }

    /// What of the lane is next to be given, of what is not out; without reading it. Blocks that were found again late
    /// come first, or such as were forgotten.
    ///
    /// # Errors
    /// What the disk says; go on with [`Self::retry`].
    pub fn peek_unread(&mut self, lane: &LaneName) -> io::Result<Option<Meta>> {
        Ok(self.unread(lane)?.map(|place| place.meta()))
    }

    /// Gives that block, or finds out that it cannot be given. One block is looked at, whatever it is.
    ///
    /// # Errors
    /// As there.
    pub fn next_unread(&mut self, lane: &LaneName, plain: &mut Vec<u8>) -> io::Result<Unread> {
        let Some(place) = self.unread(lane)? else { return Ok(Unread::End) };
        self.give(lane, &place, plain)
    }

    fn give(&mut self, name: &LaneName, place: &Place, plain: &mut Vec<u8>) -> io::Result<Unread> {
        match self.read_block(name, place, plain) {
            Ok(meta) => {
                if let Some(lane) = self.lanes.get_mut(name) {
                    lane.taken.give(place);
                }
                Ok(Unread::Block(meta))
            }
            Err(ReadFault::Io(error)) => Err(error),
            Err(ReadFault::Locked) => {
                let records = u64::from(place.records);
                self.tell(Event::Locked { route: name.route.clone(), records });
                if let Some(lane) = self.lanes.get_mut(name) {
                    lane.taken.skip(place.seq);
                }
                Ok(Unread::Locked)
            }
            Err(ReadFault::Dead) => self.retire(name, place.seq).map(|_| Unread::Gone),
            Err(ReadFault::Damaged) => self.mend(name, place).map(|()| Unread::Gone),
        }
    }

    /// The lane's oldest block after `after`, without reading it, out or not.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn peek(&mut self, lane: &LaneName, after: Seq) -> io::Result<Option<Meta>> {
        Ok(self.live_after(lane, after.0)?.map(|place| place.meta()))
    }

    /// A block that came out whole and makes no sense all the same: treated as a damaged one.
    ///
    /// # Errors
    /// What the index says.
    pub fn discard(&mut self, lane: &LaneName, seq: Seq) -> io::Result<()> {
        match self.live_after(lane, seq.0.saturating_sub(1))?.filter(|place| place.seq == seq.0) {
            Some(place) => self.mend(lane, &place),
            None => Ok(()),
        }
    }

    /// The octets of one block, by its seq, for an operator: `None` where there is none. It is not out by that.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` where it is damaged or there is no key.
    pub fn read(&mut self, lane: &LaneName, seq: Seq, plain: &mut Vec<u8>) -> io::Result<Option<Meta>> {
        let Some(place) = self.live_after(lane, seq.0.saturating_sub(1))?.filter(|place| place.seq == seq.0) else {
            return Ok(None);
        };
        let why = match self.read_block(lane, &place, plain) {
            Ok(meta) => return Ok(Some(meta)),
            Err(ReadFault::Io(error)) => return Err(error),
            Err(ReadFault::Damaged) => "the block is damaged",
            Err(ReadFault::Dead) => return Ok(None),
            Err(ReadFault::Locked) => "the block does not decrypt with this key",
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }

    fn read_block(&mut self, name: &LaneName, place: &Place, plain: &mut Vec<u8>) -> Result<Meta, ReadFault> {
        let mut block = std::mem::take(&mut self.block);
        let read = super::fault::point("segment.read").and_then(|()| {
            let file = self.file(place.segment)?;
            segment::read(file, u64::from(place.offset), place.bytes as usize, &mut block)
        });
        let opened = match read {
            Ok(()) => self.open_block(name, place, &block, plain),
            Err(error) => Err(self.unreadable(name, place, error)),
        };
        self.block = block;
        opened
    }

    fn open_block(
        &mut self,
        name: &LaneName,
        place: &Place,
        block: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<Meta, ReadFault> {
        let (header, header_len) = Header::parse(block).map_err(|_| ReadFault::Damaged)?;
        let is_it =
            header.lane == *name && header.meta.seq.0 == place.seq && header.block_len() == u64::from(place.bytes);
        let payload = block.get(header_len..).filter(|_| is_it).ok_or(ReadFault::Damaged)?;
        if header.tombstone {
            return Err(ReadFault::Dead);
        }
        match self.coder.open(&header, payload, plain) {
            Ok(()) => Ok(header.meta),
            Err(BlockFault::NoKey | BlockFault::Cipher) => Err(ReadFault::Locked),
            Err(_) => Err(ReadFault::Damaged),
        }
    }

    /// What it means that octets could not be read.
    fn unreadable(&mut self, name: &LaneName, place: &Place, error: io::Error) -> ReadFault {
        match error.kind() {
            // Its file is gone, or cut.
            io::ErrorKind::NotFound if self.folder.is_there() => ReadFault::Damaged,
            io::ErrorKind::UnexpectedEof => ReadFault::Damaged,
            _ => {
                // A dying disk fails everywhere, a bad sector in one place for ever.
                let Some(lane) = self.lanes.get_mut(name) else { return ReadFault::Io(error) };
                let again = lane.unread.replace(place.seq) == Some(place.seq);
                if again && error.raw_os_error() == Some(EIO) { ReadFault::Damaged } else { ReadFault::Io(error) }
            }
        }
    }

    /// A block was not where it should be: it may be elsewhere in its file, which has lost or won octets. If not, it is
    /// lost.
    fn mend(&mut self, name: &LaneName, place: &Place) -> io::Result<()> {
        let segment = self.segments.get_mut(&place.segment);
        if let Some(segment) = segment.filter(|segment| !segment.is_searched) {
            segment.is_searched = true;
            segment.is_damaged = true;
            return self.search(place.segment).map(drop);
        }
        self.tell(Event::Damaged {
            route: Some(name.route.clone()),
            records: Some(u64::from(place.records)),
            bytes: u64::from(place.bytes),
        });
        self.retire(name, place.seq)?;
        Ok(())
    }

    /// Looks through a damaged segment, octet by octet where that must be: its live blocks, where they are, which may be
    /// elsewhere than the index has said.
    pub(super) fn search(&mut self, number: u64) -> io::Result<Vec<(LaneName, Place)>> {
        let mut live = Vec::new();
        let Ok(file) = self.file(number).and_then(std::fs::File::try_clone) else { return Ok(live) };
        let mut walk = Walk::new(file, 0, true)?;
        loop {
            let (offset, header) = match walk.next() {
                Ok(Some(Found::Block { offset, header })) => (offset, header),
                Ok(Some(_)) => continue,
                Ok(None) => return Ok(live),
                Err(_) => {
                    walk.skip();
                    continue;
                }
            };
            let seq = header.meta.seq.0;
            let known = self.live_after(&header.lane, seq.saturating_sub(1))?.filter(|known| known.seq == seq);
            let Some(known) = known.filter(|known| known.segment == number) else { continue };
            let place = Place { offset: offset as u32, ..known };
            if place != known {
                // Written twice, as the first time went wrong.
                if self.is_block_at(&header.lane, &known) {
                    continue;
                }
                self.move_place(&header.lane, place);
            }
            live.push((header.lane, place));
        }
    }

    /// The block is elsewhere than the index says.
    pub(super) fn move_place(&mut self, name: &LaneName, place: Place) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.push(place);
        }
    }
}

/// What the kernel says of octets that the disk does not give.
const EIO: i32 = 5;

impl Place {
    pub(super) fn meta(&self) -> Meta {
        let Self { seq, records, oldest_us, newest_us, .. } = *self;
        Meta { seq: Seq(seq), records, oldest_us, newest_us }
    }
}
