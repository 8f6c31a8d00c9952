//! TIMESTAMP: what the sender wrote, kept as it was written (zone and precision), and the clock that fills gaps.
//!
//! Reads what rsyslog 8.2302 reads: RFC 3339 stamps (RFC 5424 section 6.2.3) with any number of digits in a number, and
//! RFC 3164 stamps (section 4.1.2) with a year before or after the day, a fraction, and a colon behind. No calendar
//! library: the year that RFC 3164 leaves out comes from [`Clock`], the length of a month from a table.

/// A TIMESTAMP as the sender wrote it; nothing is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Four digits, 0 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31, valid for the month.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59 (rsyslog takes 60 as well, and prints it as it is).
    pub second: u8,
    /// How many fraction digits were written (0 to 6; more are cut).
    pub fraction_digits: u8,
    /// The fraction as a number of `fraction_digits` digits: `.003` is 3 with 3 digits.
    pub fraction: u32,
    /// Minutes east of UTC.
    pub offset_minutes: i16,
    /// It was written with `Z`, and is printed with it.
    pub zulu: bool,
    /// It was written with `-00:00` (RFC 3339 section 4.3: the local offset is unknown), and is printed with it.
    pub minus_zero: bool,
}

/// The present, taken once per read and not once per message: fills the year and the zone that RFC 3164 leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Microseconds since the Unix epoch.
    pub now_us: i64,
    /// Local civil year at `now_us`, in the zone that stamps without one are taken to be in.
    pub year: u16,
    /// Local civil month, 1 to 12.
    pub month: u8,
    /// Local civil day, 1 to 31.
    pub day: u8,
    /// Offset of that zone at `now_us`, minutes east of UTC.
    pub offset_minutes: i16,
}

/// A stamp that was found at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `None`: it has the form of a stamp but names a day that does not exist.
    pub(crate) timestamp: Option<Timestamp>,
    /// Octets it takes, with the space behind it.
    pub(crate) len: usize,
    /// The year stands in front of the month (Brocade).
    pub(crate) year_first: bool,
}

/// The first year that rsyslog 8.2302 does not take from an RFC 3339 stamp.
const YEAR_END: u32 = 2100;

/// More fraction digits than that are read over: microseconds are as fine as a [`Timestamp`] is.
const FRACTION_DIGITS_MAX: usize = 6;

impl Timestamp {
    /// Whether it is a moment that a sender can have written: what reads stamps makes no others.
    pub fn exists(&self) -> bool {
        let Self { year, month, day, hour, minute, second, .. } = *self;
        let fraction_max = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000].get(usize::from(self.fraction_digits));
        year <= 9_999
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour <= 23
            && minute <= 59
            && second <= 60
            && fraction_max.is_some_and(|max| self.fraction < *max)
            && self.offset_minutes.unsigned_abs() < 24 * 60
    }
}

impl Clock {
    /// The year of an RFC 3164 stamp: the latest that puts it no later than this day of the next month.
    ///
    /// So "Dec 31" read on January 1 is last year's, "Jan 1" read on December 31 next year's, and a sender whose clock
    /// is some weeks ahead is not sent a year back.
    fn year_of(&self, month: u8, day: u8) -> u16 {
        // Days in a calendar of twelve months of 31 days each: the order is right, and no month needs a table.
        const MONTH: i32 = 31;
        const YEAR: i32 = 12 * MONTH;
        let ahead = MONTH * (i32::from(month) - i32::from(self.month)) + i32::from(day) - i32::from(self.day);
        if ahead > MONTH {
            self.year.saturating_sub(1)
        } else if ahead + YEAR <= MONTH {
            self.year.saturating_add(1)
        } else {
            self.year
        }
    }
}

