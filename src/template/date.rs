//! TIMESTAMP in rsyslog's date formats, written digit by digit: no calendar library on the hot path.

use jiff::tz::TimeZone;

use crate::syslog::Timestamp;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const WEEKDAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const POWERS_OF_TEN: [u32; 7] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000];
const SECONDS_A_DAY: i64 = 86_400;

/// The `date-*` options of rsyslog's property replacer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateFormat {
    Mysql,
    Pgsql,
    Rfc3164,
    Rfc3164BuggyDay,
    Rfc3339,
    Unix,
    Subseconds,
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    OffsetHour,
    OffsetMinute,
    OffsetDirection,
    Ordinal,
    Week,
    IsoWeek,
    IsoWeekYear,
    Wday,
    WdayName,
}

/// Offset of a zone, looked up once per stretch without a transition and not once per message.
#[derive(Clone, Debug)]
pub(super) struct ZoneCache {
    zone: TimeZone,
    /// First second of the stretch.
    from: i64,
    /// First second after it. `from == until`: nothing is cached.
    until: i64,
    offset_seconds: i32,
}

impl ZoneCache {
    pub(super) const fn new(zone: TimeZone) -> Self {
        Self { zone, from: 0, until: 0, offset_seconds: 0 }
    }

    /// The local civil time of an instant, with six fraction digits as rsyslog keeps its own clock.
    pub(super) fn local(&mut self, unix_us: i64) -> Timestamp {
        let seconds = unix_us.div_euclid(1_000_000);
        if seconds < self.from || seconds >= self.until {
            self.look_up(seconds);
        }
        civil(seconds, unix_us.rem_euclid(1_000_000) as u32, self.offset_seconds)
    }

    #[cold]
    fn look_up(&mut self, seconds: i64) {
        let instant = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        self.offset_seconds = self.zone.to_offset(instant).seconds();
        // A transition lies on a second; `preceding` excludes its argument.
        let next_second = jiff::Timestamp::from_second(seconds.saturating_add(1)).unwrap_or(instant);
        self.from = self.zone.preceding(next_second).next().map_or(i64::MIN, |found| found.timestamp().as_second());
        self.until = self.zone.following(instant).next().map_or(i64::MAX, |found| found.timestamp().as_second());
    }
}

/// Civil fields of an instant at an offset; years outside 0 to 9999 are clamped.
pub(super) fn civil(unix_seconds: i64, microseconds: u32, offset_seconds: i32) -> Timestamp {
    let local = unix_seconds.saturating_add(i64::from(offset_seconds));
    let (year, month, day) = civil_from_days(local.div_euclid(SECONDS_A_DAY));
    let second_of_day = local.rem_euclid(SECONDS_A_DAY) as u32;
    Timestamp {
        year: year.clamp(0, 9999) as u16,
        month,
        day,
        hour: (second_of_day / 3600) as u8,
        minute: (second_of_day / 60 % 60) as u8,
        second: (second_of_day % 60) as u8,
        fraction_digits: 6,
        fraction: microseconds,
        offset_minutes: (offset_seconds / 60) as i16,
        zulu: false,
        minus_zero: false,
    }
}

/// Days since 1970-01-01 to the proleptic Gregorian date (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u8, day as u8)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Seconds since the Unix epoch.
pub(super) fn unix_seconds(stamp: &Timestamp) -> i64 {
    days_from_civil(i64::from(stamp.year), stamp.month, stamp.day) * SECONDS_A_DAY
        + i64::from(stamp.hour) * 3600
        + i64::from(stamp.minute) * 60
        + i64::from(stamp.second)
        - i64::from(stamp.offset_minutes) * 60
}

/// The same instant in UTC (`date-utc`). As rsyslog prints it: with six fraction digits, and `+00:00`, never `Z`.
pub(super) fn to_utc(stamp: &Timestamp) -> Timestamp {
    let missing = 6_u32.saturating_sub(u32::from(stamp.fraction_digits));
    civil(unix_seconds(stamp), stamp.fraction.saturating_mul(10_u32.pow(missing)), 0)
}

