//! Octets to frames, with where each stood and what it stood in. The relay's decoder cuts; what it passed over is looked at.

use std::io::Read;

use anyhow::Context;

use crate::syslog::frame::{self, Flaw};
use crate::syslog::{Decoder, Framing};

use super::End;

/// One read's octets.
const READ_BYTES: usize = 256 * 1024;

/// What a frame stood in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A datagram of its own; octets that it had.
    Datagram(usize),
    /// Behind this MSG-LEN.
    Counted(usize),
    /// In front of LF.
    Lf,
    /// In front of CR LF.
    CrLf,
    /// In front of a NUL.
    Nul,
    /// It is the stream's end, where more was expected.
    Rest,
    /// More than is kept: its end was passed over.
    Passed,
}

impl How {
    /// A word for it, which stays.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Datagram(_) => "datagram",
            Self::Counted(_) => "octet_counting",
            Self::Lf => "lf",
            Self::CrLf => "cr_lf",
            Self::Nul => "nul",
            Self::Rest => "end_of_stream",
            Self::Passed => "uncounted",
        }
    }
}

/// A frame, and where it was.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    /// Its octets, as they were received; empty where a datagram holds no message.
    pub(super) octets: Vec<u8>,
    /// What was wrong with it.
    pub(super) flaw: Option<Flaw>,
    /// What it stood in.
    pub(super) how: How,
    /// Where it began in what was read, its MSG-LEN included.
    pub(super) offset: u64,
    /// The same as a line, from 1.
    pub(super) line: u64,
}

impl Cut {
    /// One datagram.
    pub(super) fn datagram(octets: &[u8], max: usize) -> Self {
        let (kept, is_cut) = frame::of_datagram(octets, max).unwrap_or_default();
        let flaw = is_cut.then_some(Flaw::Oversize);
        Self { octets: kept.to_vec(), flaw, how: How::Datagram(octets.len()), offset: 0, line: 1 }
    }
}

/// What was read and is in no frame yet.
struct Cutter {
    framing: Framing,
    /// Octets from `base` on.
    kept: Vec<u8>,
    /// How many of them are in frames already.
    taken: usize,
    base: u64,
    line: u64,
}

/// Cuts a stream into frames, as a connection's octets are cut.
pub(super) fn stream(
    source: &mut dyn Read,
    framing: Framing,
    max: usize,
    mut take: impl FnMut(Cut) -> Result<(), End>,
) -> Result<(), End> {
    let mut decoder = Decoder::new(framing, max);
    let mut read = Cutter { framing, kept: Vec::new(), taken: 0, base: 0, line: 1 };
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = source.read(&mut buffer).context("cannot read")?;
        if count == 0 {
            break;
        }
        let mut input = buffer.get(..count).unwrap_or_default();
        read.kept.extend_from_slice(input);
        while let Some(frame) = decoder.next_frame(&mut input) {
            let (octets, flaw) = (frame.bytes.to_vec(), frame.flaw);
            take(read.cut(octets, flaw, input.len() + decoder.pending()))?;
        }
        read.forget();
    }
    while let Some(frame) = decoder.finish() {
        let (octets, flaw) = (frame.bytes.to_vec(), frame.flaw);
        take(read.cut(octets, flaw, decoder.pending()))?;
    }
    Ok(())
}

impl Cutter {
    /// The frame that the decoder just gave; `left` octets of those that were read are behind it.
    fn cut(&mut self, octets: Vec<u8>, flaw: Option<Flaw>, left: usize) -> Cut {
        let end = self.kept.len().saturating_sub(left);
        let extent = self.kept.get(self.taken..end).unwrap_or_default();
        let (start, how) = place(extent, &octets, flaw, self.framing);
        let before = extent.get(..start).unwrap_or_default();
        let line = self.line + lines(before);
        let offset = self.base + (self.taken + start) as u64;
        self.line += lines(extent);
        self.taken = end;
        Cut { octets, flaw, how, offset, line }
    }

    fn forget(&mut self) {
        self.kept.drain(..self.taken);
        self.base += self.taken as u64;
        self.taken = 0;
    }
}

fn lines(octets: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', octets).count() as u64
}

