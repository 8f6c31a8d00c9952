//! Framing of a stream: octet counting and non-transparent framing, told apart per frame (RFC 6587 section 3.4).
//!
//! Sans-IO: the caller owns the reads and the receive buffer. The decoder never waits, never loops without consuming,
//! never allocates by what a sender declares, and gives the same frames however the stream is cut into reads.
//! [`Framing`] says what is a frame; `frame/count.rs` says which digits are MSG-LEN.

mod count;
mod fuzz;
#[cfg(test)]
mod tests;

use std::ops::Range;

use count::{Answer, Head};
#[doc(hidden)]
pub use fuzz::fuzz;

/// Memory kept by a decoder that holds no octets: the usual partial frame fits, and ten thousand connections that are
/// idle keep 5 MiB at most.
const KEPT_CAPACITY_MAX: usize = 512;

/// The largest `max`: spans into a frame are of 32 bits.
const FRAME_LEN_MAX: usize = u32::MAX as usize;

/// How a stream is cut into frames (`framing:`). Frames without octets are never given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Octet counting and LF, told apart per frame: `MSG-LEN SP` is believed where a PRI follows, or where what stands at
    /// the end of the counted octets agrees. One CR before the LF is not part of the frame.
    #[default]
    Auto,
    /// Octet counting only: `MSG-LEN SP` is always believed. Octets where a count should be are a frame up to their LF.
    Octet,
    /// LF only; digits are text. One CR before the LF is not part of the frame.
    Lf,
    /// NUL only; LF is text, apart from one just before the NUL.
    Nul,
}

/// One frame, still as it was received (not sanitized), without its trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The octets.
    pub bytes: &'a [u8],
    /// What was unusual about it.
    pub flaw: Option<Flaw>,
}

/// What was unusual about a frame; each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Longer than the maximum: what is here is its beginning, cut at a UTF-8 boundary. The rest was skipped.
    Oversize,
    /// The stream ended inside it: in its counted octets, or before its LF or NUL.
    Unfinished,
}

/// Cuts one connection's stream into frames. Owns octets only while a frame is partial.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    max: usize,
    /// Octets received and not given yet, after `head`.
    owned: Vec<u8>,
    /// How many octets of `owned` were given.
    head: usize,
    /// How many octets after `head` are known to hold no trailer.
    searched: usize,
    skip: Skip,
}

/// What is left to skip of a frame that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    Nothing,
    /// Through the next LF (or NUL).
    Trailer,
    /// So many octets.
    Octets(usize),
}

/// What the octets at hand come to.
enum Step {
    /// A frame at `frame`; `taken` octets are done with.
    Frame { frame: Range<usize>, flaw: Option<Flaw>, taken: usize, skip: Skip },
    /// Nothing but a trailer.
    Empty { taken: usize },
    /// Undecided: `octets` more are needed, fewer where `to_trailer` and a trailer is among them.
    Need { octets: usize, to_trailer: bool, searched: usize },
}

impl Decoder {
    /// A decoder at the start of a stream. Frames over `max` octets (1 to 4 GiB - 1) are cut.
    pub const fn new(framing: Framing, max: usize) -> Self {
        let max = match max {
            0 => 1,
            1..=FRAME_LEN_MAX => max,
            _ => FRAME_LEN_MAX,
        };
        Self { framing, max, owned: Vec::new(), head: 0, searched: 0, skip: Skip::Nothing }
    }

