//! What was written and is not released yet.
//!
//! Positions on a connection say what is acknowledged: octets that its kernel took where the peer's kernel acknowledges, else
//! messages, which the peer itself answers for, so that there is no window and acknowledged is released.
//!
//! A batch is *acknowledged* when the peer's kernel has acknowledged the last octet (of ciphertext) that it was written
//! in. It is *released* when it also has left the replay window: so many bytes were acknowledged after it, or the
//! window takes so much memory (short messages take more of it than of the wire), or it has been acknowledged for the
//! quiet time while nothing was outstanding. An acknowledging kernel may hold megabytes that
//! its process has not read, and they die with the process: that is what the window is for. Of a batch that is on the disk
//! the window keeps the place only: should it be sent again, it is read again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::batch::{Batch, Seq, Stub};
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
    /// Messages of this connection that are answered for, and that were written.
    answered: u64,
    numbered: u64,
    /// By lane: the batch that a connection's end left answered for in part.
    parts: BTreeMap<usize, Part>,
}

/// What is known of a batch whose first messages were answered for on an earlier connection.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    seq: Seq,
    /// How many: they are not sent again.
    answered: usize,
    /// How many of those were refused.
    refused: usize,
}

#[derive(Debug)]
struct Sent {
    lane: usize,
    batch: Held,
    /// The position behind it: octets written to the socket once it was flushed, or messages.
    end: u64,
    acknowledged_at: Option<Instant>,
    /// Where messages have positions: that of its first one that is sent.
    begin: Option<u64>,
    /// Messages in front of that one.
    before: usize,
    /// Messages that the peer refused.
    refused: usize,
}

impl Sent {
    /// Messages that are answered for, from the first on, when `answered` of the connection are.
    fn answered(&self, answered: u64) -> usize {
        let Some(begin) = self.begin else { return 0 };
        self.before + answered.min(self.end).saturating_sub(begin) as usize
    }

    /// Messages that were written and are to be sent again, when so many of the connection are answered for, and so many
    /// were written.
    fn to_resend(&self, answered: u64, numbered: u64) -> u64 {
        match self.begin {
            Some(begin) => numbered.min(self.end).saturating_sub(begin.max(answered)),
            None => self.batch.stub().records as u64,
        }
    }
}

/// What is kept of a batch that was written.
#[derive(Debug)]
enum Held {
    /// All of it.
    Whole(Batch),
    /// Its place: it is acknowledged, and the disk has the rest.
    OnDisk(Stub),
}

impl Held {
    /// Memory that it takes.
    fn charge(&self) -> usize {
        match self {
            Self::Whole(batch) => batch.charge(),
            Self::OnDisk(_) => 0,
        }
    }

    fn stub(&self) -> Stub {
        match self {
            Self::Whole(batch) => Stub::of(batch),
            Self::OnDisk(stub) => *stub,
        }
    }
}

impl Flight {
    /// Nothing in flight.
    pub(super) fn new(window: usize, quiet: Duration) -> Self {
        Self {
            window: window as u64,
            quiet,
            batches: VecDeque::new(),
            acknowledged: 0,
            kept: 0,
            unflushed: 0,
            answered: 0,
            numbered: 0,
            parts: BTreeMap::new(),
        }
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
        let batch = Held::Whole(batch);
        self.batches.push_back(Sent {
            lane,
            batch,
            end: u64::MAX,
            acknowledged_at: None,
            begin: None,
            before: 0,
            refused: 0,
        });
        self.unflushed += 1;
    }

    /// A batch is about to be written whose messages have positions; those that were answered for on an earlier connection
    /// are not sent again. See [`Self::rest`].
    pub(super) fn push_messages(&mut self, lane: usize, batch: Batch) {
        let seq = batch.seq;
        let part = self.parts.get(&lane).filter(|part| part.seq == seq).copied().unwrap_or_default();
        let begin = self.batches.back().map_or(self.answered, |last| last.end);
        let end = begin + batch.len().saturating_sub(part.answered) as u64;
        let (before, refused) = (part.answered, part.refused);
        let batch = Held::Whole(batch);
        self.batches.push_back(Sent { lane, batch, end, acknowledged_at: None, begin: Some(begin), before, refused });
    }

    /// Of messages with positions, what is still to be written: the last batch's, from that index on.
    pub(super) fn rest(&self) -> Option<(usize, &Batch, usize)> {
        let last = self.batches.back()?;
        let Held::Whole(batch) = &last.batch else { return None };
        let written = self.numbered.saturating_sub(last.begin?) as usize;
        (self.numbered < last.end).then_some((last.lane, batch, last.before + written))
    }

    /// The position up to which everything is acknowledged.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// So many messages more are written.
    pub(super) fn wrote(&mut self, messages: usize) {
        self.numbered += messages as u64;
    }

    /// The peer has answered for all messages in front of `position`, which it refuses and which is given up. To be followed
    /// by [`Self::acknowledged`].
    pub(super) fn refused(&mut self, position: u64) {
        if let Some(sent) = self.batches.iter_mut().find(|sent| position < sent.end) {
            sent.refused += 1;
        }
    }

    /// Everything pushed is now in the socket, whose count of written octets is `written`.
    pub(super) fn flushed(&mut self, written: u64) {
        for sent in self.batches.iter_mut().rev().take(self.unflushed) {
            sent.end = written;
        }
        self.unflushed = 0;
    }

