//! Batches of one lane that a request was made of, and what became of each of their records.

use std::ops::Range;

use crate::batch::{Batch, Stub};
use crate::pipeline::{Pipeline, Queue};

use super::super::flight::age_seconds;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not sent yet.
    Waiting,
    /// Sent; what came of it is not known.
    Sent,
    /// The intake has it.
    Taken,
    /// The intake will never have it.
    Refused,
    /// It renders to nothing.
    Empty,
}

impl Fate {
    fn is_final(self) -> bool {
        matches!(self, Self::Taken | Self::Refused | Self::Empty)
    }
}

/// Batches that were taken from a lane, in its order. Records are numbered through all of them.
#[derive(Debug, Default)]
pub(super) struct Taken {
    batches: Vec<(usize, Batch)>,
    fates: Vec<Fate>,
    charge: usize,
}

impl Taken {
    /// Takes more of the queue, until `bytes` of memory are held or nothing waits.
    pub(super) fn fill(&mut self, pipeline: &Pipeline, queue: &Queue, bytes: usize) {
        pipeline.take(queue, bytes.saturating_sub(self.charge), |lane, batch| {
            self.charge += batch.charge();
            self.fates.resize(self.fates.len() + batch.len(), Fate::Waiting);
            self.batches.push((lane, batch));
        });
    }

    /// Memory that the batches take.
    pub(super) fn charge(&self) -> usize {
        self.charge
    }

    /// Count of records.
    pub(super) fn len(&self) -> usize {
        self.fates.len()
    }

    /// The batches, each with the number of its first record.
    pub(super) fn batches(&self) -> impl Iterator<Item = (usize, &Batch)> {
        let mut next = 0;
        self.batches.iter().map(move |(_, batch)| {
            let first = next;
            next += batch.len();
            (first, batch)
        })
    }

    /// These records have come to this.
    pub(super) fn mark(&mut self, records: impl IntoIterator<Item = usize>, fate: Fate) {
        for record in records {
            if let Some(known) = self.fates.get_mut(record) {
                *known = fate;
            }
        }
    }

    /// Releases the batches of which every record has come to its end, and puts the others back in front of their lane, to
    /// be sent again, whole: what the intake has of them already is counted as sent again.
    pub(super) fn settle(&mut self, pipeline: &Pipeline) {
        let mut first = 0;
        let mut back = Vec::new();
        let fates = std::mem::take(&mut self.fates);
        self.charge = 0;
        for (lane, batch) in self.batches.drain(..) {
            let range: Range<usize> = first..first + batch.len();
            first = range.end;
            let fates = fates.get(range).unwrap_or_default();
            if fates.iter().all(|fate| fate.is_final()) {
                release(pipeline, lane, &batch, fates);
            } else {
                back.push((lane, batch, count(fates, &[Fate::Sent, Fate::Taken])));
            }
        }
        // Newest first keeps their order.
        for (lane, batch, resent) in back.into_iter().rev() {
            if let Some(meters) = pipeline.meters().routes.get(pipeline.route_of(lane)) {
                meters.resent.add(resent as u64);
            }
            pipeline.put_back(lane, batch, true);
        }
    }
}

fn count(fates: &[Fate], which: &[Fate]) -> usize {
    fates.iter().filter(|fate| which.contains(fate)).count()
}

/// The batch has come to its end: what the intake has is released, the rest is dropped.
fn release(pipeline: &Pipeline, lane: usize, batch: &Batch, fates: &[Fate]) {
    let route = pipeline.route_of(lane);
    let stub = Stub::of(batch);
    let (refused, empty) = (count(fates, &[Fate::Refused]), count(fates, &[Fate::Empty]));
    if let Some(meters) = pipeline.meters().routes.get(route) {
        meters.in_flight.add(-(empty as i64));
        meters.dropped_empty.add(empty as u64);
    }
    let records = stub.records.saturating_sub(refused + empty);
    pipeline.acknowledge(lane, batch.charge());
    pipeline.settle(lane, batch);
    pipeline.release(lane, Stub { records: records + refused, ..stub }, refused);
    pipeline.meters().acknowledged(route, age_seconds(stub), records);
    pipeline.meters().released(route, age_seconds(stub), records);
}
