//! The differences of `docs/COMPATIBILITY.md`, each as a narrow question about one frame. Nothing else may differ.

use forebay::syslog::{Fields, Protocol};

use crate::rsyslogd::Outcome;

/// One frame, what we found in it, and what rsyslogd made of it.
pub struct Compared<'a> {
    /// The sanitized frame.
    pub frame: &'a [u8],
    pub fields: &'a Fields,
    pub theirs: &'a Outcome,
}

/// A deliberate difference.
pub struct Difference {
    /// Its heading in `docs/COMPATIBILITY.md`.
    pub name: &'static str,
    /// Gives our outcome rsyslogd's value in exactly the fields that this difference is about, and says so; leaves it
    /// alone where the frame is none of its cases, or where ours is not what was promised.
    pub settle: fn(&Compared<'_>, &mut Outcome) -> bool,
}

/// All of them. A frame may need several: a year and a missing field.
pub const ALL: [Difference; 11] = [
    // First: the next ones ask for all other fields to be equal.
    Difference { name: "No octet from behind the frame", settle: behind_the_frame },
    Difference { name: "PRI 13 instead of `invld`", settle: pri_invalid },
    Difference { name: "An empty PRI and leading zeros are no PRI", settle: pri_unidentifiable },
    Difference { name: "A nil APP-NAME is `-`", settle: app_name_nil },
    Difference { name: "A fraction too long for rsyslog is still a fraction", settle: fraction_refused },
    Difference { name: "A year-less stamp gets the nearest plausible year", settle: year_nearest },
    Difference { name: "More than six fraction digits are cut", settle: fraction_cut },
    Difference { name: "A date that does not exist is not forwarded", settle: date_impossible },
    Difference { name: "Fields that a header does not reach are nil", settle: header_short },
    Difference { name: "STRUCTURED-DATA that is never closed is MSG", settle: sd_unclosed },
    Difference { name: "STRUCTURED-DATA of 64 KiB and more is whole", settle: sd_long },
];

fn pri_invalid(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let applies = compared.theirs.pri == b"invld" && ours.pri == b"13" && ours.msg == compared.frame;
    if applies {
        ours.pri.clone_from(&compared.theirs.pri);
    }
    applies
}

/// The digits between `<` and `>`.
fn digits_of_pri(frame: &[u8]) -> Option<&[u8]> {
    let behind = frame.strip_prefix(b"<")?;
    let end = behind.iter().position(|octet| *octet == b'>')?;
    Some(&behind[..end]).filter(|digits| digits.iter().all(u8::is_ascii_digit))
}

fn pri_unidentifiable(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let unidentifiable =
        digits_of_pri(compared.frame).is_some_and(|digits| digits.is_empty() || digits.len() > 1 && digits[0] == b'0');
    let kept = ours.raw == compared.theirs.raw && ours.after_pri == compared.theirs.after_pri;
    let applies = unidentifiable && kept && ours.pri == b"13" && ours.msg == compared.frame && ours.tag.is_empty();
    if applies {
        ours.clone_from(compared.theirs);
    }
    applies
}

fn app_name_nil(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let theirs = compared.theirs;
    let applies = theirs.protocol == b"1"
        && [&theirs.app_name, &theirs.program, &theirs.tag].iter().all(|value| value.is_empty())
        && [&ours.app_name, &ours.program, &ours.tag].iter().all(|value| *value == b"-");
    if applies {
        ours.app_name.clear();
        ours.program.clear();
        ours.tag.clear();
    }
    applies
}

/// How many digits the longest run behind a dot near the frame's start has.
fn fraction_digits_of(frame: &[u8]) -> usize {
    let head = &frame[..frame.len().min(90)];
    let digits = |from: usize| frame[from..].iter().take_while(|octet| octet.is_ascii_digit()).count();
    memchr::memchr_iter(b'.', head).map(|dot| digits(dot + 1)).max().unwrap_or_default()
}

fn fraction_refused(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let theirs = compared.theirs;
    let applies = fraction_digits_of(compared.frame) > 9
        && compared.fields.timestamp.is_none_or(|stamp| stamp.fraction_digits == 6)
        && theirs.timestamp == theirs.received
        && [&ours.pri, &ours.protocol, &ours.raw] == [&theirs.pri, &theirs.protocol, &theirs.raw];
    if applies {
        ours.clone_from(theirs);
    }
    applies
}

/// The number in some octets of a stamp.
fn number(stamp: &[u8], octets: std::ops::Range<usize>) -> Option<i32> {
    std::str::from_utf8(stamp.get(octets)?).ok()?.parse().ok()
}

fn year_nearest(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let theirs = compared.theirs;
    let years = (number(&ours.timestamp, 0..4), number(&theirs.timestamp, 0..4));
    let (Some(our_year), Some(their_year)) = years else { return false };
    let (stamp, received) = (number(&theirs.timestamp, 5..7), number(&theirs.received, 5..7));
    let moved = match our_year - their_year {
        // Later than the next month: last year's. Eleven months or more ago: next year's.
        -1 => stamp > received,
        1 => stamp < received,
        _ => false,
    };
    let year_less = compared.fields.protocol == Protocol::Rfc3164 && number(&theirs.received, 0..4) == Some(their_year);
    // Where "Feb 29" exists in the year of reception only, our stamp is the reception's.
    let leap_day = theirs.timestamp.get(4..10) == Some(b"-02-29") && ours.timestamp == theirs.received;
    if year_less && leap_day {
        ours.timestamp.clone_from(&theirs.timestamp);
    } else if year_less && moved {
        ours.timestamp[..4].copy_from_slice(&theirs.timestamp[..4]);
    }
    year_less && (leap_day || moved)
}

fn fraction_cut(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let theirs = compared.theirs;
    let dot = |stamp: &[u8]| stamp.iter().position(|octet| *octet == b'.');
    let (Some(our_dot), Some(their_dot)) = (dot(&ours.timestamp), dot(&theirs.timestamp)) else { return false };
    let zone = if ours.timestamp.ends_with(b"Z") { 1 } else { 6 };
    let applies = fraction_digits_of(compared.frame) > 6
        && compared.fields.timestamp.is_some_and(|stamp| stamp.fraction_digits == 6)
        && ours.timestamp[..our_dot] == theirs.timestamp[..their_dot]
        && theirs.timestamp.ends_with(&ours.timestamp[ours.timestamp.len() - zone..]);
    if applies {
        ours.timestamp.clone_from(&theirs.timestamp);
    }
    applies
}

fn date_impossible(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let theirs = compared.theirs;
    let date = theirs.timestamp.get(..10).and_then(|date| std::str::from_utf8(date).ok()).unwrap_or_default();
    let applies = date.parse::<jiff::civil::Date>().is_err() && ours.timestamp == theirs.received;
    if applies {
        ours.timestamp.clone_from(&theirs.timestamp);
    }
    applies
}

fn header_short(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let theirs = compared.theirs;
    let nil = [&ours.app_name, &ours.procid, &ours.msgid, &ours.structured_data].iter().all(|value| *value == b"-");
    let absent = [&theirs.procid, &theirs.msgid, &theirs.structured_data, &theirs.msg].iter().all(|v| v.is_empty());
    let hostname = theirs.hostname == ours.hostname || theirs.hostname.is_empty();
    let applies = theirs.protocol == b"1" && nil && absent && hostname && theirs.tag == b"-[]";
    if applies {
        ours.hostname.clone_from(&theirs.hostname);
        ours.tag.clone_from(&theirs.tag);
        ours.procid.clear();
        ours.msgid.clear();
        ours.structured_data.clear();
    }
    applies
}

fn sd_unclosed(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let theirs = compared.theirs;
    let rest = [&*theirs.structured_data, &*theirs.msg].concat();
    // rsyslog reads to the last octet, and drops it where it is a space.
    let same = ours.msg == rest || ours.msg.strip_suffix(b" ") == Some(&rest);
    let applies = theirs.protocol == b"1"
        && theirs.msg.len() <= 1
        && ours.structured_data == b"-"
        && ours.msg.starts_with(b"[")
        && same;
    if applies {
        ours.structured_data.clone_from(&theirs.structured_data);
        ours.msg.clone_from(&theirs.msg);
    }
    applies
}

fn sd_long(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let theirs = compared.theirs;
    let len = ours.structured_data.len();
    // rsyslog keeps its length in 16 bits.
    let applies = len > 0xffff && ours.structured_data[..len & 0xffff] == theirs.structured_data;
    if applies {
        ours.structured_data.clone_from(&theirs.structured_data);
    }
    applies
}

fn behind_the_frame(compared: &Compared<'_>, ours: &mut Outcome) -> bool {
    let theirs = compared.theirs;
    // A TAG that ends the frame behind a year in front takes the NUL behind the frame along.
    let tag = theirs.tag.strip_suffix(b"\0") == Some(&ours.tag);
    // `rawmsg-after-pri` looks for a `>` in octets 2 to 4 even where the frame is shorter.
    let after_pri = compared.frame.len() < 5 && compared.frame.starts_with(b"<") && ours.after_pri != theirs.after_pri;
    if tag {
        ours.tag.clone_from(&theirs.tag);
    }
    if after_pri {
        ours.after_pri.clone_from(&theirs.after_pri);
    }
    tag || after_pri
}