/// Days of `month` (1 to 12) in the Gregorian calendar.
fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads an RFC 3339 stamp at the start of `text`, followed by a space or the end (rsyslog's `ParseTIMESTAMP3339`).
///
/// Like rsyslog it takes numbers of any length, so `2026-1-2T3:4:5Z` and an empty number, which is 0.
#[inline]
pub(crate) fn rfc3339(text: &[u8]) -> Option<Found> {
    let mut cursor = Cursor::new(text);
    let (date, (hour, minute, second)) = match date_time_exact(text) {
        Some(found) => {
            cursor.at = DATE_TIME_LEN;
            found
        }
        None => date_time_lenient(&mut cursor)?,
    };
    let (fraction, fraction_digits) = cursor.fraction();
    let zone = cursor.zone()?;
    if !cursor.ends_word() {
        return None;
    }
    let (year, month, day) = date;
    let timestamp = Timestamp {
        year,
        month,
        day,
        hour,
        minute,
        second,
        fraction_digits,
        fraction,
        offset_minutes: zone.offset_minutes,
        zulu: zone.zulu,
        minus_zero: zone.minus_zero,
    };
    Some(Found { timestamp: timestamp.if_possible(), len: cursor.at, year_first: false })
}

/// Year, month and day; hour, minute and second.
type DateTime = ((u16, u8, u8), (u8, u8, u8));

/// Octets of `yyyy-mm-ddThh:mm:ss`.
const DATE_TIME_LEN: usize = 19;

/// `yyyy-mm-ddThh:mm:ss` exactly, followed by what is no digit.
#[inline]
fn date_time_exact(text: &[u8]) -> Option<DateTime> {
    let octets: &[u8; DATE_TIME_LEN + 1] = text.first_chunk()?;
    let separators = [octets[4], octets[7], octets[10], octets[13], octets[16]];
    if separators != *b"--T::" || octets[19].is_ascii_digit() {
        return None;
    }
    let century = two_digits(octets[0], octets[1]);
    let year = two_digits(octets[2], octets[3]);
    let month = two_digits(octets[5], octets[6]);
    let day = two_digits(octets[8], octets[9]);
    let hour = two_digits(octets[11], octets[12]);
    let minute = two_digits(octets[14], octets[15]);
    let second = two_digits(octets[17], octets[18]);
    let possible = century < 21 && year < 100 && matches!(month, 1..=12) && matches!(day, 1..=31);
    (possible && hour <= 23 && minute <= 59 && second <= 60)
        .then(|| ((u16::from(century) * 100 + u16::from(year), month, day), (hour, minute, second)))
}

/// The same with numbers of any length.
#[cold]
fn date_time_lenient(cursor: &mut Cursor<'_>) -> Option<DateTime> {
    let year = cursor.number();
    let month = cursor.eat(b'-').then(|| cursor.number()).filter(|month| (1..=12).contains(month))?;
    let day = cursor.eat(b'-').then(|| cursor.number()).filter(|day| (1..=31).contains(day))?;
    if year >= YEAR_END || !cursor.eat(b'T') {
        return None;
    }
    Some(((year as u16, month as u8, day as u8), cursor.time_of_day()?))
}

/// Reads an RFC 3164 stamp at the start of `text`, followed by a space or the end (rsyslog's `ParseTIMESTAMP3164`).
#[inline]
pub(crate) fn rfc3164(text: &[u8], clock: &Clock) -> Option<Found> {
    rfc3164_exact(text, clock).or_else(|| rfc3164_lenient(text, clock))
}

/// The stamp exactly as the RFC has it, `Mmm dd hh:mm:ss` and a space: what nearly every sender writes.
#[inline]
fn rfc3164_exact(text: &[u8], clock: &Clock) -> Option<Found> {
    const LEN: usize = 16;
    let octets: &[u8; LEN] = text.first_chunk()?;
    let separators = [octets[3], octets[6], octets[9], octets[12], octets[15]];
    if separators != *b"  :: " {
        return None;
    }
    // RFC 3164 section 4.1.2: a day below 10 has a space in front.
    let day_tens = if octets[4] == b' ' { b'0' } else { octets[4] };
    let month = month_of([octets[0], octets[1], octets[2]])?;
    let day = two_digits(day_tens, octets[5]);
    let hour = two_digits(octets[7], octets[8]);
    let minute = two_digits(octets[10], octets[11]);
    let second = two_digits(octets[13], octets[14]);
    if day == 0 || day > 31 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let timestamp = local(clock, None, (month, day), (hour, minute, second), (0, 0));
    Some(Found { timestamp: timestamp.if_possible(), len: LEN, year_first: false })
}

/// Everything else that rsyslog takes: `[yyyy ]Mmm [ ]d[ yyyy] h:m:s[.fraction][:]`.
#[cold]
fn rfc3164_lenient(text: &[u8], clock: &Clock) -> Option<Found> {
    let mut cursor = Cursor::new(text);
    let mut year = None;
    let year_first = cursor.peek().is_some_and(|octet| octet.is_ascii_digit());
    if year_first {
        year = Some(cursor.number()).filter(|year| (1970..=2100).contains(year));
        if year.is_none() || !cursor.eat(b' ') {
            return None;
        }
    }
    let month = month_of(*cursor.rest().first_chunk()?)?;
    cursor.at += 3;
    if !cursor.eat(b' ') {
        return None;
    }
    let _ = cursor.eat(b' ');
    let day = cursor.number();
    if !(1..=31).contains(&day) || !cursor.eat(b' ') {
        return None;
    }
    let before_hour = cursor.at;
    let first = cursor.number();
    // Cisco writes the year behind the day. The bounds are rsyslog's.
    if year.is_none() && first > 1970 && first < YEAR_END {
        year = Some(first);
        if !cursor.eat(b' ') {
            return None;
        }
    } else {
        cursor.at = before_hour;
    }
    let time_of_day = cursor.time_of_day()?;
    let fraction = cursor.fraction();
    let _ = cursor.eat(b':');
    // rsyslog forgets to count the space behind a year in front, so that it does not see the text's end there.
    let ends = if year_first { cursor.eat(b' ') } else { cursor.ends_word() };
    if !ends {
        return None;
    }
    let timestamp = local(clock, year, (month, day as u8), time_of_day, fraction);
    Some(Found { timestamp: timestamp.if_possible(), len: cursor.at, year_first })
}

/// A stamp without a zone, in the clock's zone, and in the nearest year where it has none.
#[inline]
fn local(
    clock: &Clock,
    year: Option<u32>,
    (month, day): (u8, u8),
    (hour, minute, second): (u8, u8, u8),
    (fraction, fraction_digits): (u32, u8),
) -> Timestamp {
    let year = year.map_or_else(|| clock.year_of(month, day), |year| year as u16);
    Timestamp {
        year,
        month,
        day,
        hour,
        minute,
        second,
        fraction_digits,
        fraction,
        offset_minutes: clock.offset_minutes,
        zulu: false,
        minus_zero: false,
    }
}

impl Timestamp {
    /// `None` where the month has no such day.
    #[inline]
    fn if_possible(self) -> Option<Self> {
        (self.day <= 28 || self.day <= days_in_month(self.year, self.month)).then_some(self)
    }
}

/// 1 to 12 for an English month's three letters in any case.
#[inline]
fn month_of(letters: [u8; 3]) -> Option<u8> {
    const JAN: u32 = packed(*b"jan");
    const FEB: u32 = packed(*b"feb");
    const MAR: u32 = packed(*b"mar");
    const APR: u32 = packed(*b"apr");
    const MAY: u32 = packed(*b"may");
    const JUN: u32 = packed(*b"jun");
    const JUL: u32 = packed(*b"jul");
    const AUG: u32 = packed(*b"aug");
    const SEP: u32 = packed(*b"sep");
    const OCT: u32 = packed(*b"oct");
    const NOV: u32 = packed(*b"nov");
    const DEC: u32 = packed(*b"dec");
    let month = match packed(letters) {
        JAN => 1,
        FEB => 2,
        MAR => 3,
        APR => 4,
        MAY => 5,
        JUN => 6,
        JUL => 7,
        AUG => 8,
        SEP => 9,
        OCT => 10,
        NOV => 11,
        DEC => 12,
        _ => return None,
    };
    // Setting 0x20 folds case, but also makes letters of some control characters; those are no month.
    letters.iter().all(u8::is_ascii_alphabetic).then_some(month)
}

/// Three octets as one number, upper case folded to lower.
const fn packed(letters: [u8; 3]) -> u32 {
    u32::from_le_bytes([letters[0], letters[1], letters[2], 0]) | 0x0020_2020
}

/// The number of two digits; 255 where one of them is none.
#[inline]
const fn two_digits(tens: u8, ones: u8) -> u8 {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { u8::MAX } else { tens * 10 + ones }
}

/// A zone as an RFC 3339 stamp has it.
struct Zone {
    offset_minutes: i16,
    zulu: bool,
    minus_zero: bool,
}

/// A place in a text.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Moves over `octet` if it is the next one.
    #[inline]
    fn eat(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        self.at += usize::from(found);
        found
    }

    /// Moves over one space; true also at the end of the text.
    fn ends_word(&mut self) -> bool {
        self.at >= self.text.len() || self.eat(b' ')
    }

    /// A run of digits as a number, 0 where there is none. Saturates: what is too large is out of every range.
    #[inline]
    fn number(&mut self) -> u32 {
        let mut number = 0_u32;
        while let Some(digit) = self.peek().map(|octet| octet.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
            number = number.saturating_mul(10).saturating_add(u32::from(digit));
            self.at += 1;
        }
        number
    }

    /// `h:m:s`, with the leap second that RFC 5424 forbids and rsyslog takes.
    #[inline]
    fn time_of_day(&mut self) -> Option<(u8, u8, u8)> {
        let hour = self.number();
        let minute = self.eat(b':').then(|| self.number())?;
        let second = self.eat(b':').then(|| self.number())?;
        (hour <= 23 && minute <= 59 && second <= 60).then_some((hour as u8, minute as u8, second as u8))
    }

    /// `.digits` as number and count of digits, cut after six; 0 of 0 digits where there is none.
    #[inline]
    fn fraction(&mut self) -> (u32, u8) {
        let mut fraction = 0;
        let mut digits = 0;
        if self.eat(b'.') {
            let first = self.at;
            while let Some(digit) = self.peek().map(|octet| octet.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
                if self.at - first < FRACTION_DIGITS_MAX {
                    fraction = fraction * 10 + u32::from(digit);
                    digits += 1;
                }
                self.at += 1;
            }
        }
        (fraction, digits)
    }

    /// `Z`, `+h:m` or `-h:m`.
    #[inline]
    fn zone(&mut self) -> Option<Zone> {
        if self.eat(b'Z') {
            return Some(Zone { offset_minutes: 0, zulu: true, minus_zero: false });
        }
        let west = self.eat(b'-');
        if !west && !self.eat(b'+') {
            return None;
        }
        let hours = self.number();
        let minutes = self.eat(b':').then(|| self.number())?;
        if hours > 23 || minutes > 59 {
            return None;
        }
        let east = (hours * 60 + minutes) as i16;
        Some(Zone { offset_minutes: if west { -east } else { east }, zulu: false, minus_zero: west && east == 0 })
    }
}

#[cfg(test)]
mod tests;
