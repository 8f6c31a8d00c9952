//! A spool in memory that answers when it is told to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::batch::{Batch, Seq};
use crate::metrics::Meters;
use crate::spool::{Command, Desk, Refusal, Reply, Rest};

use super::super::super::Pipeline;
use super::rig::ids_of;

/// What earlier runs left counts from here.
pub(super) const LEFT: u64 = 1 << 40;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Works,
    Full,
    Newest,
    Failing,
    Unreadable,
    Later,
    Silent,
}

/// What it was asked for.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) appends: usize,
    pub(super) reads: usize,
}

pub(super) struct Fake {
    pub(super) desk: Desk,
    pub(super) condition: Condition,
    pub(super) commands: Counts,
    /// Messages that `drop_newest` dropped, by lane.
    pub(super) dropped: Vec<(usize, u64)>,
    /// Messages that it has said to be stored, by lane.
    pub(super) stored: HashSet<(usize, u64)>,
    pub(super) meters: Option<Arc<Meters>>,
    disk: BTreeMap<(usize, Seq), Batch>,
    /// Of those, what lanes have in memory: not given again, nor evicted.
    out: BTreeSet<(usize, Seq)>,
}

/// The same records once more.
fn copy(batch: &Batch) -> Batch {
    let mut copy = Batch::default();
    copy.seq = batch.seq;
    for (message, input) in batch.messages(&[]).zip(batch.input_indices()) {
        copy.push(&message, input);
    }
    copy
}

impl Fake {
    pub(super) fn new(desk: Desk) -> Self {
        let commands = Counts::default();
        let (disk, out) = (BTreeMap::new(), BTreeSet::new());
        Self {
            desk,
            condition: Condition::Works,
            commands,
            dropped: Vec::new(),
            stored: HashSet::new(),
            meters: None,
            disk,
            out,
        }
    }

    /// Messages on the disk.
    pub(super) fn on_disk(&self) -> usize {
        self.disk.values().map(Batch::len).sum()
    }

    /// Leaves messages of an earlier run, a batch each.
    pub(super) fn leave(&mut self, lane: usize, count: u64) {
        for at in 0..count {
            let seq = Seq(((1 + at) << 12) | 5);
            let mut batch = Batch::default();
            batch.seq = seq;
            super::rig::push(&mut batch, LEFT + at, 1000);
            self.disk.insert((lane, seq), batch);
            let route = &self.meters.as_ref().unwrap().routes[lane];
            route.recovered.add(1);
            route.spooled.add(1);
        }
    }

    pub(super) fn resume(&self, lane: usize) {
        assert!(self.desk.answer(0, Reply::Resume { lane }));
    }

    /// Evicts the oldest block of a lane that is not in memory.
    pub(super) fn evict(&mut self, lane: usize) {
        let mut blocks = self.disk.range((lane, Seq(0))..(lane + 1, Seq(0)));
        let Some((key, _)) = blocks.find(|(key, _)| !self.out.contains(key)) else { return };
        let key = *key;
        let batch = self.disk.remove(&key).unwrap();
        self.dropped.extend(ids_of(&batch).into_iter().map(|id| (lane, id)));
        let route = &self.meters.as_ref().unwrap().routes[lane];
        route.dropped_spool_full.add(batch.len() as u64);
        route.spooled.add(-(batch.len() as i64));
    }

    /// Fills the channel with what does not matter.
    pub(super) fn clog(&self, pipeline: &Pipeline) -> usize {
        let port = &pipeline.spooling.as_ref().unwrap().port;
        (0..).take_while(|_| port.send(Command::Release { lane: 9, seq: Seq(1) }).is_ok()).count()
    }

    /// Gives `count` answers, or as many as it owes.
    pub(super) fn serve(&mut self, count: usize) {
        let mut given = 0;
        while given < count {
            if self.condition == Condition::Silent {
                return;
            }
            let Ok(shard) = self.desk.calls.try_recv() else { return };
            let Some(command) = self.desk.command(shard) else { continue };
            let reply = match command {
                Command::Append { lane, batch, keep, .. } => self.append(lane, batch, keep),
                Command::Read { lane, bytes } => self.read(lane, bytes),
                Command::Forget { lane, seq } => {
                    assert!(self.out.remove(&(lane, seq)), "it was not given: {seq:?}");
                    continue;
                }
                Command::Acknowledge { .. } | Command::Roster(_) => continue,
                Command::Release { lane: 9, .. } => continue,
                Command::Release { lane, seq } => {
                    assert!(self.out.remove(&(lane, seq)), "it was not given: {seq:?}");
                    self.disk.remove(&(lane, seq));
                    continue;
                }
            };
            assert!(self.desk.answer(shard, reply), "there is room for every answer");
            given += 1;
        }
    }

    fn append(&mut self, lane: usize, batch: Batch, keep: bool) -> Reply {
        self.commands.appends += 1;
        let (seq, records, charge) = (batch.seq, batch.len(), batch.charge());
        match self.condition {
            Condition::Full => return Reply::Refused { lane, batch, why: Refusal::Full },
            Condition::Failing | Condition::Unreadable => {
                return Reply::Refused { lane, batch, why: Refusal::Failing };
            }
            Condition::Newest => {
                self.dropped.extend(ids_of(&batch).into_iter().map(|id| (lane, id)));
                self.meters.as_ref().unwrap().routes[lane].dropped_spool_full.add(records as u64);
                return Reply::Dropped { lane, seq, records, charge };
            }
            Condition::Works | Condition::Later | Condition::Silent => {}
        }
        let before = self.disk.insert((lane, seq), copy(&batch));
        assert!(before.is_none(), "stored twice: {seq:?}");
        self.stored.extend(ids_of(&batch).into_iter().map(|id| (lane, id)));
        if keep {
            self.out.insert((lane, seq));
        }
        Reply::Stored { lane, batch, kept: keep }
    }

    fn read(&mut self, lane: usize, bytes: usize) -> Reply {
        self.commands.reads += 1;
        let rest = match self.condition {
            Condition::Later => Rest::Later,
            Condition::Unreadable => Rest::Unknown,
            _ => Rest::End,
        };
        let mut batches = Vec::new();
        if rest != Rest::End {
            return Reply::Read { lane, batches, rest };
        }
        let mut taken = 0;
        let (mut rest, mut given) = (rest, Vec::new());
        let blocks = self.disk.range((lane, Seq(0))..(lane + 1, Seq(0)));
        for (key, batch) in blocks.filter(|(key, _)| !self.out.contains(key)) {
            if taken > 0 && taken + batch.charge() > bytes {
                rest = Rest::More;
                break;
            }
            taken += batch.charge();
            batches.push(copy(batch));
            given.push(*key);
        }
        self.out.extend(given);
        Reply::Read { lane, batches, rest }
    }
}
