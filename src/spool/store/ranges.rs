//! Sets of seqs as ranges: what is retired of a lane is one range, and few more while releases come out of order.

use std::collections::BTreeMap;

/// First and last of each range; ranges neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Whether `seq` is in it.
    pub(super) fn contains(&self, seq: u64) -> bool {
        self.end_of(seq).is_some()
    }

    /// The last of the range that holds `seq`.
    pub(super) fn end_of(&self, seq: u64) -> Option<u64> {
        self.0.range(..=seq).next_back().map(|(_, last)| *last).filter(|last| *last >= seq)
    }

    /// The highest of all below `seq`, where that is not in it.
    pub(super) fn last_below(&self, seq: u64) -> Option<u64> {
        self.0.range(..seq).next_back().map(|(_, last)| *last)
    }

    /// The lowest of all above `seq`, where that is not in it.
    pub(super) fn first_above(&self, seq: u64) -> Option<u64> {
        self.0.range(seq..).next().map(|(first, _)| *first)
    }

    /// Adds all from `first` to `last`.
    pub(super) fn insert(&mut self, mut first: u64, mut last: u64) {
        // Those that begin up to one behind the new range and end no earlier than one before it melt into it.
        while let Some((low, high)) = self.0.range(..=last.saturating_add(1)).next_back().map(|(a, b)| (*a, *b)) {
            if high < first.saturating_sub(1) {
                break;
            }
            first = first.min(low);
            last = last.max(high);
            self.0.remove(&low);
        }
        self.0.insert(first, last);
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, seq: u64) {
        let Some((first, last)) = self.0.range(..=seq).next_back().map(|(a, b)| (*a, *b)) else { return };
        if last < seq {
            return;
        }
        self.0.remove(&first);
        if first < seq {
            self.0.insert(first, seq - 1);
        }
        if seq < last {
            self.0.insert(seq + 1, last);
        }
    }

    /// All ranges, rising.
    pub(super) fn to_vec(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|(first, last)| (*first, *last)).collect()
    }
}

impl From<Vec<(u64, u64)>> for Ranges {
    fn from(ranges: Vec<(u64, u64)>) -> Self {
        let mut all = Self::default();
        for (first, last) in ranges {
            all.insert(first, last);
        }
        all
    }
}

#[cfg(test)]
mod tests;
