//! Meaning of a message: frames, PRI, RFC 3164, RFC 5424 and their timestamps, as rsyslog 8.2302 takes them.
//!
//! Pure: bytes and a [`Clock`] in, [`Fields`] out. Nothing here does I/O, waits, logs, counts or allocates per message.

pub mod frame;
pub mod message;
pub mod oddity;
pub mod parse;
pub mod pri;
pub mod property;
pub mod timestamp;

pub use frame::{Decoder, Frame, Framing};
pub use message::{Fields, Message, Protocol, Span};
pub use oddity::{Oddity, oddities};
pub use parse::{escapes, parse, sanitize};
pub use pri::{Facility, Pri, Severity};
pub use property::Property;
pub use timestamp::{Clock, Timestamp};
