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
    pub(super) fn append(&mut self, (shard, lane): (usize, usize), batch: Batch, keep: bool, first: bool) {
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
        self.in_hand = Some(InHand::Append { shard, lane, batch });
        let written = self.write(keep);
        let Some(InHand::Append { batch, .. }) = self.in_hand.take() else { return };
        match written {
            Ok(()) => {
                self.is_dirty = true;
                self.stored(shard, lane, batch, keep);
            }
            Err(AppendError::Dropped) => {
                self.reporter.dropped_newest(lane, batch.len());
                let (seq, records, charge) = (batch.seq, batch.len(), batch.charge());
                self.desk.answer(shard, Reply::Dropped { lane, seq, records, charge });
            }
            Err(AppendError::Full) => {
                self.reporter.full();
                self.refuse(shard, lane, batch, Refusal::Full);
            }
            Err(AppendError::Io(error)) => {
                // One that fails already has said so.
                if self.desk.shared.state() != State::Failing {
                    self.fail("the spool cannot be written", &error);
                }
                self.refuse(shard, lane, batch, Refusal::Failing);
            }
        }
    }

    /// Writes the batch in hand.
    fn write(&mut self, keep: bool) -> Result<(), AppendError> {
        let works = self.desk.shared.state() != State::Failing;
        let store = self.store.as_mut().filter(|_| works);
        let Some((store, InHand::Append { shard, lane, batch })) = store.zip(self.in_hand.as_ref()) else {
            return Err(AppendError::Io(io::ErrorKind::NotConnected.into()));
        };
        let route = self.lanes.get(*lane).map(String::as_str).unwrap_or_default();
        let Some(name) = self.places.for_append(route, *lane, *shard, batch.seq, store) else {
            return Err(AppendError::Full);
        };
        self.plain.clear();
        records::encode(batch, &self.inputs, &mut self.plain);
        let meta = Meta {
            seq: batch.seq,
            records: batch.len() as u32,
            oldest_us: batch.received_at_us().unwrap_or_default(),
            newest_us: batch.last_received_at_us().unwrap_or_default(),
        };
        store.append(&name, meta, &self.plain)?;
        if keep {
            store.protect(&name, batch.seq);
        }
        Ok(())
    }

    pub(super) fn refusal(&self) -> Refusal {
        if self.desk.shared.state() == State::Failing { Refusal::Failing } else { Refusal::Full }
    }

    pub(super) fn refuse(&mut self, shard: usize, lane: usize, batch: Batch, why: Refusal) {
        if let Some(refused) = self.refused.get_mut(shard).and_then(|lanes| lanes.get_mut(lane)) {
            *refused = Some(refused.map_or(batch.seq, |seq: Seq| seq.min(batch.seq)));
        }
        self.desk.answer(shard, Reply::Refused { lane, batch, why });
    }

    pub(super) fn stored(&mut self, shard: usize, lane: usize, batch: Batch, kept: bool) {
        self.written.add(batch.len(), self.plain.len());
        match self.sync {
            SpoolSync::EveryBatch => {
                if self.commits.is_empty() {
                    self.failed_syncs = self.store.as_ref().map_or(0, Store::failed_syncs);
                }
                self.commits.push(Commit { shard, lane, batch, kept });
            }
            SpoolSync::Interval(_) => {
                self.reporter.written(&mut self.written);
                self.desk.answer(shard, Reply::Stored { lane, batch, kept });
            }
        }
    }

    /// One `fdatasync` for all that has come meanwhile, then the answers. Where it fails nothing of it counts: it is in
    /// memory still, and is given back. What is on the disk of it is taken back, or it would be sent twice.
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
            for Commit { shard, lane, batch, .. } in commits {
                self.retracts.push((self.holder(lane, batch.seq), batch.seq));
                self.places.gone(lane, batch.seq);
                self.refuse(shard, lane, batch, Refusal::Failing);
            }
            return self.retract();
        }
        self.reporter.synced(started.elapsed());
        self.reporter.written(&mut self.written);
        for Commit { shard, lane, batch, kept } in commits {
            self.desk.answer(shard, Reply::Stored { lane, batch, kept });
        }
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
