//! How long a route leaves an intake alone that answered 429 or 5xx, or what nobody expects.

use std::time::{Duration, SystemTime};

use jiff::fmt::rfc2822::DateTimeParser;

/// The first wait, and the longest; up to a quarter more.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(240);

/// How long `Retry-After` may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// The shortest wait: "now" is what a server says that has lost its clock.
const SHORTEST: Duration = Duration::from_secs(1);

/// Grows from refusal to refusal.
#[derive(Debug, Default)]
pub(super) struct Patience {
    refusals: u32,
}

impl Patience {
    /// A request was taken.
    pub(super) fn reset(&mut self) {
        self.refusals = 0;
    }

    /// A request was refused: how long to wait now. `retry_after` is what the answer asks for, `chance` is in 0..1.
    pub(super) fn refused(&mut self, retry_after: Option<Duration>, chance: f64) -> Duration {
        let doublings = self.refusals.min(8);
        self.refusals = self.refusals.saturating_add(1);
        match retry_after {
            Some(asked) => {
                let wait = asked.clamp(SHORTEST, RETRY_AFTER_MAX);
                (wait + wait.mul_f64(chance / 10.0)).min(RETRY_AFTER_MAX)
            }
            None => (FIRST * 2_u32.pow(doublings)).min(LONGEST).mul_f64(1.0 + chance / 4.0),
        }
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date. `None` where it is neither.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(date(value)?.duration_since(now).unwrap_or_default())
}

/// A date of HTTP (RFC 9110 section 5.6.7).
pub(super) fn date(value: &str) -> Option<SystemTime> {
    Some(SystemTime::from(DateTimeParser::new().parse_timestamp(value.trim()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_half_a_minute_to_five() {
        let mut patience = Patience::default();
        let waits: Vec<u64> = (0..6).map(|_| patience.refused(None, 0.0).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 240, 240]);
        assert_eq!(patience.refused(None, 0.999).as_secs(), 299);
        patience.reset();
        assert_eq!(patience.refused(None, 0.0), FIRST);
    }

    #[test]
    fn what_the_answer_asks_for_is_honoured_up_to_an_hour() {
        let mut patience = Patience::default();
        for (asked, waited) in [(0, 1), (7, 7), (1_800, 1_800), (86_400, 3_600)] {
            assert_eq!(patience.refused(Some(Duration::from_secs(asked)), 0.0).as_secs(), waited);
        }
        assert_eq!(patience.refused(Some(Duration::from_secs(3_600)), 0.9).as_secs(), 3_600);
        assert_eq!(patience.refused(Some(Duration::from_secs(100)), 0.5).as_secs(), 105);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        for text in ["", "soon", "-1", "1.5", "18446744073709551616"] {
            assert_eq!(retry_after(text, now), None, "{text}");
        }
    }
}
