//! An output's end: offers, numbered messages, and which of them the server has answered for.
//!
//! For librelp's server a number that is not the next one ends the connection (`relpframe.c`, `RELP_RET_INVALID_TXNR`), so
//! every number that [`Client::next_txnr`] gives has to be sent, in order. It answers in order; answers out of order are
//! taken as well, as librelp's client does (`relpSessGetUnacked`).

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::frame::{Command, Deframer, Frame, FrameError, encode};
use super::offers::{self, Offers};
use super::response::{self, Response, shown};
use super::{TXNR_FIRST, TXNR_MAX};

/// The largest window: so many octets are owned at most where answers come out of order.
pub const WINDOW_MAX: u32 = 1 << 20;

/// One connection's state. It begins with [`Client::open`]; a new connection needs a new one.
#[derive(Debug)]
pub struct Client {
    state: State,
    window: u64,
    /// Messages that got a number.
    sent: u64,
    /// Messages, from the first on, that the server has answered for.
    acknowledged: u64,
    /// Messages that it took.
    taken: u64,
    /// What is known of the messages from `acknowledged` on; empty while answers come in order.
    early: VecDeque<Answer>,
    deframer: Deframer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// `open` is sent.
    Opening,
    Open,
    /// `close` is sent.
    Closing,
    /// And answered.
    Closed,
}

/// What the server said of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Taken,
    Refused,
}

/// What the server did, besides acknowledging ([`Client::acknowledged`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It accepts our offers: messages may be sent.
    Opened {
        /// What it says it is, fit to be shown; empty where it does not say.
        software: String,
    },
    /// It refused a message. Nothing at or behind that position is acknowledged until [`Client::pass`]; or the connection
    /// is given up, and the message sent again on the next one.
    Refused {
        /// The message's position: how many were numbered before it.
        position: u64,
        /// Never 200; the specification knows 500.
        code: u16,
        /// Its reason, fit to be shown.
        text: String,
    },
    /// It is about to close the connection; what it does not answer has to be sent again.
    ServerClosing,
    /// It has answered our `close`: the connection is to be closed. What it has not answered for has to be sent again.
    Closed,
}

/// Why a connection cannot go on. What is not acknowledged has to be sent again on another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// What it sends is no RELP.
    #[error("the server does not speak RELP: {0}")]
    Frame(#[from] FrameError),
    /// It does not take our offers.
    #[error("the server refuses the connection: {code} {text}")]
    OpenRefused {
        /// Its code.
        code: u16,
        /// Its reason, fit to be shown.
        text: String,
    },
    /// It wants a version of RELP other than 0.
    #[error("the server speaks RELP of version {offered:?}, we speak 0")]
    Version {
        /// What it offers, fit to be shown.
        offered: String,
    },
    /// It takes no syslog messages.
    #[error("the server does not offer the syslog command but {commands:?}")]
    NoSyslog {
        /// What it offers, fit to be shown.
        commands: String,
    },
    /// An answer without a code.
    #[error("the server's answer to {txnr} has no code")]
    NoCode {
        /// The number.
        txnr: u32,
    },
    /// An answer to something we did not say, or a second one.
    #[error("the server answers {txnr}, which is not outstanding")]
    NotOutstanding {
        /// The number.
        txnr: u32,
    },
    /// A command that only a client sends.
    #[error("the server sends a command that is no answer, under {txnr}")]
    NoAnswer {
        /// The number.
        txnr: u32,
    },
}

impl ClientError {
    /// A word for it, as a label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.reason(),
            Self::OpenRefused { .. } => "open_refused",
            Self::Version { .. } => "version",
            Self::NoSyslog { .. } => "no_syslog",
            Self::NoCode { .. } => "no_code",
            Self::NotOutstanding { .. } => "not_outstanding",
            Self::NoAnswer { .. } => "no_answer",
        }
    }
}

impl Client {
    /// One of a connection that was just made. No more than `window` messages (1 to [`WINDOW_MAX`]; librelp's client keeps
    /// to 128) are outstanding at any time.
    pub fn new(window: u32) -> Self {
        Self {
            state: State::New,
            window: u64::from(window.clamp(1, WINDOW_MAX)),
            sent: 0,
            acknowledged: 0,
            taken: 0,
            early: VecDeque::new(),
            // A server that sends messages ends the connection.
            deframer: Deframer::new(1),
        }
    }

    /// Appends `open` with our offers; nothing where that was done. Nothing else may be sent until [`Event::Opened`].
    pub fn open(&mut self, out: &mut Vec<u8>) {
        if self.state == State::New {
            self.state = State::Opening;
            encode(TXNR_FIRST, Command::Open, offers::OURS.as_bytes(), out);
        }
    }

    /// The number of the next message, which has to be sent under it (see [`Encoder`](super::frame::Encoder)); `None` where
    /// the window is full, or the connection not open.
    pub fn next_txnr(&mut self) -> Option<u32> {
        if self.room() == 0 {
            return None;
        }
        let txnr = txnr_of(self.sent);
        self.sent += 1;
        Some(txnr)
    }

    /// How many messages may be sent now.
    pub fn room(&self) -> u64 {
        if self.state == State::Open { self.window.saturating_sub(self.outstanding()) } else { 0 }
    }

    /// How many messages were numbered: the position of the next one.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// The server has answered for every message of a lower position. It never goes back.
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many messages the server has taken, those included that it took out of order.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// How many messages were numbered and are not acknowledged.
    pub const fn outstanding(&self) -> u64 {
        self.sent - self.acknowledged
    }

