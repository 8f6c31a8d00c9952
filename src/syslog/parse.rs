//! A frame's octets to its [`Fields`]: PRI, then whichever header follows, as rsyslog 8.2302 with its default parsers
//! takes it. `docs/COMPATIBILITY.md` lists where the result differs on purpose.

mod fuzz;
mod rfc3164;
mod rfc5424;
mod sanitize;

#[doc(hidden)]
pub use fuzz::fuzz;
pub use rfc3164::program_name_of;
pub(super) use rfc3164::{TAG_MAX, is_headerless, stamp};
pub use sanitize::{escapes, sanitize};

use super::message::{Fields, Protocol, Span};
use super::pri::PriPart;
use super::timestamp::Clock;

/// Finds the fields of a sanitized frame. Never refuses, never allocates, takes time linear in the frame's length.
#[inline]
pub fn parse(frame: &[u8], clock: &Clock) -> Fields {
    let mut fields = Fields { msg: Span::between(0, frame.len()), ..Fields::default() };
    let text_at = match PriPart::of(frame) {
        PriPart::Valid { pri, len } => {
            fields.pri = pri;
            fields.after_pri = len;
            len as usize
        }
        PriPart::Absent => 0,
        // RFC 3164 section 4.3.3: the PRI cannot be identified, so that all of the frame is the text.
        PriPart::Invalid { after } => {
            fields.after_pri = after;
            return fields;
        }
    };
    let text = frame.get(text_at..).unwrap_or_default();
    if text.starts_with(b"1 ") {
        fields.protocol = Protocol::Rfc5424;
        rfc5424::parse(frame, text_at + 2, &mut fields);
    } else {
        rfc3164::parse(frame, text_at, clock, &mut fields);
    }
    fields
}

#[cfg(test)]
mod tests;
