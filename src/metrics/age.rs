//! Since when messages wait, by route and shard: each shard says for its own, a scrape takes the oldest.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::time::since_epoch;

/// Nothing waits.
const NOTHING: i64 = i64::MAX;

/// Arrivals of the oldest messages of one route that wait in memory.
#[derive(Debug)]
pub struct Ages(Vec<AtomicI64>);

impl Ages {
    /// Nothing waits on any of so many shards.
    pub(super) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| AtomicI64::new(NOTHING)).collect())
    }

    /// The shard's oldest arrived then, microseconds since the Unix epoch; `None`: nothing waits.
    pub fn set(&self, shard: usize, arrived_us: Option<i64>) {
        if let Some(age) = self.0.get(shard) {
            age.store(arrived_us.unwrap_or(NOTHING), Relaxed);
        }
    }

    /// Whole seconds that the oldest of all shards waits; 0 where nothing does.
    pub(super) fn seconds(&self) -> u64 {
        let oldest = self.0.iter().map(|age| age.load(Relaxed)).min().filter(|oldest| *oldest != NOTHING);
        let since_us = |oldest: i64| (since_epoch().as_micros() as i64).saturating_sub(oldest).max(0) as u64;
        oldest.map_or(0, |oldest| since_us(oldest) / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_all_shards_counts_until_its_shard_says_otherwise() {
        let ago_us = |seconds: i64| Some(since_epoch().as_micros() as i64 - seconds * 1_000_000);
        let ages = Ages::new(2);
        assert_eq!(ages.seconds(), 0);
        ages.set(0, ago_us(3_600));
        ages.set(1, ago_us(7_200));
        assert!((7_200..7_260).contains(&ages.seconds()));
        ages.set(1, None);
        assert!((3_600..3_660).contains(&ages.seconds()));
        // A clock that went back, and a shard that is none of ours.
        ages.set(0, ago_us(-60));
        ages.set(2, ago_us(60));
        assert_eq!(ages.seconds(), 0);
    }
}