/// Appends `stamp` in `format`.
pub(super) fn write(stamp: &Timestamp, format: DateFormat, out: &mut Vec<u8>) {
    match format {
        DateFormat::Rfc3339 => {
            let mut text = [0; RFC3339_LEN];
            let len = rfc3339(stamp, &mut text);
            out.extend_from_slice(text.get(..len).unwrap_or_default());
        }
        DateFormat::Rfc3164 => rfc3164(stamp, b' ', out),
        DateFormat::Rfc3164BuggyDay => rfc3164(stamp, b'0', out),
        DateFormat::Mysql => {
            out.extend_from_slice(&four(stamp.year));
            for part in [stamp.month, stamp.day, stamp.hour, stamp.minute, stamp.second] {
                out.extend_from_slice(&two(part));
            }
        }
        DateFormat::Pgsql => {
            let [y1, y2, y3, y4] = four(stamp.year);
            let [(m1, m2), (d1, d2)] = [stamp.month, stamp.day].map(pair);
            let [(h1, h2), (n1, n2), (s1, s2)] = [stamp.hour, stamp.minute, stamp.second].map(pair);
            out.extend_from_slice(&[
                y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b' ', h1, h2, b':', n1, n2, b':', s1, s2,
            ]);
        }
        DateFormat::Unix => number(unix_seconds(stamp), out),
        DateFormat::Subseconds if stamp.fraction_digits == 0 => out.push(b'0'),
        DateFormat::Subseconds => fraction(stamp, out),
        DateFormat::Year => out.extend_from_slice(&four(stamp.year)),
        DateFormat::Month => out.extend_from_slice(&two(stamp.month)),
        DateFormat::Day => out.extend_from_slice(&two(stamp.day)),
        DateFormat::Hour => out.extend_from_slice(&two(stamp.hour)),
        DateFormat::Minute => out.extend_from_slice(&two(stamp.minute)),
        DateFormat::Second => out.extend_from_slice(&two(stamp.second)),
        DateFormat::OffsetHour => out.extend_from_slice(&two((stamp.offset_minutes.unsigned_abs() / 60) as u8)),
        DateFormat::OffsetMinute => out.extend_from_slice(&two((stamp.offset_minutes.unsigned_abs() % 60) as u8)),
        // rsyslog says so of "Z" as well.
        DateFormat::OffsetDirection => out.push(if stamp.zulu { b'-' } else { sign(stamp) }),
        DateFormat::Ordinal | DateFormat::Week | DateFormat::IsoWeek | DateFormat::IsoWeekYear => {
            calendar(stamp, format, out);
        }
        DateFormat::Wday => out.push(b'0' + weekday(stamp)),
        DateFormat::WdayName => {
            out.extend_from_slice(WEEKDAYS.get(usize::from(weekday(stamp))).copied().unwrap_or(b"Sun"));
        }
    }
}

/// Longest: `2003-08-24T05:14:15.000003-07:00`.
pub(super) const RFC3339_LEN: usize = 32;

/// Writes RFC 3339 with the sender's own precision (at most six digits) and zone; how many octets of it.
///
/// Straight to where it stays, two digits at a time: a copy just after such small writes would wait for them.
#[inline]
pub(super) fn rfc3339(stamp: &Timestamp, text: &mut [u8; RFC3339_LEN]) -> usize {
    put(text, 0, two((stamp.year / 100) as u8));
    put(text, 2, two((stamp.year % 100) as u8));
    for (at, mark, part) in [
        (4, b'-', stamp.month),
        (7, b'-', stamp.day),
        (10, b'T', stamp.hour),
        (13, b':', stamp.minute),
        (16, b':', stamp.second),
    ] {
        put(text, at, [mark]);
        put(text, at + 1, two(part));
    }
    let mut len = 19;
    if stamp.fraction_digits > 0 {
        let fraction_digits = usize::from(stamp.fraction_digits.min(6));
        // All six are written; what follows overwrites those that were not sent.
        let scale = POWERS_OF_TEN.get(6 - fraction_digits).copied().unwrap_or(1);
        let micros = stamp.fraction.saturating_mul(scale);
        put(text, len, *b".");
        put(text, len + 1, two((micros / 10_000 % 100) as u8));
        put(text, len + 3, two((micros / 100 % 100) as u8));
        put(text, len + 5, two((micros % 100) as u8));
        len += 1 + fraction_digits;
    }
    if stamp.zulu {
        return put(text, len, *b"Z");
    }
    let minutes = stamp.offset_minutes.unsigned_abs();
    put(text, len, [sign(stamp)]);
    put(text, len + 1, two((minutes / 60) as u8));
    put(text, len + 3, *b":");
    put(text, len + 4, two((minutes % 60) as u8))
}

