//! Lanes: one route's queue on one shard. Records wait here, unrendered, until a forwarder takes them.
//!
//! Nothing here waits or does I/O. A lane's memory is charged against its shard's [`Budget`]: a part that is the lane's
//! own, so that no other lane can take it, and a part that all lanes of the shard share.

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;

use crate::syslog::{Fields, Message};

/// A batch is sealed at this many bytes of memory: large enough that its costs vanish in its hundreds of records, small
/// enough to stay in a core's cache until it is rendered.
pub const BATCH_BYTES: usize = 64 * 1024;

/// A message as it waits: parsed, not rendered, so that no key is in it.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    fields: Fields,
    received_at_us: i64,
    peer: Option<IpAddr>,
    input: u16,
    start: u32,
    len: u32,
}

/// Records of one lane in order of arrival; the unit that is sent, acknowledged, sent again and released.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<Record>,
    bytes: Vec<u8>,
}

impl Batch {
    /// Count of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Memory that is charged for it, bytes.
    pub fn charge(&self) -> usize {
        self.bytes.len() + self.records.len() * mem::size_of::<Record>()
    }

    /// Arrival of its first record, microseconds since the Unix epoch.
    pub fn received_at_us(&self) -> Option<i64> {
        self.records.first().map(|record| record.received_at_us)
    }

    /// Its records as messages. `inputs` are the configuration's names, by index.
    pub fn messages<'a>(&'a self, inputs: &'a [String]) -> impl Iterator<Item = Message<'a>> {
        self.records.iter().map(move |record| {
            let start = record.start as usize;
            Message {
                fields: &record.fields,
                raw: self.bytes.get(start..start + record.len as usize).unwrap_or_default(),
                received_at_us: record.received_at_us,
                peer: record.peer,
                input: inputs.get(usize::from(record.input)).map(String::as_str).unwrap_or_default(),
            }
        })
    }

    fn push(&mut self, message: &Message<'_>, input: u16) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(message.raw);
        self.records.push(Record {
            fields: *message.fields,
            received_at_us: message.received_at_us,
            peer: message.peer,
            input,
            start,
            len: message.raw.len() as u32,
        });
    }

    /// An empty batch with room for as much as `last` held, and a little more: batches of a lane resemble each other,
    /// so that most never grow, and none keeps much memory that it does not use.
    fn like(last: &Self) -> Self {
        Self {
            records: Vec::with_capacity(last.records.len() + last.records.len() / 8),
            bytes: Vec::with_capacity(last.bytes.len() + last.bytes.len() / 8),
        }
    }

    /// Gives back memory that growing left unused, where it is much.
    fn trim(&mut self) {
        if self.bytes.capacity() > self.bytes.len() / 2 * 3 {
            self.bytes.shrink_to_fit();
        }
        if self.records.capacity() > self.records.len() / 2 * 3 {
            self.records.shrink_to_fit();
        }
    }
}

/// What one message takes of a lane's budget.
pub fn charge_of(message: &Message<'_>) -> usize {
    message.raw.len() + mem::size_of::<Record>()
}

/// Memory for the queues of one shard: half of it is divided evenly among the lanes and guaranteed to each, the other
/// half is shared, first come first served.
#[derive(Debug)]
pub struct Budget {
    guaranteed: usize,
    /// Below zero while overdrawn.
    shared_free: isize,
}

impl Budget {
    /// Divides `bytes` among `lanes`.
    pub fn new(bytes: usize, lanes: usize) -> Self {
        Self { guaranteed: bytes / 2 / lanes.max(1), shared_free: (bytes / 2) as isize }
    }
}

/// One route's queue on one shard.
#[derive(Debug, Default)]
pub struct Lane {
    open: Batch,
    sealed: VecDeque<Batch>,
    /// Bytes charged: waiting, and written but not acknowledged.
    held: usize,
    /// Bytes waiting, open batch included.
    waiting: usize,
}

impl Lane {
    /// Whether `charge` more bytes fit. A lane that holds nothing takes any message, however small its budget is: a
    /// message larger than the budget must not block its sender for ever.
    pub fn has_room(&self, charge: usize, budget: &Budget) -> bool {
        self.held == 0 || excess(self.held + charge, budget) - excess(self.held, budget) <= budget.shared_free
    }

    /// Appends. The caller has asked [`Self::has_room`]; without room the budget is overdrawn, never the message lost.
    pub fn push(&mut self, message: &Message<'_>, input: u16, budget: &mut Budget) {
        let charge = charge_of(message);
        self.take_from(budget, charge);
        self.waiting += charge;
        self.open.push(message, input);
        if self.open.charge() >= BATCH_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let next = Batch::like(&self.open);
        let mut batch = mem::replace(&mut self.open, next);
        batch.trim();
        self.sealed.push_back(batch);
    }

    /// The oldest batch, to be sent; its bytes stay charged until [`Self::acknowledge`].
    pub fn pop(&mut self) -> Option<Batch> {
        if self.sealed.is_empty() && !self.open.is_empty() {
            self.seal();
        }
        let batch = self.sealed.pop_front()?;
        self.waiting -= batch.charge();
        Some(batch)
    }

    /// Puts a batch back in front: what was sent and may be lost. `charged` says whether its bytes still are.
    pub fn push_front(&mut self, batch: Batch, charged: bool, budget: &mut Budget) {
        if !charged {
            self.take_from(budget, batch.charge());
        }
        self.waiting += batch.charge();
        self.sealed.push_front(batch);
    }

    /// A sent batch is acknowledged, or given up: its bytes are no longer this lane's.
    pub fn acknowledge(&mut self, charge: usize, budget: &mut Budget) {
        let before = excess(self.held, budget);
        self.held = self.held.saturating_sub(charge);
        budget.shared_free += before - excess(self.held, budget);
    }

    /// Bytes waiting to be sent.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn take_from(&mut self, budget: &mut Budget, charge: usize) {
        let before = excess(self.held, budget);
        self.held += charge;
        budget.shared_free -= excess(self.held, budget) - before;
    }
}

/// What a lane that holds `held` bytes takes of the shared half.
fn excess(held: usize, budget: &Budget) -> isize {
    held.saturating_sub(budget.guaranteed) as isize
}
