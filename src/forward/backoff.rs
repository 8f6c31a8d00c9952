//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Grows from attempt to attempt, with jitter, so that a thousand relays do not come back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

/// The longest: a destination that returns gets its messages within 5 s. With jitter this is at most 3 s, which leaves
/// as much again for name, connection and handshake as they usually take.
const LONGEST: Duration = Duration::from_secs(2);

impl Backoff {
    /// The first wait: a restarting collector is often back within this.
    pub(super) const FIRST: Duration = Duration::from_millis(100);

    /// A connection that lasted so long has worked.
    pub(super) const PROVEN_AFTER: Duration = Duration::from_secs(2);

    /// An attempt failed.
    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// How long an attempt may take that nothing depends on: none where the last one failed.
    pub(super) fn last_attempt(&self) -> Duration {
        if self.failures == 0 { Duration::from_millis(500) } else { Duration::ZERO }
    }

    /// How long to wait now; `None` when the last attempt did not fail.
    pub(super) fn delay(&self) -> Option<Duration> {
        let doublings = self.failures.checked_sub(1)?.min(10);
        let whole = (Self::FIRST * 2_u32.pow(doublings)).min(LONGEST);
        Some(whole.mul_f64(fastrand::f64() + 0.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_under_three_seconds() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.delay(), None);
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            backoff.failed();
            let delay = backoff.delay().unwrap();
            assert!(delay >= Backoff::FIRST / 2 && delay < Duration::from_secs(3), "{delay:?}");
            longest = longest.max(delay);
        }
        assert!(longest > Duration::from_secs(1), "{longest:?}");
    }
}