    /// The first `position` octets, or messages, of the connection are acknowledged.
    pub(super) fn acknowledged(&mut self, position: u64, pipeline: &Pipeline) {
        let now = Instant::now();
        self.answered = position;
        while let Some(sent) = self.batches.get_mut(self.acknowledged)
            && sent.end <= position
        {
            // It is answered for whole now.
            let stub = sent.batch.stub();
            if self.parts.get(&sent.lane).is_some_and(|part| part.seq == stub.seq) {
                self.parts.remove(&sent.lane);
            }
            sent.acknowledged_at = Some(now);
            self.acknowledged += 1;
            pipeline.acknowledge(sent.lane, sent.batch.charge());
            if let Held::Whole(batch) = &sent.batch {
                pipeline.settle(sent.lane, batch);
            }
            if stub.stored {
                sent.batch = Held::OnDisk(stub);
            }
            self.kept += sent.batch.charge() as u64;
            let route = pipeline.route_of(sent.lane);
            pipeline.meters().acknowledged(route, age_seconds(stub), stub.records);
        }
        self.release_up_to(position, now, pipeline);
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
        release(sent.lane, sent.batch.stub(), sent.refused, pipeline);
    }

    /// The connection was closed in order: the peer has read everything.
    pub(super) fn release_all(&mut self, pipeline: &Pipeline) {
        while !self.batches.is_empty() {
            self.release_oldest(pipeline);
        }
        self.begin_anew();
    }

    /// Nothing is in flight: positions begin with zero again.
    fn begin_anew(&mut self) {
        self.acknowledged = 0;
        self.kept = 0;
        self.unflushed = 0;
        self.answered = 0;
        self.numbered = 0;
    }

    /// The connection broke: everything goes back to the front of its lane, in order, or is read again. Returns how many
    /// messages.
    pub(super) fn put_back_all(&mut self, pipeline: &Pipeline) -> u64 {
        let mut messages = 0;
        let mut on_disk: Vec<(usize, Stub)> = Vec::new();
        while let Some(sent) = self.batches.pop_back() {
            let again = sent.to_resend(self.answered, self.numbered);
            messages += again;
            if let Some(meters) = pipeline.meters().routes.get(pipeline.route_of(sent.lane)) {
                meters.resent.add(again);
            }
            self.remember_part(&sent);
            match sent.batch {
                Held::Whole(batch) => pipeline.put_back(sent.lane, batch, sent.acknowledged_at.is_none()),
                Held::OnDisk(stub) => on_disk.push((sent.lane, stub)),
            }
        }
        on_disk.sort_unstable_by_key(|(lane, stub)| (*lane, stub.seq));
        for of_lane in on_disk.chunk_by(|one, other| one.0 == other.0) {
            if let Some((lane, _)) = of_lane.first() {
                pipeline.read_again(*lane, of_lane.iter().map(|(_, stub)| *stub));
            }
        }
        self.begin_anew();
        messages
    }

    /// Of a batch that goes back: what is answered for is not sent again.
    fn remember_part(&mut self, sent: &Sent) {
        let answered = sent.answered(self.answered);
        if answered > 0 {
            let part = Part { seq: sent.batch.stub().seq, answered, refused: sent.refused };
            self.parts.insert(sent.lane, part);
        }
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
            let records = sent.batch.stub().records;
            let answered = sent.answered(self.answered);
            let left = records.saturating_sub(answered) as u64;
            dropped += left;
            if let Some(meters) = pipeline.meters().routes.get(pipeline.route_of(sent.lane)) {
                meters.in_flight.add(-(records as i64));
                meters.released.add(answered.saturating_sub(sent.refused) as u64);
                meters.dropped_refused.add(sent.refused as u64);
                meters.dropped_shutdown.add(left);
            }
        }
        self.begin_anew();
        dropped
    }

    /// The stop's deadline has passed, and there is a spool: what is on the disk stays there, of the rest acknowledged
    /// batches are released and the others go back to their lanes, to be stored.
    pub(super) fn leave(&mut self, pipeline: &Pipeline) {
        while let Some(sent) = self.batches.pop_back() {
            let is_acknowledged = sent.acknowledged_at.is_some();
            let refused = sent.refused;
            let stub = sent.batch.stub();
            match sent.batch {
                _ if stub.stored => {
                    if !is_acknowledged {
                        pipeline.acknowledge(sent.lane, sent.batch.charge());
                    }
                    pipeline.leave(sent.lane, stub);
                }
                _ if is_acknowledged => release(sent.lane, stub, refused, pipeline),
                Held::Whole(batch) => pipeline.put_back(sent.lane, batch, true),
                // It is stored.
                Held::OnDisk(_) => {}
            }
        }
        self.begin_anew();
    }
}

/// The far end has a batch, but for what it refused.
fn release(lane: usize, stub: Stub, refused: usize, pipeline: &Pipeline) {
    pipeline.release(lane, stub, refused);
    let released = stub.records.saturating_sub(refused);
    pipeline.meters().released(pipeline.route_of(lane), age_seconds(stub), released);
}

/// Seconds since the batch's first message arrived.
pub(super) fn age_seconds(stub: Stub) -> f64 {
    let received = Duration::from_micros(stub.received_at_us.and_then(|us| u64::try_from(us).ok()).unwrap_or(0));
    since_epoch().saturating_sub(received).as_secs_f64()
}
