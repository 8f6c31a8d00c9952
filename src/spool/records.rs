//! A batch as octets and back: what a block holds before it is compressed.
//!
//! Self-contained: names of inputs are in it, so that a later configuration does not change where a record came from.
//! Numbers are varints (seven bits an octet, the lowest first); those that can be negative are zigzagged. Each record is
//! told by its difference from the one before, each span by its distance from the one before it, so that most are an octet.
//!
//! | what | |
//! |---|---|
//! | `VERSION` | 1 octet |
//! | count of records, octets of all of them, count of input names | varints |
//! | each name | length, octets |
//! | each record | see `Writer::record` |
//! | the records' octets | one behind the other, to the end |

use std::net::IpAddr;
use std::sync::Arc;

use crate::batch::{Batch, Record};
use crate::syslog::{Fields, Pri, Protocol, Span, Timestamp};

#[doc(hidden)]
pub use fuzz::fuzz;

mod fuzz;

/// The first octet.
const VERSION: u8 = 1;

/// Room that is made for records before the first is read: a damaged count must not make us allocate gigabytes. Some ten
/// times as many as a batch of the smallest messages has.
const RECORDS_ROOM: usize = 4_096;

/// Why octets are not a batch. Their checksum is right when this is asked: it was never written so, or by a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Of a later version.
    #[error("records of version {0}, which this program does not know")]
    Version(u8),
    /// They end too early, or go on behind the last record.
    #[error("the count of octets is not that of the records")]
    Length,
    /// A number is none that a record has, or points outside it.
    #[error("a record holds what no record holds")]
    Value,
}

/// What each record may have, or has as the one before: the first two octets of it.
mod flag {
    pub(super) const RFC5424: u16 = 1;
    pub(super) const TIMESTAMP: u16 = 1 << 1;
    /// Zone and digits of the stamp are those of the stamp before.
    pub(super) const SAME_SHAPE: u16 = 1 << 2;
    pub(super) const HOSTNAME: u16 = 1 << 3;
    pub(super) const TAG: u16 = 1 << 4;
    pub(super) const APP_NAME: u16 = 1 << 5;
    pub(super) const PROCID: u16 = 1 << 6;
    pub(super) const MSGID: u16 = 1 << 7;
    pub(super) const STRUCTURED_DATA: u16 = 1 << 8;
    /// MSG is all that is left: what every parsed message has.
    pub(super) const MSG_TO_END: u16 = 1 << 9;
    pub(super) const OTHER_PEER: u16 = 1 << 10;
    pub(super) const PEER_V4: u16 = 1 << 11;
    pub(super) const PEER_V6: u16 = 1 << 12;
    pub(super) const OTHER_INPUT: u16 = 1 << 13;
    pub(super) const ALL: u16 = (1 << 14) - 1;
}

/// What the next record is told by.
#[derive(Clone, Copy)]
struct Before {
    received_at_us: i64,
    peer: Option<IpAddr>,
    /// As the batch has it when writing, as the names in front have it when reading.
    input: u16,
    moment: u64,
    shape: u32,
}

impl Before {
    const FIRST: Self = Self { received_at_us: 0, peer: None, input: 0, moment: 0, shape: 0 };
}

/// Appends `batch`, all of it but its seq. `inputs` are the configuration's names, by index.
pub fn encode(batch: &Batch, inputs: &[String], out: &mut Vec<u8>) {
    let inputs = batch.inputs.as_deref().unwrap_or(inputs);
    let used = used_inputs(batch);
    let mut writer = Writer { out };
    writer.out.push(VERSION);
    writer.number(batch.len() as u64);
    writer.number(batch.octets().len() as u64);
    writer.number(used.len() as u64);
    for input in &used {
        let name = inputs.get(usize::from(*input)).map(String::as_str).unwrap_or_default();
        writer.number(name.len() as u64);
        writer.out.extend_from_slice(name.as_bytes());
    }
    let mut before = Before { input: used.first().copied().unwrap_or_default(), ..Before::FIRST };
    for record in batch.records() {
        writer.record(record, &used, &mut before);
    }
    out.extend_from_slice(batch.octets());
}

/// Indices of the inputs that records came through, in order of appearance.
fn used_inputs(batch: &Batch) -> Vec<u16> {
    let mut used: Vec<u16> = Vec::new();
    for input in batch.input_indices() {
        if used.last() != Some(&input) && !used.contains(&input) {
            used.push(input);
        }
    }
    used
}

