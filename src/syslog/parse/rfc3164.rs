//! Everything that is not RFC 5424 (rsyslog's `pmrfc3164`): TIMESTAMP, HOSTNAME, TAG, each of them optional, then MSG.

use memchr::memchr2;

use crate::syslog::message::{Fields, Span};
use crate::syslog::timestamp::{self, Clock};

/// Longest HOSTNAME: a longer word is no HOSTNAME (rsyslog's `CONF_HOSTNAME_MAXSIZE`, less its NUL).
const HOSTNAME_MAX: usize = 511;

/// Longest TAG, its colon not counted: what is beyond goes on as MSG, so nothing is lost (rsyslog's buffer of 512, less
/// the colon and a NUL).
const TAG_MAX: usize = 510;

/// Classes of octets, as bits of [`CLASS`].
const HOSTNAME: u8 = 1;
const ALPHANUMERIC: u8 = 2;
const PROGRAM: u8 = 4;

/// Which octets may stand where; C's `isalnum` and `isprint` in the C locale.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut octet = 0_u8;
    loop {
        let mut class = 0;
        if octet.is_ascii_alphanumeric() {
            class |= ALPHANUMERIC | HOSTNAME;
        }
        if matches!(octet, b'.' | b'_' | b'-') {
            class |= HOSTNAME;
        }
        if matches!(octet, b' '..=b'~') && !matches!(octet, b'/' | b'[' | b':') {
            class |= PROGRAM;
        }
        table[octet as usize] = class;
        if octet == u8::MAX {
            return table;
        }
        octet += 1;
    }
}

#[inline]
fn is(octet: u8, class: u8) -> bool {
    #[expect(clippy::indexing_slicing, reason = "a table of 256 has an entry for every octet")]
    let classes = CLASS[usize::from(octet)];
    classes & class != 0
}

/// Fills `fields` from the text that begins at `at`, behind PRI.
#[inline]
pub(super) fn parse(frame: &[u8], at: usize, clock: &Clock, fields: &mut Fields) {
    let text = frame.get(at..).unwrap_or_default();
    fields.msg = Span::between(at, frame.len());
    if is_headerless(text) {
        return;
    }
    let (mut at, mut year_first) = (at, false);
    if let Some(found) = stamp(text, clock) {
        fields.timestamp = found.timestamp;
        at += found.len;
        year_first = found.year_first;
    }
    let text = frame.get(at..).unwrap_or_default();
    // Behind a year in front rsyslog does not see that the text ends with the word, and takes it for the TAG.
    if let Some(len) = hostname_len(text).filter(|len| !year_first || *len < text.len()) {
        fields.hostname = Some(Span::between(at, at + len));
        // The space behind it is eaten too, where there is one.
        at = (at + len + 1).min(frame.len());
    }
    let text = frame.get(at..).unwrap_or_default();
    let len = tag_len(text);
    fields.tag = Span::between(at, at + len);
    fields.msg = Span::between(at + len, frame.len());
    let (tag, _) = text.split_at_checked(len).unwrap_or_default();
    let program = program_name_of(tag).len();
    fields.app_name = (program > 0).then(|| Span::between(at, at + program));
    fields.procid = procid(tag, program, at);
}

/// A text that begins like JSON or with a bracket has no header at all: all of it is MSG.
#[inline]
fn is_headerless(text: &[u8]) -> bool {
    match text.first() {
        Some(b'{' | b'[') => true,
        Some(b' ' | b'\t') => {
            matches!(text.iter().find(|octet| !matches!(octet, b' ' | b'\t')), Some(b'{' | b'['))
        }
        _ => false,
    }
}

/// The stamp, if there is one; also behind one space, as HP ProCurve writes it.
#[inline]
fn stamp(text: &[u8], clock: &Clock) -> Option<timestamp::Found> {
    match text.split_first()? {
        (b'0'..=b'9' | b'-', _) => timestamp::rfc3339(text).or_else(|| timestamp::rfc3164(text, clock)),
        (b' ', behind) => {
            let found = timestamp::rfc3164(behind, clock)?;
            Some(timestamp::Found { len: found.len + 1, ..found })
        }
        _ => timestamp::rfc3164(text, clock),
    }
}

/// Length of the HOSTNAME at the start of `text`: a word of letters, digits, `.`, `_` and `-` that ends the text, or
/// that ends alphanumerically and is followed by a space. Any other word is taken for the TAG.
#[inline]
fn hostname_len(text: &[u8]) -> Option<usize> {
    let bounded = text.get(..HOSTNAME_MAX).unwrap_or(text);
    let len = bounded.iter().position(|octet| !is(*octet, HOSTNAME)).unwrap_or(bounded.len());
    match text.get(len) {
        None => (len > 0).then_some(len),
        Some(b' ') => {
            let last = text.get(len.checked_sub(1)?)?;
            is(*last, ALPHANUMERIC).then_some(len)
        }
        Some(_) => None,
    }
}

/// Length of the TAG at the start of `text`: up to a colon, which belongs to it, or a space, which does not.
#[inline]
fn tag_len(text: &[u8]) -> usize {
    let bounded = text.get(..=TAG_MAX).unwrap_or(text);
    let len = memchr2(b':', b' ', bounded).unwrap_or_else(|| text.len().min(TAG_MAX));
    len + usize::from(text.get(len) == Some(&b':'))
}

/// rsyslog's `$programname` of a TAG or APP-NAME: up to the first `/`, `[`, `:` or non-printable octet.
#[inline]
pub fn program_name_of(tag: &[u8]) -> &[u8] {
    let len = tag.iter().position(|octet| !is(*octet, PROGRAM)).unwrap_or(tag.len());
    tag.get(..len).unwrap_or_default()
}

/// The text between the TAG's first `[` and the `]` behind it; `program` octets of the TAG hold no `[`.
#[inline]
fn procid(tag: &[u8], program: usize, at: usize) -> Option<Span> {
    let open = program + memchr::memchr(b'[', tag.get(program..)?)?;
    let inside = tag.get(open + 1..)?;
    let len = memchr::memchr(b']', inside)?;
    // `app[-]` says that there is none.
    (inside.get(..len)? != b"-").then(|| Span::between(at + open + 1, at + open + 1 + len))
}
