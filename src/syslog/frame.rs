//! Framing of a stream: octet counting and non-transparent framing, told apart per frame (RFC 6587 section 3.4).

/// How a stream is cut into frames (`framing:`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Octet counting and LF, told apart per frame.
    #[default]
    Auto,
    /// Octet counting only.
    Octet,
    /// LF only; digits are text.
    Lf,
    /// NUL only; LF is text.
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

/// What was unusual about a frame; each is a counter's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Longer than the maximum: what is here is its beginning, cut at a UTF-8 boundary. The rest was skipped.
    Oversize,
    /// The stream ended inside it.
    Unfinished,
}

/// Cuts one connection's stream into frames. Owns octets only while a frame is partial.
#[derive(Debug, Default)]
pub struct Decoder {}

impl Decoder {
    /// A decoder at the start of a stream. Frames over `max` octets are cut.
    pub fn new(_framing: Framing, _max: usize) -> Self {
        Self {}
    }

    /// The next frame of what is owned followed by `input`, which moves past what was consumed.
    /// `None`: `input` is empty now and a partial frame, if any, is owned.
    pub fn next_frame<'a>(&'a mut self, _input: &mut &'a [u8]) -> Option<Frame<'a>> {
        None
    }

    /// Takes ownership of octets that were received but not asked for yet (the reader has to pause).
    pub fn keep(&mut self, _input: &[u8]) {}

    /// The stream ended: what is left of a partial frame.
    pub fn finish(&mut self) -> Option<Frame<'_>> {
        None
    }

    /// Bytes of memory owned.
    pub fn owned(&self) -> usize {
        0
    }
}
