//! Blocks off the disk, and what becomes of them.

use std::io;
use std::time::{Duration, Instant};

use crate::batch::{Batch, Seq};
use crate::spool::block::LaneName;
use crate::spool::inherit::{Part, Turn};
use crate::spool::store::{Store, Unread};
use crate::spool::{Rest, records};

use super::Worker;

/// Blocks that do not come out and that one read passes over: others wait meanwhile.
const SKIPPED_MAX: usize = 64;

/// The same in time: such blocks are read before that shows.
const SKIPPING: Duration = Duration::from_millis(10);

impl Worker {
    /// The next blocks of `lane`, as many as `bytes` of memory take. Fewer, or none, where many of them do not come out:
    /// the next read goes on behind those.
    pub(super) fn read(&mut self, shard: usize, lane: usize, bytes: usize) -> (Vec<Batch>, Rest) {
        let Some(store) = self.store.as_ref() else { return (Vec::new(), Rest::Unknown) };
        if store.is_rebuilding() || self.inherited.turn(lane, shard) == Turn::Another {
            return (Vec::new(), Rest::Later);
        }
        let mut batches: Vec<Batch> = Vec::new();
        let (mut taken, mut skipped, started) = (0, 0, Instant::now());
        let rest = loop {
            match self.next_of(shard, lane) {
                Ok(None) => break Rest::End,
                Ok(Some(_)) if taken >= bytes => break Rest::More,
                Ok(Some(name)) => match self.read_one(lane, &name) {
                    Ok(Some(batch)) => {
                        taken += batch.charge();
                        batches.push(batch);
                    }
                    Ok(None) => {
                        skipped += 1;
                        if skipped >= SKIPPED_MAX || started.elapsed() >= SKIPPING {
                            break Rest::More;
                        }
                    }
                    Err(error) => {
                        self.fail("the spool cannot be read", &error);
                        break Rest::Unknown;
                    }
                },
                Err(error) => {
                    self.fail("the spool cannot be read", &error);
                    break Rest::Unknown;
                }
            }
        };
        (batches, rest)
    }

    /// Where the next block is that `shard` is to send of `lane`: what was inherited first, by age.
    pub(super) fn next_of(&mut self, shard: usize, lane: usize) -> io::Result<Option<LaneName>> {
        let route = self.lanes.get(lane).map(String::as_str).unwrap_or_default();
        let Some(store) = self.store.as_mut() else { return Ok(None) };
        if let Turn::These(parts) = self.inherited.turn(lane, shard) {
            let parts = parts.iter().map(|part| (part.lane.clone(), part.last));
            if let Some(name) = oldest_of(store, parts)? {
                return Ok(Some(name));
            }
        }
        oldest_of(store, self.places.of(route, lane, shard).map(|name| (name, Seq(u64::MAX))))
    }

    /// The next block of `name`; `None` where it cannot be given.
    pub(super) fn read_one(&mut self, lane: usize, name: &LaneName) -> io::Result<Option<Batch>> {
        let Some(store) = self.store.as_mut() else { return Ok(None) };
        let Unread::Block(meta) = store.next_unread(name, &mut self.plain)? else { return Ok(None) };
        self.given.push((name.clone(), meta.seq));
        let Ok(mut batch) = records::decode(&self.plain, &self.inputs) else {
            store.discard(name, meta.seq)?;
            return Ok(None);
        };
        batch.seq = meta.seq;
        batch.stored = true;
        batch.inherited = self.inherited.gave(lane, name, meta.seq);
        self.places.read(lane, meta.seq, name);
        self.reporter.read();
        Ok(Some(batch))
    }

    /// A memory copy is gone: the block may be evicted again, and will be read again.
    pub(super) fn forget(&mut self, shard: usize, lane: usize, seq: Seq) {
        let name = self.holder(lane, seq);
        if let Some(store) = self.store.as_mut() {
            store.forget(&name, seq);
            self.inherited.took_back(lane, &name, seq);
            let route = self.lanes.get(lane).map(String::as_str).unwrap_or_default();
            if !self.places.of(route, lane, shard).any(|own| own == name) {
                // It was acknowledged once, and the connection broke since: it goes first again.
                self.inherited.add(lane, Part::new(name, seq));
            }
        }
    }

    pub(super) fn release(&mut self, lane: usize, seq: Seq) {
        let name = self.holder(lane, seq);
        let Some(store) = self.store.as_mut() else { return };
        store.release(&name, seq);
        self.places.gone(lane, seq);
        self.is_dirty = true;
        self.reporter.released();
        if self.inherited.took_back(lane, &name, seq) {
            self.settle(lane);
        }
    }

    /// The far end has an inherited block, as far as its kernel says.
    pub(super) fn acknowledge(&mut self, lane: usize, seq: Seq) {
        let name = self.holder(lane, seq);
        if self.inherited.took_back(lane, &name, seq) {
            self.settle(lane);
        }
    }

    /// Where all that was inherited of `lane` is acknowledged, every shard goes on with its own.
    pub(super) fn settle(&mut self, lane: usize) {
        // An index that is being made again does not know what is left.
        let Some(store) = self.store.as_mut().filter(|store| !store.is_rebuilding()) else { return };
        let is_left = |part: &Part| match store.peek_unread(&part.lane) {
            Ok(next) => !part.out.is_empty() || next.is_some_and(|meta| meta.seq <= part.last),
            Err(_) => true,
        };
        if self.inherited.settle(lane, is_left) {
            self.resume(lane);
        }
    }

    /// What was inherited may have been evicted, dropped, or found damaged.
    pub(super) fn settle_all(&mut self) {
        for lane in 0..self.lanes.len() {
            if self.inherited.has(lane) {
                self.settle(lane);
            }
        }
    }

    pub(super) fn holder(&self, lane: usize, seq: Seq) -> LaneName {
        self.places.holder(self.lanes.get(lane).map(String::as_str).unwrap_or_default(), lane, seq)
    }
}

/// The lane whose next block is the oldest of those that come before a lane's limit.
fn oldest_of(store: &mut Store, lanes: impl Iterator<Item = (LaneName, Seq)>) -> io::Result<Option<LaneName>> {
    let mut oldest: Option<(Seq, LaneName)> = None;
    for (name, last) in lanes {
        let next = store.peek_unread(&name)?.map(|meta| meta.seq).filter(|seq| *seq <= last);
        if let Some(seq) = next
            && oldest.as_ref().is_none_or(|(oldest, _)| seq < *oldest)
        {
            oldest = Some((seq, name));
        }
    }
    Ok(oldest.map(|(_, name)| name))
}
