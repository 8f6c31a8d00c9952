//! A stream in reads to frames: holds what is partial, and cuts what is too long while it streams by.

use super::{Command, Frame, FrameError, Limits, Parsed, parse};
use crate::syslog::frame::truncate;

/// Memory kept while no octets are held: the usual partial frame fits.
const KEPT_CAPACITY_MAX: usize = 512;

/// The longest data of anything but a message: far more than offers and answers take. librelp allows 128 KiB
/// (`RELP_DFLT_MAX_DATA_SIZE`).
const OTHER_LEN_MAX: usize = 16 << 10;

/// Cuts one connection's stream into frames. Owns octets only while a frame is partial; never allocates by what a peer
/// declares, only by what it sent, and of one frame's data no more than the maximum (the allocator's rounding apart).
#[derive(Debug)]
pub struct Deframer {
    limits: Limits,
    /// Octets received and not given yet, behind `head`.
    owned: Vec<u8>,
    /// How many octets of `owned` were given.
    head: usize,
    /// A message that is too long, on its way.
    cut: Option<Cut>,
}

/// The beginning of a message that is too long; its rest is skipped.
#[derive(Debug)]
struct Cut {
    txnr: u32,
    /// One octet more than the maximum, so that it shows whether a character ends at the cut.
    data: Vec<u8>,
    /// Octets of its data that are still to come.
    left: usize,
    /// Whether its LF was seen, so that it was given.
    is_given: bool,
}

impl Deframer {
    /// One at the start of a stream. Messages of more than `message_len_max` octets (at least 1) are cut; another command
    /// with more than 16 KiB of data is an error.
    pub const fn new(message_len_max: usize) -> Self {
        let message = if message_len_max == 0 { 1 } else { message_len_max };
        Self { limits: Limits { message, other: OTHER_LEN_MAX }, owned: Vec::new(), head: 0, cut: None }
    }

    /// The next frame of what is owned followed by `input`, which moves past what was consumed.
    /// `None`: `input` is empty now and a partial frame, if any, is owned.
    ///
    /// # Errors
    ///
    /// Where there is no frame; asking again is of no use.
    pub fn next_frame<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        if self.cut.as_ref().is_some_and(|cut| cut.is_given) {
            self.cut = None;
        }
        loop {
            if self.cut.is_some() {
                return self.next_of_cut(input);
            }
            if self.head == self.owned.len() {
                self.release();
                if input.is_empty() {
                    return Ok(None);
                }
                match parse(input, self.limits) {
                    Ok(Parsed::Frame { txnr, command, data, taken }) => {
                        let data = input.get(data).unwrap_or_default();
                        *input = input.get(taken..).unwrap_or_default();
                        return Ok(Some(Frame { txnr, command, data, is_cut: false }));
                    }
                    Ok(Parsed::Need { .. }) => {
                        self.owned.extend_from_slice(input);
                        *input = &[];
                        return Ok(None);
                    }
                    Err(error) => {
                        let header_len = self.begin_cut(error)?;
                        *input = input.get(header_len..).unwrap_or_default();
                    }
                }
            } else {
                match parse(self.owned.get(self.head..).unwrap_or_default(), self.limits) {
                    Ok(Parsed::Frame { txnr, command, data, taken }) => {
                        let data = data.start + self.head..data.end + self.head;
                        self.head += taken;
                        let data = self.owned.get(data).unwrap_or_default();
                        return Ok(Some(Frame { txnr, command, data, is_cut: false }));
                    }
                    Ok(Parsed::Need { .. }) if input.is_empty() => return Ok(None),
                    Ok(Parsed::Need { octets }) => self.pull(octets, input),
                    Err(error) => self.head += self.begin_cut(error)?,
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

    /// Whether a frame is partial, or kept: were the stream to end now, something would be missing.
    pub fn is_partial(&self) -> bool {
        self.head < self.owned.len() || self.cut.as_ref().is_some_and(|cut| !cut.is_given)
    }

    /// Bytes of memory owned.
    pub fn owned(&self) -> usize {
        self.owned.capacity() + self.cut.as_ref().map_or(0, |cut| cut.data.capacity())
    }

    /// Where `error` is a message that is too long: begins to cut it, and returns the length of its header.
    #[cold]
    fn begin_cut(&mut self, error: FrameError) -> Result<usize, FrameError> {
        match error {
            FrameError::TooLong { txnr, command: Some(Command::Syslog), header_len, data_len } => {
                self.cut = Some(Cut { txnr, data: Vec::new(), left: data_len, is_given: false });
                Ok(header_len)
            }
            _ => Err(error),
        }
    }

    /// Goes on with a message that is being cut.
    #[cold]
    fn next_of_cut(&mut self, input: &mut &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
        let Some(cut) = &mut self.cut else { return Ok(None) };
        let mut ended = false;
        if self.head < self.owned.len() {
            let mut kept = self.owned.get(self.head..).unwrap_or_default();
            let before = kept.len();
            ended = cut.take(&mut kept, self.limits.message)?;
            self.head += before - kept.len();
        }
        if !ended {
            ended = cut.take(input, self.limits.message)?;
        }
        if !ended {
            return Ok(None);
        }
        let data = truncate(&cut.data, self.limits.message);
        Ok(Some(Frame { txnr: cut.txnr, command: Some(Command::Syslog), data, is_cut: true }))
    }

    /// Moves up to `octets` of `input` behind what is owned.
    fn pull(&mut self, octets: usize, input: &mut &[u8]) {
        if self.head > 0 {
            // Only after `keep`: the octets that were kept go back as soon as the last frame in them turns out partial.
            self.owned.drain(..self.head);
            self.owned.shrink_to(KEPT_CAPACITY_MAX);
            self.head = 0;
        }
        let (piece, rest) = input.split_at(octets.min(input.len()));
        self.owned.extend_from_slice(piece);
        *input = rest;
    }

    /// Forgets what was given; a buffer that was big goes back to the allocator.
    fn release(&mut self) {
        if self.owned.capacity() > KEPT_CAPACITY_MAX {
            self.owned = Vec::new();
        } else {
            self.owned.clear();
        }
        self.head = 0;
    }
}

impl Cut {
    /// Consumes what belongs to it; whether that was all.
    fn take(&mut self, input: &mut &[u8], max: usize) -> Result<bool, FrameError> {
        let (piece, rest) = input.split_at(self.left.min(input.len()));
        self.left -= piece.len();
        let wanted = max.saturating_add(1).saturating_sub(self.data.len());
        self.data.extend_from_slice(piece.get(..wanted).unwrap_or(piece));
        *input = rest;
        if self.left > 0 {
            return Ok(false);
        }
        match rest.split_first() {
            None => Ok(false),
            Some((b'\n', rest)) => {
                *input = rest;
                self.is_given = true;
                Ok(true)
            }
            Some(_) => Err(FrameError::Trailer),
        }
    }
}
