//! What is unusual about a frame, beside what the parser made of it: for people who ask why a message came out as it did.
//!
//! Never on a message's way: the frame is looked at a second time, with the parser's own functions.

use super::message::{Fields, Protocol, Span};
use super::parse::{TAG_MAX, is_headerless, stamp};
use super::pri::PriPart;
use super::timestamp::{self, Clock};

/// RFC 3629 section 6.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Digits of a fraction that are kept.
const FRACTION_KEPT: usize = 6;

/// Something that is unusual, or that was not in the frame and had to come from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// No PRI: 13 stands in.
    NoPri,
    /// What stands where PRI should is none: 13 stands in, and all of the frame is MSG.
    InvalidPri,
    /// A byte order mark in front of PRI makes it a part of the text.
    BomBeforePri,
    /// The text begins like JSON or with a bracket: all of it is MSG.
    Headerless,
    /// RFC 5424 whose TIMESTAMP cannot be read: all behind VERSION is MSG.
    UnreadableHeader,
    /// RFC 5424 that ends before MSGID: what is missing is nil.
    ShortHeader,
    /// No TIMESTAMP, or a nil one: the time of reception stands in.
    NoTimestamp,
    /// A TIMESTAMP of a day that does not exist: the time of reception stands in.
    ImpossibleDate,
    /// An RFC 3164 TIMESTAMP without a year.
    YearGuessed {
        /// The one that was taken.
        year: u16,
        /// It is that of the present.
        is_present: bool,
    },
    /// A fraction of a second of more than six digits.
    FractionCut {
        /// How many were written.
        digits: usize,
    },
    /// No HOSTNAME: the peer's address stands in.
    NoHostname,
    /// A nil HOSTNAME of RFC 5424, which is forwarded as it is.
    NilHostname,
    /// The program name is empty: no TAG, or one that begins with what no name may hold.
    NoProgram,
    /// What was taken for the TAG, or for APP-NAME, looks like text (`CEF:`, `date=…`): it is not a part of MSG.
    TextAsTag,
    /// The TAG is longer than is taken; what is beyond is MSG.
    TagCut,
    /// STRUCTURED-DATA that is never closed: it is a part of MSG.
    UnclosedStructuredData,
    /// A byte order mark in front of MSG, which is a part of it.
    BomInMsg,
    /// MSG begins with a PRI of its own: a relay has put a header in front of another.
    SecondPri,
    /// Octets that are no UTF-8, forwarded as they are.
    NotUtf8 {
        /// The first of them.
        at: usize,
    },
}

impl Oddity {
    /// A word for it, which stays.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoPri => "no_pri",
            Self::InvalidPri => "invalid_pri",
            Self::BomBeforePri => "bom_before_pri",
            Self::Headerless => "headerless",
            Self::UnreadableHeader => "unreadable_header",
            Self::ShortHeader => "short_header",
            Self::NoTimestamp => "no_timestamp",
            Self::ImpossibleDate => "impossible_date",
            Self::YearGuessed { .. } => "year_guessed",
            Self::FractionCut { .. } => "fraction_cut",
            Self::NoHostname => "no_hostname",
            Self::NilHostname => "nil_hostname",
            Self::NoProgram => "no_program",
            Self::TextAsTag => "text_as_tag",
            Self::TagCut => "tag_cut",
            Self::UnclosedStructuredData => "unclosed_structured_data",
            Self::BomInMsg => "bom_in_msg",
            Self::SecondPri => "second_pri",
            Self::NotUtf8 { .. } => "not_utf8",
        }
    }

    /// Whether most senders do it.
    pub const fn is_usual(self) -> bool {
        matches!(self, Self::YearGuessed { is_present: true, .. })
    }
}