    /// The next frame of what is owned followed by `input`, which moves past what was consumed.
    /// `None`: `input` is empty now and a partial frame, if any, is owned.
    pub fn next_frame<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Frame<'a>> {
        loop {
            if self.head == self.owned.len() {
                self.release();
                let (skip, skipped) = self.skip.over(input, self.trailer());
                self.skip = skip;
                *input = input.get(skipped..).unwrap_or_default();
                if input.is_empty() {
                    return None;
                }
                match self.step(input, 0, false) {
                    Step::Frame { frame, flaw, taken, skip } => {
                        self.skip = skip;
                        let bytes = input.get(frame).unwrap_or_default();
                        *input = input.get(taken..).unwrap_or_default();
                        return Some(Frame { bytes, flaw });
                    }
                    Step::Empty { taken } => *input = input.get(taken..).unwrap_or_default(),
                    Step::Need { searched, .. } => {
                        self.owned.extend_from_slice(input);
                        self.searched = searched;
                        *input = &[];
                        return None;
                    }
                }
            } else {
                match self.step_owned(false) {
                    Step::Frame { frame, flaw, .. } => {
                        return Some(Frame { bytes: self.owned.get(frame).unwrap_or_default(), flaw });
                    }
                    Step::Empty { .. } => {}
                    Step::Need { octets, to_trailer, .. } => {
                        if input.is_empty() {
                            return None;
                        }
                        self.pull(octets, to_trailer, input);
                    }
                }
            }
        }
    }

    /// Takes ownership of octets that were received but not asked for yet (the reader has to pause).
    pub fn keep(&mut self, input: &[u8]) {
        if self.head == self.owned.len() {
            self.release();
        }
        self.owned.extend_from_slice(input);
    }

    /// The stream ended: what is left, to be called until it gives `None`. There is more than one frame only where octets
    /// were kept ([`Decoder::keep`]) and not asked for. The decoder is at the start of a stream afterwards.
    pub fn finish(&mut self) -> Option<Frame<'_>> {
        while self.head < self.owned.len() {
            match self.step_owned(true) {
                Step::Frame { frame, flaw, .. } => {
                    return Some(Frame { bytes: self.owned.get(frame).unwrap_or_default(), flaw });
                }
                Step::Empty { .. } => {}
                // Does not happen: at the end of a stream everything is decided.
                Step::Need { .. } => self.head = self.owned.len(),
            }
        }
        self.release();
        self.skip = Skip::Nothing;
        None
    }

    /// Octets that were taken and belong to no frame yet.
    pub fn pending(&self) -> usize {
        self.owned.len() - self.head
    }

    /// Bytes of memory owned.
    pub fn owned(&self) -> usize {
        self.owned.capacity()
    }

    /// One step over what is owned. A frame's range is one of `owned` itself.
    #[inline(never)]
    fn step_owned(&mut self, ended: bool) -> Step {
        let pending = self.owned.get(self.head..).unwrap_or_default();
        let (skip, taken) = self.skip.over(pending, self.trailer());
        if taken > 0 {
            self.skip = skip;
            self.advance(taken);
            return Step::Empty { taken };
        }
        let mut step = self.step(pending, self.searched, ended);
        match &mut step {
            Step::Frame { frame, taken, skip, .. } => {
                *frame = frame.start + self.head..frame.end + self.head;
                self.skip = *skip;
                self.advance(*taken);
            }
            Step::Empty { taken } => self.advance(*taken),
            Step::Need { searched, .. } => self.searched = *searched,
        }
        step
    }

    fn advance(&mut self, taken: usize) {
        self.head += taken;
        self.searched = 0;
    }

    /// Forgets what was given; a buffer that was big goes back to the allocator.
    fn release(&mut self) {
        if self.owned.capacity() > KEPT_CAPACITY_MAX {
            self.owned = Vec::new();
        } else {
            self.owned.clear();
        }
        self.head = 0;
        self.searched = 0;
    }

    /// Moves up to `octets` of `input` behind what is owned, no further than a trailer where `to_trailer`.
    fn pull(&mut self, octets: usize, to_trailer: bool, input: &mut &[u8]) {
        if self.head > 0 {
            // Only after `keep`: the octets that were kept go back as soon as the last frame in them turns out partial.
            self.owned.drain(..self.head);
            self.owned.shrink_to(KEPT_CAPACITY_MAX);
            self.head = 0;
        }
        let piece = input.get(..octets).unwrap_or(input);
        let trailer = if to_trailer { memchr::memchr(self.trailer(), piece) } else { None };
        let (piece, rest) = input.split_at(trailer.map_or(piece.len(), |at| at + 1));
        self.owned.extend_from_slice(piece);
        *input = rest;
    }

    /// What ends a frame that is not counted.
    const fn trailer(&self) -> u8 {
        match self.framing {
            Framing::Nul => b'\0',
            Framing::Auto | Framing::Octet | Framing::Lf => b'\n',
        }
    }

    /// The frame that `data` begins with; `data` is not empty. `searched` octets are known to hold no trailer; `ended`: no
    /// more will come.
    // Inlined, as the two below: it saves a fifth of the time a frame takes, most of which is memchr's.
    #[inline(always)]
    fn step(&self, data: &[u8], searched: usize, ended: bool) -> Step {
        let may_be_count =
            matches!(self.framing, Framing::Auto | Framing::Octet) && data.first().is_some_and(u8::is_ascii_digit);
        if !may_be_count {
            return self.uncounted(data, searched, ended);
        }
        match count::head(data, self.max.max(count::COUNT_MAX)) {
            Head::Short if !ended => Step::Need { octets: 1, to_trailer: true, searched: data.len() },
            Head::Short | Head::Text => self.uncounted(data, searched, ended),
            Head::Count { len, taken } => {
                let body = data.get(taken..).unwrap_or_default();
                let answer = match self.framing {
                    Framing::Auto => count::is_count(len, body, searched.saturating_sub(taken), self.max, ended),
                    Framing::Octet | Framing::Lf | Framing::Nul => Answer::Yes,
                };
                match answer {
                    Answer::Yes => self.counted(data, taken, len, ended),
                    Answer::No => self.uncounted(data, searched, ended),
                    Answer::Wait(octets) => Step::Need { octets, to_trailer: true, searched: data.len() },
                }
            }
        }
    }

    /// `len` octets from `start` are a frame.
    #[inline(always)]
    fn counted(&self, data: &[u8], start: usize, len: usize, ended: bool) -> Step {
        let wanted = len.min(self.max);
        let there = data.len() - start;
        if there < wanted {
            return match (ended, there) {
                (false, _) => Step::Need { octets: wanted - there, to_trailer: false, searched: 0 },
                // The count is all that came of it: as text, it is not lost.
                (true, 0) => self.uncounted(data, 0, ended),
                (true, _) => Step::Frame {
                    frame: start..data.len(),
                    flaw: Some(Flaw::Unfinished),
                    taken: data.len(),
                    skip: Skip::Nothing,
                },
            };
        }
        if len <= self.max {
            let end = start + len;
            return Step::Frame { frame: start..end, flaw: None, taken: end, skip: Skip::Nothing };
        }
        let taken = len.min(there);
        let skip = if taken < len { Skip::Octets(len - taken) } else { Skip::Nothing };
        self.oversize(data, start, start + taken, skip)
    }

    /// The octets up to the trailer are a frame.
    #[inline(always)]
    fn uncounted(&self, data: &[u8], searched: usize, ended: bool) -> Step {
        let found = data.get(searched..).and_then(|rest| memchr::memchr(self.trailer(), rest));
        if let Some(end) = found.map(|at| at + searched) {
            let trimmed = if self.framing == Framing::Nul { b'\n' } else { b'\r' };
            let line = data.get(..end).unwrap_or_default();
            let line = line.strip_suffix(&[trimmed]).unwrap_or(line);
            let taken = end + 1;
            return match line.len() {
                0 => Step::Empty { taken },
                len if len > self.max => self.oversize(data, 0, taken, Skip::Nothing),
                len => Step::Frame { frame: 0..len, flaw: None, taken, skip: Skip::Nothing },
            };
        }
        // One octet more than `max` may still be the CR of a CR LF.
        let enough = self.max.saturating_add(2);
        if data.len() >= enough || (ended && data.len() > self.max) {
            return self.oversize(data, 0, data.len(), Skip::Trailer);
        }
        if ended {
            let flaw = Some(Flaw::Unfinished);
            return Step::Frame { frame: 0..data.len(), flaw, taken: data.len(), skip: Skip::Nothing };
        }
        Step::Need { octets: enough - data.len(), to_trailer: true, searched: data.len() }
    }

    /// The beginning of an oversize frame that starts at `start`.
    #[cold]
    fn oversize(&self, data: &[u8], start: usize, taken: usize, skip: Skip) -> Step {
        let kept = cut(data.get(start..).unwrap_or_default(), self.max).len();
        Step::Frame { frame: start..start + kept, flaw: Some(Flaw::Oversize), taken, skip }
    }
}

