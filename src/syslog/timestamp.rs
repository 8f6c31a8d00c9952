//! TIMESTAMP: what the sender wrote, kept as it was written (zone and precision), and the clock that fills gaps.

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
