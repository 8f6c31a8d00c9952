//! Times on the command line.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::units;

/// A stamp, or a duration before now (`ago` behind it is allowed), in microseconds since the Unix epoch.
pub(super) fn time_us(text: &str) -> Result<i64, String> {
    time_us_at(text, Timestamp::now())
}

fn time_us_at(text: &str, now: Timestamp) -> Result<i64, String> {
    if let Ok(stamp) = text.trim().parse::<Timestamp>() {
        return Ok(stamp.as_microsecond());
    }
    let duration = text.trim().strip_suffix("ago").unwrap_or(text);
    let ago: Duration = units::duration(duration).map_err(|_| {
        format!("found \"{text}\", expected an RFC 3339 stamp such as 2026-11-23T08:00:00Z, or a duration such as 2h")
    })?;
    let ago_us = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
    Ok(now.as_microsecond().saturating_sub(ago_us))
}

/// An instant as RFC 3339, in UTC, to the microsecond.
pub(super) fn stamp(at_us: i64) -> String {
    let stamp = Timestamp::from_microsecond(at_us).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{stamp:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_stamp_or_so_long_ago() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a stamp");
        let rows = [
            ("2026-11-23T08:00:00Z", Some("2026-11-23T08:00:00Z")),
            ("2026-11-23T08:00:00.5+01:00", Some("2026-11-23T07:00:00.5Z")),
            ("2h", Some("2026-11-23T10:00:00Z")),
            ("1h30m ago", Some("2026-11-23T10:30:00Z")),
            (" 1d ", Some("2026-11-22T12:00:00Z")),
            ("90s ago", Some("2026-11-23T11:58:30Z")),
            ("yesterday", None),
            ("2026-11-23", None),
            ("12", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let expected = expected.map(|stamp| stamp.parse::<Timestamp>().expect("a stamp").as_microsecond());
            assert_eq!(time_us_at(text, now).ok(), expected, "{text}");
        }
        assert_eq!(time_us_at("213503982334d", now).map(|at_us| at_us < 0), Ok(true), "it saturates");
    }

    #[test]
    fn stamps_have_microseconds() {
        assert_eq!(stamp(1_795_392_000_000_001), "2026-11-23T00:00:00.000001Z");
        assert_eq!(time_us("2026-11-23T00:00:00.000001Z"), Ok(1_795_392_000_000_001));
    }
}
