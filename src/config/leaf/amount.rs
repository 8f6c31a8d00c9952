//! Sizes, durations and counts within their bounds.

use std::time::Duration;

use super::{Leaf, Off, Or, Wrong};
use crate::config::{limits, units};

/// Octets, between `MIN` and `MAX`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size<const MIN: u64, const MAX: u64>(pub(crate) usize);

impl<const MIN: u64, const MAX: u64> Leaf for Size<MIN, MAX> {
    fn expected() -> String {
        format!("expected a size from {} to {}", units::show_size(MIN), units::show_size(MAX))
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let octets = units::size(text)?;
        within(text, octets, MIN, MAX, units::show_size)?;
        Ok(Self(usize::try_from(octets).unwrap_or(usize::MAX)))
    }
}

/// A duration, between `MIN` and `MAX` milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<const MIN: u64, const MAX: u64>(pub(crate) Duration);

impl<const MIN: u64, const MAX: u64> Leaf for Span<MIN, MAX> {
    fn expected() -> String {
        let show = |ms| units::show_duration(Duration::from_millis(ms));
        format!("expected a duration from {} to {}", show(MIN), show(MAX))
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let duration = units::duration(text)?;
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        within(text, ms, MIN, MAX, |ms| units::show_duration(Duration::from_millis(ms)))?;
        Ok(Self(duration))
    }
}

/// A whole number, between `MIN` and `MAX`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count<const MIN: u64, const MAX: u64>(pub(crate) usize);

impl<const MIN: u64, const MAX: u64> Leaf for Count<MIN, MAX> {
    fn expected() -> String {
        format!("expected a whole number from {MIN} to {MAX}")
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let number: u64 = text.parse().map_err(|_| format!("found \"{text}\", {}", Self::expected()))?;
        within(text, number, MIN, MAX, |number| number.to_string())?;
        Ok(Self(usize::try_from(number).unwrap_or(usize::MAX)))
    }
}

fn within(text: &str, number: u64, min: u64, max: u64, show: impl Fn(u64) -> String) -> Result<(), Wrong> {
    if number < min {
        return Err(format!("{text} is below the {} minimum", show(min)).into());
    }
    if number > max {
        return Err(format!("{text} is above the {} maximum", show(max)).into());
    }
    Ok(())
}

/// Bounds on waiting.
pub(crate) type Timeout = Span<{ limits::TIMEOUT_MIN_MS }, { limits::TIMEOUT_MAX_MS }>;
/// Times of silence, or `off`.
pub(crate) type Idle = Or<Off, Span<{ limits::IDLE_MIN_MS }, { limits::IDLE_MAX_MS }>>;
