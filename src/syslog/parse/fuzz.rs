//! What holds for any frame: for the fuzzer and for the property tests. Panics where it does not hold.

use super::{parse, sanitize};
use crate::syslog::{Clock, Message, Timestamp};

/// For fuzzing: the clock's month and day, then a frame as it was received.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let [month, day, frame @ ..] = data else { return };
    let clock = Clock { now_us: 0, year: 2026, month: month % 12 + 1, day: day % 28 + 1, offset_minutes: 90 };
    let mut scratch = Vec::new();
    let once = sanitize(frame, &mut scratch);
    assert!(once.iter().all(|octet| *octet >= 0x20), "a control character is left");
    assert_eq!(sanitize(once, &mut Vec::new()), once, "sanitized twice is not sanitized once");
    check(once, &clock);
    // No caller gives it a frame that is not sanitized; it stands that as well.
    check(frame, &clock);
}

/// Every span lies inside the frame, a program name holds nothing that ends it, and a stamp is a moment that exists.
pub(super) fn check(frame: &[u8], clock: &Clock) {
    let fields = parse(frame, clock);
    let optional = [fields.hostname, fields.app_name, fields.procid, fields.msgid, fields.structured_data];
    for span in optional.into_iter().flatten().chain([fields.tag, fields.msg]) {
        assert!(span.start as usize + span.len as usize <= frame.len(), "{span:?} of {}", frame.len());
    }
    assert!(fields.after_pri as usize <= frame.len());
    assert_eq!((fields.msg.start + fields.msg.len) as usize, frame.len(), "MSG is not what is left");
    assert!(fields.pri.prival() <= 191);
    let message = Message { fields: &fields, raw: frame, received_at_us: 0, peer: None, input: "check" };
    let ends = |octet: &u8| matches!(octet, b'/' | b'[' | b':') || !(b' '..=b'~').contains(octet);
    assert!(!message.program_name().iter().any(ends), "{:?}", message.program_name().escape_ascii().to_string());
    if let Some(stamp) = fields.timestamp {
        check_stamp(&stamp);
    }
}

fn check_stamp(stamp: &Timestamp) {
    assert!(stamp.exists(), "{stamp:?}");
    let date = jiff::civil::Date::new(stamp.year as i16, stamp.month as i8, stamp.day as i8);
    assert!(date.is_ok(), "{stamp:?}");
    assert!(stamp.hour <= 23 && stamp.minute <= 59 && stamp.second <= 60, "{stamp:?}");
    assert!(stamp.offset_minutes.abs() < 24 * 60 && stamp.fraction_digits <= 6, "{stamp:?}");
    assert!(u64::from(stamp.fraction) < 10_u64.pow(u32::from(stamp.fraction_digits)), "{stamp:?}");
}
