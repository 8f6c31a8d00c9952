//! Batches: records as they wait, in memory or on disk, until a forwarder renders them.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use crate::syslog::{Fields, Message};

/// A batch's place among all batches of its route: when it was sealed, and by which shard.
///
/// Microseconds since the Unix epoch in the upper 52 bits, the shard in the lower 12. Each shard's lane gives them out in
/// strictly rising order, so that they order what one source sent; between shards, and between runs of the program, they
/// order by time, and no two are equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    const SHARD_BITS: u32 = 12;

    /// The next of `shard` at `now_us`, after `self`: later than it even where the clock went back.
    #[must_use]
    pub fn next(self, now_us: i64, shard: usize) -> Self {
        let now = u64::try_from(now_us).unwrap_or(0);
        let at_us = now.max((self.0 >> Self::SHARD_BITS) + 1);
        Self((at_us << Self::SHARD_BITS) | (shard as u64 & ((1 << Self::SHARD_BITS) - 1)))
    }

    /// All that come before this one are up to here.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Which shard sealed it.
    pub fn shard(self) -> usize {
        (self.0 & ((1 << Self::SHARD_BITS) - 1)) as usize
    }

    /// When, in microseconds since the Unix epoch (or shortly after, where the clock went back).
    pub fn sealed_at_us(self) -> i64 {
        (self.0 >> Self::SHARD_BITS) as i64
    }
}

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

impl Record {
    /// Where everything is in its octets.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Arrival, microseconds since the Unix epoch.
    pub fn received_at_us(&self) -> i64 {
        self.received_at_us
    }

    /// The sender's address; `None` for unix sockets.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Index of its input's name.
    pub fn input(&self) -> u16 {
        self.input
    }

    /// Count of its octets.
    pub fn raw_len(&self) -> u32 {
        self.len
    }
}

/// Records of one lane in order of arrival; the unit that is sent, acknowledged, sent again and released.
#[derive(Debug, Default)]
pub struct Batch {
    /// Its place in its lane; the default until it is sealed.
    pub seq: Seq,
    /// The spool holds it as well: it is in memory only to be sent, and may be forgotten here.
    pub stored: bool,
    /// An earlier run left it, or an operator imported it: the spool waits to hear that it is acknowledged.
    pub inherited: bool,
    /// Names that the records' inputs index, where those are not the configuration's (a batch of an earlier run).
    pub inputs: Option<Arc<[String]>>,
    records: Vec<Record>,
    bytes: Vec<u8>,
}

/// What is to be known of a batch without its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stub {
    /// Its place in its lane.
    pub seq: Seq,
    /// How many records it has.
    pub records: usize,
    /// Arrival of its first record, microseconds since the Unix epoch.
    pub received_at_us: Option<i64>,
    /// See [`Batch::stored`].
    pub stored: bool,
}

impl Stub {
    /// Of this batch.
    pub fn of(batch: &Batch) -> Self {
        Self { seq: batch.seq, records: batch.len(), received_at_us: batch.received_at_us(), stored: batch.stored }
    }
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

    /// Arrival of its last record, microseconds since the Unix epoch.
    pub fn last_received_at_us(&self) -> Option<i64> {
        self.records.last().map(|record| record.received_at_us)
    }

    /// Its records' inputs, by index of their names.
    pub fn input_indices(&self) -> impl Iterator<Item = u16> {
        self.records.iter().map(|record| record.input)
    }

    /// Its records, without their octets.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The octets of all its records, one behind the other.
    pub fn octets(&self) -> &[u8] {
        &self.bytes
    }

    /// A batch to be read back: `bytes` are the octets of all its records, which [`Self::restore`] then describes.
    pub(crate) fn of_octets(bytes: Vec<u8>, records: usize) -> Self {
        Self { bytes, records: Vec::with_capacity(records), ..Self::default() }
    }

    /// Describes the next record; its octets are the next `len` that no record has. The caller sees to it that they are
    /// there.
    #[inline]
    pub(crate) fn restore(&mut self, fields: Fields, received_at_us: i64, peer: Option<IpAddr>, input: u16, len: u32) {
        let start = self.records.last().map_or(0, |last| last.start + last.len);
        self.records.push(Record { fields, received_at_us, peer, input, start, len });
    }

    /// Its records as messages. `inputs` are the configuration's names, by index.
    pub fn messages<'a>(&'a self, inputs: &'a [String]) -> impl Iterator<Item = Message<'a>> {
        let inputs = self.inputs.as_deref().unwrap_or(inputs);
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

    /// Appends a message; `input` is the index of its input's name.
    pub fn push(&mut self, message: &Message<'_>, input: u16) {
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
    pub(crate) fn like(last: &Self) -> Self {
        Self {
            records: Vec::with_capacity(last.records.len() + last.records.len() / 8),
            bytes: Vec::with_capacity(last.bytes.len() + last.bytes.len() / 8),
            ..Self::default()
        }
    }

    /// Gives back memory that growing left unused, where it is more than a quarter.
    pub(crate) fn trim(&mut self) {
        if self.bytes.capacity() > self.bytes.len() / 4 * 5 {
            self.bytes.shrink_to_fit();
        }
        if self.records.capacity() > self.records.len() / 4 * 5 {
            self.records.shrink_to_fit();
        }
    }
}

/// What one message takes of a lane's budget.
pub fn charge_of(message: &Message<'_>) -> usize {
    message.raw.len() + mem::size_of::<Record>()
}
