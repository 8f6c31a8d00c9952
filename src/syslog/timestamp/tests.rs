//! Tables of stamps, each row with where it is stated, and the rule for the year.

use super::*;

const CLOCK: Clock = Clock { now_us: 0, year: 2026, month: 11, day: 22, offset_minutes: 60 };

/// The stamp and the octets it takes, for a reader.
fn shown(found: Option<Found>) -> String {
    let Some(Found { timestamp, len, .. }) = found else { return "none".to_owned() };
    let Some(stamp) = timestamp else { return format!("impossible {len}") };
    let Timestamp { year, month, day, hour, minute, second, fraction, fraction_digits, .. } = stamp;
    let zone = match stamp {
        Timestamp { zulu: true, .. } => "Z".to_owned(),
        Timestamp { minus_zero: true, .. } => "-0".to_owned(),
        _ => format!("{:+}", stamp.offset_minutes),
    };
    format!("{year}-{month}-{day} {hour}:{minute}:{second} {fraction}/{fraction_digits} {zone} {len}")
}

#[test]
fn rfc3339_stamps_are_read_as_they_are_written() {
    let table = [
        // RFC 5424 section 6.2.3.1, examples 1 to 4.
        ("1985-04-12T23:20:50.52Z", "1985-4-12 23:20:50 52/2 Z 23"),
        ("1985-04-12T19:20:50.52-04:00", "1985-4-12 19:20:50 52/2 -240 28"),
        ("2003-10-11T22:14:15.003Z", "2003-10-11 22:14:15 3/3 Z 24"),
        ("2003-08-24T05:14:15.000003-07:00", "2003-8-24 5:14:15 3/6 -420 32"),
        // Example 5 has nine digits, which section 6.2.3 forbids: cut.
        ("2003-08-24T05:14:15.000000003-07:00", "2003-8-24 5:14:15 0/6 -420 35"),
        // RFC 3339 section 4.3: unknown local offset.
        ("2003-08-24T05:14:15-00:00 x", "2003-8-24 5:14:15 0/0 -0 26"),
        // What rsyslog takes beyond the RFC.
        ("2003-8-4T5:4:5+1:0 x", "2003-8-4 5:4:5 0/0 +60 19"),
        ("2003-08-24T05:14:60Z ", "2003-8-24 5:14:60 0/0 Z 21"),
        ("2003-08-24T05:14:15.Z", "2003-8-24 5:14:15 0/0 Z 21"),
        ("-08-24T::Z", "0-8-24 0:0:0 0/0 Z 10"),
        // RFC 3339 section 5.7: days of a month.
        ("2023-02-29T05:14:15Z", "impossible 20"),
        ("2024-02-29T05:14:15Z", "2024-2-29 5:14:15 0/0 Z 20"),
        ("1900-02-29T05:14:15Z", "impossible 20"),
        ("2000-02-29T05:14:15Z", "2000-2-29 5:14:15 0/0 Z 20"),
        ("2026-04-31T05:14:15Z", "impossible 20"),
        // RFC 5424 section 6.2.3: "T" and "Z" are upper case, and the zone is required.
        ("2003-08-24t05:14:15Z", "none"),
        ("2003-08-24T05:14:15z", "none"),
        ("2003-08-24T05:14:15", "none"),
        ("2003-08-24T05:14:15+0100", "none"),
        ("2003-08-24T05:14:15+24:00", "none"),
        ("2003-08-24T05:14:15+00:60", "none"),
        ("2003-08-24T05:14:15Z:", "none"),
        ("2003-08-24T24:00:00Z", "none"),
        ("2003-08-24T05:60:00Z", "none"),
        ("2003-08-24T05:00:61Z", "none"),
        ("2003-13-24T05:14:15Z", "none"),
        ("2003-00-24T05:14:15Z", "none"),
        ("2003-08-32T05:14:15Z", "none"),
        ("2100-08-24T05:14:15Z", "none"),
        ("99999-01-01T00:00:00Z", "none"),
        ("4294969299-01-01T00:00:00Z", "none"),
        ("", "none"),
    ];
    for (text, expected) in table {
        assert_eq!(shown(rfc3339(text.as_bytes())), expected, "{text}");
    }
}

