//! Cases that are compared in the same run, turn about: what the machine does besides rises and falls for all of them.

use crate::relays::Relay;

/// All rounds of one relay; in each what came of every case, in the cases' order.
pub struct Rounds<T> {
    pub relay: String,
    rounds: Vec<Vec<T>>,
}

impl<T> Rounds<T> {
    /// Runs all of so many cases in turn, `runs` times. Each is first in its turn. `run` is told which case, and of which round.
    pub fn run(
        relay: &Relay,
        cases: usize,
        runs: usize,
        mut run: impl FnMut(usize, usize) -> anyhow::Result<T>,
    ) -> anyhow::Result<Self> {
        let mut rounds = Vec::new();
        for count in 1..=runs.max(1) {
            let mut round = Vec::new();
            for index in 0..cases {
                let case = (index + count) % cases;
                round.push((case, run(case, count)?));
            }
            round.sort_by_key(|(case, _)| *case);
            rounds.push(round.into_iter().map(|(_, outcome)| outcome).collect());
        }
        Ok(Self { relay: relay.name.clone(), rounds })
    }

    /// What came of a case, by round.
    pub fn of(&self, case: usize) -> impl Iterator<Item = &T> + Clone {
        self.rounds.iter().filter_map(move |round| round.get(case))
    }

    /// A figure of a case: the median of the rounds.
    pub fn median(&self, case: usize, figure: fn(&T) -> f64) -> f64 {
        median(self.of(case).map(figure))
    }

    /// A figure of a case beside another one's in the same round, by round.
    pub fn ratios(&self, case: usize, beside: usize, figure: fn(&T) -> f64) -> impl Iterator<Item = f64> + Clone {
        self.of(case).zip(self.of(beside)).map(move |(one, other)| figure(one) / figure(other))
    }
}

/// The middle one; NaN of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