/// Where the TIMESTAMP stands that [`super::parse()`] read (a nil one too); `None` where it found none.
pub fn timestamp_at(frame: &[u8], fields: &Fields, clock: &Clock) -> Option<Span> {
    let after_pri = after_valid_pri(frame)?;
    let (at, found) = match fields.protocol {
        Protocol::Rfc5424 => {
            let at = after_pri + 2;
            let text = frame.get(at..).unwrap_or_default();
            if text.starts_with(b"- ") {
                return Some(Span::between(at, at + 1));
            }
            (at, timestamp::rfc3339(text)?)
        }
        Protocol::Rfc3164 => {
            let text = frame.get(after_pri..).unwrap_or_default();
            if is_headerless(text) {
                return None;
            }
            (after_pri, stamp(text, clock)?)
        }
    };
    let taken = frame.get(at..at + found.len).unwrap_or_default();
    let blanks = taken.iter().take_while(|octet| **octet == b' ').count();
    let len = taken.trim_ascii().len();
    Some(Span::between(at + blanks, at + blanks + len))
}

/// What is unusual about `frame`, which is sanitized, and of which [`super::parse()`] made `fields` at `clock`. In the order of
/// the frame.
pub fn oddities(frame: &[u8], fields: &Fields, clock: &Clock) -> Vec<Oddity> {
    let mut found = Vec::new();
    match PriPart::of(frame) {
        PriPart::Valid { .. } => {}
        PriPart::Absent if frame.starts_with(BOM) => found.push(Oddity::BomBeforePri),
        PriPart::Absent => found.push(Oddity::NoPri),
        PriPart::Invalid { .. } => found.push(Oddity::InvalidPri),
    }
    if let Some(after_pri) = after_valid_pri(frame) {
        match fields.protocol {
            Protocol::Rfc5424 => of_rfc5424(frame, after_pri + 2, fields, &mut found),
            Protocol::Rfc3164 => of_rfc3164(frame, after_pri, fields, clock, &mut found),
        }
    }
    of_text(frame, fields, &mut found);
    found
}

/// Where the text begins; `None` where nothing of it is looked at.
fn after_valid_pri(frame: &[u8]) -> Option<usize> {
    match PriPart::of(frame) {
        PriPart::Valid { len, .. } => Some(len as usize),
        PriPart::Absent => Some(0),
        PriPart::Invalid { .. } => None,
    }
}

fn of_rfc5424(frame: &[u8], at: usize, fields: &Fields, found: &mut Vec<Oddity>) {
    let text = frame.get(at..).unwrap_or_default();
    let is_nil = text.starts_with(b"- ");
    let read = timestamp::rfc3339(text);
    if !is_nil && read.is_none() {
        found.push(Oddity::UnreadableHeader);
        return;
    }
    match read {
        None => found.push(Oddity::NoTimestamp),
        Some(read) if read.timestamp.is_none() => found.push(Oddity::ImpossibleDate),
        Some(read) => of_fraction(text.get(..read.len).unwrap_or_default(), found),
    }
    match fields.hostname {
        None => found.push(Oddity::NoHostname),
        Some(hostname) if hostname.of(frame) == b"-" => found.push(Oddity::NilHostname),
        Some(_) => {}
    }
    if fields.app_name.is_some_and(|name| is_text(name.of(frame))) {
        found.push(Oddity::TextAsTag);
    }
    // A space behind each of TIMESTAMP, HOSTNAME, APP-NAME and PROCID.
    if text.iter().filter(|octet| **octet == b' ').take(4).count() < 4 {
        found.push(Oddity::ShortHeader);
    }
    // A nil STRUCTURED-DATA is a sixth word in front of MSG.
    let before = frame.get(at..fields.msg.start as usize).unwrap_or_default();
    let words = before.iter().filter(|octet| **octet == b' ').count();
    if words == 5 && before.ends_with(b" ") && fields.msg.of(frame).starts_with(b"[") {
        found.push(Oddity::UnclosedStructuredData);
    }
}