/// The batch that was encoded; its seq is the default, and it is not marked as stored. `inputs` are the configuration's
/// names, by index; where one of the batch's is not among them, it keeps its own ([`Batch::inputs`]).
///
/// # Errors
/// Says what is wrong. Never panics, and allocates no more than the records that are there take.
pub fn decode(plain: &[u8], inputs: &[String]) -> Result<Batch, Malformed> {
    let mut reader = Reader { rest: plain };
    let version = reader.octet()?;
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let count = reader.length()?;
    // Places in a batch are of 32 bits.
    let octets = reader.small()? as usize;
    let names = reader.names()?;
    let split = reader.rest.len().checked_sub(octets).ok_or(Malformed::Length)?;
    let (records, octets) = reader.rest.split_at_checked(split).ok_or(Malformed::Length)?;
    let known: Option<Vec<u16>> = names.iter().map(|name| index_of(name, inputs)).collect();

    let mut reader = Reader { rest: records };
    let mut batch = Batch::of_octets(octets.to_vec(), count.min(RECORDS_ROOM));
    let mut before = Before::FIRST;
    let mut left = octets.len();
    for _ in 0..count {
        let (fields, len) = reader.record(&mut before)?;
        left = left.checked_sub(len as usize).ok_or(Malformed::Length)?;
        let place = usize::from(before.input);
        let input =
            known.as_ref().map_or((place < names.len()).then_some(before.input), |known| known.get(place).copied());
        let input = input.ok_or(Malformed::Value)?;
        batch.restore(fields, before.received_at_us, before.peer, input, len);
    }
    if left > 0 || !reader.rest.is_empty() {
        return Err(Malformed::Length);
    }
    if known.is_none() {
        batch.inputs = Some(Arc::from(names));
    }
    Ok(batch)
}

fn index_of(name: &str, inputs: &[String]) -> Option<u16> {
    inputs.iter().position(|input| input == name).and_then(|index| u16::try_from(index).ok())
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Flags (2 octets), PRIVAL, length, arrival, peer and input where they are others than before, stamp, spans.
    fn record(&mut self, record: &Record, used: &[u16], before: &mut Before) {
        let fields = record.fields();
        let len = record.raw_len();
        let timestamp = fields.timestamp.filter(Timestamp::exists);
        let shape = timestamp.as_ref().map_or(before.shape, shape_of);
        let msg = inside(fields.msg, len);
        let flags = self::flags(record, before, msg.start + msg.len == len, timestamp.is_some(), shape);

        self.out.extend_from_slice(&flags.to_le_bytes());
        self.out.push(fields.pri.prival());
        self.number(u64::from(len));
        self.signed(record.received_at_us().wrapping_sub(before.received_at_us));
        before.received_at_us = record.received_at_us();
        if flags & flag::OTHER_PEER != 0 {
            match record.peer() {
                None => {}
                Some(IpAddr::V4(address)) => self.out.extend_from_slice(&address.octets()),
                Some(IpAddr::V6(address)) => self.out.extend_from_slice(&address.octets()),
            }
            before.peer = record.peer();
        }
        if flags & flag::OTHER_INPUT != 0 {
            before.input = record.input();
            let place = used.iter().position(|input| *input == before.input).unwrap_or_default();
            self.number(place as u64);
        }
        if let Some(timestamp) = timestamp {
            self.timestamp(&timestamp, shape, before);
        }

        let after_pri = fields.after_pri.min(len);
        self.number(u64::from(after_pri));
        let mut at = after_pri;
        for span in [fields.hostname, (fields.tag != Span::default()).then_some(fields.tag)].into_iter().flatten() {
            at = self.span(inside(span, len), at);
        }
        // An RFC 3164 program name begins where its tag does.
        if fields.tag != Span::default() {
            at = inside(fields.tag, len).start;
        }
        for span in [fields.app_name, fields.procid, fields.msgid, fields.structured_data].into_iter().flatten() {
            at = self.span(inside(span, len), at);
        }
        self.signed(i64::from(msg.start) - i64::from(at));
        if flags & flag::MSG_TO_END == 0 {
            self.number(u64::from(msg.len));
        }
    }

    /// The moment's difference from the one before, zone and digits where they are others, the fraction where it has one.
    fn timestamp(&mut self, timestamp: &Timestamp, shape: u32, before: &mut Before) {
        let moment = moment_of(timestamp);
        self.signed((moment as i64).wrapping_sub(before.moment as i64));
        before.moment = moment;
        if shape != before.shape {
            self.number(u64::from(shape));
            before.shape = shape;
        }
        if timestamp.fraction_digits > 0 {
            self.number(u64::from(timestamp.fraction));
        }
    }

    /// Its start's distance from `at`, its length. Returns its end.
    fn span(&mut self, span: Span, at: u32) -> u32 {
        self.signed(i64::from(span.start) - i64::from(at));
        self.number(u64::from(span.len));
        span.start + span.len
    }

    fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    #[inline]
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }
}

