//! Which programs no route takes, and how often: bounded, however many names a hostile sender makes up.

use std::collections::HashMap;
use std::sync::Mutex;

use foldhash::fast::RandomState;

/// Names that are kept; the 100 most frequent are shown.
const NAMES_MAX: usize = 1_000;

/// Counts by program name, of all shards together.
#[derive(Debug, Default)]
pub struct UnmatchedPrograms(Mutex<HashMap<Box<[u8]>, u64, RandomState>>);

impl UnmatchedPrograms {
    /// Adds one turn's counts. Once `NAMES_MAX` names are known the rarest makes room for a new one, which inherits
    /// its count (the space-saving rule: a count may be too high, a frequent name is never missed).
    pub fn add(&self, seen: &[(Box<[u8]>, u64)]) {
        let Ok(mut counts) = self.0.lock() else { return };
        for (name, count) in seen {
            if let Some(known) = counts.get_mut(name) {
                *known += count;
                continue;
            }
            let mut inherited = 0;
            if counts.len() >= NAMES_MAX {
                let rarest = counts.iter().min_by_key(|(_, count)| **count).map(|(name, count)| (name.clone(), *count));
                if let Some((rarest, count)) = rarest {
                    counts.remove(&rarest);
                    inherited = count;
                }
            }
            counts.insert(name.clone(), inherited + count);
        }
    }

    /// The `most` most frequent, most frequent first.
    pub fn top(&self, most: usize) -> Vec<(String, u64)> {
        let Ok(counts) = self.0.lock() else { return Vec::new() };
        let all: Vec<_> = counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
        // Shards wait for this lock: what takes long comes after it.
        drop(counts);
        let mut all: Vec<_> = all.into_iter().map(|(name, count)| (readable(&name), count)).collect();
        all.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        all.truncate(most);
        all
    }
}

/// A name as an operator may see it: control characters would reach a terminal raw.
fn readable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}
