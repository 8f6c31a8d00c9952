//! What a parsed message is: spans into the frame's octets, and the view that templates and routes read.

use std::net::IpAddr;

use super::pri::Pri;
use super::timestamp::Timestamp;

/// A run of octets inside one frame. Empty spans are allowed and mean an empty value, never an absent one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first octet.
    pub start: u32,
    /// Count of octets.
    pub len: u32,
}

impl Span {
    /// A span from `start` to `end` (exclusive).
    ///
    /// Frames are at most `u32::MAX` octets (the configuration bounds `max_message_size` far below that), so both fit.
    pub fn between(start: usize, end: usize) -> Self {
        Self { start: start as u32, len: end.saturating_sub(start) as u32 }
    }

    /// The octets in `frame`; empty where the span does not lie inside it (never panics).
    pub fn of(self, frame: &[u8]) -> &[u8] {
        let start = self.start as usize;
        frame.get(start..start.saturating_add(self.len as usize)).unwrap_or_default()
    }
}

/// Which RFC's header a frame had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 3164, and everything that is not RFC 5424 (rsyslog's `protocol-version` 0).
    #[default]
    Rfc3164,
    /// RFC 5424 (rsyslog's `protocol-version` 1).
    Rfc5424,
}

/// Where each field of a frame lies. All spans point into the *sanitized* frame (see [`super::sanitize`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Facility and severity; 13 (`user.notice`) where the frame had none or none that is valid.
    pub pri: Pri,
    /// Which header was found.
    pub protocol: Protocol,
    /// TIMESTAMP of the message; `None` where there is none that is valid: the time of reception stands in.
    pub timestamp: Option<Timestamp>,
    /// HOSTNAME; `None` where there is none: the peer's address stands in (rsyslog's `fromhost`).
    pub hostname: Option<Span>,
    /// rsyslog's `syslogtag` of an RFC 3164 frame (colon included). Empty for RFC 5424, where it is made of
    /// APP-NAME and PROCID on demand.
    pub tag: Span,
    /// APP-NAME; for RFC 3164 the program name. `None` is the nil value.
    pub app_name: Option<Span>,
    /// PROCID; `None` is the nil value.
    pub procid: Option<Span>,
    /// MSGID; `None` is the nil value.
    pub msgid: Option<Span>,
    /// STRUCTURED-DATA, brackets included; `None` is the nil value.
    pub structured_data: Option<Span>,
    /// Where the text after PRI begins (rsyslog's `rawmsg-after-pri`).
    pub after_pri: u32,
    /// MSG, with its leading space for RFC 3164, as rsyslog has it.
    pub msg: Span,
}

/// One message as templates and routes see it: the fields, the octets they point into, and how it came.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Where everything is.
    pub fields: &'a Fields,
    /// The sanitized frame.
    pub raw: &'a [u8],
    /// Arrival, microseconds since the Unix epoch.
    pub received_at_us: i64,
    /// The sender's address; `None` for unix sockets.
    pub peer: Option<IpAddr>,
    /// Name of the input it came through.
    pub input: &'a str,
}

impl<'a> Message<'a> {
    /// rsyslog's `$programname`: the TAG up to the first `/`, `[`, `:` or non-printable octet. For RFC 5424 the same of
    /// APP-NAME, and `-` where that is nil; for RFC 3164 it is empty where there is none.
    pub fn program_name(&self) -> &'a [u8] {
        match (self.fields.protocol, self.fields.app_name) {
            // The parser made the cut when it stored APP-NAME.
            (Protocol::Rfc3164, app_name) => app_name.map(|span| span.of(self.raw)).unwrap_or_default(),
            (Protocol::Rfc5424, Some(app_name)) => super::parse::program_name_of(app_name.of(self.raw)),
            (Protocol::Rfc5424, None) => b"-",
        }
    }

    /// HOSTNAME as it was sent; `None` where the peer's address stands in.
    pub fn hostname(&self) -> Option<&'a [u8]> {
        self.fields.hostname.map(|span| span.of(self.raw))
    }

    /// MSG.
    pub fn msg(&self) -> &'a [u8] {
        self.fields.msg.of(self.raw)
    }
}
