//! So many a second, a second's worth of them at once.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

const SECOND_US: i64 = 1_000_000;

/// Shared by shards, of which each asks once a turn. Two that ask at the same moment may both be given the same: it is a
/// bound on work, and no ledger.
#[derive(Debug)]
pub(super) struct Allowance {
    /// What one costs, microseconds.
    cost_us: i64,
    /// Until when all that there is has been spent, microseconds since the Unix epoch.
    spent_until_us: AtomicI64,
}

impl Allowance {
    /// `per_second` is between one and a million.
    pub(super) fn new(per_second: u32) -> Self {
        Self { cost_us: (SECOND_US / i64::from(per_second.max(1))).max(1), spent_until_us: AtomicI64::new(0) }
    }

    /// From when on there is something. Where the clock went back, what was spent beyond a second from now is forgotten.
    fn begin_us(&self, now_us: i64) -> i64 {
        self.spent_until_us.load(Relaxed).clamp(now_us - SECOND_US, now_us + SECOND_US)
    }

    /// How many there are.
    pub(super) fn left(&self, now_us: i64) -> usize {
        usize::try_from((now_us - self.begin_us(now_us)) / self.cost_us).unwrap_or(0)
    }

    /// So many were used.
    pub(super) fn spend(&self, now_us: i64, used: usize) {
        if used > 0 {
            let used_us = i64::try_from(used).unwrap_or(i64::MAX).saturating_mul(self.cost_us);
            self.spent_until_us.store(self.begin_us(now_us).saturating_add(used_us), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_within_a_second_and_no_more_than_that() {
        let now_us = 1_795_348_800_000_000;
        let allowance = Allowance::new(1_000);
        assert_eq!(allowance.left(now_us), 1_000, "a second's worth at first");
        allowance.spend(now_us, 1_000);
        assert_eq!(allowance.left(now_us), 0);
        assert_eq!(allowance.left(now_us + 10_000), 10);
        allowance.spend(now_us + 10_000, 4);
        assert_eq!(allowance.left(now_us + 10_000), 6);
        assert_eq!(allowance.left(now_us + 60_000_000), 1_000, "nothing is saved up beyond a second");
        assert_eq!(allowance.left(now_us - 3_600_000_000), 0, "the clock went back");
        allowance.spend(now_us - 3_600_000_000, 1);
        assert_eq!(allowance.left(now_us - 3_600_000_000 + 3_000_000), 1_000, "and that is over soon");
    }
}
