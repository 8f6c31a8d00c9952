//! Coming back after the disk did.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::fault;
use super::folder::{self, Folder, FolderFault};
use super::lane::Totals;
use super::{Event, Store};
use crate::spool::block::LaneName;
use crate::spool::segment;

/// Written to see whether the disk takes anything.
pub(super) const PROBE: &str = "probe";

impl Store {
    /// After an error: opens again what is closed, makes again what is gone, and looks whether the disk takes anything.
    ///
    /// # Errors
    /// It does not work yet.
    pub fn retry(&mut self) -> io::Result<()> {
        if !self.folder.is_there() {
            self.make_again()?;
        }
        self.probe()?;
        if self.index.is_none() {
            self.reopen_index()?;
        }
        self.tell_what_is_lost()?;
        self.measure();
        self.room.is_new();
        Ok(())
    }

    /// Writes something, as a segment would be.
    fn probe(&mut self) -> io::Result<()> {
        fault::point("retry.probe")?;
        let path = self.folder.segments().join(PROBE);
        let page = [0x5a; segment::PAGE as usize];
        let written = fs::write(&path, page).and_then(|()| fs::File::open(&path)?.sync_all());
        folder::remove(&path)?;
        written
    }

    /// The folder was deleted: makes a new one, of what can still be read. The rest is lost, and told.
    fn make_again(&mut self) -> io::Result<()> {
        self.folder.let_go()?;
        let (folder, _) = Folder::open(&self.options.dir, self.options.max_size).map_err(|fault| match fault {
            FolderFault::Held(by) => io::Error::new(io::ErrorKind::ResourceBusy, format!("in use by {by}")),
            FolderFault::Newer(version) => io::Error::other(format!("it has format {version}")),
            FolderFault::Io(error) => error,
        })?;
        // Where it is deleted again before that was told, what there was at first counts.
        self.deleted = Some(self.deleted.take().unwrap_or_else(|| self.holdings()));
        self.drop_index();
        let mut kept = std::mem::take(&mut self.files);
        kept.append(&mut self.unsynced);
        kept.extend(self.writer.take().map(|writer| (writer.number, writer.file)));
        // Its name is gone, its octets are not, as long as it is open.
        for (number, mut file) in kept {
            use io::Seek;
            if !segment::path(&folder.segments(), number).exists() && file.rewind().is_ok() {
                let mut copy = segment::create(&folder.segments(), number)?;
                io::copy(&mut file, &mut copy)?;
                self.unsynced.push((number, copy));
            }
        }
        self.folder = folder;
        self.segments.clear();
        self.empty.clear();
        self.gone.clear();
        self.audit = None;
        self.room = super::room::Room::default();
        self.is_folder_unsynced = true;
        self.find_segments()?;
        self.lose_index("its folder was deleted")
    }

    /// The folder was deleted: looks through what is left of it, and tells of the rest. What is out is not lost yet.
    fn tell_what_is_lost(&mut self) -> io::Result<()> {
        if self.deleted.is_none() {
            return Ok(());
        }
        while self.audit.is_some() {
            if !self.audit_step() {
                return Err(io::ErrorKind::NotConnected.into());
            }
        }
        let names: Vec<LaneName> = self.lanes.keys().cloned().collect();
        for name in names {
            let out: Vec<u64> =
                self.lanes.get(&name).into_iter().flat_map(|lane| lane.taken.out.keys()).copied().collect();
            for seq in out {
                let is_lost = self.live_after(&name, seq.saturating_sub(1))?.is_none_or(|next| next.seq != seq);
                let out = self.lanes.get_mut(&name).and_then(|lane| lane.taken.out.get_mut(&seq));
                if let Some(out) = out {
                    out.is_lost = is_lost;
                }
            }
        }
        let has = self.holdings();
        for (route, had) in self.deleted.take().unwrap_or_default() {
            let has = has.get(&route).copied().unwrap_or_default();
            let (records, bytes) = (had.records.saturating_sub(has.records), had.bytes.saturating_sub(has.bytes));
            if had.blocks > has.blocks {
                self.tell(Event::Damaged { route: Some(route), records: Some(records), bytes });
            }
        }
        Ok(())
    }

    /// What each route has on the disk alone.
    fn holdings(&self) -> BTreeMap<String, Totals> {
        let mut routes = BTreeMap::<String, Totals>::new();
        for (name, lane) in &self.lanes {
            let route = routes.entry(name.route.clone()).or_default();
            *route = route.plus(lane.totals);
            for out in lane.taken.out.values().filter(|out| !out.is_lost) {
                route.blocks = route.blocks.saturating_sub(1);
                route.records = route.records.saturating_sub(out.records);
                route.bytes = route.bytes.saturating_sub(out.bytes);
            }
        }
        routes
    }
}
