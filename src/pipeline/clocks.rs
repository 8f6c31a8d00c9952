//! The present, read once a turn; its civil date in each input's zone, worked out once a minute.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::syslog::Clock;

/// Year, month, day and offset change at the turn of a minute at most.
const MINUTE_US: i64 = 60_000_000;

/// A [`Clock`] an input.
#[derive(Debug)]
pub(super) struct Clocks {
    now_us: i64,
    minute: i64,
    zones: Vec<TimeZone>,
    clocks: Vec<Clock>,
    utc: Clock,
}

impl Clocks {
    /// Clocks for the inputs' zones, in the inputs' order.
    pub(super) fn new(zones: Vec<TimeZone>) -> Self {
        let utc = clock_at(0, &TimeZone::UTC);
        let mut clocks = Self { now_us: 0, minute: i64::MIN, clocks: Vec::new(), zones, utc };
        clocks.set(SystemTime::now());
        clocks
    }

    /// The inputs have these zones from now on.
    pub(super) fn change(&mut self, zones: Vec<TimeZone>) {
        self.zones = zones;
        self.minute = i64::MIN;
        self.set(SystemTime::now());
    }

    /// Sets the present.
    pub(super) fn set(&mut self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.now_us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let minute = self.now_us.div_euclid(MINUTE_US);
        if minute == self.minute {
            return;
        }
        self.minute = minute;
        self.clocks = self.zones.iter().map(|zone| clock_at(self.now_us, zone)).collect();
    }

    /// The present, microseconds since the Unix epoch.
    pub(super) fn now_us(&self) -> i64 {
        self.now_us
    }

    /// The clock of an input. Its `now_us` is that of the last new minute.
    pub(super) fn of(&self, input: usize) -> &Clock {
        self.clocks.get(input).unwrap_or(&self.utc)
    }
}

/// The present at `now_us` (microseconds since the Unix epoch), as senders in `zone` that write no zone have it.
pub fn clock_at(now_us: i64, zone: &TimeZone) -> Clock {
    let zoned = Timestamp::from_microsecond(now_us).unwrap_or_default().to_zoned(zone.clone());
    Clock {
        now_us,
        year: u16::try_from(zoned.year()).unwrap_or_default(),
        month: zoned.month().unsigned_abs(),
        day: zoned.day().unsigned_abs(),
        offset_minutes: i16::try_from(zoned.offset().seconds() / 60).unwrap_or_default(),
    }
}
