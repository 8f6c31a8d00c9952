//! An input's end: answers the offers, gives messages with their numbers, and builds the answers to them.
//!
//! Answers may be given in any order: librelp's client looks the number up among all that are outstanding
//! (`relpSessGetUnacked` in `relpsess.c`), and its specification says "the server may reply in any order" (and two sentences
//! later the contrary). librelp's own server answers in order, so in order is the safe choice where it costs nothing.
//!
//! There is no way to refuse one message: librelp's client reports one that is answered with another code than 200, closes
//! the connection, and never sends it again (`scrsp.c`; seen with omrelp 8.2302). What is not taken is not answered, and the
//! connection closed: then all that is not answered is sent again, in order, in front of what is new.

#[cfg(test)]
mod tests;

use super::frame::{Command, Deframer, Encoder, Frame, FrameError, encode};
use super::offers::{self, Offers};
use super::response::shown;
use super::{TXNR_FIRST, TXNR_HINT, TXNR_MAX, next_txnr};
use crate::syslog::frame::{self, Flaw};

/// One connection's state.
#[derive(Debug)]
pub struct Server {
    state: State,
    /// The next command's number.
    next: u32,
    deframer: Deframer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Open,
    Closed,
}

/// What the client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A session; it was answered.
    Opened {
        /// What it says it is, fit to be shown; empty where it does not say.
        software: String,
    },
    /// A message to be taken, and then answered with [`acknowledge`].
    Message {
        /// Its number, which no other outstanding message has.
        txnr: u32,
        /// Its octets, which may be none. omrelp's have no LF at their end; those of others may.
        frame: frame::Frame<'a>,
    },
    /// A command that means nothing here, or a hint; a command was answered with 500.
    Ignored {
        /// Its number.
        txnr: u32,
    },
    /// To close the session. Settle what is outstanding if that is soon done, then [`closed`]. librelp's client waits for
    /// 90 s at most, and forgets what is not acknowledged by then.
    Close {
        /// Its number.
        txnr: u32,
    },
}

/// Why a connection cannot go on. What was appended to `out` before is still to be sent, with [`serverclose`] behind it where
/// one wants to do as librelp does; then the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// What it sends is no RELP, or one command that is no message is too long.
    #[error("the client does not speak RELP: {0}")]
    Frame(#[from] FrameError),
    /// A command in front of `open`.
    #[error("the client does not begin with open")]
    NotOpen,
    /// A number that does not follow its predecessor (`relpframe.c`, `RELP_RET_INVALID_TXNR`).
    #[error("the client numbers a command {found} where {expected} is next")]
    Txnr {
        /// The next number.
        expected: u32,
        /// What there was.
        found: u32,
    },
    /// A second `open`; it was answered so.
    #[error("the client opens a connection that is open")]
    OpenTwice,
    /// Its version is not a number; it was answered so.
    #[error("the client offers a version of RELP that is no number")]
    Version,
    /// It sends no syslog messages; it was answered so.
    #[error("the client does not offer the syslog command")]
    NoSyslog,
    /// An answer, where there was no command.
    #[error("the client sends an answer, which only a server does")]
    Answer,
    /// A command behind `close`.
    #[error("the client sends a command behind close")]
    Closed,
}

impl ServerError {
    /// A word for it, as a label.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Frame(error) => error.reason(),
            Self::NotOpen => "not_open",
            Self::Txnr { .. } => "txnr_order",
            Self::OpenTwice => "open_twice",
            Self::Version => "version",
            Self::NoSyslog => "no_syslog",
            Self::Answer => "answer",
            Self::Closed => "closed",
        }
    }
}

impl Server {
    /// One of a connection that was just accepted. Messages over `message_len_max` octets (at least 1) are cut, and still
    /// to be acknowledged, or their sender will send them for ever.
    pub const fn new(message_len_max: usize) -> Self {
        Self { state: State::New, next: TXNR_FIRST, deframer: Deframer::new(message_len_max) }
    }

