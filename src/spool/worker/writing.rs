//! Batches onto the disk.

use std::io;
use std::time::Instant;

use crate::batch::{Batch, Seq};
use crate::config::SpoolSync;
use crate::spool::block::Meta;
use crate::spool::report::Written;
use crate::spool::store::{AppendError, Store};
use crate::spool::{Refusal, Reply, State, records};

use super::{Commit, HOUSEKEEPING, InHand, Worker};

impl Worker {
    pub(super) fn append(
        &mut self,
        (shard, lane): (usize, usize),
        batch: Batch,
        (keep, durable): (bool, bool),
        first: bool,
    ) {
        let place = self.refused.get_mut(shard).and_then(|lanes| lanes.get_mut(lane));
        // What was on its way behind a batch that was refused is not taken, or that one would be overtaken.
        if let Some(refused) = place
            && let Some(seq) = *refused
        {
            if batch.seq > seq && !first {
                self.desk.answer(shard, Reply::Refused { lane, batch, why: self.refusal() });
                return;
            }
            *refused = None;
        }
        let seq = batch.seq;
        self.in_hand = Some(InHand::Append { shard, lane, seq });
        self.desk.hold(shard, lane, batch);
        let written = self.write(shard, lane, seq, keep);
        self.in_hand = None;
        match written {
            Ok(records) => {
                self.is_dirty = true;
                self.written.add(records, self.plain.len());
                self.stored(Commit { shard, lane, seq, kept: keep }, durable);
            }
            Err(AppendError::Dropped) => {
                let Some(batch) = self.desk.let_go(shard, lane, seq) else { return };
                self.reporter.dropped_newest(lane, batch.len());
                let (records, charge) = (batch.len(), batch.charge());
                self.desk.answer(shard, Reply::Dropped { lane, seq, records, charge });
            }
            Err(AppendError::Full) => {
                self.reporter.full();
                self.refuse(shard, lane, seq, Refusal::Full);
            }
            Err(AppendError::Io(error)) => {
                // One that fails already has said so.
                if self.desk.shared.state() != State::Failing {
                    self.fail("the spool cannot be written", &error);
                }
                self.refuse(shard, lane, seq, Refusal::Failing);
            }
        }
    }

    /// Writes a batch that is held; how many records it has.
    fn write(&mut self, shard: usize, lane: usize, seq: Seq, keep: bool) -> Result<usize, AppendError> {
        let works = self.desk.shared.state() != State::Failing;
        let not_connected = || AppendError::Io(io::ErrorKind::NotConnected.into());
        let store = self.store.as_mut().filter(|_| works).ok_or_else(not_connected)?;
        let route = self.lanes.get(lane).map(String::as_str).unwrap_or_default();
        let Some(name) = self.places.for_append(route, lane, shard, seq, store) else {
            return Err(AppendError::Full);
        };
        let (inputs, plain) = (&self.inputs, &mut self.plain);
        plain.clear();
        let meta = self.desk.with_held(shard, lane, seq, |batch| {
            records::encode(batch, inputs, plain);
            Meta {
                seq,
                records: batch.len() as u32,
                oldest_us: batch.received_at_us().unwrap_or_default(),
                newest_us: batch.last_received_at_us().unwrap_or_default(),
            }
        });
        let meta = meta.ok_or_else(not_connected)?;
        store.append(&name, meta, plain)?;
        if keep {
            store.protect(&name, seq);
        }
        Ok(meta.records as usize)
    }

    pub(super) fn refusal(&self) -> Refusal {
        if self.desk.shared.state() == State::Failing { Refusal::Failing } else { Refusal::Full }
    }

    /// Gives a batch back that is held.
    pub(super) fn refuse(&mut self, shard: usize, lane: usize, seq: Seq, why: Refusal) {
        let Some(batch) = self.desk.let_go(shard, lane, seq) else { return };
        if let Some(refused) = self.refused.get_mut(shard).and_then(|lanes| lanes.get_mut(lane)) {
            *refused = Some(refused.map_or(seq, |refused: Seq| refused.min(seq)));
        }
        self.desk.answer(shard, Reply::Refused { lane, batch, why });
    }

    fn stored(&mut self, commit: Commit, durable: bool) {
        // Answers keep the order in which they were asked for.
        let waits = durable || !self.commits.is_empty();
        match self.sync {
            SpoolSync::Interval(_) if !waits => {
                self.reporter.written(&mut self.written);
                self.answer_stored(&commit);
                self.retract();
            }
            SpoolSync::EveryBatch | SpoolSync::Interval(_) => {
                if self.commits.is_empty() {
                    self.failed_syncs = self.store.as_ref().map_or(0, Store::failed_syncs);
                }
                self.commits.push(commit);
            }
        }
    }

    /// Says that a batch is stored; takes it off the disk again where its shard did not wait for that.
    fn answer_stored(&mut self, commit: &Commit) {
        let Commit { shard, lane, seq, kept } = *commit;
        match self.desk.let_go(shard, lane, seq) {
            Some(batch) => _ = self.desk.answer(shard, Reply::Stored { lane, batch, kept }),
            None => self.unwrite(lane, seq),
        }
    }

    /// What is on the disk of a batch that its shard has in memory is taken back, or it would be sent twice.
    pub(super) fn unwrite(&mut self, lane: usize, seq: Seq) {
        self.retracts.push((self.holder(lane, seq), seq));
        self.places.gone(lane, seq);
    }

    /// One `fdatasync` for all that has come meanwhile, then the answers. Where it fails nothing of it counts: it is in
    /// memory still, and is given back.
    pub(super) fn commit(&mut self) {
        if self.commits.is_empty() {
            return;
        }
        let started = Instant::now();
        let synced = self.sync_commits();
        let commits = std::mem::take(&mut self.commits);
        if let Err(error) = synced {
            self.fail("the spool cannot be synced", &error);
            self.written = Written::default();
            for Commit { shard, lane, seq, .. } in commits {
                self.unwrite(lane, seq);
                self.refuse(shard, lane, seq, Refusal::Failing);
            }
            return self.retract();
        }
        self.reporter.synced(started.elapsed());
        self.reporter.written(&mut self.written);
        for commit in &commits {
            self.answer_stored(commit);
        }
        self.retract();
    }

    fn sync_commits(&mut self) -> io::Result<()> {
        let Some(store) = self.store.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
        store.sync_data()?;
        // Making room syncs as well, and the kernel tells of a failure once.
        if store.failed_syncs() != self.failed_syncs {
            return Err(io::Error::other("a sync before it failed"));
        }
        Ok(())
    }

    /// Takes back what was given back; later, where the index does not answer: nothing is read until it does.
    pub(super) fn retract(&mut self) {
        let Some(store) = self.store.as_mut().filter(|_| !self.retracts.is_empty()) else { return };
        self.is_dirty = true;
        self.retracts.retain(|(name, seq)| store.retract(name, *seq).is_err());
    }

    pub(super) fn sync_if_due(&mut self) {
        let interval = match self.sync {
            SpoolSync::Interval(interval) => interval,
            SpoolSync::EveryBatch => HOUSEKEEPING,
        };
        // One that fails is opened anew first.
        let fails = self.desk.shared.state() == State::Failing;
        if fails || !self.is_dirty || self.synced_at.elapsed() < interval {
            return;
        }
        let Some(store) = self.store.as_mut() else { return };
        let started = Instant::now();
        let synced = store.sync();
        self.synced_at = Instant::now();
        match synced {
            Ok(()) => {
                self.is_dirty = false;
                self.reporter.synced(started.elapsed());
            }
            Err(error) => self.fail("the spool cannot be synced", &error),
        }
    }
}
