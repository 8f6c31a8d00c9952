//! What was written and is not released yet.
//!
//! A batch is *acknowledged* when the peer's kernel has acknowledged the last octet (of ciphertext) that it was written
//! in. It is *released* when it also has left the replay window: so many bytes were acknowledged after it, or the
//! window takes so much memory (short messages take more of it than of the wire), or it has been acknowledged for the
//! quiet time while nothing was outstanding. An acknowledging kernel may hold megabytes that
//! its process has not read, and they die with the process: that is what the window is for.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::batch::Batch;
use crate::pipeline::Pipeline;
use crate::time::since_epoch;

/// How many times the window's octets on the wire its records may take in memory: the FAQ's template makes them about
/// equal, a short one makes less of a message than its record is.
pub const WINDOW_MEMORY: usize = 2;

/// Batches of one connection in the order they were written.
#[derive(Debug)]
pub(super) struct Flight {
    window: u64,
    quiet: Duration,
    /// Acknowledged ones first.
    batches: VecDeque<Sent>,
    /// How many of them are acknowledged.
    acknowledged: usize,
    /// Memory that those take, bytes.
    kept: u64,
    /// How many of the last ones still have no `end`.
    unflushed: usize,
}

#[derive(Debug)]
struct Sent {
    lane: usize,
    batch: Batch,
    /// Octets written to the socket once this batch was flushed.
    end: u64,
    acknowledged_at: Option<Instant>,
}

impl Flight {
    /// Nothing in flight.
    pub(super) fn new(window: usize, quiet: Duration) -> Self {
        Self { window: window as u64, quiet, batches: VecDeque::new(), acknowledged: 0, kept: 0, unflushed: 0 }
    }

    /// Whether nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether something is not acknowledged.
    pub(super) fn is_outstanding(&self) -> bool {
        self.acknowledged < self.batches.len()
    }

    /// A batch is about to be written.
    pub(super) fn push(&mut self, lane: usize, batch: Batch) {
        self.batches.push_back(Sent { lane, batch, end: u64::MAX, acknowledged_at: None });
        self.unflushed += 1;
    }

    /// Everything pushed is now in the socket, whose count of written octets is `written`.
    pub(super) fn flushed(&mut self, written: u64) {
        for sent in self.batches.iter_mut().rev().take(self.unflushed) {
            sent.end = written;
        }
        self.unflushed = 0;
    }

    /// The peer's kernel has acknowledged the first `octets` of the connection.
    pub(super) fn acknowledged(&mut self, octets: u64, pipeline: &Pipeline) {
        let now = Instant::now();
        while let Some(sent) = self.batches.get_mut(self.acknowledged)
            && sent.end <= octets
        {
            sent.acknowledged_at = Some(now);
            self.acknowledged += 1;
            self.kept += sent.batch.charge() as u64;
            pipeline.acknowledge(sent.lane, sent.batch.charge());
            pipeline.settle(sent.lane, &sent.batch);
            let route = pipeline.route_of(sent.lane);
            pipeline.meters().acknowledged(route, age_seconds(&sent.batch), sent.batch.len());
        }
        self.release_up_to(octets, now, pipeline);
    }

    /// When the oldest acknowledged batch leaves the window by time, if nothing more is written.
    pub(super) fn next_release(&self) -> Option<Instant> {
        let oldest = self.batches.front()?.acknowledged_at?;
        Some(oldest + self.quiet)
    }

    fn release_up_to(&mut self, octets: u64, now: Instant, pipeline: &Pipeline) {
        let is_quiet = !self.is_outstanding();
        while let Some(oldest) = self.batches.front()
            && let Some(acknowledged_at) = oldest.acknowledged_at
        {
            let behind = octets.saturating_sub(oldest.end);
            let aged = is_quiet && now.duration_since(acknowledged_at) >= self.quiet;
            let fits = self.kept <= WINDOW_MEMORY as u64 * self.window || self.batches.len() == 1;
            if !aged && behind < self.window && fits {
                break;
            }
            self.release_oldest(pipeline);
        }
    }

    fn release_oldest(&mut self, pipeline: &Pipeline) {
        let Some(sent) = self.batches.pop_front() else { return };
        if sent.acknowledged_at.is_some() {
            self.acknowledged -= 1;
            self.kept -= sent.batch.charge() as u64;
        } else {
            pipeline.acknowledge(sent.lane, sent.batch.charge());
        }
        pipeline.release(sent.lane, &sent.batch);
        let route = pipeline.route_of(sent.lane);
        pipeline.meters().released(route, age_seconds(&sent.batch), sent.batch.len());
    }

    /// The connection was closed in order: the peer has read everything.
    pub(super) fn release_all(&mut self, pipeline: &Pipeline) {
        self.unflushed = 0;
        while !self.batches.is_empty() {
            self.release_oldest(pipeline);
        }
    }

    /// The connection broke: everything goes back to the front of its lane, in order. Returns how many messages.
    pub(super) fn put_back_all(&mut self, pipeline: &Pipeline) -> u64 {
        let mut messages = 0;
        while let Some(sent) = self.batches.pop_back() {
            messages += sent.batch.len() as u64;
            if let Some(meters) = pipeline.meters().routes.get(pipeline.route_of(sent.lane)) {
                meters.resent.add(sent.batch.len() as u64);
            }
            pipeline.put_back(sent.lane, sent.batch, sent.acknowledged_at.is_none());
        }
        self.acknowledged = 0;
        self.kept = 0;
        self.unflushed = 0;
        messages
    }

    /// The stop's deadline has passed: acknowledged batches are released, the others counted as dropped. Returns how
    /// many messages those are.
    pub(super) fn abandon(&mut self, pipeline: &Pipeline) -> u64 {
        let mut dropped = 0;
        while let Some(oldest) = self.batches.front() {
            if oldest.acknowledged_at.is_some() {
                self.release_oldest(pipeline);
                continue;
            }
            let Some(sent) = self.batches.pop_front() else { break };
            dropped += sent.batch.len() as u64;
            if let Some(meters) = pipeline.meters().routes.get(pipeline.route_of(sent.lane)) {
                meters.in_flight.add(-(sent.batch.len() as i64));
                meters.dropped_shutdown.add(sent.batch.len() as u64);
            }
        }
        self.unflushed = 0;
        dropped
    }

    /// The stop's deadline has passed, and there is a spool: what is on the disk stays there, of the rest acknowledged
    /// batches are released and the others go back to their lanes, to be stored.
    pub(super) fn leave(&mut self, pipeline: &Pipeline) {
        while let Some(sent) = self.batches.pop_back() {
            let is_acknowledged = sent.acknowledged_at.is_some();
            if sent.batch.stored {
                pipeline.leave(sent.lane, &sent.batch, !is_acknowledged);
            } else if is_acknowledged {
                pipeline.release(sent.lane, &sent.batch);
                let route = pipeline.route_of(sent.lane);
                pipeline.meters().released(route, age_seconds(&sent.batch), sent.batch.len());
            } else {
                pipeline.put_back(sent.lane, sent.batch, true);
            }
        }
        self.acknowledged = 0;
        self.kept = 0;
        self.unflushed = 0;
    }
}

/// Seconds since the batch's first message arrived.
fn age_seconds(batch: &Batch) -> f64 {
    let now = since_epoch();
    let received = Duration::from_micros(batch.received_at_us().and_then(|us| u64::try_from(us).ok()).unwrap_or(0));
    now.saturating_sub(received).as_secs_f64()
}