fn of_rfc3164(frame: &[u8], at: usize, fields: &Fields, clock: &Clock, found: &mut Vec<Oddity>) {
    let text = frame.get(at..).unwrap_or_default();
    if is_headerless(text) {
        found.push(Oddity::Headerless);
        return;
    }
    match stamp(text, clock) {
        None => found.push(Oddity::NoTimestamp),
        Some(read) if read.timestamp.is_none() => found.push(Oddity::ImpossibleDate),
        Some(read) => {
            let written = text.get(..read.len).unwrap_or_default();
            let is_year = |word: &[u8]| word.len() >= 4 && word.iter().all(u8::is_ascii_digit);
            // An RFC 3339 stamp is one word.
            let is_rfc3164 = written.trim_ascii().contains(&b' ');
            if let (true, Some(stamp)) = (is_rfc3164, read.timestamp)
                && !written.split(|octet| *octet == b' ').any(is_year)
            {
                found.push(Oddity::YearGuessed { year: stamp.year, is_present: stamp.year == clock.year });
            }
            of_fraction(written, found);
        }
    }
    if fields.hostname.is_none() {
        found.push(Oddity::NoHostname);
    }
    let tag = fields.tag.of(frame);
    let name = tag.strip_suffix(b":").unwrap_or(tag);
    if fields.app_name.is_none() {
        found.push(Oddity::NoProgram);
    }
    if is_text(name) {
        found.push(Oddity::TextAsTag);
    }
    let behind = frame.get(fields.msg.start as usize);
    if tag.len() >= TAG_MAX && !tag.ends_with(b":") && behind.is_some_and(|octet| *octet != b' ') {
        found.push(Oddity::TagCut);
    }
}

/// Whether what stands in a name's place looks like the beginning of a text.
fn is_text(name: &[u8]) -> bool {
    let is_format = [b"CEF".as_slice(), b"LEEF"].iter().any(|format| name.eq_ignore_ascii_case(format));
    is_format || name.iter().any(|octet| matches!(octet, b'=' | b'"' | b'|' | b','))
}

fn of_fraction(stamp: &[u8], found: &mut Vec<Oddity>) {
    let behind = stamp.iter().skip_while(|octet| **octet != b'.').skip(1);
    let digits = behind.take_while(|octet| octet.is_ascii_digit()).count();
    if digits > FRACTION_KEPT {
        found.push(Oddity::FractionCut { digits });
    }
}

