//! The index in use: what happens when it fails, and writing to it what is not in it yet.

use std::fs;
use std::io;

use super::fault::{self, crash};
use super::lane::Totals;
use super::{Event, Store, folder};
use crate::spool::block::LaneName;
use crate::spool::index::{self, Changes, Index, IndexFault, Place};

impl Store {
    /// Calls `call`, which uses the index. Where that turns out to be damaged it is put aside and made again, where the
    /// disk was full the reserve is given up for it; then once more.
    pub(super) fn indexed<T>(&mut self, call: impl Fn(&mut Self) -> Result<T, IndexFault>) -> io::Result<T> {
        match call(self) {
            Ok(value) => return Ok(value),
            Err(IndexFault::Damaged(why)) => self.lose_index(&why)?,
            Err(fault @ IndexFault::Hung) => self.lose_index(&fault.to_string())?,
            Err(IndexFault::Io(error)) => {
                self.drop_index();
                if !is_full(&error) || !self.give_up_reserve() {
                    return Err(error);
                }
                self.reopen_index()?;
            }
        }
        call(self).map_err(|fault| {
            self.drop_index();
            to_io(fault)
        })
    }

    /// The lane's oldest live block after `after`.
    pub(super) fn live_after(&mut self, name: &LaneName, after: u64) -> io::Result<Option<Place>> {
        self.indexed(|store| {
            let Some(lane) = store.lanes.get_mut(name) else { return Ok(None) };
            lane.live_after(open(&mut store.index)?, name, after)
        })
    }

    /// The lane's next block to be given.
    pub(super) fn unread(&mut self, name: &LaneName) -> io::Result<Option<Place>> {
        self.indexed(|store| {
            let Some(lane) = store.lanes.get_mut(name) else { return Ok(None) };
            lane.unread(open(&mut store.index)?, name)
        })
    }

    /// Lets go of an index that answers no more. [`Store::retry`] opens it again.
    pub(crate) fn drop_index(&mut self) {
        if let Some(index) = self.index.take() {
            #[cfg(test)]
            let index = stalled_at("index.close.hang", index);
            index.close();
        }
    }

    /// Makes the index again because an operator wants it: [`Self::work`] does it, step by step.
    ///
    /// # Errors
    /// The index that there is cannot be removed, or a new one not be made.
    pub fn rebuild(&mut self) -> io::Result<()> {
        // Nothing is wrong with it that somebody might want to look at.
        self.drop_index();
        folder::remove(&self.folder.index())?;
        self.lose_index("an operator asked for it")
    }

