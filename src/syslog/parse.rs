//! A frame's octets to its [`super::Fields`].

use super::message::Fields;
use super::timestamp::Clock;

/// The frame as rsyslog stores it on reception: one trailing LF and trailing NULs dropped, control characters escaped as
/// `#ooo`. Borrows `frame` where nothing had to be changed, else writes to `scratch`.
pub fn sanitize<'a>(frame: &'a [u8], _scratch: &'a mut Vec<u8>) -> &'a [u8] {
    frame
}

/// Finds the fields of a sanitized frame. Never refuses, never allocates.
pub fn parse(_frame: &[u8], _clock: &Clock) -> Fields {
    Fields::default()
}

/// rsyslog's `$programname` of a TAG or APP-NAME: up to the first `/`, `[`, `:` or non-printable octet.
pub fn program_name_of(tag: &[u8]) -> &[u8] {
    tag
}
