//! Frames: `TXNR SP COMMAND SP DATALEN [SP DATA] LF` (specification, "RELP frame"), taken where librelp takes them
//! (`relpFrameProcessOctetRcvd` in `relpframe.c`).
//!
//! Taken although the grammar has no such thing: leading zeros, an empty COMMAND, an empty DATALEN (no data). Not taken:
//! anything else between or around the fields; `0 SP LF` as DATALEN is among that.

mod deframer;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use deframer::Deframer;

/// Digits of TXNR and of DATALEN.
const DIGITS_MAX: usize = 9;

/// Letters of COMMAND.
const COMMAND_LEN_MAX: usize = 32;

/// The largest DATALEN that can be written.
pub const DATA_LEN_MAX: usize = 999_999_999;

/// The commands that are known here. librelp knows no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A client's offers, the first command of a connection.
    Open,
    /// One message.
    Syslog,
    /// The client's last command.
    Close,
    /// The answer to a command, under its number.
    Rsp,
    /// A hint: the server is about to close the connection.
    Serverclose,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// TXNR, 0 to [`super::TXNR_MAX`].
    pub txnr: u32,
    /// COMMAND; `None` where it is an unknown one.
    pub command: Option<Command>,
    /// DATA.
    pub data: &'a [u8],
    /// Whether DATA was longer than the maximum: what is here is its beginning, cut at a UTF-8 boundary. [`Deframer`] cuts
    /// messages only, [`decode`] nothing.
    pub is_cut: bool,
}

/// Why octets are no frame. There is no way to find the next one: the connection has to end (specification, "Error
/// handling").
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No number, too long a one, or no space behind it.
    #[error("a frame does not begin with a transaction number of up to 9 digits")]
    Txnr,
    /// Something else than up to 32 letters and a space.
    #[error("a frame's command is not a word of up to 32 letters")]
    Command,
    /// Something else than a number of up to 9 digits with a space, or for no data a line feed, behind it.
    #[error("a frame's data length is not a number of up to 9 digits")]
    DataLen,
    /// No LF behind the data.
    #[error("a frame's data does not end where its length says")]
    Trailer,
    /// DATALEN is above the maximum; told as soon as it is there, whatever came of the data.
    #[error("a frame's data of {data_len} octets is above the maximum")]
    TooLong {
        /// TXNR.
        txnr: u32,
        /// COMMAND, where it is a known one.
        command: Option<Command>,
        /// How many octets are in front of DATA: skip them, then `data_len`, then the LF.
        header_len: usize,
        /// DATALEN.
        data_len: usize,
    },
}

impl FrameError {
    /// A word for it, as a label.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Txnr => "txnr",
            Self::Command => "command",
            Self::DataLen => "data_len",
            Self::Trailer => "trailer",
            Self::TooLong { .. } => "too_long",
        }
    }
}

impl Command {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Syslog => "syslog",
            Self::Close => "close",
            Self::Rsp => "rsp",
            Self::Serverclose => "serverclose",
        }
    }

    /// The command of this name, in exactly this case.
    fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"syslog" => Some(Self::Syslog),
            b"rsp" => Some(Self::Rsp),
            b"open" => Some(Self::Open),
            b"close" => Some(Self::Close),
            b"serverclose" => Some(Self::Serverclose),
            _ => None,
        }
    }
}

/// The frame that `octets` begin with, and how many octets it takes; `None` where more are needed. Copies nothing, keeps
/// nothing, and looks again at no more than the header when it is asked again.
///
/// # Errors
///
/// Where `octets` begin with no frame, or with one of more data than `data_len_max`.
pub fn decode(octets: &[u8], data_len_max: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    Ok(match parse(octets, Limits { message: data_len_max, other: data_len_max })? {
        Parsed::Frame { txnr, command, data, taken } => {
            let data = octets.get(data).unwrap_or_default();
            Some((Frame { txnr, command, data, is_cut: false }, taken))
        }
        Parsed::Need { .. } => None,
    })
}

/// What octets begin with.
enum Parsed {
    /// A frame of `taken` octets, its data at `data`.
    Frame { txnr: u32, command: Option<Command>, data: Range<usize>, taken: usize },
    /// At least so many octets more are needed, all of which belong to the frame.
    Need { octets: usize },
}

/// The longest DATA: of messages, of everything else.
#[derive(Clone, Copy, Debug)]
struct Limits {
    message: usize,
    other: usize,
}

