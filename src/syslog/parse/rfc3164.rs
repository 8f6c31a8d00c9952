//! Everything that is not RFC 5424 (rsyslog's `pmrfc3164`): TIMESTAMP, HOSTNAME, TAG, each of them optional, then MSG.

use crate::syslog::message::{Fields, Span};
use crate::syslog::timestamp::{self, Clock};

/// Longest HOSTNAME: a longer word is no HOSTNAME (rsyslog's `CONF_HOSTNAME_MAXSIZE`, less its NUL).
const HOSTNAME_MAX: usize = 511;

/// Longest TAG, its colon not counted: what is beyond goes on as MSG, so nothing is lost (rsyslog's buffer of 512, less
/// the colon and a NUL).
pub(in crate::syslog) const TAG_MAX: usize = 510;

/// Classes of octets, as bits of [`CLASS`].
const HOSTNAME: u8 = 1;
const ALPHANUMERIC: u8 = 2;
const PROGRAM: u8 = 4;
const TAG: u8 = 8;

/// Which octets may stand where; C's `isalnum` and `isprint` in the C locale.
static CLASS: [u8; 256] = classes();

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, for a table of 256 and an octet")]
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
        if !matches!(octet, b':' | b' ') {
            class |= TAG;
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
    classes & class == class
}

/// How many octets at the start of `text` are of `class`, up to `max`. Words are short: a table, four octets to a branch,
/// is faster here than the set-up of a vector search.
#[inline]
fn run(text: &[u8], class: u8, max: usize) -> usize {
    let bounded = text.get(..max).unwrap_or(text);
    let (quads, _) = bounded.as_chunks::<4>();
    let whole = |quad: &&[u8; 4]| is(quad[0], class) & is(quad[1], class) & is(quad[2], class) & is(quad[3], class);
    let sure = 4 * quads.iter().take_while(whole).count();
    let rest = bounded.get(sure..).unwrap_or_default();
    sure + rest.iter().position(|octet| !is(*octet, class)).unwrap_or(rest.len())
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
    let tag = tag_of(text);
    fields.tag = Span::between(at, at + tag.len);
    fields.msg = Span::between(at + tag.len, frame.len());
    fields.app_name = (tag.program > 0).then(|| Span::between(at, at + tag.program));
    fields.procid = tag.procid.map(|(from, to)| Span::between(at + from, at + to));
}

/// A text that begins like JSON or with a bracket has no header at all: all of it is MSG.
#[inline]
pub(in crate::syslog) fn is_headerless(text: &[u8]) -> bool {
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
pub(in crate::syslog) fn stamp(text: &[u8], clock: &Clock) -> Option<timestamp::Found> {
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
    let len = run(text, HOSTNAME, HOSTNAME_MAX);
    match text.get(len) {
        None => (len > 0).then_some(len),
        Some(b' ') => {
            let last = text.get(len.checked_sub(1)?)?;
            is(*last, ALPHANUMERIC).then_some(len)
        }
        Some(_) => None,
    }
}

/// A TAG at the start of a text, as offsets from there.
struct Tag {
    len: usize,
    /// Length of the program name.
    program: usize,
    /// Where the PROCID begins and ends.
    procid: Option<(usize, usize)>,
}

/// The TAG at the start of `text`: up to a colon, which belongs to it, or a space, which does not.
#[inline]
fn tag_of(text: &[u8]) -> Tag {
    let program = run(text, PROGRAM | TAG, TAG_MAX);
    let after = text.get(program..).unwrap_or_default();
    // Nearly always this octet is the colon or the `[` before the PROCID.
    if let Some(b':') = after.first() {
        return Tag { len: program + 1, program, procid: None };
    }
    let end = program + run(after, TAG, TAG_MAX - program);
    let tag = text.get(..end).unwrap_or_default();
    let len = end + usize::from(text.get(end) == Some(&b':'));
    Tag { len, program, procid: procid(tag, program) }
}

/// The text between the TAG's first `[` and the `]` behind it; `program` octets of the TAG hold no `[`.
#[inline]
fn procid(tag: &[u8], program: usize) -> Option<(usize, usize)> {
    let from = program + tag.get(program..)?.iter().position(|octet| *octet == b'[')? + 1;
    let inside = tag.get(from..)?;
    let len = inside.iter().position(|octet| *octet == b']')?;
    // `app[-]` says that there is none.
    (inside.get(..len)? != b"-").then_some((from, from + len))
}

/// rsyslog's `$programname` of a TAG or APP-NAME: up to the first `/`, `[`, `:` or non-printable octet.
#[inline]
pub fn program_name_of(tag: &[u8]) -> &[u8] {
    tag.get(..run(tag, PROGRAM, usize::MAX)).unwrap_or_default()
}