/// Where in `extent` the frame begins, its MSG-LEN included, and what it stood in. In front of it there may be empty lines and
/// the end of a frame that was too long.
fn place(extent: &[u8], frame: &[u8], flaw: Option<Flaw>, framing: Framing) -> (usize, How) {
    let trailers: &[(&[u8], How)] = match framing {
        Framing::Nul => &[(b"\n\0", How::Nul), (b"\0", How::Nul), (b"", How::Rest)],
        Framing::Auto | Framing::Octet | Framing::Lf => &[(b"\r\n", How::CrLf), (b"\n", How::Lf), (b"", How::Rest)],
    };
    let behind = trailers.iter().find_map(|(trailer, how)| {
        let start = extent.strip_suffix(*trailer)?.strip_suffix(frame)?.len();
        Some((start, *how))
    });
    // Of a frame that is too long the end is missing.
    let found = behind.or_else(|| Some((memchr::memmem::find(extent, frame)?, How::Passed)));
    let (start, how) = found.unwrap_or((0, How::Passed));
    let is_whole_rest = matches!(how, How::Rest | How::Passed);
    let counts = matches!(framing, Framing::Auto | Framing::Octet);
    match msg_len(extent.get(..start).unwrap_or_default()) {
        Some((len, digits)) if is_whole_rest && counts => (start - digits - 1, How::Counted(len)),
        _ if flaw == Some(Flaw::Oversize) => (start, How::Passed),
        _ => (start, how),
    }
}

/// `MSG-LEN SP` at the end of what is in front of a frame: its value, and how many digits it has.
fn msg_len(before: &[u8]) -> Option<(usize, usize)> {
    let digits = before.strip_suffix(b" ")?;
    let count = digits.iter().rev().take_while(|octet| octet.is_ascii_digit()).count();
    let digits = digits.get(digits.len() - count..)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(framing: Framing, max: usize, octets: &[u8]) -> Vec<(String, How, u64, u64)> {
        let mut found = Vec::new();
        let cut = |cut: Cut| {
            found.push((String::from_utf8_lossy(&cut.octets).into_owned(), cut.how, cut.offset, cut.line));
            Ok(())
        };
        assert!(stream(&mut &*octets, framing, max, cut).is_ok());
        found
    }

    #[test]
    fn each_frame_is_told_with_its_place_and_what_it_stood_in() {
        let row = |text: &str, how, offset, line| (text.to_owned(), how, offset, line);
        let stream = b"<13>a\n\n6 <13>bc<13>d\r\n\n7 <13>e\nf<13>g";
        let expected = [
            row("<13>a", How::Lf, 0, 1),
            row("<13>bc", How::Counted(6), 7, 3),
            row("<13>d", How::CrLf, 15, 3),
            row("<13>e\nf", How::Counted(7), 23, 5),
            row("<13>g", How::Rest, 32, 6),
        ];
        assert_eq!(cuts(Framing::Auto, 99, stream), expected);
        assert_eq!(
            cuts(Framing::Nul, 99, b"<13>a\0\0<13>b\n\0c"),
            [row("<13>a", How::Nul, 0, 1), row("<13>b", How::Nul, 7, 1), row("c", How::Rest, 14, 2)]
        );
    }

    #[test]
    fn what_is_too_long_leaves_the_places_behind_it_right() {
        let row = |text: &str, how, offset, line| (text.to_owned(), how, offset, line);
        let stream = b"<13>abcdefghij\n<13>b\n14 <13>abcdefghij<13>c\n";
        let expected = [
            row("<13>abcd", How::Passed, 0, 1),
            row("<13>b", How::Lf, 15, 2),
            row("<13>abcd", How::Counted(14), 21, 3),
            row("<13>c", How::Lf, 38, 3),
        ];
        assert_eq!(cuts(Framing::Auto, 8, stream), expected);
    }

    #[test]
    fn places_do_not_depend_on_how_it_is_read() {
        /// Gives one octet at a time.
        struct Slowly<'a>(&'a [u8]);
        impl Read for Slowly<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
                (buffer[0], self.0) = (*first, rest);
                Ok(1)
            }
        }
        let octets = b"<13>abcdefghij\n\n6 <13>bc<13>d\r\n14 <13>abcdefghij3 <1>x\n5 hello";
        let mut slowly = Vec::new();
        let cut = |cut: Cut| {
            slowly.push((String::from_utf8_lossy(&cut.octets).into_owned(), cut.how, cut.offset, cut.line));
            Ok(())
        };
        assert!(stream(&mut Slowly(octets), Framing::Auto, 8, cut).is_ok());
        assert_eq!(slowly, cuts(Framing::Auto, 8, octets));
        assert_eq!(slowly.len(), 7);
    }
}
