//! A spool in memory that answers when it is told to.

use std::collections::BTreeMap;
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
    pub(super) meters: Option<Arc<Meters>>,
    disk: BTreeMap<(usize, Seq), Batch>,
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
        Self { desk, condition: Condition::Works, commands, dropped: Vec::new(), meters: None, disk: BTreeMap::new() }
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
            let Ok((shard, command)) = self.desk.commands.try_recv() else { return };
            let reply = match command {
                Command::Append { lane, batch, keep } => self.append(lane, batch, keep),
                Command::Read { lane, after, bytes } => self.read(lane, after, bytes),
                Command::Forget { .. } => continue,
                Command::Release { lane, seq } => {
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
                return Reply::Dropped { lane, records, charge };
            }
            Condition::Works | Condition::Later | Condition::Silent => {}
        }
        let before = self.disk.insert((lane, seq), copy(&batch));
        assert!(before.is_none(), "stored twice: {seq:?}");
        Reply::Stored { lane, seq, records, charge, batch: keep.then_some(batch) }
    }

    fn read(&mut self, lane: usize, after: Seq, bytes: usize) -> Reply {
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
        for (_, batch) in self.disk.range((lane, Seq(after.0 + 1))..(lane + 1, Seq(0))) {
            if taken > 0 && taken + batch.charge() > bytes {
                return Reply::Read { lane, batches, rest: Rest::More };
            }
            taken += batch.charge();
            batches.push(copy(batch));
        }
        Reply::Read { lane, batches, rest }
    }
}