    /// Appends `close`, the last thing to be sent; nothing where that was done, or `open` was not. The server may still
    /// answer for messages.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if matches!(self.state, State::Opening | State::Open) {
            // `open` may be unanswered: a server reads its commands in order.
            self.state = if self.state == State::Open { State::Closing } else { State::Closed };
            encode(txnr_of(self.sent), Command::Close, b"", out);
        }
    }

    /// The next event of what was received so far followed by `input`, which moves past what was consumed. To be called
    /// until it gives `None`; then `input` is empty, and [`Client::acknowledged`] is what it is.
    ///
    /// # Errors
    ///
    /// The connection cannot go on. What was acknowledged before the error still is.
    pub fn next_event(&mut self, input: &mut &[u8]) -> Result<Option<Event>, ClientError> {
        while let Some(frame) = self.deframer.next_frame(input)? {
            let Frame { txnr, command, data, .. } = frame;
            let event = match command {
                Some(Command::Rsp) => {
                    let closing = self.state == State::Closing && txnr == txnr_of(self.sent);
                    if closing || self.state == State::Closed {
                        // With code or without: librelp sends an empty answer (`cclose.c`).
                        self.state = State::Closed;
                        Some(Event::Closed)
                    } else {
                        let response = response::parse(data).ok_or(ClientError::NoCode { txnr })?;
                        match self.state {
                            State::Opening => Some(opened(txnr, response).inspect(|_| self.state = State::Open)?),
                            _ => {
                                let event =
                                    answered(&mut self.early, &mut self.acknowledged, self.sent, txnr, response)?;
                                self.taken += u64::from(event.is_none());
                                event
                            }
                        }
                    }
                }
                Some(Command::Serverclose) => Some(Event::ServerClosing),
                // Other hints mean nothing to us and are not answered (specification, "Command semantics").
                _ if txnr == super::TXNR_HINT => None,
                _ => return Err(ClientError::NoAnswer { txnr }),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Lets a message that was refused count as acknowledged: it is given up. Nothing where it was not refused.
    pub fn pass(&mut self, position: u64) {
        let offset = position.checked_sub(self.acknowledged).and_then(|offset| usize::try_from(offset).ok());
        if let Some(answer) = offset.and_then(|offset| self.early.get_mut(offset))
            && *answer == Answer::Refused
        {
            *answer = Answer::Taken;
            advance(&mut self.early, &mut self.acknowledged);
        }
    }

    /// Bytes of memory owned.
    pub fn owned(&self) -> usize {
        self.deframer.owned() + self.early.capacity()
    }
}

/// The number of the message at `position`: `open` has the first one.
const fn txnr_of(position: u64) -> u32 {
    // Below 2^32 by the modulus.
    ((position + 1) % TXNR_MAX as u64) as u32 + 1
}

/// The answer to our `open`.
fn opened(txnr: u32, response: Response<'_>) -> Result<Event, ClientError> {
    if txnr != TXNR_FIRST {
        return Err(ClientError::NotOutstanding { txnr });
    }
    if response.code != response::OK {
        return Err(ClientError::OpenRefused { code: response.code, text: shown(response.text) });
    }
    let offers = Offers(response.data);
    // A server may offer no more than was offered to it (librelp's `relpSessCBrspOpen`).
    match offers.version() {
        Ok(0) => {}
        Ok(_) => {
            return Err(ClientError::Version { offered: shown(offers.values(offers::VERSION).unwrap_or_default()) });
        }
        Err(version) => return Err(ClientError::Version { offered: shown(version) }),
    }
    if !offers.has(offers::COMMANDS, Command::Syslog.name()) {
        return Err(ClientError::NoSyslog { commands: shown(offers.values(offers::COMMANDS).unwrap_or_default()) });
    }
    Ok(Event::Opened { software: shown(offers.values(offers::SOFTWARE).unwrap_or_default()) })
}

/// The answer to a message.
fn answered(
    early: &mut VecDeque<Answer>,
    acknowledged: &mut u64,
    sent: u64,
    txnr: u32,
    response: Response<'_>,
) -> Result<Option<Event>, ClientError> {
    let first = txnr_of(*acknowledged);
    // Numbers go round, the window is far smaller than the circle.
    let offset = if txnr >= first { txnr - first } else { txnr + TXNR_MAX - first };
    if txnr == super::TXNR_HINT || u64::from(offset) >= sent - *acknowledged {
        return Err(ClientError::NotOutstanding { txnr });
    }
    if response.code == response::OK && offset == 0 && early.is_empty() {
        *acknowledged += 1;
        return Ok(None);
    }
    let place = offset as usize;
    if early.len() <= place {
        early.resize(place + 1, Answer::None);
    }
    let Some(answer) = early.get_mut(place).filter(|answer| **answer == Answer::None) else {
        return Err(ClientError::NotOutstanding { txnr });
    };
    if response.code == response::OK {
        *answer = Answer::Taken;
        advance(early, acknowledged);
        return Ok(None);
    }
    *answer = Answer::Refused;
    let position = *acknowledged + u64::from(offset);
    Ok(Some(Event::Refused { position, code: response.code, text: shown(response.text) }))
}

fn advance(early: &mut VecDeque<Answer>, acknowledged: &mut u64) {
    while early.front() == Some(&Answer::Taken) {
        early.pop_front();
        *acknowledged += 1;
    }
}