fn flags(record: &Record, before: &Before, msg_to_end: bool, timestamp: bool, shape: u32) -> u16 {
    let fields = record.fields();
    let peer = record.peer();
    let other_peer = peer != before.peer;
    let when = |holds: bool, flag: u16| if holds { flag } else { 0 };
    when(fields.protocol == Protocol::Rfc5424, flag::RFC5424)
        | when(timestamp, flag::TIMESTAMP)
        | when(timestamp && shape == before.shape, flag::SAME_SHAPE)
        | when(fields.hostname.is_some(), flag::HOSTNAME)
        | when(fields.tag != Span::default(), flag::TAG)
        | when(fields.app_name.is_some(), flag::APP_NAME)
        | when(fields.procid.is_some(), flag::PROCID)
        | when(fields.msgid.is_some(), flag::MSGID)
        | when(fields.structured_data.is_some(), flag::STRUCTURED_DATA)
        | when(msg_to_end, flag::MSG_TO_END)
        | when(other_peer, flag::OTHER_PEER)
        | when(other_peer && matches!(peer, Some(IpAddr::V4(_))), flag::PEER_V4)
        | when(other_peer && matches!(peer, Some(IpAddr::V6(_))), flag::PEER_V6)
        | when(record.input() != before.input, flag::OTHER_INPUT)
}

/// The span, or an empty one where it does not lie inside `len` octets: what [`Span::of`] makes of it as well.
fn inside(span: Span, len: u32) -> Span {
    match span.start.checked_add(span.len) {
        Some(end) if end <= len => span,
        _ => Span::default(),
    }
}

/// Date and time in one number that rises with them: 16 bits of year, then 4, 5, 5, 6 and 6.
fn moment_of(timestamp: &Timestamp) -> u64 {
    let day = u64::from(timestamp.year) << 9 | u64::from(timestamp.month) << 5 | u64::from(timestamp.day);
    let time = u64::from(timestamp.hour) << 12 | u64::from(timestamp.minute) << 6 | u64::from(timestamp.second);
    day << 17 | time
}

/// How a stamp is written: digits of the fraction (3 bits), `Z`, `-00:00`, minutes east of UTC (16 bits).
fn shape_of(timestamp: &Timestamp) -> u32 {
    u32::from(timestamp.fraction_digits)
        | u32::from(timestamp.zulu) << 3
        | u32::from(timestamp.minus_zero) << 4
        | u32::from(timestamp.offset_minutes as u16) << 5
}