/// Writes `part` at `at`; the offset behind it.
#[inline(always)]
fn put<const N: usize>(text: &mut [u8; RFC3339_LEN], at: usize, part: [u8; N]) -> usize {
    if let Some(target) = text.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        *target = part;
    }
    at + N
}

fn sign(stamp: &Timestamp) -> u8 {
    if stamp.offset_minutes < 0 || stamp.minus_zero { b'-' } else { b'+' }
}

/// `Mar  1 12:34:56`; `blank` stands before a day of one digit.
fn rfc3164(stamp: &Timestamp, blank: u8, out: &mut Vec<u8>) {
    let month = MONTHS.get(usize::from(stamp.month.wrapping_sub(1))).copied().unwrap_or(b"Jan");
    let (tens, ones) = pair(stamp.day);
    let tens = if tens == b'0' { blank } else { tens };
    let [m1, m2, m3] = *month;
    let [(h1, h2), (n1, n2), (s1, s2)] = [stamp.hour, stamp.minute, stamp.second].map(pair);
    out.extend_from_slice(&[m1, m2, m3, b' ', tens, ones, b' ', h1, h2, b':', n1, n2, b':', s1, s2]);
}

/// Counts of days and weeks within the year.
fn calendar(stamp: &Timestamp, format: DateFormat, out: &mut Vec<u8>) {
    let ordinal = ordinal(stamp);
    match format {
        DateFormat::Ordinal => digits(ordinal as u32, 3, out),
        // rsyslog's own count, beginning on Sundays; the days before the first one are week 0 or 1.
        DateFormat::Week => {
            let new_year = weekday(&Timestamp { month: 1, day: 1, ..*stamp });
            digits((ordinal as u32 + 5) / 7 + u32::from(weekday(stamp) < new_year), 2, out);
        }
        DateFormat::IsoWeek => digits(iso_week(stamp).1, 2, out),
        _ => digits(iso_week(stamp).0, 4, out),
    }
}

/// 1 to 366.
fn ordinal(stamp: &Timestamp) -> i64 {
    let year = i64::from(stamp.year);
    days_from_civil(year, stamp.month, stamp.day) - days_from_civil(year, 1, 1) + 1
}

/// ISO 8601 week-numbering year and week (1 to 53).
fn iso_week(stamp: &Timestamp) -> (u32, u32) {
    let year = i64::from(stamp.year);
    let days = days_from_civil(year, stamp.month, stamp.day);
    // The week belongs to the year that its Thursday lies in.
    let monday_based = (days + 3).rem_euclid(7);
    let thursday = days - monday_based + 3;
    let (year, _, _) = civil_from_days(thursday);
    let week = (thursday - days_from_civil(year, 1, 1)) / 7 + 1;
    (year.max(0) as u32, week as u32)
}

/// 0 is Sunday.
fn weekday(stamp: &Timestamp) -> u8 {
    (days_from_civil(i64::from(stamp.year), stamp.month, stamp.day) + 4).rem_euclid(7) as u8
}

/// The fraction with its leading zeros.
fn fraction(stamp: &Timestamp, out: &mut Vec<u8>) {
    digits(stamp.fraction, stamp.fraction_digits.min(9), out);
}

/// `value` in exactly `count` (at most ten) digits, the highest ones cut.
pub(super) fn digits(value: u32, count: u8, out: &mut Vec<u8>) {
    let mut buffer = [b'0'; 10];
    let mut rest = value;
    for slot in buffer.iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let skipped = buffer.len().saturating_sub(usize::from(count));
    out.extend_from_slice(buffer.get(skipped..).unwrap_or_default());
}

/// `value` in decimal.
pub(super) fn number(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn pair(value: u8) -> (u8, u8) {
    (b'0' + value / 10 % 10, b'0' + value % 10)
}

/// "00" to "99".
static TWO: [[u8; 2]; 100] = {
    let mut table = [[b'0'; 2]; 100];
    let mut value = 0;
    while value < 100 {
        let (tens, ones) = (b'0' + value / 10, b'0' + value % 10);
        #[expect(clippy::indexing_slicing, reason = "value < 100, evaluated at compile time")]
        {
            table[value as usize] = [tens, ones];
        }
        value += 1;
    }
    table
};

#[inline(always)]
pub(super) fn two(value: u8) -> [u8; 2] {
    TWO.get(usize::from(value)).copied().unwrap_or(*b"00")
}

pub(super) fn four(value: u16) -> [u8; 4] {
    let [a, b] = two((value / 100) as u8);
    let [c, d] = two((value % 100) as u8);
    [a, b, c, d]
}