fn parse(octets: &[u8], limits: Limits) -> Result<Parsed, FrameError> {
    const MORE: Result<Parsed, FrameError> = Ok(Parsed::Need { octets: 1 });
    let Some((txnr, rest)) = number(octets) else { return Err(FrameError::Txnr) };
    let rest = match rest.split_first() {
        None => return MORE,
        Some((b' ', rest)) if rest.len() + 1 < octets.len() => rest,
        Some(_) => return Err(FrameError::Txnr),
    };
    let letters = rest.iter().take(COMMAND_LEN_MAX + 1).take_while(|octet| octet.is_ascii_alphabetic()).count();
    let (name, rest) =
        rest.split_at_checked(letters).filter(|_| letters <= COMMAND_LEN_MAX).ok_or(FrameError::Command)?;
    let rest = match rest.split_first() {
        None => return MORE,
        Some((b' ', rest)) => rest,
        Some(_) => return Err(FrameError::Command),
    };
    let command = Command::from_name(name);
    let Some((data_len, rest)) = number(rest) else { return Err(FrameError::DataLen) };
    let data_len = usize::try_from(data_len).map_err(|_| FrameError::DataLen)?;
    let Some((behind, rest)) = rest.split_first() else { return MORE };
    let header_len = octets.len() - rest.len();
    let data_len_max = if command == Some(Command::Syslog) { limits.message } else { limits.other };
    match (data_len, behind) {
        (0, b'\n') => Ok(Parsed::Frame { txnr, command, data: header_len..header_len, taken: header_len }),
        (0, _) => Err(FrameError::DataLen),
        (_, b' ') if data_len > data_len_max => Err(FrameError::TooLong { txnr, command, header_len, data_len }),
        (_, b' ') => {
            let end = header_len + data_len;
            match octets.get(end) {
                Some(b'\n') => Ok(Parsed::Frame { txnr, command, data: header_len..end, taken: end + 1 }),
                Some(_) => Err(FrameError::Trailer),
                None => Ok(Parsed::Need { octets: end + 1 - octets.len() }),
            }
        }
        _ => Err(FrameError::DataLen),
    }
}

/// The number that `octets` begin with, 0 where there is none, and what is behind it; `None` where it has too many digits.
fn number(octets: &[u8]) -> Option<(u32, &[u8])> {
    let (mut value, mut rest) = (0, octets);
    while let Some((digit @ b'0'..=b'9', behind)) = rest.split_first() {
        if octets.len() - rest.len() == DIGITS_MAX {
            return None;
        }
        // Nine digits are below 2^32.
        value = value * 10 + u32::from(digit - b'0');
        rest = behind;
    }
    Some((value, rest))
}

/// Appends a whole frame. Data beyond [`DATA_LEN_MAX`] is cut.
pub fn encode(txnr: u32, command: Command, data: &[u8], out: &mut Vec<u8>) {
    let mut encoder = Encoder { digits: digits(data.len()) };
    let mark = encoder.begin(txnr, command, out);
    out.extend_from_slice(data);
    encoder.end(mark, out);
}

fn digits(len: usize) -> usize {
    len.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Builds frames in a buffer whose data is rendered right there, its length known only afterwards:
///
/// ```
/// use forebay::relp::frame::{Command, Encoder};
///
/// let (mut out, mut encoder) = (Vec::new(), Encoder::new());
/// let mark = encoder.begin(2, Command::Syslog, &mut out);
/// out.extend_from_slice(b"<13>hello");
/// encoder.end(mark, &mut out);
/// assert_eq!(out, b"2 syslog 9 <13>hello\n");
/// ```
#[derive(Debug)]
pub struct Encoder {
    /// Digits of the last DATALEN: the next one's most probable count.
    digits: usize,
}

/// A frame that was begun.
#[derive(Debug)]
#[must_use = "a frame that was begun has to be ended"]
pub struct Mark {
    /// Where DATALEN begins.
    len_at: usize,
    /// Where DATA begins.
    data_at: usize,
}

impl Encoder {
    /// One that has seen nothing.
    pub const fn new() -> Self {
        Self { digits: 3 }
    }

    /// Appends a frame's header. What is appended from now on is its data, until [`Encoder::end`].
    pub fn begin(&mut self, txnr: u32, command: Command, out: &mut Vec<u8>) -> Mark {
        out.extend_from_slice(itoa::Buffer::new().format(txnr.min(super::TXNR_MAX)).as_bytes());
        out.push(b' ');
        out.extend_from_slice(command.name().as_bytes());
        out.push(b' ');
        let len_at = out.len();
        // Room for as many digits as last time; where that turns out wrong the data moves by a place or two, which is rare.
        let data_at = len_at + self.digits + 1;
        out.resize(data_at, b' ');
        Mark { len_at, data_at }
    }

    /// Ends the frame that `mark` was given for, with all that is behind it in `out` as data; beyond [`DATA_LEN_MAX`] that
    /// is cut. Returns the data's length.
    pub fn end(&mut self, mark: Mark, out: &mut Vec<u8>) -> usize {
        let Mark { len_at, data_at } = mark;
        out.truncate(data_at + DATA_LEN_MAX);
        let data_len = out.len().saturating_sub(data_at);
        if data_len == 0 {
            // No space either (specification, "RELP frame").
            out.truncate(len_at);
            out.extend_from_slice(b"0\n");
            return 0;
        }
        let mut formatted = itoa::Buffer::new();
        let formatted = formatted.format(data_len).as_bytes();
        let place = len_at..data_at - 1;
        if formatted.len() != place.len() {
            out.splice(place, formatted.iter().copied());
            self.digits = formatted.len();
        } else if let Some(place) = out.get_mut(place) {
            place.copy_from_slice(formatted);
        }
        out.push(b'\n');
        data_len
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}