/// `None` where there is no such moment.
fn timestamp_of(moment: u64, shape: u32, fraction: u32) -> Option<Timestamp> {
    let bits = |number: u64, at: u32, count: u32| ((number >> at) & ((1 << count) - 1)) as u8;
    let timestamp = Timestamp {
        year: u16::try_from(moment >> 26).ok()?,
        month: bits(moment, 22, 4),
        day: bits(moment, 17, 5),
        hour: bits(moment, 12, 5),
        minute: bits(moment, 6, 6),
        second: bits(moment, 0, 6),
        fraction_digits: bits(u64::from(shape), 0, 3),
        fraction,
        offset_minutes: u16::try_from(shape >> 5).ok()? as i16,
        zulu: shape & 1 << 3 != 0,
        minus_zero: shape & 1 << 4 != 0,
    };
    timestamp.exists().then_some(timestamp)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn names(&mut self) -> Result<Vec<String>, Malformed> {
        let count = self.length()?;
        // Each takes an octet at least; and no more than a `u16` counts are ever asked for.
        if count > self.rest.len().min(usize::from(u16::MAX) + 1) {
            return Err(Malformed::Length);
        }
        let mut names = Vec::new();
        for _ in 0..count {
            let len = self.length()?;
            let name = std::str::from_utf8(self.octets(len)?).map_err(|_| Malformed::Value)?;
            names.push(name.to_owned());
        }
        Ok(names)
    }

    /// A record's fields and length; the rest of it is in `before`.
    #[inline]
    fn record(&mut self, before: &mut Before) -> Result<(Fields, u32), Malformed> {
        let flags = u16::from_le_bytes(self.array()?);
        if flags & !flag::ALL != 0 {
            return Err(Malformed::Value);
        }
        let has = |flag: u16| flags & flag != 0;
        let pri = Pri::new(self.octet()?).ok_or(Malformed::Value)?;
        let len = self.small()?;
        before.received_at_us = before.received_at_us.wrapping_add(self.signed()?);
        if has(flag::OTHER_PEER) {
            before.peer = self.peer(flags)?;
        }
        if has(flag::OTHER_INPUT) {
            before.input = u16::try_from(self.number()?).map_err(|_| Malformed::Value)?;
        }
        let timestamp = if has(flag::TIMESTAMP) { Some(self.timestamp(flags, before)?) } else { None };

        let mut fields = Fields { pri, timestamp, ..Fields::default() };
        if has(flag::RFC5424) {
            fields.protocol = Protocol::Rfc5424;
        }
        fields.after_pri = self.small()?;
        let mut spans = Spans { reader: self, at: fields.after_pri, len };
        if fields.after_pri > len {
            return Err(Malformed::Value);
        }
        fields.hostname = spans.next_if(has(flag::HOSTNAME))?;
        if let Some(tag) = spans.next_if(has(flag::TAG))? {
            fields.tag = tag;
            spans.at = tag.start;
        }
        fields.app_name = spans.next_if(has(flag::APP_NAME))?;
        fields.procid = spans.next_if(has(flag::PROCID))?;
        fields.msgid = spans.next_if(has(flag::MSGID))?;
        fields.structured_data = spans.next_if(has(flag::STRUCTURED_DATA))?;
        fields.msg = if has(flag::MSG_TO_END) { spans.last()? } else { spans.next()? };
        Ok((fields, len))
    }

    fn peer(&mut self, flags: u16) -> Result<Option<IpAddr>, Malformed> {
        match (flags & flag::PEER_V4 != 0, flags & flag::PEER_V6 != 0) {
            (false, false) => Ok(None),
            (true, false) => Ok(Some(IpAddr::from(self.array::<4>()?))),
            (false, true) => Ok(Some(IpAddr::from(self.array::<16>()?))),
            (true, true) => Err(Malformed::Value),
        }
    }

    fn timestamp(&mut self, flags: u16, before: &mut Before) -> Result<Timestamp, Malformed> {
        before.moment = (before.moment as i64).wrapping_add(self.signed()?) as u64;
        if flags & flag::SAME_SHAPE == 0 {
            before.shape = self.small()?;
        }
        let has_fraction = before.shape & 7 != 0;
        let fraction = if has_fraction { self.small()? } else { 0 };
        timestamp_of(before.moment, before.shape, fraction).ok_or(Malformed::Value)
    }

    #[inline]
    fn signed(&mut self) -> Result<i64, Malformed> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number of 32 bits.
    #[inline]
    fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed::Value)
    }

    /// A number that counts octets or things of an octet or more.
    fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.number()?).map_err(|_| Malformed::Length)
    }

    #[inline]
    fn number(&mut self) -> Result<u64, Malformed> {
        let first = self.octet()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        self.number_behind(first)
    }

    fn number_behind(&mut self, first: u8) -> Result<u64, Malformed> {
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            // The tenth octet has one bit left.
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if octet < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed::Value)
    }

    #[inline]
    fn octet(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed::Length)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Length)?;
        self.rest = rest;
        Ok(*first)
    }

    fn octets(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Length)?;
        self.rest = rest;
        Ok(first)
    }
}

/// Spans of a record of `len` octets, each told by its distance from `at`.
struct Spans<'r, 'a> {
    reader: &'r mut Reader<'a>,
    at: u32,
    len: u32,
}

impl Spans<'_, '_> {
    #[inline]
    fn next_if(&mut self, present: bool) -> Result<Option<Span>, Malformed> {
        if present { self.next().map(Some) } else { Ok(None) }
    }

    #[inline]
    fn next(&mut self) -> Result<Span, Malformed> {
        let start = self.start()?;
        let len = self.reader.small()?;
        let end = start.checked_add(len).filter(|end| *end <= self.len).ok_or(Malformed::Value)?;
        self.at = end;
        Ok(Span { start, len })
    }

    /// To the record's end.
    #[inline]
    fn last(&mut self) -> Result<Span, Malformed> {
        let start = self.start()?;
        Ok(Span { start, len: self.len - start })
    }

    /// Inside the record.
    #[inline]
    fn start(&mut self) -> Result<u32, Malformed> {
        let start = i64::from(self.at).checked_add(self.reader.signed()?);
        let start = start.and_then(|start| u32::try_from(start).ok());
        start.filter(|start| *start <= self.len).ok_or(Malformed::Value)
    }
}

#[cfg(test)]
mod tests;