#[test]
fn rfc3164_stamps_are_read_as_devices_write_them() {
    let table = [
        // RFC 3164 section 4.1.2, and section 5.4 example 1.
        ("Oct 11 22:14:15 mymachine", "2026-10-11 22:14:15 0/0 +60 16"),
        ("Aug  4 05:34:00 x", "2026-8-4 5:34:0 0/0 +60 16"),
        ("Oct 11 22:14:15", "2026-10-11 22:14:15 0/0 +60 15"),
        // What rsyslog takes beyond the RFC.
        ("oCT 11 22:14:15 x", "2026-10-11 22:14:15 0/0 +60 16"),
        ("Oct 1 2:4:5 x", "2026-10-1 2:4:5 0/0 +60 12"),
        ("Oct 11 22:14:15: x", "2026-10-11 22:14:15 0/0 +60 17"),
        ("Oct 11 22:14:15.025 x", "2026-10-11 22:14:15 25/3 +60 20"),
        ("Oct 11 22:14:15.123456789 x", "2026-10-11 22:14:15 123456/6 +60 26"),
        ("Oct 11 2003 22:14:15 x", "2003-10-11 22:14:15 0/0 +60 21"),
        ("2003 Oct 11 22:14:15 x", "2003-10-11 22:14:15 0/0 +60 21"),
        // A day that the month has not.
        ("Feb 30 10:11:12 x", "impossible 16"),
        ("Feb 29 10:11:12 x", "impossible 16"),
        ("Feb 29 2024 10:11:12 x", "2024-2-29 10:11:12 0/0 +60 21"),
        // No stamps.
        ("Oct  0 10:11:12 x", "none"),
        ("Oct 32 10:11:12 x", "none"),
        ("Oct 11 24:11:12 x", "none"),
        ("Oct 11 10:11:61 x", "none"),
        ("Oct   1 10:11:12 x", "none"),
        ("Oct 11 10:11:12,123 x", "none"),
        ("Oct 11 10:11:12Z x", "none"),
        ("Okt 11 10:11:12 x", "none"),
        ("*Oct 11 10:11:12 x", "none"),
        ("Oct 11 1970 10:11:12 x", "none"),
        ("1969 Oct 11 10:11:12 x", "none"),
        ("2003 Oct 11 2004 10:11:12 x", "none"),
        ("2003 Oct 11 10:11:12", "none"),
        // 0x20 makes an "o" of this control character; it is no letter for that.
        ("\u{0f}ct 11 10:11:12 x", "none"),
        ("Oct", "none"),
        ("", "none"),
    ];
    for (text, expected) in table {
        assert_eq!(shown(rfc3164(text.as_bytes(), &CLOCK)), expected, "{text}");
    }
}

#[test]
fn a_stamp_without_a_year_gets_the_nearest_plausible_one() {
    let table = [
        // (year, month, day) of the clock, month and day of the stamp, its year.
        ((2027, 1, 1), (12, 31), 2026),
        ((2026, 12, 31), (1, 1), 2027),
        ((2026, 11, 22), (11, 22), 2026),
        ((2026, 11, 22), (1, 1), 2026),
        ((2026, 11, 22), (12, 22), 2026),
        ((2026, 11, 22), (12, 23), 2025),
        ((2026, 12, 22), (1, 22), 2027),
        ((2026, 12, 22), (1, 23), 2026),
        ((2026, 1, 15), (2, 15), 2026),
        ((2026, 1, 15), (2, 16), 2025),
        ((2026, 6, 30), (7, 30), 2026),
        ((2026, 6, 30), (8, 1), 2025),
        ((0, 1, 1), (12, 31), 0),
    ];
    for ((year, month, day), (stamp_month, stamp_day), expected) in table {
        let clock = Clock { now_us: 0, year, month, day, offset_minutes: 0 };
        assert_eq!(clock.year_of(stamp_month, stamp_day), expected, "{year}-{month}-{day}: {stamp_month}-{stamp_day}");
    }
}

#[test]
fn exact_stamps_are_those_that_the_lenient_reader_reads_alike() {
    for month in ["Jan", "feb", "MAR", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Foo"] {
        for rest in [" 1 00:00:00 x", "31 23:59:60 x", "30 12:30:30 x", "29 01:02:03 x", "00 01:02:03 x"] {
            let text = format!("{month} {rest}");
            let lenient = rfc3164_lenient(text.as_bytes(), &CLOCK);
            assert_eq!(rfc3164_exact(text.as_bytes(), &CLOCK), lenient, "{text}");
        }
    }
}
