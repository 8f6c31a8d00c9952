//! Sizes (`64MiB`, `10MB`, `512`) and durations (`200ms`, `10s`, `1h30m`). Whole numbers, exact units: KB is 1,000
//! octets, KiB is 1,024.

use std::time::Duration;

use super::limits;

/// Octets of each unit; the larger ones first, because what is shown uses the largest that fits.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Milliseconds of each unit, the larger ones first.
const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Octets of a size. The error says what was expected.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let expected = "expected a size such as 64MiB, 250KiB, 10MB or plain octets";
    let number: u64 = number.parse().map_err(|_| format!("found \"{text}\", {expected}"))?;
    let octets = match unit {
        "" => 1,
        unit => match SIZES.iter().find(|(name, _)| *name == unit) {
            Some((_, octets)) => *octets,
            None => return Err(format!("found \"{text}\", {expected}{}", nearest_size(unit))),
        },
    };
    number.checked_mul(octets).ok_or_else(|| format!("found \"{text}\", which is more octets than 64 bits count"))
}

/// A duration. The error says what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as 200ms, 10s, 5m or 1h";
    let wrong = || format!("found \"{text}\", {expected}");
    let mut total_ms = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split(rest);
        let end = after.find(|each: char| each.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        if unit.is_empty() {
            return Err(format!("found \"{text}\" without a unit, {expected}"));
        }
        let (_, unit_ms) = DURATIONS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
        total_ms = number.checked_mul(*unit_ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// A size as a reader would write it: the largest unit that divides it, KiB before KB.
pub fn show_size(octets: u64) -> String {
    let binary = SIZES.iter().filter(|(name, _)| name.ends_with("iB"));
    let fitting = binary.chain(SIZES.iter().filter(|(name, _)| !name.ends_with("iB")));
    for (name, unit) in fitting {
        if octets > 0 && octets.is_multiple_of(*unit) && *name != "B" {
            return format!("{}{name}", octets / unit);
        }
    }
    octets.to_string()
}

/// About so many octets, for people: one decimal.
pub fn about_size(octets: u64) -> String {
    let (unit, name) = match octets {
        limits::GIB.. => (limits::GIB, "GiB"),
        limits::MIB.. => (limits::MIB, "MiB"),
        limits::KIB.. => (limits::KIB, "KiB"),
        _ => return format!("{octets} B"),
    };
    format!("{:.1} {name}", octets as f64 / unit as f64)
}

/// A duration as a reader would write it: the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    for (name, unit) in DURATIONS {
        if ms > 0 && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

/// Digits, and what follows them (one space between is allowed).
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|each: char| !each.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    (number, unit.trim_start())
}

fn nearest_size(unit: &str) -> String {
    let by_case = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(name, _)| (*name).to_owned());
    let short = unit.to_ascii_uppercase();
    let by_letter = matches!(short.as_str(), "K" | "M" | "G" | "T").then(|| format!("{short}iB"));
    by_case.or(by_letter).map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_and_tell_kb_from_kib() {
        let rows = [
            ("0", Some(0)),
            ("512", Some(512)),
            ("1KB", Some(1_000)),
            ("1KiB", Some(1_024)),
            ("250 KiB", Some(256_000)),
            ("64MiB", Some(67_108_864)),
            ("10MB", Some(10_000_000)),
            ("7B", Some(7)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1.5MiB", None),
            ("64mib", None),
            ("99999999999TiB", None),
            ("18446744073709551616", None),
        ];
        for (text, octets) in rows {
            assert_eq!(size(text).ok(), octets, "{text}");
        }
        assert!(size("64mib").expect_err("case").contains("did you mean MiB?"));
        assert!(size("250k").expect_err("letter").contains("did you mean KiB?"));
    }

    #[test]
    fn durations_need_a_unit_and_may_be_sums() {
        let rows = [
            ("200ms", Some(200)),
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("10", None),
            ("", None),
            ("s", None),
            ("10 years", None),
            ("-5s", None),
            ("18446744073709551615h", None),
        ];
        for (text, ms) in rows {
            assert_eq!(duration(text).ok(), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        for octets in [0, 1, 480, 1_000, 1_024, 256_000, 4 << 20, 10_000_000, (1 << 30) + 1] {
            assert_eq!(size(&show_size(octets)), Ok(octets));
        }
        for ms in [1, 200, 1_000, 10_000, 90_000, 3_600_000] {
            let duration_shown = Duration::from_millis(ms);
            assert_eq!(duration(&show_duration(duration_shown)), Ok(duration_shown));
        }
        assert_eq!(show_size(256_000), "250KiB");
    }
}