/// The first `max` octets, less a UTF-8 sequence that does not fit whole; all of `octets` where they are not more.
/// Never empty where `octets` is not.
pub fn truncate(octets: &[u8], max: usize) -> &[u8] {
    if octets.len() <= max { octets } else { cut(octets, max) }
}

/// What a datagram is taken for: `None` where it holds nothing but a line end, else its octets up to `max`, and whether
/// there were more.
#[inline]
pub fn of_datagram(datagram: &[u8], max: usize) -> Option<(&[u8], bool)> {
    if matches!(datagram, [] | b"\n" | b"\r\n" | [0]) {
        return None;
    }
    let cut = truncate(datagram, max);
    Some((cut, cut.len() < datagram.len()))
}

/// The first `max` octets of something longer, of which no more than `octets` may be at hand, less a UTF-8 sequence that
/// does not fit whole (where more than that is there).
fn cut(octets: &[u8], max: usize) -> &[u8] {
    let kept = octets.get(..max).unwrap_or(octets);
    let begun = kept.iter().rev().take(3);
    let back = begun.zip(1_usize..).find(|(octet, _)| **octet & 0xC0 != 0x80).map_or(0, |(octet, back)| {
        let sequence_len = match octet {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        if sequence_len > back && back < kept.len() { back } else { 0 }
    });
    kept.get(..kept.len() - back).unwrap_or_default()
}

impl Default for Decoder {
    /// [`Framing::Auto`], with Sekoia's limit of 250 KiB a message.
    fn default() -> Self {
        Self::new(Framing::Auto, 250 << 10)
    }
}

impl Skip {
    /// What is left to skip after `data`, and how much of `data` is skipped.
    fn over(self, data: &[u8], trailer: u8) -> (Self, usize) {
        match self {
            Self::Nothing => (Self::Nothing, 0),
            Self::Trailer => match memchr::memchr(trailer, data) {
                Some(at) => (Self::Nothing, at + 1),
                None => (Self::Trailer, data.len()),
            },
            Self::Octets(left) if left > data.len() => (Self::Octets(left - data.len()), data.len()),
            Self::Octets(left) => (Self::Nothing, left),
        }
    }
}

/// Whether a connection's first octets are a TLS ClientHello (RFC 8446 section 5.1), sent to a port that is not TLS.
pub fn looks_like_tls(first_octets: &[u8]) -> bool {
    matches!(first_octets, [0x16, 0x03, 0x00..=0x04, ..])
}