    /// Puts the index aside and begins a new one, which the audit fills.
    pub(super) fn lose_index(&mut self, why: &str) -> io::Result<()> {
        self.drop_index();
        let aside = self.folder.put_aside(&self.folder.index());
        match aside {
            Ok(path) => self.tell(Event::Quarantined { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        crash("index.lost");
        // The old one lies beside the new one now, and both count.
        let old = self.room.index_bytes;
        self.measure();
        if !self.has_room(old) {
            self.folder.bound_quarantine(0)?;
        }
        self.tell(Event::Rebuilding { why: why.to_owned() });
        let index = open_index(self).map_err(to_io)?;
        self.index = Some(index);
        // What the audit finds is counted anew.
        self.roll();
        self.forget_index();
        for segment in self.segments.values_mut() {
            (segment.live_blocks, segment.live_bytes) = (0, 0);
            (segment.is_audited, segment.is_ours) = (false, false);
        }
        self.empty.clear();
        for lane in self.lanes.values_mut() {
            lane.pending.clear();
            (lane.totals, lane.since) = (Totals::default(), Totals::default());
        }
        self.begin_audit(true, (0, 0));
        // What is retired is known no more but here.
        if let Err(fault) = self.write_index() {
            tracing::debug!(%fault, "the new index is not written yet");
        }
        Ok(())
    }

    /// Opens the index that was let go. It may lack what was written last: all of that is written again.
    pub(super) fn reopen_index(&mut self) -> io::Result<()> {
        match open_index(self).and_then(|mut index| index.catalogue().map(|_| index)) {
            Ok(index) => self.index = Some(index),
            // The last handle has not closed, and may never do so.
            Err(IndexFault::Io(error)) if error.kind() == io::ErrorKind::ResourceBusy => {
                return self.lose_index("it does not close");
            }
            Err(fault @ IndexFault::Hung) => return self.lose_index(&fault.to_string()),
            Err(IndexFault::Io(error)) => return Err(error),
            Err(IndexFault::Damaged(why)) => return self.lose_index(&why),
        }
        self.forget_index();
        Ok(())
    }

    fn forget_index(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.forget_runs();
            lane.is_dirty = true;
        }
        for segment in self.segments.values_mut() {
            segment.is_dirty = true;
        }
    }

    /// Writes to the index what is not in it, and flushes it. Blocks of it must be synced before.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        self.indexed(Self::write_index)?;
        crash("commit.flushed");
        for lane in self.lanes.values_mut() {
            lane.is_dirty = false;
            lane.written();
        }
        for segment in self.segments.values_mut() {
            segment.is_dirty = false;
        }
        self.gone.clear();
        self.measure();
        Ok(())
    }

    fn write_index(&mut self) -> Result<(), IndexFault> {
        let index = open(&mut self.index)?;
        fault::point("index.write").map_err(IndexFault::Io)?;
        let mut changes = Changes::default();
        // Until the audit is through, what is retired and what is lost are told apart by what is in the index.
        let is_audited = self.audit.is_none();
        for (name, lane) in &mut self.lanes {
            if !lane.pending.is_empty() {
                lane.write_pending(index, name, !is_audited)?;
            }
            if lane.is_dirty {
                let before = self.audit.as_ref().map(|audit| audit.retired_before(name));
                changes.put_lane(name, &lane.record(before));
            }
        }
        crash("commit.runs");
        for (number, segment) in self.segments.iter().filter(|(_, segment)| segment.is_dirty) {
            changes.put_segment(*number, segment.record());
        }
        for number in &self.gone {
            changes.remove_segment(*number);
        }
        // An index that is being made knows nothing for sure: after a restart that goes on.
        if !self.audit.as_ref().is_some_and(|audit| audit.rebuilds) {
            changes.put_checkpoint(checkpoint(self.writer.as_ref(), self.next_segment));
        }
        index.apply(changes)?;
        crash("commit.applied");
        if is_audited {
            for (name, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.is_dirty) {
                lane.sweep(index, name)?;
            }
        }
        fault::point("index.flush").map_err(IndexFault::Io)?;
        #[cfg(test)]
        if fault::point("index.flush.hang").is_err() {
            index.stall();
        }
        index.flush()
    }

    /// Begins an empty index where nothing is in it that is needed: sled's files do not shrink by themselves.
    pub(super) fn renew_index(&mut self) -> io::Result<()> {
        self.drop_index();
        crash("renew.closed");
        // Blocks without an index are found again; an index without blocks is nothing worse than what it was.
        folder::remove(&self.folder.index())?;
        crash("renew.removed");
        self.lanes.values_mut().for_each(|lane| lane.forget_runs());
        self.reopen_index()
    }

    /// Copies the index, which takes much more than what is in it, to a new one.
    pub(super) fn compact_index(&mut self) -> io::Result<()> {
        let (dir, new, old) = (self.folder.index(), self.folder.dir().join(NEW), self.folder.dir().join(OLD));
        folder::remove(&new)?;
        self.indexed(|store| open(&mut store.index)?.copy_to(&new))?;
        crash("compact.copied");
        self.drop_index();
        let swapped = fs::rename(&dir, &old).and_then(|()| {
            crash("compact.moved");
            fs::rename(&new, &dir)
        });
        crash("compact.renamed");
        let settled = settle_index(&self.folder);
        self.reopen_index()?;
        swapped.and(settled)
    }
}

/// Where an index is copied to, and where the old one is while they change places.
const NEW: &str = "index.new";
const OLD: &str = "index.old";

/// Ends what a copy of the index may have left half done.
pub(super) fn settle_index(folder: &folder::Folder) -> io::Result<()> {
    let (dir, new, old) = (folder.index(), folder.dir().join(NEW), folder.dir().join(OLD));
    if old.exists() && !dir.exists() {
        fs::rename(&old, &dir)?;
    }
    folder::remove(&old)?;
    folder::remove(&new)
}

/// Opens the folder's index, and sees to it that its flush is one.
pub(super) fn open_index(store: &mut Store) -> Result<Index, IndexFault> {
    fault::point("index.open").map_err(IndexFault::Io)?;
    let dir = store.folder.index();
    let mut index = Index::open(&dir)?;
    crash("index.opened");
    let now = crate::time::since_epoch().as_nanos() as u64;
    if !index.probe(now)? {
        store.tell(Event::SyncBehind);
    }
    index::own(&dir).map_err(IndexFault::Io)?;
    Ok(index)
}

/// The index, which answers no more where a test wants it so.
#[cfg(test)]
fn stalled_at(point: &'static str, mut index: Index) -> Index {
    if fault::point(point).is_err() {
        index.stall();
    }
    index
}

/// The index, where it answers.
pub(super) fn open(index: &mut Option<Index>) -> Result<&mut Index, IndexFault> {
    let closed = || IndexFault::Io(io::Error::new(io::ErrorKind::NotConnected, "the index is closed"));
    index.as_mut().ok_or_else(closed)
}

fn checkpoint(writer: Option<&super::Writer>, next_segment: u64) -> (u64, u64) {
    writer.map_or((next_segment, 0), |writer| (writer.number, writer.synced))
}

/// Whether it is for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(super) fn to_io(fault: IndexFault) -> io::Error {
    match fault {
        IndexFault::Io(error) => error,
        IndexFault::Damaged(why) => io::Error::new(io::ErrorKind::InvalidData, why),
        IndexFault::Hung => io::Error::new(io::ErrorKind::TimedOut, fault),
    }
}