fn of_text(frame: &[u8], fields: &Fields, found: &mut Vec<Oddity>) {
    let msg = fields.msg.of(frame);
    let text = msg.strip_prefix(b" ").unwrap_or(msg);
    if text.starts_with(BOM) && fields.msg.start > 0 {
        found.push(Oddity::BomInMsg);
    }
    if fields.msg.start > 0 && matches!(PriPart::of(text), PriPart::Valid { .. }) {
        found.push(Oddity::SecondPri);
    }
    if let Err(error) = std::str::from_utf8(frame) {
        found.push(Oddity::NotUtf8 { at: error.valid_up_to() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syslog::parse;

    const CLOCK: Clock = Clock { now_us: 1_795_392_000_000_000, year: 2026, month: 11, day: 23, offset_minutes: 60 };

    fn names(frame: &[u8]) -> Vec<&'static str> {
        oddities(frame, &parse(frame, &CLOCK), &CLOCK).into_iter().map(Oddity::name).collect()
    }

    #[test]
    fn what_is_unusual_is_told_and_nothing_else() {
        let rows: &[(&[u8], &[&str])] = &[
            (b"<13>Nov 22 10:11:12 gate app[1]: text", &["year_guessed"]),
            (b"<13>Nov 22 2026 10:11:12 gate app: text", &[]),
            (b"<13>2026 Nov 22 10:11:12 gate app: text", &[]),
            (b"<13>2026-11-22T10:11:12.1Z gate app: text", &[]),
            (b"<13>2026-11-22T10:11:12.1234567Z gate app: text", &["fraction_cut"]),
            (b"<13>Feb 30 10:11:12 gate app: text", &["impossible_date"]),
            (b"Nov 22 10:11:12 gate app: text", &["no_pri", "year_guessed"]),
            (b"<999>Nov 22 10:11:12 gate app: text", &["invalid_pri"]),
            (b"\xEF\xBB\xBF<13>x", &["bom_before_pri", "no_timestamp", "no_hostname", "no_program"]),
            (b"<13>app: text", &["no_timestamp", "no_hostname"]),
            (b"<13>CEF:0|a|b", &["no_timestamp", "no_hostname", "text_as_tag"]),
            (b"<13>date=2026-11-22 time=10:11:12", &["no_timestamp", "no_hostname", "text_as_tag"]),
            (b"<13> text", &["no_timestamp", "no_hostname", "no_program"]),
            (b"<13>{\"a\": 1}", &["headerless"]),
            (b"<13>Nov 22 10:11:12 gate app: <13>Nov 22 x", &["year_guessed", "second_pri"]),
            (b"<13>1 2026-11-22T10:11:12Z gate app - - - text", &[]),
            (b"<13>1 - - app - - - text", &["no_timestamp", "nil_hostname"]),
            (b"<13>1 yesterday gate app - - - text", &["unreadable_header"]),
            (b"<13>1 2026-11-22T10:11:12Z gate app", &["short_header"]),
            (b"<13>1 2026-11-22T10:11:12Z gate LEEF:1.0|a|b", &["text_as_tag", "short_header"]),
            (b"<13>1 2026-02-30T10:11:12Z gate app - - - x", &["impossible_date"]),
            (b"<13>1 2026-11-22T10:11:12Z gate app - - [a b=\"c\"] \xEF\xBB\xBFx", &["bom_in_msg"]),
            (b"<13>1 2026-11-22T10:11:12Z gate app - - [a b=\"c\" x", &["unclosed_structured_data"]),
            (b"<13>1 2026-11-22T10:11:12Z gate app - - - [a b=\"c\" x", &[]),
            (b"<13>1 2026-11-22T10:11:12Z gate app - - - gr\xfcn", &["not_utf8"]),
        ];
        for (frame, expected) in rows {
            assert_eq!(names(frame), *expected, "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn a_tag_that_is_too_long_and_another_years_stamp_are_told() {
        let long = format!("<13>Nov 22 10:11:12 gate {}", "a".repeat(600));
        // A word without a colon that ends the text is a HOSTNAME up to 511 octets only.
        assert_eq!(names(long.as_bytes()), ["year_guessed", "tag_cut"]);
        let frame = b"<13>Jan  1 00:00:00 gate app: x";
        let clock = Clock { year: 2026, month: 12, day: 31, ..CLOCK };
        let found = oddities(frame, &parse(frame, &clock), &clock);
        assert_eq!(found, [Oddity::YearGuessed { year: 2027, is_present: false }]);
        assert!(!found[0].is_usual());
    }

    #[test]
    fn the_place_of_the_stamp_is_told() {
        let rows: &[(&[u8], Option<&[u8]>)] = &[
            (b"<13>Nov 22 10:11:12 gate app: text", Some(b"Nov 22 10:11:12")),
            (b"<13> Nov 22 10:11:12 gate app: text", Some(b"Nov 22 10:11:12")),
            (b"<13>1 2026-11-22T10:11:12Z gate app - - -", Some(b"2026-11-22T10:11:12Z")),
            (b"<13>1 - gate app - - -", Some(b"-")),
            (b"<13>app: text", None),
            (b"<999>Nov 22 10:11:12 gate app: text", None),
            (b"<13>{Nov 22", None),
        ];
        for (frame, expected) in rows {
            let fields = parse(frame, &CLOCK);
            let found = timestamp_at(frame, &fields, &CLOCK).map(|span| span.of(frame));
            assert_eq!(found, *expected, "{}", frame.escape_ascii());
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_frame_nothing_panics(frame in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let fields = parse(&frame, &CLOCK);
            let _oddities = oddities(&frame, &fields, &CLOCK);
            let _stamp = timestamp_at(&frame, &fields, &CLOCK);
        }
    }
}
