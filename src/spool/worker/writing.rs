//! Batches onto the disk.

use std::time::Instant;

use crate::batch::Batch;
use crate::config::SpoolSync;
use crate::spool::block::Meta;
use crate::spool::store::{AppendError, Store};
use crate::spool::{Refusal, Reply, State, records};

use super::{HOUSEKEEPING, Worker};

impl Worker {
    pub(super) fn append(&mut self, shard: usize, lane: usize, batch: Batch, keep: bool) {
        let place = self.refused.get_mut(shard).and_then(|lanes| lanes.get_mut(lane));
        // Behind a batch that was refused nothing is taken, or it would be overtaken.
        if let Some(refused) = place
            && let Some(seq) = *refused
        {
            if batch.seq > seq {
                self.desk.answer(shard, Reply::Refused { lane, batch, why: self.refusal() });
                return;
            }
            *refused = None;
        }
        let route = self.lanes.get(lane).map(String::as_str).unwrap_or_default();
        let Some(store) = self.store.as_mut().filter(|_| self.desk.shared.state() != State::Failing) else {
            self.refuse(shard, lane, batch, Refusal::Failing);
            return;
        };
        let Some(name) = self.places.for_append(route, lane, shard, batch.seq, store) else {
            self.refuse(shard, lane, batch, Refusal::Full);
            return;
        };
        self.plain.clear();
        records::encode(&batch, &self.inputs, &mut self.plain);
        let meta = Meta {
            seq: batch.seq,
            records: batch.len() as u32,
            oldest_us: batch.received_at_us().unwrap_or_default(),
            newest_us: batch.last_received_at_us().unwrap_or_default(),
        };
        match store.append(&name, meta, &self.plain) {
            Ok(()) => {
                if keep {
                    store.protect(&name, batch.seq);
                }
                self.is_dirty = true;
                self.stored(shard, lane, batch, keep);
            }
            Err(AppendError::Dropped) => {
                self.reporter.dropped_newest(lane, batch.len());
                let (records, charge) = (batch.len(), batch.charge());
                self.desk.answer(shard, Reply::Dropped { lane, records, charge });
            }
            Err(AppendError::Full) => {
                self.reporter.full();
                self.refuse(shard, lane, batch, Refusal::Full);
            }
            Err(AppendError::Io(error)) => {
                self.fail("the spool cannot be written", &error);
                self.refuse(shard, lane, batch, Refusal::Failing);
            }
        }
    }

    pub(super) fn refusal(&self) -> Refusal {
        if self.desk.shared.state() == State::Failing { Refusal::Failing } else { Refusal::Full }
    }

    pub(super) fn refuse(&mut self, shard: usize, lane: usize, batch: Batch, why: Refusal) {
        if let Some(refused) = self.refused.get_mut(shard).and_then(|lanes| lanes.get_mut(lane)) {
            *refused = Some(batch.seq);
        }
        self.desk.answer(shard, Reply::Refused { lane, batch, why });
    }

    pub(super) fn stored(&mut self, shard: usize, lane: usize, batch: Batch, kept: bool) {
        self.written.add(batch.len(), self.plain.len());
        let reply = Reply::Stored { lane, batch, kept };
        match self.sync {
            SpoolSync::EveryBatch => self.commits.push((shard, reply)),
            SpoolSync::Interval(_) => {
                self.reporter.written(&mut self.written);
                self.desk.answer(shard, reply);
            }
        }
    }

    /// One `fdatasync` for all that has come meanwhile, then the answers.
    pub(super) fn commit(&mut self) {
        if self.commits.is_empty() {
            return;
        }
        let started = Instant::now();
        let synced = self.store.as_mut().map_or_else(|| Err(std::io::Error::other("no store")), Store::sync_data);
        match synced {
            Ok(()) => self.reporter.synced(started.elapsed()),
            // They are written, and may be lost by a power cut: no reason to write them once more on a disk that fails.
            Err(error) => self.fail("the spool cannot be synced", &error),
        }
        self.reporter.written(&mut self.written);
        for (shard, reply) in self.commits.drain(..) {
            self.desk.answer(shard, reply);
        }
    }

    pub(super) fn sync_if_due(&mut self) {
        let interval = match self.sync {
            SpoolSync::Interval(interval) => interval,
            SpoolSync::EveryBatch => HOUSEKEEPING,
        };
        if !self.is_dirty || self.synced_at.elapsed() < interval {
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