    /// The next event of what was received so far followed by `input`, which moves past what was consumed. `None`: `input`
    /// is empty now. Answers that are not the caller's to decide are appended to `out`, which grows by no more than a few times
    /// what was consumed.
    ///
    /// # Errors
    ///
    /// The connection cannot go on.
    pub fn next_event<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, ServerError> {
        let Some(frame) = self.deframer.next_frame(input)? else { return Ok(None) };
        if frame.txnr != TXNR_HINT {
            if frame.txnr != self.next {
                return Err(ServerError::Txnr { expected: self.next, found: frame.txnr });
            }
            self.next = next_txnr(self.next);
        }
        event(&mut self.state, frame, out).map(Some)
    }

    /// Takes ownership of octets that were received but not asked for yet (the reader has to pause).
    pub fn keep(&mut self, input: &[u8]) {
        self.deframer.keep(input);
    }

    /// Whether the stream, were it to end now, ended inside a command: nothing is lost by that, as it was not answered.
    pub fn is_partial(&self) -> bool {
        self.deframer.is_partial()
    }

    /// Bytes of memory owned.
    pub fn owned(&self) -> usize {
        self.deframer.owned()
    }
}

fn event<'a>(state: &mut State, frame: Frame<'a>, out: &mut Vec<u8>) -> Result<Event<'a>, ServerError> {
    let Frame { txnr, command, data, is_cut } = frame;
    match (command, *state) {
        (Some(Command::Rsp), _) => Err(ServerError::Answer),
        // What wants an answer is no hint, and a hint means nothing to a server.
        (Some(Command::Open | Command::Syslog | Command::Close), _) if txnr == TXNR_HINT => {
            Err(ServerError::Txnr { expected: TXNR_FIRST, found: TXNR_HINT })
        }
        _ if txnr == TXNR_HINT => Ok(Event::Ignored { txnr }),
        (_, State::Closed) => Err(ServerError::Closed),
        (Some(Command::Open), State::New) => open(state, txnr, Offers(data), out),
        (_, State::New) => Err(ServerError::NotOpen),
        (Some(Command::Syslog), State::Open) => {
            let flaw = is_cut.then_some(Flaw::Oversize);
            Ok(Event::Message { txnr, frame: frame::Frame { bytes: data, flaw } })
        }
        (Some(Command::Close), State::Open) => {
            *state = State::Closed;
            Ok(Event::Close { txnr })
        }
        (Some(Command::Open), State::Open) => {
            encode(txnr, Command::Rsp, b"500 protocol error: connection already open", out);
            Err(ServerError::OpenTwice)
        }
        (Some(Command::Serverclose) | None, State::Open) => {
            encode(txnr, Command::Rsp, b"500 unknown command", out);
            Ok(Event::Ignored { txnr })
        }
    }
}

/// Answers the client's offers. A version above ours is answered with ours, as librelp does: the client then decides.
fn open<'a>(state: &mut State, txnr: u32, offers: Offers<'_>, out: &mut Vec<u8>) -> Result<Event<'a>, ServerError> {
    if offers.version().is_err() {
        encode(txnr, Command::Rsp, b"500 relp_version is not a number", out);
        return Err(ServerError::Version);
    }
    if !offers.has(offers::COMMANDS, Command::Syslog.name()) {
        encode(txnr, Command::Rsp, b"500 required command not supported by client", out);
        return Err(ServerError::NoSyslog);
    }
    let mut encoder = Encoder::new();
    let mark = encoder.begin(txnr, Command::Rsp, out);
    out.extend_from_slice(b"200 OK\n");
    out.extend_from_slice(offers::OURS.as_bytes());
    encoder.end(mark, out);
    *state = State::Open;
    Ok(Event::Opened { software: shown(offers.values(offers::SOFTWARE).unwrap_or_default()) })
}

/// Appends the answer that a message was taken for good: its sender forgets it.
pub fn acknowledge(txnr: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(txnr.min(TXNR_MAX)).as_bytes());
    out.extend_from_slice(b" rsp 6 200 OK\n");
}

/// Appends the answer to `close`, and the hint that librelp's server sends behind it. The connection is to be closed then.
pub fn closed(txnr: u32, out: &mut Vec<u8>) {
    encode(txnr, Command::Rsp, b"", out);
    serverclose(out);
}

/// Appends the hint that we are about to close the connection. What was not acknowledged will be sent again.
pub fn serverclose(out: &mut Vec<u8>) {
    encode(TXNR_HINT, Command::Serverclose, b"", out);
}
